//! The rehearsal's own `soramoded`: the one beside this program, in a folder that nobody else can look into, for as long as the rehearsal.

use std::fs::{self, File, Permissions};
use std::future::pending;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use soramode_protocol::socket_path::SOCKET_PATH_BYTES_MAX;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::error::{Exit, Failure};
use crate::output::escape::escape;

/// How long it may take to start.
const START_MAX: Duration = Duration::from_secs(5);

/// How long it may take to stop before it is killed.
const STOP_MAX: Duration = Duration::from_secs(2);

/// Where the folder goes if `$TMPDIR` will not do.
const FOLDER_FALLBACK: &str = "/tmp";

/// What a service manager, or whoever set up the daemon that runs, left in the environment for it.
const NOT_ITS_OWN: [&str; 5] = [
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "RUNTIME_DIRECTORY",
];

/// How each of soramode's own variables begins.
const OWN_VARIABLES: &str = "SORAMODE";

/// Ends the daemon and removes the folder if this program was killed: then the pipe to its stdin ends without a line.
const GUARD: &str = r#"read -r _ && exit; folder=$1; shift; kill "$@"; kill -s CONT "$@"; sleep 1; rm -rf -- "$folder""#;

/// How many of the daemon's last lines are shown.
const LOG_LINES_MAX: usize = 10;

/// It and its folder.
pub(super) struct PrivateDaemon {
    node: PrivateNode,
    folder: TempDir,
    /// Nobody, where there is no shell.
    guard: Option<Child>,
}

/// A soramoded in a folder that is somebody else's to remove.
pub(super) struct PrivateNode {
    program: PathBuf,
    folder: PathBuf,
    child: Child,
    /// Where it says that it listens.
    readiness: UnixDatagram,
}

impl PrivateDaemon {
    /// Starts it. What it does then is heard by [`ready`](Self::ready).
    pub(super) fn start() -> Result<Self, Failure> {
        let program = beside_us()
            .map_err(|problem| failed(format!("cannot tell where this program is: {problem}")))?;
        let folder = short_folder().map_err(|problem| {
            failed(format!(
                "cannot make a folder for the rehearsal in $TMPDIR or {FOLDER_FALLBACK}: {problem}"
            ))
            .with_hint("Set TMPDIR to one that can be written")
        })?;
        let node = PrivateNode::start(
            program,
            folder.path(),
            &["--node-name".to_owned(), "drill".to_owned()],
        )?;
        let guard = guard(
            &node.child.id().into_iter().collect::<Vec<_>>(),
            folder.path(),
        )
        .ok();
        Ok(Self {
            node,
            folder,
            guard,
        })
    }

    /// It, as it runs.
    pub(super) const fn node(&mut self) -> &mut PrivateNode {
        &mut self.node
    }

    /// Stops it, and removes what there was of it.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        let stopped = self.node.stop().await;
        clear_away(self.guard, self.folder, stopped).await
    }
}

impl PrivateNode {
    /// Starts it, with these words beside those that make it private.
    pub(super) fn start(
        program: PathBuf,
        folder: &Path,
        words: &[String],
    ) -> Result<Self, Failure> {
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
            .args(words)
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

    /// What runs.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Its process.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Its control socket.
    pub(super) fn socket(&self) -> PathBuf {
        socket_in(&self.folder)
    }

    /// Waits until it listens.
    pub(super) async fn ready(&mut self) -> Result<(), Failure> {
        let said = timeout(START_MAX, async {
            tokio::select! {
                status = self.child.wait() => Some(status),
                () = is_ready(&self.readiness) => None,
            }
        });
        let why = match said.await {
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
        let details = self.last_words();
        let said = if details.is_empty() {
            "It said nothing"
        } else {
            "It said"
        };
        let hint = format!("Check that it is of the same version: {program} --version");
        Err(Failure {
            details,
            ..failed(format!("{program} {why}. {said}")).with_hint(hint)
        })
    }

    /// The end of its log.
    pub(super) fn last_words(&self) -> Vec<String> {
        last_lines(&log_in(&self.folder))
    }

    /// Stops it.
    pub(super) async fn stop(&mut self) -> Result<(), Failure> {
        stop_child("soramoded", &mut self.child).await
    }
}

/// The end of a log.
pub(super) fn last_lines(log: &Path) -> Vec<String> {
    let log = fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<_> = log.lines().map(|line| escape(line).into_owned()).collect();
    lines
        .get(lines.len().saturating_sub(LOG_LINES_MAX)..)
        .unwrap_or_default()
        .to_vec()
}

/// Lets the guard go home and removes the folder, however the stopping went.
pub(super) async fn clear_away(
    guard: Option<Child>,
    folder: TempDir,
    stopped: Result<(), Failure>,
) -> Result<(), Failure> {
    if let Some(guard) = guard {
        dismiss(guard).await;
    }
    let path = folder.path().display().to_string();
    let removed = folder.close();
    stopped?;
    removed.map_err(|problem| {
        failed(format!(
            "cannot remove the rehearsal's folder {path}: {problem}. Remove it by hand"
        ))
    })
}

pub(super) fn failed(message: String) -> Failure {
    Failure::new(Exit::Failed, message)
}

/// The daemon that was installed, or built, with this program.
pub(super) fn beside_us() -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("soramoded"))
}

