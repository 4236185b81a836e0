//! The node's side of the plan part: shows it the rest of the node, and carries out its commands.

use std::time::Duration;

use soramode_protocol::announce::Announce;
use soramode_protocol::end::End;
use soramode_protocol::event::{EventKind, EventType};
use soramode_protocol::id::PlanId;
use soramode_protocol::mode::{Mode, ModeChange, SettableMode};
use soramode_protocol::plan::{CancelPlan, Plan, PlanFound, PlanOutcome, StartPlan};
use soramode_protocol::reply::{Answer, Reply};

use crate::count::count;
use crate::ctx::Ctx;
use crate::effect::Action;
use crate::handles::{ReplyHandle, Timestamp};
use crate::held_mode::HeldMode;
use crate::input::HostState;
use crate::member::ClusterMember;
use crate::mode::Change;
use crate::node::Node;
use crate::plan::calls::{CallId, SfuOutcome};
use crate::plan::{
    Means, NodeState, PlanCommand, PlanEffects, PlanView, Plans, StoppedByMode, end_method,
};
use crate::timers::Timer;

/// A deadline of the past by more than this means that the daemon was stopped.
const SUSPENDED_AFTER: Duration = crate::plan::FIRST_PAUSE;

impl Node {
    /// Lets the plan part do something: shows it the node as it is, and carries out its commands afterwards.
    fn with_plans<T>(
        &mut self,
        ctx: &mut Ctx,
        work: impl FnOnce(&mut Plans, &PlanView<'_>, &mut PlanEffects<'_>) -> T,
    ) -> T {
        let (mut actions, mut commands) = (Vec::new(), Vec::new());
        let (plans, view) = self.plans_and_view(ctx.now);
        let mut last_call = plans.last_call;
        let mut out = PlanEffects {
            records: &mut ctx.effects.records,
            actions: &mut actions,
            commands: &mut commands,
            random: ctx.random,
            last_call: &mut last_call,
        };
        let result = work(plans, &view, &mut out);
        plans.last_call = last_call;
        for action in actions {
            self.act_for_plans(ctx, action);
        }
        for command in commands {
            self.carry_out_command(ctx, command);
        }
        result
    }

    /// Returns the plan part, and the view that it needs of the rest.
    fn plans_and_view(&mut self, now: Timestamp) -> (&mut Plans, PlanView<'_>) {
        let member = self.member.as_deref();
        let held_mode = self.held_mode.as_deref();
        let view = PlanView {
            state: self.plan_node_state(now),
            mode: self.mode.state(),
            sessions: &self.sessions,
            postponed: held_mode.map(HeldMode::postponed).unwrap_or_default(),
            admission: self.settings.sfu.admission,
            means: self.means(),
            pending_timeout: self.settings.pending_timeout,
            is_opening: member.is_some_and(ClusterMember::is_opening),
            member,
            reservations: &self.reservations,
        };
        (&mut self.plans, view)
    }

    /// Returns the state of the node on which plans depend.
    fn plan_node_state(&self, now: Timestamp) -> NodeState {
        NodeState {
            now,
            mode: self.mode.mode(),
            session_count: self.sessions.session_count(),
            sessions_ended: self.sessions_ended,
            is_complete: self.sync.is_synced(),
            is_in_force: self.is_in_force(),
            has_postponed: self
                .held_mode
                .as_deref()
                .is_some_and(HeldMode::has_postponed),
            is_storage_failed: self.storage.is_failed(),
            can_end: end_method(self.settings.sfu.means, self.subscribers).is_some(),
            stall_after: self.settings.stall_after,
        }
    }

    fn carry_out_command(&mut self, ctx: &mut Ctx, command: PlanCommand) {
        match command {
            PlanCommand::SetMode(change) => {
                self.make_change(ctx, Change::by_plan(change));
            }
            PlanCommand::Emit(kind) => ctx.emit(kind),
            PlanCommand::MakeObsolete(plan_id) => {
                self.outbox.enqueue_new_events(ctx, self.mode.generation());
                self.outbox.make_obsolete(ctx, |kind| {
                    matches!(kind, EventKind::MaintenanceAnnounced(it)
                        if it.plan_id.as_ref() == Some(&plan_id) && !it.cancelled)
                });
            }
        }
    }

    /// Begins with what was stored of plans.
    pub(super) fn begin_plans(&mut self, ctx: &mut Ctx, host: HostState) {
        self.with_plans(ctx, |plans, view, out| plans.begin(view, host, out));
        let expires_at = ctx.timers.at(Timer::Expiry);
        self.plans.waits_for_expiry = expires_at.is_some_and(|at| at <= ctx.now.boot);
    }

    /// Has the plan react to everything that happened, at the end of a step: an opening in the same step comes first.
    pub(super) fn run_plans(&mut self, ctx: &mut Ctx) {
        if std::mem::take(&mut self.plans.waits_for_expiry) {
            ctx.timers.set(Timer::Plan, ctx.now.boot);
            return;
        }
        if self.plans.is_idle() && self.plans.is_settled(&self.plan_node_state(ctx.now)) {
            return;
        }
        while self.with_plans(ctx, Plans::advance) {}
        let next = self.with_plans(ctx, |plans, view, out| {
            plans.record(out);
            plans.next_deadline(view)
        });
        match next {
            Some(at) => ctx.timers.set(Timer::Plan, at),
            None => ctx.timers.cancel(Timer::Plan),
        }
    }

