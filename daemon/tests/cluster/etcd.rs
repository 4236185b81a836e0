//! Three members of etcd, and all that they ever said of a cluster's keys.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Event, EventType, WatchOptions};
use tokio::time::timeout;

use crate::checker::{Change, What};
use crate::clock;
use crate::net::Net;
use crate::process::Process;

pub(crate) const MEMBERS: [&str; 3] = ["e1", "e2", "e3"];

const FIRST_HOST: u8 = 11;

/// How long the watch hears nothing before it asks another member.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// How long one question to a member may take.
const TRY: Duration = Duration::from_secs(1);

/// How often members are asked until one leads.
const LEADER_TRIES: usize = 180;

/// How often it is tried to see the end of the history.
const WHOLE_TRIES: usize = 300;

pub(crate) struct Etcd {
    pub(crate) members: Vec<Process>,
    endpoints: Vec<String>,
}

impl Etcd {
    pub(crate) fn start(net: &mut Net, folder: &Path) -> Self {
        for (machine, host) in MEMBERS.into_iter().zip(FIRST_HOST..) {
            net.add(machine, host);
        }
        let endpoints = (FIRST_HOST..).take(MEMBERS.len()).map(|host| format!("http://{}:2379", net.address(host))).collect();
        let members = MEMBERS.into_iter().map(|name| Process::new(name, folder)).collect();
        let mut etcd = Self { members, endpoints };
        for member in 0..MEMBERS.len() {
            etcd.start_member(net, folder, member);
        }
        etcd
    }

    pub(crate) fn start_member(&mut self, net: &Net, folder: &Path, member: usize) {
        let peer = |host: u8| format!("http://{}:2380", net.address(host));
        let all: Vec<String> = MEMBERS.iter().zip(FIRST_HOST..).map(|(name, host)| format!("{name}={}", peer(host))).collect();
        let (name, host) = (MEMBERS[member], FIRST_HOST + u8::try_from(member).unwrap());
        let mut command = net.on(name, "etcd");
        command.args(["--name", name, "--logger", "zap", "--log-outputs", "stderr", "--initial-cluster", &all.join(",")]);
        command.arg("--data-dir").arg(folder.join(format!("{name}.etcd")));
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

    /// Which member leads, as soon as one that answers says so of itself.
    pub(crate) async fn leader(&self) -> usize {
        for member in (0..MEMBERS.len()).cycle().take(LEADER_TRIES) {
            if timeout(TRY, is_leader(&self.endpoints[member])).await.ok().flatten() == Some(true) {
                return member;
            }
            tokio::time::sleep(TRY / 30).await;
        }
        panic!("etcd has no leader");
    }
}

async fn is_leader(endpoint: &str) -> Option<bool> {
    let status = connect(endpoint).await?.status().await.ok()?;
    Some(status.header()?.member_id() == status.leader())
}

async fn connect(endpoint: &str) -> Option<Client> {
    let options = ConnectOptions::new().with_connect_timeout(TRY).with_require_leader(true);
    Client::connect([endpoint], Some(options)).await.ok()
}

/// Everything that etcd says of the keys under a prefix, from its first revision on, with the time when it was seen.
pub(crate) struct History {
    prefix: String,
    endpoints: Vec<String>,
    changes: Mutex<BTreeMap<u64, Vec<Change>>>,
}

impl History {
    pub(crate) fn new(prefix: &str, etcd: &Etcd) -> Arc<Self> {
        Arc::new(Self { prefix: prefix.to_owned(), endpoints: etcd.endpoints.clone(), changes: Mutex::default() })
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
        let mut client = timeout(TRY, connect(endpoint)).await.ok().flatten()?;
        let next = self.changes.lock().unwrap().keys().next_back().map_or(1, |last| last + 1);
        let options = WatchOptions::new().with_prefix().with_start_revision(i64::try_from(next).unwrap());
        let mut watch = timeout(TRY, client.watch(self.prefix.as_str(), Some(options))).await.ok()?.ok()?;
        while let Ok(Ok(Some(heard))) = timeout(SILENCE_MAX, watch.message()).await {
            assert_eq!(heard.compact_revision(), 0, "etcd forgot what happened: the suite must not compact");
            self.note(heard.events());
        }
        Some(())
    }

    fn note(&self, events: &[Event]) {
        let (seen, mut changes) = (clock::boot(), self.changes.lock().unwrap());
        for event in events {
            let kv = event.kv().unwrap();
            let revision = u64::try_from(kv.mod_revision()).unwrap();
            let key = std::str::from_utf8(kv.key()).unwrap().strip_prefix(&self.prefix).unwrap();
            let what = what(key, (event.event_type() == EventType::Put).then_some(kv.value()));
            changes.entry(revision).or_default().extend(what.map(|what| Change { revision, seen: Some(seen), what }));
        }
    }

    /// All of it, once the watch has seen what is written now.
    pub(crate) async fn whole(&self) -> Vec<Change> {
        let last = self.write("end", "").await.unwrap();
        let seen = || self.changes.lock().unwrap().keys().next_back().copied();
        for _ in 0..WHOLE_TRIES {
            if seen() >= Some(last) {
                return self.changes.lock().unwrap().values().flatten().cloned().collect();
            }
            tokio::time::sleep(TRY / 10).await;
        }
        panic!("the watch of etcd is at revision {:?}, which is not {last}", seen());
    }

    /// Writes a key under the prefix; gives its revision.
    pub(crate) async fn write(&self, key: &str, value: &str) -> Option<u64> {
        for endpoint in self.endpoints.iter().cycle().take(WHOLE_TRIES) {
            if let Some(revision) = timeout(TRY, self.write_at(endpoint, key, value)).await.ok().flatten() {
                return Some(revision);
            }
        }
        None
    }

    async fn write_at(&self, endpoint: &str, key: &str, value: &str) -> Option<u64> {
        let put = connect(endpoint).await?.put(format!("{}{key}", self.prefix), value, None).await.ok()?;
        put.header().and_then(|header| u64::try_from(header.revision()).ok())
    }
}

fn what(key: &str, value: Option<&[u8]>) -> Option<What> {
    let (kind, name) = key.split_once('/')?;
    match (kind, value) {
        ("c", Some(claim)) => {
            let claim: serde_json::Value = serde_json::from_slice(claim).unwrap();
            Some(What::Claimed { channel: name.to_owned(), node: claim["node"].as_str().unwrap().to_owned() })
        }
        ("c", None) => Some(What::Freed { channel: name.to_owned() }),
        ("m", mode) => {
            let mode = mode.map(|mode| String::from_utf8(mode.to_vec()).unwrap());
            Some(What::Mode { node: name.to_owned(), mode })
        }
        _ => None,
    }
}
