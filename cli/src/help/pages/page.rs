//! A page, and its examples.

use crate::error::Exit;

/// A command line with its purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Example {
    /// The line, as it is typed.
    pub line: &'static str,
    /// A sentence without a full stop.
    pub what: &'static str,
}

/// The additions to a command's help and manual page.
pub(crate) struct Page {
    pub(super) command: &'static str,
    /// Exit codes with a meaning of their own for this command.
    pub(crate) exits: &'static [(Exit, &'static str)],
    pub(crate) examples: &'static [Example],
}

pub(super) const fn example(line: &'static str, what: &'static str) -> Example {
    Example { line, what }
}
