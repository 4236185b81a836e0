//! A simulated Sora: its real connections, and the webhooks that may not arrive.

use std::collections::BTreeMap;

use soramode_core::input::{PolledConnection, SoraInput};
use soramode_protocol::id::{ChannelId, ConnectionId, SessionId};
use soramode_protocol::time::Time;

/// The real connections.
#[derive(Default)]
pub(super) struct Sora {
    sessions: BTreeMap<ChannelId, Session>,
    last_session: u64,
    last_connection: u64,
}

struct Session {
    session_id: SessionId,
    connections: Vec<(ConnectionId, Time)>,
}

impl Sora {
    /// The id of a client that is about to ask.
    pub(super) fn next_connection(&mut self) -> ConnectionId {
        self.last_connection += 1;
        format!("c{}", self.last_connection).parse().unwrap()
    }

    /// A client that was let in has come; gives the webhooks, in order.
    pub(super) fn arrive(
        &mut self,
        channel_id: &ChannelId,
        connection_id: &ConnectionId,
        now: Time,
    ) -> Vec<SoraInput> {
        let mut webhooks = Vec::new();
        if !self.sessions.contains_key(channel_id) {
            self.last_session += 1;
            let session_id: SessionId = format!("s{}", self.last_session).parse().unwrap();
            webhooks.push(SoraInput::SessionCreated {
                channel_id: channel_id.clone(),
                session_id: session_id.clone(),
                created_time: now,
            });
            self.sessions.insert(
                channel_id.clone(),
                Session {
                    session_id,
                    connections: Vec::new(),
                },
            );
        }
        let session = self.sessions.get_mut(channel_id).unwrap();
        session.connections.push((connection_id.clone(), now));
        webhooks.push(SoraInput::ConnectionCreated {
            channel_id: channel_id.clone(),
            session_id: Some(session.session_id.clone()),
            connection_id: connection_id.clone(),
            client_id: None,
        });
        webhooks
    }

    /// A client leaves.
    pub(super) fn leave(
        &mut self,
        channel_id: &ChannelId,
        connection_id: &ConnectionId,
    ) -> Option<SoraInput> {
        let session = self.sessions.get_mut(channel_id)?;
        let place = session
            .connections
            .iter()
            .position(|(id, _)| id == connection_id)?;
        session.connections.remove(place);
        Some(SoraInput::ConnectionDestroyed {
            connection_id: connection_id.clone(),
        })
    }

    /// A session that nobody is in ends.
    pub(super) fn close(&mut self, channel_id: &ChannelId) -> Option<SoraInput> {
        self.sessions
            .get(channel_id)
            .filter(|session| session.connections.is_empty())?;
        let session = self.sessions.remove(channel_id)?;
        Some(SoraInput::SessionDestroyed {
            channel_id: channel_id.clone(),
            session_id: session.session_id,
        })
    }

    pub(super) fn connections(&self) -> Vec<PolledConnection> {
        let of = |(channel_id, session): (&ChannelId, &Session)| {
            let (channel_id, session_id) = (channel_id.clone(), session.session_id.clone());
            let shown = session
                .connections
                .iter()
                .map(move |(connection_id, created_at)| PolledConnection {
                    channel_id: channel_id.clone(),
                    session_id: Some(session_id.clone()),
                    connection_id: connection_id.clone(),
                    client_id: None,
                    created_at: Some(*created_at),
                });
            shown.collect::<Vec<_>>()
        };
        self.sessions.iter().flat_map(of).collect()
    }

    pub(super) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn has(&self, connection_id: &ConnectionId) -> bool {
        self.sessions.values().any(|session| {
            session
                .connections
                .iter()
                .any(|(id, _)| id == connection_id)
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sessions
            .values()
            .all(|session| session.connections.is_empty())
    }
}
