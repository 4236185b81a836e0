//! Three members of etcd, and all that they ever said of a cluster's keys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Event, EventType, StatusResponse, WatchOptions};
use tokio::time::timeout;

use crate::checker::{Change, What};
use crate::clock;
use crate::faults::Content;
use crate::net::Net;
use crate::process::Process;

pub(crate) const MEMBERS: [&str; 3] = ["e1", "e2", "e3"];

const FIRST_HOST: u8 = 11;

/// Silence after which the watch asks another member.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// Timeout of a request to a member.
const TRY: Duration = Duration::from_secs(1);

/// Longest time without a leader: elections are slow on a busy machine.
const LEADER_TIME_MAX: Duration = Duration::from_mins(1);

/// Lines of a member's log that are shown: a start takes about 60.
const ETCD_LINES: usize = 400;

/// Number of attempts to read the history to its end.
const WHOLE_TRIES: usize = 300;

pub(crate) struct Etcd {
    pub(crate) members: Vec<Process>,
    endpoints: Vec<String>,
    /// Other data is in the place of the true one.
    is_false: Arc<AtomicBool>,
    token: &'static str,
}

/// Cluster token, from which etcd derives its id.
const TOKEN: &str = "true";
const OTHER_TOKEN: &str = "other";

/// Folders of a member's data: the active one, the saved one while another is active, and a copy.
const DATA: &str = "etcd";
const ASIDE: &str = "aside";
const COPY: &str = "copy";

fn data(folder: &Path, member: usize, which: &str) -> PathBuf {
    folder.join(format!("{}.{which}", MEMBERS[member]))
}

impl Etcd {
    pub(crate) fn start(net: &mut Net, folder: &Path) -> Self {
        for (machine, host) in MEMBERS.into_iter().zip(FIRST_HOST..) {
            net.add(machine, host);
        }
        let endpoints = (FIRST_HOST..)
            .take(MEMBERS.len())
            .map(|host| format!("http://{}:2379", net.address(host)))
            .collect();
        let members = MEMBERS
            .into_iter()
            .map(|name| Process::new(name, folder))
            .collect();
        let mut etcd = Self {
            members,
            endpoints,
            is_false: Arc::default(),
            token: TOKEN,
        };
        for member in 0..MEMBERS.len() {
            etcd.start_member(net, folder, member);
        }
        etcd
    }

    pub(crate) fn start_member(&mut self, net: &Net, folder: &Path, member: usize) {
        let peer = |host: u8| format!("http://{}:2380", net.address(host));
        let all: Vec<String> = MEMBERS
            .iter()
            .zip(FIRST_HOST..)
            .map(|(name, host)| format!("{name}={}", peer(host)))
            .collect();
        let (name, host) = (MEMBERS[member], FIRST_HOST + u8::try_from(member).unwrap());
        let mut command = net.on(name, "etcd");
        command.args([
            "--name",
            name,
            "--logger",
            "zap",
            "--log-outputs",
            "stderr",
            "--initial-cluster",
            &all.join(","),
        ]);
        command
            .args(["--initial-cluster-token", self.token])
            .arg("--data-dir")
            .arg(data(folder, member, DATA));
        for flag in ["--listen-client-urls", "--advertise-client-urls"] {
            command.args([flag, &self.endpoints[member]]);
        }
        for flag in ["--listen-peer-urls", "--initial-advertise-peer-urls"] {
            command.args([flag, &peer(host)]);
        }
        self.members[member].start(command);
    }

    pub(crate) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Copies the data of all members, which are down meanwhile.
    pub(crate) fn keep_copy(&mut self, net: &Net, folder: &Path) {
        self.stop_all();
        for member in 0..MEMBERS.len() {
            let copied = std::process::Command::new("cp")
                .arg("-a")
                .args([data(folder, member, DATA), data(folder, member, COPY)])
                .status();
            assert!(copied.unwrap().success());
        }
        self.start_all(net, folder);
    }

    /// Puts something else in the place of the true data.
    pub(crate) fn replace(&mut self, net: &Net, folder: &Path, content: Content) {
        self.stop_all();
        self.is_false.store(true, Ordering::SeqCst);
        for member in 0..MEMBERS.len() {
            std::fs::rename(data(folder, member, DATA), data(folder, member, ASIDE)).unwrap();
            if content == Content::Earlier {
                std::fs::rename(data(folder, member, COPY), data(folder, member, DATA)).unwrap();
            }
        }
        self.token = if content == Content::OtherCluster {
            OTHER_TOKEN
        } else {
            TOKEN
        };
        self.start_all(net, folder);
    }

