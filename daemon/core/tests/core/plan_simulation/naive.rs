//! A second plan, as naive as can be: each step that is left has its own time, and they are moved one by one.

use std::time::Duration;

use soramode_core::effect::{Action, Effects, Record};
use soramode_core::handles::Timestamp;
use soramode_core::plan::calls::SfuRequest;
use soramode_protocol::event::EventKind;
use soramode_protocol::id::{AnnouncementId, PlanId};
use soramode_protocol::mode::Mode;
use soramode_protocol::node::Status;
use soramode_protocol::plan::{Plan, PlanHold, PlanOutcome, PlanState, PlanStep, StartPlan};
use soramode_protocol::time::Time;

use super::reach::Means;

/// Facts of a step of the gate, apart from the plan.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Facts {
    /// An operator set `normal`, and it was not refused.
    pub(super) operator_opened: bool,
    /// An expiry or a start opened the node.
    pub(super) system_opened: bool,
    /// An operator set a more open mode, which is this one.
    pub(super) loosened_to: Option<Mode>,
    pub(super) cancelled: bool,
    pub(super) started: Option<(PlanId, StartPlan)>,
    pub(super) rebooted: bool,
    /// After the step.
    pub(super) mode: Option<Mode>,
    pub(super) sessions: u64,
    pub(super) is_complete: bool,
    pub(super) storage_failed: bool,
    pub(super) is_shadow: bool,
    pub(super) means: Means,
    /// Announcements that are over with the step, and have reached nobody.
    pub(super) reached_nobody: Vec<AnnouncementId>,
}

pub(super) struct Naive {
    pub(super) id: PlanId,
    steps: Vec<PlanStep>,
    /// When each step is due: by the wall clock until the first one was done, then by the boot clock; in microseconds.
    due: Vec<i64>,
    is_by_wall: bool,
    /// Distance between the clocks when it was last looked at.
    offset: i64,
    done: usize,
    late: Duration,
    max_delay: Duration,
    announcing: Option<AnnouncementId>,
    /// When the last step was done, or the announcement that it began was over; by the boot clock.
    last_done: i64,
    /// The latest end that was announced: by the wall clock, and by the boot clock as both stood then.
    announced_end: i64,
    announced_end_boot: i64,
    /// The end that the announcement in progress names.
    named_end: i64,
    /// Why the step that is due waits.
    hold: Option<PlanHold>,
    pub(super) over: Option<PlanOutcome>,
    /// It was missed or has failed, and no operator has changed the mode since.
    is_warned_of: bool,
}

pub(super) fn boot(now: Timestamp) -> i64 {
    i64::try_from(now.boot.as_micros()).unwrap()
}

fn offset(now: Timestamp) -> i64 {
    now.wall.as_micros() - boot(now)
}

/// Returns the end of sessions that an announcement names.
pub(super) fn announced_end(kind: &EventKind) -> Option<Time> {
    match kind {
        EventKind::MaintenanceAnnounced(it) => it.sessions_end_at,
        _ => None,
    }
}

fn seconds(step: &PlanStep) -> i64 {
    step.at_seconds() * 1_000_000
}

impl Naive {
    fn new(id: PlanId, start: &StartPlan, now: Timestamp) -> Self {
        let first = start.steps.first().map_or(0, seconds);
        let at = start
            .at
            .map_or(now.wall.as_micros() - first, Time::as_micros);
        Self {
            id,
            due: start.steps.iter().map(|step| at + seconds(step)).collect(),
            steps: start.steps.clone(),
            is_by_wall: true,
            offset: offset(now),
            done: 0,
            late: Duration::ZERO,
            max_delay: Duration::from_secs(start.max_delay_seconds.unwrap_or(600)),
            announcing: None,
            last_done: 0,
            announced_end: i64::MIN,
            announced_end_boot: i64::MIN,
            named_end: i64::MIN,
            hold: None,
            over: None,
            is_warned_of: false,
        }
    }

    fn did(&self, which: impl Fn(&PlanStep) -> bool) -> bool {
        self.steps[..self.done].iter().any(which)
    }

    fn has_closed(&self) -> bool {
        self.did(|step| matches!(step, PlanStep::Mode { .. }))
    }

    /// Returns whether it has done no step: it goes by the wall clock.
    pub(super) const fn is_by_wall(&self) -> bool {
        self.is_by_wall
    }

