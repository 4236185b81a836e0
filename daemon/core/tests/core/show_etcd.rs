//! What the gate wants of etcd and of the SFU, in a line.

use soramode_core::cluster::{Incarnation, Token};
use soramode_core::member::order::{FenceOf, Order, Wish};
use soramode_protocol::mode::Mode;
use soramode_protocol::node::ClusterNode;

pub(crate) fn order(order: &Order) -> String {
    match order {
        Order::Trust { .. } => "trust this etcd".to_owned(),
        Order::Distrust(refusal) => format!("refuse this etcd: {refusal}"),
        Order::NoteSetBack { why, .. } => format!("note in it: {why}"),
        Order::Init {
            found,
            configuration,
            ..
        } => {
            let (there, epoch) = (
                if found.is_some() {
                    " over what is there"
                } else {
                    ""
                },
                configuration.epoch,
            );
            let cluster = if configuration.cluster_id.as_str() == "tokyo" {
                "tokyo"
            } else {
                "a new cluster"
            };
            format!(
                "init {cluster}, epoch {epoch}, in etcd {}{there}",
                configuration.etcd_cluster_id
            )
        }
        Order::Look => "look".to_owned(),
        Order::Join {
            mode,
            give_up: None,
        } => format!("join, {mode}"),
        Order::Join {
            mode,
            give_up: Some(Incarnation(old)),
        } => format!("give up {old} and join, {mode}"),
        Order::Ask {
            channel_id,
            by: Incarnation(by),
            wish,
        } => format!("{} {channel_id}, by {by}", wish_words(wish)),
        Order::Find {
            channel_id,
            by: Incarnation(by),
        } => format!("look for {channel_id}, by {by}"),
        Order::Release(channel_id, Token(token)) => format!("release {channel_id}, token {token}"),
        Order::Readopt {
            by: Incarnation(by),
            claims,
        } => {
            let claims: Vec<String> = claims
                .iter()
                .map(|(channel, Token(token))| format!("{channel} {token}"))
                .collect();
            format!("readopt {}, by {by}", claims.join(", "))
        }
        Order::Publish {
            by: Incarnation(by),
            mode,
        } => format!("publish {mode}, by {by}"),
        Order::Tell {
            by: Incarnation(by),
            load,
        } => format!("tell {}/{}, by {by}", load.connections, load.limit),
        Order::Count => "count".to_owned(),
        Order::Purge {
            node_name,
            running: None,
            actor,
            ..
        } => format!("purge {node_name}, as {actor} says"),
        Order::Purge {
            node_name,
            running: Some(Incarnation(running)),
            actor,
            ..
        } => {
            format!("purge {node_name} before {running}, as {actor} says")
        }
        Order::Leave(Incarnation(by)) => format!("leave, {by}"),
        Order::Stay => "stay".to_owned(),
    }
}

fn wish_words(wish: &Wish) -> String {
    match wish {
        Wish::Find => "find".to_owned(),
        Wish::Claim => "claim".to_owned(),
        Wish::TakeOver(claim) => format!("from {} ({}) take over", claim.node, claim.token.0),
        Wish::Renew(claim) => format!("({}) renew", claim.token.0),
        Wish::Drop(claim) => format!("({}) drop", claim.token.0),
    }
}

pub(crate) fn fence(id: u64, of: &FenceOf) -> String {
    match of {
        FenceOf::All => format!("-> sfu: fence {id}, end everything"),
        FenceOf::Channel(channel) => format!("-> sfu: fence {id}, end {channel}"),
    }
}

pub(crate) fn node(node: &ClusterNode) -> String {
    let mode = node.mode.map_or("no mode", Mode::name);
    let orphaned = node
        .orphaned_channels
        .map(|it| {
            format!(
                ", orphaned {}, {} until purged",
                it.total, it.held_until_purge
            )
        })
        .unwrap_or_default();
    format!(
        "  {}: {mode}, {}{orphaned}",
        node.node_name,
        if node.connected {
            "connected"
        } else {
            "not connected"
        }
    )
}
