//! The right is over, or a channel is another node's: what is served all the same must end, and be known to have ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use soramode_protocol::cluster::Acknowledged;
use soramode_protocol::end::EndSession;
use soramode_protocol::event::EndReason;
use soramode_protocol::id::ChannelId;
use soramode_protocol::node::Membership;

use crate::ctx::Ctx;
use crate::effect::Action;
use crate::handles::SocketId;
use crate::node::Node;
use crate::snapshot::FenceMeans;
use crate::tables::slab::Slot;
use crate::timers::Timer;

use super::etcd::{Acknowledgement, FenceScope};

/// How soon the SFU is told again to end what has not ended.
pub const FENCE_PAUSE: Duration = Duration::from_secs(1);

/// What is to end.
#[derive(Default)]
pub(super) struct Fences {
    last_id: u64,
    under_way: BTreeMap<u64, Fence>,
}

struct Fence {
    of: FenceScope,
    /// How many clients were told, once that is known.
    told: Option<u64>,
    acknowledged: BTreeSet<SocketId>,
    /// Why it is not over.
    problem: Option<String>,
}

impl Fences {
    /// What an operator must know of sessions that are served without a right to them.
    pub(super) fn problem(&self, means: FenceMeans) -> Option<String> {
        let fence = self.under_way.values().next()?;
        let nobody = match means {
            FenceMeans::None => {
                ". Neither --on-fence nor a client ends them: end them on the SFU, then send a Report"
            }
            FenceMeans::Socket if fence.told == Some(0) => {
                ": no client has subscribed with ends: true"
            }
            FenceMeans::SoraApi | FenceMeans::Exec | FenceMeans::Socket => "",
        };
        let what = match &fence.of {
            FenceScope::All => "the sessions on this node must end before it can join".to_owned(),
            FenceScope::Channel(channel) => format!(
                "the session on channel {:?}, which another node owns, must end",
                channel.as_str()
            ),
        };
        let why = fence
            .problem
            .as_ref()
            .map(|why| format!(" ({why})"))
            .unwrap_or_default();
        Some(format!("{what}{nobody}{why}"))
    }
}

impl Node {
    /// The right is over: nobody is admitted, and every session ends.
    pub(super) fn fence_all(&mut self, ctx: &mut Ctx) {
        self.set_membership(ctx, Membership::Fenced);
        self.fence(ctx, FenceScope::All);
        self.stop_asking(ctx);
    }

    /// Has the SFU end this, until it has.
    pub(super) fn fence(&mut self, ctx: &mut Ctx, of: FenceScope) {
        let Some(member) = self.member() else { return };
        if member.fences.under_way.values().any(|fence| fence.of == of) {
            return;
        }
        member.fences.last_id += 1;
        let id = member.fences.last_id;
        member.fences.under_way.insert(
            id,
            Fence {
                of,
                told: None,
                acknowledged: BTreeSet::new(),
                problem: None,
            },
        );
        self.tell_fence(ctx, id);
    }

    /// The SFU is told, for the first time or again.
    pub(crate) fn tell_fence(&mut self, ctx: &mut Ctx, id: u64) {
        let Some(of) = self
            .member()
            .and_then(|member| member.fences.under_way.get(&id))
            .map(|fence| fence.of.clone())
        else {
            return;
        };
        let sessions: Vec<EndSession> = self.sessions_of(&of);
        // Where everybody has left, and is known to have, nothing is to be ended any more.
        if sessions.is_empty() && self.sync.is_known() {
            return self.fence_over(ctx, id);
        }
        let means = self
            .member()
            .map_or(FenceMeans::None, |member| member.settings.on_fence);
        match means {
            // Until whoever knows of the SFU says that nobody is there any more.
            FenceMeans::None => ctx.timers.set(Timer::Fence(id), ctx.now.boot + FENCE_PAUSE),
            FenceMeans::SoraApi | FenceMeans::Exec | FenceMeans::Socket => {
                ctx.effects.actions.push(Action::Fence { id, of, sessions });
            }
        }
    }

