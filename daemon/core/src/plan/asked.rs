//! Sessions that the SFU was asked to end, and that are still there.

use std::time::Duration;

use super::calls::RETRY_PAUSE_MIN;
use super::end_request::RequestNumber;

/// A session that the SFU was asked to end.
pub(super) struct Asked {
    /// Request that it counts for.
    pub(super) request: RequestNumber,
    /// Pause after the next failure.
    pub(super) pause: Duration,
    pub(super) state: AskedState,
    /// Number of calls for this request.
    pub(super) tries: u32,
    /// The SFU refused to end it, or said that it ends and it is still there.
    pub(super) is_failed: bool,
}

/// State of the calls about it.
#[derive(Clone, Copy)]
pub(super) enum AskedState {
    InFlight,
    RetryAt(Duration),
}

impl Asked {
    /// Session that this request asks for the first time.
    pub(super) const fn by(request: RequestNumber) -> Self {
        Self {
            request,
            pause: RETRY_PAUSE_MIN,
            state: AskedState::InFlight,
            tries: 0,
            is_failed: false,
        }
    }

    pub(super) const fn is_in_flight(&self) -> bool {
        matches!(self.state, AskedState::InFlight)
    }
}

/// End of a session, as the end queue sees it.
#[derive(Clone, Copy)]
pub(crate) struct EndedSession {
    /// True if the SFU was asked to end it.
    pub(crate) was_asked: bool,
    /// True if the plan that runs counts it as asked.
    pub(crate) is_of_plan: bool,
}
