//! Times, ids and numbers that name something to the gate or in it.

use std::time::Duration;

use soramode_protocol::time::Time;

/// The time on two clocks. A wall clock that is set fires no deadline and delays none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp {
    /// The wall clock: for labels.
    pub wall: Time,
    /// Time since the machine booted, suspended or not (`CLOCK_BOOTTIME`): for deadlines.
    pub boot: Duration,
}

/// A client's socket. Never used twice while the daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u64);

impl SocketId {
    /// Stands for the sockets of before the start, which are closed.
    pub const BEFORE_START: Self = Self(u64::MAX);
}

/// The request that an answer is for: the `serial`-th of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplyHandle {
    /// Its socket.
    pub socket: SocketId,
    /// Its number among the socket's requests.
    pub serial: u64,
}

/// A wait in flight. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WaitId(pub(crate) u64);
