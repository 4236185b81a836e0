//! The tables of sessions and connections, which agree at every moment: a connection is in exactly one session of its channel.

mod links;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use soramode_protocol::event::EndReason;
use soramode_protocol::id::{ChannelId, ConnectionId, SessionId};
use soramode_protocol::session::{Connection, ConnectionState, Session};
use soramode_protocol::time::Time;

use crate::ctx::Ctx;
use crate::handles::{ConnectionSlot, SessionSlot, SocketId, Timestamp};
use crate::tables::index::{Hashing, Index};
use crate::tables::rows::{
    BootNanos, ConnectionRow, Link, NewConnection, SessionOwner, SessionRow, WrappingBootSecs,
};
use crate::tables::slab::Slab;

const CONNECTION_SHARDS: u32 = 128;
const CHANNEL_SHARDS: u32 = 128;

#[expect(
    clippy::struct_field_names,
    reason = "sessions and connections are what the tables hold"
)]
pub(crate) struct Sessions {
    hashing: Hashing,
    connections: Slab<ConnectionSlot, ConnectionRow>,
    by_connection: Index<ConnectionSlot>,
    sessions: Slab<SessionSlot, SessionRow>,
    by_channel: Index<SessionSlot>,
    by_age: BTreeSet<(Time, SessionSlot)>,
    /// The socket that a connection ends with, of the few that have one.
    sockets: BTreeMap<ConnectionSlot, SocketId>,
    /// The connections that end with a socket.
    by_socket: BTreeMap<SocketId, BTreeSet<ConnectionSlot>>,
    pending: u64,
}

impl Sessions {
    pub(crate) fn new(hashing: Hashing) -> Self {
        Self {
            hashing,
            connections: Slab::new(),
            by_connection: Index::new(CONNECTION_SHARDS),
            sessions: Slab::new(),
            by_channel: Index::new(CHANNEL_SHARDS),
            by_age: BTreeSet::new(),
            sockets: BTreeMap::new(),
            by_socket: BTreeMap::new(),
            pending: 0,
        }
    }

    pub(crate) const fn session_count(&self) -> u64 {
        self.sessions.len()
    }

    pub(crate) const fn connection_count(&self) -> u64 {
        self.connections.len()
    }

    pub(crate) const fn pending_count(&self) -> u64 {
        self.pending
    }

    pub(crate) fn find(&self, connection_id: &ConnectionId) -> Option<ConnectionSlot> {
        let hash = self.hashing.hash(connection_id.as_bytes());
        self.by_connection.find(hash, |slot| {
            self.connections
                .get(slot)
                .is_some_and(|row| row.connection_id == *connection_id)
        })
    }

    pub(crate) fn find_session(&self, channel_id: &ChannelId) -> Option<SessionSlot> {
        let hash = self.hashing.hash(channel_id.as_bytes());
        self.by_channel.find(hash, |slot| {
            self.sessions
                .get(slot)
                .is_some_and(|row| row.channel_id == *channel_id)
        })
    }

    pub(crate) fn connection(&self, slot: ConnectionSlot) -> Option<&ConnectionRow> {
        self.connections.get(slot)
    }

    pub(crate) fn session(&self, slot: SessionSlot) -> Option<&SessionRow> {
        self.sessions.get(slot)
    }

    pub(crate) fn session_mut(&mut self, slot: SessionSlot) -> Option<&mut SessionRow> {
        self.sessions.get_mut(slot)
    }

    /// Makes room for this many at once.
    pub(crate) fn reserve(&mut self, sessions: usize, connections: usize) {
        let Self {
            hashing,
            connections: rows,
            sessions: session_rows,
            by_connection,
            by_channel,
            ..
        } = self;
        by_channel.reserve(sessions, |slot| hash_channel(session_rows, hashing, slot));
        by_connection.reserve(connections, |slot| hash_connection(rows, hashing, slot));
    }

    /// Makes a session without connections, not yet announced.
    pub(crate) fn add_session(
        &mut self,
        channel_id: ChannelId,
        session_id: SessionId,
        now: Timestamp,
    ) -> SessionSlot {
        let created_at = now.wall;
        let hash = self.hashing.hash(channel_id.as_bytes());
        let slot = self.sessions.insert(SessionRow {
            channel_id,
            session_id,
            created_at,
            named_at: BootNanos::at(now.boot),
            empty_since: None,
            owner: SessionOwner::Gate,
            is_announced: false,
            last_end: EndReason::Disconnected,
            max_connections: 0,
            total_connections: 0,
            live: 0,
            pending: 0,
            first: ConnectionSlot::NIL,
            last: ConnectionSlot::NIL,
        });
        let (sessions, hashing) = (&self.sessions, &self.hashing);
        self.by_channel
            .insert(hash, slot, |slot| hash_channel(sessions, hashing, slot));
        self.by_age.insert((created_at, slot));
        slot
    }

