//! Checks of the cluster: the node's membership, and the other nodes.

use soramode_protocol::cluster::RISK_OF_PURGE;
use soramode_protocol::node::{ClusterNode, ClusterNodes, Membership, OrphanedChannels, Status};

use super::verdict::Check;
use crate::cluster_status;
use crate::command_line;
use crate::output::counted;

/// Checks the node's membership, the takeover of its channels, and its published mode.
pub(super) fn cluster_checks(status: &Status) -> Vec<Check> {
    let Some(cluster) = status.cluster.as_deref() else {
        return Vec::new();
    };
    let how = match &cluster.problem {
        Some(problem) => format!(
            "{}, {}: {problem}",
            cluster_status::describe_name(cluster),
            status.membership_words()
        ),
        None => format!(
            "{}, {}",
            cluster_status::describe_name(cluster),
            status.membership_words()
        ),
    };
    let place = match (status.membership, &cluster.problem) {
        (Membership::Joined | Membership::Standalone, None) => Check::ok("cluster", how),
        (Membership::Joined | Membership::Standalone, Some(_)) => Check::bad(
            "cluster",
            how,
            "See soramoded's log: journalctl -u soramoded",
        ),
        // The problem has its own remedy.
        (Membership::Isolated | Membership::Fenced, Some(_)) => Check::bad(
            "cluster",
            how,
            "The node joins automatically once that is solved",
        ),
        (Membership::Isolated | Membership::Fenced, None) => Check::bad(
            "cluster",
            how,
            "The node joins automatically once this is solved: see the etcd lines below",
        ),
    };
    let ownership = cluster_status::describe_lease(status.membership, cluster);
    let ownership = match (status.membership, cluster.valid_for_ms) {
        (Membership::Fenced, _) | (_, Some(0)) => Check::bad(
            "ownership",
            ownership,
            "It begins when the node joins its cluster",
        ),
        (Membership::Joined | Membership::Isolated | Membership::Standalone, _) => {
            Check::ok("ownership", ownership)
        }
    };
    let takeover = match &cluster.no_takeover_reason {
        Some(_) => Check::note(
            "takeover",
            cluster_status::describe_takeover(cluster),
            "To allow automatic takeover, set --on-fence and --dead-man",
        ),
        None => Check::ok("takeover", cluster_status::describe_takeover(cluster)),
    };
    let mut checks = vec![place, ownership, takeover];
    if status.membership == Membership::Joined && !cluster.published {
        let how =
            "the other nodes do not know this node's mode: they may still redirect clients to it";
        checks.push(Check::bad(
            "published",
            how,
            "They are notified as soon as etcd accepts writes: see the etcd lines below",
        ));
    }
    if cluster.signaling_url.is_none() {
        let how = "--signaling-url is not set: redirects to this node carry its name but no URL";
        checks.push(Check::note(
            "redirects",
            how,
            "Set --signaling-url to the URL at which clients reach this node",
        ));
    }
    if cluster.api_url.is_none() {
        let how =
            "--api-url is not set: soramode --node and connect --follow cannot reach this node";
        checks.push(Check::note(
            "api",
            how,
            "Set --api-url to the URL at which the other nodes reach --api-listen",
        ));
    }
    checks
}

/// Checks for lost nodes and orphaned channels.
pub(super) fn node_checks(
    nodes: &ClusterNodes,
    status: &Status,
    command: impl Fn(&str) -> String,
) -> Vec<Check> {
    let mut checks: Vec<Check> = nodes
        .nodes
        .iter()
        .filter_map(|node| node_check(node, &command))
        .collect();
    match (&nodes.problem, cluster_status::stale_because(status)) {
        (_, Some(why)) => {
            let how = format!(
                "{why}: only the last known state of the other nodes is known, and orphaned channels are not counted"
            );
            checks.push(Check::note(
                "nodes",
                how,
                "Solve the problem of the cluster or etcd line, or run doctor on another node",
            ));
        }
        (Some(problem), None) => {
            let how = format!("orphaned channels cannot be counted: {problem}");
            checks.push(Check::note("nodes", how, "Look again in a moment"));
        }
        (None, None) if checks.is_empty() => {
            let count = counted(nodes.nodes.len() as u64, "node");
            checks.push(Check::ok(
                "nodes",
                format!("{count} registered, no orphaned channels (a lost node shows once its --cluster-ttl is over)"),
            ));
        }
        (None, None) => {}
    }
    checks
}

fn node_check(node: &ClusterNode, command: impl Fn(&str) -> String) -> Option<Check> {
    let name = node.node_name.as_str();
    // This node reports its own membership, also while it has not joined.
    let is_lost = !node.connected && node.membership.is_none();
    let OrphanedChannels {
        total: channels,
        held_until_purge,
    } = node.orphaned_channels.unwrap_or_default();
    let rejected = format!(
        "{} (clients are rejected with OWNER-LOST)",
        counted(channels, "orphaned channel")
    );
    let purge = command(&format!(
        "nodes purge {} --accept-risk={RISK_OF_PURGE}",
        command_line::word(name)
    ));
    let check = match (is_lost, channels, held_until_purge) {
        (false, 0, _) => return None,
        (true, 0, _) => {
            let orphaned = if node.orphaned_channels.is_some() {
                "without orphaned channels"
            } else {
                "its orphaned channels are not counted"
            };
            Check::note(
                "nodes",
                format!("{name} is lost, {orphaned}"),
                format!(
                    "It joins again when its soramoded is started. If its machine is off for good, remove it: {purge}"
                ),
            )
        }
        (true, _, 0) => {
            let explain = command("explain CHANNEL");
            let advice = format!(
                "Start it again, or wait until other nodes may take them over. Show when: {explain}"
            );
            Check::bad("nodes", format!("{name} is lost, with {rejected}"), advice)
        }
        (true, _, _) => {
            let advice = format!("Start it again. If its machine is off for good: {purge}");
            Check::bad("nodes", format!("{name} is lost, with {rejected}"), advice)
        }
        (false, _, _) => {
            let how = format!("{name} has lost its state: its earlier run left {rejected}");
            Check::bad(
                "nodes",
                how,
                format!("Make sure that its SFU no longer serves them. Then run: {purge}"),
            )
        }
    };
    Some(check)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_that_were_not_counted_are_not_said_to_be_none() {
        let how = |orphaned: &str| {
            let node = serde_json::from_str(&format!(
                r#"{{"node_name":"n2","connected":false{orphaned}}}"#
            ))
            .unwrap();
            node_check(&node, str::to_owned).map(|check| check.how)
        };
        assert_eq!(
            how("").as_deref(),
            Some("n2 is lost, its orphaned channels are not counted")
        );
        let none = r#","orphaned_channels":{"total":0,"held_until_purge":0}"#;
        assert_eq!(
            how(none).as_deref(),
            Some("n2 is lost, without orphaned channels")
        );
    }
}
