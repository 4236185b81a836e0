//! Logs each node that is no longer registered although it owns channels, before an operator asks.

use std::collections::BTreeMap;

use soramode_core::cluster::Incarnation;
use soramode_core::member::etcd::NodeRecord;
use soramode_protocol::id::NodeName;

use super::trusted::Trusted;

/// The nodes that published sessions, as of the last read. A node that leaves in order has none.
#[derive(Default)]
pub(super) struct LostNodes {
    with_sessions: BTreeMap<NodeName, Incarnation>,
}

impl LostNodes {
    /// Takes in a read, and returns the nodes with sessions that it no longer shows.
    pub(super) fn update(&mut self, nodes: &[NodeRecord]) -> Vec<(NodeName, Incarnation)> {
        let before = std::mem::take(&mut self.with_sessions);
        self.with_sessions = nodes
            .iter()
            .filter(|node| node.load.sessions > 0)
            .map(|node| (node.node_name.clone(), node.incarnation))
            .collect();
        before
            .into_iter()
            .filter(|(_, incarnation)| nodes.iter().all(|node| node.incarnation != *incarnation))
            .collect()
    }
}

/// Warns about the nodes that still own channels.
pub(super) async fn warn(etcd: Trusted, lost: Vec<(NodeName, Incarnation)>) {
    let owned = match etcd.count().await {
        Ok(owned) => owned,
        Err(why) => {
            tracing::debug!(why, "cannot count the channels of lost nodes");
            return;
        }
    };
    for (node, incarnation) in lost {
        let channels = owned
            .iter()
            .find(|owned| owned.incarnation == incarnation)
            .map_or(0, |owned| owned.channels.total);
        if channels > 0 {
            tracing::warn!(%node, channels, "lost: the node is no longer registered, and still owns channels. Run: soramode nodes");
        }
    }
}

#[cfg(test)]
mod tests {
    use soramode_core::member::etcd::Load;

    use super::*;

    fn node(name: &str, incarnation: u64, sessions: u64) -> NodeRecord {
        NodeRecord {
            node_name: NodeName::new(name).unwrap(),
            incarnation: Incarnation(incarnation),
            mode: None,
            load: Load {
                sessions,
                ..Load::default()
            },
            signaling_url: None,
            api_url: None,
            page_url: None,
            since: None,
            version: None,
        }
    }

    #[test]
    fn a_node_is_lost_once_and_only_if_it_had_sessions() {
        let mut lost = LostNodes::default();
        let all = [node("n1", 1, 3), node("n2", 2, 0), node("n3", 3, 1)];
        assert_eq!(lost.update(&all), []);
        let n1 = NodeName::new("n1").unwrap();
        assert_eq!(lost.update(&all[2..]), [(n1, Incarnation(1))]);
        assert_eq!(lost.update(&all[2..]), []);
        let n3 = NodeName::new("n3").unwrap();
        assert_eq!(
            lost.update(&[node("n3", 9, 0)]),
            [(n3, Incarnation(3))],
            "its name is registered anew"
        );
    }
}
