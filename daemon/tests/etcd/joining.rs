//! Joining the cluster at the start of nodes.

use std::time::Instant;

use soramode_protocol::client::ClientError;
use soramode_protocol::cluster::InitCluster;
use soramode_protocol::error::ErrorType;
use soramode_protocol::mode::{Mode, SettableMode};
use soramode_protocol::node::Membership;

use crate::etcd::{Etcd, Scheme};
use crate::node::{Node, QUICK, stands, until};

#[tokio::test]
async fn nodes_are_initial_until_etcd_answers_and_normal_soon_after() {
    let mut etcd = Etcd::stopped(1, Scheme::Http);
    let nodes = ["n1", "n2", "n3"].map(|name| Node::start(name, &etcd, &QUICK));
    for node in &nodes {
        stands(node, Membership::Fenced, Mode::Initial).await;
        let refused = node
            .try_ask(&soramode_protocol::mode::ChangeMode::to(
                SettableMode::Normal,
            ))
            .await;
        assert!(
            matches!(refused, Err(ClientError::Refused(error)) if error.data.error_type == ErrorType::NotJoined)
        );
    }
    etcd.start_member(0, "new");
    etcd.client(0).await;
    let answers = Instant::now();
    for node in &nodes {
        node.joined().await;
        eprintln!(
            "{} is normal {:?} after etcd answered",
            node.name,
            answers.elapsed()
        );
        stands(node, Membership::Joined, Mode::Normal).await;
    }
}

#[tokio::test]
async fn a_name_in_use_keeps_a_second_node_out() {
    let etcd = Etcd::start();
    let mut first = Node::start("n1", &etcd, &QUICK);
    first.joined().await;
    let second = Node::start("n1", &etcd, &QUICK);
    let problem = until(async || second.status().await.cluster.unwrap().problem).await;
    assert!(
        problem.contains("earlier run") && !problem.contains("--node-name"),
        "{problem}"
    );
    second
        .says("another running node has this node's name")
        .await;
    stands(&second, Membership::Fenced, Mode::Initial).await;
    first.offered("spam", "1").await;
    first.disconnect("1").await;
    stands(&first, Membership::Joined, Mode::Normal).await;
    // The name is free when its node has left in order.
    first.stop();
    second.joined().await;
}

#[tokio::test]
async fn of_two_nodes_that_make_the_cluster_at_once_one_finds_it_made() {
    let etcd = Etcd::start();
    let nodes = ["n1", "n2"].map(|name| Node::start(name, &etcd, &QUICK));
    for node in &nodes {
        node.says("etcd has no cluster").await;
    }
    let init = InitCluster::default();
    let (one, other) = tokio::join!(nodes[0].try_ask(&init), nodes[1].try_ask(&init));
    let mut refused = [one, other].into_iter().filter_map(Result::err);
    let error = refused.next().expect("both made it");
    assert!(
        matches!(&error, ClientError::Refused(error) if error.data.error_type == ErrorType::AlreadyExists),
        "{error}"
    );
    assert!(refused.next().is_none(), "nobody made it");
    for node in &nodes {
        node.has_joined().await;
    }
}

#[tokio::test]
async fn a_restarted_daemon_resumes() {
    let etcd = Etcd::start();
    let mut node = Node::start("n1", &etcd, &QUICK);
    node.joined().await;
    let token = node.offered("spam", "1").await;
    let incarnation = node.status().await.cluster.unwrap().incarnation;
    node.kill();
    node.start_again();
    node.joined().await;
    let status = node.status().await;
    assert_eq!(
        (status.sessions, status.cluster.unwrap().incarnation),
        (1, incarnation)
    );
    assert_eq!(
        node.offered("spam", "2").await,
        token,
        "the claim is the one from before"
    );
}
