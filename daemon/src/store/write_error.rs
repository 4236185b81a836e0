//! Why records were not committed, with the remedy.

use std::io;
use std::path::{Path, PathBuf};

use os_display::Quotable;
use rusqlite::ErrorCode;

/// Why records were not committed: none of them was.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Database returned an error.
    #[error("{0}")]
    Database(#[from] rusqlite::Error),
    /// Database was deleted, and could not be written again.
    #[error("{} was deleted or moved, and cannot be written again: {problem}", path.display())]
    Lost {
        /// Path of the database.
        path: PathBuf,
        /// Description of the problem.
        problem: String,
    },
    /// Another file has the database's name.
    #[error("another file is in the place of {}", .0.display())]
    Replaced(PathBuf),
    /// Files cannot be accessed.
    #[error("cannot access {}: {error}", path.display())]
    Unseen {
        /// Path of the database.
        path: PathBuf,
        /// Error that the system returned.
        error: io::Error,
    },
}

impl WriteError {
    /// Remedy for the operator, for a database that is there.
    pub fn remedy(&self, database: &Path) -> String {
        match self {
            Self::Database(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                    format!(
                        "Find the process that has locked it with: fuser -v {}; and end it",
                        database.maybe_quote()
                    )
                }
                Some(ErrorCode::DiskFull) => "Free disk space".to_owned(),
                Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                    format!(
                        "Give soramoded's user write access to {}, and to its -wal and -shm files; and restart soramoded",
                        database.maybe_quote()
                    )
                }
                // Most failed system calls, such as a write past a quota, are reported without the system's error.
                _ => "Free disk space, or repair the disk".to_owned(),
            },
            Self::Lost { path, .. } => format!(
                "Put {} back, or give soramoded's user write access to its folder",
                path.maybe_quote()
            ),
            Self::Replaced(path) => format!(
                "Restart soramoded to use that file; or move {} away with its -wal and -shm, and soramoded writes its own again",
                path.maybe_quote()
            ),
            Self::Unseen { path, .. } => {
                format!("Give soramoded's user access to {}", path.maybe_quote())
            }
        }
    }
}
