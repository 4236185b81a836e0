//! Events of the log, in their order.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Deserializer;
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use crate::id::{ChannelId, ClientId, ConnectionId, EventId, NodeName, PlanId, SessionId};
use crate::mode::{Mode, ModeChange};
use crate::node::Membership;
use crate::plan::StallCause;
pub use crate::plan_event::{
    EndRequested, MaintenanceAnnounced, PlanCreated, PlanOver, PlanStepDone,
};
use crate::time::Time;
use crate::wire_enum::wire_enum;

/// Event of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Event {
    /// Sequence number in the log: 1, 2, 3, … without a gap.
    pub seq: u64,
    /// Identifier of the event, the same on every interface.
    pub id: EventId,
    /// Type of the event, and the fields that belong to it.
    #[serde(flatten)]
    pub kind: EventKind,
    /// Time of the event.
    pub timestamp: Time,
    /// Node on which it happened.
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Client disconnected from the SFU.
    Disconnected,
    /// Admitted by soramode and denied by the application.
    Denied,
    /// Admitted, but never seen connected.
    Timeout,
    /// Requesting socket was closed for longer than the grace time.
    SocketClosed,
    /// SFU reports that the connection does not exist.
    Reconciled,
    /// The SFU ended its session.
    SessionDestroyed,
    /// Session was ended on request: by a plan, or by `End`.
    Ended,
}

wire_enum! {
    /// Kind of Sora's webhook.
    pub enum WebhookSource {
        /// Webhook configured by `session_webhook_url`.
        Session = "session",
        /// Webhook configured by `event_webhook_url`.
        Event = "event",
    }
}

/// Type and fields of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type")]
pub enum EventKind {
    /// Session of a channel was created.
    #[serde(rename = "session.created")]
    SessionCreated {
        /// Name of the channel.
        channel_id: ChannelId,
        /// Identifier of the session.
        session_id: SessionId,
        /// Time of the session's start.
        created_time: Time,
        /// Fencing token of the node's claim on the channel; only in a cluster.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        token: Option<u64>,
    },
    /// A session has ended.
    #[serde(rename = "session.destroyed")]
    SessionDestroyed {
        /// Name of the channel.
        channel_id: ChannelId,
        /// Identifier of the session.
        session_id: SessionId,
        /// Time of the session's start.
        created_time: Time,
        /// Time of the session's end.
        destroyed_time: Time,
        /// Highest number of live connections at any one time.
        max_connections: u64,
        /// Live connections it had in all.
        total_connections: u64,
        /// Why its last connection ended.
        reason: EndReason,
        /// Fencing token of the node's claim on the channel; only in a cluster.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        token: Option<u64>,
    },
    /// The last session left a node that is closed to new ones.
    #[serde(rename = "session.vanished")]
    SessionVanished,
    /// A connection is live.
    #[serde(rename = "connection.created")]
    ConnectionCreated {
        /// Channel of the connection.
        channel_id: ChannelId,
        /// Session of the connection.
        session_id: SessionId,
        /// Identifier of the connection.
        connection_id: ConnectionId,
        /// Client that owns the connection.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        client_id: Option<ClientId>,
    },
    /// Connection has ended.
    #[serde(rename = "connection.destroyed")]
    ConnectionDestroyed {
        /// Channel of the connection.
        channel_id: ChannelId,
        /// Session of the connection.
        session_id: SessionId,
        /// Identifier of the connection.
        connection_id: ConnectionId,
        /// Client that owned the connection.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        client_id: Option<ClientId>,
        /// Reason for the end.
        reason: EndReason,
    },
    /// The mode, its reason or its expiry changed.
    #[serde(rename = "mode.changed")]
    ModeChanged(Box<ModeChange>),
    /// The node joined its cluster.
    #[serde(rename = "node.joined")]
    NodeJoined {
        /// Membership after the change.
        #[serde(alias = "standing")] // In states up to schema 4.
        membership: Membership,
        /// Mode after the change.
        mode: Mode,
    },
    /// The node lost contact with its cluster.
    #[serde(rename = "node.isolated")]
    NodeIsolated {
        /// Membership after the change.
        #[serde(alias = "standing")] // In states up to schema 4.
        membership: Membership,
        /// Mode after the change.
        mode: Mode,
    },
    /// The node's ownership lease has expired.
    #[serde(rename = "node.fenced")]
    NodeFenced {
        /// Membership after the change.
        #[serde(alias = "standing")] // In states up to schema 4.
        membership: Membership,
        /// Mode after the change.
        mode: Mode,
    },
    /// A webhook of Sora's passed through that is not about sessions or connections. Its body is not kept.
    #[serde(rename = "webhook.received")]
    WebhookReceived {
        /// Kind of the webhook.
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
    /// A plan was started.
    #[serde(rename = "plan.created")]
    PlanCreated(Box<PlanCreated>),
    /// A step of a plan was done.
    #[serde(rename = "plan.step")]
    PlanStep(Box<PlanStepDone>),
    /// A plan does not progress: its drain has stalled, or it has no means for its steps.
    #[serde(rename = "plan.stalled")]
    PlanStalled {
        /// Identifier of the plan.
        plan_id: PlanId,
        /// Cause, as far as it is known.
        cause: StallCause,
    },
    /// A plan is over.
    #[serde(rename = "plan.over")]
    PlanOver(Box<PlanOver>),
    /// An announcement to the clients in the sessions began.
    #[serde(rename = "maintenance.announced")]
    MaintenanceAnnounced(Box<MaintenanceAnnounced>),
    /// Sessions are going to be ended on request.
    #[serde(rename = "end.requested")]
    EndRequested(Box<EndRequested>),
    /// A type that this version does not know: a newer daemon's. Never made here.
    #[cfg_attr(feature = "schema", schemars(skip))]
    #[serde(other)]
    Unknown,
}

impl EventKind {
    /// Returns the type; `None` if this version does not know it.
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
            Self::PlanCreated(_) => Some(EventType::PlanCreated),
            Self::PlanStep(_) => Some(EventType::PlanStep),
            Self::PlanStalled { .. } => Some(EventType::PlanStalled),
            Self::PlanOver(_) => Some(EventType::PlanOver),
            Self::MaintenanceAnnounced(_) => Some(EventType::MaintenanceAnnounced),
            Self::EndRequested(_) => Some(EventType::EndRequested),
            Self::Unknown => None,
        }
    }
}

