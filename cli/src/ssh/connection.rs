//! One connection to a daemon on another host: starts ssh, and waits for the first line of `dial-stdio`.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::unistd::Pid;
use soramode_protocol::client::Client;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::greeting::{Greeting, Obstacle};
use super::prompt::asks_on_terminal;
use super::sharing::Sharing;
use super::stderr::Stderr;
use super::{Asks, SshHost};
use crate::error::{Exit, Failure};
use crate::output::escape::escape;
use crate::socket::reason;

/// Time between two looks whether ssh asks for something.
const PROMPT_PAUSE: Duration = Duration::from_secs(1);

/// Limit of the time for the first line, where ssh asks for nothing.
const GREETING_MAX: Duration = Duration::from_secs(30);

/// Limit of the time for the first line over a master that runs already: it may hang.
const SHARED_GREETING_MAX: Duration = Duration::from_secs(5);

/// Limit of other lines before the first one, in bytes.
const NOISE_BYTES_MAX: usize = 64 * 1024;

/// Number of the last other lines to show.
const NOISE_LINES_SHOWN: usize = 3;

/// Limit of the time for an ssh that has closed its streams to end.
const END_MAX: Duration = Duration::from_secs(5);

/// Starts a program that ends with this one and ignores Ctrl-C, which is meant for this one alone. ssh at its prompt would otherwise outlive it.
const LAUNCHER: [&str; 6] = [
    "setpriv",
    "--pdeathsig",
    "TERM",
    "sh",
    "-c",
    "trap '' INT; exec \"$@\"",
];

/// Exit codes of ssh and of the shell on the host.
const SSH_FAILED: i32 = 255;
const NOT_STARTED: i32 = 126;
const NOT_FOUND: i32 = 127;
const UNKNOWN_VERB: i32 = 2;

/// A running ssh. Dropping it ends it.
pub(crate) struct SshProcess {
    pub(super) child: Child,
}

impl Drop for SshProcess {
    fn drop(&mut self) {
        // SIGTERM, so that it restores the terminal after a prompt. It may have ended just now.
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
}

/// The reason why there is no first line.
enum NoGreeting {
    /// ssh has ended.
    Ended(Option<ExitStatus>),
    /// Too much else was printed.
    TooMuch,
    /// No line came in time.
    Silent,
}

impl SshHost {
    /// Returns the id of the present start of the host, over a connection of its own; also if no daemon runs there.
    pub(crate) async fn read_boot_id(&self) -> Option<String> {
        let (mut stream, process, _stderr) = self.start(&Sharing::Off).ok()?;
        let mut noise = Vec::new();
        let read = timeout(GREETING_MAX, read_greeting(&mut stream, &mut noise)).await;
        drop(process);
        Some(read.ok()?.ok()?.boot_id)
    }

    /// Connects to the daemon there. A shared connection that hangs, or has the groups of an old login, is replaced once.
    pub(crate) async fn connect(&self) -> Result<(Client, SshProcess), Failure> {
        let sharing = Sharing::find(self).await;
        let limit = match &sharing {
            Sharing::Master(_) => Some(SHARED_GREETING_MAX),
            Sharing::Fresh(_) | Sharing::Configured | Sharing::Off => {
                (self.asks != Asks::Terminal).then_some(GREETING_MAX)
            }
        };
        let failure = match self.dial(&sharing, limit).await {
            Ok(connected) => return Ok(connected),
            Err(failure) => failure,
        };
        let Sharing::Master(path) = &sharing else {
            return Err(failure.failure);
        };
        if !failure.is_of_sharing {
            return Err(failure.failure);
        }
        self.retire_master(path).await;
        let limit = (self.asks != Asks::Terminal).then_some(GREETING_MAX);
        self.dial(&Sharing::Off, limit)
            .await
            .map_err(|again| again.failure)
    }

