//! Describes a node's membership and ownership of channels, from its status.

use std::time::Duration;

use soramode_protocol::cluster::ClusterStatus;
use soramode_protocol::node::{Membership, Status};

use crate::output::{Output, Row, counted, times};

/// Returns the rows of `status` about the cluster.
pub(crate) fn rows(status: &Status, output: &Output) -> Vec<Row> {
    // A node without a cluster has no such rows.
    let Some(cluster) = status.cluster.as_deref() else {
        return Vec::new();
    };
    let since = cluster
        .membership_since
        .map(|since| format!(", since {}", output.time(since)))
        .unwrap_or_default();
    let under_way = cluster.claims_in_flight;
    let asked = if under_way > 0 {
        format!(", {} in progress", counted(under_way, "claim"))
    } else {
        String::new()
    };
    vec![
        ("cluster", Some(describe_name(cluster))),
        (
            "membership",
            Some(format!("{}{since}", status.membership_words())),
        ),
        ("problem", cluster.problem.clone()),
        (
            "channels",
            Some(format!("{}{asked}", counted(cluster.channels, "channel"))),
        ),
        (
            "ownership",
            Some(describe_lease(status.membership, cluster)),
        ),
        ("takeover", Some(describe_takeover(cluster))),
        (
            "published",
            (!cluster.published)
                .then(|| "no: the other nodes do not know this node's mode".to_owned()),
        ),
    ]
}

/// `default (epoch 1), etcd at http://10.0.0.1:2379, http://10.0.0.2:2379`
pub(crate) fn describe_name(cluster: &ClusterStatus) -> String {
    let epoch = cluster
        .epoch
        .map(|epoch| format!(" (epoch {epoch})"))
        .unwrap_or_default();
    format!(
        "{}{epoch}, etcd at {}",
        cluster.name,
        cluster.endpoints.join(", ")
    )
}

/// Describes the ownership lease: the time for which the node may serve its channels without another answer from etcd.
pub(crate) fn describe_lease(membership: Membership, cluster: &ClusterStatus) -> String {
    let contact = cluster
        .renewed_at
        .map(|time| format!(" (last etcd contact {} ago)", times::age(time)))
        .unwrap_or_default();
    match (membership, cluster.valid_for_ms) {
        (Membership::Fenced, _) | (Membership::Joined | Membership::Isolated, Some(0)) => {
            format!("none: no client is admitted{contact}")
        }
        (Membership::Joined | Membership::Isolated | Membership::Standalone, Some(left)) => {
            format!(
                "expires in {} unless etcd answers{contact}",
                times::span(Duration::from_millis(left))
            )
        }
        (Membership::Joined | Membership::Isolated | Membership::Standalone, None) => {
            format!("does not expire{contact}")
        }
    }
}

/// Returns why the last known state of the other nodes may be outdated.
pub(crate) fn stale_because(status: &Status) -> Option<String> {
    let cluster = status.cluster.as_deref()?;
    let members = || {
        status
            .upstreams
            .iter()
            .filter(|upstream| upstream.name == "etcd")
    };
    let failing = members().filter(|member| member.problem.is_some()).count();
    if failing > 0 && failing * 2 >= members().count() {
        return Some("etcd is unreachable".to_owned());
    }
    // The first sentence is the fact; the remedy follows it.
    let problem = cluster
        .problem
        .as_deref()
        .and_then(|problem| problem.split(". ").next())
        .map(str::to_owned);
    match status.membership {
        Membership::Isolated | Membership::Fenced => {
            Some(problem.unwrap_or_else(|| format!("this node is {}", status.membership_words())))
        }
        // It reads etcd: its problem concerns itself alone, such as a session that must end.
        Membership::Joined => None,
        Membership::Standalone => problem,
    }
}

