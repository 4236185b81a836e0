//! Columns of a table, and how they shrink.

/// Cells that a column of ids or text may take before another column is left out: an id of Sora's.
const COMFORTABLE: usize = 26;

/// The way to shorten a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Cut as a last resort: words and numbers of soramode's own.
    Word,
    /// Cut out the middle, or wrap where that would make two alike.
    Id,
    /// Wrap to the next line.
    Text,
}

/// A column, and how it shrinks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Order of leaving columns out, the highest first; 0 never.
    pub(super) order: u8,
    /// Cells that ids or text may take before another column is left out.
    pub(super) comfortable: usize,
    /// The column of the verb's answer: for a host that fails it has the failure.
    is_answer: bool,
}

impl Column {
    /// A column of words, numbers and times.
    pub(crate) const fn word(name: &'static str) -> Self {
        Self {
            name,
            kind: Kind::Word,
            order: 0,
            comfortable: COMFORTABLE,
            is_answer: false,
        }
    }

    /// A column of ids, names and URLs.
    pub(crate) const fn id(name: &'static str) -> Self {
        Self {
            name,
            kind: Kind::Id,
            order: 0,
            comfortable: COMFORTABLE,
            is_answer: false,
        }
    }

    /// A column of sentences.
    pub(crate) const fn text(name: &'static str) -> Self {
        Self {
            name,
            kind: Kind::Text,
            order: 0,
            comfortable: COMFORTABLE,
            is_answer: false,
        }
    }

    /// Allows leaving the column out, after those with a higher number.
    pub(crate) const fn optional(self, order: u8) -> Self {
        Self { order, ..self }
    }

    /// Cuts the values to these cells before another column is left out.
    pub(crate) const fn comfortable(self, comfortable: usize) -> Self {
        Self {
            comfortable,
            ..self
        }
    }

    /// Marks the column of the verb's answer, which has the failure for a host that fails.
    pub(crate) const fn answer(self) -> Self {
        Self {
            is_answer: true,
            ..self
        }
    }

    pub(crate) const fn is_answer(&self) -> bool {
        self.is_answer
    }
}
