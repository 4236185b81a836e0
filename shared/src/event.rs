//! Events: what happened, in order.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Deserializer;
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use crate::id::{ChannelId, ClientId, ConnectionId, EventId, NodeName, SessionId};
use crate::mode::{Mode, ModeChange};
use crate::node::Membership;
use crate::time::Time;
use crate::wire_enum::wire_enum;

/// One event of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its place in the log: 1, 2, 3, … without a gap.
    pub seq: u64,
    /// Its id, the same wherever it is told.
    pub id: EventId,
    /// What happened: `type` and the fields that go with it.
    #[serde(flatten)]
    pub kind: EventKind,
    /// When.
    pub timestamp: Time,
    /// Where.
    #[serde(
        serialize_with = "serialize_shared",
        deserialize_with = "deserialize_shared"
    )]
    pub node_name: Arc<NodeName>,
}

fn serialize_shared<S: Serializer>(name: &Arc<NodeName>, serializer: S) -> Result<S::Ok, S::Error> {
    name.as_ref().serialize(serializer)
}

fn deserialize_shared<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Arc<NodeName>, D::Error> {
    NodeName::deserialize(deserializer).map(Arc::new)
}

/// Why a connection, or a session with its last one, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// It left.
    Disconnected,
    /// It was let in by the gate and refused by the application.
    Denied,
    /// It was let in and did not come.
    Timeout,
    /// The socket it hung on was gone for the grace time.
    SocketClosed,
    /// The SFU says that it is not there.
    Reconciled,
    /// The SFU ended its session.
    SessionDestroyed,
}

