//! Health of the storage of the node's state.

use soramode_protocol::error::Error;
use soramode_protocol::node::{Storage, StorageState};

/// Health of the storage of the node's state.
pub(crate) struct StorageHealth {
    /// Storage at the start.
    configured: Storage,
    state: StorageState,
}

impl StorageHealth {
    pub(crate) const fn new(configured: Storage) -> Self {
        Self {
            state: configured.state,
            configured,
        }
    }

    pub(crate) fn is_failed(&self) -> bool {
        self.state == StorageState::Failed
    }

    /// Notes that the state cannot be written.
    pub(crate) const fn fail(&mut self) {
        self.state = StorageState::Failed;
    }

    /// Notes that the state can be written again. One that could not be used at the start needs a restart.
    pub(crate) const fn restore(&mut self) {
        self.state = self.configured.state;
    }

    /// Returns the storage as the status shows it.
    pub(crate) fn shown(&self) -> Storage {
        Storage {
            state: self.state,
            path: self.configured.path.clone(),
        }
    }

    /// Refuses a mode that could not be stored: the node stays closed, as it is.
    pub(crate) fn check_writable(&self) -> Result<(), Error> {
        if self.is_failed() {
            Err(self.refusal())
        } else {
            Ok(())
        }
    }

    /// Error for a mode that cannot be stored.
    pub(crate) fn refusal(&self) -> Error {
        match self.configured.state {
            StorageState::Failed => Error::storage_unavailable(
                "it could not be used when soramoded started, and needs a restart",
            )
            .with_hint(
                "Repair the state, restart soramoded, and run this again. To see the problem: soramode status",
            ),
            StorageState::Ok | StorageState::Memory => {
                Error::storage_unavailable("the node stays closed until it can")
                    .with_hint("Remove the cause, then run this again. To see it: soramode status")
            }
        }
    }
}
