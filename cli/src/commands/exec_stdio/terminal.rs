//! A terminal of the command's own. The one that ssh has opened hangs up when the connection is lost; this one lasts as long as the command.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Stdin, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use rustix::process::{ioctl_tiocsctty, setsid};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{
    OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};
use tokio::process::Command as AsyncCommand;
use tokio::signal::unix::{SignalKind, signal};

use super::child::{COPY_BYTES, REST_MAX, copy, own, without_hangup};
use crate::error::shell_code;

/// Number of times that a command is told the end of its input after the connection was lost. Some programs ask again.
const ENDS_OF_INPUT_MAX: usize = 64 * 1024;

/// Runs a command to its end on a terminal of its own, which this process copies from and to that of ssh; returns its exit code.
pub(super) async fn execute(words: &[OsString]) -> io::Result<u8> {
    let (ours, theirs) = open()?;
    let mut resized = signal(SignalKind::window_change())?;
    let outer = RawTerminal::take()?;
    tcsetattr(&theirs, OptionalActions::Now, &outer.before)?;
    copy_size(&ours);
    let mut child = start(words, theirs)?;
    let output = pass_output(own(&ours)?)?;
    pass_input(own(&ours)?);
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            Some(()) = resized.recv() => copy_size(&ours),
        }
    };
    // A process that the command left behind may hold its terminal open.
    let _ = output.recv_timeout(REST_MAX);
    Ok(shell_code(status))
}

/// Opens a terminal: the end of this process, and that of the command.
fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let theirs = ioctl_tiocgptpeer(&ours, flags)?;
    Ok((ours, theirs))
}

/// Becomes the command, with standard input as the terminal of a new session. It returns if the command cannot be started.
pub(super) fn become_command(words: &[OsString]) -> io::Error {
    let Some((program, arguments)) = words.split_first() else {
        return io::ErrorKind::NotFound.into();
    };
    let session = setsid().and_then(|_| ioctl_tiocsctty(io::stdin()));
    match session {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(problem) => problem.into(),
    }
}

/// Starts the command. Another process of this program opens its session, which only a process that is not a leader can.
fn start(words: &[OsString], terminal: OwnedFd) -> io::Result<tokio::process::Child> {
    let own_program = format!("/proc/{}/exe", std::process::id());
    let mut all = vec![own_program.into()];
    all.extend(["exec-stdio", "--new-session", "--"].map(OsString::from));
    all.extend(words.iter().cloned());
    let mut command = without_hangup(&all);
    command
        .stdin(terminal.try_clone()?)
        .stdout(terminal.try_clone()?)
        .stderr(terminal);
    AsyncCommand::from(command).spawn()
}

/// The terminal of ssh, which passes each byte on as it comes, until this is dropped.
struct RawTerminal {
    terminal: Stdin,
    before: Termios,
}

impl RawTerminal {
    fn take() -> io::Result<Self> {
        let terminal = io::stdin();
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // It may be gone.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// Gives the command's terminal the size of that of ssh, unless that one is gone.
fn copy_size(ours: &OwnedFd) {
    let _ = tcgetwinsize(io::stdin()).and_then(|size| tcsetwinsize(ours, size));
}

/// Copies the command's output; the receiver gets a word at its end.
fn pass_output(ours: File) -> io::Result<mpsc::Receiver<()>> {
    let stdout = own(io::stdout())?;
    let (end, ended) = mpsc::channel();
    thread::spawn(move || {
        copy(ours, stdout);
        // The receiver may be gone by then.
        let _ = end.send(());
    });
    Ok(ended)
}

/// Copies the input of the command, and then its end, as often as the command reads it: no further input can come.
fn pass_input(mut ours: File) {
    thread::spawn(move || {
        let mut buffer = vec![0; COPY_BYTES];
        let mut from = io::stdin();
        while let Ok(bytes @ 1..) = from.read(&mut buffer) {
            if ours
                .write_all(buffer.get(..bytes).unwrap_or_default())
                .is_err()
            {
                return;
            }
        }
        // The command may have ended.
        let _ = end_input(&mut ours);
    });
}

/// Types the keys for the end of the input. Output that was stopped (Ctrl-S) goes on, and a line that was not finished is dropped.
fn end_input(ours: &mut File) -> io::Result<()> {
    let keys = tcgetattr(&*ours)?.special_codes;
    let disabled = 0;
    let type_key = |key: u8, times: usize, ours: &mut File| {
        let times = if key == disabled { 0 } else { times };
        (0..times).try_for_each(|_| ours.write_all(&[key]))
    };
    type_key(keys[SpecialCodeIndex::VSTART], 1, ours)?;
    type_key(keys[SpecialCodeIndex::VKILL], 1, ours)?;
    type_key(keys[SpecialCodeIndex::VEOF], ENDS_OF_INPUT_MAX, ours)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{OFlags, fcntl_setfl};

    use super::*;

    #[test]
    fn the_end_of_the_input_is_read_a_limited_number_of_times() {
        let (ours, theirs) = open().unwrap();
        let (mut ours, mut theirs) = (File::from(ours), File::from(theirs));
        ours.write_all(b"half a line").unwrap();
        let typing = thread::spawn(move || end_input(&mut ours).map(|()| ours));
        let mut buffer = [0; 64];
        for _ in 0..ENDS_OF_INPUT_MAX {
            assert_eq!(theirs.read(&mut buffer).unwrap(), 0);
        }
        let _ours = typing.join().unwrap().unwrap();
        fcntl_setfl(&theirs, OFlags::NONBLOCK).unwrap();
        let more = theirs.read(&mut buffer).unwrap_err();
        assert_eq!(more.kind(), io::ErrorKind::WouldBlock);
    }
}
