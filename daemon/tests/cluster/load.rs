//! Load: clients that connect to all nodes, follow redirects, and leave; and an operator that
//! closes and opens nodes.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use soramode_protocol::id::{ChannelId, ConnectionId};
use soramode_protocol::mode::SettableMode;

use crate::nodes::{NODES, Nodes};
use crate::sfu::Knock;

pub(crate) const CHANNELS: u64 = 30;

/// Clients at a time.
pub(crate) const CLIENTS: u64 = 24;

/// Redirects that a client follows: one more than the nodes may need.
const REDIRECTS_MAX: u8 = 4;

/// Interval at which a client checks if it is still served.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Counts of the clients' outcomes.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) offers: AtomicU64,
    pub(crate) redirects: AtomicU64,
    outs: Mutex<BTreeMap<String, u64>>,
    connections: AtomicU64,
}

impl Counts {
    pub(crate) fn outs(&self) -> BTreeMap<String, u64> {
        self.outs.lock().unwrap().clone()
    }

    fn next_connection(&self) -> ConnectionId {
        ConnectionId::new(&format!(
            "connection-{}",
            self.connections.fetch_add(1, Ordering::Relaxed)
        ))
        .unwrap()
    }
}

pub(crate) fn channel(number: u64) -> ChannelId {
    ChannelId::new(&format!("channel-{number:02}")).unwrap()
}

/// Comes, stays for a while, leaves, and comes again somewhere else, for ever.
pub(crate) async fn come_and_go(nodes: &Nodes, counts: &Counts, mut rng: Rng) {
    loop {
        let channel = channel(rng.u64(..CHANNELS));
        let first = usize::try_from(rng.u64(..3)).unwrap();
        if let Some((node, connection)) = enter(nodes, counts, &channel, first).await {
            let stay = Duration::from_millis(100 + rng.u64(..3_000));
            stay_for(nodes, node, (&channel, &connection), stay).await;
            nodes.sfus[node].leave(&channel, &connection).await;
        } else {
            tokio::time::sleep(Duration::from_millis(100 + rng.u64(..300))).await;
        }
    }
}

/// Knocks at one node, and at where it is sent to; gives the node that let it in.
pub(crate) async fn enter(
    nodes: &Nodes,
    counts: &Counts,
    channel: &ChannelId,
    first: usize,
) -> Option<(usize, ConnectionId)> {
    let mut node = first;
    for hops in 0..=REDIRECTS_MAX {
        let connection = counts.next_connection();
        match nodes.sfus[node].knock(channel, &connection, hops).await {
            Knock::In => {
                counts.offers.fetch_add(1, Ordering::Relaxed);
                return Some((node, connection));
            }
            Knock::Elsewhere(name) => {
                counts.redirects.fetch_add(1, Ordering::Relaxed);
                node = NODES
                    .iter()
                    .position(|it| *it == name)
                    .unwrap_or_else(|| panic!("redirected to {name}, which is no node"));
            }
            Knock::Out(why) => {
                *counts.outs.lock().unwrap().entry(why).or_default() += 1;
                return None;
            }
        }
    }
    *counts
        .outs
        .lock()
        .unwrap()
        .entry("redirected for ever".to_owned())
        .or_default() += 1;
    None
}

async fn stay_for(
    nodes: &Nodes,
    node: usize,
    (channel, connection): (&ChannelId, &ConnectionId),
    time: Duration,
) {
    let end = tokio::time::Instant::now() + time;
    while tokio::time::Instant::now() < end && nodes.sfus[node].serves(channel, connection) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Closes a node now and then, and opens it again.
pub(crate) async fn operate(nodes: &Nodes, mut rng: Rng) {
    loop {
        tokio::time::sleep(Duration::from_millis(2_000 + rng.u64(..6_000))).await;
        let node = usize::try_from(rng.u64(..3)).unwrap();
        let mode = if rng.u64(..3) == 0 {
            SettableMode::BlockNewConnection
        } else {
            SettableMode::BlockNewSession
        };
        nodes.change_mode(node, mode).await;
        tokio::time::sleep(Duration::from_millis(500 + rng.u64(..5_000))).await;
        nodes.change_mode(node, SettableMode::Normal).await;
    }
}
