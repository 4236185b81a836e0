//! Maintenance plans in a cluster: a node that is about to close takes new channels last, and a kill in its lead changes nothing.

use soramode_protocol::client::ClientError;
use soramode_protocol::decision::{Connect, Decision, HOPS_MAX};
use soramode_protocol::error::ErrorType;
use soramode_protocol::mode::{Mode, SettableMode};
use soramode_protocol::node::ListClusterNodes;
use soramode_protocol::plan::{CancelPlan, PlanHold, PlanState, PlanStep, StartPlan};

use crate::etcd::Etcd;
use crate::node::{Node, QUICK, connect, three, until};

const CHANNELS: usize = 50;

/// A plan that closes the node this long after it has become unready.
fn lead(seconds: i64) -> StartPlan {
    StartPlan::now(vec![
        PlanStep::Unready {
            at_seconds: -seconds,
        },
        PlanStep::Mode {
            at_seconds: 0,
            mode: SettableMode::BlockNewSession,
        },
    ])
}

fn lead_if_open(others: u64) -> StartPlan {
    StartPlan {
        keep_open: Some(others),
        ..lead(2)
    }
}

/// Connects a client to a channel that the node takes: the client was sent on often enough.
async fn connect_here(node: &Node, name: &str) {
    let connect = Connect {
        hops: HOPS_MAX,
        ..connect(name, name)
    };
    let offered = node.ask(&connect).await;
    assert!(matches!(offered, Decision::Offer { .. }), "{offered:?}");
}

/// Waits until a node sees the other one in this mode, and as leaving or not.
async fn sees(node: &Node, other: &Node, (mode, is_leaving): (Mode, bool)) {
    until(async || {
        let list = ListClusterNodes {
            count_orphaned: false,
        };
        let nodes = node.ask(&list).await.nodes;
        let seen = nodes
            .into_iter()
            .find(|it| it.node_name.as_str() == other.name)?;
        (seen.mode == Some(mode) && seen.leaving == is_leaving).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_leaving_node_takes_channels_last_and_is_not_counted_as_open() {
    let etcd = Etcd::start();
    let nodes = three(&etcd, &QUICK).await;
    let [leaving, second, third] = &nodes;
    // The node that leaves is the emptiest: channels would be placed on it.
    for number in 0..10 {
        for node in [second, third] {
            let name = format!("{}-{number}", node.name);
            connect_here(node, &name).await;
        }
    }
    leaving.ask(&lead(3_600)).await;
    for node in [second, third] {
        sees(node, leaving, (Mode::Normal, true)).await;
    }
    for number in 0..CHANNELS {
        let new = connect(&format!("new-{number}"), &format!("n-{number}"));
        match second.ask(&new).await {
            Decision::Offer { .. } => {}
            Decision::Redirect { node_name, .. } => assert_eq!(node_name.as_str(), third.name),
            rejected @ Decision::Reject { .. } => panic!("{rejected:?}"),
        }
    }
    // It sends new channels on itself, and takes those that come to it all the same.
    let redirected = leaving.connect("asked-here", "a-1").await;
    assert!(
        matches!(redirected, Decision::Redirect { .. }),
        "{redirected:?}"
    );
    connect_here(leaving, "sent-here").await;

    // Only the third node counts as open beside the second.
    let refused = second.try_ask(&lead_if_open(2)).await;
    let Err(ClientError::Refused(error)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(error.data.error_type, ErrorType::PlanRefused, "{error}");
    third.set(SettableMode::BlockNewSession).await;
    sees(second, third, (Mode::BlockNewSession, false)).await;
    second.set(SettableMode::BlockNewSession).await;
    // With all others closed it is used.
    sees(third, second, (Mode::BlockNewSession, false)).await;
    let last = third.connect("last", "l-1").await;
    assert!(
        matches!(&last, Decision::Redirect { node_name, .. } if node_name.as_str() == leaving.name),
        "{last:?}"
    );

    leaving.ask(&CancelPlan::default()).await;
    for node in [second, third] {
        sees(node, leaving, (Mode::Normal, false)).await;
    }
}

#[tokio::test]
async fn a_close_waits_until_enough_others_are_open() {
    let etcd = Etcd::start();
    let [first, second, third] = three(&etcd, &QUICK).await;
    third.set(SettableMode::BlockNewSession).await;
    sees(&first, &third, (Mode::BlockNewSession, false)).await;
    first.offered("spam", "1").await;
    // Enough are open when the plan starts, and too few at its close.
    first.ask(&lead_if_open(1)).await;
    second.ask(&lead(3_600)).await;
    until(async || {
        let plan = first.status().await.plan?;
        plan.held.map(|_| ())
    })
    .await;
    let status = first.status().await;
    let held = status.plan.unwrap();
    assert_eq!(
        (status.mode.mode, held.held.map(PlanHold::name)),
        (Mode::Normal, Some("keep_open"))
    );
    third.set(SettableMode::Normal).await;
    until(async || (first.status().await.mode.mode == Mode::BlockNewSession).then_some(())).await;
}

#[tokio::test]
async fn a_kill_during_the_lead_changes_nothing() {
    let etcd = Etcd::start();
    let [mut first, second, _third] = three(&etcd, &QUICK).await;
    first.offered("spam", "1").await;
    let plan = first.ask(&lead(8)).await.plan;
    sees(&second, &first, (Mode::Normal, true)).await;
    first.kill();
    first.start_again();
    first.has_joined().await;
    sees(&second, &first, (Mode::Normal, true)).await;
    let status = first.status().await;
    let resumed = status.plan.unwrap();
    assert_eq!((resumed.id, resumed.state), (plan.id, PlanState::Lead));
    // It closes at its time, and the others see it.
    sees(&second, &first, (Mode::BlockNewSession, false)).await;
    let closed = first.status().await.plan.unwrap();
    assert_eq!(closed.state, PlanState::Closed);
    let close = closed.steps[1].done_at.unwrap();
    let planned = plan.steps[1].due_at;
    assert!(close >= planned, "{close}, planned {planned}");
}
