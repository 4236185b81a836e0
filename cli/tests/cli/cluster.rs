//! The verbs that are about the cluster, against three nodes on a real etcd.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use soramode_testkit::daemon::DaemonThread;
use soramoded::args::Args;
use soramoded::config::Config;
use tempfile::TempDir;

use crate::support::{Ended, Run, program, until};

/// A single etcd member, stopped at the end of the test.
pub(crate) struct Etcd {
    child: Child,
    pub(crate) url: String,
    _folder: TempDir,
}

impl Etcd {
    pub(crate) fn start() -> Self {
        let (folder, url, peer) = (tempfile::tempdir().unwrap(), free_url(), free_url());
        let mut command = Command::new("etcd");
        command
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .args(["--name", "e1", "--log-level", "error"]);
        command.args(["--initial-cluster", &format!("e1={peer}")]);
        for (flag, value) in [("client", &url), ("peer", &peer)] {
            command.args([&format!("--listen-{flag}-urls"), value]);
        }
        command.args([
            "--advertise-client-urls",
            &url,
            "--initial-advertise-peer-urls",
            &peer,
        ]);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self {
            child: child.unwrap_or_else(|error| panic!("{error}: apt-get install etcd-server")),
            url,
            _folder: folder,
        }
    }

    /// Takes away everything in it.
    pub(crate) fn empty(&self) {
        let deleted = Command::new("etcdctl")
            .args(["--endpoints", &self.url, "del", "", "--prefix"])
            .ended();
        assert_eq!(deleted.code, 0, "{deleted:?}");
    }

    /// Stops it without an end of its connections: nothing is answered any more.
    pub(crate) fn hang(&self) {
        let pid = self.child.id().to_string();
        let ended = Command::new("kill").args(["-STOP", &pid]).ended();
        assert_eq!(ended.code, 0, "{ended:?}");
    }

    fn kill(&mut self) {
        // The process may have ended.
        self.child.kill().unwrap_or_default();
        self.child.wait().unwrap();
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn free_url() -> String {
    format!(
        "http://{}",
        TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
    )
}

/// A node of a cluster, with a state that outlives its daemon.
pub(crate) struct Node {
    // Before the folder: the daemon stops while its files are there.
    running: Option<DaemonThread>,
    folder: TempDir,
    config: Config,
}

impl Node {
    /// Starts a node with an API that the other nodes know.
    pub(crate) fn start(name: &str, etcd: &Etcd) -> Self {
        let node = Self::start_before_init(name, etcd);
        until(|| node.has_init().then_some(()));
        node.ok(&["wait", "joined", "--timeout", "60s"]);
        node
    }

    /// Starts a node before the cluster exists.
    pub(crate) fn start_before_init(name: &str, etcd: &Etcd) -> Self {
        Self::start_in("default", name, etcd)
    }

    /// Starts a node of the cluster of this name, which may not exist.
    pub(crate) fn start_in(cluster: &str, name: &str, etcd: &Etcd) -> Self {
        let api = free_url();
        Self::start_as(cluster, name, etcd, [&api, &api])
    }

    /// Starts a node with an API that the other nodes know by another address, before the cluster exists.
    pub(crate) fn start_with_api(name: &str, etcd: &Etcd, api: &str, known_api: &str) -> Self {
        Self::start_as("default", name, etcd, [api, known_api])
    }

    fn start_as(cluster: &str, name: &str, etcd: &Etcd, [api, known_api]: [&str; 2]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let words = [
            format!("--node-name={name}"),
            format!("--socket={}", folder.path().join("soramode.sock").display()),
            format!("--state-dir={}", folder.path().join("state").display()),
            format!("--cluster={}", etcd.url),
            format!("--cluster-name={cluster}"),
            format!("--api-listen={}", api.trim_start_matches("http://")),
            format!("--api-url={known_api}"),
            format!("--signaling-url=wss://{name}.example.com/signaling"),
            "--cluster-ttl=3s".to_owned(),
            "--cluster-heartbeat=200ms".to_owned(),
            "--isolated-after=2s".to_owned(),
        ];
        let words = std::iter::once("soramoded".to_owned())
            .chain(words)
            .map(Into::into);
        let config = Config::load(Args::read_from(words).unwrap()).unwrap();
        let mut node = Self {
            folder,
            config,
            running: None,
        };
        node.start_again();
        node
    }

    pub(crate) fn start_again(&mut self) {
        self.running = Some(DaemonThread::start(self.config.clone()));
        until(|| self.socket().exists().then_some(()));
    }

    fn lose_state(&self) {
        std::fs::remove_dir_all(self.folder.path().join("state")).unwrap();
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("soramode.sock")
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        program(&self.socket()).args(args).ended()
    }

    /// Makes the cluster, unless it is there; not before etcd answers.
    fn has_init(&self) -> bool {
        let ended = self.run(&["nodes", "init"]);
        ended.code == 0 || ended.stderr.contains("already")
    }

    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, 0, "{args:?}: {ended:?}");
        ended.stdout
    }

