//! The cluster's edge: carries the gate's orders out in etcd, reads the members at each heartbeat, and says what it heard.
//!
//! It decides nothing. Whatever it does has its time, so that an etcd that hangs holds up nothing but what needs it.

mod claims;
mod keys;
mod look;
mod membership;
mod owed;
mod pool;
mod watch;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use soramode_core::cluster::claim::Reply;
use soramode_core::member::order::{Heard, Order, Wish};
use soramode_protocol::id::{LogId, NodeName};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::ClusterConfig;
use crate::health::Health;
use crate::inbox::{Inbox, LastLook, Letter};
use keys::{Keys, TermsValue};
use pool::Pool;

use pool::TRY_TIME;

/// After a look that failed the next begins so soon, if the heartbeat is not sooner.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Looks that are asked for wait so long for more to be asked for.
const LOOK_GATHER: Duration = Duration::from_millis(5);

/// A heartbeat comes up to so many parts of 256 early, so that many nodes do not ask at the same moment.
const JITTER: u32 = 51;

/// Members of etcd that were not heard for so long are asked, so that it is known how they are.
const PROBE_AFTER: Duration = Duration::from_secs(10);

/// How long a stop waits for the gate's word whether to leave.
const FAREWELL_TIME: Duration = Duration::from_secs(1);

/// Who this node is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    node_name: NodeName,
    /// The state folder, by its log's id: an ephemeral one is another with each start.
    id: String,
    boot_id: String,
    /// This start of the daemon.
    start: String,
    terms: TermsValue,
    signaling_url: Option<String>,
    api_url: Option<String>,
}

impl Identity {
    pub(crate) fn new(config: &ClusterConfig, (node_name, log_id): (NodeName, &LogId), random: [u8; 16]) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            node_name,
            id: log_id.as_str().to_owned(),
            boot_id: crate::store::open::boot_id().unwrap_or_default(),
            start: LogId::generate(random).as_str().to_owned(),
            terms: TermsValue { fence_after_ms: config.fence_after.map(millis), fence_budget_ms: millis(config.fence_budget) },
            signaling_url: config.signaling_url.as_ref().map(|url| url.as_str().to_owned()),
            api_url: config.api_url.as_ref().map(|url| url.as_str().to_owned()),
        }
    }
}

/// The way to etcd, as this node.
struct Etcd {
    pool: Pool,
    keys: Keys,
    identity: Identity,
    ttl: Duration,
    lease: Mutex<Option<i64>>,
    /// The cluster's, as it was read last.
    epoch: AtomicU64,
}

impl Etcd {
    fn lease(&self) -> Option<i64> {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_lease(&self, lease: Option<i64>) {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = lease;
    }
}

/// The edge.
pub(crate) struct Edge {
    etcd: Arc<Etcd>,
    heartbeat: Duration,
    orders: mpsc::UnboundedReceiver<Order>,
    inbox: Inbox,
    last_look: LastLook,
    wanted: Arc<Notify>,
    tasks: TaskTracker,
}

impl Edge {
    /// The edge, and the driver's way to it.
    pub(crate) fn new(
        config: &ClusterConfig,
        identity: Identity,
        (inbox, last_look, health): (Inbox, LastLook, Arc<Health>),
    ) -> (Self, mpsc::UnboundedSender<Order>) {
        let (sender, orders) = mpsc::unbounded_channel();
        let keys = Keys::new(&config.name, identity.node_name.clone());
        let etcd =
            Etcd { pool: Pool::new(config, health), keys, identity, ttl: config.ttl, lease: Mutex::new(None), epoch: AtomicU64::new(0) };
        let edge = Self {
            etcd: Arc::new(etcd),
            heartbeat: config.heartbeat,
            orders,
            inbox,
            last_look,
            wanted: Arc::new(Notify::new()),
            tasks: TaskTracker::new(),
        };
        (edge, sender)
    }

    /// Works until the daemon stops, and then leaves the cluster if the node has nothing in it.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let beat = CancellationToken::new();
        self.tasks.spawn(self.looker().run(beat.clone()));
        self.tasks.spawn(keep_alive(Arc::clone(&self.etcd), beat.clone()));
        self.tasks.spawn(probe(Arc::clone(&self.etcd), beat.clone()));
        self.tasks.spawn(watch::run(Arc::clone(&self.etcd), Arc::clone(&self.wanted), beat.clone()));
        loop {
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(order) => self.begin(order),
                    None => break,
                },
                () = stop.cancelled() => {
                    self.say_farewell().await;
                    break;
                }
            }
        }
        beat.cancel();
        // What is under way is answered; what is ordered from now on the driver answers itself.
        self.orders.close();
        while let Some(order) = self.orders.recv().await {
            self.begin(order);
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn looker(&self) -> Looker {
        Looker {
            etcd: Arc::clone(&self.etcd),
            heartbeat: self.heartbeat,
            inbox: self.inbox.clone(),
            last_look: self.last_look.clone(),
            wanted: Arc::clone(&self.wanted),
        }
    }

    /// The gate knows whether the node has anything.
    async fn say_farewell(&mut self) {
        if self.inbox.send(Letter::Etcd(Box::new(Heard::Leaving))).await.is_err() {
            return;
        }
        let words = async {
            while let Some(order) = self.orders.recv().await {
                match order {
                    Order::Leave(incarnation) => return Some(incarnation),
                    Order::Stay => return None,
                    other @ (Order::Look
                    | Order::Join { .. }
                    | Order::Ask { .. }
                    | Order::Find { .. }
                    | Order::Release(..)
                    | Order::Readopt { .. }
                    | Order::Publish { .. }
                    | Order::Tell { .. }
                    | Order::Count
                    | Order::Purge { .. }) => self.begin(other),
                }
            }
            None
        };
        if let Ok(Some(incarnation)) = timeout(FAREWELL_TIME, words).await {
            match self.etcd.leave(incarnation).await {
                Ok(()) => tracing::info!("left the cluster"),
                Err(why) => tracing::warn!(why, "could not leave the cluster in order: its place is kept for a while"),
            }
        }
    }

    /// Carries an order out beside the others; what came of it goes to the gate.
    fn begin(&self, order: Order) {
        if order == Order::Look {
            return self.wanted.notify_one();
        }
        let (etcd, inbox) = (Arc::clone(&self.etcd), self.inbox.clone());
        self.tasks.spawn(async move {
            if let Some(heard) = carry_out(&etcd, order, &inbox).await {
                // Where the driver is gone nobody waits for it.
                inbox.send(Letter::Etcd(Box::new(heard))).await.unwrap_or_default();
            }
        });
    }
}

