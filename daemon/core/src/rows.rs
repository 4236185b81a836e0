//! A session and a connection as they are kept.

use std::num::NonZeroU64;

use soramode_protocol::event::EndReason;
use soramode_protocol::id::{ChannelId, ClientId, ConnectionId, SessionId};
use soramode_protocol::session::ConnectionState;
use soramode_protocol::time::Time;

use crate::slab::Slot;

/// No place.
pub(crate) const NONE: Slot = Slot::MAX;

/// Which door told of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Socket,
    Sora,
}

/// A connection as it is kept. Its size is what a million of them cost.
pub(crate) struct ConnectionRow {
    pub(crate) connection_id: ConnectionId,
    pub(crate) client_id: Option<Box<ClientId>>,
    pub(crate) created_at: Time,
    /// The socket it hangs on.
    pub(crate) socket: Option<NonZeroU64>,
    pub(crate) session: Slot,
    pub(crate) next: Slot,
    pub(crate) previous: Slot,
    pub(crate) state: ConnectionState,
    pub(crate) door: Door,
}

/// A connection's place in its session's list.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    pub(crate) session: Slot,
    pub(crate) previous: Slot,
    pub(crate) next: Slot,
}

impl Link {
    pub(crate) const fn of(row: &ConnectionRow) -> Self {
        Self { session: row.session, previous: row.previous, next: row.next }
    }
}

/// Where a session's id comes from, and so how the session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The gate made the id: the session ends by itself.
    Gate,
    /// A Sora made the id: its `session.destroyed` ends the session.
    Sora,
}

pub(crate) struct SessionRow {
    pub(crate) channel_id: ChannelId,
    pub(crate) session_id: SessionId,
    pub(crate) created_at: Time,
    pub(crate) origin: Origin,
    /// Whether `session.created` has been told: with the first live connection.
    pub(crate) is_announced: bool,
    pub(crate) last_end: EndReason,
    pub(crate) max_connections: u64,
    pub(crate) total_connections: u64,
    pub(crate) live: u32,
    pub(crate) pending: u32,
    pub(crate) first: Slot,
    pub(crate) last: Slot,
}

/// What a new row of the connections is made of.
pub(crate) struct NewConnection {
    pub(crate) connection_id: ConnectionId,
    pub(crate) client_id: Option<ClientId>,
    pub(crate) created_at: Time,
    pub(crate) state: ConnectionState,
    pub(crate) door: Door,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_takes_72_bytes_of_memory() {
        assert_eq!(size_of::<Option<ConnectionRow>>(), 72);
    }
}
