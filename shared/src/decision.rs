//! Admission and bookkeeping: `Connect`, `Disconnect`, `Report`, `Explain`.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::cluster::OfferedClaim;
use crate::id::{ChannelId, ClientId, ConnectionId, NodeName, SessionId, chosen, chosen_if_any};
use crate::mode::{Mode, SettableMode};
use crate::wire_enum::wire_enum;

/// Maximum number of redirects a client follows. The node after that claims the channel if it may,
/// even if another node would suit better.
pub const HOPS_MAX: u8 = 3;

/// Lifetime of a connection's entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Lifetime {
    /// Ends with `Disconnect` only.
    #[default]
    Explicit,
    /// Ends with `Disconnect`, or `--socket-grace` after the requesting socket closed.
    Socket,
}

/// Parameters of `Connect`, the request to admit a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// Channel that the client is to join.
    #[serde(deserialize_with = "chosen")]
    #[cfg_attr(feature = "schema", schemars(extend("pattern" = crate::openrpc::NO_NUL)))]
    pub channel_id: ChannelId,
    /// Identifier of the connection; generated if absent.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "chosen_if_any"
    )]
    #[cfg_attr(feature = "schema", schemars(extend("pattern" = crate::openrpc::NO_NUL)))]
    pub connection_id: Option<ConnectionId>,
    /// Client that owns the connection.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "chosen_if_any"
    )]
    #[cfg_attr(feature = "schema", schemars(extend("pattern" = crate::openrpc::NO_NUL)))]
    pub client_id: Option<ClientId>,
    /// Lifetime of the entry.
    #[serde(skip_serializing_if = "is_explicit", default)]
    pub lifetime: Lifetime,
    /// Number of redirects the client followed to get here.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub hops: u8,
}

impl Connect {
    /// A connection of this id to this channel, held until `Disconnect`.
    pub const fn new(channel_id: ChannelId, connection_id: ConnectionId) -> Self {
        Self {
            channel_id,
            connection_id: Some(connection_id),
            client_id: None,
            lifetime: Lifetime::Explicit,
            hops: 0,
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if passes a reference"
)]
const fn is_explicit(lifetime: &Lifetime) -> bool {
    matches!(lifetime, Lifetime::Explicit)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if passes a reference"
)]
const fn is_zero(hops: &u8) -> bool {
    *hops == 0
}

wire_enum! {
    /// Reason for rejecting a connection.
    pub enum RejectReason {
        /// The node is not in its cluster.
        Initial = "INITIAL",
        /// The mode is `block_new_connection`.
        BlockNewConnection = "BLOCK-NEW-CONNECTION",
        /// The mode is `block_new_session`, and the channel has no session with a connection.
        BlockNewSession = "BLOCK-NEW-SESSION",
        /// The node holds as many connections as it may, or has as many claims under way.
        AtCapacity = "AT-CAPACITY",
        /// The channel's owner is lost, and its ownership lease may still run.
        OwnerLost = "OWNER-LOST",
    }
}

/// `Connect`'s result. A reject and a redirect are decisions, not errors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Decision {
    /// Admits the connection to the session.
    Offer {
        /// Name of the channel.
        channel_id: ChannelId,
        /// Identifier of the connection, generated if the request has none.
        connection_id: ConnectionId,
        /// Session that the connection is in.
        session_id: SessionId,
        /// `true` if this request created the session.
        created: bool,
        /// Claim of this node on the channel; only in a cluster.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        claim: Option<Box<OfferedClaim>>,
    },
    /// Rejects the connection.
    Reject {
        /// Reason for the rejection.
        reason: RejectReason,
        /// Mode that rejects it.
        mode: Mode,
        /// Milliseconds after which a retry may succeed, if known.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        retry_after_ms: Option<u64>,
    },
    /// Sends the client to another node.
    Redirect {
        /// Name of the node to try.
        node_name: NodeName,
        /// Signaling URL of that node.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        location: Option<String>,
    },
}

/// Parameters of `Disconnect`: the connection has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Disconnect {
    /// Identifier of the connection.
    pub connection_id: ConnectionId,
}