/// Describes the takeover of the node's channels if the node is lost.
pub(crate) fn describe_takeover(cluster: &ClusterStatus) -> String {
    match (cluster.fence_after_ms, &cluster.no_takeover_reason) {
        (Some(fence_after), _) => format!(
            "automatic: {} after its last etcd contact a lost node's sessions are ended (--on-fence {}, --dead-man {}), then other nodes may take its channels",
            times::span(Duration::from_millis(fence_after)),
            cluster.on_fence,
            cluster.dead_man
        ),
        (None, because) => {
            let because = because
                .as_deref()
                .map(|because| format!(" ({because})"))
                .unwrap_or_default();
            format!(
                "manual{because}. If this node is lost, its channels stay reserved until it returns or is purged"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(more: &str) -> ClusterStatus {
        let text = format!(
            r#"{{"name":"default","endpoints":["http://a:2379","http://b:2379"],"on_fence":"socket","dead_man":"grant","channels":2,
               "claims_in_flight":0,"published":true{more}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_takeover_of_a_lost_nodes_channels_is_described() {
        assert_eq!(
            describe_takeover(&cluster(r#","fence_after_ms":30000"#)),
            "automatic: 30 s after its last etcd contact a lost node's sessions are ended (--on-fence socket, --dead-man grant), then other nodes may take its channels"
        );
        assert_eq!(
            describe_takeover(&cluster(r#","no_takeover_reason":"as --fence-after says""#)),
            "manual (as --fence-after says). If this node is lost, its channels stay reserved until it returns or is purged"
        );
    }

    #[test]
    fn the_lease_is_described_with_its_remaining_time() {
        let words = |membership, more| describe_lease(membership, &cluster(more));
        assert_eq!(
            words(Membership::Joined, r#","valid_for_ms":29000"#),
            "expires in 29 s unless etcd answers"
        );
        assert_eq!(words(Membership::Isolated, ""), "does not expire");
        assert_eq!(words(Membership::Fenced, ""), "none: no client is admitted");
        assert_eq!(
            words(Membership::Isolated, r#","valid_for_ms":0"#),
            "none: no client is admitted"
        );
    }

    #[test]
    fn an_outdated_state_is_marked() {
        let stale = |membership, more: &str, etcd: &str| {
            let status = crate::last_status::status_of("normal", r#","sessions_complete":true"#);
            let upstreams = serde_json::from_str(etcd).unwrap();
            stale_because(&Status {
                membership,
                cluster: Some(Box::new(cluster(more))),
                upstreams,
                ..status
            })
        };
        let well = r#"[{"name":"etcd","url":"http://a/"},{"name":"etcd","url":"http://b/"},{"name":"etcd","url":"http://c/","problem":"p"}]"#;
        let lost = r#"[{"name":"etcd","url":"http://a/","problem":"p"},{"name":"webhook","url":"http://b/"}]"#;
        assert_eq!(stale(Membership::Joined, "", well), None);
        assert_eq!(
            stale(Membership::Joined, "", lost).as_deref(),
            Some("etcd is unreachable")
        );
        assert_eq!(
            stale(Membership::Isolated, "", well).as_deref(),
            Some("this node is isolated")
        );
        let emptied = r#","problem":"etcd was emptied. Bring it back""#;
        let must_end =
            r#","problem":"the session on channel \"a\", which another node owns, must end""#;
        assert_eq!(stale(Membership::Joined, must_end, well), None);
        for membership in [Membership::Isolated, Membership::Fenced] {
            assert_eq!(
                stale(membership, emptied, well).as_deref(),
                Some("etcd was emptied"),
                "{membership}"
            );
        }
    }

    #[test]
    fn a_cluster_is_named_with_its_epoch_and_its_etcd() {
        assert_eq!(
            describe_name(&cluster(r#","epoch":2"#)),
            "default (epoch 2), etcd at http://a:2379, http://b:2379"
        );
        assert_eq!(
            describe_name(&cluster("")),
            "default, etcd at http://a:2379, http://b:2379"
        );
    }
}
