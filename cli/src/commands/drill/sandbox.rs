//! The processes of a rehearsal and their folder, which no other user can enter: one soramoded, or an etcd and three nodes.

use std::fs::{self, File, Permissions};
use std::io;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use soramode_protocol::socket_path::SOCKET_PATH_BYTES_MAX;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::janus_process::JanusProcess;
use super::process::{
    NodeProcess, STOP_MAX, cannot_start, command, failed, log_tail, socket_in, stop_child,
};
use super::runner::Servers;
use super::scenario::NAMES;
use crate::error::{Exit, Failure};
use crate::output::escape::escape;

/// The parent of the folder if `$TMPDIR` will not do.
const FOLDER_FALLBACK: &str = "/tmp";

/// Stops the processes and removes the folder if this program was killed: then the pipe to the guard's stdin ends without a line.
const GUARD: &str = r#"read -r _ && exit; folder=$1; shift; kill "$@"; kill -s CONT "$@"; sleep 1; rm -rf -- "$folder""#;

/// Short times, so that an isolation does not take long.
const TERMS: [&str; 3] = [
    "--cluster-ttl=5s",
    "--cluster-heartbeat=200ms",
    "--isolated-after=2s",
];

/// Processes and their folder.
pub(super) struct Sandbox {
    program: PathBuf,
    nodes: Vec<NodeProcess>,
    etcd: Option<Child>,
    janus: Option<JanusProcess>,
    /// Missing where there is no shell.
    guard: Option<Child>,
    folder: TempDir,
}

impl Sandbox {
    /// Starts the soramoded beside this program.
    pub(super) fn one_node() -> Result<Self, Failure> {
        let mut sandbox = Self::new(program()?)?;
        let folder = sandbox.folder.path().to_owned();
        let args = ["--node-name".to_owned(), "drill".to_owned()];
        sandbox.start_node(&folder, &args)?;
        Ok(sandbox.guarded())
    }

    /// Starts an etcd and three nodes.
    pub(super) async fn cluster() -> Result<Self, Failure> {
        let program = program()?;
        check_feature(&program).await?;
        let mut sandbox = Self::new(program)?;
        let path = sandbox.folder.path().to_owned();
        let in_folder = |problem: io::Error| {
            failed(format!(
                "cannot use the rehearsal's folder {}: {problem}",
                path.display()
            ))
        };
        let endpoint = free_url().map_err(in_folder)?;
        let peer = free_url().map_err(in_folder)?;
        let log = File::create(etcd_log(&path)).map_err(in_folder)?;
        let etcd = etcd_command(&path, log, &endpoint, &peer).spawn();
        sandbox.etcd = Some(etcd.map_err(|problem| no_etcd(&problem))?);
        for name in NAMES {
            let folder = path.join(name);
            fs::create_dir(&folder).map_err(in_folder)?;
            let args = cluster_args(name, &endpoint);
            sandbox.start_node(&folder, &args)?;
        }
        Ok(sandbox.guarded())
    }

    /// Starts a Janus, and a soramoded beside it.
    pub(super) async fn janus() -> Result<Self, Failure> {
        let mut sandbox = Self::new(program()?)?;
        let folder = sandbox.folder.path().to_owned();
        let janus = JanusProcess::start(&folder)?;
        let args = janus.node_args();
        sandbox.janus.insert(janus).ready().await?;
        sandbox.start_node(&folder, &args)?;
        Ok(sandbox.guarded())
    }

    fn new(program: PathBuf) -> Result<Self, Failure> {
        let folder = short_folder().map_err(|problem| {
            failed(format!(
                "cannot make a folder for the rehearsal in $TMPDIR or {FOLDER_FALLBACK}: {problem}"
            ))
            .with_hint("Set TMPDIR to one that can be written")
        })?;
        Ok(Self {
            program,
            nodes: Vec::new(),
            etcd: None,
            janus: None,
            guard: None,
            folder,
        })
    }

    /// Starts a node. If that fails, the others are killed when this is dropped.
    fn start_node(&mut self, folder: &Path, args: &[String]) -> Result<(), Failure> {
        let node = NodeProcess::start(self.program.clone(), folder, args)?;
        self.nodes.push(node);
        Ok(())
    }

