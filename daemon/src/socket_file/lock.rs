//! The lock file beside the socket: whoever holds it may touch the socket. It has the holder's pid in it.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::{SocketError, is_same, remove_if_same};
use crate::pid;

/// How often the lock is tried while others remove it under our hands.
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
                    return Err(SocketError::Running { path: socket.to_owned(), pid: pid::read(file) });
                }
                Err(TryLockError::Error(error)) => return Err(SocketError::on("lock", &path)(error)),
            }
            // Its holder may have removed the file after we opened it. Then this is a lock on nothing, and the next one gets another.
            if is_same(&path, &file) {
                pid::write(&file).map_err(SocketError::on("write", &path))?;
                return Ok(Self { path, file });
            }
        }
        Err(SocketError::Running { path: socket.to_owned(), pid: None })
    }
}

impl Drop for Lock {
    /// While it is still held, so that nobody can hold the same name meanwhile.
    fn drop(&mut self) {
        remove_if_same(&self.path, &self.file);
    }
}

pub(super) fn lock_path(socket: &Path) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// Neither a link to another's file is followed nor a second name of one written to.
fn open(path: &Path) -> Result<File, SocketError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)).map_err(SocketError::on("open the lock file", path))?;
    let file = File::from(file);
    let metadata = file.metadata().map_err(SocketError::on("look at the lock file", path))?;
    if metadata.is_file() && metadata.nlink() <= 1 {
        return Ok(file);
    }
    let found = "not a plain file with one name".to_owned();
    Err(SocketError::InTheWay { path: path.to_owned(), found, wanted: "a lock file or not there" })
}
