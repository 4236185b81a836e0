//! Texts of announcements: their length, and the placeholder in them. Clients receive a text as it is, but for the placeholder.

use crate::text::shorten;

/// Longest text of an announcement, in bytes of UTF-8.
pub const NOTICE_TEXT_BYTES_MAX: usize = 1_024;

/// Stands for the minutes left in a text.
pub const MINUTES: &str = "{minutes}";

/// Length up to which an error names a wrong placeholder, in bytes.
const NAMED_BYTES_MAX: usize = 60;

const OPENING: [char; 3] = ['{', '｛', '﹛'];
const CLOSING: [char; 3] = ['}', '｝', '﹜'];

/// Checks that a text has something to read, is not too long, and has no placeholder but [`MINUTES`].
pub fn check_notice_text(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("is empty; leave it out".to_owned());
    }
    if text.chars().all(is_invisible) {
        return Err("has no visible character; leave it out".to_owned());
    }
    if text.len() > NOTICE_TEXT_BYTES_MAX {
        let bytes = text.len();
        return Err(format!(
            "got {bytes} bytes, takes at most {NOTICE_TEXT_BYTES_MAX}"
        ));
    }
    match wrong_placeholder(text) {
        Some(found) => Err(format!(
            "got {:?}, takes {MINUTES} and no other word in braces",
            shorten(found, NAMED_BYTES_MAX)
        )),
        None => Ok(()),
    }
}

/// Returns whether a character shows nothing by itself.
fn is_invisible(character: char) -> bool {
    character.is_whitespace()
        || character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'
                | '\u{1160}'
                | '\u{17b4}'
                | '\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{2800}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Returns the first part of a text that is meant as a placeholder and is none.
fn wrong_placeholder(text: &str) -> Option<&str> {
    let openings = text.match_indices(OPENING);
    openings.map(|(start, _)| start).find_map(|start| {
        let (before, rest) = text.split_at(start);
        match rest.strip_prefix(MINUTES) {
            Some(after) => wrongly_wrapped(text, before, after),
            None => wrong_braces(rest),
        }
    })
}

/// Returns the placeholder with the marks of another template language around it: `{{minutes}}`, `${minutes}`.
fn wrongly_wrapped<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let mark = before.chars().next_back()?;
    let is_doubled = OPENING.contains(&mark) && after.starts_with(CLOSING);
    if !is_doubled && !['$', '#', '%'].contains(&mark) {
        return None;
    }
    let end = after.chars().next().filter(|_| is_doubled);
    let end = text.len() - after.len() + end.map_or(0, char::len_utf8);
    text.get(before.len() - mark.len_utf8()..end)
}

/// Returns braces that hold words only, or begin with the word of the placeholder. Others, such as JSON, are text.
fn wrong_braces(rest: &str) -> Option<&str> {
    let mut inside = rest.char_indices().skip(1);
    let brace = inside.find(|(_, it)| OPENING.contains(it) || CLOSING.contains(it));
    let opening = rest.chars().next().map_or(0, char::len_utf8);
    let (content, found) = match brace {
        Some((end, it)) if CLOSING.contains(&it) => {
            (rest.get(opening..end)?, rest.get(..end + it.len_utf8())?)
        }
        Some((end, _)) => (rest.get(opening..end)?, rest.get(..end)?),
        None => (rest.get(opening..)?, rest),
    };
    let is_closed = found.ends_with(CLOSING);
    let has_word = content.chars().any(char::is_alphanumeric);
    let holds_words = is_closed && has_word && !content.contains(is_punctuation);
    (holds_words || begins_with_minute(content)).then_some(found)
}

/// Returns whether a character divides words: none that stands in names.
fn is_punctuation(character: char) -> bool {
    let is_in_names = matches!(character, '_' | '-' | '.');
    let is_ascii = character.is_ascii_punctuation() && !is_in_names;
    is_ascii
        || matches!(half_width(character), Some(half) if half.is_ascii_punctuation())
        || matches!(character, '\u{3001}'..='\u{303f}')
}

