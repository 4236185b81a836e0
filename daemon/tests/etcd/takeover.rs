//! Channels of a node that is lost.

use std::time::Instant;

use soramode_protocol::client::ClientError;
use soramode_protocol::cluster::{PurgeClusterNode, RISK_OF_PURGE};
use soramode_protocol::decision::{Decision, RejectReason};
use soramode_protocol::error::ErrorType;
use soramode_protocol::node::ListClusterNodes;

use crate::etcd::Etcd;
use crate::node::{FENCED, Node, QUICK, until};

#[tokio::test]
async fn a_lost_nodes_channel_is_taken_over_after_its_lease_and_not_before() {
    let etcd = Etcd::start();
    let mut first = Node::start("n1", &etcd, &FENCED);
    first.joined().await;
    let token = first.offered("spam", "1").await;
    let second = Node::start("n2", &etcd, &FENCED);
    second.joined().await;
    assert!(
        matches!(second.connect("spam", "2").await, Decision::Redirect { node_name, location }
        if node_name.as_str() == "n1" && location.as_deref() == Some("wss://n1.example.com/"))
    );
    first.kill();
    let lost = Instant::now();
    let left = until(async || match second.connect("spam", "2").await {
        Decision::Reject {
            reason: RejectReason::OwnerLost,
            retry_after_ms,
            ..
        } => Some(retry_after_ms),
        Decision::Redirect { .. } => None,
        Decision::Offer { .. } | Decision::Reject { .. } => panic!("its right still runs"),
    })
    .await;
    assert!(
        left.is_some_and(|left| left > 0),
        "when it may be had is said"
    );
    let seen_gone = lost.elapsed();
    assert!(second.offered("spam", "2").await > token);
    eprintln!(
        "seen gone after {seen_gone:?}, taken over after {:?}",
        lost.elapsed()
    );
}

#[tokio::test]
async fn a_node_that_promises_nothing_is_waited_for_until_it_is_purged() {
    let etcd = Etcd::start();
    let mut first = Node::start("n1", &etcd, &QUICK);
    first.joined().await;
    let token = first.offered("spam", "1").await;
    let second = Node::start("n2", &etcd, &QUICK);
    second.joined().await;
    let purge = |name: &str, risk: &str| PurgeClusterNode {
        node_name: name.parse().unwrap(),
        accept_risk: risk.to_owned(),
    };
    let refused = |result: Result<_, ClientError>| match result {
        Err(ClientError::Refused(error)) => error.data.error_type,
        Ok(_) | Err(_) => panic!("not refused"),
    };
    assert_eq!(
        refused(second.try_ask(&purge("n1", RISK_OF_PURGE)).await),
        ErrorType::NodeStillJoined
    );
    first.kill();
    second.sees(&["n2 normal", "n1"]).await;
    assert_eq!(
        refused(second.try_ask(&purge("n1", "")).await),
        ErrorType::InvalidParams
    );
    assert_eq!(
        refused(second.try_ask(&purge("n3", RISK_OF_PURGE)).await),
        ErrorType::NotFound
    );
    assert!(matches!(
        second.connect("spam", "2").await,
        Decision::Reject {
            reason: RejectReason::OwnerLost,
            retry_after_ms: None,
            ..
        }
    ));
    let owed = second
        .ask(&ListClusterNodes {
            count_orphaned: true,
        })
        .await
        .nodes;
    assert_eq!(
        owed.iter()
            .map(|node| node.orphaned_channels.unwrap().held_until_purge)
            .collect::<Vec<_>>(),
        [0, 1]
    );
    assert_eq!(second.ask(&purge("n1", RISK_OF_PURGE)).await.channels, 1);
    assert!(second.offered("spam", "2").await > token);
    returns_with_a_lost_channel(&mut first, &second).await;
}

/// The purged node was not off. Its session on the lost channel must end, and does not keep it out: it serves other channels.
async fn returns_with_a_lost_channel(first: &mut Node, second: &Node) {
    first.start_again();
    first.has_joined().await;
    first
        .says("channel \"spam\", which another node owns, must end")
        .await;
    second.sees(&["n1 normal", "n2 normal"]).await;
    assert!(matches!(
        first.connect("spam", "3").await,
        Decision::Redirect { node_name, .. } if node_name.as_str() == "n2"
    ));
    first.offered("egg", "4").await;
}