wire_enum! {
    /// Which of Sora's webhooks.
    pub enum WebhookSource {
        /// `session_webhook_url`
        Session = "session",
        /// `event_webhook_url`
        Event = "event",
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum EventKind {
    /// A channel came to life.
    #[serde(rename = "session.created")]
    SessionCreated {
        /// The channel.
        channel_id: ChannelId,
        /// This life of it.
        session_id: SessionId,
        /// When it began.
        created_time: Time,
        /// In a cluster: the fencing token of the node's right to the channel.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        token: Option<u64>,
    },
    /// A channel's life ended.
    #[serde(rename = "session.destroyed")]
    SessionDestroyed {
        /// The channel.
        channel_id: ChannelId,
        /// The life that ended.
        session_id: SessionId,
        /// When it began.
        created_time: Time,
        /// When it ended.
        destroyed_time: Time,
        /// The most live connections it had at one time.
        max_connections: u64,
        /// Live connections it had in all.
        total_connections: u64,
        /// Why its last connection ended.
        reason: EndReason,
        /// In a cluster: the fencing token of the node's right to the channel.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        token: Option<u64>,
    },
    /// The last session left a node that is closed to new ones.
    #[serde(rename = "session.vanished")]
    SessionVanished,
    /// A connection is live.
    #[serde(rename = "connection.created")]
    ConnectionCreated {
        /// Its channel.
        channel_id: ChannelId,
        /// Its session.
        session_id: SessionId,
        /// The connection.
        connection_id: ConnectionId,
        /// Whose it is.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        client_id: Option<ClientId>,
    },
    /// A connection ended.
    #[serde(rename = "connection.destroyed")]
    ConnectionDestroyed {
        /// Its channel.
        channel_id: ChannelId,
        /// Its session.
        session_id: SessionId,
        /// The connection.
        connection_id: ConnectionId,
        /// Whose it was.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        client_id: Option<ClientId>,
        /// Why.
        reason: EndReason,
    },
    /// The mode, its reason or its expiry changed.
    #[serde(rename = "mode.changed")]
    ModeChanged(Box<ModeChange>),
    /// The node joined its cluster.
    #[serde(rename = "node.joined")]
    NodeJoined {
        /// Its membership now.
        #[serde(alias = "standing")] // In states up to schema 4.
        membership: Membership,
        /// Its mode now.
        mode: Mode,
    },
    /// The node lost contact with its cluster.
    #[serde(rename = "node.isolated")]
    NodeIsolated {
        /// Its membership now.
        #[serde(alias = "standing")] // In states up to schema 4.
        membership: Membership,
        /// Its mode now.
        mode: Mode,
    },
    /// The node's right to its channels is over.
    #[serde(rename = "node.fenced")]
    NodeFenced {
        /// Its membership now.
        #[serde(alias = "standing")] // In states up to schema 4.
        membership: Membership,
        /// Its mode now.
        mode: Mode,
    },
    /// A webhook of Sora's passed through that is not about sessions or connections. Its body is not kept.
    #[serde(rename = "webhook.received")]
    WebhookReceived {
        /// By which door.
        source: WebhookSource,
        /// Sora's own type for it, such as `recording.started`.
        sora_type: String,
    },
    /// A receiver has an event.
    #[serde(rename = "delivery.succeeded")]
    DeliverySucceeded(Box<DeliveryEnded>),
    /// A receiver was given up for one event.
    #[serde(rename = "delivery.failed")]
    DeliveryFailed(Box<DeliveryEnded>),
    /// A type that this version does not know: a newer daemon's. Never made here.
    #[serde(other)]
    Unknown,
}

impl EventKind {
    /// Its type; `None` where this version does not know it.
    pub const fn event_type(&self) -> Option<EventType> {
        match self {
            Self::SessionCreated { .. } => Some(EventType::SessionCreated),
            Self::SessionDestroyed { .. } => Some(EventType::SessionDestroyed),
            Self::SessionVanished => Some(EventType::SessionVanished),
            Self::ConnectionCreated { .. } => Some(EventType::ConnectionCreated),
            Self::ConnectionDestroyed { .. } => Some(EventType::ConnectionDestroyed),
            Self::ModeChanged(_) => Some(EventType::ModeChanged),
            Self::NodeJoined { .. } => Some(EventType::NodeJoined),
            Self::NodeIsolated { .. } => Some(EventType::NodeIsolated),
            Self::NodeFenced { .. } => Some(EventType::NodeFenced),
            Self::WebhookReceived { .. } => Some(EventType::WebhookReceived),
            Self::DeliverySucceeded(_) => Some(EventType::DeliverySucceeded),
            Self::DeliveryFailed(_) => Some(EventType::DeliveryFailed),
            Self::Unknown => None,
        }
    }
}

/// How a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryEnded {
    /// The delivery.
    pub delivery_id: u64,
    /// The event that was to be delivered.
    pub event_id: EventId,
    /// The receiver's URL, without a password and a query that it may have.
    pub endpoint: String,
    /// How often it was tried.
    pub attempts: u32,
    /// The HTTP status of the last answer, if there was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<u16>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
}

wire_enum! {
    /// The types of events.
    #[serde(try_from = "String")]
    pub enum EventType {
        /// `session.created`
        SessionCreated = "session.created",
        /// `session.destroyed`
        SessionDestroyed = "session.destroyed",
        /// `session.vanished`
        SessionVanished = "session.vanished",
        /// `connection.created`
        ConnectionCreated = "connection.created",
        /// `connection.destroyed`
        ConnectionDestroyed = "connection.destroyed",
        /// `mode.changed`
        ModeChanged = "mode.changed",
        /// `node.joined`
        NodeJoined = "node.joined",
        /// `node.isolated`
        NodeIsolated = "node.isolated",
        /// `node.fenced`
        NodeFenced = "node.fenced",
        /// `webhook.received`
        WebhookReceived = "webhook.received",
        /// `delivery.succeeded`
        DeliverySucceeded = "delivery.succeeded",
        /// `delivery.failed`
        DeliveryFailed = "delivery.failed",
    }
}

impl EventType {
    /// Its place in [`ALL`](Self::ALL).
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether it can be delivered by webhook: what tells of deliveries would feed itself, and so might what came by one.
    pub const fn is_deliverable(self) -> bool {
        !matches!(
            self,
            Self::WebhookReceived | Self::DeliverySucceeded | Self::DeliveryFailed
        )
    }
}

impl FromStr for EventType {
    type Err = NoSuchEvent;

    fn from_str(text: &str) -> Result<Self, NoSuchEvent> {
        Self::from_name(text).ok_or_else(|| NoSuchEvent(text.to_owned()))
    }
}

impl TryFrom<String> for EventType {
    type Error = NoSuchEvent;

    fn try_from(text: String) -> Result<Self, NoSuchEvent> {
        Self::from_name(&text).ok_or(NoSuchEvent(text))
    }
}

/// Which events: a type's name, or its beginning and a `*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct EventPattern(String);

/// A pattern that no type of event matches.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no type of event matches {0:?}; there are {names}", names = EventType::ALL.map(EventType::name).join(", "))]
pub struct NoSuchEvent(String);

impl EventPattern {
    /// Whether this type matches.
    pub fn matches(&self, event_type: EventType) -> bool {
        match self.0.strip_suffix('*') {
            Some(start) => event_type.name().starts_with(start),
            None => event_type.name() == self.0,
        }
    }
}

impl FromStr for EventPattern {
    type Err = NoSuchEvent;

    fn from_str(text: &str) -> Result<Self, NoSuchEvent> {
        let pattern = Self(text.to_owned());
        let matches_any = EventType::ALL
            .into_iter()
            .any(|event_type| pattern.matches(event_type));
        if matches_any {
            Ok(pattern)
        } else {
            Err(NoSuchEvent(text.to_owned()))
        }
    }
}

impl TryFrom<String> for EventPattern {
    type Error = NoSuchEvent;

    fn try_from(text: String) -> Result<Self, NoSuchEvent> {
        text.parse()
    }
}

impl From<EventPattern> for String {
    fn from(pattern: EventPattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for EventPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_stands_in_its_place() {
        for (place, event_type) in EventType::ALL.into_iter().enumerate() {
            assert_eq!(event_type.index(), place, "{}", event_type.name());
        }
    }
}
