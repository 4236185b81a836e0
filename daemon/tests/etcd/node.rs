//! A soramoded of the cluster, as a process of its own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use soramode_protocol::client::{Client, ClientError, Message};
use soramode_protocol::cluster::{Acknowledge, Fence, InitCluster, Initialized, RISK_OF_INIT};
use soramode_protocol::decision::{Connect, Decision, Disconnect};
use soramode_protocol::envelope::Notification;
use soramode_protocol::error::{Error, ErrorType};
use soramode_protocol::event::{EventKind, EventType};
use soramode_protocol::id::ConnectionId;
use soramode_protocol::mode::{ChangeMode, Mode, ModeChanged, SettableMode};
use soramode_protocol::node::{GetStatus, ListClusterNodes, Membership, Status};
use soramode_protocol::request::Call;
use soramode_protocol::subscribe::{Subscribe, SubscribeFrom};
use soramode_protocol::wait::{Outcome, Wait, WaitFor};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::etcd::Etcd;

/// Timeout of anything in a test. Only a program that hangs comes near it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Short, so that a test need not take minutes; but longer than an answer that etcd owed from before it was stopped can be old.
pub(crate) const QUICK: [&str; 3] = [
    "--cluster-ttl=3s",
    "--cluster-heartbeat=200ms",
    "--isolated-after=2s",
];

/// Settings of a node that takes part in automatic takeovers.
pub(crate) const FENCED: [&str; 7] = [
    "--cluster-ttl=3s",
    "--cluster-heartbeat=200ms",
    "--isolated-after=2s",
    "--fence-after=3s",
    "--fence-budget=200ms",
    "--dead-man=grant",
    "--on-fence=socket",
];

/// The beginning of the cluster's keys.
pub(crate) const PREFIX: &str = "/soramode/v1/default";

pub(crate) struct Node {
    pub(crate) name: &'static str,
    folder: TempDir,
    words: Vec<String>,
    preload: Option<PathBuf>,
    child: Option<Child>,
}

impl Node {
    pub(crate) fn start(name: &'static str, etcd: &Etcd, words: &[&str]) -> Self {
        Self::start_at(name, &etcd.endpoints(), words)
    }

    pub(crate) fn start_at(name: &'static str, endpoints: &str, words: &[&str]) -> Self {
        let mut node = Self::stopped(name, endpoints, words);
        node.start_again();
        node
    }

    /// With a library that stands before the C library's.
    pub(crate) fn start_behind(
        library: PathBuf,
        name: &'static str,
        (etcd, words): (&Etcd, &[&str]),
    ) -> Self {
        let mut node = Self::stopped(name, &etcd.endpoints(), words);
        node.preload = Some(library);
        node.start_again();
        node
    }

    pub(crate) fn stopped(name: &'static str, endpoints: &str, words: &[&str]) -> Self {
        let more = [
            format!("--cluster={endpoints}"),
            format!("--signaling-url=wss://{name}.example.com/"),
        ];
        let words = words
            .iter()
            .map(|&word| word.to_owned())
            .chain(more)
            .collect();
        Self {
            name,
            folder: tempfile::tempdir().unwrap(),
            words,
            preload: None,
            child: None,
        }
    }

    pub(crate) fn start_again(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_soramoded"));
        command
            .arg(format!("--node-name={}", self.name))
            .arg(format!("--socket={}", self.socket().display()));
        command
            .arg(format!(
                "--state-dir={}",
                self.folder.path().join("state").display()
            ))
            .args(&self.words);
        if let Some(library) = &self.preload {
            command
                .env("LD_PRELOAD", library)
                .env("SLOW_DISK", self.slow_disk());
        }
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .unwrap();
        self.child = Some(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap(),
        );
    }

