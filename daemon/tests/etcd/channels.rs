//! Ownership of a channel under concurrent requests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use soramode_protocol::client::Client;
use soramode_protocol::decision::{Connect, Decision};
use soramode_protocol::mode::SettableMode;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::etcd::Etcd;
use crate::history::{check, history};
use crate::node::{Node, QUICK, connect, three};

/// Redirects that a client follows.
const HOPS_MAX: u8 = 3;

const CLIENTS: usize = 64;
const CHANNELS: usize = 1_000;

/// Clients that ask a node that drains, and how often each does.
const DRAINERS: usize = 16;
const ASKS: usize = 625;

/// Nodes that offered each channel.
type Offered = BTreeMap<usize, BTreeSet<usize>>;

/// Sends a request through a client of each node; returns the node that offered.
async fn knock(ways: &mut [Client], first: usize, ask: Connect) -> usize {
    let mut at = first;
    for hops in 0..=HOPS_MAX {
        match ways[at]
            .call(&Connect {
                hops,
                ..ask.clone()
            })
            .await
            .unwrap()
        {
            Decision::Offer { .. } => return at,
            Decision::Redirect { node_name, .. } => {
                at = ["n1", "n2", "n3"]
                    .iter()
                    .position(|name| *name == node_name.as_str())
                    .unwrap();
            }
            Decision::Reject { reason, .. } => panic!("{reason}"),
        }
    }
    panic!("sent on after {HOPS_MAX} hops")
}

async fn ways(nodes: &[Node; 3]) -> Vec<Client> {
    let mut ways = Vec::new();
    for node in nodes {
        ways.push(node.client().await);
    }
    ways
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_is_offered_by_one_node_however_many_ask_for_it_at_once() {
    let etcd = Etcd::start();
    let nodes = three(&etcd, &QUICK).await;
    let together = Arc::new(Barrier::new(CLIENTS));
    let by: Arc<Mutex<Offered>> = Arc::default();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(ask_for_all(
            client,
            ways(&nodes).await,
            (Arc::clone(&together), Arc::clone(&by)),
        ));
    }
    clients.join_all().await;
    let (channels, torn) = {
        let by = by.lock().unwrap();
        (
            by.len(),
            by.values().filter(|nodes| nodes.len() != 1).count(),
        )
    };
    assert_eq!((channels, torn), (CHANNELS, 0));
    let claims = check(&history(&etcd).await);
    assert_eq!(claims.values().sum::<u64>(), CHANNELS as u64);
    eprintln!("{CHANNELS} channels, {CLIENTS} clients each: {claims:?}");
}

async fn ask_for_all(
    client: usize,
    mut ways: Vec<Client>,
    (together, by): (Arc<Barrier>, Arc<Mutex<Offered>>),
) {
    for channel in 0..CHANNELS {
        together.wait().await;
        let ask = connect(
            &format!("channel-{channel}"),
            &format!("{channel}-{client}"),
        );
        let node = knock(&mut ways, client % 3, ask).await;
        by.lock().unwrap().entry(channel).or_default().insert(node);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_node_redirects_clients() {
    let etcd = Etcd::start();
    let nodes = three(&etcd, &QUICK).await;
    for node in &nodes[1..] {
        node.set(SettableMode::BlockNewSession).await;
    }
    nodes[0]
        .sees(&["n1 normal", "n2 block_new_session", "n3 block_new_session"])
        .await;
    for channel in 0..DRAINERS {
        nodes[0]
            .offered(&format!("own-{channel}"), &format!("own-{channel}"))
            .await;
    }
    for node in &nodes[1..] {
        node.set(SettableMode::Normal).await;
    }
    nodes[0]
        .sees(&["n1 normal", "n2 normal", "n3 normal"])
        .await;
    assert_eq!(
        nodes[0].set(SettableMode::BlockNewSession).await.published,
        Some(true)
    );
    let mut clients = JoinSet::new();
    for client in 0..DRAINERS {
        clients.spawn(ask_who_drains(client, ways(&nodes).await));
    }
    clients.join_all().await;
    assert!(nodes[0].status().await.rejected.is_empty());
    nodes[0].set(SettableMode::BlockNewConnection).await;
    nodes[1].set(SettableMode::BlockNewConnection).await;
    let mut ways = ways(&nodes).await;
    assert_eq!(
        knock(&mut ways, 1, connect("last", "last")).await,
        2,
        "who takes nobody sends them on too"
    );
    let claims = check(&history(&etcd).await);
    assert_eq!(
        claims.get("n1").copied(),
        Some(DRAINERS as u64),
        "no new channel since it drains"
    );
    eprintln!(
        "{} asked a node that drains: {claims:?}",
        2 * DRAINERS * ASKS
    );
}

async fn ask_who_drains(client: usize, mut ways: Vec<Client>) {
    for number in 0..ASKS {
        let own = knock(
            &mut ways,
            0,
            connect(&format!("own-{client}"), &format!("in-{client}-{number}")),
        )
        .await;
        let new = knock(
            &mut ways,
            0,
            connect(
                &format!("new-{client}-{number}"),
                &format!("new-{client}-{number}"),
            ),
        )
        .await;
        assert!(
            own == 0 && new != 0,
            "own channels here, new ones elsewhere"
        );
    }
}