    /// Puts the true data back in its place.
    pub(crate) fn bring_back(&mut self, net: &Net, folder: &Path) {
        self.stop_all();
        for member in 0..MEMBERS.len() {
            std::fs::remove_dir_all(data(folder, member, DATA)).unwrap();
            std::fs::rename(data(folder, member, ASIDE), data(folder, member, DATA)).unwrap();
        }
        self.token = TOKEN;
        self.start_all(net, folder);
        self.is_false.store(false, Ordering::SeqCst);
    }

    fn stop_all(&mut self) {
        self.members.iter_mut().for_each(Process::kill);
    }

    fn start_all(&mut self, net: &Net, folder: &Path) {
        (0..MEMBERS.len()).for_each(|member| self.start_member(net, folder, member));
    }

    /// Writes a key that no node has, so that the revision is another.
    pub(crate) async fn advance(&self) {
        let mut client = connect(&self.endpoints[0]).await.unwrap();
        client.put("x", "", None).await.unwrap();
    }

    /// Creates another cluster of the same name, with revisions that are likely higher than the nodes'.
    pub(crate) async fn write_other_cluster(&self, prefix: &str) {
        let mut client = connect(&self.endpoints[0]).await.unwrap();
        let mut put = client.put("x", "", None).await.unwrap();
        let etcd_cluster_id = put.take_header().unwrap().cluster_id().to_string();
        let configuration = serde_json::json!({
            "protocol_min": 1, "protocol_max": 1, "cluster_id": "another", "epoch": 1, "history_id": "another",
            "etcd_cluster_id": etcd_cluster_id,
        });
        client
            .put(format!("{prefix}cfg"), configuration.to_string(), None)
            .await
            .unwrap();
    }

    /// Each member's own state, and the end of its log.
    async fn describe(&self) -> String {
        let mut all = Vec::new();
        for (endpoint, process) in self.endpoints.iter().zip(&self.members) {
            let status = timeout(TRY, status(endpoint)).await.ok().flatten();
            all.push(format!(
                "== {} {status:?}\n{}",
                process.name(),
                process.log_lines(ETCD_LINES)
            ));
        }
        all.join("\n")
    }

    /// Returns the member that reports itself as the leader.
    pub(crate) async fn leader(&self) -> usize {
        let find = async {
            let mut member = 0;
            loop {
                let answer = timeout(TRY, is_leader(&self.endpoints[member])).await;
                if answer.ok().flatten() == Some(true) {
                    return member;
                }
                member = (member + 1) % MEMBERS.len();
                tokio::time::sleep(TRY / 30).await;
            }
        };
        timeout(LEADER_TIME_MAX, find).await.unwrap()
    }
}

async fn status(endpoint: &str) -> Option<StatusResponse> {
    connect(endpoint).await?.status().await.ok()
}

async fn is_leader(endpoint: &str) -> Option<bool> {
    let status = status(endpoint).await?;
    Some(status.header()?.member_id() == status.leader())
}

async fn connect(endpoint: &str) -> Option<Client> {
    let options = ConnectOptions::new()
        .with_connect_timeout(TRY)
        .with_require_leader(true);
    Client::connect([endpoint], Some(options)).await.ok()
}

/// Everything that etcd says of the keys under a prefix, from its first revision on, with the time when it was seen.
pub(crate) struct History {
    prefix: String,
    endpoints: Vec<String>,
    is_false: Arc<AtomicBool>,
    changes: Mutex<BTreeMap<u64, Vec<Change>>>,
}

impl History {
    pub(crate) fn new(prefix: &str, etcd: &Etcd) -> Arc<Self> {
        Arc::new(Self {
            prefix: prefix.to_owned(),
            endpoints: etcd.endpoints.clone(),
            is_false: Arc::clone(&etcd.is_false),
            changes: Mutex::default(),
        })
    }

    /// Watches for ever, of each member in turn where one falls silent.
    pub(crate) async fn watch(&self) {
        for endpoint in self.endpoints.iter().cycle() {
            if self.watch_at(endpoint).await.is_none() {
                tokio::time::sleep(TRY / 10).await;
            }
        }
    }

