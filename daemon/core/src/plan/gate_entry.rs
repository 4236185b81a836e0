//! The gate's side of the plan part: shows it the gate, and carries out its commands. The only file that knows both.

use std::time::Duration;

use soramode_protocol::announce::Announce;
use soramode_protocol::end::End;
use soramode_protocol::event::{EventKind, EventType};
use soramode_protocol::id::PlanId;
use soramode_protocol::mode::ModeChange;
use soramode_protocol::node::StorageState;
use soramode_protocol::plan::{CancelPlan, Plan, PlanFound, StartPlan};
use soramode_protocol::reply::{Answer, Reply};

use super::calls::{CallId, SfuOutcome};
use super::context::{Out, PlanCommand, View};
use super::{Plans, Stopped};
use crate::gate::{Ctx, Gate};
use crate::input::{HostState, ReplyHandle, Timestamp};
use crate::timers::Timer;
use crate::waits::Changed;

impl Gate {
    /// Lets the plan part do something: shows it the gate as it is, and carries out its commands afterwards.
    fn with_plans<T>(
        &mut self,
        ctx: &mut Ctx,
        work: impl FnOnce(&mut Plans, &View<'_>, &mut Out<'_>) -> T,
    ) -> T {
        let mut plans = std::mem::take(&mut self.plans);
        let mut random = self.random.clone();
        let mut commands = Vec::new();
        let mut last_call = plans.last_call;
        let result = {
            let view = self.plan_view(ctx.now);
            let mut out = Out {
                records: &mut ctx.effects.records,
                actions: &mut ctx.effects.actions,
                commands: &mut commands,
                random: &mut random,
                last_call: &mut last_call,
            };
            work(&mut plans, &view, &mut out)
        };
        plans.last_call = last_call;
        (self.plans, self.random) = (plans, random);
        for command in commands {
            self.carry_out(ctx, command);
        }
        result
    }

