//! The method `End`: sessions for the SFU to end. It is the only method that disconnects clients.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::id::{ChannelId, EndId, PlanId, SessionId};
use crate::mode::{REASON_BYTES_MAX, check_length};
use crate::number::is_zero;
use crate::plan::EndRate;

/// `End`'s params: one channel, or all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Channel of the session to end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub channel_id: Option<ChannelId>,
    /// Every session is to end.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub all: bool,
    /// Reason, recorded with the event and sent to subscribers with `ends: true`. At most
    /// [`REASON_BYTES_MAX`] bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(length(max = REASON_BYTES_MAX)))]
    pub reason: Option<String>,
    /// Rate; as fast as the SFU answers if absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub per_minute: Option<EndRate>,
}

impl End {
    /// Checks that the request names what to end.
    pub fn check(&self) -> Result<(), Error> {
        check_length("reason", self.reason.as_deref(), REASON_BYTES_MAX)?;
        match (&self.channel_id, self.all) {
            (Some(_), false) | (None, true) => Ok(()),
            (Some(_), true) => Err(Error::invalid_params(
                "all",
                "got true together with a channel_id, takes one of the two",
            )),
            (None, false) => Err(Error::invalid_params(
                "channel_id",
                "is missing, takes a channel, or set all: true",
            )),
        }
    }
}

/// Means of ending sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EndMethod {
    /// Calls `DisconnectChannel` of Sora's API.
    SoraApi,
    /// Removes the participants of the room by Janus's Admin API.
    JanusAdmin,
    /// Sends the notification `End` to each subscriber with `ends: true`.
    Subscribers,
}

/// Result of `End`: the requests that were made. A session ends when its connections have left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ended {
    /// Sessions that the SFU was asked to end.
    pub sessions: u64,
    /// Means by which they are ended.
    pub via: EndMethod,
    /// Sessions that it could not be asked for.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub failed: u64,
    /// Why it could not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
    /// Identifier of the request, for `Wait`; absent if there was no session.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<EndId>,
}

/// The notification `End`: the SFU shall end this session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EndSession {
    /// Channel of the session.
    pub channel_id: ChannelId,
    /// Identifier of the session.
    pub session_id: SessionId,
    /// Plan that ends it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plan_id: Option<PlanId>,
    /// Reason that the operator gave.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}
