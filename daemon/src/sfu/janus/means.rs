//! Janus's Admin API as means to end sessions. Clients of a room that is not locked may come back at once.

use soramode_core::plan::calls::SfuFailure;
use soramode_protocol::id::ChannelId;
use tokio::time::timeout;

use super::admin::{AdminApi, AdminError};
use crate::args::janus::JanusEnd;
use crate::config::{JanusConfig, RoomSecrets, Secret};
use crate::sfu::CALL_TIME;

/// Means to end sessions on Janus.
#[derive(Clone, Debug)]
pub(crate) struct JanusMeans {
    api: AdminApi,
    room_secrets: Option<RoomSecrets>,
    end: JanusEnd,
}

impl JanusMeans {
    pub(crate) fn new(settings: &JanusConfig, api: AdminApi) -> Self {
        Self {
            api,
            room_secrets: settings.room_secrets.clone(),
            end: settings.end,
        }
    }

    /// Removes the participants of a room, and the room where that is configured. Returns within [`CALL_TIME`].
    pub(crate) async fn end(&self, channel_id: &ChannelId) -> Result<(), SfuFailure> {
        let room = channel_id.as_str();
        let secret = self.room_secrets.as_ref().and_then(|it| it.of(room));
        let ended = async {
            match self.end {
                JanusEnd::Kick => self.kick_all(room, secret.as_ref()).await,
                JanusEnd::Destroy => done_if_gone(self.api.destroy(room, secret.as_ref()).await),
            }
        };
        let outcome = timeout(CALL_TIME, ended)
            .await
            .unwrap_or(Err(AdminError::TimedOut));
        outcome.map_err(|error| {
            if error.is_secret() {
                let hint = "give the room's secret in --janus-room-secrets-file";
                return SfuFailure::Refused(format!("Janus {error}; {hint}"));
            }
            match error {
                AdminError::Refused { .. } => SfuFailure::Refused(format!("Janus {error}")),
                _ => SfuFailure::Unreachable(format!("Janus: {error}")),
            }
        })
    }

    async fn kick_all(&self, room: &str, secret: Option<&Secret>) -> Result<(), AdminError> {
        for participant in self.api.list_participants(room).await? {
            done_if_gone(self.api.kick(room, &participant.id, secret).await)?;
        }
        Ok(())
    }
}

/// A room or a participant that is not there needs no end.
fn done_if_gone(outcome: Result<(), AdminError>) -> Result<(), AdminError> {
    match outcome {
        Err(error) if error.is_gone() => Ok(()),
        outcome => outcome,
    }
}
