//! Requests to the SFU about the lock of a room, and their outcomes.

use soramode_protocol::id::ChannelId;

/// A request about a room's lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockCall {
    /// The room.
    pub channel_id: ChannelId,
    /// The request.
    pub request: LockRequest,
}

/// Request about a room's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockRequest {
    /// Show the tokens, and change nothing.
    ShowTokens,
    /// Lock the room: it lets in clients with a token alone, and has none.
    Lock,
    /// Unlock the room.
    Unlock,
}

/// Outcome of a request about a room's lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockOutcome {
    /// It was done. The room has these tokens of the application; unknown after an unlock.
    Done {
        /// Number of tokens.
        tokens: usize,
    },
    /// There is no such room.
    NoRoom,
    /// The room's secret is missing or wrong.
    NoSecret,
    /// The SFU did not answer; it may have done it.
    Unreachable,
}
