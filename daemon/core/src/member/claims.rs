//! Claims: finds or claims the owner of a channel. Clients wait for etcd's reply, which decides how they are answered.

use std::time::Duration;

use soramode_protocol::error::Error;
use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::Membership;

use crate::cluster::claim::{Claim, ClaimReply, Conflict};
use crate::cluster::claim_outcome::ClaimOutcome;
use crate::cluster::placement::{Candidate, Placement, place};
use crate::cluster::{Incarnation, Token};
use crate::ctx::Ctx;
use crate::effect::{Action, Record};

use super::etcd::{ClaimOp, EtcdRequest};
use super::etcd_trust::REFUSED;
use super::pending_claims::WaitingRequests;
use super::waiters::{CannotClaim, ClusterAnswer, Waiter, millis};
use super::{ClusterMember, NodeView};

/// Time after which the retry may succeed.
const CLAIM_RETRY_AFTER: Duration = Duration::from_millis(100);

/// Channels that a node which may not claim reads with each read of the members, at most.
const CHECKS_MAX: usize = 16;

/// Channels that one node owns at most.
pub(super) const CLAIMS_MAX: usize = 100_000;

/// Reason of a node that is not joined.
pub(super) const ISOLATED: &str = "the node is isolated";

/// Reason of a node that has no member key yet.
pub(super) const JOINING: &str = "the node is joining the cluster";

/// Reason of a node without its member key.
pub(super) const MEMBERSHIP_LOST: &str = "the node has lost its membership in the cluster";

/// Reason of a node that was `normal` a moment ago, or is to be.
const NOT_PUBLISHED: &str = "the other nodes have not yet been notified that this node is normal";

/// State of the node that decides what follows from a reply.
#[derive(Clone, Copy)]
pub(super) struct ClaimContext {
    pub(super) mode: Mode,
    /// The mode that the other nodes know.
    pub(super) published: Option<Mode>,
    /// Present time by the boot clock.
    pub(super) now: Duration,
}

/// Next step for a channel after the cluster's answer.
pub(super) enum ClaimStep {
    Own(Token),
    Relinquish(Token),
    Request(ClaimOp),
    Resolve(ClusterAnswer),
    /// Read the members, then read the claim again.
    ReadMembers,
    /// The node's own key is gone.
    NotMember,
}

impl ClusterMember {
    /// Notes the owner that a claim names: it may be an absent node.
    pub(super) fn note_owner(&mut self, claim: Claim) {
        if !self.nodes.contains_key(&claim.node) {
            self.note_absent(claim.node, claim.incarnation);
        }
    }

    /// Finds or claims the owner of a channel; [`ClusterEvent::Resolved`](super::ClusterEvent::Resolved) answers the waiter.
    pub(crate) fn claim(
        &mut self,
        ctx: &mut Ctx,
        node: NodeView,
        channel_id: &ChannelId,
        waiter: Waiter,
    ) -> Result<(), CannotClaim> {
        if self.membership != Membership::Joined {
            return Err(CannotClaim::Unavailable(Error::cluster_unavailable(
                ISOLATED,
            )));
        }
        let reply_to = waiter.reply_to();
        let is_deferrable = waiter.is_deferrable();
        let hops = waiter.hops();
        if !self.pending_claims.contains(channel_id) {
            let may_own_more = self.ownership.channel_count() < CLAIMS_MAX;
            if self.pending_claims.room() == 0 || !may_own_more {
                return Err(CannotClaim::Full {
                    retry_after_ms: may_own_more.then(|| millis(CLAIM_RETRY_AFTER)),
                });
            }
        }
        if self.pending_claims.add(channel_id, waiter) {
            let op = self.first_op(ctx, node, channel_id, hops);
            self.request_claim(ctx, channel_id, op);
        }
        let waits = self.pending_claims.contains(channel_id);
        if let (Some(reply_to), true) = (reply_to, is_deferrable && waits) {
            ctx.act(Action::Deferred(reply_to));
        }
        Ok(())
    }

