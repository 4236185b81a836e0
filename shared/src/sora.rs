//! Types of Sora's HTTP API, as far as soramode uses it: `POST /` with an `x-sora-target`.
//!
//! Based on Shiguredo's documentation of `Sora_20211215` and on the answers of a real Sora. Parsing
//! is lenient: Sora grows.

use serde::{Deserialize, Deserializer, Serialize};

use crate::announce::{Notice, NoticeKind};
use crate::id::{ChannelId, ClientId, ConnectionId, PlanId, SessionId};
use crate::mode::Mode;
use crate::time::Time;
use crate::wire_enum::wire_enum;

/// Name of the header that selects the operation.
pub const TARGET_HEADER: &str = "x-sora-target";

/// Name of the header for soramode's warnings about a change of the mode: the body is Sora's, and
/// has no field for them.
pub const WARNING_HEADER: &str = "x-soramode-warning";

/// Name of the header that says if the other nodes of the cluster know the mode: `true` or `false`.
pub const PUBLISHED_HEADER: &str = "x-soramode-published";

wire_enum! {
    /// Operations of Sora's API that soramode calls or answers.
    pub enum Target {
        /// Returns the mode of the node.
        GetMode = "Sora_20211215.GetMode",
        /// Changes the mode of the node.
        ChangeMode = "Sora_20211215.ChangeMode",
        /// Lists the cluster's nodes.
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
        /// Sends data to all connections of a channel.
        PushChannel = "Sora_20160711.PushChannel",
        /// Asks soramode's gate to let a connection in. No Sora knows it.
        Connect = "Soramode_20261125.Connect",
        /// Returns soramoded's own status, as on its socket. No Sora knows it.
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

/// Body of `ChangeMode`, and of the answers to `GetMode` and `ChangeMode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeBody {
    /// Mode of the node.
    pub mode: Mode,
}

/// Body of `ChangeMode`, with the reason that only a soramoded takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ChangeModeBody<'a> {
    /// Mode to enter.
    pub mode: Mode,
    /// Reason, kept with the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
}

/// The body of `ListConnections` that asks for this node's alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LocalBody {
    /// Always `true`: only this node.
    pub local: bool,
}

/// Body of `DisconnectChannel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DisconnectBody<'a> {
    /// Name of the channel.
    pub channel_id: &'a ChannelId,
    /// Reason, which Sora repeats in the webhook of each connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<DisconnectReason<'a>>,
}

/// Reason of a `DisconnectChannel` on request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DisconnectReason<'a> {
    /// `maintenance`.
    pub kind: NoticeKind,
    /// Plan that ends the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<&'a PlanId>,
}

/// Body of `PushChannel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PushBody<'a> {
    /// Name of the channel.
    pub channel_id: &'a ChannelId,
    /// Data, which each client receives.
    pub data: &'a Notice,
}

/// A connection as `ListConnections` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoraConnection {
    /// Channel of the connection.
    pub channel_id: ChannelId,
    /// Session of the connection; older Soras omit it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<SessionId>,
    /// Client that owns the connection.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "lenient"
    )]
    pub client_id: Option<ClientId>,
    /// Identifier of the connection.
    pub connection_id: ConnectionId,
    /// Time of connecting, in microseconds since the epoch.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "lenient"
    )]
    pub created_time: Option<i64>,
    /// Same time in RFC 3339 format.
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
    /// Channel of the session.
    pub channel_id: ChannelId,
    /// Identifier of the session.
    pub session_id: SessionId,
    /// Time of the session's start, in microseconds since the epoch.
    #[serde(default, deserialize_with = "lenient")]
    pub created_time: Option<i64>,
    /// Same time in RFC 3339 format.
    #[serde(default, deserialize_with = "lenient")]
    pub created_timestamp: Option<Time>,
}

/// Body of an error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SoraProblem {
    /// Type of the error.
    #[serde(default)]
    pub error_type: Option<String>,
}

/// Omits values that cannot be parsed: they are only informative.
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
    fn a_connection_is_read_without_its_optional_fields() {
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
