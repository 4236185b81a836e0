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
    /// Stands for all HTTP requests but reports. Clients of the control socket are counted from 1.
    pub const HTTP: Self = Self(0);

    /// Stands for the sockets of before the start, which are closed.
    pub const BEFORE_START: Self = Self(u64::MAX);

    /// Stands for the report over HTTP that is in progress: at most one at a time, and closed after each. No connection ends with it.
    pub const HTTP_REPORT: Self = Self(u64::MAX - 1);

    /// Returns whether it stands for HTTP requests.
    pub fn is_http(self) -> bool {
        self == Self::HTTP || self == Self::HTTP_REPORT
    }
}

/// The request that an answer is for: the `serial`-th of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplyHandle {
    /// The socket that the request came over.
    pub socket: SocketId,
    /// Its number among the socket's requests.
    pub serial: u64,
}

/// Number of a delivery. It grows with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(pub u64);

/// Index of a receiver of events in the settings. A removed receiver keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReceiverIndex(pub usize);

/// A fence in progress. Never used twice while the daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FenceId(pub u64);

/// A wait in flight. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WaitId(pub(crate) u64);

/// Slot of a session in its table. It is used again after the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionSlot(pub(crate) u32);

/// Slot of a connection in its table. It is used again after the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnectionSlot(pub(crate) u32);

impl ConnectionSlot {
    /// The lowest slot.
    pub(crate) const FIRST: Self = Self(0);

    /// No slot.
    pub(crate) const NIL: Self = Self(u32::MAX);

    pub(crate) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl From<u32> for SessionSlot {
    fn from(number: u32) -> Self {
        Self(number)
    }
}

impl From<SessionSlot> for u32 {
    fn from(slot: SessionSlot) -> Self {
        slot.0
    }
}

impl From<u32> for ConnectionSlot {
    fn from(number: u32) -> Self {
        Self(number)
    }
}

impl From<ConnectionSlot> for u32 {
    fn from(slot: ConnectionSlot) -> Self {
        slot.0
    }
}
