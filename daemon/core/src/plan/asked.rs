//! Sessions that the SFU was asked to end, and that are still there.

use std::time::Duration;

use soramode_protocol::id::PlanId;

use super::calls::RETRY_PAUSE_MIN;

/// A session that a request has asked.
pub(super) struct Asked {
    pub(super) request: u64,
    pub(super) pause: Duration,
    pub(super) state: AskedState,
    pub(super) tries: u32,
    /// The SFU refused to end it, or said that it ends and it is still there.
    pub(super) is_failed: bool,
}

/// State of a request to it.
#[derive(Clone, Copy)]
pub(super) enum AskedState {
    InFlight,
    RetryAt(Duration),
}

impl Asked {
    /// Session that this request asks for the first time.
    pub(super) const fn by(request: u64) -> Self {
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

/// End of a session that the SFU was asked to end.
pub(crate) struct EndedSession {
    /// Plan that ended it, if one did.
    pub(crate) plan_id: Option<PlanId>,
}