    pub(super) fn is_ending(&self) -> bool {
        self.did(|step| matches!(step, PlanStep::End { .. }))
    }

    pub(super) fn announces(&self) -> bool {
        self.steps
            .iter()
            .any(|step| matches!(step, PlanStep::Announce { .. }))
    }

    /// The strictest mode that it has set.
    fn mode_set(&self) -> Option<Mode> {
        let announcements = |steps: &[PlanStep]| {
            let is_one = |step: &&PlanStep| matches!(step, PlanStep::Announce { .. });
            steps.iter().filter(is_one).count()
        };
        let ends = matches!(self.steps.last(), Some(PlanStep::End { .. }));
        let (did, left) = self.steps.split_at(self.done);
        if self.is_ending() || (ends && announcements(did) > 0 && announcements(left) == 0) {
            return Some(Mode::BlockNewConnection);
        }
        let modes = did.iter().filter_map(|step| match step {
            PlanStep::Mode { mode, .. } => Some(Mode::from(*mode)),
            _ => None,
        });
        modes.max()
    }

    fn state(&self, mode: Mode) -> PlanState {
        match self.over {
            Some(_) => PlanState::Over,
            None if self.is_ending() => PlanState::Ending,
            None if self.has_closed() => PlanState::Closed,
            None if self.done == 0 => PlanState::Scheduled,
            None if mode.is_block() => PlanState::Closed,
            None => PlanState::Lead,
        }
    }

    /// Moves the steps that are left so that they keep their distances from the last one, which was done now.
    fn count_from_now(&mut self, now: Timestamp) {
        let last = seconds(&self.steps[self.done - 1]);
        if self.is_by_wall {
            self.is_by_wall = false;
            self.announced_end_boot = self.announced_end.saturating_sub(offset(now));
        }
        self.last_done = boot(now);
        for (step, due) in self.steps.iter().zip(&mut self.due).skip(self.done) {
            *due = boot(now) + seconds(step) - last;
        }
    }

    /// Takes in a step of the gate.
    pub(super) fn step(&mut self, now: Timestamp, facts: &Facts, effects: &Effects) {
        self.go_on(now, facts, effects);
        self.hold = self.find_hold(now, facts);
        for kind in effects.kinds() {
            match kind {
                EventKind::PlanOver(over) if over.plan_id == self.id => {
                    self.is_warned_of =
                        matches!(over.outcome, PlanOutcome::Missed | PlanOutcome::Failed);
                }
                EventKind::ModeChanged(change) if !change.actor.starts_with("system:") => {
                    self.is_warned_of = false;
                }
                _ => {}
            }
        }
    }

