//! Sessions as `ListSessions` and `ListConnections` list them at one moment.

use std::collections::BTreeMap;

use serde::Serialize;
use soramode_protocol::id::{ChannelId, SessionId};
use soramode_protocol::sora::{SoraConnection, SoraSession};
use soramode_protocol::time::Time;

use crate::session_info::{ListedSession, SessionInfo};

/// The sessions of a node, and their counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct SessionSnapshot {
    /// Sorted by age, the oldest first.
    #[serde(skip)]
    pub(crate) list: Vec<SessionInfo>,
    pub(crate) sessions: u64,
    pub(crate) connections: u64,
}

impl SessionSnapshot {
    /// Merges the listed sessions with those of the listed connections.
    pub(super) fn of(sessions: Vec<SoraSession>, connections: Vec<SoraConnection>) -> Self {
        let mut by_id: BTreeMap<SessionKey, ListedSession> = BTreeMap::new();
        for SoraSession {
            channel_id,
            session_id,
            created_time,
            created_timestamp,
        } in sessions
        {
            let created_at = created_timestamp.or(created_time.map(Time::from_micros));
            add(&mut by_id, (channel_id, Some(session_id)), created_at);
        }
        let count = connections.len() as u64;
        for SoraConnection {
            channel_id,
            session_id,
            created_time,
            created_timestamp,
            ..
        } in connections
        {
            let created_at = created_timestamp.or(created_time.map(Time::from_micros));
            add(&mut by_id, (channel_id, session_id), created_at).connections += 1;
        }
        let mut list: Vec<ListedSession> = by_id.into_values().collect();
        list.sort_by_key(|session| (session.created_at.is_none(), session.created_at));
        Self {
            sessions: list.len() as u64,
            connections: count,
            list: list.into_iter().map(SessionInfo::Listed).collect(),
        }
    }
}

type SessionKey = (ChannelId, Option<SessionId>);

/// Adds a session once. It is as old as the oldest time that is listed for it.
fn add(
    by_id: &mut BTreeMap<SessionKey, ListedSession>,
    key: SessionKey,
    created_at: Option<Time>,
) -> &mut ListedSession {
    let (channel_id, session_id) = key.clone();
    let session = by_id.entry(key).or_insert(ListedSession {
        channel_id,
        session_id,
        created_at,
        connections: 0,
    });
    session.created_at = [session.created_at, created_at].into_iter().flatten().min();
    session
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_gathered_into_sessions_the_oldest_first() {
        let connection =
            |channel: &str, session: Option<&str>, id: &str, created: Option<i64>| SoraConnection {
                channel_id: ChannelId::new(channel).unwrap(),
                session_id: session.map(|it| SessionId::new(it).unwrap()),
                client_id: None,
                connection_id: soramode_protocol::id::ConnectionId::new(id).unwrap(),
                created_time: created,
                created_timestamp: None,
            };
        let session = |channel: &str, id: &str, created: i64| SoraSession {
            channel_id: ChannelId::new(channel).unwrap(),
            session_id: SessionId::new(id).unwrap(),
            created_time: Some(created),
            created_timestamp: None,
        };
        let connections = vec![
            connection("ham", None, "1", None),
            connection("spam", Some("B"), "2", Some(9)),
            connection("spam", Some("A"), "3", Some(7)),
            connection("spam", Some("B"), "4", Some(3)),
        ];
        let shown = |snapshot: &SessionSnapshot| -> Vec<(String, Option<i64>, u64)> {
            snapshot
                .list
                .iter()
                .map(|it| {
                    (
                        it.channel_id().to_owned(),
                        it.created_at().map(Time::as_micros),
                        it.connections(),
                    )
                })
                .collect()
        };
        let row = |channel: &str, created, connections| (channel.to_owned(), created, connections);
        let snapshot = SessionSnapshot::of(Vec::new(), connections.clone());
        assert_eq!(
            shown(&snapshot),
            [
                row("spam", Some(3), 2),
                row("spam", Some(7), 1),
                row("ham", None, 1)
            ]
        );
        assert_eq!((snapshot.sessions, snapshot.connections), (3, 4));
        // A listed session without connections counts, and one that has connections is counted
        // once.
        let snapshot = SessionSnapshot::of(
            vec![session("egg", "C", 1), session("spam", "B", 2)],
            connections,
        );
        assert_eq!(
            shown(&snapshot),
            [
                row("egg", Some(1), 0),
                row("spam", Some(2), 2),
                row("spam", Some(7), 1),
                row("ham", None, 1)
            ]
        );
        assert_eq!(SessionSnapshot::of(Vec::new(), Vec::new()).sessions, 0);
    }
}
