//! Three nodes: a soramoded and a stand-in for an SFU each. One of them has a slow clock.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use soramode_core::fault::{Fault, PlantedFault};
use soramode_protocol::cluster::InitCluster;
use soramode_protocol::mode::{ChangeMode, GetMode, Mode, SettableMode};
use soramode_protocol::node::GetStatus;
use soramoded::args::Args;
use soramoded::config::Config;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::net::Net;
use crate::process::Process;
use crate::sfu::Sfu;

pub(crate) const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// The cluster's name, and what its keys begin with.
const CLUSTER: &str = "faults";
pub(crate) const PREFIX: &str = "/soramode/v1/faults/";

const FIRST_HOST: u8 = 21;

/// The rate of the last node's clock. The others' are true: less than 1 % apart, as is assumed.
const SLOW_CLOCK: Clock = Clock { rate_milli: 992 };

const LIBFAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// Timings of the nodes: short, so that much happens in little time, and longer than an etcd lease,
/// so that these are often stale.
const TERMS: [&str; 10] = [
    "--cluster-ttl=3s",
    "--cluster-heartbeat=500ms",
    "--isolated-after=2s",
    "--fence-after=5s",
    "--fence-budget=250ms",
    "--dead-man=grant",
    "--on-fence=socket",
    "--max-connections=1000",
    "--socket-grace=5s",
    "--log-format=text",
];

/// Takeover wait with these timings: 1 % and 300 ms more than was promised.
pub(crate) const TAKEOVER_WAIT: Duration = Duration::from_micros(5_602_500);

/// The daemon that is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Daemon {
    /// The unchanged daemon.
    Sound,
    /// Its takeovers do not wait: this test's own binary plays it.
    Hasty,
}

/// Variable that makes the test's binary run as a daemon.
const PLAY: &str = "SORAMODE_TEST_PLAYS_DAEMON";

/// Timeout until a node can create the cluster.
const INIT_MAX: Duration = Duration::from_mins(1);

/// Timeout of a daemon's answer.
const ANSWER_MAX: Duration = Duration::from_millis(500);

/// The SFUs, each with the way to its daemon.
pub(crate) struct Nodes {
    pub(crate) sfus: Vec<Arc<Sfu>>,
}

impl Nodes {
    pub(crate) fn new(folder: &Path) -> Arc<Self> {
        Arc::new(Self {
            sfus: (0..NODES.len())
                .map(|node| Sfu::new(NODES[node], socket(folder, node), clock(node)))
                .collect(),
        })
    }

    /// Opens a node if an operator closed it; gives the mode that it said it was in, if it answers.
    pub(crate) async fn open(&self, node: usize) -> Option<Mode> {
        let answer = timeout(ANSWER_MAX, self.sfus[node].ask(&GetMode {})).await;
        let mode = answer.ok()?.ok()?.mode;
        if mode.is_block() {
            self.change_mode(node, SettableMode::Normal).await;
        }
        Some(mode)
    }

    /// Returns whether the node's remedy is to restart its daemon: it cannot know that the previous etcd is back.
    pub(crate) async fn asks_for_a_restart(&self, node: usize) -> bool {
        let answer = timeout(ANSWER_MAX, self.sfus[node].ask(&GetStatus {})).await;
        let problem = answer
            .ok()
            .and_then(Result::ok)
            .and_then(|status| status.cluster?.problem);
        problem.is_some_and(|problem| problem.contains("restart soramoded"))
    }

    /// Makes the cluster, as soon as a node can.
    pub(crate) async fn init(&self, node: usize) {
        let start = Instant::now();
        while !matches!(
            timeout(ANSWER_MAX * 6, self.sfus[node].ask(&InitCluster::default())).await,
            Ok(Ok(_))
        ) {
            assert!(
                start.elapsed() < INIT_MAX,
                "the cluster cannot be made:\n{}",
                self.describe().await
            );
            tokio::time::sleep(ANSWER_MAX / 10).await;
        }
    }

    /// Describes the nodes' states for people.
    pub(crate) async fn describe(&self) -> String {
        let mut all = Vec::new();
        for sfu in &self.sfus {
            let status = timeout(ANSWER_MAX, sfu.ask(&GetStatus {})).await;
            all.push(format!("{}: {status:#?}", sfu.name));
        }
        all.join("\n")
    }

