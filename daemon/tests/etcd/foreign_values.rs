//! Values in etcd that no node of this version writes: of another version, or written by hand.

use etcd_client::{Client, DeleteOptions, Txn, TxnOp};
use serde_json::json;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::{ClusterNode, ListClusterNodes, Membership};

use crate::etcd::Etcd;
use crate::node::{Node, PREFIX, stands, until};

/// The nodes are isolated only by what they read.
const PATIENT: [&str; 3] = [
    "--cluster-ttl=10s",
    "--cluster-heartbeat=200ms",
    "--isolated-after=60s",
];

/// Writes the key of a member that publishes these URLs, and this version.
async fn write_member(client: &mut Client, name: &str, url: &str, version: &str) {
    let value = json!({
        "id": "state", "epoch": 1, "fence_budget_ms": 1_000, "version": version,
        "signaling_url": url, "api_url": url, "page_url": url,
    });
    let key = format!("{PREFIX}/n/{name}");
    client.put(key, value.to_string(), None).await.unwrap();
}

/// Waits until a node lists a member.
async fn listed(node: &Node, name: &str) -> ClusterNode {
    until(async || {
        let list = ListClusterNodes {
            count_orphaned: false,
        };
        let mut nodes = node.ask(&list).await.nodes.into_iter();
        nodes.find(|it| it.node_name.as_str() == name)
    })
    .await
}

#[tokio::test]
async fn texts_of_members_that_are_too_long_or_no_urls_are_ignored_with_one_warning() {
    let etcd = Etcd::start();
    let node = Node::start("n1", &etcd, &PATIENT);
    node.joined().await;
    let mut client = etcd.client(0).await;
    let longest = format!("wss://{}/", "x".repeat(1_024 - "wss:///".len()));
    let version = "v".repeat(64);
    for (name, url, version, is_kept) in [
        ("n2", format!("{longest}x"), format!("{version}v"), false),
        (
            "n3",
            "javascript:alert(1)".to_owned(),
            "v".repeat(1_000_000),
            false,
        ),
        ("n4", longest, version, true),
    ] {
        write_member(&mut client, name, &url, &version).await;
        let found = listed(&node, name).await;
        let expected = Some(&url).filter(|_| is_kept);
        for shown in [
            &found.cluster_signaling_url,
            &found.cluster_api_url,
            &found.cluster_page_url,
        ] {
            assert_eq!(shown.as_ref(), expected, "{name}");
        }
        assert_eq!(found.version, Some(version).filter(|_| is_kept), "{name}");
    }
    let log = node.log();
    assert_eq!(log.matches("ignored what a member").count(), 1, "{log}");
    assert!(log.len() < 20_000, "{} bytes", log.len());
    stands(&node, Membership::Joined, Mode::Normal).await;
}

#[tokio::test]
async fn more_members_than_a_cluster_can_have_are_refused_until_they_are_removed() {
    let etcd = Etcd::start();
    let node = Node::start("n1", &etcd, &PATIENT);
    node.joined().await;
    let mut client = etcd.client(0).await;
    let names: Vec<String> = (0..1_024)
        .map(|number| format!("{PREFIX}/n/x-{number}"))
        .collect();
    for some in names.chunks(128) {
        let puts = some.iter().map(|name| TxnOp::put(name.as_str(), "", None));
        let txn = Txn::new().and_then(puts.collect::<Vec<_>>());
        client.txn(txn).await.unwrap();
    }
    node.says("etcd has 1025 members of this cluster, more than 1024")
        .await;
    let prefix = DeleteOptions::new().with_prefix();
    client
        .delete(format!("{PREFIX}/n/x-"), Some(prefix))
        .await
        .unwrap();
    is_well(&node).await;
}

#[tokio::test]
async fn a_configuration_that_is_too_long_is_refused_until_it_is_repaired() {
    let etcd = Etcd::start();
    let node = Node::start("n1", &etcd, &PATIENT);
    node.joined().await;
    let mut client = etcd.client(0).await;
    let key = format!("{PREFIX}/cfg");
    let read = client.get(key.as_str(), None).await.unwrap();
    let written = read.kvs()[0].value_str().unwrap();
    let padded = written.replacen(
        '{',
        &format!("{{\"padding\":\"{}\",", "x".repeat(16 * 1_024)),
        1,
    );
    client.put(key.as_str(), padded, None).await.unwrap();
    node.says("/cfg in etcd cannot be read: it has ").await;
    client.put(key.as_str(), written, None).await.unwrap();
    is_well(&node).await;
}

/// Waits until a node has no problem with its cluster.
async fn is_well(node: &Node) {
    until(async || {
        node.status()
            .await
            .cluster
            .unwrap()
            .problem
            .is_none()
            .then_some(())
    })
    .await;
    stands(node, Membership::Joined, Mode::Normal).await;
}
