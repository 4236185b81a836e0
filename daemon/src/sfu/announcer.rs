//! Announces maintenance to the clients of a session: by the SFU, and through subscribers.

use std::sync::Arc;

use soramode_core::plan::calls::SfuOutcome;
use soramode_protocol::announce::{AnnounceSession, Notice};
use soramode_protocol::id::{ChannelId, SessionId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::sfu::means::Means;
use crate::sfu::socket::notifier::Notifier;

/// Means of announcing.
#[derive(Clone, Debug)]
pub(crate) struct Announcer {
    means: Option<Means>,
    subscribers: Notifier<Arc<AnnounceSession>>,
}

impl Announcer {
    /// Uses the SFU's means, if there are any, and subscribers.
    pub(crate) fn new(means: Option<Means>) -> Self {
        Self {
            means,
            subscribers: Notifier::default(),
        }
    }

    /// Subscribes a client that passes announcements to its own clients. `overflow` is cancelled when it has too much unread.
    pub(crate) fn subscribe(
        &self,
        overflow: CancellationToken,
    ) -> mpsc::Receiver<Arc<AnnounceSession>> {
        self.subscribers.subscribe(overflow)
    }

    /// Returns the number of clients that pass announcements on.
    pub(crate) fn subscribers(&self) -> u64 {
        self.subscribers.subscribers()
    }

    /// Sends a notice to the clients of a session. Returns within the timeout of a call of the SFU.
    pub(crate) async fn announce(
        &self,
        channel_id: ChannelId,
        session_id: SessionId,
        notice: Arc<Notice>,
    ) -> SfuOutcome {
        // Subscribers are notified even if the SFU is called: the session may be theirs.
        let subscribers = self.subscribers.send_made(|| {
            Arc::new(AnnounceSession {
                channel_id: channel_id.clone(),
                session_id,
                notice: Notice::clone(&notice),
            })
        });
        let api = match &self.means {
            Some(means) => means.announce(&channel_id, &notice).await,
            None => None,
        };
        SfuOutcome { api, subscribers }
    }
}
