//! Webhook deliveries: `ListDeliveries`, `ResendDelivery`.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::event::EventType;
use crate::id::EventId;
use crate::time::Time;
use crate::wire_enum::wire_enum;

wire_enum! {
    /// State of a delivery.
    pub enum DeliveryState {
        /// Deliveries that are still pending.
        Pending = "pending",
        /// The receiver has it.
        Succeeded = "succeeded",
        /// Failed for good after its retries.
        Failed = "failed",
        /// Obsolete `session.vanished`: not delivered before the node was opened again. Acting on
        /// it now would stop a node that serves.
        Obsolete = "obsolete",
    }
}

impl FromStr for DeliveryState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::from_name(text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("got {text:?}, takes {names}")
        })
    }
}

/// Delivery of one event to one receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Delivery {
    /// Counts the node's deliveries.
    pub id: u64,
    /// State of the delivery.
    pub state: DeliveryState,
    /// The receiver's URL, without a password and a query that it may have.
    pub endpoint: String,
    /// Type of the delivered event.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// Identifier of the delivered event.
    pub event_id: EventId,
    /// Sequence number of the event in the log.
    pub seq: u64,
    /// Number of delivery attempts so far.
    pub attempts: u32,
    /// Time since which the delivery is pending.
    pub created_at: Time,
    /// Time of the next attempt, while the delivery waits for it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_attempt_at: Option<Time>,
    /// Time at which the delivery succeeded or failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub finished_at: Option<Time>,
    /// The HTTP status of the last answer, if there was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<u16>,
    /// Why the last try failed, or why it was given up.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
}

/// Parameters of the method `ListDeliveries`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ListDeliveries {
    /// Limits the list to deliveries in this state.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub state: Option<DeliveryState>,
    /// Rows at most: 1 to [`LIST_LIMIT_MAX`](crate::session::LIST_LIMIT_MAX), as for the other lists.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = crate::session::LIST_LIMIT_MAX)))]
    pub limit: Option<u32>,
    /// Cursor that the previous page returned.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cursor: Option<String>,
}

/// `ListDeliveries`' result: newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Deliveries {
    /// Rows of this page.
    pub deliveries: Vec<Delivery>,
    /// Cursor of the next page; absent after the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cursor: Option<String>,
}

/// Parameters of `ResendDelivery`: send the delivery again, behind those pending for its receiver.
/// A pending one is retried at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ResendDelivery {
    /// Number of the delivery to resend.
    pub id: u64,
}
