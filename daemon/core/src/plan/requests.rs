//! The methods `StartPlan`, `CancelPlan`, `Announce` and `End`.

use std::time::Duration;

use soramode_protocol::announce::{Announce, MINUTES};
use soramode_protocol::end::{End, Ended};
use soramode_protocol::error::{Error, ErrorType};
use soramode_protocol::event::{EventKind, PlanCreated};
use soramode_protocol::id::{EndId, PlanId};
use soramode_protocol::mode::EXPIRES_IN_SECONDS_MAX;
use soramode_protocol::plan::{
    CancelPlan, ClosedBefore, END_PER_MINUTE_DEFAULT, EndRate, MAX_DELAY_SECONDS_DEFAULT,
    PlanCancelled, PlanOutcome, PlanStarted, PlanState, PlanStep, StartPlan,
};
use soramode_protocol::reply::{Answer, Reply};

use super::context::{NodeState, PlanCommand, PlanEffects, PlanView};
use super::end_request::EndReply;
use super::enqueue::NewAnnouncement;
use super::schedule::{seconds_from, time_of_end};
use super::stored::{EndProgress, Moment, PlanProgress, StoredEnd, StoredPlan};
use super::transitions::{PlanInput, Reaction, react};
use super::{ANNOUNCEMENTS_MAX, END_REQUESTS_MAX, END_SESSIONS_MAX, Finish, Plans};
use crate::effect::{Action, Record};
use crate::handles::ReplyHandle;
use crate::settings::SfuAdmission;

/// Time from which on the duration of an end is worth a warning.
const LONG_END: Duration = Duration::from_hours(1);

/// A plan that was started, or was there.
pub(crate) struct Started {
    pub(super) created: bool,
    pub(super) closed_before_by: Option<ClosedBefore>,
    pub(crate) warning: Option<String>,
}

impl Plans {
    /// Starts a plan, unless the same one is there. Its steps run with the next call of `advance`.
    pub(crate) fn start(
        &mut self,
        view: &PlanView<'_>,
        start: StartPlan,
        actor: &str,
        out: &mut PlanEffects<'_>,
    ) -> Result<Started, Error> {
        if self.is_repeated(view, &start) {
            self.enter_round(view, &start)?;
            return Ok(Started {
                created: false,
                closed_before_by: None,
                warning: self
                    .take_expected_end(&start, out)
                    .or_else(|| self.no_means(view)),
            });
        }
        if let Some(plan) = self.shown_running(&view.state)
            && !start.replace
        {
            return Err(Error::plan_exists(plan));
        }
        check_start(view, &start)?;
        check_reservation(view, &start)?;
        let id = PlanId::generate_short(out.random_bytes());
        let replaces = self.running_id().cloned();
        let closed_before_by = self.closed_before(view);
        self.finish(
            view,
            Finish {
                outcome: PlanOutcome::Replaced,
                why: None,
                actor: actor.to_owned(),
                reason: start.reason.clone(),
                replaced_by: Some(id.clone()),
            },
            out,
        );
        self.record(out);
        let reserved = view
            .reservations
            .warning(view.state.now, start.roll.as_ref());
        let warning = reserved.or_else(|| long_end(view, &start));
        let plan = new_plan(view, start, id, actor);
        let created = PlanCreated {
            plan_id: plan.id.clone(),
            actor: plan.owner.clone(),
            on_behalf_of: plan.on_behalf_of.clone(),
            reason: plan.reason.clone(),
            closes_at: plan.progress.closes.wall,
            sessions_end_at: plan.ends_at(view.state.now),
            steps: plan.steps.clone(),
            replaces: replaces.clone(),
        };
        out.commands
            .push(PlanCommand::Emit(EventKind::PlanCreated(Box::new(created))));
        out.records.push(Record::Plan(Box::new(plan.clone())));
        self.recorded = Some(plan.progress.clone());
        self.replaced = self.plan.replace(plan).filter(|_| replaces.is_some());
        Ok(Started {
            created: true,
            closed_before_by,
            warning,
        })
    }

