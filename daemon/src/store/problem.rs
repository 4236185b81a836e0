//! Problems with a stored state, each with its remedy.

use std::io;
use std::path::{Path, PathBuf};

use os_display::Quotable;
use rusqlite::ErrorCode;

use super::file_names::database;
use super::schema::SCHEMA;

/// Another daemon writes to this state.
#[derive(Debug, thiserror::Error)]
#[error("the state in {} is in use by a running soramoded{}", folder.display(), pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
pub struct AlreadyLocked {
    /// Folder of the state.
    pub folder: PathBuf,
    /// Process that holds it, if known.
    pub pid: Option<i32>,
}

impl AlreadyLocked {
    /// Remedy for the operator.
    pub const HINT: &str = "Pass a --state-dir of its own to this soramoded, or --ephemeral";
}

/// A state that cannot be used. Nothing was changed in it.
#[derive(Debug, thiserror::Error)]
#[error("the state in {} cannot be used: {problem}", folder.display())]
pub struct Unusable {
    /// Folder of the state.
    pub folder: PathBuf,
    /// Problem of the state.
    pub problem: Problem,
}

impl Unusable {
    /// Remedy for the operator.
    pub fn hint(&self) -> String {
        self.problem.hint(&self.folder)
    }
}

/// Why the state is not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon has it.
    #[error(transparent)]
    AlreadyLocked(#[from] AlreadyLocked),
    /// State cannot be used.
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

/// Problem with a state.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A later version wrote it.
    #[error("a newer soramoded wrote it (schema {0}, this one knows up to {SCHEMA})")]
    Newer(i32),
    /// Database of another program.
    #[error("soramode.db is another program's database")]
    Foreign,
    /// Database is damaged.
    #[error("it is damaged ({0})")]
    Damaged(rusqlite::Error),
    /// Database is damaged, as a full check showed.
    #[error("it is damaged ({0})")]
    Inconsistent(String),
    /// Database cannot be opened or written.
    #[error("it cannot be opened or written ({0})")]
    Database(rusqlite::Error),
    /// Disk has no space left.
    #[error("the disk is full ({0})")]
    Full(rusqlite::Error),
    /// Another process holds a lock on it.
    #[error("another process has locked it ({0})")]
    Locked(rusqlite::Error),
    /// The folder belongs to a user that is neither root nor the daemon's.
    #[error("its folder belongs to another user (uid {0})")]
    FolderOfAnother(u32),
    /// Other users may write to the folder.
    #[error("other users may write to its folder (mode {0:04o})")]
    FolderForOthers(u32),
    /// A file in the place of the folder, or above it.
    #[error("it is not a folder, or a file is in the place of one above it")]
    NotFolder,
    /// A link, or something else that no soramoded has made.
    #[error("{} is a link, or not a regular file with one name", .0.display())]
    NotPlain(PathBuf),
    /// A system call failed.
    #[error("cannot {what}: {error}")]
    System {
        /// Operation that failed.
        what: &'static str,
        /// Error that the system returned.
        error: io::Error,
    },
}

impl Problem {
    fn hint(&self, folder: &Path) -> String {
        let quoted = folder.maybe_quote();
        let files = format!(
            "move soramode.db, soramode.db-wal and soramode.db-shm out of {quoted}, all three"
        );
        match self {
            Self::Newer(_) => {
                format!(
                    "Install that version again; or, to begin with an empty state, stop soramoded, {files}, and start it again. {EMPTY_STATE}"
                )
            }
            Self::Foreign => "Pass a --state-dir of its own to soramoded".to_owned(),
            Self::Damaged(_) => format!(
                "Stop soramoded; {files}; put a backup in their place, or begin with an empty state; and start soramoded again. \
                 {EMPTY_STATE}. To see what is damaged, run: soramoded --check-state --state-dir {quoted}"
            ),
            Self::Inconsistent(_) => {
                format!(
                    "Stop soramoded; {files}; put a backup in their place, or begin with an empty state; and start soramoded again. {EMPTY_STATE}"
                )
            }
            Self::Database(error) => match error.sqlite_error_code() {
                // SQLite reports this also if a file cannot grow.
                Some(ErrorCode::SystemIoFailure) => {
                    "Free disk space, or repair the disk, and restart soramoded".to_owned()
                }
                _ => accessible(),
            },
            Self::Full(_) => FREE_SPACE.to_owned(),
            Self::Locked(_) => {
                format!(
                    "Find that process with: fuser -v {}. End it, and restart soramoded",
                    database(folder).maybe_quote()
                )
            }
            Self::FolderOfAnother(_) => {
                "Pass a --state-dir that soramoded creates itself, or run soramoded as that user"
                    .to_owned()
            }
            Self::FolderForOthers(_) => {
                format!("Run: chmod go-w {quoted}. Then restart soramoded")
            }
            Self::NotFolder => "Move that file away, and restart soramoded".to_owned(),
            Self::NotPlain(path) => {
                format!("Move {} away, and restart soramoded", path.maybe_quote())
            }
            Self::System { error, .. }
                if [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded]
                    .contains(&error.kind()) =>
            {
                FREE_SPACE.to_owned()
            }
            Self::System { error, .. } if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                "Mount that file system for writing, and restart soramoded".to_owned()
            }
            Self::System { .. } => accessible(),
        }
    }

    /// Returns true if the same state can be used later, once the disk or the system lets it.
    pub(super) const fn is_passing(&self) -> bool {
        match self {
            Self::Database(_) | Self::Full(_) | Self::Locked(_) | Self::System { .. } => true,
            Self::Newer(_)
            | Self::Foreign
            | Self::Damaged(_)
            | Self::Inconsistent(_)
            | Self::FolderOfAnother(_)
            | Self::FolderForOthers(_)
            | Self::NotFolder
            | Self::NotPlain(_) => false,
        }
    }

    /// Rewords the problem for `--check-state`, which names no further check.
    pub(super) fn after_check(self) -> Self {
        if let Self::Damaged(error) = self {
            Self::Inconsistent(error.to_string())
        } else {
            self
        }
    }
}

/// A new state is open, and knows nothing of the SFU's clients.
const EMPTY_STATE: &str = "An empty state starts open and assumes that the SFU has no clients. If clients may be connected, start it once with: \
                           soramoded --mode block_new_session --assume-incomplete";

const FREE_SPACE: &str = "Free disk space, and restart soramoded";

fn accessible() -> String {
    let uid = rustix::process::geteuid().as_raw();
    format!(
        "Give soramoded's user (uid {uid}) read and write access to the state, and restart soramoded"
    )
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            // None: a value that is no mode, no id or no JSON.
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) | None => {
                Self::Damaged(error)
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked(error),
            Some(ErrorCode::DiskFull) => Self::Full(error),
            Some(_) => Self::Database(error),
        }
    }
}

/// Converts a system error; a file in place of a folder is a problem of its own.
pub(super) fn on<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Problem {
    move |error| {
        let error = error.into();
        if error.kind() == io::ErrorKind::NotADirectory {
            Problem::NotFolder
        } else {
            Problem::System { what, error }
        }
    }
}