    fn go_on(&mut self, now: Timestamp, facts: &Facts, effects: &Effects) {
        if self.over.is_some() {
            return;
        }
        if facts.rebooted && !self.is_by_wall {
            // Times by the boot clock go by the wall clock now, as both were when it was last looked at.
            let moved = self.offset - offset(now);
            self.due.iter_mut().for_each(|due| *due += moved);
            self.last_done += moved;
            self.announced_end_boot = self.announced_end.saturating_sub(offset(now));
        }
        self.offset = offset(now);
        let renewed = effects.actions.iter().filter_map(|action| match action {
            Action::Sfu(call) => match &call.request {
                SfuRequest::Push(notice) if self.announcing.as_ref() == Some(&notice.id) => {
                    notice.sessions_end_at
                }
                SfuRequest::Push(_) | SfuRequest::Disconnect { .. } => None,
            },
            _ => None,
        });
        let renewed = renewed
            .map(Time::as_micros)
            .filter(|end| *end > self.named_end);
        let renewed = renewed.max();
        self.named_end = renewed.unwrap_or(self.named_end);
        let announced = effects.kinds().filter_map(announced_end);
        for end in announced.map(Time::as_micros).chain(renewed) {
            self.announced_end = self.announced_end.max(end);
            self.announced_end_boot = self.announced_end_boot.max(end - offset(now));
        }
        self.take_changes(facts, effects);
        if self.over.is_some() {
            return;
        }
        let mut announced = effects.kinds().filter_map(|kind| match kind {
            EventKind::MaintenanceAnnounced(it)
                if it.plan_id.as_ref() == Some(&self.id)
                    && !it.cancelled
                    && it.channel_ids.is_none() =>
            {
                Some((it.announcement_id.clone(), it.sessions_end_at))
            }
            _ => None,
        });
        let mut announced = announced.by_ref().collect::<Vec<_>>().into_iter();
        let is_over = |id: &AnnouncementId| {
            let is_it = |record: &Record| matches!(record, Record::AnnouncementFinished(over) if over == id);
            effects.records.iter().any(is_it)
        };
        let is_announced = self.announcing.as_ref().is_some_and(is_over);
        let took = Duration::from_micros((boot(now) - self.last_done).max(0).unsigned_abs());
        let is_too_late = self.announcing.is_some() && self.late + took > self.max_delay;
        // A step that cannot be written: neither that it is done nor that the time has passed.
        let is_missed = if facts.storage_failed {
            is_announced
        } else {
            !self.is_drained(facts)
        };
        if is_too_late && is_missed {
            self.over = Some(PlanOutcome::Missed);
            return;
        }
        if is_announced {
            let announced = self.announcing.take();
            let is_drained = self.is_drained(facts) && !facts.storage_failed;
            if !is_drained && announced.is_some_and(|id| facts.reached_nobody.contains(&id)) {
                self.over = Some(PlanOutcome::Failed);
                return;
            }
            self.count_from_now(now);
        }
        while self.over.is_none() && self.run_one(now, facts, effects) {
            if matches!(self.steps[self.done - 1], PlanStep::Announce { .. }) {
                let next = announced.next();
                let end = next.as_ref().and_then(|(_, end)| *end);
                self.named_end = end.map_or(i64::MIN, Time::as_micros);
                self.announcing = next.map(|(id, _)| id).filter(|id| !is_over(id));
            }
        }
    }

    fn take_changes(&mut self, facts: &Facts, effects: &Effects) {
        let is_loosened = facts
            .loosened_to
            .is_some_and(|mode| self.has_closed() && self.mode_set() > Some(mode));
        let was_cancelled = facts.cancelled
            || (facts.operator_opened && self.done > 0)
            || (facts.system_opened && self.has_closed())
            || is_loosened;
        if was_cancelled {
            self.over = Some(PlanOutcome::Cancelled);
        }
        // The time for which an end was held is not followed here.
        for kind in effects.kinds() {
            if let EventKind::PlanOver(over) = kind
                && over.plan_id == self.id
            {
                let is_ending = self.is_ending() && over.outcome == PlanOutcome::Missed;
                if is_ending || over.outcome == PlanOutcome::Replaced {
                    self.over = Some(over.outcome);
                }
            }
        }
    }

    fn is_drained(&self, facts: &Facts) -> bool {
        let is_empty = facts.sessions == 0 && facts.is_complete;
        self.has_closed() && facts.mode.unwrap().is_block() && is_empty
    }

    fn run_one(&mut self, now: Timestamp, facts: &Facts, effects: &Effects) -> bool {
        // A step may have ended the last session itself, by tightening: then it was done before.
        let is_done_first = effects.kinds().any(|kind| {
            matches!(kind, EventKind::PlanStep(it)
                if it.plan_id == self.id && usize::try_from(it.step) == Ok(self.done + 1))
        });
        if self.is_drained(facts) && !facts.storage_failed && !is_done_first {
            self.over = Some(PlanOutcome::Done);
            return false;
        }
        let Some(step) = self.steps.get(self.done) else {
            return false;
        };
        let clock = if self.is_by_wall {
            now.wall.as_micros()
        } else {
            boot(now)
        };
        let mut late = clock - self.due[self.done];
        let mut is_due = late >= 0;
        let ends = matches!(step, PlanStep::End { .. });
        let ahead = self.time_to_announced_end(now);
        if ends && ahead > 0 {
            (late, is_due) = (late + ahead, false);
        }
        let late = Duration::from_micros(late.max(0).unsigned_abs());
        let is_too_late = self.late + late > self.max_delay;
        let is_held = facts.storage_failed || self.announcing.is_some();
        if !(is_due || is_too_late) || is_held {
            return false;
        }
        if ends && facts.is_shadow {
            self.over = Some(PlanOutcome::Failed);
            return false;
        }
        if (ends && !facts.is_complete) || !facts.means.suffice(step) {
            return false;
        }
        if is_too_late {
            self.over = Some(PlanOutcome::Missed);
            return false;
        }
        self.late += late;
        self.done += 1;
        self.count_from_now(now);
        true
    }