fn begins_with_minute(content: &str) -> bool {
    let letters = content.chars().filter(|it| !is_invisible(*it));
    let letters = letters.map(|it| half_width(it).unwrap_or(it).to_ascii_lowercase());
    letters.take("minute".len()).eq("minute".chars())
}

/// Returns the ASCII character of a full-width one.
fn half_width(character: char) -> Option<char> {
    let code = u32::from(character).checked_sub(0xff01 - 0x21)?;
    char::from_u32(code).filter(char::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_shows_nothing_is_refused() {
        assert_eq!(
            check_notice_text(""),
            Err("is empty; leave it out".to_owned())
        );
        for nothing in [
            " ",
            "\t\r\n",
            "\u{3000}",
            "\u{0}\u{1b}\u{7f}\u{85}",
            "\u{200b}\u{feff}\u{2060}",
            "\u{ad}\u{3164}\u{2800}",
            "\u{202e} \u{2066}",
            "\u{fe0f}\u{e0020}",
        ] {
            assert_eq!(
                check_notice_text(nothing),
                Err("has no visible character; leave it out".to_owned()),
                "{nothing:?}"
            );
        }
        for shown in ["0", "。", " a ", "\u{1f6a7}", "か\u{3099}", "\u{1b}[1m"] {
            assert_eq!(check_notice_text(shown), Ok(()), "{shown:?}");
        }
    }

    #[test]
    fn the_length_is_limited() {
        let longest = "a".repeat(NOTICE_TEXT_BYTES_MAX);
        assert_eq!(check_notice_text(&longest), Ok(()));
        assert_eq!(
            check_notice_text(&(longest + "a")),
            Err("got 1025 bytes, takes at most 1024".to_owned())
        );
    }

    #[test]
    fn a_word_in_braces_that_is_no_placeholder_is_refused() {
        for (text, found) in [
            ("In {minute} min", "{minute}"),
            ("In {Minutes} min", "{Minutes}"),
            ("In { minutes } min", "{ minutes }"),
            ("In {minutes } min", "{minutes }"),
            ("あと｛minutes｝分", "｛minutes｝"),
            ("あと{minutes｝分", "{minutes｝"),
            ("あと﹛minutes﹜分", "﹛minutes﹜"),
            ("あと{ｍｉｎｕｔｅｓ}分", "{ｍｉｎｕｔｅｓ}"),
            ("あと{分}", "{分}"),
            ("あと{か\u{3099}}", "{か\u{3099}}"),
            ("{time_left}", "{time_left}"),
            ("{plan.minutes}", "{plan.minutes}"),
            ("{0}", "{0}"),
            ("{minutes left}", "{minutes left}"),
            ("{minutes:02}", "{minutes:02}"),
            ("{minutes, number}", "{minutes, number}"),
            ("{minutes in all", "{minutes in all"),
            ("{{minutes}}", "{{minutes}}"),
            ("{{ minutes }}", "{ minutes }"),
            ("${minutes}", "${minutes}"),
            ("#{minutes}", "#{minutes}"),
            ("{minutes} and {seconds}", "{seconds}"),
            (r#"{"left": {seconds}}"#, "{seconds}"),
        ] {
            assert_eq!(
                check_notice_text(text),
                Err(format!(
                    "got {found:?}, takes {{minutes}} and no other word in braces"
                )),
                "{text}"
            );
        }
        assert_eq!(
            check_notice_text("{\u{200b}minutes\u{200b}}"),
            Err(
                r#"got "{\u{200b}minutes\u{200b}}", takes {minutes} and no other word in braces"#
                    .to_owned()
            )
        );
        let long = check_notice_text(&format!("{{{}}}", "a".repeat(200))).unwrap_err();
        assert!(long.len() < 130, "{long}");
    }

    #[test]
    fn other_braces_are_text() {
        for text in [
            "In {minutes} min, {minutes} min",
            "あと{minutes}分で終了します",
            "{}",
            "{ }",
            "{ a: 1 }",
            r#"{"minutes": 10}"#,
            r#"{"left": {minutes}}"#,
            "{a, b}",
            "{「あと」}",
            "}{",
            "a { b",
            "{...}",
            "(minutes)",
        ] {
            assert_eq!(check_notice_text(text), Ok(()), "{text}");
        }
    }
}
