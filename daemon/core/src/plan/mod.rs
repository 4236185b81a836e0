//! Maintenance plans: a list of timed steps that the gate runs by itself, the queue of announcements and the end queue, which plans and
//! the methods `Announce` and `End` share.
//!
//! `Plans` owns all of this. It reads the rest of the node through a `PlanView`, leaves its effects in
//! `PlanEffects`, and has no other access to it; `node/plans.rs` connects both. The table of states is `transitions::react`.

mod announcements;
mod asked;
pub mod calls;
mod clock;
mod context;
mod end_queue;
mod end_request;
mod enqueue;
mod finished_announcement;
mod long_announcement;
mod means;
mod missed;
mod no_progress;
mod renewal;
mod requests;
mod restart;
mod run;
mod schedule;
mod show;
mod stall;
pub mod stored;
mod transitions;

use std::time::Duration;

use soramode_protocol::id::{EndId, PlanId};
use soramode_protocol::mode::{EndsStopped, Mode, ModeChange};
use soramode_protocol::plan::{PlanHold, PlanOutcome, PlanState, PlanStep, Stalled};

pub(crate) use self::context::{NodeState, PlanCommand, PlanEffects, PlanMode, PlanView};
pub(crate) use self::end_queue::FIRST_PAUSE;
pub(crate) use self::means::{Means, end_method};

use self::announcements::Announcements;
use self::calls::{CallId, SfuOutcome};
use self::end_queue::EndQueue;
use self::means::MeansWatch;
use self::stall::StallWatch;
use self::stored::{PlanProgress, StoredAnnouncement, StoredEnd, StoredOutcome, StoredPlan};
use self::transitions::{PlanInput, Reaction, react};
use crate::fault::PlantedFault;
use crate::handles::SessionSlot;
use crate::reservation::CloseRight;
use crate::stored::Stored;

/// Maximum number of announcements that have not reached every channel.
pub const ANNOUNCEMENTS_MAX: usize = 64;

/// Maximum number of requests to end sessions of which some are left.
pub const END_REQUESTS_MAX: usize = 1_024;

/// Maximum number of sessions that these requests name together, unless one request alone names more.
pub const END_SESSIONS_MAX: usize = 1_000_000;

/// Maximum number of channels that one announcement to found sessions names.
const FOUND_CHANNELS_MAX: usize = 1_000;

/// The plan, and both queues.
#[derive(Default)]
pub(crate) struct Plans {
    /// The plan that runs; if none does, the last one.
    plan: Option<StoredPlan>,
    /// The plan that it replaced.
    replaced: Option<StoredPlan>,
    /// Progress of the plan that was recorded last.
    recorded: Option<PlanProgress>,
    /// Hold of the step that is due, if it waits.
    step_hold: Option<PlanHold>,
    /// Since when the plan that ends sessions may ask for none.
    ends_held_since: Option<Duration>,
    announcements: Announcements,
    end_queue: EndQueue,
    stall: StallWatch,
    means_watch: MeansWatch,
    /// Sessions that appeared since the last step, while a plan ends sessions.
    found_sessions: Vec<SessionSlot>,
    pub(crate) last_call: CallId,
    /// Number of changes that waits depend on.
    changes: u64,
    /// Set at a start at which the mode is due to expire: that comes first.
    pub(crate) waits_for_expiry: bool,
    /// Read from the store, until the start.
    restored: Restored,
    fault: PlantedFault,
}

/// Stored state that is taken up at the start.
#[derive(Default)]
struct Restored {
    announcements: Vec<StoredAnnouncement>,
    ends: Vec<StoredEnd>,
    was_closed: bool,
}

impl Plans {
    /// Takes what was stored.
    pub(crate) fn restore(stored: &mut Stored) -> Self {
        let plan = stored.plan.take();
        Self {
            recorded: plan.as_ref().map(|plan| plan.progress.clone()),
            plan,
            restored: Restored {
                announcements: std::mem::take(&mut stored.announcements),
                ends: std::mem::take(&mut stored.ends),
                was_closed: stored
                    .mode
                    .as_ref()
                    .is_some_and(|state| state.mode.is_block()),
            },
            ..Self::default()
        }
    }

    /// Returns whether no change of a session is of concern.
    pub(crate) fn is_idle(&self) -> bool {
        self.running().is_none() && self.announcements.is_empty() && self.end_queue.is_empty()
    }

