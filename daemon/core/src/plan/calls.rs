//! Calls to the SFU for announcements and ends, and how many may be in flight.

use std::sync::Arc;
use std::time::Duration;

use soramode_protocol::announce::Notice;
use soramode_protocol::id::{ChannelId, PlanId, SessionId};

/// Maximum number of calls of one kind in flight.
pub const CALLS_IN_FLIGHT_MAX: usize = 8;

/// Pause after the first failure; each further one doubles it.
pub const RETRY_PAUSE_MIN: Duration = Duration::from_secs(5);

/// Longest pause after a failure.
pub const RETRY_PAUSE_MAX: Duration = Duration::from_mins(1);

/// Identifier of a call, for its outcome. Counted from the start of the daemon.
pub type CallId = u64;

/// A call to the SFU, about one session.
#[derive(Clone, Debug, PartialEq)]
pub struct SfuCall {
    /// Identifier of the call.
    pub id: CallId,
    /// Channel of the session.
    pub channel_id: ChannelId,
    /// The session.
    pub session_id: SessionId,
    /// Request to the SFU.
    pub request: SfuRequest,
}

impl SfuCall {
    /// Returns whether the SFU is to end the session.
    pub(crate) const fn is_end(&self) -> bool {
        matches!(self.request, SfuRequest::Disconnect { .. })
    }
}

/// Request to the SFU.
#[derive(Clone, Debug, PartialEq)]
pub enum SfuRequest {
    /// Send this notice to the session's clients: `PushChannel`, and the notification `Announce`.
    Push(Arc<Notice>),
    /// End the session: `DisconnectChannel`, and the notification `End`.
    Disconnect {
        /// Plan that ends it.
        plan_id: Option<PlanId>,
        /// Reason, for subscribers.
        reason: Option<String>,
    },
}

/// Outcome of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SfuOutcome {
    /// Answer of Sora's API; `None` if none is configured.
    pub api: Option<Result<(), SfuFailure>>,
    /// Number of subscribers that were notified.
    pub subscribers: u64,
}

/// Why Sora's API did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SfuFailure {
    /// It answered, with an error.
    Refused(String),
    /// It did not answer, or not in time.
    Unreachable(String),
}

impl SfuOutcome {
    /// Returns whether nobody could be asked at all.
    pub const fn has_no_recipient(&self) -> bool {
        self.api.is_none() && self.subscribers == 0
    }

    /// Returns the problem, if there is one.
    pub fn problem(&self) -> Option<&str> {
        match &self.api {
            Some(Err(SfuFailure::Refused(problem) | SfuFailure::Unreachable(problem))) => {
                Some(problem)
            }
            Some(Ok(())) => None,
            None if self.subscribers > 0 => None,
            None => Some("--sora-api is not set, and no client is subscribed"),
        }
    }

    /// Returns whether Sora's API did not answer.
    pub const fn is_unreachable(&self) -> bool {
        matches!(self.api, Some(Err(SfuFailure::Unreachable(_))))
    }
}

/// Reachability of the SFU, as a call shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SfuReach {
    Reachable,
    Unreachable,
}

impl SfuReach {
    pub(crate) const fn of(is_unreachable: bool) -> Self {
        if is_unreachable {
            Self::Unreachable
        } else {
            Self::Reachable
        }
    }
}

/// Limits the calls of one kind. While the SFU does not answer, one call at a time probes it.
#[derive(Debug, Default)]
pub(crate) struct CallLimiter {
    in_flight: usize,
    down: Option<Down>,
}

#[derive(Clone, Copy, Debug)]
struct Down {
    pause: Duration,
    probe_at: Duration,
}

impl CallLimiter {
    /// Returns whether another call may be made now.
    pub(crate) fn may_call(&self, now: Duration) -> bool {
        match self.down {
            Some(down) => self.in_flight == 0 && now >= down.probe_at,
            None => self.in_flight < CALLS_IN_FLIGHT_MAX,
        }
    }

    /// Returns when another call may be made, if an outcome is not what it waits for.
    pub(crate) fn may_call_at(&self, now: Duration) -> Option<Duration> {
        match self.down {
            Some(down) => (self.in_flight == 0).then_some(down.probe_at.max(now)),
            None => (self.in_flight < CALLS_IN_FLIGHT_MAX).then_some(now),
        }
    }

    pub(crate) const fn is_down(&self) -> bool {
        self.down.is_some()
    }

    pub(crate) const fn on_call(&mut self) {
        self.in_flight += 1;
    }

    /// Takes back a call that was never made.
    pub(crate) const fn on_retracted(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Takes in an outcome.
    pub(crate) fn on_outcome(&mut self, now: Duration, reached: SfuReach) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.down = (reached == SfuReach::Unreachable).then(|| {
            let pause = self.down.map_or(RETRY_PAUSE_MIN, |down| {
                // Calls that were in flight together fail together: that is one failure.
                if now < down.probe_at {
                    down.pause
                } else {
                    longer(down.pause)
                }
            });
            Down {
                pause,
                probe_at: now + pause,
            }
        });
    }
}

/// Returns the pause after one more failure.
pub(crate) fn longer(pause: Duration) -> Duration {
    (pause * 2).min(RETRY_PAUSE_MAX)
}
