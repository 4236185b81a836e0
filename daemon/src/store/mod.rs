//! Where the gate's records are committed.

use soramode_core::effect::Record;
use soramode_protocol::node::{Storage, StorageState};

/// A store. What it was given is safe when [`commit`](Self::commit) returns.
#[derive(Debug)]
pub enum Store {
    /// In memory: nothing outlives the daemon, so nothing has to be written.
    Memory,
}

impl Store {
    /// Commits records, all or none.
    pub fn commit(&mut self, _records: &[Record]) -> impl Future<Output = ()> {
        match self {
            Self::Memory => std::future::ready(()),
        }
    }

    /// Where it is, as `status` says.
    pub const fn storage(&self) -> Storage {
        match self {
            Self::Memory => Storage { state: StorageState::Memory, path: None },
        }
    }
}
