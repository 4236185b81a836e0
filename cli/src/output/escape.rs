//! Escaping text from outside for a terminal.

use std::borrow::Cow;

use super::cells;

/// Characters that Rust's escapes would change needlessly: quotes, and the ideographic space of
/// Japanese.
const KEPT: [char; 3] = ['\'', '"', '\u{3000}'];

/// Escapes everything that does not print: control characters, line feed and tab, and characters
/// that hide or reorder text (bidi controls, zero-width characters). A backslash is doubled, so
/// that an escape cannot be faked.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if text
        .bytes()
        .all(|byte| (b' '..=b'~').contains(&byte) && byte != b'\\')
    {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for piece in text.split_inclusive(KEPT) {
        let body = piece.strip_suffix(KEPT).unwrap_or(piece);
        escaped.extend(body.escape_debug());
        escaped.extend(piece.chars().next_back().filter(|last| KEPT.contains(last)));
    }
    Cow::Owned(escaped)
}

/// Escapes the text and puts it between double quotes.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", escape(text).replace('"', "\\\""))
}

/// Escapes a whole message, of which parts may be escaped already.
pub(crate) fn neutralised(message: &str) -> String {
    message
        .split('\\')
        .map(escape)
        .collect::<Vec<_>>()
        .join("\\")
}

/// Escapes the characters in JSON that do not print and that JSON allows: DEL, C1, bidi controls,
/// zero-width characters, U+2028. They can only be in strings, so the JSON stays the same.
pub(super) fn json(text: String) -> String {
    if text.bytes().all(|byte| byte.is_ascii() && byte != 0x7f) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_hidden(character) {
            let mut units = [0; 2];
            escaped.extend(
                character
                    .encode_utf16(&mut units)
                    .iter()
                    .map(|unit| format!("\\u{unit:04x}")),
            );
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// Returns whether [`escape`] would change it within a word.
fn is_hidden(character: char) -> bool {
    let is_plain = character.is_ascii() && character != '\u{7f}';
    let mut bytes = [b'a'; 5];
    let length = character.encode_utf8(bytes.split_at_mut(1).1).len();
    let word = std::str::from_utf8(bytes.split_at(1 + length).0).unwrap_or_default();
    !is_plain && escape(word) != word
}

/// Returns an id in quotes, cut to a part of the line.
pub(crate) fn shortened(id: &str) -> String {
    const CELLS_MAX: usize = 32;
    cells::cut_middle(&quoted(id), CELLS_MAX).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_text_stays_and_the_rest_is_escaped() {
        for (text, escaped) in [
            ("spam", "spam"),
            ("it's \"so\"", "it's \"so\""),
            ("チャネル\u{3000}一", "チャネル\u{3000}一"),
            ("か\u{3099}", "か\u{3099}"),
            ("a\tb\nc", "a\\tb\\nc"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("back\\slash", "back\\\\slash"),
            ("\u{202e}evil", "\\u{202e}evil"),
            ("\u{2066}x\u{2069}", "\\u{2066}x\\u{2069}"),
            ("zero\u{200b}width\u{feff}", "zero\\u{200b}width\\u{feff}"),
            ("\u{85}\u{9b}2J", "\\u{85}\\u{9b}2J"),
            ("line\u{2028}break", "line\\u{2028}break"),
        ] {
            assert_eq!(escape(text), escaped, "{text:?}");
        }
    }

    #[test]
    fn json_stays_the_same_json_and_hides_nothing() {
        let text = "a\u{9b}2J\u{7f}\u{202e}\u{2066}\u{200b}\u{2028}\u{e0041}\u{85}\u{feff} 会議室\u{3000}cafe\u{301} か\u{3099} \n\\";
        let shown = json(serde_json::to_string(text).unwrap());
        assert_eq!(
            shown,
            "\"a\\u009b2J\\u007f\\u202e\\u2066\\u200b\\u2028\\udb40\\udc41\\u0085\\ufeff 会議室\u{3000}cafe\u{301} か\u{3099} \\n\\\\\""
        );
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
    }

    #[test]
    fn quotes_within_quotes_are_escaped() {
        assert_eq!(quoted("say \"hi\"\n"), "\"say \\\"hi\\\"\\n\"");
    }

    #[test]
    fn a_message_is_made_safe_once_and_no_more() {
        let message = format!("no session on channel {:?}", "a\u{1b}b");
        assert_eq!(neutralised(&message), message);
        assert_eq!(neutralised("raw \u{1b}[2J"), "raw \\u{1b}[2J");
    }

    #[test]
    fn long_ids_are_cut_by_their_middle() {
        assert_eq!(shortened("spam"), "\"spam\"");
        assert_eq!(cells::width(&shortened(&"会".repeat(40))), 31);
    }
}
