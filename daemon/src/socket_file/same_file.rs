//! Checks whether a path still leads to the file that was opened there.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Removes the file unless the path leads to another one by now.
pub(super) fn remove_if_same(path: &Path, file: &File) {
    if !is_same(path, file) {
        tracing::warn!(path = %path.display(), "the socket file was replaced by another program; not removing it");
    } else if let Err(error) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "cannot remove the socket file");
    }
}

/// Returns whether the path leads to this file.
pub(super) fn is_same(path: &Path, file: &File) -> bool {
    match (fs::symlink_metadata(path), file.metadata()) {
        (Ok(there), Ok(ours)) => (there.dev(), there.ino()) == (ours.dev(), ours.ino()),
        (Err(_), _) | (_, Err(_)) => false,
    }
}
