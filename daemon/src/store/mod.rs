//! Store of the gate's records: a database with a writer thread, or memory alone.

pub mod archive;
mod check;
mod checkpointer;
mod connections;
mod durability;
mod event_blob;
mod file_names;
mod files;
pub mod load;
mod membership;
mod meta;
pub mod open;
mod parallel_load;
mod plans;
mod problem;
mod reservation;
mod rows;
pub mod schema;
mod session_changes;
mod start;
mod state_lock;
mod statements;
mod write;
mod write_error;
mod writer_thread;

use std::path::Path;

use soramode_core::effect::Record;

pub use self::check::check;
pub use self::write_error::WriteError;
pub use self::writer_thread::{Disk, WalSize};

/// Store of records. They are safe once [`commit`](Self::commit) has succeeded.
#[derive(Debug)]
pub enum Store {
    /// Keeps nothing after the daemon's end.
    Memory,
    /// Writes to a database.
    Disk(Disk),
}

impl Store {
    /// Commits records, all or none, and gives them back.
    pub async fn commit(&self, records: Vec<Record>) -> (Vec<Record>, Result<(), WriteError>) {
        match self {
            Self::Memory => (records, Ok(())),
            Self::Disk(disk) => disk.commit(records).await,
        }
    }

    /// The size of the write-ahead log, where there is one.
    pub fn wal_size(&self) -> Option<WalSize> {
        match self {
            Self::Memory => None,
            Self::Disk(disk) => Some(disk.wal_size()),
        }
    }

    /// The database, where there is one.
    pub fn database(&self) -> Option<&Path> {
        match self {
            Self::Memory => None,
            Self::Disk(disk) => Some(disk.database()),
        }
    }
}
#[cfg(test)]
mod tests;
