//! Fencing: sessions that the node may not serve any more must end, and be known to have ended.

use std::time::Duration;

use soramode_protocol::cluster::Acknowledged;
use soramode_protocol::end::EndSession;
use soramode_protocol::node::Membership;

use crate::ctx::Ctx;
use crate::effect::Action;
use crate::handles::{FenceId, SocketId};
use crate::settings::FenceMeans;
use crate::timers::Timer;

use super::etcd::FenceScope;
use super::waiters::ClusterAnswer;
use super::{ClusterEvent, ClusterMember, NodeView};

/// Time after which the SFU is asked again to end sessions that have not ended.
const FENCE_PAUSE: Duration = Duration::from_secs(1);

impl ClusterMember {
    /// Has every session end, and no connection admitted: the lease has expired.
    pub(super) fn fence_all(&mut self, ctx: &mut Ctx, node: NodeView) {
        self.set_membership(ctx, Membership::Fenced);
        self.fence(ctx, node, FenceScope::All);
        self.resolve_all(&ClusterAnswer::NoNode);
    }

    /// Has the SFU end these sessions, until it has.
    pub(crate) fn fence(&mut self, ctx: &mut Ctx, node: NodeView, scope: FenceScope) {
        if let Some(id) = self.fences.begin(scope) {
            self.request_fence(ctx, node, id);
        }
    }

    /// Asks the SFU to end the sessions of a fence, for the first time or again.
    pub(crate) fn request_fence(&mut self, ctx: &mut Ctx, node: NodeView, id: FenceId) {
        let Some(scope) = self.fences.scope(id).cloned() else {
            return ctx.bug("a fence to request is not in progress");
        };
        let sessions: Vec<EndSession> = node.sessions_of(&scope);
        // No session is left, and that is known.
        if sessions.is_empty() && node.sync.is_known() {
            return self.end_fence(ctx, id);
        }
        match self.settings.on_fence {
            // Until a source reports that no session is left.
            FenceMeans::None => ctx.timers.set(Timer::Fence(id), ctx.now.boot + FENCE_PAUSE),
            FenceMeans::SoraApi | FenceMeans::Exec | FenceMeans::Socket => {
                ctx.act(Action::Fence {
                    id,
                    scope,
                    sessions,
                });
            }
        }
    }

    /// Takes in how many clients were notified: each must confirm that it has ended its sessions.
    pub(crate) fn on_fence_notified(&mut self, ctx: &mut Ctx, id: FenceId, clients: u64) {
        if self.fences.on_notified(id, clients) {
            ctx.timers.set(Timer::Fence(id), ctx.now.boot + FENCE_PAUSE);
            self.check_fence(ctx, id);
        }
    }

    /// Takes in a client's confirmation.
    pub(crate) fn acknowledge(&mut self, ctx: &mut Ctx, id: FenceId, by: SocketId) -> Acknowledged {
        let found = self.fences.on_acknowledged(id, by);
        self.check_fence(ctx, id);
        Acknowledged { found }
    }

    fn check_fence(&mut self, ctx: &mut Ctx, id: FenceId) {
        if self.fences.is_acknowledged(id) {
            self.end_fence(ctx, id);
        }
    }

    /// Takes in that the sessions of a fence have ended, or why that is not known.
    pub(crate) fn on_fence_finished(
        &mut self,
        ctx: &mut Ctx,
        id: FenceId,
        outcome: Result<(), String>,
    ) {
        match outcome {
            Ok(()) => self.end_fence(ctx, id),
            Err(why) => {
                if self.fences.on_failed(id, why) {
                    ctx.timers.set(Timer::Fence(id), ctx.now.boot + FENCE_PAUSE);
                }
            }
        }
    }

    /// Ends a fence after its sessions.
    fn end_fence(&mut self, ctx: &mut Ctx, id: FenceId) {
        ctx.timers.cancel(Timer::Fence(id));
        if let Some(scope) = self.fences.end(id) {
            self.events.push_back(ClusterEvent::FenceEnded(scope));
        }
    }

    /// Takes in that the tables have none of the fence's sessions any more.
    pub(crate) fn on_fence_ended(&mut self, ctx: &mut Ctx, node: NodeView, scope: FenceScope) {
        match scope {
            FenceScope::Channel(channel) => self.release_channel(ctx, node, &channel),
            FenceScope::All => {
                self.ownership.end_incarnations();
                self.take_steps(ctx, node);
            }
        }
    }
}