    /// Returns whether a step without a plan, an announcement or an end has nothing to do: the last plan is stored, and the drain neither
    /// begins, progresses nor stalls.
    pub(crate) fn is_settled(&self, node: &NodeState) -> bool {
        let progress = self.plan.as_ref().map(|plan| &plan.progress);
        self.stall.is_settled(node) && self.recorded.as_ref() == progress
    }

    fn running(&self) -> Option<&StoredPlan> {
        self.plan.as_ref().filter(|plan| !plan.is_over())
    }

    /// Returns whether a plan has begun and has not closed the node yet: other nodes suit new channels better.
    pub(crate) fn is_leaving(&self) -> bool {
        let is_unready = |step: &PlanStep| matches!(step, PlanStep::Unready { .. });
        self.running()
            .is_some_and(|plan| !plan.has_closed() && plan.done_steps().any(is_unready))
    }

    /// Returns the id of the plan that runs.
    pub(crate) fn running_id(&self) -> Option<&PlanId> {
        self.running().map(|plan| &plan.id)
    }

    pub(crate) const fn stalled(&self) -> Option<Stalled> {
        self.stall.stalled()
    }

    /// Returns whether the SFU was asked to end this session: a closed node admits no client to it.
    pub(crate) fn is_asked_to_end(&self, session: SessionSlot) -> bool {
        self.end_queue.is_asked(session)
    }

    /// Returns whether a call to end a session has no outcome yet.
    pub(crate) fn is_end_in_flight(&self, id: CallId) -> bool {
        self.end_queue.has_call(id)
    }

    /// Returns the sessions that are still there although the SFU was asked to end them.
    pub(crate) fn failing_ends(&self) -> impl Iterator<Item = SessionSlot> {
        self.end_queue.failing()
    }

    /// Returns the latest problem of ends, until one succeeds.
    pub(crate) fn end_problem(&self) -> Option<&String> {
        self.end_queue.problem()
    }

    /// Returns how often requests to end sessions were stopped.
    pub(crate) const fn stops(&self) -> u64 {
        self.end_queue.stops()
    }

    /// Returns whether this request was stopped; or any since there had been so many.
    pub(crate) fn has_stopped(&self, id: Option<&EndId>, stops_before: u64) -> bool {
        match id {
            Some(id) => self.end_queue.was_stopped(id),
            None => self.end_queue.stops() > stops_before && !self.end_queue.has_request(None),
        }
    }

    /// Number of changes so far that waits for plans and ends depend on.
    pub(crate) const fn changes(&self) -> u64 {
        self.changes
    }

    /// Returns whether sessions wait to be ended: of this request, or of any.
    pub(crate) fn has_ends(&self, id: Option<&EndId>) -> bool {
        self.end_queue.has_request(id)
    }

    /// Outcome of the plan with this id, if it is over; `None` while it runs. The error is for an unknown plan.
    pub(crate) fn outcome_of(&self, id: &PlanId) -> Result<Option<PlanOutcome>, UnknownPlan> {
        let over = self.find(id).ok_or(UnknownPlan)?.progress.over.as_ref();
        Ok(over.map(|over| over.outcome))
    }

    fn find(&self, id: &PlanId) -> Option<&StoredPlan> {
        let plans = [&self.plan, &self.replaced];
        plans.into_iter().flatten().find(|plan| plan.id == *id)
    }

    /// Takes note of a new session.
    pub(crate) fn on_session_opened(&mut self, session: SessionSlot) {
        if self.running().is_some_and(StoredPlan::is_ending) {
            self.found_sessions.push(session);
        }
    }

    /// Takes note that a pending connection of a session is live or has ended.
    pub(crate) fn on_pending_changed(&mut self, session: SessionSlot) {
        if !self.announcements.is_empty() {
            self.announcements.on_pending_changed(session);
        }
    }

    /// Takes note that a session has ended. Returns whether it was ended on request.
    pub(crate) fn on_session_ended(&mut self, session: SessionSlot) -> bool {
        if self.is_idle() && !self.end_queue.is_asked(session) {
            return false;
        }
        self.found_sessions.retain(|found| *found != session);
        self.announcements.on_session_ended(session);
        let ended = self.end_queue.on_session_ended(session);
        if let Some(plan) = &mut self.plan {
            plan.progress.ended += u64::from(ended.is_of_plan);
        }
        ended.was_asked
    }

