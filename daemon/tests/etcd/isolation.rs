//! The table of what isolation does, and what is none.

use std::path::{Path, PathBuf};

use soramode_protocol::decision::Decision;
use soramode_protocol::mode::{Mode, SettableMode};
use soramode_protocol::node::Membership;

use crate::etcd::{Etcd, run_in};
use crate::node::{Node, QUICK, stands};

#[tokio::test]
async fn a_normal_node_is_initial_while_isolated_and_a_closed_one_stays_closed() {
    let etcd = Etcd::start();
    let node = Node::start("n1", &etcd, &QUICK);
    node.joined().await;
    node.offered("spam", "1").await;
    for (before, meanwhile) in [
        (SettableMode::Normal, Mode::Initial),
        (SettableMode::BlockNewSession, Mode::BlockNewSession),
        (SettableMode::BlockNewConnection, Mode::BlockNewConnection),
    ] {
        node.set(before).await;
        let mut events = node.events().await;
        etcd.freeze();
        events.until("node.isolated").await;
        stands(&node, Membership::Isolated, meanwhile).await;
        let offers = matches!(
            node.connect("spam", &format!("{meanwhile}")).await,
            Decision::Offer { .. }
        );
        assert_eq!(
            offers,
            meanwhile == Mode::BlockNewSession,
            "its own channels are open to whoever they were open to"
        );
        etcd.thaw();
        events.until("node.joined").await;
        stands(&node, Membership::Joined, before.into()).await;
        assert!(
            !events.seen.contains(&"session.destroyed"),
            "{:?}",
            events.seen
        );
    }
}

#[tokio::test]
async fn a_clients_mistake_isolates_no_node() {
    let etcd = Etcd::start();
    let node = Node::start("n1", &etcd, &QUICK);
    node.joined().await;
    node.offered("spam", "1").await;
    node.offered("egg", "2").await;
    for number in 0..500 {
        // In use elsewhere, and gone already.
        assert!(
            node.try_ask(&crate::node::connect("egg", "1"))
                .await
                .is_err()
        );
        node.disconnect(&format!("nobody-{number}")).await;
    }
    let events = seen_until_now(&node).await;
    assert_eq!(
        events
            .iter()
            .filter(|name| name.starts_with("node."))
            .collect::<Vec<_>>(),
        [&"node.joined"]
    );
    stands(&node, Membership::Joined, Mode::Normal).await;
}

#[tokio::test]
async fn a_slow_disk_isolates_no_node() {
    let etcd = Etcd::start();
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start_behind(slow_disk_library(folder.path()), "n1", (&etcd, &QUICK));
    node.joined().await;
    // Each change of the mode waits for the disk for twice as long as it takes to be isolated.
    std::fs::write(node.slow_disk(), "4000").unwrap();
    for mode in [SettableMode::BlockNewSession, SettableMode::Normal] {
        let asked = std::time::Instant::now();
        node.set(mode).await;
        eprintln!("on a slow disk {mode:?} took {:?}", asked.elapsed());
    }
    std::fs::remove_file(node.slow_disk()).unwrap();
    let events = seen_until_now(&node).await;
    assert_eq!(
        events
            .iter()
            .filter(|name| name.starts_with("node."))
            .collect::<Vec<_>>(),
        [&"node.joined"]
    );
}

/// All events so far.
async fn seen_until_now(node: &Node) -> Vec<&'static str> {
    let mut events = node.all_events().await;
    node.offered("now", "now").await;
    node.disconnect("now").await;
    // The last that there is: of a channel that nobody else is in.
    events.until("connection.destroyed").await;
    events.seen
}

fn slow_disk_library(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/etcd/slow_disk.c");
    run_in(
        folder,
        "cc",
        &[
            "-shared",
            "-fPIC",
            "-Wall",
            "-Werror",
            "-o",
            "slow_disk.so",
            source.to_str().unwrap(),
        ],
    );
    folder.join("slow_disk.so")
}
