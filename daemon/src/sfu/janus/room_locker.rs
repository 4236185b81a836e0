//! Locks and unlocks Janus's rooms as the gate requests, one call after the other, and has Janus refuse new sessions.

use soramode_core::locks::calls::{LockCall, LockOutcome, LockRequest};
use tokio::sync::mpsc;

use super::admin::AdminApi;
use super::admin_error::AdminError;
use crate::config::RoomSecrets;
use crate::rate_limit::log_limited;

/// Calls of the gate to a Janus that holds the mode.
#[derive(Debug)]
pub(crate) struct HolderCalls {
    locks: mpsc::UnboundedSender<LockCall>,
    accept_sessions: mpsc::UnboundedSender<bool>,
}

/// Receivers of the calls.
#[derive(Debug)]
pub(crate) struct HolderCallQueue {
    pub(super) locks: mpsc::UnboundedReceiver<LockCall>,
    pub(super) accept_sessions: mpsc::UnboundedReceiver<bool>,
}

/// Locks of rooms.
#[derive(Debug)]
pub(crate) struct RoomLocker {
    pub(crate) api: AdminApi,
    pub(crate) room_secrets: Option<RoomSecrets>,
    pub(crate) queue: HolderCallQueue,
    pub(crate) refuses_sessions: bool,
}

/// Creates the queue of the calls: where the gate adds them, and where the task that makes them takes them.
pub(crate) fn holder_calls() -> (HolderCalls, HolderCallQueue) {
    let (locks, of_locks) = mpsc::unbounded_channel();
    let (accept_sessions, of_sessions) = mpsc::unbounded_channel();
    let calls = HolderCalls {
        locks,
        accept_sessions,
    };
    let queue = HolderCallQueue {
        locks: of_locks,
        accept_sessions: of_sessions,
    };
    (calls, queue)
}

impl HolderCalls {
    /// Adds a call about a lock. Once the task has ended, the daemon stops.
    pub(crate) fn lock(&self, call: LockCall) {
        self.locks.send(call).unwrap_or_default();
    }

    /// Has Janus accept new sessions, or refuse them; this overtakes locks.
    pub(crate) fn accept_sessions(&self, accept: bool) {
        self.accept_sessions.send(accept).unwrap_or_default();
    }
}

impl RoomLocker {
    /// Takes the queue out.
    pub(super) fn take_queue(&mut self) -> HolderCallQueue {
        let (_, closed) = holder_calls();
        std::mem::replace(&mut self.queue, closed)
    }

    /// Makes a call about a lock.
    pub(super) async fn call(&self, call: &LockCall) -> LockOutcome {
        match self.request(call).await {
            Ok(tokens) => LockOutcome::Done { tokens },
            Err(error) if error.is_gone() => LockOutcome::NoRoom,
            Err(error) => {
                let action = match call.request {
                    LockRequest::ShowTokens => "read the tokens of",
                    LockRequest::Lock => "lock",
                    LockRequest::Unlock => "unlock",
                };
                log_limited!(warn, url = %self.api.url(), room = %call.channel_id, %error, "cannot {action} a room of Janus; retrying");
                if error.is_secret() {
                    LockOutcome::NoSecret
                } else {
                    LockOutcome::Unreachable
                }
            }
        }
    }

    async fn request(&self, call: &LockCall) -> Result<usize, AdminError> {
        let room = self.api.room_of(&call.channel_id)?;
        let secret = self.room_secrets.as_ref().and_then(|it| it.of(&room));
        let secret = secret.as_ref();
        match call.request {
            LockRequest::ShowTokens => self.api.show_tokens(&room, secret).await,
            LockRequest::Lock => self.api.lock(&room, secret).await,
            LockRequest::Unlock => self.api.unlock(&room, secret).await.map(|()| 0),
        }
    }

    /// Makes a call about new sessions; returns whether Janus did it.
    pub(super) async fn accept_sessions(&self, accept: bool) -> bool {
        let outcome = self.api.accept_new_sessions(accept).await;
        if let Err(error) = &outcome {
            log_limited!(warn, url = %self.api.url(), accept, %error, "cannot have Janus accept or refuse new sessions; retrying");
        }
        outcome.is_ok()
    }
}
