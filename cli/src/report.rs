//! The one final object that a wait leaves behind as JSON, whatever its outcome.

use std::time::Duration;

use serde::Serialize;
use soramode_protocol::mode::Mode;

use crate::error::{Exit, Failure, Problem};
use crate::last_status::LastStatus;
use crate::output::{Format, Output};
use crate::session_info::SessionInfo;

/// How a wait ended, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// What was waited for is so.
    Reached,
    /// It was not so in time.
    Timeout,
    /// Somebody changed the mode.
    Superseded,
    /// A signal ended the watching.
    Interrupted,
    /// It could not be watched.
    Failed,
}

/// What was done to the mode before the wait.
#[derive(Debug, Serialize)]
pub(crate) struct Change {
    pub(crate) previous_mode: Mode,
    pub(crate) mode: Mode,
    pub(crate) changed: bool,
    /// What counts the changes; Sora's API does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) generation: Option<u64>,
}

/// What is known of a wait; filled while it goes on.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    r#type: &'static str,
    pub(crate) outcome: Outcome,
    exit_code: u8,
    waited_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) change: Option<Change>,
    /// Whether the mode from before was set again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) restored: Option<bool>,
    /// Whether `maintain` ran its command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ran: Option<bool>,
    /// What that ended with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) command_exit: Option<u8>,
    /// The node as it was seen last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<LastStatus>,
    /// The oldest sessions that were left.
    pub(crate) oldest_sessions: Vec<SessionInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem>,
}

impl Report {
    /// Of a wait that has not begun.
    pub(crate) const fn new() -> Self {
        Self {
            r#type: "ended",
            outcome: Outcome::Failed,
            exit_code: 0,
            waited_seconds: 0.0,
            change: None,
            restored: None,
            ran: None,
            command_exit: None,
            status: None,
            oldest_sessions: Vec::new(),
            error: None,
        }
    }

    /// The wait took so long.
    pub(crate) fn waited(&mut self, span: Duration) {
        self.waited_seconds = span.as_secs_f64();
    }

    /// Writes the object where JSON is asked for, and passes on how the command ended.
    pub(crate) fn finish(
        mut self,
        output: &mut Output,
        ended: Result<Exit, Failure>,
    ) -> Result<Exit, Failure> {
        let exit = ended
            .as_ref()
            .map_or_else(|failure| failure.exit, |exit| *exit);
        self.exit_code = exit.code();
        self.error = ended.as_ref().err().map(Problem::from);
        match output.format() {
            Format::Table | Format::Plain => ended,
            // A failure that is known already weighs more than one to write it.
            Format::Json | Format::Jsonl => output
                .json(&self)
                .and(ended.clone())
                .or_else(|problem| ended.and(Err(problem))),
        }
    }
}
