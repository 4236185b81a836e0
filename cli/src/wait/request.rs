//! A request to wait, and its end.

use std::time::Duration;

use soramode_protocol::error::ErrorType;
use soramode_protocol::plan::Plan;
use soramode_protocol::wait::{Outcome, Wait};

use super::again::Then;
use crate::error::{Exit, Failure};
use crate::last_status::LastStatus;
use crate::output::times;
use crate::session_info::SessionInfo;

/// The condition to wait for, and the limits.
#[derive(Clone, Debug)]
pub(crate) struct WaitRequest {
    /// The request to the daemon, without its timeout and pauses.
    pub(crate) wait: Wait,
    /// The time after which to give up; `None` is never.
    pub(crate) limit: Option<Duration>,
    /// The node was closed before the wait began: if it is open now, another client opened it.
    pub(crate) is_closed: bool,
    /// The wait for a plan is over once the plan has closed the node.
    pub(crate) until_closed: bool,
    /// Sessions at the beginning, if their number is known.
    pub(crate) sessions_before: u64,
    /// Work of the command that follows the wait.
    pub(crate) then: Then,
}

impl WaitRequest {
    pub(crate) fn max_sessions(&self) -> u64 {
        self.wait.max_sessions.unwrap_or_default()
    }

    pub(crate) fn settle(&self) -> Duration {
        Duration::from_secs_f64(self.wait.settle_seconds.unwrap_or_default())
    }
}

/// A condition that came true.
pub(crate) struct Reached {
    /// The node at that moment.
    pub(crate) status: LastStatus,
    pub(crate) waited: Duration,
    /// Sessions that ended meanwhile.
    pub(crate) sessions_ended: u64,
}

/// The end of a wait: its outcome or the failure that ended it, and the last status.
pub(super) struct Ended {
    pub(super) outcome: Result<Outcome, Failure>,
    pub(super) status: Option<LastStatus>,
    pub(super) oldest_sessions: Vec<SessionInfo>,
    /// A sentence about a node that has stopped answering.
    pub(super) silence: Option<String>,
    /// The plan that was waited for, as it is at the end.
    pub(super) plan: Option<Box<Plan>>,
}

impl Ended {
    /// A failure without a status.
    pub(super) const fn without_status(failure: Failure) -> Self {
        Self {
            outcome: Err(failure),
            status: None,
            oldest_sessions: Vec::new(),
            silence: None,
            plan: None,
        }
    }
}

/// `at most 30 min`
pub(crate) fn describe_limit(limit: Option<Duration>) -> String {
    match limit {
        Some(limit) => format!("at most {}", times::limit(limit)),
        None => "without a limit".to_owned(),
    }
}

/// Describes the wait for a drain before it begins.
pub(crate) fn describe_wait(request: &WaitRequest, counts: &str) -> String {
    let goal = match request.max_sessions() {
        0 => "no session is left".to_owned(),
        1 => "at most 1 session is left".to_owned(),
        allowed => format!("at most {allowed} sessions are left"),
    };
    format!(
        "waiting {} until {goal} (now {counts}). Ctrl-C stops waiting; the node stays closed",
        describe_limit(request.limit)
    )
}

/// Describes a wait that a signal ended.
pub(crate) fn interrupted(exit: Exit, waited: Duration) -> Failure {
    let signal = match exit {
        Exit::HungUp => "hung up",
        Exit::Terminated => "terminated",
        _ => "interrupted",
    };
    let waited = times::span(waited);
    Failure::new(exit, format!("{signal} after {waited}: stopped waiting"))
}

/// Describes a daemon that has lost the list of sessions.
pub(super) fn restarted_without_state(node: &str) -> Failure {
    let message = format!(
        "soramoded was restarted without its state and does not know the sessions of {node} any more"
    );
    let failure = Failure {
        error_type: Some(ErrorType::SessionsIncomplete),
        ..Failure::new(Exit::SessionsIncomplete, message)
    };
    failure.with_hint(
        "Wait until the signalling server has reported its sessions again. If you have checked on the SFU that no client is connected, add --assume-complete",
    )
}
