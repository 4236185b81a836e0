//! Slots for clients: of all, of viewers and of each user.

use std::sync::Arc;

use soramode_protocol::access::Access;
use soramode_protocol::error::{Error, ErrorType};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::yield_now;

use super::peer::Peer;
use super::shares::{Share, Shares};

/// Maximum number of clients.
pub const CLIENTS_MAX: usize = 1_024;

/// Slots among [`CLIENTS_MAX`] that are kept for clients that may operate.
pub const OPERATOR_SLOTS: usize = 16;

/// Slots that viewers of one user may have.
pub const VIEWER_SLOTS_OF_USER_MAX: usize = 512;

/// Maximum number of clients with a user look-up in progress. They have no slot; more are rejected.
pub const UNIDENTIFIED_CLIENTS_MAX: usize = 256;

/// Maximum number of clients of one user that are being looked up.
pub const UNIDENTIFIED_CLIENTS_OF_USER_MAX: usize = 128;

/// Passes of the runtime before an operator is rejected for want of a slot. Viewers, which may come
/// in a flood, are rejected after one.
const OPERATOR_SLOT_RETRIES: usize = 32;

/// Clients with a user look-up in progress.
pub(super) struct UnidentifiedClients {
    all: Arc<Semaphore>,
    of_user: Shares,
}

/// Permit of a client with a user look-up in progress.
pub(super) struct UnidentifiedClient {
    _any: OwnedSemaphorePermit,
    _share: Share,
}

impl UnidentifiedClients {
    pub(super) fn new() -> Self {
        Self {
            all: Arc::new(Semaphore::new(UNIDENTIFIED_CLIENTS_MAX)),
            of_user: Shares::new(UNIDENTIFIED_CLIENTS_OF_USER_MAX),
        }
    }

    pub(super) fn take(&self, uid: u32) -> Result<UnidentifiedClient, Full> {
        let share = self.of_user.take(uid).ok_or(Full::UnidentifiedOfUser)?;
        let any = Arc::clone(&self.all)
            .try_acquire_owned()
            .map_err(|_| Full::Unidentified)?;
        Ok(UnidentifiedClient {
            _any: any,
            _share: share,
        })
    }
}

/// Slots for identified clients. A client has none before its user is known: a surplus of viewers
/// takes no slot from operators.
pub(super) struct ClientSlots {
    all: Arc<Semaphore>,
    view: Arc<Semaphore>,
    view_of_user: Shares,
}

/// Slot of one client.
pub(super) struct Slot {
    _any: OwnedSemaphorePermit,
    _view: Option<(OwnedSemaphorePermit, Share)>,
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Clients,
    Viewers,
    ViewersOfUser,
    Unidentified,
    UnidentifiedOfUser,
}

impl Full {
    pub(super) fn error(self) -> Error {
        let unidentified = |clients| {
            let message = format!("too many clients ({clients}) are being identified");
            Error::new(ErrorType::TooManyClients, message).with_hint("Try again")
        };
        match self {
            Self::Clients => Error::too_many_clients(CLIENTS_MAX),
            Self::Viewers => Error::too_many_clients(CLIENTS_MAX - OPERATOR_SLOTS),
            Self::ViewersOfUser => Error::too_many_clients(VIEWER_SLOTS_OF_USER_MAX),
            Self::Unidentified => unidentified(UNIDENTIFIED_CLIENTS_MAX),
            Self::UnidentifiedOfUser => unidentified(UNIDENTIFIED_CLIENTS_OF_USER_MAX),
        }
    }
}

impl ClientSlots {
    pub(super) fn new() -> Self {
        Self {
            all: Arc::new(Semaphore::new(CLIENTS_MAX)),
            view: Arc::new(Semaphore::new(CLIENTS_MAX - OPERATOR_SLOTS)),
            view_of_user: Shares::new(VIEWER_SLOTS_OF_USER_MAX),
        }
    }

    /// Takes a slot, giving the tasks of disconnected clients time to release theirs.
    pub(super) async fn take_with_retries(&self, peer: &Peer) -> Result<Slot, Full> {
        let turns = match peer.access {
            Access::Operate => OPERATOR_SLOT_RETRIES,
            Access::View => 1,
        };
        for _ in 0..turns {
            if let Ok(slot) = self.take(peer.access, peer.uid) {
                return Ok(slot);
            }
            yield_now().await;
        }
        self.take(peer.access, peer.uid)
    }

    fn take(&self, access: Access, uid: u32) -> Result<Slot, Full> {
        let view = match access {
            Access::Operate => None,
            Access::View => {
                let share = self.view_of_user.take(uid).ok_or(Full::ViewersOfUser)?;
                let view = Arc::clone(&self.view)
                    .try_acquire_owned()
                    .map_err(|_| Full::Viewers)?;
                Some((view, share))
            }
        };
        let any = Arc::clone(&self.all)
            .try_acquire_owned()
            .map_err(|_| Full::Clients)?;
        Ok(Slot {
            _any: any,
            _view: view,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_find_a_slot_when_viewers_do_not() {
        let slots = ClientSlots::new();
        let mut viewers: Vec<Slot> = Vec::new();
        for uid in 0..2 {
            while let Ok(slot) = slots.take(Access::View, uid) {
                viewers.push(slot);
            }
            assert!(
                viewers.len() <= (1 + usize::try_from(uid).unwrap()) * VIEWER_SLOTS_OF_USER_MAX,
                "no user has all places"
            );
        }
        assert_eq!(viewers.len(), CLIENTS_MAX - OPERATOR_SLOTS);
        let operators: Vec<Slot> = (0..OPERATOR_SLOTS)
            .map_while(|_| slots.take(Access::Operate, 0).ok())
            .collect();
        assert_eq!(operators.len(), OPERATOR_SLOTS);
        assert!(matches!(slots.take(Access::Operate, 0), Err(Full::Clients)));
        viewers.pop();
        assert!(
            slots.take(Access::Operate, 0).is_ok(),
            "a place that became free is anybody's"
        );
        let last = slots.take(Access::View, 2);
        assert!(last.is_ok() && slots.take(Access::View, 3).is_err());
    }
}
