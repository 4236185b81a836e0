//! Reading small files whole: configuration, secrets, certificates. Never more than a limit, and nothing that could make the reader wait.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use os_display::Quotable;

/// The mark that some editors put before UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Permission bits with which others than the owner may read or write.
const BITS_OF_OTHERS: u32 = 0o077;

/// Permission bits with which others than the owner may write, or users outside the group may read.
const BITS_OF_OUTSIDERS: u32 = 0o026;

/// Permission bits with which others than the owner may write.
const BITS_OF_OTHER_WRITERS: u32 = 0o022;

/// Permission bits with which any user may write.
const BIT_OF_ANY_WRITER: u32 = 0o002;

/// Checks that a file must pass before its content is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// File with a secret: must belong to this user or to root, and no other user may read or write
    /// it.
    Owner {
        /// The user that reads.
        uid: u32,
    },
    /// File with a secret that its group shares. A pipe is accepted too: `--secret-file <(pass show
    /// …)`.
    Group {
        /// The user that reads.
        uid: u32,
    },
    /// File that configures the program: must belong to this user or to root, and not be writable
    /// by every user.
    Writers {
        /// The user that reads.
        uid: u32,
    },
    /// File that names commands to run: must belong to this user or to root, and not be writable by
    /// any other user or group.
    OnlyWriter {
        /// The user that reads.
        uid: u32,
    },
    /// Checks only that it is a file.
    Nothing,
}

impl Guard {
    fn check(self, file: &Metadata, path: &Path) -> Result<(), String> {
        let is_pipe = matches!(self, Self::Group { .. }) && !file.is_dir();
        if !file.is_file() && !is_pipe {
            return Err("is not a regular file".to_owned());
        }
        let (uid, bits) = match self {
            Self::Owner { uid } => (uid, BITS_OF_OTHERS),
            Self::Group { uid } => (uid, BITS_OF_OUTSIDERS),
            Self::Writers { uid } => (uid, BIT_OF_ANY_WRITER),
            Self::OnlyWriter { uid } => (uid, BITS_OF_OTHER_WRITERS),
            Self::Nothing => return Ok(()),
        };
        if !file.is_file() {
            return Ok(());
        }
        if file.uid() != uid && file.uid() != 0 {
            let owner = file.uid();
            // Root may look at a service of another user: the owner is right then.
            let remedy = if uid == 0 {
                format!("run this command as that user (sudo -u '#{owner}'), or: chown 0")
            } else {
                format!("run: chown {uid}")
            };
            return Err(format!(
                "belongs to another user (uid {owner}); {remedy} {}",
                path.maybe_quote()
            ));
        }
        let mode = file.mode() & 0o777;
        if mode & bits != 0 {
            let remedy = mode & !bits;
            return Err(format!(
                "permissions too open ({mode:04o}); run: chmod {remedy:04o} {}",
                path.maybe_quote()
            ));
        }
        Ok(())
    }
}

/// Reads a file of at most `bytes_max` bytes. The error describes the problem.
pub fn read(path: &Path, bytes_max: u64, guard: Guard) -> Result<Vec<u8>, String> {
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    // Before it is opened: that alone would wait for the other end of a named pipe.
    guard.check(&std::fs::metadata(path).map_err(unreadable)?, path)?;
    let file = File::open(path).map_err(unreadable)?;
    guard.check(&file.metadata().map_err(unreadable)?, path)?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("has more than {bytes_max} bytes"));
    }
    Ok(bytes)
}

/// Reads a text in the same way, without the mark that some editors put before it.
pub fn read_text(path: &Path, bytes_max: u64, guard: Guard) -> Result<String, String> {
    let mut text = String::from_utf8(read(path, bytes_max, guard)?)
        .map_err(|_| "is not text in UTF-8".to_owned())?;
    if text.starts_with(BYTE_ORDER_MARK) {
        text.remove(0);
    }
    Ok(text)
}