    /// While this file is there, each wait for the disk takes as many milliseconds as it says.
    pub(crate) fn slow_disk(&self) -> PathBuf {
        self.folder.path().join("slow")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), signal).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops it in order.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::TERM);
        assert!(self.child.take().unwrap().wait().unwrap().success());
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("soramode.sock")
    }

    /// A connection to it, once it listens.
    pub(crate) async fn client(&self) -> Client {
        until(async || Client::connect(&self.socket()).await.ok()).await
    }

    pub(crate) async fn ask<C: Call>(&self, params: &C) -> C::Reply {
        self.try_ask(params)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}\n{}", C::METHOD.name(), self.log()))
    }

    pub(crate) async fn try_ask<C: Call>(&self, params: &C) -> Result<C::Reply, ClientError> {
        self.client().await.call(params).await
    }

    pub(crate) async fn status(&self) -> Status {
        self.ask(&GetStatus {}).await
    }

    /// Makes the cluster, as soon as etcd answers; what is there already stays.
    pub(crate) async fn init(&self) -> Result<Initialized, Box<Error>> {
        self.try_init(InitCluster::default()).await
    }

    /// Has the cluster go on in an etcd that the node refuses.
    pub(crate) async fn init_accepting_the_loss(&self) -> Result<Initialized, Box<Error>> {
        self.try_init(InitCluster {
            accept_risk: Some(RISK_OF_INIT.to_owned()),
        })
        .await
    }

    async fn try_init(&self, init: InitCluster) -> Result<Initialized, Box<Error>> {
        until(async || match self.try_ask(&init).await {
            Ok(made) => Some(Ok(made)),
            Err(ClientError::Refused(error))
                if error.data.error_type == ErrorType::ClusterUnavailable =>
            {
                None
            }
            Err(ClientError::Refused(error)) => Some(Err(error.into())),
            Err(error) => panic!("{error}\n{}", self.log()),
        })
        .await
    }

    /// Waits until the status describes a problem with the cluster that contains this text.
    pub(crate) async fn says(&self, words: &str) {
        let seen = until(async || {
            self.status()
                .await
                .cluster
                .unwrap()
                .problem
                .filter(|why| why.contains(words))
        })
        .await;
        assert!(seen.contains(words));
    }

    /// Waits until the node is in the cluster, which it makes if there is none, and in this mode.
    pub(crate) async fn joined(&self) {
        drop(self.init().await);
        self.has_joined().await;
    }

    /// Waits until the node is in the cluster that there is, and in this mode.
    pub(crate) async fn has_joined(&self) {
        for wait in [
            Wait::new(WaitFor::Joined),
            Wait {
                mode: Some(Mode::Normal),
                ..Wait::new(WaitFor::Mode)
            },
        ] {
            let wait = Wait {
                timeout_seconds: Some(PATIENCE.as_secs_f64()),
                ..wait
            };
            let ended = self.ask(&wait).await;
            assert_eq!(
                ended.outcome,
                Outcome::Reached,
                "{:#?}\n{}",
                ended.status,
                self.log()
            );
        }
    }

    pub(crate) async fn set(&self, mode: SettableMode) -> ModeChanged {
        self.ask(&ChangeMode::to(mode)).await
    }

    pub(crate) async fn connect(&self, channel: &str, connection: &str) -> Decision {
        self.ask(&connect(channel, connection)).await
    }

    /// Asks until the answer is an offer; gives its token.
    pub(crate) async fn offered(&self, channel: &str, connection: &str) -> u64 {
        until(
            async || match self.try_ask(&connect(channel, connection)).await {
                Ok(Decision::Offer { claim, .. }) => Some(claim.unwrap().token),
                Ok(Decision::Redirect { .. } | Decision::Reject { .. })
                | Err(ClientError::Refused(_)) => None,
                Err(error) => panic!("{error}\n{}", self.log()),
            },
        )
        .await
    }

    pub(crate) async fn disconnect(&self, connection: &str) {
        self.ask(&Disconnect {
            connection_id: ConnectionId::new(connection).unwrap(),
        })
        .await;
    }

    /// Waits until it sees these nodes, each as `name mode`, and those that are gone as `name`.
    pub(crate) async fn sees(&self, wanted: &[&str]) {
        until(async || {
            let nodes = self
                .ask(&ListClusterNodes {
                    count_orphaned: false,
                })
                .await
                .nodes;
            let words = nodes.iter().map(|node| {
                format!(
                    "{} {}",
                    node.node_name,
                    node.mode.map(Mode::name).unwrap_or_default()
                )
            });
            let words: Vec<String> = words.map(|word| word.trim().to_owned()).collect();
            (words == wanted).then_some(())
        })
        .await;
    }

    /// The events from now on.
    pub(crate) async fn events(&self) -> Events {
        Events::of(self, Subscribe::default()).await
    }

    /// All events that are kept.
    pub(crate) async fn all_events(&self) -> Events {
        Events::of(
            self,
            Subscribe {
                from: SubscribeFrom::Seq(1),
                ..Subscribe::default()
            },
        )
        .await
    }

    pub(crate) fn log(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn connect(channel: &str, connection: &str) -> Connect {
    Connect::new(
        channel.parse().unwrap(),
        ConnectionId::new(connection).unwrap(),
    )
}

/// Asks again and again until there is something.
pub(crate) async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(began.elapsed() < PATIENCE, "it never came about");
        tokio::task::yield_now().await;
    }
}

/// Events of a node, and the sessions that must end on its SFU.
pub(crate) struct Events {
    client: Client,
    /// All types, in their order.
    pub(crate) seen: Vec<&'static str>,
}

impl Events {
    async fn of(node: &Node, subscribe: Subscribe) -> Self {
        let mut client = node.client().await;
        client
            .call(&Subscribe {
                ends: true,
                ..subscribe
            })
            .await
            .unwrap();
        Self {
            client,
            seen: Vec::new(),
        }
    }

    async fn next(&mut self) -> Notification {
        loop {
            let heard = timeout(PATIENCE, self.client.receive()).await;
            if let Message::Notification(heard) = heard
                .unwrap_or_else(|_| panic!("nothing more after {:?}", self.seen))
                .unwrap()
            {
                return heard;
            }
        }
    }

    /// Waits for an event of this type.
    pub(crate) async fn until(&mut self, wanted: &str) {
        let from = self.seen.len();
        while !self.seen[from..].contains(&wanted) {
            if let Notification::Event(event) = self.next().await {
                self.seen.push(name(&event.kind));
            }
        }
    }

    /// Waits until something is to end, and says that it has.
    pub(crate) async fn obey(&mut self) {
        loop {
            match self.next().await {
                Notification::Fence(Fence { id, .. }) => {
                    self.client.send(&Acknowledge { id }).await.unwrap();
                    return;
                }
                Notification::Event(event) => self.seen.push(name(&event.kind)),
                Notification::Gap(_)
                | Notification::Progress(_)
                | Notification::End(_)
                | Notification::Announce(_) => {}
            }
        }
    }
}

fn name(kind: &EventKind) -> &'static str {
    kind.event_type().map_or("unknown", EventType::name)
}

/// Three nodes that see one another.
pub(crate) async fn three(etcd: &Etcd, words: &[&str]) -> [Node; 3] {
    let nodes = ["n1", "n2", "n3"].map(|name| Node::start(name, etcd, words));
    for node in &nodes {
        node.joined().await;
    }
    for node in &nodes {
        node.sees(&["n1 normal", "n2 normal", "n3 normal"]).await;
    }
    nodes
}

/// Its place in the cluster is this.
pub(crate) async fn stands(node: &Node, membership: Membership, mode: Mode) {
    let status = node.status().await;
    assert_eq!(
        (status.membership, status.mode.mode),
        (membership, mode),
        "{status:#?}"
    );
}