    /// Takes a session away that has no connections.
    pub(crate) fn remove_session(&mut self, slot: SessionSlot) -> Option<SessionRow> {
        let row = self.sessions.get(slot)?;
        debug_assert!(
            row.first == ConnectionSlot::NIL && row.live == 0 && row.pending == 0,
            "a session goes when its connections have gone"
        );
        let (hash, age) = (
            self.hashing.hash(row.channel_id.as_bytes()),
            (row.created_at, slot),
        );
        let (sessions, hashing) = (&self.sessions, &self.hashing);
        self.by_channel
            .remove(hash, slot, |slot| hash_channel(sessions, hashing, slot));
        self.by_age.remove(&age);
        self.sessions.remove(slot)
    }

    /// Gives a session another time of creation.
    pub(crate) fn set_session_created_at(
        &mut self,
        ctx: &mut Ctx,
        slot: SessionSlot,
        created_at: Time,
    ) {
        let Some(row) = self.sessions.get_mut(slot) else {
            return ctx.bug("a session to date is not in the table");
        };
        self.by_age.remove(&(row.created_at, slot));
        row.created_at = created_at;
        self.by_age.insert((created_at, slot));
    }

    /// Puts a connection into a session. The id must not be there.
    pub(crate) fn add_connection(
        &mut self,
        session: SessionSlot,
        new: NewConnection,
    ) -> ConnectionSlot {
        let hash = self.hashing.hash(new.connection_id.as_bytes());
        let state = new.state;
        let slot = self.connections.insert(ConnectionRow {
            connection_id: new.connection_id,
            client_id: new.client_id.map(Box::new),
            created_at: new.created_at,
            session,
            next: ConnectionSlot::NIL,
            previous: ConnectionSlot::NIL,
            state,
            source: new.source,
            since: new.since,
        });
        let (connections, hashing) = (&self.connections, &self.hashing);
        self.by_connection.insert(hash, slot, |slot| {
            hash_connection(connections, hashing, slot)
        });
        self.link(session, slot);
        self.count_in(session, state);
        slot
    }

    /// Puts a connection of before the start into a session, which has counted it.
    pub(crate) fn restore_connection(
        &mut self,
        session: SessionSlot,
        new: NewConnection,
    ) -> ConnectionSlot {
        let counts = self
            .sessions
            .get(session)
            .map(|row| (row.max_connections, row.total_connections));
        let slot = self.add_connection(session, new);
        if let (Some(row), Some(counts)) = (self.sessions.get_mut(session), counts) {
            (row.max_connections, row.total_connections) = counts;
        }
        slot
    }

    /// Takes a connection away.
    pub(crate) fn remove_connection(&mut self, slot: ConnectionSlot) -> Option<ConnectionRow> {
        self.bind_to_socket(slot, None);
        let hash = self
            .hashing
            .hash(self.connections.get(slot)?.connection_id.as_bytes());
        let (connections, hashing) = (&self.connections, &self.hashing);
        self.by_connection.remove(hash, slot, |slot| {
            hash_connection(connections, hashing, slot)
        });
        let row = self.connections.remove(slot)?;
        self.unlink(Link::of(&row));
        self.count_out(row.session, row.state);
        Some(row)
    }

    /// Makes a pending connection live.
    pub(crate) fn make_live(&mut self, ctx: &mut Ctx, slot: ConnectionSlot) {
        let Some(row) = self
            .connections
            .get_mut(slot)
            .filter(|row| row.state == ConnectionState::Pending)
        else {
            return ctx.bug("a connection that becomes live is not pending");
        };
        row.state = ConnectionState::Live;
        (row.created_at, row.since) = (ctx.now.wall, WrappingBootSecs::at(ctx.now.boot));
        let session = row.session;
        self.count_out(session, ConnectionState::Pending);
        self.count_in(session, ConnectionState::Live);
    }

    /// Puts a connection into another session of its channel.
    pub(crate) fn move_connection(
        &mut self,
        ctx: &mut Ctx,
        slot: ConnectionSlot,
        session: SessionSlot,
    ) {
        let Some(row) = self.connections.get_mut(slot) else {
            return ctx.bug("a connection to move is not in the table");
        };
        let (left, state) = (Link::of(row), row.state);
        (row.session, row.next, row.previous) = (session, ConnectionSlot::NIL, ConnectionSlot::NIL);
        self.unlink(left);
        self.count_out(left.session, state);
        self.link(session, slot);
        self.count_in(session, state);
    }

    /// Has a connection end with a socket, or with none.
    pub(crate) fn bind_to_socket(&mut self, slot: ConnectionSlot, socket: Option<SocketId>) {
        if self.connections.get(slot).is_none() {
            return;
        }
        let before = match socket {
            Some(socket) => self.sockets.insert(slot, socket),
            None => self.sockets.remove(&slot),
        };
        if before == socket {
            return;
        }
        if let Some(before) = before
            && let Some(slots) = self.by_socket.get_mut(&before)
        {
            slots.remove(&slot);
            if slots.is_empty() {
                self.by_socket.remove(&before);
            }
        }
        if let Some(socket) = socket {
            self.by_socket.entry(socket).or_default().insert(slot);
        }
    }

