//! etcd is away for a while, or does what it may: revoke, forget.

use std::time::{Duration, Instant};

use etcd_client::CompactionOptions;
use soramode_protocol::mode::{GetMode, Mode, SettableMode};
use soramode_protocol::node::Membership;

use crate::etcd::Etcd;
use crate::node::{Node, QUICK, stands, until};

/// Asks for as long as this goes on; gives the slowest answer.
async fn slowest_answer(node: &Node, mut goes_on: impl FnMut() -> bool) -> (usize, Duration) {
    let mut client = node.client().await;
    let (mut count, mut slowest) = (0, Duration::ZERO);
    while goes_on() {
        let asked = Instant::now();
        client.call(&GetMode {}).await.unwrap();
        (count, slowest) = (count + 1, slowest.max(asked.elapsed()));
    }
    (count, slowest)
}

#[tokio::test]
async fn a_short_outage_has_no_effect() {
    let etcd = Etcd::start();
    let node = Node::start(
        "n1",
        &etcd,
        &[
            "--cluster-ttl=10s",
            "--cluster-heartbeat=500ms",
            "--isolated-after=5s",
        ],
    );
    node.joined().await;
    node.offered("spam", "1").await;
    let before = Instant::now();
    etcd.freeze();
    let (count, slowest) =
        slowest_answer(&node, || before.elapsed() < Duration::from_secs(3)).await;
    // In its own channel somebody is let in all the while.
    node.offered("spam", "2").await;
    etcd.thaw();
    let renewed = node.status().await.cluster.unwrap().renewed_at;
    until(async || (node.status().await.cluster.unwrap().renewed_at > renewed).then_some(())).await;
    let mut events = node.all_events().await;
    node.disconnect("2").await;
    events.until("connection.destroyed").await;
    assert_eq!(
        events
            .seen
            .iter()
            .filter(|name| name.starts_with("node."))
            .count(),
        1,
        "{:?}",
        events.seen
    );
    assert!(!events.seen.contains(&"session.destroyed"));
    eprintln!("etcd away for 3 s: {count} answers, the slowest in {slowest:?}");
}

#[tokio::test]
async fn after_a_long_outage_the_node_is_normal_automatically() {
    let etcd = Etcd::start();
    let node = Node::start("n1", &etcd, &QUICK);
    node.joined().await;
    node.offered("spam", "1").await;
    let mut events = node.events().await;
    etcd.freeze();
    let began = Instant::now();
    events.until("node.isolated").await;
    eprintln!("isolated after {:?}", began.elapsed());
    // Longer than the lease: etcd has thrown the node out meanwhile.
    let (count, slowest) = slowest_answer(&node, || began.elapsed() < Duration::from_secs(6)).await;
    etcd.thaw();
    let back = Instant::now();
    events.until("node.joined").await;
    eprintln!(
        "{count} answers meanwhile, the slowest in {slowest:?}; joined {:?} after etcd was back",
        back.elapsed()
    );
    stands(&node, Membership::Joined, Mode::Normal).await;
    assert_eq!(node.status().await.sessions, 1);
    assert!(
        !events.seen.contains(&"session.destroyed"),
        "{:?}",
        events.seen
    );
    node.offered("egg", "2").await;
}

#[tokio::test]
async fn a_lease_that_is_revoked_costs_no_session() {
    let etcd = Etcd::start();
    let node = Node::start("n1", &etcd, &QUICK);
    node.joined().await;
    let token = node.offered("spam", "1").await;
    let before = node.status().await.cluster.unwrap().incarnation;
    let leases = etcd.ctl(&["lease", "list"]);
    for lease in leases.lines().filter(|line| !line.contains(' ')) {
        etcd.ctl(&["lease", "revoke", lease]);
    }
    until(async || (node.status().await.cluster.unwrap().incarnation > before).then_some(())).await;
    node.joined().await;
    assert!(
        node.offered("spam", "2").await > token,
        "the claim was written anew"
    );
    let status = node.status().await;
    assert_eq!((status.sessions, status.connections), (1, 2));
}

#[tokio::test]
async fn a_watch_on_compacted_revisions_is_opened_again() {
    let etcd = Etcd::start();
    // A heartbeat so long that only the watch can bring news in time.
    let words = [
        "--cluster-heartbeat=1s",
        "--isolated-after=10s",
        "--cluster-ttl=30s",
    ];
    let nodes = [
        Node::start("n1", &etcd, &words),
        Node::start("n2", &etcd, &words),
    ];
    for node in &nodes {
        node.joined().await;
    }
    let mut client = etcd.client(0).await;
    for mode in [
        SettableMode::BlockNewSession,
        SettableMode::Normal,
        SettableMode::BlockNewConnection,
    ] {
        etcd.freeze();
        etcd.thaw();
        let mut last = 0;
        for number in 0..200 {
            last = client
                .put("other", format!("{number}"), None)
                .await
                .unwrap()
                .header()
                .unwrap()
                .revision();
        }
        client
            .compact(last, Some(CompactionOptions::new().with_physical()))
            .await
            .unwrap();
        nodes[1].set(mode).await;
        nodes[0]
            .sees(&["n1 normal", &format!("n2 {}", Mode::from(mode))])
            .await;
    }
    stands(&nodes[0], Membership::Joined, Mode::Normal).await;
}
