//! Webhook deliveries: `ListDeliveries`, `ResendDelivery`.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::event::EventType;
use crate::id::EventId;
use crate::time::Time;
use crate::wire_enum::wire_enum;

wire_enum! {
    /// What became of a delivery.
    pub enum DeliveryState {
        /// Still to be delivered.
        Pending = "pending",
        /// The receiver has it.
        Succeeded = "succeeded",
        /// Given up.
        Failed = "failed",
        /// A `session.vanished` that was not delivered before the node was opened again: whoever acted on it now would stop a node that serves.
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

/// One event on its way to one receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Counts the node's deliveries.
    pub id: u64,
    /// What became of it.
    pub state: DeliveryState,
    /// The receiver's URL, without a password and a query that it may have.
    pub endpoint: String,
    /// The event's type.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// The event.
    pub event_id: EventId,
    /// Its place in the log.
    pub seq: u64,
    /// How often it was tried.
    pub attempts: u32,
    /// Since when it is owed.
    pub created_at: Time,
    /// When it is tried again, while it waits for that.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_attempt_at: Option<Time>,
    /// When it succeeded or was given up.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub finished_at: Option<Time>,
    /// The HTTP status of the last answer, if there was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<u16>,
    /// Why the last try failed, or why it was given up.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
}

/// `ListDeliveries`' params.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListDeliveries {
    /// Only these.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub state: Option<DeliveryState>,
    /// Rows at most: 1 to [`LIST_LIMIT_MAX`](crate::session::LIST_LIMIT_MAX), as for the other lists.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u32>,
    /// Where the page before ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cursor: Option<String>,
}

/// `ListDeliveries`' result: newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deliveries {
    /// One page.
    pub deliveries: Vec<Delivery>,
    /// Where the next page begins; absent after the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cursor: Option<String>,
}

/// `ResendDelivery`'s params: deliver it once more, behind what its receiver is owed already. One that is pending is tried at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResendDelivery {
    /// Which.
    pub id: u64,
}