    fn sessions_of(&self, of: &FenceScope) -> Vec<EndSession> {
        let slots: Vec<Slot> = match of {
            FenceScope::All => self.sessions.by_age(None).collect(),
            FenceScope::Channel(channel) => {
                self.sessions.find_session(channel).into_iter().collect()
            }
        };
        let rows = slots
            .into_iter()
            .filter_map(|slot| self.sessions.session(slot));
        rows.map(|row| EndSession {
            channel_id: row.channel_id.clone(),
            session_id: row.session_id.clone(),
        })
        .collect()
    }

    /// So many clients were told, each of which must say that it has ended what it served.
    pub(crate) fn fence_told(&mut self, ctx: &mut Ctx, id: u64, clients: u64) {
        let Some(fence) = self
            .member()
            .and_then(|member| member.fences.under_way.get_mut(&id))
        else {
            return;
        };
        fence.told = Some(clients);
        ctx.timers.set(Timer::Fence(id), ctx.now.boot + FENCE_PAUSE);
        self.look_at_fence(ctx, id);
    }

    pub(crate) fn acknowledge(
        &mut self,
        ctx: &mut Ctx,
        Acknowledgement { id, by }: Acknowledgement,
    ) -> Acknowledged {
        let fence = self
            .member()
            .and_then(|member| member.fences.under_way.get_mut(&id));
        let found = fence.map(|fence| fence.acknowledged.insert(by)).is_some();
        self.look_at_fence(ctx, id);
        Acknowledged { found }
    }

    fn look_at_fence(&mut self, ctx: &mut Ctx, id: u64) {
        let Some(fence) = self
            .member()
            .and_then(|member| member.fences.under_way.get(&id))
        else {
            return;
        };
        let acknowledged = u64::try_from(fence.acknowledged.len()).unwrap_or(u64::MAX);
        if fence
            .told
            .is_some_and(|told| told > 0 && acknowledged >= told)
        {
            self.fence_over(ctx, id);
        }
    }

    pub(crate) fn fence_done(&mut self, ctx: &mut Ctx, id: u64, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.fence_over(ctx, id),
            Err(why) => {
                let Some(fence) = self
                    .member()
                    .and_then(|member| member.fences.under_way.get_mut(&id))
                else {
                    return;
                };
                fence.problem = Some(why);
                ctx.timers.set(Timer::Fence(id), ctx.now.boot + FENCE_PAUSE);
            }
        }
    }

    /// What it named has ended.
    fn fence_over(&mut self, ctx: &mut Ctx, id: u64) {
        ctx.timers.cancel(Timer::Fence(id));
        let Some(fence) = self
            .member()
            .and_then(|member| member.fences.under_way.remove(&id))
        else {
            return;
        };
        let channels: Vec<ChannelId> = self
            .sessions_of(&fence.of)
            .into_iter()
            .map(|session| session.channel_id)
            .collect();
        for channel in channels {
            self.end_channel(ctx, &channel);
        }
        match fence.of {
            FenceScope::Channel(channel) => self.release(ctx, &channel),
            FenceScope::All => {
                if let Some(member) = self.member() {
                    member.ownership.end_incarnations();
                }
                self.take_steps(ctx);
            }
        }
    }

    fn end_channel(&mut self, ctx: &mut Ctx, channel: &ChannelId) {
        let Some(session) = self.sessions.find_session(channel) else {
            return;
        };
        let slots: Vec<Slot> = self.sessions.of_session(session, None).collect();
        for slot in slots {
            self.end(ctx, slot, EndReason::SessionDestroyed);
        }
        // A session that would linger, or wait for its Sora's word, does not outlive the right to it.
        if self
            .sessions
            .session(session)
            .is_some_and(|row| row.channel_id == *channel && row.live + row.pending == 0)
        {
            self.destroy_session(ctx, session);
        }
    }
}
