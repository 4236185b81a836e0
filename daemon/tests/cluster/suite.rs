//! The whole: three members of etcd, three nodes, clients, an operator, and faults. Afterwards the checker says whether a
//! channel was ever served by two nodes, and everything must be as it was within its time.
//!
//! `SORAMODE_FAULT_MINUTES` says for how long (3), `SORAMODE_SEED` with which random numbers.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::Mode;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::checker::{Service, Violation, What, check};
use crate::clock;
use crate::etcd::{Etcd, History, MEMBERS};
use crate::faults::{Beside, Content, Fault, Kind, Site};
use crate::load::{CHANNELS, CLIENTS, Counts, channel, come_and_go, enter, operate};
use crate::net::{self, Net, Way};
use crate::nodes::{Daemon, Daemons, NODES, Nodes, PREFIX, TAKEOVER_WAIT, makes_its_cluster};

const MINUTES_DEFAULT: u64 = 3;

/// Time for recovery after the last fault, beyond a takeover's wait.
const RECOVERY: Duration = Duration::from_secs(15);

/// Timeout for starting etcd and the nodes.
const START: Duration = Duration::from_mins(1);

/// Time in which nodes that take over without a wait must serve a channel twice.
const HASTY_MAX: Duration = Duration::from_mins(3);

/// Lifetime of a replaced etcd: the nodes are isolated after less, and fenced after more.
const LOST_FOR: Duration = Duration::from_secs(4);

/// Lifetime of a replaced etcd that ends before each node has judged it.
const LOST_BRIEFLY: Duration = Duration::from_millis(300);

/// Services that a run must have seen for each minute: with fewer it shows little.
const SERVICES_PER_MINUTE: usize = 100;

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// One network at a time: there are two cores.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn no_channel_is_served_twice_whatever_fails() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    net::require();
    let minutes = number("SORAMODE_FAULT_MINUTES").unwrap_or(MINUTES_DEFAULT);
    let seed = number("SORAMODE_SEED").unwrap_or(1);
    eprintln!("{minutes} minutes, SORAMODE_SEED={seed}");
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let mut run = Run::start(folder.path(), Daemon::Sound, seed).await;
        let mut kinds = Deck::new(&Kind::ALL, seed);
        let end = Instant::now() + Duration::from_mins(minutes);
        while Instant::now() < end {
            run.fail(&mut kinds).await;
        }
        run.recover().await;
        let (services, violations) = run.judge().await;
        assert!(
            violations.is_empty(),
            "{} violations, SORAMODE_SEED={seed}:\n{}",
            violations.len(),
            list(&violations)
        );
        let least = SERVICES_PER_MINUTE * usize::try_from(minutes).unwrap();
        assert!(
            services.len() >= least,
            "{} services are too few to show anything",
            services.len()
        );
    });
}

#[test]
fn no_node_joins_an_etcd_that_lost_the_claims() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    net::require();
    let seed = number("SORAMODE_SEED").unwrap_or(1);
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let mut run = Run::start(folder.path(), Daemon::Sound, seed).await;
        let short = [(
            Kind::LostClaims(Content::Earlier, Beside::Nothing),
            LOST_BRIEFLY,
        )];
        let long = Kind::OF_LOST_CLAIMS.map(|kind| (kind, LOST_FOR));
        for (kind, length) in short.into_iter().chain(long) {
            let fault = Fault {
                length,
                ..Fault::draw(kind, &mut run.rng)
            };
            run.suffer(&[fault]).await;
            let (_, violations) = run.judge().await;
            assert!(
                violations.is_empty(),
                "{} violations, SORAMODE_SEED={seed}:\n{}",
                violations.len(),
                list(&violations)
            );
            run.until_normal(RECOVERY + TAKEOVER_WAIT).await;
        }
        run.recover().await;
    });
}

#[test]
fn takeovers_that_do_not_wait_are_found_out() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    net::require();
    let seed = number("SORAMODE_SEED").unwrap_or(1);
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let mut run = Run::start(folder.path(), Daemon::Hasty, seed).await;
        let mut kinds = Deck::new(&Kind::OF_NODES, seed);
        let end = Instant::now() + HASTY_MAX;
        let mut overlaps = 0;
        while overlaps == 0 && Instant::now() < end {
            let fault = Fault::draw_long(kinds.draw(), &mut run.rng);
            run.suffer(&[fault]).await;
            let (_, violations) = run.judge().await;
            overlaps = violations
                .iter()
                .filter(|it| matches!(it, Violation::Overlap { .. }))
                .count();
        }
        assert!(
            overlaps > 0,
            "no wait, and no channel was served twice: the suite cannot see what it is for"
        );
    });
}

