//! Following the events: `Subscribe`, `Unsubscribe`.

use std::fmt;

use serde::de::{self, Deserializer};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::event::EventPattern;
use crate::id::LogId;

/// Type patterns in one subscription at most.
pub const EVENT_PATTERNS_MAX: usize = 32;

/// Start of a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubscribeFrom {
    /// Starts with the next event.
    #[default]
    Now,
    /// Starts with this event, followed by all after it.
    Seq(u64),
}

impl SubscribeFrom {
    const fn is_now(&self) -> bool {
        matches!(self, Self::Now)
    }
}

impl Serialize for SubscribeFrom {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Now => serializer.serialize_str("now"),
            Self::Seq(seq) => serializer.serialize_u64(*seq),
        }
    }
}

struct FromVisitor;

impl de::Visitor<'_> for FromVisitor {
    type Value = SubscribeFrom;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"now\" or a seq from 1")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SubscribeFrom, E> {
        if text == "now" {
            Ok(SubscribeFrom::Now)
        } else {
            Err(E::invalid_value(de::Unexpected::Str(text), &self))
        }
    }

    fn visit_u64<E: de::Error>(self, seq: u64) -> Result<SubscribeFrom, E> {
        match seq {
            0 => Err(E::invalid_value(de::Unexpected::Unsigned(0), &self)),
            _ => Ok(SubscribeFrom::Seq(seq)),
        }
    }
}

impl<'de> Deserialize<'de> for SubscribeFrom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FromVisitor)
    }
}

/// Parameters of the method `Subscribe`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Subscribe {
    /// Start of the subscription.
    #[serde(skip_serializing_if = "SubscribeFrom::is_now", default)]
    pub from: SubscribeFrom,
    /// Event types to send; all if absent. At most [`EVENT_PATTERNS_MAX`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = EVENT_PATTERNS_MAX)))]
    pub types: Option<Vec<EventPattern>>,
    /// `true` if this client ends sessions on request: it then receives the notification `End`.
    /// Needs the access `operate`.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub ends: bool,
    /// `true` if this client announces to its own clients: it then receives the notification
    /// `Announce`. Needs the access `operate`.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub announcements: bool,
}

impl Subscribe {
    /// Checks the limits of the parameters.
    pub fn check(&self) -> Result<(), Error> {
        match self.types.as_ref().map(Vec::len) {
            Some(0) => Err(Error::invalid_params(
                "types",
                "is empty; leave it out for all types",
            )),
            Some(patterns) if patterns > EVENT_PATTERNS_MAX => Err(Error::invalid_params(
                "types",
                format_args!("got {patterns}, takes at most {EVENT_PATTERNS_MAX}"),
            )),
            Some(_) | None => Ok(()),
        }
    }
}

/// `Subscribe`'s result. The events follow as `Event` notifications.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Subscribed {
    /// The log that `seq` counts in.
    pub log_id: LogId,
    /// The seq that the next event will have.
    pub next_seq: u64,
    /// The oldest event that is kept; equal to `next_seq` if there is none.
    pub oldest_seq: u64,
}

/// Parameters of `Unsubscribe`; there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Unsubscribe {}

/// Result of the method `Unsubscribe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Unsubscribed {
    /// `true` if there was a subscription.
    pub found: bool,
}

/// The notification `Gap`: events that the reader asked for and that are no longer kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Gap {
    /// The first that is missing.
    pub from: u64,
    /// The last that is missing.
    pub to: u64,
}
