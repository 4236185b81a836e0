//! Announces maintenance to the clients of a session: by Sora's API, and through subscribers.

use std::sync::Arc;
use std::time::Duration;

use soramode_core::plan::calls::{SfuFailure, SfuOutcome};
use soramode_protocol::announce::AnnounceSession;
use soramode_protocol::sora_api::{SoraApi, SoraApiError};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::notifier::Notifier;

/// Timeout of a call of Sora's API about one session.
pub(crate) const CALL_TIME: Duration = Duration::from_secs(8);

/// Means of announcing.
#[derive(Clone, Debug)]
pub(crate) struct Announcer {
    api: Option<SoraApi>,
    subscribers: Notifier<Arc<AnnounceSession>>,
}

impl Announcer {
    /// Uses Sora's API, if known, and subscribers.
    pub(crate) fn new(api: Option<SoraApi>) -> Self {
        Self {
            api,
            subscribers: Notifier::default(),
        }
    }

    /// Subscribes a client that passes announcements to its own clients.
    pub(crate) fn subscribe(&self) -> mpsc::Receiver<Arc<AnnounceSession>> {
        self.subscribers.subscribe()
    }

    /// Sends a notice to the clients of a session. Returns within [`CALL_TIME`].
    pub(crate) async fn announce(&self, session: AnnounceSession) -> SfuOutcome {
        let session = Arc::new(session);
        // Subscribers are notified even if Sora is called: the session may be theirs.
        let subscribers = self.subscribers.send(&session);
        let api = match &self.api {
            Some(api) => {
                let pushed = api.push_channel(&session.channel_id, &session.notice);
                Some(outcome_within(CALL_TIME, pushed).await)
            }
            None => None,
        };
        SfuOutcome { api, subscribers }
    }
}

/// Waits for an answer of Sora's API about a channel. A channel that it does not know has no client left: nothing remains to be done.
pub(crate) async fn outcome_within(
    time: Duration,
    call: impl Future<Output = Result<bool, SoraApiError>>,
) -> Result<(), SfuFailure> {
    match timeout(time, call).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(refused @ SoraApiError::Refused { .. })) => {
            Err(SfuFailure::Refused(refused.to_string()))
        }
        Ok(Err(error)) => Err(SfuFailure::Unreachable(error.to_string())),
        Err(_) => Err(SfuFailure::Unreachable(SoraApiError::TimedOut.to_string())),
    }
}
