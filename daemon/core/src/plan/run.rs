//! The run of a plan: its schedule, its steps, and its end.

use std::time::Duration;

use soramode_protocol::event::{EventKind, PlanOver, PlanStepDone};
use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::{Mode, SettableMode};
use soramode_protocol::plan::{END_PER_MINUTE_DEFAULT, EndRate, PlanOutcome, PlanState, PlanStep};

use super::context::{PlanCommand, PlanEffects, PlanMode, PlanView};
use super::enqueue::{NewAnnouncement, sessions_of};
use super::finished_announcement::FinishedAnnouncement;
use super::missed::{announcing_cause, held_cause};
use super::stored::{AnnouncementProgress, StoredPlan};
use super::transitions::{PlanInput, Reaction, react};
use super::{FOUND_CHANNELS_MAX, Finish, Plans};
use crate::effect::Record;
use crate::fault::Fault;
use crate::handles::Timestamp;
use crate::reservation::CloseRight;
use crate::settings::SfuAdmission;

impl Plans {
    /// Does one thing that is due; false if nothing is. The commands must be carried out before the next call.
    pub(crate) fn advance(&mut self, view: &PlanView<'_>, out: &mut PlanEffects<'_>) -> bool {
        self.note_clock(view.state.now);
        self.cancel_unreserved(view, out)
            || self.take_found_sessions(view, out)
            || self.finish_if_drained(view, out)
            || self.miss_late_announcement(view, out)
            || self.finish_announcements(view, out)
            || self.miss_late_end(view, out)
            || self.run_due_step(view, out)
            || self.make_calls(view, out)
    }

    /// Cancels the plan of a roll that has not closed the node, and may not any more.
    fn cancel_unreserved(&mut self, view: &PlanView<'_>, out: &mut PlanEffects<'_>) -> bool {
        let Some(plan) = self.running() else {
            return false;
        };
        let is_over = plan.right_to_close(view) == CloseRight::None;
        let reaction = react(plan.state(view.mode.mode), PlanInput::ReservationEnds);
        if !is_over || plan.has_closed() || reaction != Reaction::Cancel {
            return false;
        }
        let why = "the reservation of its roll is over";
        self.finish(
            view,
            Finish::cancelled("system:reservation", Some(why), None),
            out,
        );
        true
    }

    /// Stores the time of the close by the wall clock anew if that was set: a reboot goes by it.
    fn note_clock(&mut self, now: Timestamp) {
        let is_by_boot = |plan: &&mut StoredPlan| !plan.is_over() && !plan.progress.done.is_empty();
        if let Some(plan) = self.plan.as_mut().filter(is_by_boot) {
            plan.progress.closes = plan.progress.closes.wall_from_boot(now);
        }
    }

    /// Returns whether the plan may have sessions ended as things are: not before the time that was announced.
    fn may_end(&self, view: &PlanView<'_>) -> bool {
        let is_ahead =
            |plan: &StoredPlan| plan.time_to_announced_end(view.state.now) > Duration::ZERO;
        view.may_plan_end() && !self.running().is_some_and(is_ahead)
    }

    /// Makes the calls that may be made now. Returns whether a request or an announcement is over.
    fn make_calls(&mut self, view: &PlanView<'_>, out: &mut PlanEffects<'_>) -> bool {
        let renewal = self.renewal(view);
        if self.announcements.make_calls(view, renewal.as_ref(), out)
            && let (Some(plan), Some(renewal)) = (&mut self.plan, renewal)
        {
            plan.note_announced_end(renewal.sessions_end_at, view.state.now, self.fault);
        }
        let may_plan = self.may_end(view);
        self.end_queue.rewatch_calls(view.state.now.boot);
        let asked = self.end_queue.make_calls(view, may_plan, out);
        if let Some(plan) = &mut self.plan {
            plan.progress.asked += asked;
        }
        if self.end_queue.finish(out) {
            self.changes += 1;
        }
        let is_any_over = self.finish_announcements(view, out);
        self.report_stall(view, out);
        is_any_over
    }

    /// Ends a plan that would end sessions too late. The time counts in which it may ask for none.
    fn miss_late_end(&mut self, view: &PlanView<'_>, out: &mut PlanEffects<'_>) -> bool {
        let Some(plan) = self.running().filter(|plan| plan.is_ending()) else {
            self.ends_held_since = None;
            return false;
        };
        let max_delay = plan.max_delay;
        let ahead = plan.time_to_announced_end(view.state.now);
        let now = view.state.now.boot;
        if self.may_end(view) {
            if let Some(since) = self.ends_held_since.take().filter(|since| *since < now) {
                self.delay_ends(now.saturating_sub(since));
                self.end_queue.pause(now);
            }
        } else {
            self.ends_held_since.get_or_insert(now);
            if !view.may_plan_end() {
                return false;
            }
        }
        let is_late = self
            .running()
            .is_some_and(|plan| plan.progress.late + ahead > max_delay);
        let state = self
            .running()
            .map_or(PlanState::Over, |plan| plan.state(view.mode.mode));
        if !is_late || react(state, PlanInput::TooLate) != Reaction::Miss {
            return false;
        }
        let is_set_back = !ahead.is_zero();
        let cause = is_set_back.then(|| "the clock was set back".to_owned());
        self.miss(view, cause, out);
        true
    }

