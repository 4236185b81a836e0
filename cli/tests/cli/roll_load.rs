//! Constant load on a cluster: clients that come to any node, follow its redirects, stay for a while, and leave.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;
use soramode_protocol::client::{ClientError, call_blocking, read_answer};
use soramode_protocol::decision::{Connect, Decision, Disconnect};
use soramode_protocol::id::ConnectionId;
use soramode_protocol::request::Call;
use soramode_testkit::PATIENCE;

/// Groups of clients at a time.
const GROUPS: u64 = 6;

/// Clients of a group, which meet in a channel of their own.
const CLIENTS: u64 = 3;

/// Redirects that a client follows.
const REDIRECTS_MAX: u8 = 4;

/// Limit of the time for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The clients.
pub(crate) struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    /// Nodes by their names.
    nodes: Vec<(String, PathBuf)>,
    is_over: AtomicBool,
    offers: AtomicU64,
    redirects: AtomicU64,
    /// Connections to a node without a daemon, which were tried again on another node.
    unanswered: AtomicU64,
    /// Clients that were refused, by the node and the reason.
    refused: Mutex<BTreeMap<String, u64>>,
}

/// Outcome of the load.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) offers: u64,
    pub(crate) redirects: u64,
    pub(crate) unanswered: u64,
    pub(crate) refused: BTreeMap<String, u64>,
}

impl Load {
    pub(crate) fn start(nodes: Vec<(String, PathBuf)>) -> Self {
        let shared = Arc::new(Shared {
            nodes,
            is_over: AtomicBool::new(false),
            offers: AtomicU64::new(0),
            redirects: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            refused: Mutex::default(),
        });
        let start = |group: u64| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.come_and_go(group))
        };
        Self {
            threads: (0..GROUPS).map(start).collect(),
            shared,
        }
    }

    /// Number of clients that were admitted so far.
    pub(crate) fn offers(&self) -> u64 {
        self.shared.offers.load(Ordering::Relaxed)
    }

    /// Lets all clients leave.
    pub(crate) fn stop(self) -> Outcome {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        Outcome {
            offers: self.shared.offers.load(Ordering::Relaxed),
            redirects: self.shared.redirects.load(Ordering::Relaxed),
            unanswered: self.shared.unanswered.load(Ordering::Relaxed),
            refused: self.shared.refused.lock().unwrap().clone(),
        }
    }
}

impl Shared {
    fn come_and_go(&self, group: u64) {
        let mut rng = Rng::with_seed(group);
        for meeting in 0_u64.. {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let mut inside = Vec::new();
            for client in 0..CLIENTS {
                let name = format!("{group}-{meeting}");
                inside.extend(self.enter(&name, client, &mut rng));
                thread::sleep(Duration::from_millis(rng.u64(10..60)));
            }
            thread::sleep(Duration::from_millis(rng.u64(50..400)));
            for (node, connection) in inside {
                self.leave(node, &connection);
            }
        }
    }

    /// Connects a client to any node, and follows redirects; returns the node that admitted it.
    fn enter(&self, channel: &str, client: u64, rng: &mut Rng) -> Option<(usize, ConnectionId)> {
        let mut node = rng.usize(..self.nodes.len());
        let mut hops = 0;
        for attempt in 0_u64.. {
            let id = format!("{channel}-{client}-{attempt}");
            let connection = ConnectionId::new(&id).unwrap();
            let connect = Connect {
                hops,
                ..Connect::new(channel.parse().unwrap(), connection.clone())
            };
            match self.call(node, &connect) {
                Ok(Decision::Offer { .. }) => {
                    self.offers.fetch_add(1, Ordering::Relaxed);
                    return Some((node, connection));
                }
                Ok(Decision::Redirect { node_name, .. }) if hops < REDIRECTS_MAX => {
                    self.redirects.fetch_add(1, Ordering::Relaxed);
                    let is_it = |(name, _): &(String, _)| name == node_name.as_str();
                    node = self.nodes.iter().position(is_it).unwrap();
                    hops += 1;
                }
                Ok(Decision::Redirect { .. }) => return self.refuse(node, "redirected for ever"),
                Ok(Decision::Reject { reason, .. }) => return self.refuse(node, reason.name()),
                Err(ClientError::Refused(error)) => {
                    return self.refuse(node, &format!("{:?}", error.data.error_type));
                }
                // Without a daemon there is no SFU either: the client tries another node.
                Err(_) => {
                    self.unanswered.fetch_add(1, Ordering::Relaxed);
                    self.leave_later(node, connection);
                    (node, hops) = ((node + 1) % self.nodes.len(), 0);
                }
            }
        }
        None
    }

    fn refuse<T>(&self, node: usize, why: &str) -> Option<T> {
        let key = format!("{}: {why}", self.nodes[node].0);
        *self.refused.lock().unwrap().entry(key).or_default() += 1;
        None
    }

    /// Takes a client back that may have been admitted.
    fn leave_later(&self, node: usize, connection: ConnectionId) {
        let socket = self.nodes[node].1.clone();
        thread::spawn(move || {
            let gone = Disconnect {
                connection_id: connection,
            };
            let began = Instant::now();
            while call(&socket, &gone).is_err() && began.elapsed() < PATIENCE {
                thread::sleep(Duration::from_millis(100));
            }
        });
    }

    fn leave(&self, node: usize, connection: &ConnectionId) {
        let gone = Disconnect {
            connection_id: connection.clone(),
        };
        while self.call(node, &gone).is_err() && !self.is_over.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn call<C: Call>(&self, node: usize, params: &C) -> Result<C::Reply, ClientError> {
        call(&self.nodes[node].1, params)
    }
}

fn call<C: Call>(socket: &PathBuf, params: &C) -> Result<C::Reply, ClientError> {
    let stream = UnixStream::connect(socket)?;
    read_answer::<C>(call_blocking(stream, params, ANSWER_MAX)?)
}
