//! Stored sessions and connections go back into the tables.

use std::time::Duration;

use soramode_protocol::id::SessionId;
use soramode_protocol::session::ConnectionState;

use crate::ctx::Services;
use crate::handles::{SocketId, Timestamp};
use crate::stored::{StoredConnection, StoredSession};
use crate::tables::rows::{NewConnection, WrappingBootSecs};
use crate::tables::sessions::Sessions;
use crate::timers::Timer;

/// Times for which sessions and connections last after the start without a sign of life.
pub(crate) struct Lifetimes {
    /// A pending connection.
    pub(crate) pending_timeout: Duration,
    /// A connection that outlived its socket.
    pub(crate) socket_grace: Duration,
    /// A session without live connections.
    pub(crate) reconnect_grace: Duration,
}

impl Sessions {
    /// Adds what was stored, and sets the deadlines that follow from it.
    pub(crate) fn restore(
        &mut self,
        services: &mut Services,
        started: Timestamp,
        sessions: Vec<StoredSession>,
        mut connections: Vec<StoredConnection>,
        lifetimes: &Lifetimes,
    ) {
        // Those of the same time stay in the order in which they were stored.
        connections.sort_by_key(|connection| connection.created_at);
        self.reserve(sessions.len(), connections.len());
        for stored in sessions {
            self.restore_session(started, stored);
        }
        for stored in connections {
            self.restore_one(services, started, stored, lifetimes);
        }
        if self.bound_to(SocketId::BEFORE_START).next().is_some() {
            let at = started.boot + lifetimes.socket_grace;
            services
                .timers
                .set(Timer::SocketGrace(SocketId::BEFORE_START), at);
        }
        let grace_end = started.boot + lifetimes.reconnect_grace;
        for slot in self.by_age(None) {
            let is_empty = self
                .session(slot)
                .is_some_and(|row| row.is_announced && row.live == 0);
            if is_empty {
                services.timers.set(Timer::ReconnectGrace(slot), grace_end);
            }
        }
    }

    fn restore_session(&mut self, started: Timestamp, stored: StoredSession) {
        let StoredSession {
            channel_id,
            session_id,
            created_at,
            owner,
            ..
        } = stored;
        let now = Timestamp {
            wall: created_at,
            ..started
        };
        let slot = self.add_session(channel_id, session_id, now);
        if let Some(row) = self.session_mut(slot) {
            (row.owner, row.is_announced) = (owner, true);
            row.max_connections = stored.max_connections;
            row.total_connections = stored.total_connections;
        }
    }

    fn restore_one(
        &mut self,
        services: &mut Services,
        started: Timestamp,
        stored: StoredConnection,
        lifetimes: &Lifetimes,
    ) {
        let StoredConnection {
            connection_id,
            channel_id,
            client_id,
            created_at,
            state,
            source,
            is_bound,
            session_id,
        } = stored;
        // A session without an event is not stored: its pending connections alone are.
        let session = self.find_session(&channel_id).unwrap_or_else(|| {
            let session_id =
                session_id.unwrap_or_else(|| SessionId::generate(services.random.bytes()));
            let now = Timestamp {
                wall: created_at,
                ..started
            };
            self.add_session(channel_id, session_id, now)
        });
        let new = NewConnection {
            connection_id,
            client_id,
            created_at,
            state,
            source,
            since: WrappingBootSecs::at(started.boot),
        };
        let slot = self.restore_connection(session, new);
        match state {
            ConnectionState::Pending => services.timers.set(
                Timer::PendingTimeout(slot),
                started.boot + lifetimes.pending_timeout,
            ),
            // Its event was emitted, and before it the session's.
            ConnectionState::Live => {
                if let Some(row) = self.session_mut(session) {
                    row.is_announced = true;
                }
            }
        }
        if is_bound {
            self.bind_to_socket(slot, Some(SocketId::BEFORE_START));
        }
    }
}