/// The network, etcd and the watch of it, without soramode: a cut cuts, and a heal heals.
#[test]
fn the_network_and_the_history_are_real() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    net::require();
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let mut net = Net::new();
        let etcd = Etcd::start(&mut net, folder.path());
        let history = History::new(PREFIX, &etcd);
        let (mut tasks, watching) = (JoinSet::new(), Arc::clone(&history));
        tasks.spawn(async move { watching.watch().await });
        let leader = etcd.leader().await;
        net.cut(MEMBERS[leader]);
        let second = etcd.leader().await;
        assert_ne!(second, leader, "who is cut off leads nobody");
        history.write("m/n1", "normal").await.unwrap();
        net.join(MEMBERS[leader]);
        for way in [Way::Out, Way::In] {
            net.lose(MEMBERS[second], way, 100);
            assert_ne!(etcd.leader().await, second, "who is not heard leads nobody");
            net.lose_nothing(MEMBERS[second], way);
        }
        history.write("c/spam", r#"{"node":"n1"}"#).await.unwrap();
        let mut whole: Vec<What> = history
            .whole()
            .await
            .into_iter()
            .map(|change| change.what)
            .collect();
        // A write is repeated if a change of the leader has lost its answer.
        whole.dedup();
        let mode = What::Mode {
            node: "n1".to_owned(),
            mode: Some("normal".to_owned()),
        };
        assert_eq!(
            whole,
            [
                mode,
                What::Claimed {
                    channel: "spam".to_owned(),
                    node: "n1".to_owned()
                }
            ]
        );
    });
}

/// A cluster under load.
struct Run<'a> {
    site: Site<'a>,
    nodes: Arc<Nodes>,
    counts: Arc<Counts>,
    history: Arc<History>,
    rng: Rng,
    faults: u64,
    tasks: JoinSet<()>,
}

impl<'a> Run<'a> {
    async fn start(folder: &'a std::path::Path, daemon: Daemon, seed: u64) -> Self {
        let mut net = Net::new();
        let etcd = Etcd::start(&mut net, folder);
        let daemons = Daemons::start(&mut net, folder, etcd.endpoints(), daemon);
        let (nodes, counts, history) = (
            Nodes::new(folder),
            Arc::new(Counts::default()),
            History::new(PREFIX, &etcd),
        );
        let site = Site {
            daemons,
            etcd,
            net,
            folder,
        };
        let mut run = Self {
            site,
            nodes,
            counts,
            history,
            rng: Rng::with_seed(seed),
            faults: 0,
            tasks: JoinSet::new(),
        };
        run.serve();
        if !makes_its_cluster() {
            run.nodes.init(0).await;
        }
        run.until_normal(START).await;
        run.load(seed);
        run
    }

    /// Starts the SFUs, and the watch of etcd.
    fn serve(&mut self) {
        for sfu in &self.nodes.sfus {
            let (granted, ungranted, fences) = (Arc::clone(sfu), Arc::clone(sfu), Arc::clone(sfu));
            self.tasks
                .spawn(async move { granted.keep_granted().await });
            self.tasks
                .spawn(async move { ungranted.die_ungranted().await });
            self.tasks.spawn(async move { fences.obey_fences().await });
        }
        let history = Arc::clone(&self.history);
        self.tasks.spawn(async move { history.watch().await });
    }

    fn load(&mut self, seed: u64) {
        for client in 0..CLIENTS {
            let (nodes, counts) = (Arc::clone(&self.nodes), Arc::clone(&self.counts));
            let rng = Rng::with_seed(seed.wrapping_mul(CLIENTS + 1) + client);
            self.tasks
                .spawn(async move { come_and_go(&nodes, &counts, rng).await });
        }
        let (nodes, rng) = (
            Arc::clone(&self.nodes),
            Rng::with_seed(seed.wrapping_mul(CLIENTS + 1) + CLIENTS),
        );
        self.tasks.spawn(async move { operate(&nodes, rng).await });
    }

    /// One fault, or two at the same time, and a while without any.
    async fn fail(&mut self, kinds: &mut Deck) {
        let mut faults = vec![Fault::draw(kinds.draw(), &mut self.rng)];
        if self.rng.u64(..4) == 0 {
            let second = Fault::draw(kinds.draw(), &mut self.rng);
            if !second.meets(&faults[0]) {
                faults.push(second);
            }
        }
        self.suffer(&faults).await;
        self.history.check_nothing_lost(&self.site.etcd).await;
        tokio::time::sleep(Duration::from_millis(500 + self.rng.u64(..5_000))).await;
    }

    async fn suffer(&mut self, faults: &[Fault]) {
        self.check_tasks();
        let mut remedies = Vec::new();
        for fault in faults {
            eprintln!("{:.1?} {fault}", clock::boot());
            self.faults += 1;
            let remedy = self.site.inject(*fault).await;
            remedies.push((Instant::now() + fault.length, remedy));
        }
        remedies.sort_by_key(|(end, _)| *end);
        for (end, remedy) in remedies {
            tokio::time::sleep_until(end).await;
            self.site.heal(remedy);
        }
        self.site.check_all_run();
    }

