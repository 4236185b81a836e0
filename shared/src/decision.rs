//! Admission and bookkeeping: `Connect`, `Disconnect`, `Report`, `Explain`.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::cluster::Claim;
use crate::id::{ChannelId, ClientId, ConnectionId, NodeName, SessionId, chosen, chosen_if_any};
use crate::mode::Mode;
use crate::wire_enum::wire_enum;

/// Redirects that a client follows. After so many a node that may claim the channel does so, wherever that would be better.
pub const HOPS_MAX: u8 = 3;

/// How long a connection is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifetime {
    /// Until `Disconnect`.
    #[default]
    Explicit,
    /// Until `Disconnect`, or until the socket it was asked on has been gone for the daemon's `--socket-grace`.
    Socket,
}

/// `Connect`'s params: may this client come in?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// The channel it asks for.
    #[serde(deserialize_with = "chosen")]
    pub channel_id: ChannelId,
    /// The connection; the gate makes one if it is absent.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "chosen_if_any"
    )]
    pub connection_id: Option<ConnectionId>,
    /// Whose it is.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "chosen_if_any"
    )]
    pub client_id: Option<ClientId>,
    /// How long it is held.
    #[serde(skip_serializing_if = "is_explicit", default)]
    pub lifetime: Lifetime,
    /// How many redirects the client followed to get here.
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
    /// Why a connection is not let in.
    pub enum RejectReason {
        /// The node is not in its cluster.
        Initial = "INITIAL",
        /// The mode is `block_new_connection`.
        BlockNewConnection = "BLOCK-NEW-CONNECTION",
        /// The mode is `block_new_session`, and nobody is in the channel's session.
        BlockNewSession = "BLOCK-NEW-SESSION",
        /// The node holds as many connections as it may, or has as many claims under way.
        AtCapacity = "AT-CAPACITY",
        /// The channel's node is gone, and its right to the channel may still run.
        OwnerLost = "OWNER-LOST",
    }
}

/// `Connect`'s result. A reject and a redirect are decisions, not errors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Decision {
    /// Come in.
    Offer {
        /// The channel.
        channel_id: ChannelId,
        /// The connection, made by the gate if the caller named none.
        connection_id: ConnectionId,
        /// The session it is in.
        session_id: SessionId,
        /// Whether this call made that session.
        created: bool,
        /// In a cluster: the node's right to the channel.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        claim: Option<Claim>,
    },
    /// Stay out.
    Reject {
        /// Why.
        reason: RejectReason,
        /// The mode that is so.
        mode: Mode,
        /// When it may be worth asking again, where that can be said.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        retry_after_ms: Option<u64>,
    },
    /// Ask another node.
    Redirect {
        /// Which.
        node_name: NodeName,
        /// Its signalling URL.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        location: Option<String>,
    },
}

/// `Disconnect`'s params: this connection is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disconnect {
    /// The connection.
    pub connection_id: ConnectionId,
}

/// `Disconnect`'s result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disconnected {
    /// Whether it was there.
    pub found: bool,
    /// The channel it was in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub channel_id: Option<ChannelId>,
    /// The session it was in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<SessionId>,
    /// Whether it will still be gone if the daemon ends now; absent if so. Not while the state cannot be written.
    #[serde(skip_serializing_if = "std::clone::Clone::clone", default = "durable")]
    pub durable: bool,
}

const fn durable() -> bool {
    true
}

/// A connection that is live on the SFU, as its signalling server says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportedConnection {
    /// Its channel.
    pub channel_id: ChannelId,
    /// The connection.
    pub connection_id: ConnectionId,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub client_id: Option<ClientId>,
    /// The SFU's id for the session: taken where the gate has no session for the channel yet.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<SessionId>,
}

/// `Report`'s params: what is live on the SFU already. Bookkeeping, not admission.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// As many as fit in a request; a longer report goes in several, the last with `complete`.
    #[serde(deserialize_with = "objects")]
    pub connections: Vec<ReportedConnection>,
    /// That was all: end whatever else came from the socket door and was not seen since this report began.
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

/// `Report`'s result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// Connections the gate did not have.
    pub added: u64,
    /// Connections the gate ended, because a complete report did not name them.
    pub removed: u64,
}

/// `Explain`'s params.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// The channel somebody new would ask for.
    pub channel_id: ChannelId,
}

/// What a new connection would be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// [`Decision::Offer`]
    Offer,
    /// [`Decision::Reject`]
    Reject,
    /// [`Decision::Redirect`]
    Redirect,
    /// The error `ClusterUnavailable`.
    Unavailable,
}

/// What a new connection would be answered, and the decision rule that says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The answer.
    #[serde(rename = "type")]
    pub answer: Answer,
    /// Why it would be rejected.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<RejectReason>,
    /// When it may be worth asking again, where that can be said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_after_ms: Option<u64>,
    /// The node it would be redirected to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub node_name: Option<NodeName>,
    /// The session it would join; absent where it would make one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<SessionId>,
    /// The number of the first decision rule that matches, 3 to 8.
    pub rule: u8,
    /// That rule in words.
    pub explanation: String,
}

/// `Explain`'s result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The channel asked about.
    pub channel_id: ChannelId,
    /// The mode now.
    pub mode: Mode,
    /// What would be answered now.
    pub now: Verdict,
    /// What would be answered under each mode.
    pub modes: Verdicts,
}

/// One verdict a mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    /// Under `normal`.
    pub normal: Verdict,
    /// Under `block_new_session`.
    pub block_new_session: Verdict,
    /// Under `block_new_connection`.
    pub block_new_connection: Verdict,
    /// Under `initial`.
    pub initial: Verdict,
}