    /// Returns the first operation on a channel: a claim, if it belongs here where no node owns it; else a read.
    fn first_op(&self, ctx: &Ctx, node: NodeView, channel_id: &ChannelId, hops: u8) -> ClaimOp {
        let is_here = matches!(
            self.place(node, node.mode, channel_id, hops),
            Placement::Local
        );
        if is_here && self.can_claim(node.mode, ctx.now.boot) {
            ClaimOp::Acquire
        } else {
            ClaimOp::Get
        }
    }

    pub(super) fn can_claim(&self, mode: Mode, now: Duration) -> bool {
        let is_free = !self.trust.refuses() && self.trust.reclaims_for(now).is_none();
        mode == Mode::Normal && is_free && self.ownership.may_claim(now)
    }

    pub(super) fn request_claim(&mut self, ctx: &mut Ctx, channel_id: &ChannelId, op: ClaimOp) {
        let Some(by) = self.incarnation() else {
            return self.resolve(channel_id, ClusterAnswer::Unavailable(JOINING.to_owned()));
        };
        ctx.request_etcd(EtcdRequest::Claim {
            channel_id: channel_id.clone(),
            by,
            op,
        });
    }

    /// Takes in etcd's reply about a channel.
    pub(super) fn on_claim_replied(
        &mut self,
        ctx: &mut Ctx,
        node: NodeView,
        channel_id: ChannelId,
        by: Incarnation,
        reply: Result<ClaimReply, String>,
    ) {
        if !self.pending_claims.contains(&channel_id) {
            return self.release_stale_claim(ctx, node, channel_id, by, &reply);
        }
        if self.trust.refuses() {
            return self.resolve(&channel_id, ClusterAnswer::Unavailable(REFUSED.to_owned()));
        }
        if !self.ownership.is_key(by) {
            // A claim won under an earlier incarnation is of no use. While the earlier lease still
            // runs, it would not be among those that are migrated, and others could take it over.
            self.release_stale_claim(ctx, node, channel_id.clone(), by, &reply);
            return self.retry_claim(ctx, &channel_id, ClaimOp::Get);
        }
        let reply = match reply {
            Ok(reply) => reply,
            Err(why) => return self.resolve(&channel_id, ClusterAnswer::Unavailable(why)),
        };
        if let ClaimReply::Refused(Conflict {
            claim: Some(claim), ..
        }) = &reply
        {
            self.note_owner(claim.clone());
        }
        let published = if let ClaimReply::Refused(found) = &reply {
            found.mode
        } else {
            Some(Mode::Normal)
        };
        let context = ClaimContext {
            mode: node.mode,
            published,
            now: ctx.now.boot,
        };
        let Some(outcome) = self
            .ownership
            .evaluate_reply(reply, context.mode, context.now)
        else {
            // Without a lease no transaction was sent under the present key.
            return self.resolve(
                &channel_id,
                ClusterAnswer::Unavailable(MEMBERSHIP_LOST.to_owned()),
            );
        };
        let waiting_requests = self.pending_claims.waiting_requests(&channel_id);
        let step = self.decide_claim_step(node, outcome, &waiting_requests, context);
        self.take_claim_step(ctx, &channel_id, step);
    }

    /// Releases a claim that was won and that no client waits for any more.
    fn release_stale_claim(
        &mut self,
        ctx: &mut Ctx,
        node: NodeView,
        channel_id: ChannelId,
        by: Incarnation,
        reply: &Result<ClaimReply, String>,
    ) {
        if let Ok(ClaimReply::Won(token)) = reply {
            self.ownership.on_stale_claim(by, channel_id, *token);
            self.take_steps(ctx, node);
        }
    }