    /// Takes note of a change of the mode that the plan did not make. Returns what it stopped.
    pub(crate) fn mode_changed(
        &mut self,
        view: &PlanView<'_>,
        change: &ModeChange,
        out: &mut PlanEffects<'_>,
    ) -> StoppedByMode {
        let is_system = change.actor.starts_with("system:");
        let input = match (change.mode, change.actor.as_str()) {
            (_, "system:joined" | "system:isolated" | "system:fenced") => PlanInput::ModeChanges,
            (Mode::Normal | Mode::Initial, _) if is_system => PlanInput::SystemOpens,
            (Mode::Normal, _) => PlanInput::OperatorOpens,
            (Mode::BlockNewSession, _) if change.previous_mode == Mode::BlockNewConnection => {
                PlanInput::OperatorLoosens
            }
            (Mode::BlockNewSession | Mode::BlockNewConnection | Mode::Initial, _) => {
                PlanInput::ModeChanges
            }
        };
        self.react_to_mode(view, input, &change.actor, out)
    }

    /// Takes note that an operator has set `normal` although it was set already.
    pub(crate) fn normal_confirmed(
        &mut self,
        view: &PlanView<'_>,
        actor: &str,
        out: &mut PlanEffects<'_>,
    ) -> StoppedByMode {
        self.react_to_mode(view, PlanInput::OperatorOpens, actor, out)
    }

    fn react_to_mode(
        &mut self,
        view: &PlanView<'_>,
        input: PlanInput,
        actor: &str,
        out: &mut PlanEffects<'_>,
    ) -> StoppedByMode {
        let mut stopped = StoppedByMode::default();
        let state = self.plan.as_ref().map_or(PlanState::Over, |plan| {
            // A plan that has not closed the node does not mind that another's mode is loosened, or ends.
            let is_other = matches!(input, PlanInput::SystemOpens | PlanInput::OperatorLoosens);
            let state = plan.state(view.mode.mode);
            if is_other && !plan.has_closed() {
                state.min(PlanState::Lead)
            } else {
                state
            }
        });
        let loosens_own = input != PlanInput::OperatorLoosens
            || self
                .running()
                .and_then(StoredPlan::mode_set)
                .is_some_and(|mode| Mode::from(mode) > view.mode.mode);
        if loosens_own && react(state, input) == Reaction::Cancel {
            stopped.plan_id = self.running_id().cloned();
        }
        if matches!(input, PlanInput::OperatorOpens | PlanInput::SystemOpens) {
            stopped.ends = self.stop_ends(view, None, out);
        } else if let Some(plan_id) = &stopped.plan_id {
            stopped.ends = self.stop_ends(view, Some(plan_id), out);
        }
        if stopped.plan_id.is_some() {
            let why = if input == PlanInput::OperatorLoosens {
                "a more open mode was set"
            } else {
                "the node was opened"
            };
            self.finish(view, Finish::cancelled(actor, Some(why), None), out);
        }
        stopped
    }

    /// Empties the end queue, or takes the requests of a plan away. Their calls that wait for the lock of a room are not made any more.
    fn stop_ends(
        &mut self,
        view: &PlanView<'_>,
        plan_id: Option<&PlanId>,
        out: &mut PlanEffects<'_>,
    ) -> Option<EndsStopped> {
        let had_any = !self.end_queue.is_empty();
        let is_theirs = |id: &CallId| self.end_queue.is_call_of(*id, plan_id);
        let postponed = view.postponed.iter().copied();
        let postponed: Vec<CallId> = postponed.filter(is_theirs).collect();
        self.retract_calls(&postponed);
        let stopped = self.end_queue.stop(plan_id, out);
        if had_any {
            self.changes += 1;
        }
        let is_something = stopped.sessions > 0 || stopped.in_flight > 0;
        is_something.then_some(stopped)
    }

    /// Takes in the outcome of a call to the SFU.
    pub(crate) fn on_outcome(&mut self, view: &PlanView<'_>, id: CallId, outcome: &SfuOutcome) {
        if !self.announcements.on_outcome(view, id, outcome) {
            self.end_queue.on_outcome(view.state.now.boot, id, outcome);
        }
    }

    /// Takes back calls that were never made, because their records could not be written.
    pub(crate) fn retract_calls(&mut self, ids: &[CallId]) {
        for id in ids {
            if self.announcements.retract_call(*id) {
                continue;
            }
            let uncounted = self.end_queue.retract_call(*id);
            if let Some(plan) = &mut self.plan {
                plan.progress.asked = plan.progress.asked.saturating_sub(uncounted);
            }
        }
    }

    /// The daemon was stopped for a while: what waited meanwhile comes first. Sessions are ended that much later.
    pub(crate) fn on_resumed(&mut self, now: Duration, by: Duration) {
        self.end_queue.pause(now);
        self.delay_ends(by);
    }