    fn json(&self, args: &[&str]) -> Value {
        self.run(&[&["--json"], args].concat()).json()
    }

    pub(crate) fn stop(&mut self) {
        self.running = None;
    }

    /// Lists the nodes as this one does: `name mode membership`.
    pub(crate) fn nodes(&self) -> Vec<String> {
        let words = |line: &str| line.split('\t').take(3).collect::<Vec<_>>().join(" ");
        self.ok(&["nodes", "-o", "plain"])
            .lines()
            .map(words)
            .collect()
    }
}

fn three(etcd: &Etcd) -> [Node; 3] {
    let nodes = ["n1", "n2", "n3"].map(|name| Node::start(name, etcd));
    for node in &nodes {
        until(|| {
            (node.nodes() == ["n1 normal joined", "n2 normal joined", "n3 normal joined"])
                .then_some(())
        });
    }
    nodes
}

#[test]
fn one_node_lists_and_controls_the_cluster() {
    let etcd = Etcd::start();
    let [n1, n2, n3] = three(&etcd);
    let row = n1
        .ok(&["nodes", "-o", "plain"])
        .lines()
        .nth(1)
        .unwrap()
        .to_owned();
    let cells: Vec<&str> = row.split('\t').collect();
    assert_eq!(
        (cells[3], cells[4], cells[7], cells[8]),
        ("0", "0", "", "wss://n2.example.com/signaling"),
        "{row}"
    );
    assert_eq!(n1.run(&["set", "initial"]).code, 5);
    assert_eq!(n1.run(&["set", "initial", "--node", "n2"]).code, 5);

    // A change over the API suggests an undo over the API.
    let set = n1.ok(&["set", "block_new_session", "--node", "n2"]);
    let undo = "Undo: soramode set normal --node n2\n";
    assert!(
        set.starts_with("n2: normal -> block_new_session (0 sessions") && set.ends_with(undo),
        "{set}"
    );
    assert_eq!(n2.ok(&["get"]), "block_new_session\n");
    n1.ok(&[
        "wait",
        "mode=block_new_session",
        "--node",
        "n2",
        "--timeout",
        "30s",
    ]);
    n1.ok(&[
        "drain",
        "--node",
        "n2",
        "--timeout",
        "30s",
        "--require-published",
    ]);
    // The API of a soramoded takes a reason.
    n1.ok(&["set", "normal", "--node", "n2"]);
    n1.ok(&["set", "block_new_session", "--node", "n2", "-m", "CHG-2"]);
    assert_eq!(n2.json(&["get"])["reason"], "CHG-2");
    assert_eq!(n1.run(&["set", "normal", "--node", "n9"]).code, 9);
    assert!(
        n1.run(&["drain", "--node", "n9"])
            .stderr
            .contains("no node n9; its nodes are n1, n2, n3")
    );
    // The node's own name selects its socket, with all its features.
    n1.ok(&["set", "block_new_connection", "--node", "n1", "-m", "CHG-1"]);
    n1.ok(&["set", "normal"]);

    until(|| {
        n1.nodes()
            .contains(&"n2 block_new_session joined".to_owned())
            .then_some(())
    });
    let refused = n1.run(&["drain", "--keep-open", "2"]);
    let words = "1 other node is open (n3), and --keep-open asks for 2. Nothing was changed";
    assert_eq!(
        (refused.code, refused.stderr.contains(words)),
        (5, true),
        "{refused:?}"
    );
    assert_eq!(
        n1.run(&[
            "set",
            "block_new_session",
            "--keep-open",
            "2",
            "--node",
            "n3"
        ])
        .code,
        5
    );
    assert_eq!(n1.ok(&["get"]), "normal\n");
    n1.ok(&["drain", "--keep-open", "1", "--timeout", "30s"]);
    // A node that is closed already may be drained.
    n1.ok(&["drain", "--keep-open", "2", "--timeout", "30s"]);
    until(|| {
        n3.nodes()
            .contains(&"n1 block_new_session joined".to_owned())
            .then_some(())
    });
    assert!(
        n3.run(&["drain", "--keep-open", "1"])
            .stderr
            .contains("0 other nodes are open, and")
    );
}

