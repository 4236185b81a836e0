//! Sessions that the SFU is to end: `End`. The only thing that soramode does that cuts anybody off.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::id::{ChannelId, SessionId};

/// `End`'s params: one channel, or all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// The channel whose session is to end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub channel_id: Option<ChannelId>,
    /// Every session is to end.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub all: bool,
}

impl End {
    /// Checks that it says which.
    pub fn check(&self) -> Result<(), Error> {
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

/// How sessions are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndMethod {
    /// Sora's `DisconnectChannel`.
    SoraApi,
    /// The notification `End` to each subscriber that said `ends: true`.
    Subscribers,
}

/// `End`'s result: what was asked for. The sessions are over when their connections have left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Sessions that the SFU was asked to end.
    pub sessions: u64,
    /// How they are ended.
    pub via: EndMethod,
    /// Sessions that it could not be asked for.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub failed: u64,
    /// Why it could not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
}

/// The notification `End`: the SFU shall end this session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndSession {
    /// Its channel.
    pub channel_id: ChannelId,
    /// The session.
    pub session_id: SessionId,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks in this way")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}
