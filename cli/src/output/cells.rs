//! Text in the cells of a terminal: a Japanese character or an emoji takes two, a combining mark
//! none.

use std::borrow::Cow;

use super::command_lines::{self, SENTENCE_END, command_at};
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// Marks the place where text was cut.
const ELLIPSIS: &str = "…";

/// Splits the text into grapheme clusters, and clusters wider than any glyph (a hundred Hangul jamo
/// are one) into characters.
fn units(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    const GLYPH_CELLS_MAX: usize = 2;
    text.graphemes(true).flat_map(|cluster| {
        let is_divided = cluster.width() > GLYPH_CELLS_MAX;
        cluster.split_inclusive(move |_: char| is_divided)
    })
}

/// Returns the cells of a text: the sum over its units, so that parts of a text add up to the
/// whole.
pub(crate) fn width(text: &str) -> usize {
    // Printable ASCII, which most ids are, takes a cell a byte.
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        text.len()
    } else {
        units(text).map(UnicodeWidthStr::width).sum()
    }
}

/// Returns how many bytes of the units, in this order, fit in this many cells.
fn fitting(units: impl Iterator<Item = impl AsRef<str>>, cells: usize) -> usize {
    let mut taken = 0;
    let measured = units.map(|unit| (unit.as_ref().len(), unit.as_ref().width()));
    let fits = |(_, width): &(usize, usize)| {
        taken += width;
        taken <= cells
    };
    measured.take_while(fits).map(|(bytes, _)| bytes).sum()
}

/// Splits the text after the longest beginning that fits in this many cells.
fn split(text: &str, cells: usize) -> (&str, &str) {
    text.split_at(fitting(units(text), cells))
}

/// Returns the longest end that fits in this many cells.
fn end(text: &str, cells: usize) -> &str {
    text.split_at(text.len() - fitting(units(text).rev(), cells))
        .1
}

/// Cuts the text to this many cells, with a mark at the cut end.
pub(crate) fn cut(text: &str, cells: usize) -> Cow<'_, str> {
    match cells {
        _ if width(text) <= cells => Cow::Borrowed(text),
        0 => Cow::Borrowed(""),
        _ => Cow::Owned(format!("{}{ELLIPSIS}", split(text, cells - 1).0)),
    }
}

/// Cuts the middle out of a text that is longer: both ends of an id distinguish it.
pub(crate) fn cut_middle(text: &str, cells: usize) -> Cow<'_, str> {
    match cells {
        _ if width(text) <= cells => Cow::Borrowed(text),
        0 => Cow::Borrowed(""),
        _ => {
            let rest = cells - 1;
            let begin = split(text, rest.div_ceil(2)).0;
            Cow::Owned(format!(
                "{begin}{ELLIPSIS}{}",
                end(text, rest - width(begin))
            ))
        }
    }
}

/// Divides the text into lines of this many cells.
pub(crate) fn divided(text: &str, cells: usize) -> Vec<Cow<'_, str>> {
    let mut lines = Vec::new();
    let mut rest = text;
    loop {
        let (begin, after) = split(rest, cells.max(2));
        if begin.is_empty() || after.is_empty() {
            lines.push(Cow::Borrowed(rest));
            return lines;
        }
        lines.push(Cow::Borrowed(begin));
        rest = after;
    }
}

/// Pads the text on the right to this many cells.
pub(crate) fn padded(text: &str, cells: usize) -> String {
    format!("{text}{:1$}", "", cells.saturating_sub(width(text)))
}

/// Pads the text on the left to this many cells.
pub(crate) fn padded_left(text: &str, cells: usize) -> String {
    format!("{:1$}{text}", "", cells.saturating_sub(width(text)))
}

/// Adds as many of the parts as fit to a line.
pub(super) fn joined(mut line: String, parts: &[String], cells: usize) -> String {
    for (number, part) in parts.iter().enumerate() {
        let joint = if number == 0 { "" } else { "; " };
        if width(&line) + joint.len() + width(part) > cells && number > 0 {
            continue;
        }
        line.push_str(joint);
        line.push_str(part);
    }
    cut(&line, cells).into_owned()
}

