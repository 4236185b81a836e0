//! Sessions and connections: `ListSessions`, `GetSession`, `ListConnections`.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::id::{ChannelId, ClientId, ConnectionId, SessionId};
use crate::time::Time;

/// Rows in a page when the caller does not say.
pub const LIST_LIMIT_DEFAULT: u32 = 100;

/// Rows in a page at most.
pub const LIST_LIMIT_MAX: u32 = 1_000;

/// How many rows a caller asks for, if that is within the limits.
pub fn page_limit(limit: Option<u32>) -> Result<u32, Error> {
    match limit {
        None => Ok(LIST_LIMIT_DEFAULT),
        Some(rows @ 1..=LIST_LIMIT_MAX) => Ok(rows),
        Some(rows) => Err(Error::invalid_params(
            "limit",
            format_args!("got {rows}, takes 1 to {LIST_LIMIT_MAX}"),
        )),
    }
}

/// One life of a channel, from its first connection until it is destroyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The channel.
    pub channel_id: ChannelId,
    /// This life of it.
    pub session_id: SessionId,
    /// When it was created.
    pub created_at: Time,
    /// Connections now; pending ones count.
    pub connections: u64,
    /// The most live connections it had at one time.
    pub max_connections: u64,
    /// Live connections it has had in all.
    pub total_connections: u64,
}

/// Whether a connection has been seen on the SFU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionState {
    /// Let in, not yet seen connected.
    Pending,
    /// Connected.
    Live,
}

/// One client in one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// The connection.
    pub connection_id: ConnectionId,
    /// Its channel.
    pub channel_id: ChannelId,
    /// The session it is in.
    pub session_id: SessionId,
    /// Whose it is, where that was said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub client_id: Option<ClientId>,
    /// Pending or live.
    pub state: ConnectionState,
    /// When it was let in; once it is live, when it was seen.
    pub created_at: Time,
}

/// `ListSessions`' params.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListSessions {
    /// Only this channel's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub channel_id: Option<ChannelId>,
    /// Rows at most: 1 to [`LIST_LIMIT_MAX`], [`LIST_LIMIT_DEFAULT`] if not said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u32>,
    /// Where the page before ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cursor: Option<String>,
}

/// `ListSessions`' result: oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// One page.
    pub sessions: Vec<Session>,
    /// Where the next page begins; absent after the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cursor: Option<String>,
}

/// `GetSession`'s params.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetSession {
    /// The session's channel.
    pub channel_id: ChannelId,
    /// Connections at most: 1 to [`LIST_LIMIT_MAX`], [`LIST_LIMIT_DEFAULT`] if not said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u32>,
    /// Where the page before ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cursor: Option<String>,
}

/// `GetSession`'s result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionDetail {
    /// The session.
    pub session: Session,
    /// One page of its connections.
    pub connections: Vec<Connection>,
    /// Where the next page begins; absent after the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cursor: Option<String>,
}

/// `ListConnections`' params.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListConnections {
    /// Only this channel's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub channel_id: Option<ChannelId>,
    /// Rows at most: 1 to [`LIST_LIMIT_MAX`], [`LIST_LIMIT_DEFAULT`] if not said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u32>,
    /// Where the page before ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cursor: Option<String>,
}

/// `ListConnections`' result, in a stable order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// One page.
    pub connections: Vec<Connection>,
    /// Where the next page begins; absent after the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cursor: Option<String>,
}

/// A request for a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListRequest {
    /// `ListSessions`
    Sessions(ListSessions),
    /// `GetSession`
    Session(GetSession),
    /// `ListConnections`
    Connections(ListConnections),
}

impl ListRequest {
    /// Rows at most, as the caller said.
    pub const fn limit(&self) -> Option<u32> {
        match self {
            Self::Sessions(list) => list.limit,
            Self::Session(get) => get.limit,
            Self::Connections(list) => list.limit,
        }
    }

    /// The same list, but this many rows, and from another place on.
    #[must_use]
    pub fn slice(&self, limit: u32, from: Option<&str>) -> Self {
        let mut slice = self.clone();
        let (rows, cursor) = match &mut slice {
            Self::Sessions(list) => (&mut list.limit, &mut list.cursor),
            Self::Session(get) => (&mut get.limit, &mut get.cursor),
            Self::Connections(list) => (&mut list.limit, &mut list.cursor),
        };
        *rows = Some(limit);
        if let Some(from) = from {
            *cursor = Some(from.to_owned());
        }
        slice
    }
}

/// A page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Page {
    /// To `ListSessions`.
    Sessions(Sessions),
    /// To `GetSession`.
    Session(Box<SessionDetail>),
    /// To `ListConnections`.
    Connections(Connections),
}

impl Page {
    /// Rows in it.
    pub const fn rows(&self) -> usize {
        match self {
            Self::Sessions(page) => page.sessions.len(),
            Self::Session(page) => page.connections.len(),
            Self::Connections(page) => page.connections.len(),
        }
    }

    /// Where the next one begins; `None` after the last.
    pub fn cursor(&self) -> Option<&str> {
        match self {
            Self::Sessions(page) => page.cursor.as_deref(),
            Self::Session(page) => page.cursor.as_deref(),
            Self::Connections(page) => page.cursor.as_deref(),
        }
    }

    /// The same, and takes it away.
    pub const fn take_cursor(&mut self) -> Option<String> {
        match self {
            Self::Sessions(page) => page.cursor.take(),
            Self::Session(page) => page.cursor.take(),
            Self::Connections(page) => page.cursor.take(),
        }
    }
}
