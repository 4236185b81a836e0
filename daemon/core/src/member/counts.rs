//! Counting the channels that each node owns: every claim of the cluster is read for that, so however many clients ask, one count is under
//! way, and its result answers the next of them too.

use std::collections::BTreeMap;
use std::time::Duration;

use soramode_protocol::id::NodeName;
use soramode_protocol::node::{ClusterNodes, ListClusterNodes, Membership, OrphanedChannels};
use soramode_protocol::reply::{Answer, Reply};
use soramode_protocol::time::Time;

use crate::ctx::Ctx;
use crate::effect::Action;
use crate::handles::{ReplyHandle, SocketId};
use crate::node::Node;

use super::etcd::{EtcdRequest, Owned};

/// For so long after a count its result is the answer, with its time, unless a node comes or goes; then the claims are read anew.
pub const COUNT_PAUSE: Duration = Duration::from_secs(5);

/// Requests that wait for one count at most. The next one is answered at once with what is known.
pub const COUNT_WAITERS_MAX: usize = 64;

/// The requests that wait for a count, and the last one's result.
#[derive(Default)]
pub(super) struct Counts {
    is_under_way: bool,
    waiting: Vec<ReplyHandle>,
    last: Option<Counted>,
    /// A node came or went since the last count began.
    is_outdated: bool,
}

struct Counted {
    /// By the boot clock.
    ended: Duration,
    at: Time,
    owned: Result<Vec<Owned>, String>,
}

impl Counts {
    /// A node came or went: the last count says nothing of that.
    pub(super) fn outdate(&mut self) {
        self.is_outdated = true;
    }

    /// The client on this socket is gone.
    pub(super) fn forget(&mut self, socket: SocketId) {
        self.waiting.retain(|reply_to| reply_to.socket != socket);
    }
}

impl Node {
    /// Answers with the nodes; their orphaned channels are counted first, where that is wanted and was not done a moment ago.
    pub(crate) fn list_nodes(
        &mut self,
        ctx: &mut Ctx,
        reply_to: ReplyHandle,
        list: ListClusterNodes,
    ) -> Option<Answer> {
        let (now, is_joined) = (ctx.now.boot, self.membership == Membership::Joined);
        let Some(member) = self.member().filter(|_| list.count_orphaned) else {
            return Some(Ok(Reply::ClusterNodes(self.list_cluster_nodes())));
        };
        let counts = &mut member.counts;
        // Without etcd a count that succeeded is not known to hold any more.
        let is_last = |last: &Counted| {
            now.saturating_sub(last.ended) < COUNT_PAUSE && (is_joined || last.owned.is_err())
        };
        let is_fresh = !counts.is_outdated && counts.last.as_ref().is_some_and(is_last);
        if is_fresh || counts.waiting.len() >= COUNT_WAITERS_MAX {
            return Some(Ok(Reply::ClusterNodes(self.counted_nodes())));
        }
        counts.waiting.push(reply_to);
        self.begin_count(ctx);
        None
    }

    /// Orders a count, unless one is in flight.
    pub(super) fn begin_count(&mut self, ctx: &mut Ctx) {
        let Some(counts) = self.member().map(|member| &mut member.counts) else {
            return;
        };
        if !std::mem::replace(&mut counts.is_under_way, true) {
            counts.is_outdated = false;
            Self::order(ctx, EtcdRequest::Count);
        }
    }

    pub(super) fn counted(&mut self, ctx: &mut Ctx, owned: Result<Vec<Owned>, String>) {
        let node = self.settings.node_name.clone();
        let Some(member) = self.member() else { return };
        for Owned {
            node_name,
            incarnation,
            ..
        } in owned.iter().flatten()
        {
            if !member.nodes.contains_key(node_name) {
                member.lose(node_name.clone(), *incarnation);
            }
        }
        member.counts.is_under_way = false;
        let is_own = |owned: &&Owned| owned.node_name == node;
        let own = owned.as_ref().ok().map(|owned| {
            owned
                .iter()
                .filter(is_own)
                .map(|owned| owned.incarnation)
                .collect()
        });
        member.counts.last = Some(Counted {
            ended: ctx.now.boot,
            at: ctx.now.wall,
            owned,
        });
        let waiting = std::mem::take(&mut member.counts.waiting);
        if let Some(own) = own {
            self.on_own_claims_read(ctx, own);
        }
        let nodes = self.counted_nodes();
        ctx.effects.actions.extend(
            waiting
                .into_iter()
                .map(|reply_to| Action::Answer(reply_to, Ok(Reply::ClusterNodes(nodes.clone())))),
        );
    }

    /// The nodes with what the last count showed of them.
    fn counted_nodes(&self) -> ClusterNodes {
        let ClusterNodes { mut nodes, .. } = self.list_cluster_nodes();
        let (orphaned_channels, counted_at, problem) = match self
            .member
            .as_deref()
            .and_then(|member| member.counts.last.as_ref())
        {
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

    /// The channels that wait for a life of a node that is over. Those of one that was purged are free.
    fn orphaned_channels(&self, owned: &[Owned]) -> BTreeMap<NodeName, OrphanedChannels> {
        let mut by_name: BTreeMap<NodeName, OrphanedChannels> = BTreeMap::new();
        let Some(member) = self.member.as_deref() else {
            return by_name;
        };
        for Owned {
            node_name,
            incarnation,
            channels,
        } in owned
        {
            let is_there = member
                .nodes
                .get(node_name)
                .is_some_and(|node| node.incarnation == *incarnation);
            if is_there || member.ownership.departures().is_purged(*incarnation) {
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