    fn guarded(mut self) -> Self {
        let etcd = self.etcd.as_ref().and_then(Child::id);
        let janus = self.janus.as_ref().and_then(JanusProcess::pid);
        let nodes = self.nodes.iter().filter_map(NodeProcess::pid);
        let pids: Vec<u32> = etcd.into_iter().chain(janus).chain(nodes).collect();
        // Without a shell there is no guard.
        self.guard = guard(&pids, self.folder.path()).ok();
        self
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Waits until each node listens.
    pub(super) async fn ready(&mut self) -> Result<(), Failure> {
        for node in &mut self.nodes {
            node.ready().await?;
        }
        Ok(())
    }

    /// Returns the control socket of each node.
    pub(super) fn sockets(&self) -> Vec<PathBuf> {
        self.nodes.iter().map(NodeProcess::socket).collect()
    }

    /// Returns the servers beside the nodes.
    pub(super) fn servers(&self) -> Servers {
        Servers {
            etcd: self.etcd_pid(),
            janus: self.janus.as_ref().and_then(JanusProcess::api),
        }
    }

    fn etcd_pid(&self) -> Option<Pid> {
        let pid = self.etcd.as_ref()?.id()?;
        i32::try_from(pid).ok().map(Pid::from_raw)
    }

    /// A rehearsal that cannot go on: the logs may say why.
    pub(super) fn failure(&self, why: &str) -> Failure {
        let mut details = Vec::new();
        let logs = if self.etcd.is_some() {
            details = log_tail(&etcd_log(self.folder.path()));
            "etcd's log and of the nodes':"
        } else if let Some(janus) = &self.janus {
            details = janus.log_tail();
            "Janus's log and of its soramoded's:"
        } else {
            "its soramoded's log:"
        };
        details.extend(self.nodes.iter().flat_map(NodeProcess::log_tail));
        Failure {
            details,
            ..failed(format!(
                "the rehearsal cannot go on: {why}. The last lines of {logs}"
            ))
        }
    }

    /// Stops all processes and removes the folder.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        if let Some(etcd) = self.etcd_pid() {
            // It may be paused; and nodes without sessions leave in order while it answers.
            let _ = kill(etcd, Signal::SIGCONT);
        }
        let mut stopped = Ok(());
        for node in &mut self.nodes {
            stopped = stopped.and(node.stop().await);
        }
        if let Some(etcd) = &mut self.etcd {
            stopped = stopped.and(stop_child("etcd", etcd).await);
        }
        if let Some(janus) = &mut self.janus {
            stopped = stopped.and(janus.stop().await);
        }
        if let Some(guard) = self.guard {
            dismiss(guard).await;
        }
        let path = self.folder.path().display().to_string();
        let removed = self.folder.close();
        stopped?;
        removed.map_err(|problem| {
            failed(format!(
                "cannot remove the rehearsal's folder {path}: {problem}"
            ))
            .with_hint("Remove it by hand")
        })
    }
}

/// Returns the soramoded that was installed, or built, with this program.
fn program() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe()
        .map_err(|problem| failed(format!("cannot tell where this program is: {problem}")))?;
    Ok(own.with_file_name("soramoded"))
}

/// Creates a folder for this user alone, with a path that is short enough for a socket in it.
fn short_folder() -> io::Result<TempDir> {
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

/// Starts the shell that cleans up if this program is killed.
fn guard(pids: &[u32], folder: &Path) -> io::Result<Child> {
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

/// Ends the guard without a cleanup.
async fn dismiss(mut guard: Child) {
    if let Some(mut stdin) = guard.stdin.take() {
        // The guard may have ended.
        let _ = stdin.write_all(b"\n").await;
    }
    if timeout(STOP_MAX, guard.wait()).await.is_err() {
        let _ = guard.start_kill();
    }
}

/// Checks that the soramoded was built with its cluster.
async fn check_feature(program: &Path) -> Result<(), Failure> {
    let mut check = Command::new(program);
    check
        .args([
            "--check-config",
            "--ephemeral",
            "--cluster=http://127.0.0.1:1",
        ])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = match check.output().await {
        Ok(output) => output,
        Err(problem) => return Err(cannot_start(program, &problem)),
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let details = said.lines().map(|line| escape(line).into_owned()).collect();
    let message = format!(
        "{} does not take --cluster, so there is no cluster to rehearse. It says",
        escape(&program.to_string_lossy())
    );
    Err(Failure {
        details,
        ..Failure::new(Exit::Failed, message)
    })
}

fn no_etcd(problem: &io::Error) -> Failure {
    if problem.kind() == io::ErrorKind::NotFound {
        return failed("there is no etcd in the search path, and a cluster needs one".to_owned())
            .with_hint("Install it: apt-get install etcd-server");
    }
    failed(format!("cannot start etcd: {problem}"))
}

fn etcd_command(folder: &Path, log: File, client: &str, peer: &str) -> Command {
    let mut command = command(Path::new("etcd"), log);
    command.args([
        "--name",
        "drill",
        "--logger",
        "zap",
        "--log-outputs",
        "stderr",
        "--initial-cluster",
        &format!("drill={peer}"),
    ]);
    command.args([
        "--listen-client-urls",
        client,
        "--advertise-client-urls",
        client,
    ]);
    command.args([
        "--listen-peer-urls",
        peer,
        "--initial-advertise-peer-urls",
        peer,
    ]);
    command.arg("--data-dir").arg(folder.join("etcd"));
    command
}

fn cluster_args(name: &str, endpoint: &str) -> Vec<String> {
    let own = [
        format!("--node-name={name}"),
        format!("--cluster={endpoint}"),
        "--cluster-name=drill".to_owned(),
    ];
    own.into_iter()
        .chain([format!("--signaling-url=ws://{name}.drill/")])
        .chain(TERMS.map(str::to_owned))
        .collect()
}

fn etcd_log(folder: &Path) -> PathBuf {
    folder.join("etcd.log")
}

/// Returns a URL with a port that is free now.
fn free_url() -> io::Result<String> {
    Ok(format!(
        "http://{}",
        TcpListener::bind("127.0.0.1:0")?.local_addr()?
    ))
}
