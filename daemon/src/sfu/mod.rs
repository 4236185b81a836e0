//! The SFU beside this daemon, and the clients of the control socket that speak for one. Each adapter has some of these parts, and none
//! has all of them:
//!
//! - a *source*, which reports the connections on the SFU to the gate;
//! - a *holder*, which applies the mode on the SFU, where that is not asked about each client;
//! - *means* to end sessions, and to announce maintenance to their clients.

pub(crate) mod announcer;
mod fence_command;
pub mod janus;
pub(crate) mod socket;
pub mod sora;
pub(crate) mod terminator;

use std::time::Duration;

use soramode_core::plan::calls::SfuFailure;
use soramode_protocol::announce::Notice;
use soramode_protocol::end::{EndMethod, EndSession};
use soramode_protocol::id::ChannelId;

use janus::JanusMeans;
use sora::SoraMeans;

/// Timeout of a call of the SFU about one session.
const CALL_TIME: Duration = Duration::from_secs(8);

/// Means of an SFU to reach the clients of a session.
#[derive(Clone, Debug)]
pub(crate) enum Means {
    /// Sora's API.
    Sora(SoraMeans),
    /// Janus's Admin API.
    Janus(JanusMeans),
}

impl Means {
    /// Has the SFU end a session. Returns within [`CALL_TIME`].
    async fn end(&self, session: &EndSession) -> Result<(), SfuFailure> {
        match self {
            Self::Sora(sora) => sora.end(session).await,
            Self::Janus(janus) => janus.end(&session.channel_id).await,
        }
    }

    /// Has the SFU send a notice to the clients of a session; `None` if it cannot. Returns within [`CALL_TIME`].
    async fn announce(
        &self,
        channel_id: &ChannelId,
        notice: &Notice,
    ) -> Option<Result<(), SfuFailure>> {
        match self {
            Self::Sora(sora) => Some(sora.announce(channel_id, notice).await),
            // VideoRoom has no message for all participants of a room.
            Self::Janus(_) => None,
        }
    }

    /// Returns the name of the means in responses.
    const fn end_method(&self) -> EndMethod {
        match self {
            Self::Sora(_) => EndMethod::SoraApi,
            Self::Janus(_) => EndMethod::JanusAdmin,
        }
    }
}
