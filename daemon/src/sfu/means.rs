//! Means of the SFU to reach the clients of a session.

use soramode_core::plan::calls::SfuFailure;
use soramode_protocol::announce::Notice;
use soramode_protocol::end::EndSession;
use soramode_protocol::id::ChannelId;

use super::janus::JanusMeans;
use super::sora::SoraMeans;

/// Means of an SFU to reach the clients of a session.
#[derive(Clone, Debug)]
pub(crate) enum Means {
    /// Sora's API.
    Sora(SoraMeans),
    /// Janus's Admin API.
    Janus(JanusMeans),
}

impl Means {
    /// Has the SFU end a session. Returns within [`CALL_TIME`](super::timeouts::CALL_TIME).
    pub(super) async fn end(&self, session: &EndSession) -> Result<(), SfuFailure> {
        match self {
            Self::Sora(sora) => sora.end(session).await,
            Self::Janus(janus) => janus.end(&session.channel_id).await,
        }
    }

    /// Has the SFU send a notice to the clients of a session; `None` if it cannot. Returns within [`CALL_TIME`](super::timeouts::CALL_TIME).
    pub(super) async fn announce(
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
}
