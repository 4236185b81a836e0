//! The sessions and connections of a node, page by page: a daemon sends many pages, Sora's API one list.

use serde::Serialize;
use soramode_protocol::id::{ChannelId, ClientId, ConnectionId, SessionId};
use soramode_protocol::session::{
    Connection, ConnectionState, LIST_LIMIT_MAX, ListConnections, ListSessions,
};
use soramode_protocol::sora::SoraConnection;
use soramode_protocol::time::Time;

use crate::daemon::Daemon;
use crate::error::Failure;
use crate::node::Node;
use crate::session_info::SessionInfo;

/// A connection as a daemon reports it, or as Sora's API lists it: without the pending ones.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ConnectionInfo {
    pub(crate) connection_id: ConnectionId,
    pub(crate) channel_id: ChannelId,
    /// Missing from older Soras.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) session_id: Option<SessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_id: Option<ClientId>,
    pub(crate) state: ConnectionState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created_at: Option<Time>,
}

impl From<Connection> for ConnectionInfo {
    fn from(connection: Connection) -> Self {
        Self {
            connection_id: connection.connection_id,
            channel_id: connection.channel_id,
            session_id: Some(connection.session_id),
            client_id: connection.client_id,
            state: connection.state,
            created_at: Some(connection.created_at),
        }
    }
}

impl From<SoraConnection> for ConnectionInfo {
    fn from(connection: SoraConnection) -> Self {
        let created_at = connection
            .created_timestamp
            .or(connection.created_time.map(Time::from_micros));
        Self {
            connection_id: connection.connection_id,
            channel_id: connection.channel_id,
            session_id: connection.session_id,
            client_id: connection.client_id,
            state: ConnectionState::Live,
            created_at,
        }
    }
}

/// Pages of sessions or connections.
pub(crate) enum Pages<'a, Query, Row> {
    /// The connection, and the query for the next page if there is one.
    Daemon(Daemon<'a>, Option<Query>),
    /// The whole list, until it is taken.
    Listed(Option<Vec<Row>>),
}

pub(crate) type SessionPages<'a> = Pages<'a, ListSessions, SessionInfo>;
pub(crate) type ConnectionPages<'a> = Pages<'a, ListConnections, ConnectionInfo>;

/// Lists the sessions of a node, or of one of its channels, oldest first.
pub(crate) async fn sessions(
    node: Node<'_>,
    channel_id: Option<ChannelId>,
) -> Result<SessionPages<'_>, Failure> {
    if let Node::Api(api) = node {
        let mut list = api.snapshot().await?.list;
        list.retain(|session| is_in(session.channel_id(), channel_id.as_ref()));
        return Ok(Pages::Listed(Some(list)));
    }
    Ok(sessions_of(node.connect().await?, channel_id))
}

/// Lists the sessions of a daemon, or of one of its channels, oldest first.
pub(crate) const fn sessions_of(
    daemon: Daemon<'_>,
    channel_id: Option<ChannelId>,
) -> SessionPages<'_> {
    let query = ListSessions {
        channel_id,
        limit: Some(LIST_LIMIT_MAX),
        cursor: None,
    };
    Pages::Daemon(daemon, Some(query))
}

/// Lists the connections of a node, or of one of its channels, in no order.
pub(crate) async fn connections(
    node: Node<'_>,
    channel_id: Option<ChannelId>,
) -> Result<ConnectionPages<'_>, Failure> {
    if let Node::Api(api) = node {
        let list = api.connections().await?.into_iter();
        let list = list.map(ConnectionInfo::from);
        let list = list.filter(|it| is_in(it.channel_id.as_str(), channel_id.as_ref()));
        return Ok(Pages::Listed(Some(list.collect())));
    }
    let query = ListConnections {
        channel_id,
        limit: Some(LIST_LIMIT_MAX),
        cursor: None,
    };
    Ok(Pages::Daemon(node.connect().await?, Some(query)))
}

fn is_in(channel: &str, wanted: Option<&ChannelId>) -> bool {
    wanted.is_none_or(|wanted| wanted.as_str() == channel)
}

impl SessionPages<'_> {
    /// Returns the next page, or `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<SessionInfo>>, Failure> {
        match self {
            Self::Listed(list) => Ok(list.take()),
            Self::Daemon(daemon, next) => {
                let Some(query) = next.take() else {
                    return Ok(None);
                };
                let page = daemon.call(&query).await?;
                *next = page.cursor.map(|cursor| ListSessions {
                    cursor: Some(cursor),
                    ..query
                });
                Ok(Some(
                    page.sessions.into_iter().map(SessionInfo::Full).collect(),
                ))
            }
        }
    }
}

impl ConnectionPages<'_> {
    /// Returns the next page, or `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<ConnectionInfo>>, Failure> {
        match self {
            Self::Listed(list) => Ok(list.take()),
            Self::Daemon(daemon, next) => {
                let Some(query) = next.take() else {
                    return Ok(None);
                };
                let page = daemon.call(&query).await?;
                *next = page.cursor.map(|cursor| ListConnections {
                    cursor: Some(cursor),
                    ..query
                });
                let rows = page.connections.into_iter().map(ConnectionInfo::from);
                Ok(Some(rows.collect()))
            }
        }
    }
}
