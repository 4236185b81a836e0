//! Sessions and connections: `ListSessions`, `GetSession`, `ListConnections`.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::id::{ChannelId, ClientId, ConnectionId, SessionId};
use crate::number::is_zero;
use crate::time::Time;

/// Default number of rows in a page.
pub const LIST_LIMIT_DEFAULT: u32 = 100;

/// Rows in a page at most.
pub const LIST_LIMIT_MAX: u32 = 1_000;

/// Checks the number of rows that a caller requests.
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

/// Session: one life of a channel, from its first connection until it is destroyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Session {
    /// Name of the channel.
    pub channel_id: ChannelId,
    /// Identifier of the session.
    pub session_id: SessionId,
    /// Time of the session's creation.
    pub created_at: Time,
    /// Connections now; pending ones count.
    pub connections: u64,
    /// Pending ones of these; absent if there are none.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub pending: u64,
    /// Highest number of live connections at any one time.
    pub max_connections: u64,
    /// Live connections it has had in all.
    pub total_connections: u64,
}

/// State of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ConnectionState {
    /// Admitted, but not yet seen connected.
    Pending,
    /// Seen connected on the SFU.
    Live,
}

/// Connection: one client in one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Connection {
    /// Identifier of the connection.
    pub connection_id: ConnectionId,
    /// Channel of the connection.
    pub channel_id: ChannelId,
    /// Session of the connection.
    pub session_id: SessionId,
    /// Client that owns the connection, if named.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub client_id: Option<ClientId>,
    /// State: pending or live.
    pub state: ConnectionState,
    /// Time of admission; once live, the time when it was first seen connected.
    pub created_at: Time,
}

/// Parameters of the method `ListSessions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ListSessions {
    /// Limits the list to this channel.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub channel_id: Option<ChannelId>,
    /// Maximum number of rows: 1 to [`LIST_LIMIT_MAX`]; default [`LIST_LIMIT_DEFAULT`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = LIST_LIMIT_MAX)))]
    pub limit: Option<u32>,
    /// Cursor that the previous page returned.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cursor: Option<String>,
}

/// `ListSessions`' result: oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sessions {
    /// Rows of this page.
    pub sessions: Vec<Session>,
    /// Cursor of the next page; absent after the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cursor: Option<String>,
}

/// Parameters of the method `GetSession`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GetSession {
    /// Channel of the session.
    pub channel_id: ChannelId,
    /// Maximum number of connections: 1 to [`LIST_LIMIT_MAX`]; default [`LIST_LIMIT_DEFAULT`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = LIST_LIMIT_MAX)))]
    pub limit: Option<u32>,
    /// Cursor that the previous page returned.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cursor: Option<String>,
}

/// Result of the method `GetSession`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionDetail {
    /// Session of the channel.
    pub session: Session,
    /// Connections of this page.
    pub connections: Vec<Connection>,
    /// Cursor of the next page; absent after the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cursor: Option<String>,
}

/// Parameters of the method `ListConnections`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ListConnections {
    /// Limits the list to this channel.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub channel_id: Option<ChannelId>,
    /// Maximum number of rows: 1 to [`LIST_LIMIT_MAX`]; default [`LIST_LIMIT_DEFAULT`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = LIST_LIMIT_MAX)))]
    pub limit: Option<u32>,
    /// Cursor that the previous page returned.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cursor: Option<String>,
}

/// `ListConnections`' result, in a stable order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Connections {
    /// Rows of this page.
    pub connections: Vec<Connection>,
    /// Cursor of the next page; absent after the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cursor: Option<String>,
}

/// A request for a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListRequest {
    /// Request of the method `ListSessions`.
    Sessions(ListSessions),
    /// Request of the method `GetSession`.
    Session(GetSession),
    /// Request of the method `ListConnections`.
    Connections(ListConnections),
}

impl ListRequest {
    /// Returns the maximum number of rows that the caller requested.
    pub const fn limit(&self) -> Option<u32> {
        match self {
            Self::Sessions(list) => list.limit,
            Self::Session(get) => get.limit,
            Self::Connections(list) => list.limit,
        }
    }

    /// Returns the same list with another number of rows and another cursor.
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

/// Page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Page {
    /// Answer to the method `ListSessions`.
    Sessions(Sessions),
    /// Answer to the method `GetSession`.
    Session(Box<SessionDetail>),
    /// Answer to the method `ListConnections`.
    Connections(Connections),
}

impl Page {
    /// Returns the number of rows.
    pub const fn rows(&self) -> usize {
        match self {
            Self::Sessions(page) => page.sessions.len(),
            Self::Session(page) => page.connections.len(),
            Self::Connections(page) => page.connections.len(),
        }
    }

    /// Returns the cursor of the next page; `None` after the last.
    pub fn cursor(&self) -> Option<&str> {
        match self {
            Self::Sessions(page) => page.cursor.as_deref(),
            Self::Session(page) => page.cursor.as_deref(),
            Self::Connections(page) => page.cursor.as_deref(),
        }
    }

    /// Takes the cursor of the next page out of the page.
    pub const fn take_cursor(&mut self) -> Option<String> {
        match self {
            Self::Sessions(page) => page.cursor.take(),
            Self::Session(page) => page.cursor.take(),
            Self::Connections(page) => page.cursor.take(),
        }
    }
}
