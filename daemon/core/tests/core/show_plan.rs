//! Plans, announcements and ends as lines of text, and what else names plans.

use soramode_core::effect::{Record, WaitProgress};
use soramode_core::plan::calls::{SfuCall, SfuRequest};
use soramode_core::plan::stored::{Moment, PlanProgress};
use soramode_protocol::announce::Announced;
use soramode_protocol::decision::Explanation;
use soramode_protocol::end::Ended;
use soramode_protocol::event::{EndRequested, EventKind, MaintenanceAnnounced};
use soramode_protocol::mode::{Mode, ModeChanged};
use soramode_protocol::plan::{Plan, PlanCancelled, PlanStarted, PlanStep};
use soramode_protocol::reply::Reply;
use soramode_protocol::time::Time;

use crate::show::{Detail, Show, tail};
use crate::show_status::pending_words;

impl Show {
    /// Plans, announcements and requests to end sessions have names in the order in which they are shown.
    fn numbered(&mut self, family: &str, id: &str) -> String {
        self.name(family, id)
    }

    fn moment(&self, moment: Moment) -> String {
        self.time(Time::from_micros(moment.wall.as_micros()))
    }

    fn step(step: &PlanStep) -> String {
        let more = match step {
            PlanStep::Mode { mode, .. } => {
                format!(" {}", Mode::from(*mode))
            }
            PlanStep::Announce { text, data, .. } => {
                let data = data.as_ref().map(|data| data.0.to_string());
                format!("{}{}", tail(" ", text.as_ref()), tail(" ", data.as_ref()))
            }
            PlanStep::End { per_minute, .. } => tail(" ", per_minute.as_ref()),
            PlanStep::Unready { .. } | PlanStep::Unknown => String::new(),
        };
        format!("{}{more} at {}", step.action(), step.at_seconds())
    }

    fn progress_of_plan(&self, it: &PlanProgress) -> String {
        let over = it
            .over
            .as_ref()
            .map_or_else(String::new, |over| format!(", over: {}", over.outcome));
        let (late, announced) = (
            it.late.as_secs_f64(),
            it.announced.map_or_else(String::new, |it| {
                format!(
                    ", told {}, failed {} of {}",
                    it.told, it.failed, it.channels
                )
            }),
        );
        format!(
            "closes {}, {} steps done, delayed by {} s (late {late} s){announced}, asked {}, ended {}{over}",
            self.moment(it.closes),
            it.done.len(),
            it.delay.as_secs_f64(),
            it.asked,
            it.ended
        )
    }

    pub(crate) fn record_of_plan(&mut self, record: &Record) -> String {
        match record {
            Record::Plan(plan) => {
                let id = self.numbered("plan", plan.id.as_str());
                format!("kept: {id}: {}", self.progress_of_plan(&plan.progress))
            }
            Record::PlanProgress(it) => format!("kept: plan: {}", self.progress_of_plan(it)),
            Record::PlanCounts(it) => {
                format!("kept: counts of the plan: {}", self.progress_of_plan(it))
            }
            Record::Announcement(it) => {
                let id = self.numbered("notice", it.id.as_str());
                format!("kept: {id} to {} channels", it.progress.channels)
            }
            Record::AnnouncementProgress { id, progress } => {
                let id = self.numbered("notice", id.as_str());
                format!(
                    "kept: {id} told {}, failed {}, from {}",
                    progress.told,
                    progress.failed,
                    self.time(progress.cursor)
                )
            }
            Record::AnnouncementFinished(id) => {
                format!("kept: {} is over", self.numbered("notice", id.as_str()))
            }
            Record::End(it) => {
                let id = self.numbered("end", it.id.as_str());
                format!("kept: {id} from {}", self.moment(it.progress.next))
            }
            Record::EndProgress { id, progress } => {
                let id = self.numbered("end", id.as_str());
                format!("kept: {id} goes on {}", self.moment(progress.next))
            }
            Record::EndFinished { id, .. } => {
                format!("kept: {} is over", self.numbered("end", id.as_str()))
            }
            other => panic!("no record of a plan: {other:?}"),
        }
    }

