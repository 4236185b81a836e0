//! Names of the state's files.

use std::path::{Path, PathBuf};

const DATABASE: &str = "soramode.db";
pub(super) const LOCK: &str = "soramode.lock";

/// Suffixes of the files that belong to an `SQLite` database: the write-ahead log and its index.
pub(super) const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// The database of a folder.
pub fn database(folder: &Path) -> PathBuf {
    folder.join(DATABASE)
}

/// The database, and the files that belong to it.
pub(super) fn databases(folder: &Path) -> [PathBuf; 3] {
    let database = database(folder);
    let [wal, index] = COMPANIONS.map(|suffix| beside(&database, suffix));
    [wal, index, database]
}

/// The file of this name with a suffix.
pub(super) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