    /// Returns whether the request asks for the plan that is there: it runs, or it is done and the node is still as it left it.
    fn is_repeated(&self, view: &PlanView<'_>, start: &StartPlan) -> bool {
        let is_same = |plan: &&StoredPlan| {
            plan.requested_at == start.at
                && plan.steps == start.steps
                && plan.reason == start.reason
                && plan.roll == start.roll
                && plan.keep_open == start.keep_open
                && plan.max_delay == max_delay(start)
        };
        let Some(plan) = self.plan.as_ref().filter(is_same) else {
            return false;
        };
        match &plan.progress.over {
            None => true,
            Some(over) => {
                over.outcome == PlanOutcome::Done
                    && view.mode.plan_id.as_ref() == Some(&plan.id)
                    && view.sessions.session_count() == 0
            }
        }
    }

    /// Takes over the expected end that the plan is given anew; a warning if it has closed the node already.
    fn take_expected_end(
        &mut self,
        start: &StartPlan,
        out: &mut PlanEffects<'_>,
    ) -> Option<String> {
        let plan = self.plan.as_mut()?;
        let end = start
            .expected_end_at
            .filter(|end| plan.expected_end_at != Some(*end))?;
        if plan.has_closed() || plan.progress.over.is_some() {
            return Some(
                "the expected end was not changed, because the plan has closed the node: soramode set MODE --until TIME"
                    .to_owned(),
            );
        }
        plan.expected_end_at = Some(end);
        out.records.push(Record::Plan(Box::new(plan.clone())));
        None
    }

    /// Returns a warning if the plan that runs has no means for one of its steps.
    fn no_means(&self, view: &PlanView<'_>) -> Option<String> {
        let (_, problem) = self.missing_means(&view.means)?;
        Some(problem.to_string())
    }

    /// Takes the plan over into a later round of its roll, in which it may close the node.
    fn enter_round(&mut self, view: &PlanView<'_>, start: &StartPlan) -> Result<(), Error> {
        let Some(plan) = self.plan.as_mut().filter(|plan| !plan.has_closed()) else {
            return Ok(());
        };
        if let (Some(roll), Some(round)) = (&start.roll, start.round) {
            view.reservations.check_close(view.state.now, roll, round)?;
            plan.progress.round = Some(round);
        }
        Ok(())
    }

    /// Returns the operator that closed the node, if it was no plan that runs.
    fn closed_before(&self, view: &PlanView<'_>) -> Option<ClosedBefore> {
        let mode = view.mode;
        let is_of_running = mode.plan_id.is_some() && mode.plan_id.as_ref() == self.running_id();
        (mode.mode.is_block() && !is_of_running).then(|| ClosedBefore {
            actor: mode.actor.clone(),
            reason: mode.reason.clone(),
            since: mode.since,
        })
    }

    /// The answer to a request that started a plan, after the steps that were due.
    pub(crate) fn started(&self, node: &NodeState, generation: u64, started: Started) -> Answer {
        let plan = self.shown_last(node);
        let plan = plan.ok_or_else(|| Error::new(ErrorType::Internal, "the plan is gone"))?;
        Ok(Reply::PlanStarted(Box::new(PlanStarted {
            plan,
            created: started.created,
            generation,
            closed_before_by: started.closed_before_by,
            warning: started.warning,
        })))
    }

