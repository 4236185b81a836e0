//! Reads files with secrets.

use std::path::Path;

use soramode_protocol::small_file::{self, Guard};

/// Reads a file with secrets, of at most `bytes_max` bytes. The error describes the problem.
pub(super) fn read_secret(path: &Path, bytes_max: u64) -> Result<String, String> {
    small_file::read_text(path, bytes_max, Guard::Owner { uid: own_uid() })
}

/// The user that this process runs as.
pub(super) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}