/// Wraps the text to this many cells: at spaces, and within a word only if it is longer than a line.
pub(crate) fn wrap(text: &str, cells: usize) -> Vec<String> {
    let cells = cells.max(2);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in words(text) {
        if !line.is_empty() && width(&line) + 1 + width(word) <= cells {
            line.push(' ');
        } else if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        let mut rest = word;
        while width(rest) + width(&line) > cells {
            let (begin, after) = split(rest, cells);
            lines.push(begin.to_owned());
            rest = after;
        }
        line.push_str(rest);
    }
    lines.push(line);
    lines
}

/// Units of time, which stay on the line of their number.
const UNITS: [&str; 5] = ["ms", "s", "min", "h", "d"];

/// Returns the words of a text. A number and its unit of time are one.
fn words(text: &str) -> Vec<&str> {
    let is_punctuation = |char: char| char.is_ascii_punctuation();
    let is_number = |word: &str| {
        let word = word.trim_start_matches(is_punctuation);
        !word.is_empty()
            && word
                .chars()
                .all(|char| char.is_ascii_digit() || char == '.')
    };
    let mut words: Vec<&str> = Vec::new();
    let mut begin = 0;
    for word in text.split(' ') {
        let end = begin + word.len();
        let is_unit = UNITS.contains(&word.trim_end_matches(is_punctuation));
        match words.last_mut() {
            Some(number) if is_unit && is_number(number) => {
                *number = text.get(begin - 1 - number.len()..end).unwrap_or(word);
            }
            Some(_) | None => words.push(word),
        }
        begin = end + 1;
    }
    words
}

/// Indent of the lines of [`fit`] after the first, so that text from outside never begins a line.
const INDENT: usize = 2;

/// Wraps a message. Each command ends its line and is not broken, so that it can be copied. A
/// message that is indented stays so.
pub(crate) fn fit(message: &str, cells: usize) -> Vec<String> {
    let text = message.trim_start_matches(' ');
    let margin = message.len() - text.len();
    let is_short = width(message) <= cells;
    let taken = if is_short { margin } else { margin + INDENT };
    let lines = fit_flush(text, cells.saturating_sub(taken));
    let indent = |(number, line): (usize, String)| {
        let blanks = if number == 0 { margin } else { margin + INDENT };
        format!("{:blanks$}{line}", "")
    };
    lines.into_iter().enumerate().map(indent).collect()
}

/// Wraps a message without an indent, for columns.
pub(crate) fn fit_flush(message: &str, cells: usize) -> Vec<String> {
    command_lines::lines(message)
        .into_iter()
        .flat_map(|line| fit_line(line, cells))
        .collect()
}

/// Wraps a line of a message. A command that is too long for the line of its label begins the next one.
fn fit_line(line: &str, cells: usize) -> Vec<String> {
    if width(line) <= cells {
        return vec![line.to_owned()];
    }
    let Some(at) = command_at(line) else {
        return wrap_prose(line, cells);
    };
    let (prose, command) = line.split_at(at);
    let (before, label) = match prose.rfind(SENTENCE_END) {
        Some(end) => prose.split_at(end + SENTENCE_END.len()),
        None => ("", prose),
    };
    let mut lines = wrap_prose(before, cells);
    // A command that fits in no line is not moved to one.
    if width(label) + width(command) > cells && width(command) <= cells {
        lines.extend(wrap_prose(label, cells));
        lines.push(command.to_owned());
    } else {
        lines.push(format!("{label}{command}"));
    }
    lines
}

