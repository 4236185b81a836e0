//! `Wait`: look first, then follow.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::id::{EndId, PlanId};
use crate::mode::{InForce, Mode};
use crate::node::Status;
use crate::number::is_zero;
use crate::plan::{Plan, Stalled};
use crate::request::RequestId;
use crate::session::Session;
use crate::wire_enum::wire_enum;

/// The longest timeout, settling time or pause between progress notes, in seconds: 366 days.
pub const WAIT_SECONDS_MAX: f64 = 366.0 * 24.0 * 60.0 * 60.0;

/// The shortest pause between progress notes, in seconds.
pub const PROGRESS_SECONDS_MIN: f64 = 0.5;

/// Number of the oldest sessions that an answer names.
pub const OLDEST_SESSIONS_MAX: usize = 10;

/// Maximum number of waits in flight per client.
pub const WAITS_MAX: usize = 64;

/// Condition of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WaitFor {
    /// No session is left, or at most `max_sessions`.
    Drained,
    /// The mode is `mode`.
    Mode,
    /// The node has joined its cluster.
    Joined,
    /// No session waits to be ended any more: each has ended.
    Ended,
}

/// Parameters of the method `Wait`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// Condition to wait for.
    #[serde(rename = "for")]
    pub wait_for: WaitFor,
    /// Mode to wait for, with `for: mode`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mode: Option<Mode>,
    /// The last change the caller knows of: a later one that leads elsewhere ends the wait as superseded.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub generation: Option<u64>,
    /// Number of sessions that may be left, with `for: drained`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_sessions: Option<u64>,
    /// Seconds for which the node must stay drained, with `for: drained`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = WAIT_SECONDS_MAX)))]
    pub settle_seconds: Option<f64>,
    /// Seconds after which the wait times out; never if absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = WAIT_SECONDS_MAX)))]
    pub timeout_seconds: Option<f64>,
    /// Seconds between `Progress` notifications; the first is sent at once.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(range(min = PROGRESS_SECONDS_MIN, max = WAIT_SECONDS_MAX)))]
    pub progress_seconds: Option<f64>,
    /// Assumes that the mode is in force on the SFU, with `for: drained`.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub assume_in_force: bool,
    /// Assumes that every session is known, with `for: drained`.
    #[serde(default)]
    pub assume_complete: bool,
    /// Waits until this plan is done, with `for: drained`. Superseded if it is over in another way.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plan: Option<PlanId>,
    /// Request of which every session must have ended, with `for: ended`; all requests if absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end_id: Option<EndId>,
}

impl Wait {
    /// Waits for this condition, without a timeout.
    pub const fn new(wait_for: WaitFor) -> Self {
        Self {
            wait_for,
            mode: None,
            generation: None,
            max_sessions: None,
            settle_seconds: None,
            timeout_seconds: None,
            progress_seconds: None,
            assume_in_force: false,
            assume_complete: false,
            plan: None,
            end_id: None,
        }
    }
}

impl Wait {
    /// Checks the limits, and that each parameter belongs to the condition.
    pub fn check(&self) -> Result<(), Error> {
        self.check_seconds()?;
        let drained = self.wait_for == WaitFor::Drained;
        match self.wait_for {
            WaitFor::Mode if self.mode.is_none() => Err(Error::invalid_params(
                "mode",
                "is missing, takes the mode to wait for",
            )),
            WaitFor::Drained | WaitFor::Joined | WaitFor::Ended if self.mode.is_some() => {
                Err(Error::invalid_params("mode", "is only for `for: mode`"))
            }
            _ if !drained && self.max_sessions.is_some() => Err(Error::invalid_params(
                "max_sessions",
                "is only for `for: drained`",
            )),
            _ if !drained && self.settle_seconds.is_some() => Err(Error::invalid_params(
                "settle_seconds",
                "is only for `for: drained`",
            )),
            _ if !drained && self.assume_complete => Err(Error::invalid_params(
                "assume_complete",
                "is only for `for: drained`",
            )),
            _ if !drained && self.assume_in_force => Err(Error::invalid_params(
                "assume_in_force",
                "is only for `for: drained`",
            )),
            _ if !drained && self.plan.is_some() => {
                Err(Error::invalid_params("plan", "is only for `for: drained`"))
            }
            _ if self.wait_for != WaitFor::Ended && self.end_id.is_some() => {
                Err(Error::invalid_params("end_id", "is only for `for: ended`"))
            }
            _ if self.plan.is_some() && self.max_sessions.is_some() => Err(Error::invalid_params(
                "max_sessions",
                "is not for a wait for a plan, which is done when no session is left",
            )),
            _ if self.plan.is_some() && self.assume_complete => Err(Error::invalid_params(
                "assume_complete",
                "is not for a wait for a plan, which is done when the session list is complete",
            )),
            WaitFor::Drained | WaitFor::Mode | WaitFor::Joined | WaitFor::Ended => Ok(()),
        }
    }

    fn check_seconds(&self) -> Result<(), Error> {
        let fields = [
            ("settle_seconds", self.settle_seconds, 0.0),
            ("timeout_seconds", self.timeout_seconds, 0.0),
            (
                "progress_seconds",
                self.progress_seconds,
                PROGRESS_SECONDS_MIN,
            ),
        ];
        for (field, seconds, min) in fields {
            match seconds {
                Some(seconds) if !(min..=WAIT_SECONDS_MAX).contains(&seconds) => {
                    let problem =
                        format_args!("got {seconds:?}, takes {min} to {WAIT_SECONDS_MAX}");
                    return Err(Error::invalid_params(field, problem));
                }
                Some(_) | None => {}
            }
        }
        Ok(())
    }
}

wire_enum! {
    /// Outcome of a wait.
    #[cfg_attr(feature = "schema", schemars(rename = "WaitOutcome"))]
    pub enum Outcome {
        /// The condition became true.
        Reached = "reached",
        /// The condition did not become true in time.
        Timeout = "timeout",
        /// Mode was changed to one that is not awaited; or the plan is over and not done; or sessions are
        /// not ended any more.
        Superseded = "superseded",
    }
}

/// Result of the method `Wait`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WaitEnded {
    /// Outcome of the wait.
    pub outcome: Outcome,
    /// Status of the node at that time.
    pub status: Status,
    /// The oldest sessions left, at most [`OLDEST_SESSIONS_MAX`].
    pub oldest_sessions: Vec<Session>,
    /// Plan that was waited for, as it is now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plan: Option<Box<Plan>>,
}

/// The notification `Progress`: how a wait is going.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Progress {
    /// Request id of the wait.
    pub id: RequestId,
    /// Number of sessions left.
    pub sessions: u64,
    /// Number of connections left; pending ones count.
    pub connections: u64,
    /// Pending ones of these; absent if there are none.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub pending: u64,
    /// The oldest session left.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub oldest_session: Option<Session>,
    /// Sessions that ended since the wait began.
    pub ended: u64,
    /// Number of sessions left that are to be ended by the requests which the wait is for, with `for: ended`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub awaited: Option<u64>,
    /// Plan that runs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plan: Option<Box<Plan>>,
    /// Set if the drain does not progress.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stalled: Option<Stalled>,
    /// State of the mode on an SFU that holds it by locks of its rooms; absent on all others.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub in_force: Option<InForce>,
}
