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

/// Names that [`list_first`] lists.
const NAMES_LISTED: usize = 3;

/// Lists the first names, each in quotes: `"1", "2", "3" and 4 more`; `None` if there are none.
pub fn list_first<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Option<String> {
    let mut names = names.into_iter();
    let first: Vec<String> = names
        .by_ref()
        .take(NAMES_LISTED)
        .map(|name| format!("{:?}", name.as_ref()))
        .collect();
    let more = match names.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!first.is_empty()).then(|| first.join(", ") + &more)
}

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
    fn the_first_names_are_listed_so_that_none_can_be_taken_for_two() {
        assert_eq!(list_first([""; 0]), None);
        assert_eq!(
            list_first(["1", "2, 3", "\"\n"]).as_deref(),
            Some(r#""1", "2, 3", "\"\n""#)
        );
        assert_eq!(
            list_first(["1", "2", "3", "4", "5"]).as_deref(),
            Some(r#""1", "2", "3" and 2 more"#)
        );
    }

    #[test]
    fn a_text_is_shortened_between_characters() {
        assert_eq!(shorten("spam", 4), "spam");
        assert_eq!(shorten("spam and eggs", 9), "spam a...");
        assert_eq!(shorten("会議室会議室", 10), "会議...");
    }
}
