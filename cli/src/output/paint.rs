//! Colours for words, where stdout is painted.

use super::Output;

/// What a word is to be taken as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// What the rest is about.
    Heading,
    /// What can be left unread.
    Aside,
}

impl Output {
    /// The text in its colour.
    pub(crate) fn painted(&self, paint: Paint, text: &str) -> String {
        if !self.paints {
            return text.to_owned();
        }
        let code = match paint {
            Paint::Good => "32",
            Paint::Bad => "1;31",
            Paint::Heading => "1",
            Paint::Aside => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}
