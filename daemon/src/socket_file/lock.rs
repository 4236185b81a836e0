//! Lock file beside the socket: its holder may change the socket. It contains the holder's pid.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::SocketError;
use super::same_file::{is_same, remove_if_same};
use crate::lock_file;

/// Number of attempts if other processes keep removing the file.
const TRIES_MAX: usize = 8;

/// The lock, held. The kernel gives it back when the process ends, however it ends; a clean stop removes the file as well.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// Takes the lock of this socket without waiting for it.
    pub(super) fn take(socket: &Path) -> Result<Self, SocketError> {
        let path = lock_path(socket);
        for _ in 0..TRIES_MAX {
            let file = open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(held(socket, &path, file));
                }
                Err(TryLockError::Error(error)) => {
                    return Err(SocketError::on("lock", &path)(error));
                }
            }
            // Its holder may have removed the file after we opened it. Then this is a lock on nothing, and the next one gets another.
            if is_same(&path, &file) {
                lock_file::write_holder(&file).map_err(SocketError::on("write", &path))?;
                return Ok(Self { path, file });
            }
        }
        Err(SocketError::Running {
            path: socket.to_owned(),
            pid: None,
        })
    }
}

impl Drop for Lock {
    /// Removes the file while it is still locked, so that no other process can hold a lock of the
    /// same name.
    fn drop(&mut self) {
        remove_if_same(&self.path, &self.file);
    }
}

pub(super) fn lock_path(socket: &Path) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// Opens the file without following links, and refuses one with a second name.
fn open(path: &Path) -> Result<File, SocketError> {
    let opened = lock_file::open(path).map_err(SocketError::on("open the lock file", path))?;
    opened.ok_or_else(|| SocketError::PathConflict {
        path: path.to_owned(),
        found: "not a plain file with one name".to_owned(),
        wanted: "a lock file or not there",
    })
}

/// Another process has the lock. That it is a soramoded is believed only where no other user could have made the file.
fn held(socket: &Path, path: &Path, file: File) -> SocketError {
    match file.metadata() {
        Ok(metadata) if !lock_file::is_ours(&metadata) => SocketError::PathConflict {
            path: path.to_owned(),
            found: format!(
                "locked by another process, and belongs to another user (uid {})",
                metadata.uid()
            ),
            wanted: "soramoded's own lock file or not there",
        },
        Ok(_) | Err(_) => SocketError::Running {
            path: socket.to_owned(),
            pid: lock_file::holder(file),
        },
    }
}
