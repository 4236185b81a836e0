//! The node and its cluster member: inputs of the member, and what follows from its events.

use soramode_protocol::decision::{Decision, RejectReason};
use soramode_protocol::error::Error;
use soramode_protocol::event::EndReason;
use soramode_protocol::id::{ChannelId, ConnectionId};
use soramode_protocol::node::{ListClusterNodes, Membership};
use soramode_protocol::reply::{Answer, Reply};

use crate::ctx::Ctx;
use crate::handles::ReplyHandle;
use crate::input::HostState;
use crate::member::etcd::FenceScope;
use crate::member::{
    ClusterAnswer, ClusterEvent, ClusterMember, NodeView, Opening, Waiter, retry_after,
    with_published,
};
use crate::node::Node;

impl Node {
    /// Returns the member, if the node is in a cluster, and the view that it needs of the rest.
    pub(super) fn cluster(&mut self) -> Option<(&mut ClusterMember, NodeView<'_>)> {
        let view = NodeView {
            mode: self.mode.mode(),
            sessions: &self.sessions,
            sync: &self.sync,
            is_leaving: self.plans.is_leaving(),
        };
        Some((self.member.as_deref_mut()?, view))
    }

    pub(super) fn membership(&self) -> Membership {
        self.member
            .as_deref()
            .map_or(Membership::Standalone, ClusterMember::membership)
    }

    /// Returns the token of the node's claim on a channel.
    pub(super) fn claim_token(&self, channel_id: &ChannelId) -> Option<u64> {
        self.member.as_deref()?.claim_token(channel_id)
    }

    /// Takes in the start, for the cluster member.
    pub(super) fn begin_member(&mut self, ctx: &mut Ctx, host: HostState) {
        if let Some((member, view)) = self.cluster()
            && member.begin(ctx, view, host)
        {
            self.sync.set_untracked(None);
        }
    }

    /// Follows the member's events until there are none.
    pub(super) fn drive_cluster(&mut self, ctx: &mut Ctx) {
        while let Some(event) = self.member.as_mut().and_then(|it| it.poll_event()) {
            self.on_cluster_event(ctx, event);
        }
    }

    fn on_cluster_event(&mut self, ctx: &mut Ctx, event: ClusterEvent) {
        match event {
            ClusterEvent::MembershipChanged(membership) => {
                self.on_membership_changed(ctx, membership);
            }
            ClusterEvent::Resolved {
                channel_id,
                waiters,
                cluster_answer,
            } => {
                for waiter in waiters {
                    self.on_resolved(ctx, &channel_id, waiter, &cluster_answer);
                }
                // The clients that waited may have left, or been rejected.
                if cluster_answer == ClusterAnswer::Local
                    && self.sessions.find_session(&channel_id).is_none()
                {
                    self.release_claim(ctx, &channel_id);
                }
            }
            ClusterEvent::Explained {
                channel_id,
                reply_handles,
                cluster_answers,
            } => {
                let cluster_answer = |wanted| {
                    cluster_answers
                        .iter()
                        .find(|(mode, _)| *mode == wanted)
                        .map_or(ClusterAnswer::Local, |(_, cluster_answer)| {
                            cluster_answer.clone()
                        })
                };
                for reply_to in reply_handles {
                    let explanation = self.explanation(ctx, &channel_id, cluster_answer);
                    ctx.answer(reply_to, Ok(Reply::Explanation(Box::new(explanation))));
                }
            }
            ClusterEvent::FenceEnded(scope) => self.on_fence_ended(ctx, scope),
            ClusterEvent::Published { mode, openings } => {
                for Opening {
                    reply_to,
                    change,
                    actor,
                } in openings
                {
                    let answer = self.change_mode_now(ctx, change, &actor);
                    ctx.answer(reply_to, answer.map(with_published));
                }
                if let Some((member, view)) = self.event_source(ctx) {
                    member.answer_published(ctx, view, mode);
                }
            }
            ClusterEvent::MembersRead => {
                if let Some((member, view)) = self.event_source(ctx) {
                    member.after_members_read(ctx, view);
                }
            }
            ClusterEvent::Joined(incarnation) => {
                if let Some((member, view)) = self.event_source(ctx) {
                    member.on_joined(ctx, view, incarnation);
                }
            }
            ClusterEvent::UntrackedRead(None) => self.clear_untracked(ctx),
            ClusterEvent::UntrackedRead(untracked) => self.sync.set_untracked(untracked),
        }
    }

    /// Returns the member that an event came from, and its view.
    fn event_source(&mut self, ctx: &mut Ctx) -> Option<(&mut ClusterMember, NodeView<'_>)> {
        let source = self.cluster();
        if source.is_none() {
            ctx.bug("an event of the cluster on a node without one");
        }
        source
    }