    /// Has the sessions that were found while a plan ends sessions announced to, and then ended last.
    fn take_found_sessions(&mut self, view: &PlanView<'_>, out: &mut PlanEffects<'_>) -> bool {
        if self.found_sessions.is_empty() {
            return false;
        }
        let found = std::mem::take(&mut self.found_sessions);
        let Some(plan) = self.plan.as_ref().filter(|plan| plan.is_ending()) else {
            return false;
        };
        let plan_id = plan.id.clone();
        let announced = plan.done_steps().filter_map(|step| match step {
            PlanStep::Announce { text, data, .. } => Some((text.clone(), data.clone())),
            PlanStep::Unready { .. }
            | PlanStep::Mode { .. }
            | PlanStep::End { .. }
            | PlanStep::Unknown => None,
        });
        let announced = announced.last();
        let actor = plan.owner.clone();
        let Some((text, data)) = announced else {
            for slot in found {
                self.end_queue.add_found(view.state.now, &plan_id, slot);
            }
            return true;
        };
        let found = found.into_iter();
        let channels: Vec<ChannelId> = found
            .filter_map(|slot| Some(view.sessions.view_session(slot)?.channel_id))
            .collect();
        for channels in channels.chunks(FOUND_CHANNELS_MAX) {
            let new = NewAnnouncement {
                text: text.clone(),
                data: data.clone(),
                channel_ids: Some(channels.to_vec()),
                cancelled: false,
                actor: actor.clone(),
                reply_to: None,
            };
            self.announce(view, new, out);
        }
        true
    }

    fn finish_if_drained(&mut self, view: &PlanView<'_>, out: &mut PlanEffects<'_>) -> bool {
        let Some(plan) = self.running().filter(|plan| plan.has_closed()) else {
            return false;
        };
        let reaction = react(plan.state(view.mode.mode), PlanInput::Drained);
        let is_done =
            view.is_drained() && !view.state.is_storage_failed && reaction == Reaction::Finish;
        if is_done {
            self.finish(view, Finish::by_system(PlanOutcome::Done, None), out);
        }
        is_done
    }

    /// Takes announcements that are over: the steps after it count from its end.
    fn finish_announcements(&mut self, view: &PlanView<'_>, out: &mut PlanEffects<'_>) -> bool {
        let finished = self.announcements.finish(&view.means, out);
        let is_any = !finished.is_empty();
        for it in finished {
            self.on_announcement_finished(view, &it, out);
        }
        self.note_announced();
        is_any
    }

    fn on_announcement_finished(
        &mut self,
        view: &PlanView<'_>,
        finished: &FinishedAnnouncement,
        out: &mut PlanEffects<'_>,
    ) {
        let is_ours = |plan: &&mut StoredPlan| {
            !plan.is_over() && finished.plan_id.as_ref() == Some(&plan.id) && !finished.cancelled
        };
        let Some(plan) = self.plan.as_mut().filter(is_ours) else {
            return;
        };
        if let Some(channel_ids) = &finished.channel_ids {
            // Sessions that were found while the plan ends sessions.
            let plan_id = plan.id.clone();
            for (_, slot) in sessions_of(view, Some(channel_ids), |_| true) {
                self.end_queue.add_found(view.state.now, &plan_id, slot);
            }
            return;
        }
        note_progress(plan, &finished.progress);
        let is_late = plan
            .announcement_limit()
            .is_some_and(|limit| view.state.now.boot > limit);
        if is_late {
            let cause = announcing_cause(finished.last_problem.as_deref());
            return self.miss(view, Some(cause), out);
        }
        if !finished.has_reached && !self.fault.is(Fault::UnheardAnnouncementCounts) {
            let why = "the announcement reached nobody: no Sora API, no subscriber, no webhook";
            let finish = Finish::by_system(PlanOutcome::Failed, Some(why.to_owned()));
            return self.finish(view, finish, out);
        }
        let step = plan.done_steps().last().cloned();
        if let Some(step) = step.filter(|step| matches!(step, PlanStep::Announce { .. })) {
            plan.reschedule_from(&step, view.state.now);
        }
    }

    fn note_announced(&mut self) {
        if let Some(plan) = &mut self.plan
            && let Some(progress) = self.announcements.of_plan(&plan.id)
        {
            note_progress(plan, progress);
        }
    }