    /// Decides what follows from the outcome of a reply: `Connect` takes this step, `Explain` describes its result.
    pub(super) fn decide_claim_step(
        &self,
        node: NodeView,
        outcome: ClaimOutcome,
        waiting_requests: &WaitingRequests<'_>,
        context: ClaimContext,
    ) -> ClaimStep {
        let can_claim = self.can_claim(context.mode, context.now);
        let is_published = context.published == Some(Mode::Normal);
        let unavailable =
            |why: &str| ClaimStep::Resolve(ClusterAnswer::Unavailable(why.to_owned()));
        match outcome {
            ClaimOutcome::Acquired(token) => ClaimStep::Own(token),
            ClaimOutcome::Relinquish(token) => ClaimStep::Relinquish(token),
            ClaimOutcome::OwnedByPeer(owner) if owner == self.node_name => {
                unavailable("the channel belongs to another registration of this node's name")
            }
            ClaimOutcome::OwnedByPeer(owner) => ClaimStep::Resolve(ClusterAnswer::Redirect(owner)),
            ClaimOutcome::TakeOver(_) | ClaimOutcome::Rewrite(_) | ClaimOutcome::NotNormal
                if can_claim && !is_published =>
            {
                unavailable(NOT_PUBLISHED)
            }
            ClaimOutcome::TakeOver(claim) if can_claim => {
                ClaimStep::Request(ClaimOp::TakeOver(claim))
            }
            ClaimOutcome::Rewrite(claim) if can_claim => {
                ClaimStep::Request(ClaimOp::Rewrite(claim))
            }
            // Without it another node could claim the channel beside the session.
            ClaimOutcome::Rewrite(_) if self.unclaimed.contains(waiting_requests.channel_id) => {
                ClaimStep::Resolve(ClusterAnswer::NoNode)
            }
            ClaimOutcome::Rewrite(claim) => ClaimStep::Request(ClaimOp::Release(claim)),
            ClaimOutcome::OwnerLost(left) => ClaimStep::Resolve(ClusterAnswer::OwnerLost(left)),
            ClaimOutcome::RefreshMembers => ClaimStep::ReadMembers,
            ClaimOutcome::NotMember => ClaimStep::NotMember,
            ClaimOutcome::NotNormal if context.mode == Mode::Normal => unavailable(NOT_PUBLISHED),
            // A node that may have new channels takes it over when the client comes there.
            ClaimOutcome::TakeOver(_) | ClaimOutcome::NotNormal | ClaimOutcome::Retry => {
                self.place_unowned(node, waiting_requests, context)
            }
        }
    }

    /// Decides where a channel belongs that no node owns, or that may be taken over.
    fn place_unowned(
        &self,
        node: NodeView,
        waiting_requests: &WaitingRequests<'_>,
        context: ClaimContext,
    ) -> ClaimStep {
        let can_claim = self.can_claim(context.mode, context.now);
        let reclaims = self.trust.reclaims_for(context.now);
        match self.place(
            node,
            context.mode,
            waiting_requests.channel_id,
            waiting_requests.hops,
        ) {
            Placement::Local if let Some(left) = reclaims => {
                let why = format!(
                    "nodes are reclaiming the channels that they serve; other channels can be claimed in {} s",
                    left.as_secs() + 1
                );
                ClaimStep::Resolve(ClusterAnswer::Unavailable(why))
            }
            _ if waiting_requests.has_session && can_claim => ClaimStep::Request(ClaimOp::Acquire),
            Placement::Local if can_claim => ClaimStep::Request(ClaimOp::Acquire),
            Placement::Remote(other) => ClaimStep::Resolve(ClusterAnswer::Redirect(other)),
            Placement::Local | Placement::None => ClaimStep::Resolve(ClusterAnswer::NoNode),
        }
    }

    fn take_claim_step(&mut self, ctx: &mut Ctx, channel_id: &ChannelId, step: ClaimStep) {
        match step {
            ClaimStep::Own(token) => self.on_claim_acquired(ctx, channel_id, token),
            ClaimStep::Relinquish(token) => {
                self.releases.add(ctx, channel_id.clone(), token);
                self.retry_claim(ctx, channel_id, ClaimOp::Get);
            }
            ClaimStep::Request(op) => self.retry_claim(ctx, channel_id, op),
            ClaimStep::Resolve(cluster_answer) => self.resolve(channel_id, cluster_answer),
            ClaimStep::ReadMembers if self.pending_claims.defer(channel_id) => {
                ctx.request_etcd(EtcdRequest::ReadMembers);
            }
            ClaimStep::ReadMembers => ctx.bug("a claim to defer is not pending"),
            ClaimStep::NotMember => {
                ctx.request_etcd(EtcdRequest::ReadMembers);
                self.resolve(
                    channel_id,
                    ClusterAnswer::Unavailable(MEMBERSHIP_LOST.to_owned()),
                );
            }
        }
    }

