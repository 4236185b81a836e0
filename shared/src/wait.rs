//! `Wait`: look first, then follow.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::mode::Mode;
use crate::node::Status;
use crate::request::RequestId;
use crate::session::Session;

/// The longest timeout, settling time or pause between progress notes, in seconds: 366 days.
pub const WAIT_SECONDS_MAX: f64 = 366.0 * 24.0 * 60.0 * 60.0;

/// The shortest pause between progress notes, in seconds.
pub const PROGRESS_SECONDS_MIN: f64 = 0.5;

/// How many of the oldest sessions an answer names.
pub const OLDEST_SESSIONS_MAX: usize = 10;

/// How many waits one client may have under way at once.
pub const WAITS_MAX: usize = 64;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitFor {
    /// No session is left (or at most `max_sessions`).
    Drained,
    /// The mode is `mode`.
    Mode,
    /// The node has joined its cluster.
    Joined,
}

/// `Wait`'s params.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// What is waited for.
    #[serde(rename = "for")]
    pub wait_for: WaitFor,
    /// With `for: mode`: which.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mode: Option<Mode>,
    /// The last change the caller knows of: a later one that leads elsewhere ends the wait as superseded.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub generation: Option<u64>,
    /// With `for: drained`: how many sessions may be left.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_sessions: Option<u64>,
    /// With `for: drained`: for how long it must stay so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub settle_seconds: Option<f64>,
    /// When to give up; never if absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timeout_seconds: Option<f64>,
    /// How often to send `Progress`; the first comes at once.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub progress_seconds: Option<f64>,
    /// With `for: drained`: assume that every session is known.
    #[serde(default)]
    pub assume_complete: bool,
}

impl Wait {
    /// For this, without a limit.
    pub const fn new(wait_for: WaitFor) -> Self {
        Self {
            wait_for,
            mode: None,
            generation: None,
            max_sessions: None,
            settle_seconds: None,
            timeout_seconds: None,
            progress_seconds: None,
            assume_complete: false,
        }
    }
}

impl Wait {
    /// Checks the limits, and that each param goes with what is waited for.
    pub fn check(&self) -> Result<(), Error> {
        self.check_seconds()?;
        let drained = self.wait_for == WaitFor::Drained;
        match self.wait_for {
            WaitFor::Mode if self.mode.is_none() => Err(Error::invalid_params(
                "mode",
                "is missing, takes the mode to wait for",
            )),
            WaitFor::Drained | WaitFor::Joined if self.mode.is_some() => {
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
            WaitFor::Drained | WaitFor::Mode | WaitFor::Joined => Ok(()),
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

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// What was waited for is so.
    Reached,
    /// It was not so in time.
    Timeout,
    /// Somebody changed the mode to another than was waited in or for.
    Superseded,
}

/// `Wait`'s result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitEnded {
    /// How it ended.
    pub outcome: Outcome,
    /// The node then.
    pub status: Status,
    /// The oldest sessions left, at most [`OLDEST_SESSIONS_MAX`].
    pub oldest_sessions: Vec<Session>,
}

/// The notification `Progress`: how a wait is going.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The wait's request.
    pub id: RequestId,
    /// Sessions left.
    pub sessions: u64,
    /// Connections left.
    pub connections: u64,
    /// The oldest session left.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub oldest_session: Option<Session>,
    /// Sessions that ended since the wait began.
    pub ended: u64,
}