    pub(crate) fn event_of_plan(&mut self, kind: &EventKind) -> String {
        match kind {
            EventKind::PlanCreated(it) => {
                let id = self.numbered("plan", it.plan_id.as_str());
                let steps: Vec<String> = it.steps.iter().map(Self::step).collect();
                let replaces = it
                    .replaces
                    .as_ref()
                    .map(|id| self.numbered("plan", id.as_str()));
                let ends = it.sessions_end_at.map(|at| self.time(at));
                format!(
                    " {id} by {}{}{}: {}; closes {}{}{}",
                    it.actor,
                    tail(" for ", it.on_behalf_of.as_ref()),
                    tail(", ", it.reason.as_ref()),
                    steps.join(", "),
                    self.time(it.closes_at),
                    tail(", ends sessions ", ends.as_ref()),
                    tail(", replaces ", replaces.as_ref())
                )
            }
            EventKind::PlanStep(it) => {
                let late = (it.late_seconds > 0).then_some(it.late_seconds);
                format!(
                    " {}, step {}: {}{}",
                    self.numbered("plan", it.plan_id.as_str()),
                    it.step,
                    Self::step(&it.done),
                    tail(", late by s ", late.as_ref())
                )
            }
            EventKind::PlanStalled { plan_id, cause } => {
                format!(" {}: {cause}", self.numbered("plan", plan_id.as_str()))
            }
            EventKind::PlanOver(it) => {
                let by = it
                    .replaced_by
                    .as_ref()
                    .map(|id| self.numbered("plan", id.as_str()));
                format!(
                    " {}: {}{} (by {}{}){}",
                    self.numbered("plan", it.plan_id.as_str()),
                    it.outcome,
                    tail(", ", it.why.as_ref()),
                    it.actor,
                    tail(", ", it.reason.as_ref()),
                    tail(", replaced by ", by.as_ref())
                )
            }
            EventKind::MaintenanceAnnounced(it) => self.announced_event(it),
            EventKind::EndRequested(it) => self.end_requested(it),
            other => panic!("no event of a plan: {other:?}"),
        }
    }

    fn announced_event(&mut self, it: &MaintenanceAnnounced) -> String {
        let id = self.numbered("notice", it.announcement_id.as_str());
        let ends = it.sessions_end_at.map(|at| self.time(at));
        let cancelled = if it.cancelled { ", cancelled" } else { "" };
        let names: Option<Vec<_>> = it.channel_ids.as_ref().map(|channels| {
            let names = channels.iter().map(ToString::to_string);
            names.collect()
        });
        let names = names.map(|names| names.join(", "));
        format!(
            " {id} to {} channels{}{}{}{cancelled}",
            it.channels,
            tail(" ", names.as_ref()),
            tail(": ", it.text.as_ref()),
            tail(", sessions end ", ends.as_ref())
        )
    }

    fn end_requested(&mut self, it: &EndRequested) -> String {
        let id = self.numbered("end", it.end_id.as_str());
        format!(
            " {id} of {} sessions by {}{}{}",
            it.sessions,
            it.actor,
            tail(", ", it.reason.as_ref()),
            tail(" on ", it.channel_id.as_ref())
        )
    }

    pub(crate) fn call(&mut self, call: &SfuCall) -> String {
        let session = self.session_id(&call.channel_id, &call.session_id);
        match &call.request {
            SfuRequest::Push(notice) => {
                let id = self.numbered("notice", notice.id.as_str());
                let ends = notice.sessions_end_at.map(|at| self.time(at));
                let cancelled = if notice.cancelled { ", cancelled" } else { "" };
                format!(
                    "-> sfu {}: push {id} to {session}{}{}{cancelled}",
                    call.id,
                    tail(": ", notice.text.as_ref()),
                    tail(", sessions end ", ends.as_ref())
                )
            }
            SfuRequest::Disconnect { plan_id, reason } => {
                let plan = plan_id
                    .as_ref()
                    .map(|id| self.numbered("plan", id.as_str()));
                format!(
                    "-> sfu {}: end {session}{}{}",
                    call.id,
                    tail(" for ", plan.as_ref()),
                    tail(", ", reason.as_ref())
                )
            }
        }
    }

    pub(crate) fn progress(&mut self, progress: &WaitProgress) -> String {
        let WaitProgress {
            sessions,
            connections,
            pending,
            oldest_session,
            ended,
            awaited,
            plan,
            stalled,
            in_force: _,
        } = progress;
        let oldest = if self.detail == Detail::InWords {
            self.oldest(oldest_session.as_ref())
        } else {
            String::new()
        };
        let plan = plan.as_ref().map(|plan| self.plan(plan));
        let stalled = stalled.map(|stalled| stalled.cause);
        let pending = pending_words(*pending);
        let awaited = tail(", awaited: ", awaited.as_ref());
        format!(
            "progress: {sessions} sessions, {connections} connections{pending}{oldest}, {ended} ended{awaited}{}{}",
            tail("; stalled: ", stalled.as_ref()),
            tail("; ", plan.as_ref())
        )
    }

    pub(crate) fn mode_changed(&mut self, it: &ModeChanged) -> String {
        let ModeChanged {
            mode,
            previous_mode,
            changed,
            generation,
            sessions,
            connections,
            expires_at,
            expected_end_at,
            warning,
            published,
            in_force,
            plan_id,
            plan_cancelled,
            ends_stopped,
        } = it;
        let plan = plan_id.as_ref().map(|id| self.name("plan", id.as_str()));
        let cancelled = plan_cancelled
            .as_ref()
            .map(|id| self.name("plan", id.as_str()));
        let stopped =
            ends_stopped.map(|it| format!("{} sessions, {} in flight", it.sessions, it.in_flight));
        // Warnings name plans by their ids.
        let warning = warning.as_ref().map(|_| "with a warning");
        let head = if *changed {
            format!("changed {previous_mode} -> {mode}")
        } else {
            format!("unchanged {mode}")
        };
        format!(
            "{head}, generation {generation}, {sessions} sessions, {connections} connections{}{}{}{}{}{}{}{}",
            self.until(*expires_at),
            self.expected_end(*expected_end_at),
            tail(", published ", published.as_ref()),
            in_force.map_or(String::new(), |it| format!(", in force: {it:?}")),
            tail(", there is ", plan.as_ref()),
            tail(", cancelled ", cancelled.as_ref()),
            tail(", not asked to end ", stopped.as_ref()),
            tail("; ", warning.as_ref())
        )
    }