#[test]
fn a_client_is_followed_to_the_node_that_takes_it() {
    let etcd = Etcd::start();
    let [n1, n2, n3] = three(&etcd);
    n1.ok(&["set", "block_new_session"]);
    n2.ok(&["set", "block_new_session"]);
    until(|| {
        n1.nodes()
            .contains(&"n2 block_new_session joined".to_owned())
            .then_some(())
    });
    assert!(n1.ok(&["explain", "spam"]).contains("redirect"));
    let run = n1.run(&["connect", "spam"]);
    assert_eq!(
        (run.code, run.stdout.as_str()),
        (1, "redirect: to n3 at wss://n3.example.com/signaling\n")
    );
    let followed = n1.run(&["connect", "spam", "--connection-id", "c1", "--follow"]);
    let expected = "redirected to n3\nthe connection stays, and a drain waits for it. To remove it, on n3: soramode disconnect c1\n";
    assert_eq!(
        (followed.code, followed.stderr.as_str()),
        (0, expected),
        "{followed:?}"
    );
    assert!(
        followed
            .stdout
            .starts_with("n3: offer: connection \"c1\" on channel \"spam\", a new session"),
        "{followed:?}"
    );
    let again = n1.json(&["connect", "spam", "--connection-id", "c1", "--follow"]);
    assert_eq!(
        (
            &again["type"],
            &again["answered_by"],
            &again["hops"],
            &again["created"]
        ),
        (&json!("offer"), &json!("n3"), &json!(1), &json!(false))
    );
    let here = n3.json(&["connect", "spam", "--connection-id", "c2", "--follow"]);
    assert_eq!(
        (&here["hops"], &here["answered_by"]),
        (&json!(0), &Value::Null)
    );
    assert!(
        n3.ok(&["explain", "egg"])
            .starts_with("channel \"egg\", mode normal: offer")
    );
}

#[test]
fn channels_of_a_lost_node_are_orphaned_until_it_is_purged() {
    let etcd = Etcd::start();
    let [n1, n2, mut n3] = three(&etcd);
    for node in [&n1, &n2] {
        node.ok(&["set", "block_new_session"]);
    }
    until(|| {
        n3.nodes()
            .contains(&"n2 block_new_session joined".to_owned())
            .then_some(())
    });
    n3.ok(&["connect", "spam"]);
    for node in [&n1, &n2] {
        node.ok(&["set", "normal"]);
    }
    assert_eq!(
        n1.run(&["nodes", "purge", "n3", "--accept-risk=still-running"])
            .code,
        5,
        "it is there"
    );
    assert_eq!(
        n1.ok(&["wait", "joined", "--node", "n3", "-o", "plain"]),
        "reached\tn3\n"
    );
    n3.stop();
    until(|| n1.nodes().contains(&"n3  lost".to_owned()).then_some(()));
    assert!(
        n1.ok(&["nodes", "-o", "plain"])
            .contains("n3\t\tlost\t\t\t\t\t1 until purged or back\t\t\n")
    );
    let run = n1.run(&["connect", "spam"]);
    assert_eq!(
        (run.code, run.stdout.contains("OWNER-LOST")),
        (1, true),
        "{run:?}"
    );
    assert!(
        n1.ok(&["explain", "spam"])
            .starts_with("channel \"spam\", mode normal: reject OWNER-LOST, because "),
        "as connect says"
    );
    let doctor = n1.run(&["doctor", "-o", "plain"]).stdout;
    let row = "BAD\tnodes\tn3 is lost, with 1 orphaned channel (clients are rejected with OWNER-LOST)\tStart it again. If its machine is off for good: \
               soramode nodes purge n3 --accept-risk=still-running\n";
    assert!(doctor.contains(row), "{doctor}");
    let late = n1.run(&[
        "--json",
        "wait",
        "joined",
        "--node",
        "n3",
        "--timeout",
        "100ms",
    ]);
    assert_eq!(
        (late.code, &late.json()["outcome"]),
        (124, &json!("timeout")),
        "{late:?}"
    );
    let unasked = n1.run(&["set", "block_new_session", "--node", "n3"]);
    assert_eq!(
        (unasked.code, unasked.stderr.contains("n3 is lost")),
        (5, true),
        "{unasked:?}"
    );
    let purged = n1.ok(&["nodes", "purge", "n3", "--accept-risk=still-running"]);
    assert!(
        purged.starts_with("Purged n3: its 1 orphaned channel may now open on any node"),
        "{purged}"
    );
    assert!(
        n1.ok(&["nodes", "-o", "plain"])
            .lines()
            .all(|line| !line.contains("purged"))
    );
    let offered =
        until(|| Some(n2.run(&["connect", "spam", "--follow"])).filter(|ended| ended.code == 0));
    assert!(offered.stdout.contains("offer"), "{offered:?}");
    let unknown = n1.run(&["nodes", "purge", "n9", "--accept-risk=still-running"]);
    assert_eq!(
        (
            unknown.code,
            unknown.stderr.contains("the cluster has no node \"n9\"")
        ),
        (9, true),
        "{unknown:?}"
    );
}

