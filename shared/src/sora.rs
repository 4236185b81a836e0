//! The words of Sora's HTTP API, as far as soramode speaks it: `POST /` with an `x-sora-target`.
//!
//! Facts from Shiguredo's documentation of `Sora_20211215` and from what a real Sora answers. What is read is read leniently: Sora grows.

use serde::{Deserialize, Deserializer, Serialize};

use crate::id::{ChannelId, ClientId, ConnectionId, SessionId};
use crate::mode::Mode;
use crate::time::Time;
use crate::wire_enum::wire_enum;

/// The header that names what is asked for.
pub const TARGET_HEADER: &str = "x-sora-target";

/// The header in which soramode says what did not go with a change of the mode: the body is Sora's, and has no place for it.
pub const WARNING_HEADER: &str = "x-soramode-warning";

/// The header in which soramode says whether the other nodes of its cluster know of the mode: `true` or `false`.
pub const PUBLISHED_HEADER: &str = "x-soramode-published";

wire_enum! {
    /// What soramode asks a Sora, or answers in its place.
    pub enum Target {
        /// The mode.
        GetMode = "Sora_20211215.GetMode",
        /// Another mode.
        ChangeMode = "Sora_20211215.ChangeMode",
        /// The cluster's nodes.
        ListClusterNodes = "Sora_20211215.ListClusterNodes",
        /// All connections of the node.
        ListConnections = "Sora_20201013.ListConnections",
        /// All connections of a channel.
        ListChannelConnections = "Sora_20201013.ListChannelConnections",
        /// All sessions of the node.
        ListSessions = "Sora_20231220.ListSessions",
        /// Statistics of each connection.
        GetStatsAllConnections = "Sora_20171101.GetStatsAllConnections",
        /// Statistics of the node.
        GetStatsReport = "Sora_20171010.GetStatsReport",
        /// Ends all connections of a channel.
        DisconnectChannel = "Sora_20151104.DisconnectChannel",
        /// Asks soramode's gate to let a connection in. No Sora knows it.
        Connect = "Soramode_20261125.Connect",
        /// soramoded's own status, as its socket tells it. No Sora knows it.
        GetStatus = "Soramode_20261201.GetStatus",
    }
}

impl Target {
    /// Returns the operation alone, without the version.
    pub fn operation(self) -> &'static str {
        let (_, operation) = self.name().split_once('.').unwrap_or_default();
        operation
    }
}

/// The body of `ChangeMode` and of what `GetMode` and `ChangeMode` answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeBody {
    /// The mode.
    pub mode: Mode,
}

/// The body of `ListConnections` that asks for this node's alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LocalBody {
    /// Always true.
    pub local: bool,
}

/// The body of whatever is about one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelBody {
    /// The channel.
    pub channel_id: ChannelId,
}

/// A connection as `ListConnections` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoraConnection {
    /// Its channel.
    pub channel_id: ChannelId,
    /// Its session; older Soras do not say.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<SessionId>,
    /// Whose it is.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "lenient"
    )]
    pub client_id: Option<ClientId>,
    /// The connection.
    pub connection_id: ConnectionId,
    /// When it came, in microseconds since the epoch.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "lenient"
    )]
    pub created_time: Option<i64>,
    /// The same as RFC 3339.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "lenient"
    )]
    pub created_timestamp: Option<Time>,
}

/// A session as `ListSessions` shows it, as far as it is read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SoraSession {
    /// Its channel.
    pub channel_id: ChannelId,
    /// The session.
    pub session_id: SessionId,
    /// When it began, in microseconds since the epoch.
    #[serde(default, deserialize_with = "lenient")]
    pub created_time: Option<i64>,
    /// The same as RFC 3339.
    #[serde(default, deserialize_with = "lenient")]
    pub created_timestamp: Option<Time>,
}

/// An error's body.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SoraProblem {
    /// Its type.
    #[serde(default)]
    pub error_type: Option<String>,
}

/// What cannot be read is left out: it only decorates.
pub(crate) fn lenient<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Maybe<T> {
        Is(T),
        Other(serde::de::IgnoredAny),
    }
    Ok(match Maybe::deserialize(deserializer)? {
        Maybe::Is(value) => Some(value),
        Maybe::Other(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_read_with_what_there_is() {
        let full = r#"{"channel_id":"spam","session_id":"A","client_id":"alice","connection_id":"c","created_time":1748747045899000,
            "created_timestamp":"2025-06-01T03:04:05.899000Z","role":"sendrecv","new":[null]}"#;
        let read: SoraConnection = serde_json::from_str(full).unwrap();
        assert_eq!(
            read.created_timestamp.unwrap().as_micros(),
            read.created_time.unwrap()
        );
        let bare: SoraConnection =
            serde_json::from_str(r#"{"channel_id":"spam","connection_id":"c","client_id":""}"#)
                .unwrap();
        assert_eq!(
            (bare.session_id, bare.client_id, bare.created_timestamp),
            (None, None, None)
        );
        for wrong in [
            r#"{"channel_id":"spam"}"#,
            r#"{"channel_id":"","connection_id":"c"}"#,
        ] {
            assert!(
                serde_json::from_str::<SoraConnection>(wrong).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn targets_are_found_by_their_names() {
        for target in Target::ALL {
            assert_eq!(Target::from_name(target.name()), Some(target));
        }
        assert_eq!(Target::from_name("Sora_20211215.getmode"), None);
    }
}