    /// Counts a time in which a plan should have ended sessions and did not.
    fn delay_ends(&mut self, by: Duration) {
        if let Some(plan) = self.plan.as_mut().filter(|plan| plan.is_ending()) {
            plan.progress.late += by;
            plan.progress.delay += by;
        }
    }
}

/// A plan that is neither running nor the last one, and was not replaced by it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnknownPlan;

/// Plan and ends that a change of the mode stopped.
#[derive(Debug, Default)]
pub(crate) struct StoppedByMode {
    pub(crate) plan_id: Option<PlanId>,
    pub(crate) ends: Option<EndsStopped>,
}

/// End of a plan.
struct Finish {
    outcome: PlanOutcome,
    why: Option<String>,
    actor: String,
    reason: Option<String>,
    replaced_by: Option<PlanId>,
}

impl Finish {
    fn by_system(outcome: PlanOutcome, why: Option<String>) -> Self {
        Self {
            outcome,
            why,
            actor: "system:plan".to_owned(),
            reason: None,
            replaced_by: None,
        }
    }

    fn stored(&self, view: &PlanView<'_>) -> StoredOutcome {
        StoredOutcome {
            outcome: self.outcome,
            why: self.why.clone(),
            by: Some(self.actor.clone()),
            reason: self.reason.clone(),
            at: view.state.now.wall,
            generation: Some(view.mode.generation),
        }
    }

    fn cancelled(actor: &str, why: Option<&str>, reason: Option<String>) -> Self {
        Self {
            outcome: PlanOutcome::Cancelled,
            why: why.map(str::to_owned),
            actor: actor.to_owned(),
            reason,
            replaced_by: None,
        }
    }
}

impl StoredPlan {
    /// Returns its right to close the node: only the plan of a roll needs one.
    fn right_to_close(&self, view: &PlanView<'_>) -> CloseRight {
        match (&self.roll, self.progress.round) {
            (Some(roll), Some(round)) => {
                view.reservations
                    .right_to_close(view.state.now, roll, round)
            }
            (_, _) => CloseRight::Held,
        }
    }

    const fn is_over(&self) -> bool {
        self.progress.over.is_some()
    }

    fn done_steps(&self) -> impl Iterator<Item = &PlanStep> {
        self.steps.iter().take(self.progress.done.len())
    }

    fn next_step(&self) -> Option<&PlanStep> {
        self.steps.get(self.progress.done.len())
    }

    /// Returns the mode that it has set last.
    fn mode_set(&self) -> Option<soramode_protocol::mode::SettableMode> {
        use soramode_protocol::mode::SettableMode;

        let ends = |step: &PlanStep| matches!(step, PlanStep::End { .. });
        let by_step = self.done_steps().filter_map(|step| match step {
            PlanStep::Mode { mode, .. } => Some(*mode),
            PlanStep::End { .. } => Some(SettableMode::BlockNewConnection),
            PlanStep::Announce { .. } | PlanStep::Unready { .. } | PlanStep::Unknown => None,
        });
        let is_last_announced =
            self.has_made_last_announcement() && self.steps.last().is_some_and(ends);
        by_step
            .chain(is_last_announced.then_some(SettableMode::BlockNewConnection))
            .max()
    }

    fn has_closed(&self) -> bool {
        self.done_steps()
            .any(|step| matches!(step, PlanStep::Mode { .. }))
    }

    fn is_ending(&self) -> bool {
        !self.is_over()
            && self
                .done_steps()
                .any(|step| matches!(step, PlanStep::End { .. }))
    }

    fn has_announced(&self) -> bool {
        self.done_steps()
            .any(|step| matches!(step, PlanStep::Announce { .. }))
    }

    fn has_made_last_announcement(&self) -> bool {
        let is_announcement = |step: &&PlanStep| matches!(step, PlanStep::Announce { .. });
        let left = self.steps.iter().skip(self.progress.done.len());
        self.has_announced() && left.filter(is_announcement).count() == 0
    }

    /// Returns its state, which depends on the node's mode as long as it has not closed the node itself.
    fn state(&self, mode: Mode) -> PlanState {
        if self.is_over() {
            PlanState::Over
        } else if self.is_ending() {
            PlanState::Ending
        } else if self.has_closed() || (!self.progress.done.is_empty() && mode.is_block()) {
            PlanState::Closed
        } else if self.progress.done.is_empty() {
            PlanState::Scheduled
        } else {
            PlanState::Lead
        }
    }
}