    /// After the last fault: every node is normal, and every channel can be had.
    async fn recover(&mut self) {
        let start = Instant::now();
        self.until_normal(RECOVERY + TAKEOVER_WAIT).await;
        eprintln!("every node is normal after {:.1?}", start.elapsed());
        for number in 0..CHANNELS {
            while !self.can_have(&channel(number)).await {
                let late = start.elapsed();
                assert!(
                    late < RECOVERY + TAKEOVER_WAIT,
                    "channel {number} cannot be had after {late:?}: {:?}",
                    self.counts.outs()
                );
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        eprintln!("every channel can be had after {:.1?}", start.elapsed());
    }

    async fn can_have(&mut self, channel: &ChannelId) -> bool {
        let first = usize::try_from(self.rng.u64(..3)).unwrap();
        let Some((node, connection)) = enter(&self.nodes, &self.counts, channel, first).await
        else {
            return false;
        };
        self.nodes.sfus[node].leave(channel, &connection).await;
        true
    }

    /// The operator may have closed a node: it is opened again. A node that a rolled-back etcd was shown to, and the previous one before it
    /// could mark that, is restarted, as its status says.
    async fn until_normal(&mut self, patience: Duration) {
        let start = Instant::now();
        let mut has_restarted = false;
        loop {
            let mut modes = Vec::new();
            for node in 0..NODES.len() {
                modes.push(self.nodes.open(node).await);
            }
            if modes.iter().all(|mode| *mode == Some(Mode::Normal)) {
                return;
            }
            self.site.check_all_run();
            if start.elapsed() > patience / 2 && !has_restarted {
                has_restarted = true;
                self.restart_nodes_that_ask().await;
            }
            let is_late = start.elapsed() > patience;
            let told = if is_late {
                format!("{}\n{}", self.logs(), self.nodes.describe().await)
            } else {
                String::new()
            };
            assert!(!is_late, "{modes:?} after {patience:?}:\n{told}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn restart_nodes_that_ask(&mut self) {
        for node in 0..NODES.len() {
            if self.nodes.asks_for_a_restart(node).await {
                self.site.restart_daemon(node);
            }
        }
    }

    /// Returns the services so far, and their violations.
    async fn judge(&mut self) -> (Vec<Service>, Vec<Violation>) {
        self.check_tasks();
        // Services first: the history that is read later covers them.
        let services: Vec<Service> = self
            .nodes
            .sfus
            .iter()
            .flat_map(|sfu| sfu.services())
            .collect();
        let history = self.history.whole().await;
        let violations = check(&services, &history);
        let overlaps = violations
            .iter()
            .filter(|it| matches!(it, Violation::Overlap { .. }))
            .count();
        let (offers, redirects) = (
            self.counts.offers.load(Ordering::Relaxed),
            self.counts.redirects.load(Ordering::Relaxed),
        );
        eprintln!(
            "{} faults; {} services checked against {} changes in etcd: {overlaps} overlaps, {} violations in all; \
             {offers} offers, {redirects} redirects, out: {:?}",
            self.faults,
            services.len(),
            history.len(),
            violations.len(),
            self.counts.outs(),
        );
        (services, violations)
    }

    /// None of them ever ends but by a panic.
    fn check_tasks(&mut self) {
        if let Some(ended) = self.tasks.try_join_next() {
            panic!("a part of the test ended: {ended:?}");
        }
    }

    fn logs(&self) -> String {
        let logs = self
            .site
            .daemons
            .processes
            .iter()
            .map(|it| format!("== {}\n{}", it.name(), it.log_tail()));
        logs.collect::<Vec<_>>().join("\n")
    }
}

/// Kinds of faults, shuffled anew whenever all were drawn: each comes.
struct Deck {
    all: &'static [Kind],
    left: Vec<Kind>,
    rng: Rng,
}

impl Deck {
    fn new(all: &'static [Kind], seed: u64) -> Self {
        Self {
            all,
            left: Vec::new(),
            rng: Rng::with_seed(!seed),
        }
    }

    fn draw(&mut self) -> Kind {
        if self.left.is_empty() {
            self.left = self.all.to_vec();
        }
        let place = usize::try_from(self.rng.u64(..self.left.len() as u64)).unwrap();
        self.left.swap_remove(place)
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| {
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} takes a number, got {value:?}"))
    })
}

fn list(violations: &[Violation]) -> String {
    let first: Vec<String> = violations
        .iter()
        .take(20)
        .map(|violation| format!("{violation:?}"))
        .collect();
    first.join("\n")
}