    /// Runs the next step, if it is due and nothing holds it.
    fn run_due_step(&mut self, view: &PlanView<'_>, out: &mut PlanEffects<'_>) -> bool {
        let last_hold = self.step_hold.take();
        let Some(plan) = self.running() else {
            return false;
        };
        let Some(step) = plan.next_step() else {
            return false;
        };
        let due = plan.due(step, view.state.now);
        let is_due = view.state.now.boot >= due.boot();
        // A clock that was set back after an announcement makes the end late, which is known at once.
        let planned = plan.planned(step, view.state.now);
        let late = planned.ago(view.state.now).max(due.since(planned));
        if !is_due && plan.progress.late + late <= plan.max_delay {
            return false;
        }
        let step = step.clone();
        let input = self.input_of_step(view, plan, &step, late);
        let state = plan.state(view.mode.mode);
        match react(state, input) {
            Reaction::Run => self.run_step(view, &step, late, out),
            Reaction::Hold(hold) => {
                self.step_hold = is_due.then_some(hold);
                return false;
            }
            Reaction::Miss => {
                self.miss(view, last_hold.map(|hold| held_cause(hold).to_owned()), out);
            }
            Reaction::Fail => {
                let why = if matches!(step, PlanStep::End { .. }) {
                    "the daemon is in shadow mode"
                } else {
                    "it has a step that this version does not know"
                };
                let finish = Finish::by_system(PlanOutcome::Failed, Some(why.to_owned()));
                self.finish(view, finish, out);
            }
            Reaction::Stay | Reaction::Finish | Reaction::Cancel => return false,
        }
        true
    }

    /// Returns what the step that is due means, as things are.
    fn input_of_step(
        &self,
        view: &PlanView<'_>,
        plan: &StoredPlan,
        step: &PlanStep,
        late: Duration,
    ) -> PlanInput {
        let ends = matches!(step, PlanStep::End { .. });
        let closes = matches!(step, PlanStep::Mode { .. }) && !plan.has_closed();
        let has_too_few = || {
            let open = view.open_others().unwrap_or(u64::MAX);
            plan.keep_open.is_some_and(|keep_open| open < keep_open)
        };
        // While an operator's `normal` waits for the cluster, the step waits in the same way.
        if view.state.is_storage_failed || view.is_opening {
            PlanInput::StorageFails
        } else if self.announcements.of_plan(&plan.id).is_some() {
            PlanInput::StillAnnouncing
        } else if *step == PlanStep::Unknown || (ends && view.admission == SfuAdmission::Shadow) {
            PlanInput::CannotGoOn
        } else if ends && !view.state.is_complete {
            PlanInput::EndWithoutSessions
        } else if view.means.check(step).is_err() && !self.fault.is(Fault::StepRunsWithoutMeans) {
            PlanInput::WithoutMeans
        } else if closes && plan.right_to_close(view) != CloseRight::Held {
            PlanInput::RoundIsOver
        } else if closes && has_too_few() {
            PlanInput::TooFewOpen
        } else if plan.progress.late + late > plan.max_delay && !self.fault.is(Fault::LateStepRuns)
        {
            PlanInput::TooLate
        } else {
            PlanInput::StepDue
        }
    }

    fn run_step(
        &mut self,
        view: &PlanView<'_>,
        step: &PlanStep,
        late: Duration,
        out: &mut PlanEffects<'_>,
    ) {
        let Some(plan) = &mut self.plan else {
            return out.bug("a plan with a due step is not there");
        };
        plan.reschedule_from(step, view.state.now);
        plan.progress.late += late;
        plan.progress.done.push(view.state.now.wall);
        let done = PlanStepDone {
            plan_id: plan.id.clone(),
            step: u32::try_from(plan.progress.done.len()).unwrap_or(u32::MAX),
            done: step.clone(),
            late_seconds: late.as_secs(),
        };
        out.commands
            .push(PlanCommand::Emit(EventKind::PlanStep(Box::new(done))));
        let is_last_announced = plan.has_made_last_announcement()
            && matches!(plan.steps.last(), Some(PlanStep::End { .. }));
        let owner = plan.owner.clone();
        match step {
            PlanStep::Unready { .. } | PlanStep::Unknown => {}
            PlanStep::Mode { mode, .. } => {
                // Always a change of its own.
                let mode = view.at_least(*mode);
                self.set_mode(mode, out);
            }
            PlanStep::Announce { text, data, .. } => {
                if is_last_announced {
                    self.close_to_connections(view, out);
                }
                let new = NewAnnouncement {
                    text: text.clone(),
                    data: data.clone(),
                    channel_ids: None,
                    cancelled: false,
                    actor: owner,
                    reply_to: None,
                };
                self.announce(view, new, out);
            }
            PlanStep::End { per_minute, .. } => {
                self.close_to_connections(view, out);
                let default = EndRate::PerMinute(END_PER_MINUTE_DEFAULT);
                self.end_all(view, per_minute.unwrap_or(default), out);
            }
        }
    }

