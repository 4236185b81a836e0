//! What a status says of the node's place in its cluster, in words.

use std::time::Duration;

use soramode_protocol::cluster::ClusterStatus;
use soramode_protocol::node::{Membership, Status};

use crate::output::{Output, Row, counted, times};

/// What `status` shows of it.
pub(crate) fn rows(status: &Status, output: &Output) -> Vec<Row> {
    let Some(cluster) = status.cluster.as_deref() else { return vec![("membership", Some(status.membership.to_string()))] };
    let since = cluster.membership_since.map(|since| format!(", since {}", output.time(since))).unwrap_or_default();
    let under_way = cluster.claims_in_flight;
    let asked = if under_way > 0 { format!(", {} under way", counted(under_way, "claim")) } else { String::new() };
    vec![
        ("membership", Some(format!("{}{since}", status.membership))),
        ("cluster", Some(name_words(cluster))),
        ("right", Some(right_words(status.membership, cluster))),
        ("takeover", Some(takeover_words(cluster))),
        ("channels", Some(format!("{} {}{asked}", cluster.channels, if cluster.channels == 1 { "is its own" } else { "are its own" }))),
        ("published", (!cluster.published).then(|| "no: the other nodes do not know of this mode".to_owned())),
        ("problem", cluster.problem.clone()),
    ]
}

/// `default (epoch 1), etcd at http://10.0.0.1:2379, http://10.0.0.2:2379`
pub(crate) fn name_words(cluster: &ClusterStatus) -> String {
    let epoch = cluster.epoch.map(|epoch| format!(" (epoch {epoch})")).unwrap_or_default();
    format!("{}{epoch}, etcd at {}", cluster.name, cluster.endpoints.join(", "))
}

/// How long the node may serve its channels without another word of etcd.
pub(crate) fn right_words(membership: Membership, cluster: &ClusterStatus) -> String {
    let renewed = cluster.renewed_at.map(|time| format!(", renewed {} ago", times::age(time))).unwrap_or_default();
    match (membership, cluster.valid_for_ms) {
        (Membership::Fenced, _) | (Membership::Joined | Membership::Isolated, Some(0)) => "none: nobody is admitted".to_owned(),
        (Membership::Joined | Membership::Isolated | Membership::Standalone, Some(left)) => {
            format!("runs for {} without etcd{renewed}", times::span(Duration::from_millis(left)))
        }
        (Membership::Joined | Membership::Isolated | Membership::Standalone, None) => format!("without end{renewed}"),
    }
}

/// What becomes of its channels if the node is lost.
pub(crate) fn takeover_words(cluster: &ClusterStatus) -> String {
    match (cluster.fence_after_ms, &cluster.no_takeover_reason) {
        (Some(fence_after), _) => format!(
            "automatic: {} after its last word of etcd its sessions are ended (on-fence {}, dead-man {}), and then others take its channels",
            times::span(Duration::from_millis(fence_after)),
            cluster.on_fence,
            cluster.dead_man
        ),
        (None, because) => {
            let because = because.as_deref().map(|because| format!(": {because}")).unwrap_or_default();
            format!("waits: if it is lost, its channels wait for it, or for soramode nodes purge{because}")
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
    fn what_becomes_of_a_lost_nodes_channels_is_said() {
        assert_eq!(
            takeover_words(&cluster(r#","fence_after_ms":30000"#)),
            "automatic: 30 s after its last word of etcd its sessions are ended (on-fence socket, dead-man grant), and then others take its channels"
        );
        assert_eq!(
            takeover_words(&cluster(r#","no_takeover_reason":"as --fence-after says""#)),
            "waits: if it is lost, its channels wait for it, or for soramode nodes purge: as --fence-after says"
        );
    }

    #[test]
    fn the_right_is_said_with_how_long_it_runs() {
        let words = |membership, more| right_words(membership, &cluster(more));
        assert_eq!(words(Membership::Joined, r#","valid_for_ms":29000"#), "runs for 29 s without etcd");
        assert_eq!(words(Membership::Isolated, ""), "without end");
        assert_eq!(words(Membership::Fenced, ""), "none: nobody is admitted");
        assert_eq!(words(Membership::Isolated, r#","valid_for_ms":0"#), "none: nobody is admitted");
    }

    #[test]
    fn a_cluster_is_named_with_its_epoch_and_its_etcd() {
        assert_eq!(name_words(&cluster(r#","epoch":2"#)), "default (epoch 2), etcd at http://a:2379, http://b:2379");
        assert_eq!(name_words(&cluster("")), "default, etcd at http://a:2379, http://b:2379");
    }
}