    pub(crate) fn plan(&mut self, plan: &Plan) -> String {
        let id = self.numbered("plan", plan.id.as_str());
        let next = plan
            .next_step()
            .map(|next| format!("{} {}", Self::step(&next.step), self.time(next.due_at)));
        let announced = plan.announced.map(|it| {
            let left = (it.left > 0).then_some(it.left);
            let left = tail(", left ", left.as_ref());
            format!("{} of {}, failed {}{left}", it.told, it.channels, it.failed)
        });
        let ends = (plan.asked > 0 || plan.ended > 0).then(|| {
            format!(
                "{}, ended {}, failed {}",
                plan.asked, plan.ended, plan.failed
            )
        });
        let delay = (plan.delay_seconds > 0).then_some(plan.delay_seconds);
        format!(
            "{id} is {}{}{}, closes {}{}{}{}{}{}{}",
            plan.state,
            tail(": ", plan.outcome.as_ref()),
            tail(", ", plan.why.as_ref()),
            self.time(plan.at),
            tail(", next ", next.as_ref()),
            tail(", delayed by s ", delay.as_ref()),
            tail(", held: ", plan.held.as_ref()),
            tail(", told ", announced.as_ref()),
            tail(", asked ", ends.as_ref()),
            tail(", ", plan.problem.as_ref())
        )
    }

    pub(crate) fn reply_of_plan(&mut self, reply: &Reply) -> String {
        match reply {
            Reply::PlanStarted(it) => self.plan_started(it),
            Reply::PlanFound(it) => match &it.plan {
                Some(plan) => self.plan(plan),
                None => "no plan".to_owned(),
            },
            Reply::PlanCancelled(it) => self.plan_cancelled(it),
            Reply::Announced(it) => self.announced(it),
            Reply::Ended(it) => ended(it),
            other => panic!("no answer about plans: {other:?}"),
        }
    }

    fn plan_started(&mut self, it: &PlanStarted) -> String {
        let before = it
            .closed_before_by
            .as_ref()
            .map(|before| format!("{}{}", before.actor, tail(", ", before.reason.as_ref())));
        format!(
            "{} {}; generation {}{}{}",
            if it.created { "started" } else { "there is" },
            self.plan(&it.plan),
            it.generation,
            tail(", closed before by ", before.as_ref()),
            tail("; ", it.warning.as_ref())
        )
    }

    fn plan_cancelled(&mut self, it: &PlanCancelled) -> String {
        let plan = it.plan.as_ref().map(|plan| self.plan(plan));
        format!(
            "{}{}, {} sessions not asked, {} in flight{}",
            if it.found {
                "cancelled"
            } else {
                "nothing to cancel"
            },
            tail(": ", plan.as_ref()),
            it.sessions,
            it.in_flight,
            if it.durable.is_some() {
                ", not durable"
            } else {
                ""
            }
        )
    }

    fn announced(&mut self, it: &Announced) -> String {
        let id = self.numbered("notice", it.id.as_str());
        let api = it
            .by
            .sora_api
            .map(|api| format!("{}, failed {}", api.told, api.failed));
        let problems: Vec<String> = it
            .problems
            .iter()
            .map(|problem| format!("{}: {}", problem.channel_id, problem.problem))
            .collect();
        format!(
            "{id} to {} channels{}, {} subscribers, {} webhooks{}",
            it.channels,
            tail(", by Sora's API told ", api.as_ref()),
            it.by.subscribers,
            it.by.webhooks,
            tail("; ", Some(&problems.join(", ")).filter(|it| !it.is_empty()))
        )
    }
}

fn ended(it: &Ended) -> String {
    let failed = (it.failed > 0).then_some(it.failed);
    format!(
        "asked {} sessions by {:?}{}{}",
        it.sessions,
        it.via,
        tail(", failed ", failed.as_ref()),
        tail(": ", it.problem.as_ref())
    )
}

/// Describes the plan, ends and grace of an explanation.
pub(crate) fn notes(it: &Explanation) -> impl Iterator<Item = String> {
    let unready = it.unready_for.map(Mode::from);
    let unready = unready.map(|mode| format!("  unready for {mode}"));
    let ending = it
        .is_ending
        .then(|| "  the session is being ended".to_owned());
    let grace = it
        .grace_ends_in_ms
        .map(|millis| format!("  the grace ends in {millis} ms"));
    [unready, ending, grace].into_iter().flatten()
}
