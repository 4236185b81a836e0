//! The rehearsal's own cluster: one etcd and three nodes, in one folder, for as long as the rehearsal.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::private_daemon::{
    PrivateNode, beside_us, clear_away, command, failed, guard, last_lines, short_folder,
    stop_child,
};
use crate::error::{Exit, Failure};
use crate::output::escape::escape;

/// The nodes.
pub(super) const NAMES: [&str; 3] = ["n1", "n2", "n3"];

/// Short, so that nobody waits long for an isolation.
const TERMS: [&str; 3] = [
    "--cluster-ttl=5s",
    "--cluster-heartbeat=200ms",
    "--isolated-after=2s",
];

/// All of it.
pub(super) struct PrivateCluster {
    folder: TempDir,
    etcd: Child,
    nodes: Vec<PrivateNode>,
    guard: Option<Child>,
}

impl PrivateCluster {
    /// Starts etcd and the nodes, or says what is missing.
    pub(super) async fn start() -> Result<Self, Failure> {
        let program = beside_us()
            .map_err(|problem| failed(format!("cannot tell where this program is: {problem}")))?;
        check_feature(&program).await?;
        let folder = short_folder().map_err(|problem| {
            failed(format!("cannot make a folder for the rehearsal: {problem}"))
        })?;
        let in_folder = |problem: io::Error| {
            failed(format!(
                "cannot use the rehearsal's folder {}: {problem}",
                folder.path().display()
            ))
        };
        let endpoint = free_url().map_err(in_folder)?;
        let log = File::create(etcd_log(folder.path())).map_err(in_folder)?;
        let etcd = etcd(
            folder.path(),
            log,
            (&endpoint, &free_url().map_err(in_folder)?),
        )
        .spawn()
        .map_err(|problem| no_etcd(&problem))?;
        let mut cluster = Self {
            folder,
            etcd,
            nodes: Vec::new(),
            guard: None,
        };
        for name in NAMES {
            let of_node = cluster.folder.path().join(name);
            let made = fs::create_dir(&of_node)
                .map_err(|problem| failed(format!("cannot make {}: {problem}", of_node.display())));
            let started = made.and_then(|()| {
                PrivateNode::start(program.clone(), &of_node, &words(name, &endpoint))
            });
            match started {
                Ok(node) => cluster.nodes.push(node),
                Err(failure) => return cluster.stop().await.and(Err(failure)),
            }
        }
        let pids: Vec<u32> = cluster
            .etcd
            .id()
            .into_iter()
            .chain(cluster.nodes.iter().filter_map(PrivateNode::pid))
            .collect();
        cluster.guard = guard(&pids, cluster.folder.path()).ok();
        Ok(cluster)
    }

    /// Which soramoded the nodes are.
    pub(super) fn program(&self) -> &Path {
        self.nodes
            .first()
            .map_or(Path::new("soramoded"), PrivateNode::program)
    }

    /// Waits until all of them listen.
    pub(super) async fn ready(&mut self) -> Result<(), Failure> {
        for node in &mut self.nodes {
            node.ready().await?;
        }
        Ok(())
    }

    /// Their control sockets.
    pub(super) fn sockets(&self) -> Vec<PathBuf> {
        self.nodes.iter().map(PrivateNode::socket).collect()
    }

    /// etcd's process.
    pub(super) fn etcd(&self) -> Option<Pid> {
        self.etcd
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .map(Pid::from_raw)
    }

    /// It cannot go on: what was said last may tell why.
    pub(super) fn gone(&self, why: &str) -> Failure {
        let message = format!(
            "the rehearsal cannot go on: {why}. The last lines of etcd's log and of the nodes':"
        );
        let logs = self.nodes.iter().flat_map(PrivateNode::last_words);
        Failure {
            details: last_lines(&etcd_log(self.folder.path()))
                .into_iter()
                .chain(logs)
                .collect(),
            ..failed(message)
        }
    }

    /// Stops all of it, and removes what there was.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        if let Some(etcd) = self.etcd() {
            // It may have been stopped in the middle of the isolation; and nodes that have nothing leave in order while it answers.
            kill(etcd, Signal::SIGCONT).unwrap_or_default();
        }
        let mut stopped = Ok(());
        for node in &mut self.nodes {
            stopped = stopped.and(node.stop().await);
        }
        let stopped = stopped.and(stop_child("etcd", &mut self.etcd).await);
        clear_away(self.guard, self.folder, stopped).await
    }
}

/// A soramoded without the feature says so itself.
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
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => {
            let shown = escape(&program.to_string_lossy()).into_owned();
            return Err(failed(format!(
                "there is no {shown}, and the drill starts no other soramoded"
            )));
        }
        Err(problem) => {
            return Err(failed(format!(
                "cannot start {}: {problem}",
                escape(&program.to_string_lossy())
            )));
        }
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
        let what_to_do = "Install it: apt-get install etcd-server";
        return failed(format!(
            "there is no etcd in the search path, and a cluster needs one. {what_to_do}"
        ));
    }
    failed(format!("cannot start etcd: {problem}"))
}

fn etcd(folder: &Path, log: File, (client, peer): (&str, &str)) -> Command {
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

fn words(name: &str, endpoint: &str) -> Vec<String> {
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

/// Where nobody listens just now.
fn free_url() -> io::Result<String> {
    Ok(format!(
        "http://{}",
        TcpListener::bind("127.0.0.1:0")?.local_addr()?
    ))
}