    fn plan_view(&self, now: Timestamp) -> View<'_> {
        let receives = |webhook: &&crate::snapshot::Webhook| {
            webhook.types.contains(&EventType::MaintenanceAnnounced)
        };
        let webhooks = self.settings.webhooks.iter().filter(receives).count();
        View {
            now,
            mode: &self.mode,
            sessions: &self.sessions,
            sessions_ended: self.sessions_ended,
            is_complete: self.known.is_confirmed(),
            storage: self.storage,
            admission: self.settings.sora.admission,
            pending_timeout: self.settings.pending_timeout,
            stall_after: self.settings.stall_after,
            is_opening: self.is_opening(),
            open_others: self.open_others(),
            webhooks: u64::try_from(webhooks).unwrap_or(u64::MAX),
        }
    }

    fn carry_out(&mut self, ctx: &mut Ctx, command: PlanCommand) {
        match command {
            PlanCommand::SetMode(change) => self.change_mode_for_plan(ctx, change),
            PlanCommand::Emit(kind) => self.emit(ctx, kind),
            PlanCommand::MakeObsolete(plan_id) => self.make_obsolete(ctx, |kind| {
                matches!(kind, EventKind::MaintenanceAnnounced(it)
                    if it.plan_id.as_ref() == Some(&plan_id) && !it.cancelled)
            }),
            PlanCommand::Evaluate => {
                self.waits.note(Changed::Mode);
                self.waits.note(Changed::Ends);
            }
        }
    }

    /// Begins with what was stored of plans.
    pub(crate) fn begin_plans(&mut self, ctx: &mut Ctx, host: HostState) {
        self.with_plans(ctx, |plans, view, out| plans.begin(view, host, out));
        let expires_at = self.timers.at(Timer::Expiry);
        self.plans.waits_for_expiry = expires_at.is_some_and(|at| at <= ctx.now.boot);
    }

    /// Has the plan react to everything that happened, at the end of a step: an opening in the same step comes first.
    pub(crate) fn run_plans(&mut self, ctx: &mut Ctx) {
        if self.plans.is_idle() && !self.mode.mode.is_block() && self.plans.is_settled() {
            return;
        }
        if std::mem::take(&mut self.plans.waits_for_expiry) {
            self.timers.set(Timer::Plan, ctx.now.boot);
            return;
        }
        while self.with_plans(ctx, Plans::advance) {}
        let next = self.with_plans(ctx, |plans, view, out| {
            plans.record(out);
            plans.next_deadline(view)
        });
        match next {
            Some(at) => self.timers.set(Timer::Plan, at),
            None => self.timers.cancel(Timer::Plan),
        }
    }

    /// Takes note of the time before anything else of a step: a deadline of the past means that the daemon was stopped.
    pub(crate) fn note_oversleep(&mut self, now: Timestamp) {
        let late = self
            .timers
            .at(Timer::Plan)
            .map_or(Duration::ZERO, |at| now.boot.saturating_sub(at));
        if late > super::ends::FIRST_PAUSE {
            self.plans.overslept(now.boot, late);
        }
    }

    pub(crate) fn start_plan(&mut self, ctx: &mut Ctx, start: StartPlan, actor: &str) -> Answer {
        if self.storage == StorageState::Failed {
            return Err(self.unwritable());
        }
        let started =
            self.with_plans(ctx, |plans, view, out| plans.start(view, start, actor, out))?;
        self.run_plans(ctx);
        self.plans.started(&self.plan_view(ctx.now), started)
    }

    pub(crate) fn get_plan(&self, now: Timestamp) -> Reply {
        let plan = self.plans.shown_last(&self.plan_view(now));
        Reply::PlanFound(Box::new(PlanFound { plan }))
    }

    pub(crate) fn cancel_plan(&mut self, ctx: &mut Ctx, cancel: CancelPlan, actor: &str) -> Reply {
        let cancelled = self.with_plans(ctx, |plans, view, out| {
            plans.cancel(view, cancel, actor, out)
        });
        Reply::PlanCancelled(Box::new(cancelled))
    }

    pub(crate) fn announce(
        &mut self,
        ctx: &mut Ctx,
        reply_to: ReplyHandle,
        announce: Announce,
        actor: &str,
    ) -> Option<Answer> {
        let begun = self.with_plans(ctx, |plans, view, out| {
            plans.announce_for(view, reply_to, announce, actor, out)
        });
        begun.err().map(Err)
    }

    pub(crate) fn end_sessions(
        &mut self,
        ctx: &mut Ctx,
        reply_to: ReplyHandle,
        end: End,
        actor: &str,
    ) -> Option<Answer> {
        let begun = self.with_plans(ctx, |plans, view, out| {
            plans.end_for(view, reply_to, end, actor, out)
        });
        begun.transpose()
    }

    pub(crate) fn sfu_answered(&mut self, ctx: &mut Ctx, id: CallId, outcome: &SfuOutcome) {
        self.with_plans(ctx, |plans, view, _| plans.answered(view, id, outcome));
    }

    /// Takes back what was refused because it could not be written.
    pub(crate) fn take_back_plans(&mut self, ctx: &mut Ctx, plans: &[PlanId], calls: &[CallId]) {
        self.with_plans(ctx, |part, view, out| {
            part.not_made(calls);
            part.refuse(view, plans, out);
        });
    }

    /// Tells the plan part of a change of the mode that it did not make.
    pub(crate) fn mode_changed_for_plans(&mut self, ctx: &mut Ctx, change: &ModeChange) -> Stopped {
        self.with_plans(ctx, |plans, view, out| {
            plans.mode_changed(view, change, out)
        })
    }

    /// Tells it that an operator has set `normal` on an open node.
    pub(crate) fn normal_confirmed(&mut self, ctx: &mut Ctx, actor: &str) -> Stopped {
        self.with_plans(ctx, |plans, view, out| {
            plans.normal_confirmed(view, actor, out)
        })
    }

    /// Returns the plan that runs, as clients see it.
    pub(crate) fn running_plan(&self, now: Timestamp) -> Option<Box<Plan>> {
        self.plans.shown_running(&self.plan_view(now)).map(Box::new)
    }

    /// Returns the plan with this id, as clients see it.
    pub(crate) fn plan_with_id(&self, now: Timestamp, id: &PlanId) -> Option<Box<Plan>> {
        let plan = self.plans.shown_last(&self.plan_view(now));
        plan.filter(|plan| plan.id == *id).map(Box::new)
    }

    /// Number of other nodes of the cluster that are open.
    fn open_others(&self) -> Option<u64> {
        let open = self
            .member
            .as_deref()?
            .open_nodes_but(&self.settings.node_name);
        Some(u64::try_from(open).unwrap_or(u64::MAX))
    }
}
