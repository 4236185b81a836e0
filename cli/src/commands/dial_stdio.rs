//! `soramode dial-stdio`: the daemon's socket on stdin and stdout, for `soramode -H` on another host.

#![expect(clippy::doc_markdown, reason = "what clap shows as help is plain text")]

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::ssh::greeting::Greeting;

/// Bytes to copy per system call.
const COPY_BYTES: usize = 64 * 1024;

/// Connect stdin and stdout to soramoded's control socket
///
/// soramode -H runs it on the other host, over ssh. It writes one line, and then copies bytes in both directions. For a user that may do nothing
/// else, write before the key in authorized_keys: restrict,command="soramode dial-stdio"
#[derive(Debug, clap::Args)]
#[command(name = "dial-stdio", hide = true)]
pub(crate) struct Args {}

#[expect(clippy::unused_async, reason = "every verb is run alike")]
pub(crate) async fn run(_: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let cannot_copy = |problem: io::Error| {
        Failure::new(
            Exit::Failed,
            format!("cannot copy from stdin to stdout: {problem}"),
        )
    };
    let crate::endpoint::Endpoint::Local(socket) = context.node.endpoint()? else {
        return Err(Failure::new(
            Exit::Usage,
            "dial-stdio works on this machine",
        ));
    };
    let opened = socket.open_trusted();
    let line = Greeting::new(socket, opened.as_ref().err()).line();
    let line = line.map_err(|problem| cannot_copy(problem.into()))?;
    let mut stdout = File::from(own(io::stdout()).map_err(cannot_copy)?);
    if stdout.write_all(line.as_bytes()).is_err() {
        // The reader is gone.
        return Ok(Exit::Done);
    }
    let stream = match opened {
        Ok(stream) => stream,
        // The other host prints the failure that the line speaks of.
        Err(problem) => return Ok(problem.failure.exit),
    };
    copy(stream, stdout).map_err(cannot_copy)?;
    Ok(Exit::Done)
}

/// Duplicates a standard stream, so that nothing buffers it.
fn own(stream: impl AsFd) -> io::Result<OwnedFd> {
    stream.as_fd().try_clone_to_owned()
}

/// Copies until the daemon closes the socket, or the reader of stdout is gone. The end of stdin closes that direction alone.
fn copy(mut daemon: UnixStream, mut stdout: File) -> io::Result<()> {
    let mut to_daemon = daemon.try_clone()?;
    let mut stdin = File::from(own(io::stdin())?);
    // It ends with the process: nothing can wake it.
    thread::spawn(move || {
        // A daemon that closes the socket ends the other direction too.
        let _ = copy_all(&mut stdin, &mut to_daemon);
        let _ = to_daemon.shutdown(Shutdown::Write);
    });
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        if reader_is_gone(&daemon, &stdout)? {
            return Ok(());
        }
        let bytes = match daemon.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(bytes) => bytes,
            Err(problem) if problem.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return Ok(()),
        };
        if stdout
            .write_all(buffer.get(..bytes).unwrap_or_default())
            .is_err()
        {
            return Ok(());
        }
    }
}

/// Waits until the daemon has sent something; returns whether the reader of stdout is gone first.
fn reader_is_gone(daemon: &UnixStream, stdout: &File) -> io::Result<bool> {
    loop {
        let mut files = [
            PollFd::new(daemon, PollFlags::IN),
            PollFd::new(stdout, PollFlags::empty()),
        ];
        match poll(&mut files, None) {
            Ok(_) => {
                let [daemon, stdout] = files.map(|file| !file.revents().is_empty());
                return Ok(stdout && !daemon);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(problem) => return Err(problem.into()),
        }
    }
}

/// Copies at once what there is, to the end.
fn copy_all(from: &mut File, to: &mut UnixStream) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(bytes) => to.write_all(buffer.get(..bytes).unwrap_or_default())?,
            Err(problem) if problem.kind() == ErrorKind::Interrupted => {}
            Err(problem) => return Err(problem),
        }
    }
}