    /// Answers a client that waited for the owner of a channel.
    fn on_resolved(
        &mut self,
        ctx: &mut Ctx,
        channel_id: &ChannelId,
        waiter: Waiter,
        cluster_answer: &ClusterAnswer,
    ) {
        let request = match (waiter, cluster_answer) {
            (Waiter::Client(request), _) => request,
            // The owner is gone, and the node may not claim the channel: the session stays until another node owns it.
            (Waiter::Session, ClusterAnswer::OwnerLost(_)) if self.mode.is_block() => return,
            // A session that the SFU has without a claim: where its channel is another node's, it ends.
            (Waiter::Session, ClusterAnswer::Redirect(_) | ClusterAnswer::OwnerLost(_)) => {
                if let Some((member, view)) = self.event_source(ctx) {
                    member.fence(ctx, view, FenceScope::Channel(channel_id.clone()));
                }
                return;
            }
            (
                Waiter::Session,
                ClusterAnswer::Local
                | ClusterAnswer::NoNode
                | ClusterAnswer::Unavailable(_)
                | ClusterAnswer::Full,
            ) => return,
        };
        let reply_to = request.reply_to;
        let answer = match cluster_answer {
            ClusterAnswer::Redirect(node) => Ok(Decision::Redirect {
                node_name: node.clone(),
                location: self
                    .member
                    .as_deref()
                    .and_then(|member| member.signaling_url(node)),
            }),
            ClusterAnswer::OwnerLost(left) => {
                self.count_rejected(RejectReason::OwnerLost);
                Ok(Decision::Reject {
                    reason: RejectReason::OwnerLost,
                    mode: self.mode.mode(),
                    retry_after_ms: left.map(retry_after),
                })
            }
            ClusterAnswer::Unavailable(why) => Err(Error::cluster_unavailable(why)),
            ClusterAnswer::Full => Ok(self.reject(RejectReason::AtCapacity)),
            ClusterAnswer::Local | ClusterAnswer::NoNode => self.admit_locally(ctx, request),
        };
        ctx.answer(reply_to, answer.map(Reply::Decision));
    }

    /// Removes the sessions that a fence named: the SFU serves them no more.
    fn on_fence_ended(&mut self, ctx: &mut Ctx, scope: FenceScope) {
        let sessions = self.cluster().map(|(_, view)| view.sessions_of(&scope));
        for session in sessions.unwrap_or_default() {
            self.end_channel(ctx, &session.channel_id);
        }
        if let Some((member, view)) = self.event_source(ctx) {
            member.on_fence_ended(ctx, view, scope);
        }
    }

    fn end_channel(&mut self, ctx: &mut Ctx, channel: &ChannelId) {
        let Some(session) = self.sessions.find_session(channel) else {
            return ctx.bug("a fenced session is not in the table");
        };
        let slots: Vec<_> = self.sessions.of_session(session, None).collect();
        for slot in slots {
            self.end_connection(ctx, slot, EndReason::SessionDestroyed);
        }
        // A session that would linger, or wait for Sora to end it, does not outlive the lease.
        if self
            .sessions
            .session(session)
            .is_some_and(|row| row.channel_id == *channel && row.live + row.pending == 0)
        {
            self.destroy_session(ctx, session);
        }
    }

    /// Releases the claim on a channel after its session has ended.
    pub(super) fn release_claim(&mut self, ctx: &mut Ctx, channel_id: &ChannelId) {
        if let Some((member, view)) = self.cluster() {
            member.release_channel(ctx, view, channel_id);
        }
    }

    /// Answers the clients that wait with a connection which ended before it was admitted.
    pub(super) fn cancel_waiting(&mut self, ctx: &mut Ctx, connection_id: &ConnectionId) {
        if let Some(member) = self.member.as_deref_mut() {
            member.cancel_connection(ctx, connection_id);
        }
    }

    /// Drops the untracked incarnations: their sessions are known, or have ended.
    pub(super) fn clear_untracked(&mut self, ctx: &mut Ctx) {
        if self.sync.untracked().is_some() {
            self.sync.set_untracked(None);
            if let Some(member) = self.member.as_deref() {
                member.store_all_tracked(ctx);
            }
            self.emit_vanished_if_synced(ctx);
        }
    }

    /// Returns the nodes of the cluster, or this one where there is none; `None` if they are answered after a count.
    pub(super) fn list_nodes(
        &mut self,
        ctx: &mut Ctx,
        reply_to: ReplyHandle,
        list: ListClusterNodes,
    ) -> Option<Answer> {
        let nodes = match self.cluster() {
            Some((member, view)) => member.list_nodes(ctx, view, reply_to, list)?,
            None => self.standalone_node(),
        };
        Some(Ok(Reply::ClusterNodes(nodes)))
    }
}