#[test]
fn a_lost_node_without_channels_is_removed_from_each_list() {
    let etcd = Etcd::start();
    let [n1, n2, mut n3] = three(&etcd);
    let lost = "n3  lost".to_owned();
    n3.stop();
    for node in [&n1, &n2] {
        until(|| node.nodes().contains(&lost).then_some(()));
    }
    let doctor = n1.run(&["doctor", "-o", "plain"]).stdout;
    let row = "If its machine is off for good, remove it: soramode nodes purge n3 --accept-risk=still-running\n";
    assert!(doctor.contains(row), "{doctor}");
    let purged = n1.ok(&["nodes", "purge", "n3", "--accept-risk=still-running"]);
    assert!(purged.starts_with("n3 is no longer listed"), "{purged}");
    for node in [&n1, &n2] {
        until(|| (!node.nodes().contains(&lost)).then_some(()));
    }
    n3.start_again();
    n3.ok(&["wait", "joined", "--timeout", "1m"]);
}

#[test]
fn a_lost_state_is_reported_and_the_earlier_incarnation_can_be_purged() {
    let etcd = Etcd::start();
    let [n1, mut n2] = ["n1", "n2"].map(|name| Node::start(name, &etcd));
    n1.ok(&["set", "block_new_session"]);
    until(|| (n2.run(&["connect", "spam"]).code == 0).then_some(()));
    n1.ok(&["set", "normal"]);
    n2.stop();
    n2.lose_state();
    n2.start_again();
    n2.ok(&["wait", "joined", "--timeout", "1m"]);
    // Its SFU may still serve the sessions that it has no record of.
    n2.ok(&["set", "block_new_session"]);
    for command in ["is drained", "drain", "maintain -- false"] {
        let refused = n2.run(&command.split(' ').collect::<Vec<_>>());
        let says = [
            "n2 has no record of its earlier run, which still owns channels in etcd",
            "run: soramode nodes purge n2 --accept-risk=still-running",
        ];
        let has_said = says.iter().all(|text| refused.stderr.contains(text));
        assert_eq!((refused.code, has_said), (8, true), "{refused:?}");
    }
    n2.ok(&["drain", "--assume-complete"]);
    for node in [&n1, &n2] {
        let run = until(|| {
            Some(node.run(&["explain", "spam"])).filter(|run| !run.stdout.contains("redirect"))
        });
        assert!(run.stdout.contains("reject OWNER-LOST"), "{run:?}");
        let doctor = until(|| {
            Some(node.run(&["doctor", "-o", "plain"]).stdout)
                .filter(|said| said.contains("n2 has lost its state"))
        });
        assert!(
            doctor.contains("Then run: soramode nodes purge n2 --accept-risk=still-running"),
            "{doctor}"
        );
    }
    let purged = n1.ok(&["nodes", "purge", "n2", "--accept-risk=still-running"]);
    assert!(
        purged.starts_with("Purged the earlier run of n2: ") && !purged.contains("Do not start"),
        "{purged}"
    );
    let doctor = n1.run(&["doctor", "-o", "plain"]).stdout;
    assert!(
        doctor.contains("ok\tnodes\t2 nodes registered, no orphaned channels"),
        "{doctor}"
    );
    until(|| (n2.run(&["is", "drained"]).code == 0).then_some(()));
    let offered =
        until(|| Some(n1.run(&["connect", "spam", "--follow"])).filter(|ended| ended.code == 0));
    assert!(offered.stdout.contains("offer"), "{offered:?}");
    assert_eq!(
        n1.run(&["nodes", "purge", "n2", "--accept-risk=still-running"])
            .code,
        5,
        "nothing of an earlier incarnation is left"
    );
}