    /// Cancels the plan that runs; without an id, empties the end queue as well.
    pub(crate) fn cancel(
        &mut self,
        view: &PlanView<'_>,
        cancel: CancelPlan,
        actor: &str,
        out: &mut PlanEffects<'_>,
    ) -> PlanCancelled {
        let is_selected = match (&cancel.id, self.running_id()) {
            (Some(id), Some(running)) => id == running,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        let of_other = self
            .shown_last(&view.state)
            .filter(|plan| cancel.id.as_ref() == Some(&plan.id));
        let state = self
            .running()
            .map_or(PlanState::Over, |plan| plan.state(view.mode.mode));
        let is_selected =
            is_selected && react(state, PlanInput::OperatorCancels) == Reaction::Cancel;
        let running = self.running_id().filter(|_| is_selected).cloned();
        let only = if cancel.id.is_some() {
            running.clone()
        } else {
            None
        };
        let stops_ends = cancel.id.is_none() || is_selected;
        let stopped = stops_ends
            .then(|| self.stop_ends(view, only.as_ref(), out))
            .flatten();
        if is_selected {
            let finish = Finish::cancelled(actor, None, cancel.reason);
            self.finish(view, finish, out);
        }
        let found = is_selected || stopped.is_some();
        PlanCancelled {
            found,
            plan: if is_selected {
                self.shown_last(&view.state)
            } else {
                of_other
            },
            sessions: stopped.map_or(0, |stopped| stopped.sessions),
            in_flight: stopped.map_or(0, |stopped| stopped.in_flight),
            durable: (found && view.state.is_storage_failed).then_some(false),
        }
    }

    /// Drops a plan that could not be written, and so was refused.
    pub(crate) fn retract_start(
        &mut self,
        view: &PlanView<'_>,
        ids: &[PlanId],
        out: &mut PlanEffects<'_>,
    ) {
        if self.running_id().is_some_and(|id| ids.contains(id)) {
            let why = "its start could not be written, and was refused".to_owned();
            self.finish(view, Finish::by_system(PlanOutcome::Failed, Some(why)), out);
        }
    }

    /// Begins an announcement for a client; it is answered when every channel was announced to.
    pub(crate) fn announce_for(
        &mut self,
        view: &PlanView<'_>,
        reply_to: ReplyHandle,
        announce: Announce,
        actor: &str,
        out: &mut PlanEffects<'_>,
    ) -> Result<(), Error> {
        if let Some(channel_id) = &announce.channel_id
            && view.sessions.find_session(channel_id).is_none()
        {
            return Err(Error::no_session(channel_id));
        }
        if self.announcements.len() >= ANNOUNCEMENTS_MAX {
            let message = format!("{ANNOUNCEMENTS_MAX} announcements are already under way");
            return Err(Error::new(ErrorType::InvalidRequest, message)
                .with_hint("Wait until some of them have reached every channel"));
        }
        let has_end = self
            .running()
            .is_some_and(|plan| !plan.is_ending() && plan.ends_at(view.state.now).is_some());
        if !has_end
            && announce
                .text
                .as_ref()
                .is_some_and(|text| text.contains(MINUTES))
        {
            return Err(Error::invalid_params(
                "text",
                "{minutes} needs a plan that ends sessions, and there is none",
            ));
        }
        view.means.check_announce()?;
        let new = NewAnnouncement {
            text: announce.text,
            data: announce.data,
            channel_ids: announce.channel_id.map(|it| vec![it]),
            cancelled: false,
            actor: actor.to_owned(),
            reply_to: Some(reply_to),
        };
        self.announce(view, new, out);
        out.actions.push(Action::Deferred(reply_to));
        Ok(())
    }

    /// Begins to end sessions for a client; it is answered when each was asked once.
    pub(crate) fn end_for(
        &mut self,
        view: &PlanView<'_>,
        reply_to: ReplyHandle,
        end: End,
        actor: &str,
        out: &mut PlanEffects<'_>,
    ) -> Result<Option<Reply>, Error> {
        if let Some(channel_id) = &end.channel_id
            && view.sessions.find_session(channel_id).is_none()
        {
            return Err(Error::no_session(channel_id));
        }
        let via = view.means.check_end()?;
        if view.sessions.session_count() == 0 {
            return Ok(Some(Reply::Ended(Ended {
                sessions: 0,
                via,
                failed: 0,
                problem: None,
                id: None,
            })));
        }
        let stored = StoredEnd {
            id: EndId::generate(out.random_bytes()),
            plan_id: None,
            actor: actor.to_owned(),
            reason: end.reason,
            channel_id: end.channel_id,
            rate: end.per_minute.unwrap_or(EndRate::Max),
            progress: EndProgress {
                cutoff: view.state.now.wall,
                next: Moment::now(view.state.now),
            },
        };
        if self.end_queue.joinable(&stored).is_none() {
            self.check_end_room(view, &stored)?;
        }
        self.request_end(view, stored, Some(EndReply { to: reply_to, via }), out);
        out.actions.push(Action::Deferred(reply_to));
        Ok(None)
    }

    /// Number of sessions left that are to be ended: by this request, or by any.
    pub(crate) fn awaited_sessions(&self, id: Option<&EndId>) -> u64 {
        self.end_queue.awaited_sessions(id)
    }

    /// Refuses a request to end sessions if too many are there, or if they name too many sessions together.
    fn check_end_room(&self, view: &PlanView<'_>, new: &StoredEnd) -> Result<(), Error> {
        let named = self.end_queue.requested_sessions();
        let sessions = usize::try_from(view.sessions.session_count()).unwrap_or(usize::MAX);
        let is_too_large = new.channel_id.is_none()
            && named > 0
            && named.saturating_add(sessions) > END_SESSIONS_MAX;
        let message = if self.end_queue.len() >= END_REQUESTS_MAX {
            format!("{END_REQUESTS_MAX} requests to end sessions are already there")
        } else if is_too_large {
            format!(
                "requests to end {named} sessions are already there, and {sessions} more would be \
                 more than {END_SESSIONS_MAX}"
            )
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorType::InvalidRequest, message)
            .with_hint("Wait until some of them are done, or stop them: soramode plan cancel"))
    }
}