    async fn watch_at(&self, endpoint: &str) -> Option<()> {
        self.is_true()?;
        let mut client = timeout(TRY, connect(endpoint)).await.ok().flatten()?;
        let next = self.last_revision().map_or(1, |last| last + 1);
        let options = WatchOptions::new()
            .with_prefix()
            .with_start_revision(i64::try_from(next).unwrap());
        let mut watch = timeout(TRY, client.watch(self.prefix.as_str(), Some(options)))
            .await
            .ok()?
            .ok()?;
        while let Ok(Ok(Some(heard))) = timeout(SILENCE_MAX, watch.message()).await {
            assert_eq!(
                heard.compact_revision(),
                0,
                "etcd forgot what happened: the suite must not compact"
            );
            self.is_true()?;
            self.note(heard.events());
        }
        Some(())
    }

    /// The history excludes events of a replaced etcd.
    fn is_true(&self) -> Option<()> {
        (!self.is_false.load(Ordering::SeqCst)).then_some(())
    }

    fn note(&self, events: &[Event]) {
        let (seen, mut changes) = (clock::boot(), self.changes.lock().unwrap());
        for event in events {
            let kv = event.kv().unwrap();
            let revision = u64::try_from(kv.mod_revision()).unwrap();
            let key = std::str::from_utf8(kv.key())
                .unwrap()
                .strip_prefix(&self.prefix)
                .unwrap();
            let what = what(
                key,
                (event.event_type() == EventType::Put).then_some(kv.value()),
            );
            changes
                .entry(revision)
                .or_default()
                .extend(what.map(|what| Change {
                    revision,
                    seen: Some(seen),
                    what,
                }));
        }
    }

    /// All of it, once the watch has seen what is written now.
    pub(crate) async fn whole(&self) -> Vec<Change> {
        let last = self.write("end", "").await.unwrap();
        for _ in 0..WHOLE_TRIES {
            if self.last_revision() >= Some(last) {
                return self
                    .changes
                    .lock()
                    .unwrap()
                    .values()
                    .flatten()
                    .cloned()
                    .collect();
            }
            tokio::time::sleep(TRY / 10).await;
        }
        panic!(
            "the watch of etcd is at revision {:?}, which is not {last}",
            self.last_revision()
        );
    }

    /// Fails where etcd itself has lost a change that it once showed: nodes then rightly refuse it, and no fault of theirs follows.
    pub(crate) async fn check_nothing_lost(&self, etcd: &Etcd) {
        let last = self.last_revision();
        let revision = self.write("end", "").await.unwrap();
        assert!(
            revision > last.unwrap_or(0),
            "etcd lost changes: it showed revision {last:?}, and this write is {revision}\n{}",
            etcd.describe().await
        );
    }

    fn last_revision(&self) -> Option<u64> {
        self.changes.lock().unwrap().keys().next_back().copied()
    }

    /// Writes a key under the prefix; gives its revision.
    pub(crate) async fn write(&self, key: &str, value: &str) -> Option<u64> {
        for endpoint in self.endpoints.iter().cycle().take(WHOLE_TRIES) {
            if let Some(revision) = timeout(TRY, self.write_at(endpoint, key, value))
                .await
                .ok()
                .flatten()
            {
                return Some(revision);
            }
            // A member that starts refuses at once: without a pause all tries would be over before it listens.
            tokio::time::sleep(TRY / 10).await;
        }
        None
    }

    async fn write_at(&self, endpoint: &str, key: &str, value: &str) -> Option<u64> {
        let put = connect(endpoint)
            .await?
            .put(format!("{}{key}", self.prefix), value, None)
            .await
            .ok()?;
        put.header()
            .and_then(|header| u64::try_from(header.revision()).ok())
    }
}

fn what(key: &str, value: Option<&[u8]>) -> Option<What> {
    let (kind, name) = key.split_once('/')?;
    match (kind, value) {
        ("c", Some(claim)) => {
            let claim: serde_json::Value = serde_json::from_slice(claim).unwrap();
            Some(What::Claimed {
                channel: name.to_owned(),
                node: claim["node"].as_str().unwrap().to_owned(),
            })
        }
        ("c", None) => Some(What::Freed {
            channel: name.to_owned(),
        }),
        ("m", mode) => {
            let mode = mode.map(|mode| String::from_utf8(mode.to_vec()).unwrap());
            Some(What::Mode {
                node: name.to_owned(),
                mode,
            })
        }
        _ => None,
    }
}
