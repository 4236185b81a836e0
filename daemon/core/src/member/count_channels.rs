//! Counts of orphaned channels, for lists of the nodes.

use std::collections::BTreeMap;

use soramode_protocol::id::NodeName;
use soramode_protocol::node::{ClusterNodes, ListClusterNodes, Membership, OrphanedChannels};
use soramode_protocol::reply::Reply;

use crate::ctx::Ctx;
use crate::handles::ReplyHandle;

use super::counts::{COUNT_PAUSE, COUNT_WAITERS_MAX, Counted};
use super::etcd::{EtcdRequest, OwnedChannels};
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
        let (now, is_joined) = (ctx.now.boot, self.membership == Membership::Joined);
        let counts = &mut self.counts;
        // Without etcd a count that succeeded is not known to hold any more.
        let is_last = |last: &Counted| {
            now.saturating_sub(last.ended) < COUNT_PAUSE && (is_joined || last.owned.is_err())
        };
        let is_fresh = !counts.is_outdated && counts.last.as_ref().is_some_and(is_last);
        if is_fresh || counts.waiting.len() >= COUNT_WAITERS_MAX {
            return Some(self.counted_nodes(node));
        }
        counts.waiting.push(reply_to);
        self.begin_count(ctx);
        None
    }

    /// Requests a count, unless one is in flight.
    pub(super) fn begin_count(&mut self, ctx: &mut Ctx) {
        if !std::mem::replace(&mut self.counts.is_in_flight, true) {
            self.counts.is_outdated = false;
            ctx.request_etcd(EtcdRequest::Count);
        }
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
        self.counts.is_in_flight = false;
        let is_own = |owned: &&OwnedChannels| owned.node_name == self.node_name;
        let own = owned.as_ref().ok().map(|owned| {
            owned
                .iter()
                .filter(is_own)
                .map(|owned| owned.incarnation)
                .collect()
        });
        self.counts.last = Some(Counted {
            ended: ctx.now.boot,
            at: ctx.now.wall,
            owned,
        });
        if let Some(own) = own {
            self.on_own_claims_read(ctx, node, own);
        }
        let nodes = self.counted_nodes(node);
        for reply_to in std::mem::take(&mut self.counts.waiting) {
            ctx.answer(reply_to, Ok(Reply::ClusterNodes(nodes.clone())));
        }
    }

    /// Returns the nodes with the result of the last count.
    fn counted_nodes(&self, node: NodeView) -> ClusterNodes {
        let ClusterNodes { mut nodes, .. } = self.cluster_nodes(node);
        let (orphaned_channels, counted_at, problem) = match &self.counts.last {
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
