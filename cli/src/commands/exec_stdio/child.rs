//! The command as a child process, and its output.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

/// Script of a shell that becomes a command, which ignores the loss of the connection (SIGHUP).
const WITHOUT_HANGUP: &str = "trap '' HUP; exec \"$@\"";

/// Bytes to copy per system call.
pub(super) const COPY_BYTES: usize = 16 * 1024;

/// Limit of the time for the rest of the output of a command that has ended: a process that it left behind may hold it open.
pub(super) const REST_MAX: Duration = Duration::from_secs(2);

/// Returns a command that goes on when the connection is lost.
pub(super) fn without_hangup(words: &[OsString]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", WITHOUT_HANGUP, "sh"]).args(words);
    command
}

/// Returns a handle of its own for a stream.
pub(super) fn own(stream: impl AsFd) -> io::Result<File> {
    stream.as_fd().try_clone_to_owned().map(File::from)
}

/// Copies to the end; without a reader the rest is dropped, so that the command never waits for one.
pub(super) fn copy(mut from: File, mut to: File) {
    let mut buffer = vec![0; COPY_BYTES];
    let mut has_reader = true;
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        let bytes = buffer.get(..bytes).unwrap_or_default();
        has_reader = has_reader && to.write_all(bytes).is_ok();
    }
}
