//! A check of `soramode doctor`, and its verdict.

use serde::Serialize;

use crate::output::color::Emphasis;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Ok,
    /// Intended, and worth knowing.
    Note,
    Bad,
}

impl Verdict {
    /// Returns the word and its colour.
    pub(super) const fn shown(self) -> (&'static str, Emphasis) {
        match self {
            Self::Ok => ("ok", Emphasis::Good),
            Self::Note => ("note", Emphasis::Careful),
            Self::Bad => ("BAD", Emphasis::Bad),
        }
    }
}

/// A check.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    pub(super) what: &'static str,
    pub(super) verdict: Verdict,
    pub(super) how: String,
    /// The remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
}

impl Check {
    pub(super) fn ok(what: &'static str, how: impl Into<String>) -> Self {
        Self {
            what,
            verdict: Verdict::Ok,
            how: how.into(),
            advice: None,
        }
    }

    pub(super) fn note(
        what: &'static str,
        how: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Note,
            advice: Some(advice.into()),
            ..Self::ok(what, how)
        }
    }

    pub(super) fn bad(
        what: &'static str,
        how: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Bad,
            ..Self::note(what, how, advice)
        }
    }
}
