//! What is told of the cluster, and what an operator does about a node that is gone.

use std::time::Duration;

use soramode_protocol::cluster::{ClusterStatus, Granted, PurgeClusterNode, Purged};
use soramode_protocol::error::Error;
use soramode_protocol::id::NodeName;
use soramode_protocol::node::{ClusterNode, Membership};
use soramode_protocol::reply::{Answer, Reply};

use crate::cluster::{FenceAfter, Incarnation};
use crate::ctx::Ctx;
use crate::effect::Action;
use crate::handles::ReplyHandle;
use crate::node::Node;

use super::etcd::{EtcdRequest, NodeRecord};
use super::{Member, millis};

impl Node {
    /// How long an SFU may go on serving, from when it asked.
    pub(crate) fn grant(&self, now: Duration) -> Granted {
        let valid_for = self
            .member
            .as_deref()
            .and_then(|member| member.ownership.valid_for(now));
        Granted {
            membership: self.membership,
            valid_for_ms: valid_for.map(millis),
        }
    }

    pub(crate) fn cluster_status(&self, now: Duration) -> Option<Box<ClusterStatus>> {
        let member = self.member.as_deref()?;
        let settings = &member.settings;
        let right = member.ownership.lease();
        Some(Box::new(ClusterStatus {
            name: settings.name.clone(),
            endpoints: settings.endpoints.clone(),
            membership_since: member.membership_since,
            api_url: settings.api_url.clone(),
            signaling_url: settings.signaling_url.clone(),
            incarnation: right.map(|right| right.incarnation().0),
            epoch: (member.epoch > 0).then_some(member.epoch),
            renewed_at: member.renewed_at,
            valid_for_ms: right
                .and_then(|_| member.ownership.valid_for(now))
                .map(millis),
            fence_after_ms: match settings.terms.fence_after {
                FenceAfter::After(time) => Some(millis(time)),
                FenceAfter::Never => None,
            },
            no_takeover_reason: settings.no_takeover_reason.clone(),
            on_fence: settings.on_fence.name().to_owned(),
            dead_man: settings.dead_man.clone(),
            channels: u64::try_from(member.ownership.channel_count()).unwrap_or(u64::MAX),
            claims_in_flight: member.asking_count(),
            published: self.is_published(),
            problem: member
                .problem
                .clone()
                .or_else(|| member.fences.problem(settings.on_fence)),
        }))
    }

    /// The nodes that are there by name, this one among them whatever its membership, and then those that are not.
    pub(crate) fn cluster_nodes(&self) -> Option<Vec<ClusterNode>> {
        let member = self.member.as_deref()?;
        let mut nodes: Vec<ClusterNode> = member
            .nodes
            .values()
            .filter(|node| node.node_name != self.settings.node_name)
            .map(|node| shown(member, node))
            .collect();
        nodes.push(self.shown_self(member));
        nodes.sort_by(|one, other| one.node_name.cmp(&other.node_name));
        nodes.extend(
            member
                .lost
                .keys()
                .filter(|name| **name != self.settings.node_name)
                .map(gone),
        );
        Some(nodes)
    }

    fn shown_self(&self, member: &Member) -> ClusterNode {
        let is_in = self.membership == Membership::Joined;
        ClusterNode {
            node_name: self.settings.node_name.clone(),
            mode: Some(self.mode.mode()),
            connected: is_in,
            epoch: (member.epoch > 0).then_some(member.epoch),
            member_since: member
                .nodes
                .get(&self.settings.node_name)
                .and_then(|seen| seen.since)
                .filter(|_| is_in),
            cluster_signaling_url: member.settings.signaling_url.clone(),
            cluster_api_url: member.settings.api_url.clone(),
            sora_version: None,
            temporary_node: Some(false),
            membership: Some(self.membership),
            connections: Some(self.sessions.connection_count()),
            sessions: Some(self.sessions.session_count()),
            version: Some(soramode_protocol::version::VERSION.to_owned()),
            orphaned_channels: None,
        }
    }

    /// Notes an operator's word that a node is off, or, of one that runs, that its earlier incarnations are over; answered when that is done.
    pub(crate) fn purge(
        &mut self,
        ctx: &mut Ctx,
        reply_to: ReplyHandle,
        (purge, actor): (PurgeClusterNode, &str),
    ) -> Option<Answer> {
        let Some(member) = self.member() else {
            return Some(Err(Error::no_cluster()));
        };
        if member
            .ownership
            .lease()
            .is_none_or(|right| !right.may_claim(ctx.now.boot))
        {
            return Some(Err(Error::cannot_purge(self.membership)));
        }
        let running = member
            .nodes
            .get(&purge.node_name)
            .map(|node| node.incarnation);
        Self::order(
            ctx,
            EtcdRequest::Purge {
                reply_to,
                node_name: purge.node_name,
                running,
                actor: actor.to_owned(),
            },
        );
        None
    }

    pub(super) fn purged(
        &mut self,
        ctx: &mut Ctx,
        reply_to: ReplyHandle,
        outcome: (NodeName, Result<(Vec<Incarnation>, u64), String>),
    ) {
        let (node_name, written_off) = outcome;
        let Some(member) = self.member() else { return };
        let answer = match written_off {
            Err(why) => Err(Error::cluster_unavailable(why)),
            Ok((incarnations, _))
                if incarnations.is_empty() && member.nodes.contains_key(&node_name) =>
            {
                Err(Error::node_is_member(&node_name))
            }
            Ok((incarnations, _)) if incarnations.is_empty() => {
                Err(Error::no_orphaned_channels(&node_name))
            }
            Ok((incarnations, channels)) => {
                for &incarnation in &incarnations {
                    member.ownership.purge(incarnation);
                }
                member.lost.remove(&node_name);
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
        ctx.effects.actions.push(Action::Answer(reply_to, answer));
        Self::order(ctx, EtcdRequest::ReadMembers);
    }
}

fn shown(member: &Member, node: &NodeRecord) -> ClusterNode {
    ClusterNode {
        node_name: node.node_name.clone(),
        mode: node.mode,
        connected: true,
        epoch: (member.epoch > 0).then_some(member.epoch),
        member_since: node.since,
        cluster_signaling_url: node.signaling_url.clone(),
        cluster_api_url: node.api_url.clone(),
        sora_version: None,
        temporary_node: Some(false),
        membership: Some(Membership::Joined),
        connections: Some(node.load.connections),
        sessions: Some(node.load.sessions),
        version: node.version.clone(),
        orphaned_channels: None,
    }
}

fn gone(name: &NodeName) -> ClusterNode {
    ClusterNode {
        node_name: name.clone(),
        mode: None,
        connected: false,
        epoch: None,
        member_since: None,
        cluster_signaling_url: None,
        cluster_api_url: None,
        sora_version: None,
        temporary_node: None,
        membership: None,
        connections: None,
        sessions: None,
        version: None,
        orphaned_channels: None,
    }
}