    /// Takes note of the time before anything else of a step: a deadline of the past means that the daemon was stopped.
    pub(super) fn note_suspension(&mut self, ctx: &Ctx) {
        let now = ctx.now.boot;
        let due = ctx.timers.at(Timer::Plan);
        let late = due.map_or(Duration::ZERO, |at| now.saturating_sub(at));
        if late > SUSPENDED_AFTER {
            self.plans.on_resumed(now, late);
        }
    }

    pub(super) fn start_plan(&mut self, ctx: &mut Ctx, start: StartPlan, actor: &str) -> Answer {
        self.storage.check_writable()?;
        let mut started =
            self.with_plans(ctx, |plans, view, out| plans.start(view, start, actor, out))?;
        self.run_plans(ctx);
        started.warning = started.warning.or_else(|| self.no_open_node_warning());
        let generation = self.mode.generation();
        self.plans
            .started(&self.plan_node_state(ctx.now), generation, started)
    }

    pub(super) fn get_plan(&self, now: Timestamp) -> Reply {
        let plan = self.plans.shown_last(&self.plan_node_state(now));
        Reply::PlanFound(Box::new(PlanFound { plan }))
    }

    pub(super) fn cancel_plan(&mut self, ctx: &mut Ctx, cancel: CancelPlan, actor: &str) -> Reply {
        let cancelled = self.with_plans(ctx, |plans, view, out| {
            plans.cancel(view, cancel, actor, out)
        });
        Reply::PlanCancelled(Box::new(cancelled))
    }

    pub(super) fn announce(
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

    /// Performs an action of the plans. The end of a session waits for the lock of its room, where the SFU holds the mode.
    fn act_for_plans(&mut self, ctx: &mut Ctx, action: Action) {
        match (action, self.held_mode.as_deref_mut()) {
            (Action::Sfu(call), Some(held_mode)) if call.is_end() => held_mode.postpone_end(*call),
            (action, _) => ctx.act(action),
        }
    }

    pub(super) fn end_sessions(
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

    pub(super) fn on_sfu_answered(&mut self, ctx: &mut Ctx, id: CallId, outcome: &SfuOutcome) {
        self.with_plans(ctx, |plans, view, _| plans.on_outcome(view, id, outcome));
    }

    /// Takes back what was refused because it could not be written.
    pub(super) fn retract_plans(&mut self, ctx: &mut Ctx, plans: &[PlanId], calls: &[CallId]) {
        self.with_plans(ctx, |part, view, out| {
            part.retract_calls(calls);
            part.retract_start(view, plans, out);
        });
    }

    /// Notifies the plans of a change of the mode that they did not make.
    pub(super) fn notify_plans(&mut self, ctx: &mut Ctx, change: &ModeChange) -> StoppedByMode {
        self.with_plans(ctx, |plans, view, out| {
            plans.mode_changed(view, change, out)
        })
    }

    /// Notifies the plans that an operator has set `normal` on an open node.
    pub(super) fn confirm_normal(&mut self, ctx: &mut Ctx, actor: &str) -> StoppedByMode {
        self.with_plans(ctx, |plans, view, out| {
            plans.normal_confirmed(view, actor, out)
        })
    }

    /// Returns the plan that runs, as clients see it.
    pub(super) fn running_plan(&self, now: Timestamp) -> Option<Box<Plan>> {
        self.plans
            .shown_running(&self.plan_node_state(now))
            .map(Box::new)
    }

    /// Returns the plan with this id, as clients see it.
    pub(super) fn plan_with_id(&self, now: Timestamp, id: &PlanId) -> Option<Box<Plan>> {
        let plan = self.plans.shown_with_id(&self.plan_node_state(now), id);
        plan.map(Box::new)
    }

    /// Returns the means to reach the clients of a session.
    pub(super) fn means(&self) -> Means {
        Means {
            sfu: self.settings.sfu.means,
            subscribers: self.subscribers,
            webhooks: count(self.outbox.receivers_of(EventType::MaintenanceAnnounced)),
        }
    }

    /// Returns a warning if the plan that runs has no means for one of its steps.
    pub(super) fn plan_without_means_warning(&self) -> Option<String> {
        let (id, problem) = self.plans.missing_means(&self.means())?;
        let hint = problem.data.hint.unwrap_or_default();
        Some(format!(
            "plan {id} {}. It waits until it can. {hint}, or cancel the plan: soramode plan cancel {id}",
            problem.message
        ))
    }

    /// Returns a warning if the last plan was missed or has failed, until an operator changes the mode or another plan is started.
    pub(super) fn ended_plan_warning(&self) -> Option<String> {
        let (id, over) = self.plans.unfinished()?;
        if self.mode.is_set_by_operator_since(over.generation, over.at) {
            return None;
        }
        let outcome = if over.outcome == PlanOutcome::Missed {
            "was missed"
        } else {
            "failed"
        };
        let mode = SettableMode::try_from(self.mode.mode()).unwrap_or(SettableMode::Normal);
        let (at, why, mode) = (
            over.at,
            over.why.as_deref().unwrap_or_default(),
            Mode::from(mode),
        );
        Some(format!(
            "plan {id} {outcome} at {at} ({why}). The rest of its steps do not run. To see them: soramode plan. This warning ends when another plan is \
             started, or the mode is set anew: soramode set {mode} -m REASON"
        ))
    }

    /// Warning that a plan will close the node all the same.
    pub(super) fn scheduled_plan_warning(&self, now: Timestamp) -> Option<String> {
        let plan = self.running_plan(now)?;
        let (id, at) = (&plan.id, plan.at);
        Some(format!(
            "plan {id} is scheduled and closes the node at {at}. To cancel it, run: soramode plan cancel {id}"
        ))
    }
}
