//! A soramoded of the rehearsal, and other child processes.

use std::fs::{self, File};
use std::future::pending;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::error::{Exit, Failure};
use crate::output::escape::escape;

/// Limit of the time for a daemon's start.
const START_MAX: Duration = Duration::from_secs(5);

/// Limit of the time for a process to stop before it is killed.
pub(super) const STOP_MAX: Duration = Duration::from_secs(2);

/// Variables of a service manager that belong to another daemon.
const FOREIGN_VARIABLES: [&str; 5] = [
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "RUNTIME_DIRECTORY",
];

/// Prefix of soramode's own variables.
const OWN_PREFIX: &str = "SORAMODE";

/// Lines of a log that a failure shows.
const LOG_LINES_MAX: usize = 10;

/// A soramoded with its socket and its log in a folder.
pub(super) struct NodeProcess {
    program: PathBuf,
    folder: PathBuf,
    child: Child,
    /// The socket for its readiness notification.
    readiness: UnixDatagram,
}

impl NodeProcess {
    /// Starts it with more arguments.
    pub(super) fn start(program: PathBuf, folder: &Path, args: &[String]) -> Result<Self, Failure> {
        let in_folder = |problem: io::Error| {
            failed(format!(
                "cannot use the rehearsal's folder {}: {problem}",
                folder.display()
            ))
        };
        let readiness = UnixDatagram::bind(readiness_in(folder)).map_err(in_folder)?;
        let log = File::create(log_in(folder)).map_err(in_folder)?;
        let mut command = command(&program, log);
        command
            .arg("--socket")
            .arg(socket_in(folder))
            .arg("--ephemeral")
            .args(args)
            .env("NOTIFY_SOCKET", readiness_in(folder));
        let child = command
            .spawn()
            .map_err(|problem| cannot_start(&program, &problem))?;
        Ok(Self {
            program,
            folder: folder.to_owned(),
            child,
            readiness,
        })
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    pub(super) fn socket(&self) -> PathBuf {
        socket_in(&self.folder)
    }

    /// Waits until it listens.
    pub(super) async fn ready(&mut self) -> Result<(), Failure> {
        let started = timeout(START_MAX, async {
            tokio::select! {
                status = self.child.wait() => Some(status),
                () = is_ready(&self.readiness) => None,
            }
        });
        let why = match started.await {
            Ok(None) => return Ok(()),
            Ok(Some(status)) => {
                format!(
                    "ended with {} before it listened",
                    status.map_or_else(|problem| problem.to_string(), |status| status.to_string())
                )
            }
            Err(_) => format!("does not listen after {} s", START_MAX.as_secs()),
        };
        let program = escape(&self.program.to_string_lossy()).into_owned();
        let details = self.log_tail();
        let quote = if details.is_empty() {
            "It said nothing"
        } else {
            "It said"
        };
        let hint = format!("Check that it is of the same version: {program} --version");
        Err(Failure {
            details,
            ..failed(format!("{program} {why}. {quote}")).with_hint(hint)
        })
    }

    pub(super) fn log_tail(&self) -> Vec<String> {
        log_tail(&log_in(&self.folder))
    }

    pub(super) async fn stop(&mut self) -> Result<(), Failure> {
        stop_child("soramoded", &mut self.child).await
    }
}

/// Returns the last lines of a log.
pub(super) fn log_tail(log: &Path) -> Vec<String> {
    let log = fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<_> = log.lines().map(|line| escape(line).into_owned()).collect();
    lines
        .get(lines.len().saturating_sub(LOG_LINES_MAX)..)
        .unwrap_or_default()
        .to_vec()
}

pub(super) fn failed(message: String) -> Failure {
    Failure::new(Exit::Failed, message)
}

pub(super) fn cannot_start(program: &Path, problem: &io::Error) -> Failure {
    let shown = escape(&program.to_string_lossy()).into_owned();
    if program.exists() {
        return failed(format!("cannot start {shown}: {problem}"))
            .with_hint("Make sure that this user may run it");
    }
    failed(format!(
        "there is no {shown}, and the drill starts no other soramoded"
    ))
    .with_hint("Put the one of the same version beside soramode")
}

pub(super) fn socket_in(folder: &Path) -> PathBuf {
    folder.join("soramode.sock")
}

fn log_in(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn readiness_in(folder: &Path) -> PathBuf {
    folder.join("ready.sock")
}

/// Returns a command that runs in a process group of its own: Ctrl-C must not end it before the rehearsal does.
pub(super) fn command(program: &Path, log: File) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.as_bytes().starts_with(OWN_PREFIX.as_bytes()) {
            command.env_remove(name);
        }
    }
    for name in FOREIGN_VARIABLES {
        command.env_remove(name);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true);
    command
}

/// Returns when the daemon has notified that it listens, as it notifies a service manager.
async fn is_ready(readiness: &UnixDatagram) {
    let mut message = [0; 1_024];
    loop {
        let Ok(length) = readiness.recv(&mut message).await else {
            return pending().await;
        };
        let text = message.get(..length).unwrap_or_default();
        if text
            .split(|byte| *byte == b'\n')
            .any(|line| line == b"READY=1")
        {
            return;
        }
    }
}

/// Stops a process with SIGTERM, or kills it.
pub(super) async fn stop_child(name: &str, child: &mut Child) -> Result<(), Failure> {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may have ended just now.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    match timeout(STOP_MAX, child.wait()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(problem)) => Err(failed(format!(
            "cannot tell whether the rehearsal's {name} has stopped: {problem}"
        ))),
        Err(_) => {
            let killed = child.kill().await;
            let how = killed.map_or_else(
                |problem| format!("could not be killed: {problem}"),
                |()| "was killed".to_owned(),
            );
            Err(failed(format!(
                "the rehearsal's {name} did not stop within {} s of SIGTERM and {how}",
                STOP_MAX.as_secs()
            )))
        }
    }
}
