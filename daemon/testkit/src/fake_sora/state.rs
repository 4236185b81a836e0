//! The sessions and connections of a fake Sora.

use std::collections::BTreeMap;

use fastrand::Rng;
use soramode_protocol::id::{ConnectionId, SessionId};
use soramode_protocol::time::Time;
use soramoded::clock;

#[expect(clippy::struct_field_names, reason = "the names are Sora's")]
#[derive(Clone, Debug)]
pub struct Connection {
    pub(crate) channel_id: String,
    pub(crate) session_id: String,
    pub(crate) connection_id: String,
    pub(crate) created_at: Time,
}

#[expect(clippy::struct_field_names, reason = "the names are Sora's")]
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) channel_id: String,
    pub(crate) session_id: String,
    pub(crate) created_at: Time,
    /// Connections that it has had.
    pub(crate) total: usize,
}

/// Everything that there is on a Sora.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) sessions: BTreeMap<String, Session>,
    pub(crate) connections: BTreeMap<String, Connection>,
}

impl State {
    /// An id in Sora's form.
    pub(crate) fn new_connection(rng: &mut Rng, channel_id: &str) -> Connection {
        let connection_id = ConnectionId::generate(rng.u128(..).to_le_bytes()).to_string();
        Connection {
            channel_id: channel_id.to_owned(),
            session_id: String::new(),
            connection_id,
            created_at: clock::now().wall,
        }
    }

    pub(crate) fn in_channel(&self, channel_id: &str) -> usize {
        self.connections
            .values()
            .filter(|connection| connection.channel_id == channel_id)
            .count()
    }

    /// Adds a connection; returns it with its session if that is new.
    pub(crate) fn enter(
        &mut self,
        rng: &mut Rng,
        mut connection: Connection,
    ) -> (Connection, Option<Session>) {
        let now = clock::now().wall;
        let is_new = !self.sessions.contains_key(&connection.channel_id);
        let session = self
            .sessions
            .entry(connection.channel_id.clone())
            .or_insert_with(|| Session {
                channel_id: connection.channel_id.clone(),
                session_id: SessionId::generate(rng.u128(..).to_le_bytes()).to_string(),
                created_at: now,
                total: 0,
            });
        session.total += 1;
        (connection.session_id, connection.created_at) = (session.session_id.clone(), now);
        let session = is_new.then(|| session.clone());
        self.connections
            .insert(connection.connection_id.clone(), connection.clone());
        (connection, session)
    }

    /// Removes a channel's connections and session.
    pub(crate) fn remove_channel(
        &mut self,
        channel_id: &str,
    ) -> (Vec<Connection>, Option<Session>) {
        let of_channel = |_: &String, it: &mut Connection| it.channel_id == channel_id;
        let removed = self.connections.extract_if(.., of_channel);
        let connections = removed.map(|(_, connection)| connection).collect();
        (connections, self.sessions.remove(channel_id))
    }

    /// Ends the sessions without a connection.
    pub(crate) fn close_empty(&mut self) -> Vec<Session> {
        let empty: Vec<String> = self
            .sessions
            .keys()
            .filter(|channel_id| self.in_channel(channel_id) == 0)
            .cloned()
            .collect();
        empty
            .iter()
            .filter_map(|channel_id| self.sessions.remove(channel_id))
            .collect()
    }
}
