//! `ListClusterNodes`: the nodes, with a count of their orphaned channels on request.

use std::collections::BTreeMap;

use soramode_protocol::id::NodeName;
use soramode_protocol::node::{ClusterNodes, ListClusterNodes, Membership, OrphanedChannels};
use soramode_protocol::reply::Reply;

use crate::ctx::Ctx;
use crate::handles::ReplyHandle;

use super::count_cache::Counted;
use super::etcd::OwnedChannels;
use super::{ClusterMember, NodeView};

impl ClusterMember {
    /// Returns the nodes, with a count of their orphaned channels if that is wanted; `None` if it is answered after a count.
    pub(crate) fn list_nodes(
        &mut self,
        ctx: &mut Ctx,
        node: NodeView,
        reply_to: ReplyHandle,
        list: ListClusterNodes,
    ) -> Option<ClusterNodes> {
        if !list.count_orphaned {
            return Some(self.cluster_nodes(node));
        }
        let is_joined = self.membership == Membership::Joined;
        if !self.counts.wait(ctx, reply_to, is_joined) {
            return Some(self.counted_nodes(node));
        }
        self.counts.begin(ctx);
        None
    }

    pub(super) fn on_counted(
        &mut self,
        ctx: &mut Ctx,
        node: NodeView,
        owned: Result<Vec<OwnedChannels>, String>,
    ) {
        for OwnedChannels {
            node_name,
            incarnation,
            ..
        } in owned.iter().flatten()
        {
            if !self.nodes.contains_key(node_name) {
                self.note_absent(node_name.clone(), *incarnation);
            }
        }
        let is_own = |owned: &&OwnedChannels| owned.node_name == self.node_name;
        let own = owned.as_ref().ok().map(|owned| {
            owned
                .iter()
                .filter(is_own)
                .map(|owned| owned.incarnation)
                .collect()
        });
        let waiting = self.counts.end(ctx, owned);
        if let Some(own) = own {
            self.on_own_claims_read(ctx, node, own);
        }
        let nodes = self.counted_nodes(node);
        for reply_to in waiting {
            ctx.answer(reply_to, Ok(Reply::ClusterNodes(nodes.clone())));
        }
    }

    /// Returns the nodes with the result of the last count.
    fn counted_nodes(&self, node: NodeView) -> ClusterNodes {
        let ClusterNodes { mut nodes, .. } = self.cluster_nodes(node);
        let (orphaned_channels, counted_at, problem) = match self.counts.last() {
            Some(Counted {
                owned: Ok(owned),
                at,
                ..
            }) => (Some(self.orphaned_channels(owned)), Some(*at), None),
            Some(Counted {
                owned: Err(why), ..
            }) => (None, None, Some(why.clone())),
            None => (
                None,
                None,
                Some("they are being counted; retry in a moment".to_owned()),
            ),
        };
        if let Some(orphaned_channels) = orphaned_channels {
            for node in &mut nodes {
                node.orphaned_channels = Some(
                    orphaned_channels
                        .get(&node.node_name)
                        .copied()
                        .unwrap_or_default(),
                );
            }
        }
        ClusterNodes {
            nodes,
            counted_at,
            problem,
        }
    }

    /// Returns the channels of ended incarnations. Those of purged ones are free.
    fn orphaned_channels(&self, owned: &[OwnedChannels]) -> BTreeMap<NodeName, OrphanedChannels> {
        let mut by_name: BTreeMap<NodeName, OrphanedChannels> = BTreeMap::new();
        for OwnedChannels {
            node_name,
            incarnation,
            channels,
        } in owned
        {
            let is_there = self
                .nodes
                .get(node_name)
                .is_some_and(|node| node.incarnation == *incarnation);
            if is_there || self.ownership.departures().is_purged(*incarnation) {
                continue;
            }
            let count = by_name.entry(node_name.clone()).or_default();
            count.total = count.total.saturating_add(channels.total);
            count.held_until_purge = count
                .held_until_purge
                .saturating_add(channels.held_until_purge);
        }
        by_name
    }
}