fn cannot_start(program: &Path, problem: &io::Error) -> Failure {
    let shown = escape(&program.to_string_lossy()).into_owned();
    if program.exists() {
        return failed(format!(
            "cannot start {shown}: {problem}. Make sure that this user may run it"
        ));
    }
    failed(format!(
        "there is no {shown}, and the drill starts no other soramoded. Put the one of the same version beside soramode"
    ))
}

/// A folder for this user alone, with a path short enough for a socket in it.
pub(super) fn short_folder() -> io::Result<TempDir> {
    let folder = make_folder(&std::env::temp_dir());
    match folder {
        Ok(folder)
            if socket_in(folder.path()).as_os_str().as_bytes().len() <= SOCKET_PATH_BYTES_MAX =>
        {
            Ok(folder)
        }
        Ok(_) | Err(_) => make_folder(Path::new(FOLDER_FALLBACK)),
    }
}

fn make_folder(parent: &Path) -> io::Result<TempDir> {
    let parent = std::path::absolute(parent)?;
    tempfile::Builder::new()
        .prefix("soramode-drill-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(parent)
}

fn socket_in(folder: &Path) -> PathBuf {
    folder.join("soramode.sock")
}

fn log_in(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn readiness_in(folder: &Path) -> PathBuf {
    folder.join("ready.sock")
}

/// In a process group of its own, so that Ctrl-C does not end it before the rehearsal does.
pub(super) fn command(program: &Path, log: File) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.as_bytes().starts_with(OWN_VARIABLES.as_bytes()) {
            command.env_remove(name);
        }
    }
    for name in NOT_ITS_OWN {
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

/// Returns when the daemon has said that it listens, as it does to a service manager.
async fn is_ready(readiness: &UnixDatagram) {
    let mut message = [0; 1_024];
    loop {
        let Ok(length) = readiness.recv(&mut message).await else {
            return pending().await;
        };
        let said = message.get(..length).unwrap_or_default();
        if said
            .split(|byte| *byte == b'\n')
            .any(|line| line == b"READY=1")
        {
            return;
        }
    }
}

/// Watches over these processes and this folder.
pub(super) fn guard(pids: &[u32], folder: &Path) -> io::Result<Child> {
    let mut command = Command::new("sh");
    command
        .args(["-c", GUARD, "sh"])
        .arg(folder)
        .args(pids.iter().map(u32::to_string))
        .current_dir("/");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

/// Lets the guard go home: everything is in order.
async fn dismiss(mut guard: Child) {
    if let Some(mut stdin) = guard.stdin.take() {
        // If it is gone already there is nobody to tell.
        stdin.write_all(b"\n").await.unwrap_or_default();
    }
    if timeout(STOP_MAX, guard.wait()).await.is_err() {
        guard.start_kill().unwrap_or_default();
    }
}

/// Stops a process in order, or kills it.
pub(super) async fn stop_child(name: &str, child: &mut Child) -> Result<(), Failure> {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may have ended just now.
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap_or_default();
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
