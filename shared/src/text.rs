//! Strings that mean something.

use std::fmt::{self, Display};
use std::marker::PhantomData;

use serde::de::{Deserializer, Error, Visitor};

/// Returns the text, cut at its end to at most this many bytes.
pub fn shorten(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max.saturating_sub(ELLIPSIS.len()));
    format!("{}{ELLIPSIS}", text.get(..end).unwrap_or_default())
}

const ELLIPSIS: &str = "...";

/// Deserializes a string through `parse`, without a copy if it has no escapes. `expected` describes
/// the valid values in the error.
pub(crate) fn deserialize_via<'de, D: Deserializer<'de>, T, E: Display>(
    deserializer: D,
    expected: fmt::Arguments<'_>,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, D::Error> {
    deserializer.deserialize_str(Text {
        expected,
        parse,
        wrong: PhantomData,
    })
}

struct Text<'a, F, E> {
    expected: fmt::Arguments<'a>,
    parse: F,
    wrong: PhantomData<E>,
}

impl<T, E: Display, F: FnOnce(&str) -> Result<T, E>> Visitor<'_> for Text<'_, F, E> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_fmt(self.expected)
    }

    fn visit_str<R: Error>(self, text: &str) -> Result<T, R> {
        (self.parse)(text).map_err(R::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_shortened_between_characters() {
        assert_eq!(shorten("spam", 4), "spam");
        assert_eq!(shorten("spam and eggs", 9), "spam a...");
        assert_eq!(shorten("会議室会議室", 10), "会議...");
    }
}
