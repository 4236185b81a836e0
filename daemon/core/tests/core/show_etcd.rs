//! Requests to etcd and fences, each in a line.

use soramode_core::cluster::history::EtcdIdentity;
use soramode_core::cluster::{Incarnation, Token};
use soramode_core::handles::FenceId;
use soramode_core::member::etcd::{ClaimOp, EtcdRequest, FenceScope};
use soramode_core::stored::StoredMember;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::ClusterNode;

/// The node's incarnation, as it is stored.
pub(crate) fn member(member: Option<&StoredMember>) -> String {
    let Some(member) = member else {
        return "no member of the cluster".to_owned();
    };
    let untracked = if member.has_untracked {
        ", earlier incarnations untracked"
    } else {
        ""
    };
    format!("in the cluster as {}{untracked}", member.incarnation.0)
}

pub(crate) fn known(known: &EtcdIdentity) -> String {
    format!("etcd at epoch {}, revision {}", known.epoch, known.revision)
}

fn init(request: &EtcdRequest) -> String {
    let EtcdRequest::Init {
        found,
        configuration,
        may_be_second,
        ..
    } = request
    else {
        return String::new();
    };
    let beside = if *may_be_second {
        ", beside others"
    } else {
        ""
    };
    let there = if found.is_some() {
        " over what is there"
    } else {
        ""
    };
    let cluster = if configuration.cluster_id.as_str() == "tokyo" {
        "tokyo"
    } else {
        "a new cluster"
    };
    format!(
        "init {cluster}, epoch {}, in etcd {}{there}{beside}",
        configuration.epoch, configuration.etcd_cluster_id
    )
}

pub(crate) fn request(request: &EtcdRequest) -> String {
    match request {
        EtcdRequest::Trust { .. } => "trust this etcd".to_owned(),
        EtcdRequest::Distrust(refusal) => format!("refuse this etcd: {refusal}"),
        EtcdRequest::NoteRollback { why, .. } => format!("note in it: {why}"),
        EtcdRequest::Init { .. } => init(request),
        EtcdRequest::ReadMembers => "read members".to_owned(),
        EtcdRequest::Join {
            mode,
            give_up,
            reads_claims,
        } => {
            let give_up =
                give_up.map_or_else(String::new, |Incarnation(old)| format!("delete {old} and "));
            let read = if *reads_claims { "read claims, " } else { "" };
            format!("{read}{give_up}join, {mode}")
        }
        EtcdRequest::Claim {
            channel_id,
            by: Incarnation(by),
            op,
        } => format!("{} {channel_id}, by {by}", claim_op(op)),
        EtcdRequest::FindClaim {
            channel_id,
            by: Incarnation(by),
        } => format!("read claim {channel_id}, by {by}"),
        EtcdRequest::Release(channel_id, Token(token)) => {
            format!("release {channel_id}, token {token}")
        }
        EtcdRequest::MigrateClaims {
            by: Incarnation(by),
            claims,
        } => {
            let claims: Vec<String> = claims
                .iter()
                .map(|(channel, Token(token))| format!("{channel} {token}"))
                .collect();
            format!("migrate {}, by {by}", claims.join(", "))
        }
        EtcdRequest::Publish {
            by: Incarnation(by),
            mode,
        } => format!("publish {mode}, by {by}"),
        EtcdRequest::PublishLoad {
            by: Incarnation(by),
            load,
        } => {
            let leaving = if load.is_leaving { ", leaving" } else { "" };
            format!(
                "publish load {}/{}{leaving}, by {by}",
                load.connections, load.limit
            )
        }
        EtcdRequest::Count => "count".to_owned(),
        EtcdRequest::Purge {
            node_name,
            running: None,
            departed,
            actor,
            ..
        } => {
            let departed = departed.map(|Incarnation(it)| format!("@{it}"));
            format!(
                "purge {node_name}{}, as {actor} says",
                departed.unwrap_or_default()
            )
        }
        EtcdRequest::Purge {
            node_name,
            running: Some(Incarnation(running)),
            actor,
            ..
        } => {
            format!("purge {node_name} before {running}, as {actor} says")
        }
        EtcdRequest::DeleteMember(Incarnation(by)) => format!("delete member {by}"),
        EtcdRequest::KeepMember => "keep member".to_owned(),
    }
}

fn claim_op(op: &ClaimOp) -> String {
    match op {
        ClaimOp::Get => "get".to_owned(),
        ClaimOp::Acquire => "claim".to_owned(),
        ClaimOp::TakeOver(claim) => format!("from {} ({}) take over", claim.node, claim.token.0),
        ClaimOp::Rewrite(claim) => format!("({}) rewrite", claim.token.0),
        ClaimOp::Release(claim) => format!("({}) release", claim.token.0),
    }
}

pub(crate) fn fence(FenceId(id): FenceId, of: &FenceScope) -> String {
    match of {
        FenceScope::All => format!("-> sfu: fence {id}, end everything"),
        FenceScope::Channel(channel) => format!("-> sfu: fence {id}, end {channel}"),
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
