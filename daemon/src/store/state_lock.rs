//! Lock of a state. Its file also notes that the node has closed itself because the database could not be written, which the database cannot
//! say then. The note is written over bytes that the file has already, for which a full disk has room.

use std::fs::{File, Metadata, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::file_names::LOCK;
use super::problem::{AlreadyLocked, OpenError, Problem, Unusable, on};
use crate::lock_file::{self, PID_LINE_BYTES};

/// Bytes of the file: a line with the process id, and one with the note.
const FILE_BYTES: usize = 64;
const NOTE_BYTES: usize = FILE_BYTES - PID_LINE_BYTES;

const NOTE: &str = "closed: the state could not be written";

/// The lock, held.
#[derive(Debug)]
pub(super) struct StateLock {
    file: File,
    is_closed: bool,
    /// True if it was logged that the note cannot be removed.
    is_removal_logged: bool,
}

impl StateLock {
    /// Takes the state's lock. The kernel gives it back when the process ends, however it ends; the file stays.
    pub(super) fn take(folder: &Path) -> Result<Self, OpenError> {
        let path = folder.join(LOCK);
        let unusable = |problem| Unusable {
            folder: folder.to_owned(),
            problem,
        };
        let Some(file) = lock_file::open(&path)
            .map_err(on("open soramode.lock"))
            .map_err(unusable)?
        else {
            return Err(unusable(Problem::NotPlain(path)).into());
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(AlreadyLocked {
                    folder: folder.to_owned(),
                    pid: lock_file::holder(file),
                }
                .into());
            }
            Err(TryLockError::Error(error)) => {
                return Err(unusable(on("lock soramode.lock")(error)).into());
            }
        }
        let is_closed = has_note(&file);
        // The process id is only for people, and the note is as it was.
        let _ = write(&file, is_closed);
        Ok(Self {
            file,
            is_closed,
            is_removal_logged: false,
        })
    }

    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// Returns true if the node has closed itself, and no commit has succeeded since.
    pub(super) const fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Notes the outcome of a commit: a failed one closes the node, and a later one that succeeds has that in it.
    pub(super) fn note_commit(&mut self, is_written: bool) {
        let is_closed = !is_written;
        if self.is_closed == is_closed {
            return;
        }
        match write(&self.file, is_closed).and_then(|()| self.file.sync_data()) {
            Ok(()) => (self.is_closed, self.is_removal_logged) = (is_closed, false),
            Err(error) if is_closed => {
                // Once for each failure, not for each retry.
                self.is_closed = true;
                tracing::warn!(
                    %error,
                    "cannot note in soramode.lock that the node is closed: a restart begins with the mode that was written last"
                );
            }
            // The next commit tries it again.
            Err(error) if !self.is_removal_logged => {
                self.is_removal_logged = true;
                tracing::warn!(
                    %error,
                    "cannot remove from soramode.lock the note that the node is closed: a restart closes it"
                );
            }
            Err(_) => {}
        }
    }
}

/// Returns true if the last soramoded that used this state closed its node because the database could not be written.
pub(super) fn is_noted(folder: &Path) -> bool {
    File::open(folder.join(LOCK)).is_ok_and(|file| has_note(&file))
}

fn has_note(file: &File) -> bool {
    let mut lines = [0; FILE_BYTES];
    file.read_exact_at(&mut lines, 0).is_ok()
        && lines
            .get(PID_LINE_BYTES..)
            .is_some_and(|line| line.starts_with(NOTE.as_bytes()))
}

/// Writes the whole file, and frees none of its space.
fn write(file: &File, is_closed: bool) -> io::Result<()> {
    let note = if is_closed { NOTE } else { "" };
    let width = NOTE_BYTES - 1;
    let lines = format!("{}{note:<width$}\n", lock_file::pid_line());
    file.write_all_at(lines.as_bytes(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_note_takes_no_space_and_stays_until_a_commit_succeeds() {
        let folder = tempfile::tempdir().unwrap();
        // An older version wrote only this line.
        std::fs::write(folder.path().join(LOCK), "4711\n").unwrap();
        let mut lock = StateLock::take(folder.path()).unwrap();
        assert!(!lock.is_closed() && !is_noted(folder.path()));
        let size = lock.metadata().unwrap().size();
        lock.note_commit(false);
        drop(lock);
        assert!(is_noted(folder.path()));
        let mut lock = StateLock::take(folder.path()).unwrap();
        assert!(lock.is_closed());
        assert_eq!(lock.metadata().unwrap().size(), size);
        let Err(OpenError::AlreadyLocked(held)) = StateLock::take(folder.path()) else {
            panic!("it is locked");
        };
        assert_eq!(held.pid, i32::try_from(std::process::id()).ok());
        lock.note_commit(true);
        assert_eq!(lock.metadata().unwrap().size(), size);
        drop(lock);
        assert!(!is_noted(folder.path()));
    }
}