    async fn dial(
        &self,
        sharing: &Sharing,
        limit: Option<Duration>,
    ) -> Result<(Client, SshProcess), DialFailure> {
        let (mut stream, mut process, stderr) = self.start(sharing)?;
        let mut noise = Vec::new();
        let read = read_greeting(&mut stream, &mut noise);
        let greeting = match limit {
            Some(limit) => timeout(limit, read)
                .await
                .unwrap_or(Err(NoGreeting::Silent)),
            None => unless_silent(process.child.id(), read).await,
        };
        let problem = match greeting {
            Ok(greeting) => return self.greeted(&greeting, stream, process, &stderr),
            Err(NoGreeting::Ended(_)) => NoGreeting::Ended(process.ended().await),
            Err(other) => other,
        };
        let is_silent = matches!(problem, NoGreeting::Silent);
        drop(process);
        let mut failure = self.explain_no_greeting(&problem);
        failure.details = stderr.unprinted().await;
        failure.details.extend(last_lines(&noise));
        Err(DialFailure {
            failure,
            is_of_sharing: is_silent,
        })
    }

    /// Starts ssh on one end of a socket pair.
    fn start(&self, sharing: &Sharing) -> Result<(UnixStream, SshProcess, Stderr), Failure> {
        let cannot_start = |problem: io::Error| {
            Failure::new(
                Exit::Failed,
                format!("cannot start ssh: {}", reason(&problem)),
            )
        };
        let (ours, theirs) = net::UnixStream::pair().map_err(cannot_start)?;
        ours.set_nonblocking(true).map_err(cannot_start)?;
        let stream = UnixStream::from_std(ours).map_err(cannot_start)?;
        let theirs = OwnedFd::from(theirs);
        let mut command = self.launcher(sharing, &[]);
        command
            .arg(self.dial_command())
            .stdin(Stdio::from(theirs.try_clone().map_err(cannot_start)?))
            .stdout(Stdio::from(theirs))
            .stderr(Stdio::piped());
        let mut child = spawn_without_interrupt(&mut command).map_err(cannot_start)?;
        let stderr = child.stderr.take();
        let process = SshProcess { child };
        let prefix = match self.asks {
            // Once the host has answered, the command may draw on the terminal.
            _ if self.boot_id.get().is_some() => None,
            Asks::Terminal | Asks::Nothing => Some(String::new()),
            Asks::NothingOfSeveral => Some(format!("{}: ", self.shown())),
        };
        let stderr = stderr.map(|stderr| Stderr::read(stderr, prefix));
        let stderr = stderr.ok_or_else(|| Failure::new(Exit::Failed, "ssh has no stderr"))?;
        Ok((stream, process, stderr))
    }

    /// Returns the command that starts ssh to this host, up to the command line there.
    pub(super) fn launcher(&self, sharing: &Sharing, options: &[&str]) -> Command {
        let [program, words @ ..] = LAUNCHER;
        let mut all = sharing.options();
        all.extend(options.iter().map(Into::into));
        let mut command = Command::new(program);
        command.args(words).arg("sh").args(self.ssh_words(&all));
        if self.asks != Asks::Terminal {
            // Out of reach of the terminal's keys, which ssh needs to ask.
            command.process_group(0);
        }
        command
    }

    fn greeted(
        &self,
        greeting: &Greeting,
        stream: UnixStream,
        process: SshProcess,
        stderr: &Stderr,
    ) -> Result<(Client, SshProcess), DialFailure> {
        stderr.hide();
        let wanted = self.socket.as_deref().map(|path| path.to_string_lossy());
        if let Some(failure) = greeting.failure(&self.shown(), wanted.as_deref()) {
            return Err(DialFailure {
                failure,
                // A master keeps the groups of its login.
                is_of_sharing: greeting.error == Some(Obstacle::PermissionDenied),
            });
        }
        self.boot_id.get_or_init(|| greeting.boot_id.clone());
        Ok((Client::over(stream), process))
    }

    fn explain_no_greeting(&self, problem: &NoGreeting) -> Failure {
        let host = self.shown();
        let unreachable = |message: String| Failure::new(Exit::Unreachable, message);
        match problem {
            NoGreeting::Silent => {
                unreachable(format!("{host} does not answer")).with_hint(self.try_alone())
            }
            NoGreeting::TooMuch => unreachable(format!(
                "{host} prints more than {} KiB before soramode answers there",
                NOISE_BYTES_MAX / 1024
            ))
            .with_hint("Its shell's startup files should print nothing if there is no terminal"),
            NoGreeting::Ended(status) => match status.and_then(|status| status.code()) {
                Some(NOT_STARTED | NOT_FOUND) => self.no_program(),
                Some(SSH_FAILED) => {
                    unreachable(format!("cannot reach {host} over ssh")).with_hint(self.try_alone())
                }
                Some(UNKNOWN_VERB) => Failure::new(
                    Exit::Versions,
                    format!("soramode on {host} is older than dial-stdio"),
                )
                .with_hint("Install the same version of both"),
                Some(code) => unreachable(format!(
                    "{} on {host} ended with exit code {code} before it answered",
                    escape(&self.remote)
                )),
                None => unreachable(format!("ssh to {host} was ended by a signal")),
            },
        }
    }