/// Refuses a roll without the right to close the node; and a plan of no roll on a node that is reserved, unless it replaces.
fn check_reservation(view: &PlanView<'_>, start: &StartPlan) -> Result<(), Error> {
    match (&start.roll, start.round) {
        (Some(roll), Some(round)) => view.reservations.check_close(view.state.now, roll, round),
        (_, _) if start.replace => Ok(()),
        (_, _) => view.reservations.check_unreserved(view.state.now),
    }
}

fn ends(start: &StartPlan) -> bool {
    matches!(start.steps.last(), Some(PlanStep::End { .. }))
}

fn max_delay(start: &StartPlan) -> Duration {
    Duration::from_secs(start.max_delay_seconds.unwrap_or(MAX_DELAY_SECONDS_DEFAULT))
}

fn check_start(view: &PlanView<'_>, start: &StartPlan) -> Result<(), Error> {
    if ends(start) && view.admission == SfuAdmission::Shadow {
        return Err(Error::plan_in_shadow());
    }
    let mut steps = start.steps.iter();
    steps.try_for_each(|step| view.means.check(step))?;
    match (start.keep_open, view.open_others()) {
        (Some(_), None) => {
            return Err(Error::invalid_params(
                "keep_open",
                "this node is standalone: it has no other nodes",
            ));
        }
        (Some(keep_open), Some(open)) if open < keep_open && start.at.is_none() => {
            return Err(Error::plan_keeps_too_few_open(open, keep_open));
        }
        (None | Some(_), _) => {}
    }
    let Some(at) = start.at else { return Ok(()) };
    let first = start.steps.first().map_or(0, PlanStep::at_seconds);
    let starts = seconds_from(at, first);
    let now = view.state.now.wall;
    if now.since(starts) > max_delay(start) {
        return Err(Error::invalid_params(
            "at",
            format_args!("got {at}: its first step was due at {starts}, and it is {now}"),
        ));
    }
    if at.since(now) > Duration::from_secs(EXPIRES_IN_SECONDS_MAX) {
        return Err(Error::invalid_params(
            "at",
            format_args!("got {at}, takes a time in the next 366 days"),
        ));
    }
    Ok(())
}

fn new_plan(view: &PlanView<'_>, start: StartPlan, id: PlanId, actor: &str) -> StoredPlan {
    let first = start.steps.first().map_or(0, PlanStep::at_seconds);
    let now = view.state.now;
    let at = start.at.unwrap_or_else(|| seconds_from(now.wall, -first));
    let closes = Moment::of_wall(at, now);
    let max_delay = max_delay(&start);
    StoredPlan {
        id,
        owner: actor.to_owned(),
        on_behalf_of: start.on_behalf_of,
        reason: start.reason,
        roll: start.roll,
        created_at: view.state.now.wall,
        requested_at: start.at,
        expected_end_at: start.expected_end_at,
        steps: start.steps,
        max_delay,
        keep_open: start.keep_open,
        progress: PlanProgress {
            closes,
            round: start.round,
            done: Vec::new(),
            delay: Duration::ZERO,
            late: Duration::ZERO,
            announced: None,
            announced_end: None,
            asked: 0,
            ended: 0,
            over: None,
        },
    }
}

/// Returns a warning if the end would take long at its rate.
fn long_end(view: &PlanView<'_>, start: &StartPlan) -> Option<String> {
    let PlanStep::End { per_minute, .. } = start.steps.last()? else {
        return None;
    };
    let rate = per_minute.unwrap_or(EndRate::PerMinute(END_PER_MINUTE_DEFAULT));
    let sessions = view.sessions.session_count();
    let time = time_of_end(sessions, rate);
    (time >= LONG_END).then(|| {
        let minutes = time.as_secs().div_ceil(60);
        let (hours, minutes) = (minutes / 60, minutes % 60);
        format!("at {rate} the end of {sessions} sessions takes {hours} h {minutes} min")
    })
}
