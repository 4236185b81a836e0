//! etcd returns without its data: empty, rolled back, or as another cluster. Nodes that know better
//! refuse it, and no channel is served twice.

use soramode_protocol::decision::Decision;
use soramode_protocol::error::ErrorType;
use soramode_protocol::node::Membership;

use crate::etcd::Etcd;
use crate::node::{Node, QUICK, connect, until};

/// Two nodes; the first has the channel `spam`, and the second some of its own.
async fn two(etcd: &Etcd) -> [Node; 2] {
    let nodes = [
        Node::start("n1", etcd, &QUICK),
        Node::start("n2", etcd, &QUICK),
    ];
    for node in &nodes {
        node.joined().await;
    }
    nodes[0].offered("spam", "1").await;
    nodes
}

/// It says this, lets nobody in, and does so after a restart of its daemon too.
async fn refuses(node: &mut Node, words: &str) {
    for _ in 0..2 {
        node.says(words).await;
        assert_ne!(node.status().await.membership, Membership::Joined);
        let told = node.try_ask(&connect("spam", "late")).await;
        assert!(!matches!(told, Ok(Decision::Offer { .. })), "{told:?}");
        node.kill();
        node.start_again();
    }
    node.says(words).await;
}

/// Checks that both nodes have joined, and the channel has its owner.
async fn all_is_as_before(nodes: &[Node; 2]) {
    for node in nodes {
        node.has_joined().await;
    }
    assert_eq!(nodes[0].status().await.sessions, 1);
    is_sent_to_its_owner(&nodes[1]).await;
}

async fn is_sent_to_its_owner(node: &Node) {
    until(async || match node.try_ask(&connect("spam", "2")).await {
        Ok(Decision::Redirect { node_name, .. }) if node_name.as_str() == "n1" => Some(()),
        Ok(other) => panic!("{other:?}"),
        // Its own key may have to be found first.
        Err(_) => None,
    })
    .await;
}

#[tokio::test]
async fn an_empty_etcd_is_refused_until_the_old_one_is_back() {
    let mut etcd = Etcd::start();
    let [mut first, mut second] = two(&etcd).await;
    etcd.put_aside("old");
    etcd.start_empty("soramode").await;
    // One that was never in a cluster makes none by itself.
    let fresh = Node::start("n3", &etcd, &QUICK);
    fresh.says("has no cluster of this name yet").await;
    for node in [&mut first, &mut second] {
        refuses(node, "has lost this node's cluster").await;
        assert_eq!(
            node.init().await.unwrap_err().data.error_type,
            ErrorType::InvalidParams
        );
    }
    assert_eq!(
        etcd.ctl(&["get", "--keys-only", "--prefix", "/soramode/"]),
        "",
        "nobody wrote anything"
    );
    drop(fresh);
    etcd.bring_back("old").await;
    all_is_as_before(&[first, second]).await;
}

#[tokio::test]
async fn an_etcd_that_is_lost_for_good_is_initialized_again_by_an_operator() {
    let mut etcd = Etcd::start();
    let nodes = two(&etcd).await;
    etcd.put_aside("old");
    etcd.start_empty("soramode").await;
    for node in &nodes {
        node.says("has lost this node's cluster").await;
    }
    let made = nodes[1].init_accepting_the_loss().await.unwrap();
    assert_eq!(made.epoch, 2);
    all_is_as_before(&nodes).await;
    for node in &nodes {
        assert_eq!(node.status().await.cluster.unwrap().epoch, Some(2));
    }
    // After a while new channels can be had again, and new nodes come in.
    nodes[1].offered("egg", "3").await;
    let fresh = Node::start("n3", &etcd, &QUICK);
    fresh.has_joined().await;
    assert_eq!(
        nodes[0].init().await.unwrap_err().data.error_type,
        ErrorType::AlreadyExists,
        "it is there"
    );
}

#[tokio::test]
async fn an_etcd_that_was_set_back_is_refused_by_all_once_one_node_sees_it() {
    let mut etcd = Etcd::start();
    let nodes = [
        Node::start("n1", &etcd, &QUICK),
        Node::start("n2", &etcd, &QUICK),
    ];
    for node in &nodes {
        node.joined().await;
    }
    etcd.copy_aside("copy").await;
    all_joined(&nodes).await;
    nodes[0].offered("spam", "1").await;
    let [mut first, mut second] = nodes;
    etcd.put_aside("old");
    etcd.bring_back("copy").await;
    refuses(&mut first, "etcd was rolled back").await;
    refuses(&mut second, "etcd was rolled back").await;
    let fresh = Node::start("n3", &etcd, &QUICK);
    fresh.says("as another node has seen").await;
    drop(fresh);
    etcd.bring_back("old").await;
    all_is_as_before(&[first, second]).await;
}

async fn all_joined(nodes: &[Node]) {
    for node in nodes {
        node.has_joined().await;
    }
}

#[tokio::test]
async fn an_etcd_with_another_cluster_is_refused_and_never_overwritten() {
    let mut etcd = Etcd::start();
    let [mut first, mut second] = two(&etcd).await;
    etcd.put_aside("old");
    etcd.start_empty("another").await;
    let mut stranger = Node::start("stranger", &etcd, &QUICK);
    stranger.joined().await;
    for node in [&mut first, &mut second] {
        refuses(node, "this node belongs to cluster").await;
        let refused = node.init_accepting_the_loss().await.unwrap_err();
        assert_eq!(
            refused.data.error_type,
            ErrorType::AlreadyExists,
            "{refused:?}"
        );
    }
    stranger.kill();
    etcd.bring_back("old").await;
    all_is_as_before(&[first, second]).await;
}
