//! A session as a daemon reports it, or as Sora's API lists it.

use serde::Serialize;
use soramode_protocol::id::{ChannelId, SessionId};
use soramode_protocol::session::Session;
use soramode_protocol::time::Time;

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum SessionInfo {
    /// A session of soramoded.
    Full(Session),
    /// A session in the lists of Sora's API.
    Listed(ListedSession),
}

/// A session in the lists of Sora's API, without its past.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ListedSession {
    pub(crate) channel_id: ChannelId,
    /// Missing from older Soras.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) session_id: Option<SessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created_at: Option<Time>,
    pub(crate) connections: u64,
}

impl SessionInfo {
    pub(crate) fn channel_id(&self) -> &str {
        match self {
            Self::Full(session) => session.channel_id.as_str(),
            Self::Listed(session) => session.channel_id.as_str(),
        }
    }

    pub(crate) fn session_id(&self) -> Option<&str> {
        match self {
            Self::Full(session) => Some(session.session_id.as_str()),
            Self::Listed(session) => session.session_id.as_ref().map(SessionId::as_str),
        }
    }

    pub(crate) const fn created_at(&self) -> Option<Time> {
        match self {
            Self::Full(session) => Some(session.created_at),
            Self::Listed(session) => session.created_at,
        }
    }

    pub(crate) const fn connections(&self) -> u64 {
        match self {
            Self::Full(session) => session.connections,
            Self::Listed(session) => session.connections,
        }
    }

    /// Returns the number of pending ones of its connections; a Sora's list has none.
    pub(crate) const fn pending(&self) -> u64 {
        match self {
            Self::Full(session) => session.pending,
            Self::Listed(_) => 0,
        }
    }

    pub(crate) fn max_connections(&self) -> Option<u64> {
        match self {
            // The maximum counts live connections; the present ones include pending ones.
            Self::Full(session) => Some(session.max_connections.max(session.connections)),
            Self::Listed(_) => None,
        }
    }

    pub(crate) fn total_connections(&self) -> Option<u64> {
        match self {
            Self::Full(session) => Some(session.total_connections.max(session.connections)),
            Self::Listed(_) => None,
        }
    }
}