#[test]
fn without_etcd_unknown_states_are_reported() {
    let mut etcd = Etcd::start();
    let node = Node::start("n1", &etcd);
    let status = node.ok(&["status", "-o", "plain"]);
    for row in [
        "membership\tjoined, since ",
        "cluster\tdefault (epoch 1), etcd at http://",
        "ownership\tdoes not expire (last etcd contact ",
        "takeover\tmanual (",
    ] {
        assert!(status.contains(row), "{row}: {status}");
    }
    let doctor = node.ok(&["doctor", "-o", "plain"]);
    assert!(
        doctor.contains("ok\tcluster\t")
            && doctor.contains("ok\tetcd\t")
            && doctor.contains("note\ttakeover\tmanual"),
        "{doctor}"
    );
    assert!(
        !node
            .run(&["set", "block_new_session", "--require-published"])
            .stderr
            .contains("could not be notified")
    );
    node.ok(&["set", "normal"]);
    etcd.kill();
    let set = node.run(&["set", "block_new_session"]);
    assert_eq!(
        (
            set.code,
            set.stderr.contains(
                "warning: n1 is block_new_session, but the other nodes could not be notified"
            )
        ),
        (0, true),
        "{set:?}"
    );
    let drained = node.run(&["drain", "--connections", "--require-published"]);
    assert_eq!(
        (
            drained.code,
            drained
                .stderr
                .contains("n1 is block_new_connection, but the other nodes could not be notified")
        ),
        (5, true),
        "{drained:?}"
    );
    until(|| (node.run(&["is", "joined", "-q"]).code == 1).then_some(()));
    assert!(
        node.ok(&["status", "-o", "plain"])
            .contains("published\tno: ")
    );
    let doctor = node.run(&["doctor", "-o", "plain"]);
    assert!(
        doctor.code == 1
            && doctor.stdout.contains("BAD\tcluster\t")
            && doctor.stdout.contains("BAD\tetcd\t"),
        "{doctor:?}"
    );
    assert!(!doctor.stdout.contains("ok\tnodes\t"), "{doctor:?}");
    let nodes = node.run(&["nodes", "-o", "plain"]);
    assert_eq!(
        (
            nodes.code,
            nodes.stderr.contains("showing the last known state: ")
        ),
        (0, true),
        "{nodes:?}"
    );
    let purge = node.run(&["nodes", "purge", "n9", "--accept-risk=still-running"]);
    assert_eq!(
        (
            purge.code,
            purge
                .stderr
                .contains("only a node that is joined can purge")
        ),
        (5, true),
        "{purge:?}"
    );
    assert_eq!(
        node.run(&["set", "normal"]).code,
        5,
        "who is isolated is not opened"
    );
    assert_eq!(node.run(&["connect", "spam"]).code, 1);
}

#[test]
fn an_isolated_node_is_closed_to_every_client_unless_it_is_told_otherwise() {
    let mut etcd = Etcd::start();
    let node = Node::start("n1", &etcd);
    etcd.kill();
    until(|| (node.ok(&["get"]) == "initial\n").then_some(()));
    let closed = node.ok(&["close"]);
    assert_eq!(
        closed,
        "n1: initial -> block_new_connection (0 sessions, 0 connections stay), as block_new_session would admit clients that an isolated node rejects. It stays closed when it joins its cluster. To admit clients to channels that have a session: soramode set block_new_session\n"
    );
    let looser = node.ok(&["set", "block_new_session"]);
    let words = ". Clients may again join channels that have a session";
    assert!(looser.contains(words), "{looser}");
}
