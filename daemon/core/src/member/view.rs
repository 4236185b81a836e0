//! The cluster as requests show it, and the purge of an absent node by an operator.

use std::time::Duration;

use soramode_protocol::cluster::{ClusterStatus, Granted, PurgeClusterNode, Purged};
use soramode_protocol::error::Error;
use soramode_protocol::id::NodeName;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::{ClusterNode, ClusterNodes, Membership};
use soramode_protocol::reply::Reply;

use crate::cluster::{FenceAfter, Incarnation};
use crate::count::count;
use crate::ctx::Ctx;
use crate::handles::ReplyHandle;

use super::etcd::{EtcdRequest, NodeRecord, PurgedIncarnations};
use super::waiters::millis;
use super::{ClusterMember, NodeView};

impl ClusterMember {
    /// Returns how long an SFU may go on serving, counted from its request.
    pub(crate) fn grant(&self, now: Duration) -> Granted {
        Granted {
            membership: self.membership,
            valid_for_ms: self.ownership.valid_for(now).map(millis),
        }
    }

    /// Returns where clients of a node are redirected to.
    pub(crate) fn signaling_url(&self, node: &NodeName) -> Option<String> {
        self.nodes.get(node)?.signaling_url.clone()
    }

    pub(crate) fn status(&self, mode: Mode, now: Duration) -> ClusterStatus {
        let settings = &self.settings;
        let lease = self.ownership.lease();
        ClusterStatus {
            name: settings.name.clone(),
            endpoints: settings.endpoints.clone(),
            membership_since: self.membership_since,
            api_url: settings.api_url.clone(),
            signaling_url: settings.signaling_url.clone(),
            incarnation: lease.map(|lease| lease.incarnation().0),
            epoch: (self.epoch > 0).then_some(self.epoch),
            renewed_at: self.renewed_at,
            valid_for_ms: lease
                .and_then(|_| self.ownership.valid_for(now))
                .map(millis),
            fence_after_ms: match settings.terms.fence_after {
                FenceAfter::After(time) => Some(millis(time)),
                FenceAfter::Never => None,
            },
            no_takeover_reason: settings.no_takeover_reason.clone(),
            on_fence: settings.on_fence.name().to_owned(),
            dead_man: settings.dead_man.clone(),
            channels: count(self.ownership.channel_count()),
            claims_in_flight: count(self.pending_claims.count()),
            published: self.is_published(mode),
            problem: self
                .problem
                .clone()
                .or_else(|| self.fences.problem(settings.on_fence)),
        }
    }

    /// Returns the present nodes by name, this one among them also if it is not joined, and then the absent ones.
    pub(super) fn cluster_nodes(&self, node: NodeView) -> ClusterNodes {
        let mut nodes: Vec<ClusterNode> = self
            .nodes
            .values()
            .filter(|other| other.node_name != self.node_name)
            .map(|other| shown(self, other))
            .collect();
        nodes.push(self.shown_self(node));
        nodes.sort_by(|one, other| one.node_name.cmp(&other.node_name));
        nodes.extend(
            self.absent_nodes
                .keys()
                .filter(|name| **name != self.node_name)
                .map(absent),
        );
        ClusterNodes {
            nodes,
            counted_at: None,
            problem: None,
        }
    }

    fn shown_self(&self, node: NodeView) -> ClusterNode {
        let is_in = self.membership == Membership::Joined;
        ClusterNode {
            node_name: self.node_name.clone(),
            mode: Some(node.mode),
            connected: is_in,
            epoch: (self.epoch > 0).then_some(self.epoch),
            member_since: self
                .nodes
                .get(&self.node_name)
                .and_then(|seen| seen.since)
                .filter(|_| is_in),
            cluster_signaling_url: self.settings.signaling_url.clone(),
            cluster_api_url: self.settings.api_url.clone(),
            cluster_page_url: self.settings.page_url.clone(),
            sora_version: None,
            temporary_node: Some(false),
            membership: Some(self.membership),
            connections: Some(node.sessions.connection_count()),
            sessions: Some(node.sessions.session_count()),
            leaving: node.is_leaving,
            version: Some(soramode_protocol::version::VERSION.to_owned()),
            orphaned_channels: None,
        }
    }

    /// Purges a node that an operator says is off, or the earlier incarnations of one that runs; the request is answered when that is done.
    pub(crate) fn purge(
        &mut self,
        ctx: &mut Ctx,
        reply_to: ReplyHandle,
        purge: PurgeClusterNode,
        actor: &str,
    ) -> Result<(), Error> {
        if self
            .ownership
            .lease()
            .is_none_or(|lease| !lease.may_claim(ctx.now.boot))
        {
            return Err(Error::cannot_purge(self.membership));
        }
        let running = self
            .nodes
            .get(&purge.node_name)
            .map(|node| node.incarnation);
        let departed = self.absent_nodes.get(&purge.node_name).copied();
        ctx.request_etcd(EtcdRequest::Purge {
            reply_to,
            node_name: purge.node_name,
            running,
            departed,
            actor: actor.to_owned(),
        });
        Ok(())
    }

    pub(super) fn on_purged(
        &mut self,
        ctx: &mut Ctx,
        reply_to: ReplyHandle,
        node_name: NodeName,
        outcome: Result<PurgedIncarnations, String>,
    ) {
        let answer = match outcome {
            Err(why) => Err(Error::cluster_unavailable(why)),
            Ok(purged) if purged.incarnations.is_empty() => {
                Err(if self.nodes.contains_key(&node_name) {
                    Error::node_is_member(&node_name)
                } else {
                    Error::no_such_node(&node_name)
                })
            }
            Ok(PurgedIncarnations {
                incarnations,
                channels,
            }) => {
                for &incarnation in &incarnations {
                    self.ownership.purge(incarnation);
                }
                self.absent_nodes.remove(&node_name);
                let incarnations = incarnations
                    .into_iter()
                    .map(|Incarnation(number)| number)
                    .collect();
                Ok(Reply::Purged(Purged {
                    node_name,
                    incarnations,
                    channels,
                }))
            }
        };
        ctx.answer(reply_to, answer);
        ctx.request_etcd(EtcdRequest::ReadMembers);
    }
}

fn shown(member: &ClusterMember, node: &NodeRecord) -> ClusterNode {
    ClusterNode {
        node_name: node.node_name.clone(),
        mode: node.mode,
        connected: true,
        epoch: (member.epoch > 0).then_some(member.epoch),
        member_since: node.since,
        cluster_signaling_url: node.signaling_url.clone(),
        cluster_api_url: node.api_url.clone(),
        cluster_page_url: node.page_url.clone(),
        sora_version: None,
        temporary_node: Some(false),
        membership: Some(published_membership(node)),
        connections: Some(node.load.connections),
        sessions: Some(node.load.sessions),
        leaving: node.load.is_leaving,
        version: node.version.clone(),
        orphaned_channels: None,
    }
}

/// Returns the membership of another node, by its published mode: `initial` until its claims are written anew.
fn published_membership(node: &NodeRecord) -> Membership {
    if node.mode == Some(Mode::Initial) {
        Membership::Fenced
    } else {
        Membership::Joined
    }
}

fn absent(name: &NodeName) -> ClusterNode {
    ClusterNode {
        node_name: name.clone(),
        mode: None,
        connected: false,
        epoch: None,
        member_since: None,
        cluster_signaling_url: None,
        cluster_api_url: None,
        cluster_page_url: None,
        sora_version: None,
        temporary_node: None,
        membership: None,
        connections: None,
        sessions: None,
        leaving: false,
        version: None,
        orphaned_channels: None,
    }
}