    /// The socket that a connection ends with.
    pub(crate) fn socket_of(&self, slot: ConnectionSlot) -> Option<SocketId> {
        self.sockets.get(&slot).copied()
    }

    /// All bindings, as the connections know them.
    pub(crate) fn bindings(&self) -> impl Iterator<Item = (ConnectionSlot, SocketId)> {
        self.sockets.iter().map(|(&slot, &socket)| (slot, socket))
    }

    /// All bindings, as the sockets know them.
    pub(crate) fn bound(&self) -> impl Iterator<Item = (ConnectionSlot, SocketId)> {
        self.by_socket
            .iter()
            .flat_map(|(&socket, slots)| slots.iter().map(move |&slot| (slot, socket)))
    }

    /// The connections that end with a socket.
    pub(crate) fn bound_to(&self, socket: SocketId) -> impl Iterator<Item = ConnectionSlot> {
        self.by_socket.get(&socket).into_iter().flatten().copied()
    }

    /// Sessions from the oldest on, after a given one.
    pub(crate) fn by_age(
        &self,
        after: Option<(Time, SessionSlot)>,
    ) -> impl Iterator<Item = SessionSlot> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_age
            .range((start, Bound::Unbounded))
            .map(|&(_, slot)| slot)
    }

    /// Returns whether a connection is in a channel.
    pub(crate) fn is_in(&self, slot: ConnectionSlot, channel_id: &ChannelId) -> bool {
        self.connection(slot)
            .and_then(|row| self.session(row.session))
            .is_some_and(|session| session.channel_id == *channel_id)
    }

    /// Returns whether a session has a live connection.
    pub(crate) fn has_live(&self, session: SessionSlot) -> bool {
        self.session(session).is_some_and(|row| row.live > 0)
    }

    /// Channels that have a session, the oldest session first.
    pub(crate) fn channels(&self) -> impl Iterator<Item = &ChannelId> {
        self.by_age(None)
            .filter_map(|slot| self.session(slot))
            .map(|row| &row.channel_id)
    }

    /// Connections with their places, in a stable order, from a place on.
    pub(crate) fn connections_from(
        &self,
        first: ConnectionSlot,
    ) -> impl Iterator<Item = (ConnectionSlot, &ConnectionRow)> {
        self.connections.iter_from(first)
    }

    /// A session as lists show it.
    pub(crate) fn view_session(&self, slot: SessionSlot) -> Option<Session> {
        let row = self.sessions.get(slot)?;
        Some(Session {
            channel_id: row.channel_id.clone(),
            session_id: row.session_id.clone(),
            created_at: row.created_at,
            connections: u64::from(row.live) + u64::from(row.pending),
            pending: row.pending.into(),
            max_connections: row.max_connections,
            total_connections: row.total_connections,
        })
    }

    /// A connection as lists show it.
    pub(crate) fn view_connection(&self, slot: ConnectionSlot) -> Option<Connection> {
        let row = self.connections.get(slot)?;
        let session = self.sessions.get(row.session)?;
        Some(Connection {
            connection_id: row.connection_id.clone(),
            channel_id: session.channel_id.clone(),
            session_id: session.session_id.clone(),
            client_id: row.client_id.as_deref().cloned(),
            state: row.state,
            created_at: row.created_at,
        })
    }

    fn count_in(&mut self, session: SessionSlot, state: ConnectionState) {
        let Some(row) = self.sessions.get_mut(session) else {
            return;
        };
        row.empty_since = None;
        match state {
            ConnectionState::Pending => {
                row.pending += 1;
                self.pending += 1;
            }
            ConnectionState::Live => {
                row.live += 1;
                row.total_connections += 1;
                row.max_connections = row.max_connections.max(u64::from(row.live));
            }
        }
    }

    fn count_out(&mut self, session: SessionSlot, state: ConnectionState) {
        let Some(row) = self.sessions.get_mut(session) else {
            return;
        };
        match state {
            ConnectionState::Pending => {
                row.pending -= 1;
                self.pending -= 1;
            }
            ConnectionState::Live => row.live -= 1,
        }
    }
}

fn hash_channel(
    sessions: &Slab<SessionSlot, SessionRow>,
    hashing: &Hashing,
    slot: SessionSlot,
) -> u64 {
    sessions
        .get(slot)
        .map_or(0, |row| hashing.hash(row.channel_id.as_bytes()))
}

fn hash_connection(
    connections: &Slab<ConnectionSlot, ConnectionRow>,
    hashing: &Hashing,
    slot: ConnectionSlot,
) -> u64 {
    connections
        .get(slot)
        .map_or(0, |row| hashing.hash(row.connection_id.as_bytes()))
}