    fn time_to_announced_end(&self, now: Timestamp) -> i64 {
        let by_wall = self.announced_end.saturating_sub(now.wall.as_micros());
        if self.is_by_wall {
            return by_wall;
        }
        by_wall.max(self.announced_end_boot.saturating_sub(boot(now)))
    }

    /// Returns why the plan waits although its next step is due, or it has begun to end sessions.
    fn find_hold(&self, now: Timestamp, facts: &Facts) -> Option<PlanHold> {
        if self.over.is_some() {
            return None;
        }
        let is_ahead = self.time_to_announced_end(now) > 0;
        let step = self.steps.get(self.done);
        let is_due = match step {
            Some(step) => {
                let clock = if self.is_by_wall {
                    now.wall.as_micros()
                } else {
                    boot(now)
                };
                let ends = matches!(step, PlanStep::End { .. });
                clock >= self.due[self.done] && !(ends && is_ahead)
            }
            None => self.is_ending(),
        };
        let end = self.steps.last().filter(|_| self.is_ending());
        let step = step.or(end).filter(|_| is_due)?;
        if facts.storage_failed {
            Some(PlanHold::StorageFailed)
        } else if self.announcing.is_some() {
            Some(PlanHold::Announcing)
        } else if matches!(step, PlanStep::End { .. }) && !facts.is_complete {
            Some(PlanHold::SessionsIncomplete)
        } else if !facts.means.suffice(step) {
            Some(PlanHold::NoMeans)
        } else {
            is_ahead.then_some(PlanHold::AnnouncedEnd)
        }
    }

    /// Compares the plan with the one that the gate shows.
    pub(super) fn compare(
        &self,
        now: Timestamp,
        status: &Status,
        plan: &Plan,
    ) -> Result<(), String> {
        let mode = status.mode.mode;
        let outcomes = [" was missed at ", " failed at "];
        let begins = outcomes.map(|outcome| format!("plan {}{outcome}", self.id));
        let is_warning = |it: &String| begins.iter().any(|begin| it.starts_with(begin));
        if status.warnings.iter().any(is_warning) != self.is_warned_of {
            return Err(format!("is it warned of? {}", self.is_warned_of));
        }
        let goes_on = plan.announced.is_some_and(|it| it.left > 0);
        if goes_on != (self.announcing.is_some() && self.over.is_none()) {
            return Err(format!("announced: {:?}", plan.announced));
        }
        if plan.ended + plan.failed > plan.asked {
            return Err(format!(
                "more sessions have ended than were asked: {plan:?}"
            ));
        }
        let done = plan.steps.iter().filter(|step| step.done_at.is_some());
        let due = plan.steps.iter().skip(self.done).map(|step| step.due_at);
        let due: Vec<i64> = due.map(Time::as_micros).collect();
        let shift = if self.is_by_wall { 0 } else { offset(now) };
        let left = self.steps.iter().zip(&self.due).skip(self.done);
        let expected: Vec<i64> = left
            .map(|(step, due)| match step {
                PlanStep::End { .. } if self.is_by_wall => self.announced_end.max(due + shift),
                PlanStep::End { .. } => {
                    let by_boot = self.announced_end_boot.saturating_add(shift);
                    self.announced_end.max(by_boot).max(due + shift)
                }
                _ => due + shift,
            })
            .collect();
        let is_same = plan.id == self.id
            && plan.state == self.state(mode)
            && plan.outcome == self.over
            && plan.held == self.hold
            && done.count() == self.done
            && (self.over.is_some() || due == expected);
        if is_same {
            Ok(())
        } else {
            Err(format!(
                "the plan is {plan:?}\n    and should be {:?} {:?}, {} done, due {expected:?}, held {:?}",
                self.state(mode),
                self.over,
                self.done,
                self.hold
            ))
        }
    }

    /// Begins with the plan that a request started.
    pub(super) fn started(facts: &Facts, now: Timestamp) -> Option<Self> {
        let (id, start) = facts.started.as_ref()?;
        Some(Self::new(id.clone(), start, now))
    }
}