async fn carry_out(etcd: &Etcd, order: Order, inbox: &Inbox) -> Option<Heard> {
    match order {
        Order::Join { mode, give_up } => Some(Heard::Joined(etcd.join(mode, give_up).await)),
        Order::Ask { channel_id, by, wish } => {
            let reply = etcd.ask(&channel_id, by, &wish).await;
            Some(Heard::Asked { channel_id, by, reply })
        }
        Order::Find { channel_id, by } => {
            let found = match etcd.ask(&channel_id, by, &Wish::Find).await {
                Ok(Reply::Refused(found)) => Ok(found),
                Ok(Reply::Won(_)) => Err("etcd's answer cannot be read".to_owned()),
                Err(why) => Err(why),
            };
            Some(Heard::Found { channel_id, found })
        }
        Order::Release(channel_id, token) => {
            let certainty = etcd.release(&channel_id, token).await;
            Some(Heard::Released(channel_id, token, certainty))
        }
        Order::Readopt { by, claims } => {
            etcd.readopt(by, &claims, inbox).await;
            None
        }
        Order::Publish { by, mode } => Some(Heard::Published(mode, etcd.publish(by, mode).await)),
        Order::Count => Some(Heard::Counted(etcd.count().await)),
        Order::Purge { ticket, node_name, running, actor } => {
            let written_off = etcd.purge((&node_name, running), &actor).await;
            Some(Heard::Purged { ticket, node_name, written_off })
        }
        Order::Tell { by, load } => {
            if let Err(why) = etcd.tell(by, load).await {
                tracing::debug!(why, "the others do not know how full the node is");
            }
            None
        }
        Order::Look | Order::Leave(_) | Order::Stay => None,
    }
}

/// Reads the members at each heartbeat, and when that is wanted.
struct Looker {
    etcd: Arc<Etcd>,
    heartbeat: Duration,
    inbox: Inbox,
    last_look: LastLook,
    wanted: Arc<Notify>,
}

impl Looker {
    async fn run(self, stop: CancellationToken) {
        let mut beats: u32 = 0;
        loop {
            let began = Instant::now();
            let looked = tokio::select! {
                looked = self.etcd.look() => looked,
                () = stop.cancelled() => return,
            };
            beats = beats.wrapping_add(1);
            let pause = if looked.is_ok() { self.pause(beats) } else { self.heartbeat.min(LOOK_AGAIN) };
            if self.tell(looked).await.is_none() {
                return;
            }
            tokio::select! {
                () = sleep_until(began + pause) => {}
                () = self.wanted.notified() => sleep(LOOK_GATHER).await,
                () = stop.cancelled() => return,
            }
        }
    }

    /// The heartbeat, a little earlier: by how much differs from node to node and from beat to beat.
    fn pause(&self, beats: u32) -> Duration {
        let spread = self.etcd.identity.start.bytes().fold(beats, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        self.heartbeat.saturating_sub(self.heartbeat * (spread % JITTER) / 256)
    }

    /// Says what was seen; nothing if nobody hears it any more.
    async fn tell(&self, looked: Result<look::Look, String>) -> Option<()> {
        match looked {
            Ok(look::Look { looked, lease }) => {
                if lease.is_some() {
                    self.etcd.set_lease(lease);
                }
                self.last_look.put(looked);
                // A letter that is not taken yet is one that the driver will look at the slot for.
                match self.inbox.try_send(Letter::Looked) {
                    Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => Some(()),
                    Err(mpsc::error::TrySendError::Closed(_)) => None,
                }
            }
            Err(why) => {
                tracing::debug!(why, "the members cannot be read");
                self.inbox.send(Letter::Etcd(Box::new(Heard::LookFailed(why)))).await.ok()
            }
        }
    }
}

async fn keep_alive(etcd: Arc<Etcd>, stop: CancellationToken) {
    let pause = etcd.ttl / 3;
    loop {
        tokio::select! {
            () = sleep(pause) => etcd.keep_alive().await,
            () = stop.cancelled() => return,
        }
    }
}

/// Whoever answered last is asked first: how the others are would be known only when they are needed.
async fn probe(etcd: Arc<Etcd>, stop: CancellationToken) {
    let key = etcd.keys.config();
    loop {
        tokio::select! {
            () = etcd.pool.probe(&key, PROBE_AFTER) => {}
            () = stop.cancelled() => return,
        }
        tokio::select! {
            () = sleep(PROBE_AFTER) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// etcd's numbers are never negative.
fn number(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or(0)
}

fn revision(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
