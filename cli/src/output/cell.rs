//! A value of a table.

use std::borrow::Cow;

use soramode_protocol::mode::Mode;

use super::color::Emphasis;

/// A value, and a shorter form if it has one.
#[derive(Clone, Debug)]
pub(crate) struct Cell<'a> {
    pub(crate) text: Cow<'a, str>,
    pub(crate) short: Option<String>,
    /// The colour, in addition to the text.
    pub(crate) emphasis: Option<Emphasis>,
}

impl Cell<'_> {
    /// Colours the cell.
    #[must_use]
    pub(crate) fn colored(self, emphasis: Option<Emphasis>) -> Self {
        Self { emphasis, ..self }
    }
}

impl<'a> From<&'a str> for Cell<'a> {
    fn from(text: &'a str) -> Self {
        Self {
            text: text.into(),
            short: None,
            emphasis: None,
        }
    }
}

impl From<String> for Cell<'_> {
    fn from(text: String) -> Self {
        Self {
            text: text.into(),
            short: None,
            emphasis: None,
        }
    }
}

impl From<u64> for Cell<'_> {
    fn from(number: u64) -> Self {
        number.to_string().into()
    }
}

impl From<Mode> for Cell<'_> {
    fn from(mode: Mode) -> Self {
        Self::from(mode.name()).colored(Some(Emphasis::of(mode)))
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell<'_> {
    fn from(value: Option<T>) -> Self {
        value.map_or_else(|| Cell::from(""), Into::into)
    }
}