/// Outcome of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeliveryEnded {
    /// Number of the delivery.
    pub delivery_id: u64,
    /// The event that was to be delivered.
    pub event_id: EventId,
    /// The receiver's URL, without a password and a query that it may have.
    pub endpoint: String,
    /// Number of delivery attempts so far.
    pub attempts: u32,
    /// The HTTP status of the last answer, if there was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<u16>,
    /// Reason for the failure.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
}

wire_enum! {
    /// The types of events.
    #[serde(try_from = "String")]
    pub enum EventType {
        /// A session of a channel was created.
        SessionCreated = "session.created",
        /// A session has ended.
        SessionDestroyed = "session.destroyed",
        /// The last session has left a node that is closed.
        SessionVanished = "session.vanished",
        /// A connection is live.
        ConnectionCreated = "connection.created",
        /// A connection has ended.
        ConnectionDestroyed = "connection.destroyed",
        /// The mode, its reason or its expiry has changed.
        ModeChanged = "mode.changed",
        /// The node has joined its cluster.
        NodeJoined = "node.joined",
        /// The node has lost contact with its cluster.
        NodeIsolated = "node.isolated",
        /// The node's ownership lease has expired.
        NodeFenced = "node.fenced",
        /// A webhook of Sora's has passed through that is not about sessions or connections.
        WebhookReceived = "webhook.received",
        /// A receiver has an event.
        DeliverySucceeded = "delivery.succeeded",
        /// A receiver was given up for one event.
        DeliveryFailed = "delivery.failed",
        /// A plan was started.
        PlanCreated = "plan.created",
        /// A step of a plan was done.
        PlanStep = "plan.step",
        /// A plan does not progress: its drain has stalled, or it has no means for its steps.
        PlanStalled = "plan.stalled",
        /// A plan is over.
        PlanOver = "plan.over",
        /// An announcement to the clients in the sessions began.
        MaintenanceAnnounced = "maintenance.announced",
        /// Sessions are going to be ended on request.
        EndRequested = "end.requested",
    }
}

impl EventType {
    /// Returns the index in [`ALL`](Self::ALL).
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Returns true if webhooks deliver it. Delivery events would trigger more deliveries, and
    /// forwarded webhooks could loop.
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

/// Pattern of event types: the name of a type, or its beginning and a `*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct EventPattern(String);

/// A pattern that no type of event matches.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no type of event matches {0:?}; there are {names}", names = EventType::ALL.map(EventType::name).join(", "))]
pub struct NoSuchEvent(String);

impl EventPattern {
    /// Returns true if the type matches.
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