fn wrap_prose(prose: &str, cells: usize) -> Vec<String> {
    let prose = prose.trim_end();
    if prose.is_empty() {
        Vec::new()
    } else {
        wrap(prose, cells)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_counted_and_not_characters() {
        for (text, cells) in [
            ("spam", 4),
            ("", 0),
            ("会議室-東京", 11),
            ("cafe\u{301}", 4),
            ("か\u{3099}", 2),
            ("🎥配信", 6),
            ("👨\u{200d}👩\u{200d}👧", 2),
            ("🇯🇵", 2),
            ("ｶﾞ", 2),
            ("한국", 4),
            ("\u{644}\u{627}", 2),
            ("ᄀᄀᄀ", 6),
        ] {
            assert_eq!(width(text), cells, "{text}");
        }
    }

    #[test]
    fn cut_text_fits_and_is_marked() {
        assert_eq!(cut("spam", 4), "spam");
        assert_eq!(cut("spammer", 4), "spa…");
        assert_eq!(cut("会議室", 4), "会…");
        assert_eq!(cut("会議室", 5), "会議…");
        assert_eq!(cut("cafe\u{301}s", 4), "caf…");
        assert_eq!(cut_middle("channel-0123456789", 9), "chan…6789");
        assert_eq!(cut_middle("第一会議室・その二", 8), "第一…二");
        assert_eq!(cut_middle("ab", 1), "…");
        assert_eq!((cut("ab", 0), cut_middle("ab", 0)), ("".into(), "".into()));
    }

    #[test]
    fn padding_fills_cells() {
        assert_eq!(padded("会", 4), "会  ");
        assert_eq!(padded_left("会", 4), "  会");
        assert_eq!(padded("spam", 2), "spam");
    }

    #[test]
    fn a_number_and_its_unit_stay_together() {
        assert_eq!(wrap("closes in 4 s; a", 12), ["closes in", "4 s; a"]);
        assert_eq!(
            wrap("(11 s ago) 3 h 5 min", 10),
            ["(11 s ago)", "3 h 5 min"]
        );
        assert_eq!(wrap("4 s", 2), ["4 ", "s"], "where there is no room");
        assert_eq!(wrap("plan h s", 6), ["plan h", "s"]);
    }

    #[test]
    fn a_message_that_is_indented_stays_so() {
        assert_eq!(fit("  one two", 9), ["  one two"]);
        assert_eq!(fit("  one two three", 11), ["  one two", "    three"]);
        assert_eq!(fit("one two three", 9), ["one two", "  three"]);
    }

    #[test]
    fn lines_break_at_spaces_and_else_where_they_must() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("会議室東京", 4), ["会議", "室東", "京"]);
        assert_eq!(wrap("a longerword b", 6), ["a", "longer", "word b"]);
        assert_eq!(wrap("", 6), [""]);
        assert_eq!(wrap("会議", 1), ["会", "議"]);
        assert_eq!(wrap(&"ᄀ".repeat(3), 4), ["ᄀᄀ", "ᄀ"]);
    }

    #[test]
    fn a_message_fits_and_its_command_stays_whole() {
        let undo = "Undo: soramode --socket /run/soramode/soramode.sock set normal";
        let message = format!(
            "node-01: normal -> block_new_session (3 sessions, 11 connections stay). {undo}"
        );
        for cells in 40..140 {
            let lines = fit(&message, cells);
            let command = undo.trim_start_matches("Undo: ");
            let is_whole = width(&message) <= cells
                || lines
                    .last()
                    .is_some_and(|line| [undo, command].contains(&line.trim_start()));
            assert!(is_whole, "{cells}: {lines:?}");
            assert!(
                lines
                    .iter()
                    .filter(|line| !line.contains("soramode --"))
                    .all(|line| width(line) <= cells),
                "{cells}: {lines:?}"
            );
            assert!(
                lines.iter().skip(1).all(|line| line.starts_with("  ")),
                "{lines:?}"
            );
            let joined: Vec<&str> = lines.iter().map(|line| line.trim_start()).collect();
            assert_eq!(joined.join(" "), message, "nothing is lost");
        }
    }

    #[test]
    fn a_long_sentence_is_broken_before_its_command() {
        let warning = "The state can be written again, and the node stays closed until you run: soramode set normal";
        assert_eq!(
            fit_flush(warning, 60),
            [
                "The state can be written again, and the node stays closed",
                "until you run:",
                "soramode set normal"
            ]
        );
        assert_eq!(
            fit_flush("Run: soramode set normal", 40),
            ["Run: soramode set normal"]
        );
    }
}