    fn close_to_connections(&self, view: &PlanView<'_>, out: &mut PlanEffects<'_>) {
        if view.mode.mode != Mode::BlockNewConnection {
            self.set_mode(SettableMode::BlockNewConnection, out);
        }
    }

    fn set_mode(&self, mode: SettableMode, out: &mut PlanEffects<'_>) {
        let Some(plan) = &self.plan else {
            return out.bug("a plan that sets the mode is not there");
        };
        out.commands.push(PlanCommand::SetMode(PlanMode {
            mode,
            plan_id: plan.id.clone(),
            roll: plan.roll.clone(),
            actor: plan.owner.clone(),
            on_behalf_of: plan.on_behalf_of.clone(),
            reason: plan.reason.clone(),
            expected_end_at: plan.expected_end_at,
        }));
    }

    /// Ends the plan: nothing more of it happens.
    pub(super) fn finish(
        &mut self,
        view: &PlanView<'_>,
        finish: Finish,
        out: &mut PlanEffects<'_>,
    ) {
        let Some(plan) = self.plan.as_mut().filter(|plan| !plan.is_over()) else {
            return;
        };
        plan.progress.over = Some(finish.stored(view));
        let (plan_id, owner) = (plan.id.clone(), plan.owner.clone());
        let takes_back = plan.has_announced() && finish.outcome != PlanOutcome::Done;
        self.step_hold = None;
        self.announcements.stop(&plan_id, out);
        if !self.fault.is(Fault::OverPlanEndsSessions) {
            let _ = self.stop_ends(view, Some(&plan_id), out);
        }
        out.commands
            .push(PlanCommand::MakeObsolete(plan_id.clone()));
        let over = PlanOver {
            plan_id,
            outcome: finish.outcome,
            why: finish.why,
            actor: finish.actor,
            reason: finish.reason,
            replaced_by: finish.replaced_by,
        };
        out.commands
            .push(PlanCommand::Emit(EventKind::PlanOver(Box::new(over))));
        self.changes += 1;
        let can_announce = view.means.check_announce().is_ok();
        if takes_back && can_announce && view.sessions.session_count() > 0 {
            let new = NewAnnouncement {
                text: None,
                data: None,
                channel_ids: None,
                cancelled: true,
                actor: owner,
                reply_to: None,
            };
            self.announce(view, new, out);
        }
    }

    /// Stores how far the plan is, if that changed.
    pub(crate) fn record(&mut self, out: &mut PlanEffects<'_>) {
        if let Some(plan) = &self.plan
            && self.recorded.as_ref() != Some(&plan.progress)
        {
            let before = self.recorded.replace(plan.progress.clone());
            let progress = Box::new(plan.progress.clone());
            let is_counts_alone = before.is_some_and(|it| it.is_same_but_for_counts(&progress));
            out.records.push(if is_counts_alone {
                Record::PlanCounts(progress)
            } else {
                Record::PlanProgress(progress)
            });
        }
    }

    /// Returns when something is to be done although nothing happens.
    pub(crate) fn next_deadline(&self, view: &PlanView<'_>) -> Option<Duration> {
        let now = view.state.now;
        let is_held = self.step_hold.is_some();
        let step = self
            .running()
            .filter(|_| !is_held)
            .and_then(|plan| Some(plan.due(plan.next_step()?, now).boot()));
        let announcements = self.announcements.next_deadline(view);
        let is_free = !view.state.is_storage_failed && !view.is_opening;
        let limit = self.announcement_limit().filter(|_| is_free);
        let too_late = limit.map(|limit| limit + Duration::from_micros(1));
        let roll = self.running().filter(|plan| !plan.has_closed());
        let roll = roll.and_then(|plan| plan.roll.as_ref());
        let reservation = roll.and_then(|roll| view.reservations.expires(now, roll));
        let ends = self.end_queue.next_deadline(now.boot, self.may_end(view));
        let announced_end = self
            .running()
            .filter(|plan| plan.is_ending())
            .map(|plan| plan.time_to_announced_end(now))
            .filter(|ahead| *ahead > Duration::ZERO)
            .map(|ahead| now.boot + ahead);
        let stall = self.stall.next_deadline(view.state.stall_after);
        let means = self.means_watch.next_deadline();
        let of_plan = [step, too_late, announced_end, reservation, means];
        let others = [announcements, ends, stall];
        of_plan.into_iter().chain(others).flatten().min()
    }
}

fn note_progress(plan: &mut StoredPlan, progress: &AnnouncementProgress) {
    if let Some(announced) = &mut plan.progress.announced {
        announced.told = progress.told;
        announced.failed = progress.failed;
    }
}