    /// Returns where a channel belongs, under a mode of this node.
    fn place(&self, node: NodeView, mode: Mode, channel_id: &ChannelId, hops: u8) -> Placement {
        let here = Candidate {
            node: self.node_name.clone(),
            mode,
            connections: node.sessions.connection_count(),
            limit: self.max_connections,
            is_leaving: node.is_leaving,
        };
        let all: Vec<Candidate> = self
            .nodes
            .values()
            .filter_map(|node| {
                Some(Candidate {
                    node: node.node_name.clone(),
                    mode: node.mode?,
                    connections: node.load.connections,
                    limit: node.load.limit,
                    is_leaving: node.load.is_leaving,
                })
            })
            .collect();
        place(&here, &all, channel_id, hops)
    }

    /// Goes on with a claim by another operation.
    fn retry_claim(&mut self, ctx: &mut Ctx, channel_id: &ChannelId, op: ClaimOp) {
        let Some(may_retry) = self.pending_claims.may_retry(channel_id) else {
            return ctx.bug("a claim to retry is not pending");
        };
        if !may_retry {
            let why = "the channel's owner keeps changing".to_owned();
            return self.resolve(channel_id, ClusterAnswer::Unavailable(why));
        }
        if self.membership == Membership::Fenced {
            return self.resolve(channel_id, ClusterAnswer::NoNode);
        }
        self.request_claim(ctx, channel_id, op);
    }

    /// Goes on with the claims that waited for a read of the members.
    pub(super) fn retry_deferred_claims(&mut self, ctx: &mut Ctx) {
        for channel_id in self.pending_claims.take_deferred() {
            self.retry_claim(ctx, &channel_id, ClaimOp::Get);
        }
    }

    /// Answers all requests that waited for a read of the members, which failed.
    pub(super) fn fail_deferred(&mut self, ctx: &mut Ctx, node: NodeView, why: &str) {
        for channel_id in self.pending_claims.take_deferred() {
            self.resolve(&channel_id, ClusterAnswer::Unavailable(why.to_owned()));
        }
        self.fail_deferred_explaining(ctx, node, why);
    }

    /// Claims the channels of unclaimed sessions, as far as there is room. A node that may not claim them, as it is closed, reads their
    /// owners.
    pub(super) fn claim_unclaimed(&mut self, ctx: &mut Ctx, node: NodeView) {
        if self.trust.refuses() || !self.ownership.may_claim(ctx.now.boot) {
            return;
        }
        let room = self.pending_claims.room();
        let (op, count) = if self.can_claim(node.mode, ctx.now.boot) {
            (ClaimOp::Acquire, room)
        } else {
            (ClaimOp::Get, room.min(CHECKS_MAX))
        };
        let pending = &self.pending_claims;
        let wanted = self
            .unclaimed
            .next(count, |channel| !pending.contains(channel));
        for channel_id in wanted {
            self.pending_claims.add(&channel_id, Waiter::Session);
            self.request_claim(ctx, &channel_id, op.clone());
        }
    }

    /// Notes a session that the SFU reported, if its channel is not this node's.
    pub(crate) fn track_unclaimed(&mut self, channel_id: &ChannelId) {
        if self.ownership.token(channel_id).is_none() {
            self.unclaimed.insert(channel_id.clone());
        }
    }

    fn on_claim_acquired(&mut self, ctx: &mut Ctx, channel_id: &ChannelId, token: Token) {
        self.ownership.on_acquired(channel_id.clone(), token);
        self.unclaimed.remove(channel_id);
        ctx.record(Record::Claimed {
            channel_id: channel_id.clone(),
            token,
        });
        self.trust.store(ctx, token.0);
        self.resolve(channel_id, ClusterAnswer::Local);
    }

    /// Gives up a channel after its session has ended, and releases the claim on it.
    pub(crate) fn release_channel(&mut self, ctx: &mut Ctx, node: NodeView, channel: &ChannelId) {
        self.unclaimed.remove(channel);
        self.ownership.end_session(channel);
        self.take_steps(ctx, node);
    }
}
