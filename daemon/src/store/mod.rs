//! Where the gate's records are committed: a database that a thread of its own writes, or memory alone.

pub mod archive;
mod check;
mod copier;
mod disk;
mod ends;
mod facts;
mod files;
mod lines;
pub mod load;
mod membership;
pub mod open;
pub mod schema;
mod tally;
mod trouble;
mod write;

use std::path::Path;

use soramode_core::effect::Record;

pub use self::check::check;
pub use self::disk::{Disk, LogSize, WriteError};

/// A store. What it was given is safe once [`commit`](Self::commit) has succeeded.
#[derive(Debug)]
pub enum Store {
    /// Nothing outlives the daemon, so nothing has to be written.
    Memory,
    /// A database.
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
    pub fn log_size(&self) -> Option<LogSize> {
        match self {
            Self::Memory => None,
            Self::Disk(disk) => Some(disk.log_size()),
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
