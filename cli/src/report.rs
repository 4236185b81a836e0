//! The JSON object at the end of a wait.

use std::time::Duration;

use serde::Serialize;
use soramode_protocol::mode::Mode;
use soramode_protocol::plan::Plan;
use soramode_protocol::wait::Outcome;

use crate::error::{Exit, Failure, Problem};
use crate::last_status::LastStatus;
use crate::output::{Format, Output};
use crate::session_info::SessionInfo;

/// The change of the mode before the wait.
#[derive(Debug, Serialize)]
pub(crate) struct Change {
    pub(crate) previous_mode: Mode,
    pub(crate) mode: Mode,
    pub(crate) changed: bool,
    /// The revision of the mode; unknown over Sora's API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) generation: Option<u64>,
}

/// The report of a wait, filled in step by step.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    r#type: &'static str,
    #[serde(rename = "outcome")]
    outcome_name: &'static str,
    /// The outcome of the wait; `None` if a signal or a failure ended it.
    #[serde(skip)]
    pub(crate) outcome: Option<Outcome>,
    exit_code: u8,
    waited_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) change: Option<Change>,
    /// The previous mode was restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) restored: Option<bool>,
    /// `maintain` ran its command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ran: Option<bool>,
    /// The exit code of that command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) command_exit: Option<u8>,
    /// The plan that the command started, as it is at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) plan: Option<Box<Plan>>,
    /// The last status of the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<LastStatus>,
    /// The oldest remaining sessions.
    pub(crate) oldest_sessions: Vec<SessionInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem>,
}

impl Report {
    pub(crate) const fn new() -> Self {
        Self {
            r#type: "ended",
            outcome_name: "",
            outcome: None,
            exit_code: 0,
            waited_seconds: 0.0,
            change: None,
            restored: None,
            ran: None,
            command_exit: None,
            plan: None,
            status: None,
            oldest_sessions: Vec::new(),
            error: None,
        }
    }

    pub(crate) fn waited(&mut self, span: Duration) {
        self.waited_seconds = span.as_secs_f64();
    }

    /// Prints the object if the format is JSON, and returns the result of the command.
    pub(crate) fn finish(
        mut self,
        output: &mut Output,
        ended: Result<Exit, Failure>,
    ) -> Result<Exit, Failure> {
        let exit = ended
            .as_ref()
            .map_or_else(|failure| failure.exit, |exit| *exit);
        self.exit_code = exit.code();
        let is_interrupted = matches!(exit, Exit::HungUp | Exit::Interrupted | Exit::Terminated);
        self.outcome_name = match self.outcome {
            _ if is_interrupted => "interrupted",
            Some(outcome) => outcome.name(),
            None => "failed",
        };
        self.error = ended.as_ref().err().map(Problem::from);
        match output.format() {
            Format::Table | Format::Plain => ended,
            // The command's failure takes precedence over a failed write.
            Format::Json | Format::Jsonl => output
                .json(&self)
                .and(ended.clone())
                .or_else(|problem| ended.and(Err(problem))),
        }
    }
}
