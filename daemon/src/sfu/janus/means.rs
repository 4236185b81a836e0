//! Janus's Admin API as means to end sessions. In the way `lock` the room is locked before; in the way `ask` its clients may come back at
//! once.

use soramode_core::plan::calls::SfuFailure;
use soramode_protocol::id::ChannelId;
use tokio::time::timeout;

use super::admin::AdminApi;
use super::admin_error::AdminError;
use crate::args::janus::{JanusEnd, JanusWay};
use crate::config::{JanusConfig, RoomSecrets, Secret};
use crate::sfu::timeouts::CALL_TIME;

/// Means to end sessions on Janus.
#[derive(Clone, Debug)]
pub(crate) struct JanusMeans {
    api: AdminApi,
    room_secrets: Option<RoomSecrets>,
    end: JanusEnd,
    /// Number of times that the participants of a room are listed and removed, at most.
    kick_rounds: u32,
}

/// Clients that were joining while the room was locked are found by the second list.
const KICK_ROUNDS_LOCKED: u32 = 3;

impl JanusMeans {
    pub(crate) fn new(settings: &JanusConfig, api: AdminApi) -> Self {
        Self {
            api,
            room_secrets: settings.room_secrets.clone(),
            end: settings.end,
            kick_rounds: match settings.way {
                // The room is not locked, so that clients may come back at any time.
                JanusWay::Ask => 1,
                JanusWay::Lock => KICK_ROUNDS_LOCKED,
            },
        }
    }

    /// Removes the participants of a room, and the room where that is configured. Returns within [`CALL_TIME`].
    pub(crate) async fn end(&self, channel_id: &ChannelId) -> Result<(), SfuFailure> {
        let ended = async {
            let room = self.api.room_of(channel_id)?;
            let secret = self.room_secrets.as_ref().and_then(|it| it.of(&room));
            match self.end {
                JanusEnd::Kick => self.kick_all(&room, secret.as_ref()).await,
                JanusEnd::Destroy => done_if_gone(self.api.destroy(&room, secret.as_ref()).await),
            }
        };
        let outcome = timeout(CALL_TIME, ended)
            .await
            .unwrap_or(Err(AdminError::TimedOut));
        outcome.map_err(|error| {
            let problem = self.describe(&error);
            match error {
                AdminError::Refused { .. } => SfuFailure::Refused(problem),
                AdminError::Unreachable(_)
                | AdminError::TimedOut
                | AdminError::Unreadable(_)
                | AdminError::Unlisted
                | AdminError::TooLarge => SfuFailure::Unreachable(problem),
            }
        })
    }

    /// Describes a failed end: `Janus's Admin API at http://127.0.0.1:7088/admin (kick) answered 421: Unauthorized`.
    fn describe(&self, error: &AdminError) -> String {
        let url = self.api.url();
        let operation = match self.end {
            JanusEnd::Kick => "kick",
            JanusEnd::Destroy => "destroy",
        };
        match error {
            AdminError::Unreachable(_) | AdminError::TimedOut => {
                format!("Janus's Admin API at {url} ({operation}): {error}")
            }
            AdminError::Refused { .. } if error.is_secret() => format!(
                "Janus's Admin API at {url} ({operation}) {error}; give the room's secret in --janus-room-secrets-file"
            ),
            AdminError::Refused { .. }
            | AdminError::Unreadable(_)
            | AdminError::Unlisted
            | AdminError::TooLarge => format!("Janus's Admin API at {url} ({operation}) {error}"),
        }
    }

    async fn kick_all(&self, room: &str, secret: Option<&Secret>) -> Result<(), AdminError> {
        for _ in 0..self.kick_rounds {
            let participants = self.api.list_participants(room).await?;
            if participants.is_empty() {
                break;
            }
            for participant in participants {
                done_if_gone(self.api.kick(room, &participant.id, secret).await)?;
            }
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
