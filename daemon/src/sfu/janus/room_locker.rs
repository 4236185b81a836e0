//! Locks and unlocks Janus's rooms as the gate orders, one request after the other.

use soramode_core::locks::{LockCall, LockOutcome, LockRequest};
use tokio::sync::mpsc;

use super::admin::AdminApi;
use crate::config::RoomSecrets;
use crate::rate_limit::log_limited;

/// Locks of rooms.
#[derive(Debug)]
pub(crate) struct RoomLocker {
    pub(crate) api: AdminApi,
    pub(crate) room_secrets: Option<RoomSecrets>,
    pub(crate) orders: mpsc::UnboundedReceiver<LockCall>,
}

impl RoomLocker {
    /// Waits for the next order; for ever without an engine. Cancel safe.
    pub(super) async fn next(&mut self) -> LockCall {
        match self.orders.recv().await {
            Some(call) => call,
            None => std::future::pending().await,
        }
    }

    /// Executes an order.
    pub(super) async fn execute(&self, call: &LockCall) -> LockOutcome {
        let room = call.channel_id.as_str();
        let secret = self.room_secrets.as_ref().and_then(|it| it.of(room));
        let secret = secret.as_ref();
        let outcome = match call.request {
            LockRequest::ShowTokens => self.api.show_tokens(room, secret).await,
            LockRequest::Lock => self.api.lock(room, secret).await,
            LockRequest::Unlock => self.api.unlock(room, secret).await.map(|()| 0),
        };
        match outcome {
            Ok(tokens) => LockOutcome::Done { tokens },
            Err(error) if error.is_gone() => LockOutcome::NoRoom,
            Err(error) => {
                log_limited!(warn, room, request = ?call.request, %error, "cannot lock or unlock a room of Janus; retrying");
                if error.is_secret() {
                    LockOutcome::NoSecret
                } else {
                    LockOutcome::Unreachable
                }
            }
        }
    }
}