    /// Changes the mode; returns true on success.
    pub(crate) async fn change_mode(&self, node: usize, mode: SettableMode) -> bool {
        // To be normal is published first.
        let answer = timeout(ANSWER_MAX * 6, self.sfus[node].ask(&ChangeMode::to(mode))).await;
        matches!(answer, Ok(Ok(_)))
    }
}

/// The daemons beside them.
pub(crate) struct Daemons {
    pub(crate) processes: Vec<Process>,
    daemon: Daemon,
    endpoints: String,
    folder: PathBuf,
}

impl Daemons {
    pub(crate) fn start(
        net: &mut Net,
        folder: &Path,
        endpoints: &[String],
        daemon: Daemon,
    ) -> Self {
        for (machine, host) in NODES.into_iter().zip(FIRST_HOST..) {
            net.add(machine, host);
        }
        let processes = NODES
            .into_iter()
            .map(|name| Process::new(name, folder))
            .collect();
        let mut daemons = Self {
            processes,
            daemon,
            endpoints: endpoints.join(","),
            folder: folder.to_owned(),
        };
        for node in 0..NODES.len() {
            daemons.start_one(net, node);
        }
        daemons
    }

    pub(crate) fn start_one(&mut self, net: &Net, node: usize) {
        let words = self.words(node);
        let mut command = match self.daemon {
            Daemon::Sound => net.on(NODES[node], &program()),
            Daemon::Hasty => net.on(
                NODES[node],
                std::env::current_exe().unwrap().to_str().unwrap(),
            ),
        };
        match self.daemon {
            Daemon::Sound => command.args(words),
            Daemon::Hasty => command
                .args(["nodes::play_a_hasty_daemon", "--exact", "--nocapture"])
                .env(PLAY, words.join("\n")),
        };
        slow_down(&mut command, clock(node));
        self.processes[node].start(command);
    }

    fn words(&self, node: usize) -> Vec<String> {
        let name = NODES[node];
        let mut words = vec![
            format!("--node-name={name}"),
            format!("--socket={}", socket(&self.folder, node).display()),
            format!(
                "--state-dir={}",
                self.folder.join(format!("{name}.state")).display()
            ),
            format!("--cluster={}", self.endpoints),
            format!("--cluster-name={CLUSTER}"),
            format!("--signaling-url=wss://{name}.example.com/signaling"),
        ];
        words.extend(TERMS.map(str::to_owned));
        words
    }
}

/// The soramoded that is judged: `SORAMODE_FAULT_DAEMON` names another, to see that the suite finds its faults.
fn program() -> String {
    std::env::var("SORAMODE_FAULT_DAEMON")
        .unwrap_or_else(|_| env!("CARGO_BIN_EXE_soramoded").to_owned())
}

/// Returns true for a daemon that creates its cluster in any etcd it finds.
pub(crate) fn makes_its_cluster() -> bool {
    std::env::var_os("SORAMODE_FAULT_DAEMON").is_some()
}

fn socket(folder: &Path, node: usize) -> PathBuf {
    folder.join(format!("{}.sock", NODES[node]))
}

fn clock(node: usize) -> Clock {
    if node + 1 == NODES.len() {
        SLOW_CLOCK
    } else {
        Clock::TRUE
    }
}

fn slow_down(command: &mut Command, clock: Clock) {
    if clock.rate_milli != Clock::TRUE.rate_milli {
        assert!(
            Path::new(LIBFAKETIME).exists(),
            "the fault suite needs: apt-get install libfaketime"
        );
        let rate = format!(
            "+0 x{}.{:03}",
            clock.rate_milli / 1_000,
            clock.rate_milli % 1_000
        );
        command.env("LD_PRELOAD", LIBFAKETIME).env("FAKETIME", rate);
    }
}

/// Not a test: with the variable set, this process becomes a daemon that takes over without a wait.
#[test]
fn play_a_hasty_daemon() {
    let Ok(words) = std::env::var(PLAY) else {
        return;
    };
    let words = std::iter::once("soramoded")
        .chain(words.lines())
        .map(Into::into);
    let mut config = Config::load(Args::read_from(words).unwrap()).unwrap();
    config.cluster.as_mut().unwrap().fault = PlantedFault::of(Fault::TakeoverWithoutWait);
    soramoded::log::start(config.log_format, config.log_level).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(soramoded::run(config, CancellationToken::new()))
        .unwrap();
}