    fn try_alone(&self) -> String {
        format!("See where ssh stops: {}", self.ssh_alone())
    }

    /// The failure for a program that is missing: ssh here, or soramode there.
    fn no_program(&self) -> Failure {
        let program = super::ssh_program().into_iter().next().unwrap_or_default();
        if !is_in_path(&program) {
            let program = escape(&program.to_string_lossy()).into_owned();
            return Failure::new(
                Exit::Failed,
                format!("cannot start {program}: no such command"),
            )
            .with_hint("Install openssh-client, or set SORAMODE_SSH");
        }
        let host = self.shown();
        let message = format!("{host} has no {} in its PATH for ssh", escape(&self.remote));
        Failure::new(Exit::Unreachable, message).with_hint("Install it, or set SORAMODE_REMOTE")
    }
}

/// Starts ssh with SIGINT blocked: Ctrl-C is meant for this program alone, and over a shared connection ssh ends at it although it was ignored.
pub(super) fn spawn_without_interrupt(command: &mut Command) -> io::Result<Child> {
    let before = SigSet::from(Signal::SIGINT).thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let child = command.spawn();
    before.thread_set_mask()?;
    child
}

/// A connection that failed.
struct DialFailure {
    failure: Failure,
    /// Another connection may do better than a shared one.
    is_of_sharing: bool,
}

impl From<Failure> for DialFailure {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            is_of_sharing: false,
        }
    }
}

impl SshProcess {
    /// Waits for the end of an ssh that has closed its streams.
    async fn ended(&mut self) -> Option<ExitStatus> {
        timeout(END_MAX, self.child.wait()).await.ok()?.ok()
    }
}

/// Waits for the first line: without a limit while ssh asks for something on the terminal, and for [`GREETING_MAX`] otherwise.
async fn unless_silent(
    ssh: Option<u32>,
    read: impl Future<Output = Result<Greeting, NoGreeting>>,
) -> Result<Greeting, NoGreeting> {
    let mut read = std::pin::pin!(read);
    let mut silent_for = Duration::ZERO;
    while silent_for < GREETING_MAX {
        if let Ok(greeting) = timeout(PROMPT_PAUSE, &mut read).await {
            return greeting;
        }
        if ssh.is_some_and(asks_on_terminal) {
            silent_for = Duration::ZERO;
        } else {
            silent_for += PROMPT_PAUSE;
        }
    }
    Err(NoGreeting::Silent)
}

/// Reads up to the line feed of the first line. Byte by byte, since the bytes after it are the daemon's.
async fn read_greeting(
    stream: &mut UnixStream,
    noise: &mut Vec<u8>,
) -> Result<Greeting, NoGreeting> {
    let mut line_begins = 0;
    while noise.len() < NOISE_BYTES_MAX {
        let Ok(byte) = stream.read_u8().await else {
            return Err(NoGreeting::Ended(None));
        };
        noise.push(byte);
        if byte == b'\n' {
            let line = noise.get(line_begins..).unwrap_or_default();
            if let Some(greeting) = Greeting::read(&String::from_utf8_lossy(line)) {
                return Ok(greeting);
            }
            line_begins = noise.len();
        }
    }
    Err(NoGreeting::TooMuch)
}

/// Returns the last lines that have text.
fn last_lines(noise: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(noise);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    let skipped = lines.len().saturating_sub(NOISE_LINES_SHOWN);
    lines
        .into_iter()
        .skip(skipped)
        .map(|line| escape(line).into_owned())
        .collect()
}

fn is_in_path(program: &std::ffi::OsStr) -> bool {
    if program.as_bytes().contains(&b'/') {
        return PathBuf::from(program).is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_with_text_are_shown() {
        assert_eq!(
            last_lines(b"a\nb\n\nc\n  \nd\x1b[2J"),
            ["b", "c", "d\\u{1b}[2J"]
        );
        assert!(last_lines(b"\n").is_empty());
    }
}