/// Result of the method `Disconnect`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Disconnected {
    /// `true` if the connection was in the table.
    pub found: bool,
    /// Channel that the connection was in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub channel_id: Option<ChannelId>,
    /// Session that the connection was in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<SessionId>,
    /// `true`, and absent then, if the removal survives a crash of the daemon. False while the
    /// state cannot be written.
    #[serde(skip_serializing_if = "std::clone::Clone::clone", default = "durable")]
    pub durable: bool,
}

const fn durable() -> bool {
    true
}

/// Connection that is live on the SFU, as its signaling server reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ReportedConnection {
    /// Channel of the connection.
    pub channel_id: ChannelId,
    /// Identifier of the connection.
    pub connection_id: ConnectionId,
    /// Client that owns the connection.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub client_id: Option<ClientId>,
    /// Identifier of the session on the SFU: used if the channel has no session here yet.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<SessionId>,
}

/// Parameters of `Report`: the connections that are live on the SFU. Bookkeeping, not admission.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Rows, as many as fit in one request. A longer report takes several requests, the last one
    /// with `complete`.
    #[serde(deserialize_with = "objects")]
    pub connections: Vec<ReportedConnection>,
    /// Completes the report: ends all connections of the control socket that were not reported
    /// since it began.
    #[serde(default)]
    pub complete: bool,
}

/// Reads a list of objects, and takes no array for one: a derived reader would take fields by their place.
fn objects<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<ReportedConnection>, D::Error> {
    struct Object(ReportedConnection);

    struct ObjectVisitor;

    impl<'de> Visitor<'de> for ObjectVisitor {
        type Value = Object;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object, A::Error> {
            ReportedConnection::deserialize(MapAccessDeserializer::new(map)).map(Object)
        }
    }

    impl<'de> Deserialize<'de> for Object {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(ObjectVisitor)
        }
    }

    Vec::<Object>::deserialize(deserializer)
        .map(|objects| objects.into_iter().map(|Object(it)| it).collect())
}

/// Result of the method `Report`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reported {
    /// Connections that were not in the table.
    pub added: u64,
    /// Connections that ended, because the complete report lacks them.
    pub removed: u64,
}

/// Parameters of the method `Explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// Channel that the new connection would join.
    pub channel_id: ChannelId,
}

/// Kind of answer to a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The connection would be admitted: the decision `offer`.
    Offer,
    /// The connection would be rejected: the decision `reject`.
    Reject,
    /// The client would be redirected: the decision `redirect`.
    Redirect,
    /// `Connect` would fail with the error `ClusterUnavailable`.
    Unavailable,
}

/// Answer to a new connection, and the decision rule behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Verdict {
    /// Kind of the answer.
    #[serde(rename = "type")]
    pub answer: Answer,
    /// Why it would be rejected.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<RejectReason>,
    /// Milliseconds after which a retry may succeed, if known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_after_ms: Option<u64>,
    /// The node it would be redirected to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub node_name: Option<NodeName>,
    /// The session it would join; absent where it would make one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<SessionId>,
    /// The number of the first decision rule that matches, 3 to 8.
    #[cfg_attr(feature = "schema", schemars(range(min = 3, max = 8)))]
    pub rule: u8,
    /// Explanation of the rule for people.
    pub explanation: String,
}

/// Result of the method `Explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Explanation {
    /// The channel asked about.
    pub channel_id: ChannelId,
    /// Present mode of the node.
    pub mode: Mode,
    /// Verdict under the present mode.
    pub now: Verdict,
    /// Verdicts under each of the modes.
    pub modes: Verdicts,
    /// Mode that a plan is about to set. The node is open, and load balancers see it as not ready.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unready_for: Option<SettableMode>,
    /// Milliseconds for which a closed node admits clients to the session although its last connection is lost.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub grace_ends_in_ms: Option<u64>,
    /// `true` if the SFU was asked to end the session: a closed node rejects new connections to it.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub is_ending: bool,
}

/// Verdicts of one request under each mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Verdicts {
    /// Verdict under the mode `normal`.
    pub normal: Verdict,
    /// Verdict under the mode `block_new_session`.
    pub block_new_session: Verdict,
    /// Verdict under the mode `block_new_connection`.
    pub block_new_connection: Verdict,
    /// Verdict under the mode `initial`.
    pub initial: Verdict,
}
