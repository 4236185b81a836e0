//! The queue of announcements: each goes to the sessions there were when it began, the oldest first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use soramode_protocol::announce::{
    ANNOUNCE_PROBLEMS_MAX, AnnounceProblem, Announced, AnnouncedBy, AnnouncedByApi, Notice,
    NoticeKind,
};
use soramode_protocol::id::PlanId;
use soramode_protocol::reply::Reply;
use soramode_protocol::text::shorten;
use soramode_protocol::time::Time;

use super::calls::{
    CallId, CallLimiter, RETRY_PAUSE_MIN, SfuCall, SfuOutcome, SfuReach, SfuRequest, longer,
};
use super::context::{PlanEffects, PlanView};
use super::finished_announcement::FinishedAnnouncement;
use super::means::Means;
use super::renewal::Renewal;
use super::stored::{AnnouncementProgress, StoredAnnouncement};
use crate::count::count;
use crate::effect::{Action, Record};
use crate::handles::ReplyHandle;
use crate::handles::SessionSlot;

/// Number of times that a channel is tried before it counts as failed.
const TRIES_MAX: u32 = 3;

/// Consecutive calls without an answer after which a manual announcement gives up.
const OUTAGE_CALLS_MAX: u32 = 3;

/// Longest problem that is kept, in bytes.
const PROBLEM_BYTES_MAX: usize = 400;

/// Announcements that have not reached every channel.
#[derive(Default)]
pub(crate) struct Announcements {
    running: BTreeMap<u64, Announcement>,
    calls: BTreeMap<CallId, (u64, SessionSlot)>,
    limiter: CallLimiter,
    /// Consecutive calls that Sora's API did not answer.
    unanswered: u32,
    last_number: u64,
}

struct Announcement {
    stored: StoredAnnouncement,
    recorded: AnnouncementProgress,
    notice: Arc<Notice>,
    /// Sessions that are left, with the time by which they stand in the order.
    left: BTreeMap<SessionSlot, Time>,
    by_age: BTreeSet<(Time, SessionSlot)>,
    /// Sessions to announce to, oldest first.
    waiting: BTreeSet<(Time, SessionSlot)>,
    /// Sessions with a pending connection: announced to when that is live or has ended, and at the latest when they are postponed to.
    pending: BTreeSet<SessionSlot>,
    /// Sessions of these of which a pending connection is live or has ended since they were looked at.
    changed: BTreeSet<SessionSlot>,
    /// Sessions that were postponed: because of a pending connection, or because the SFU refused.
    postponed: BTreeMap<SessionSlot, Postponed>,
    /// Sessions that are postponed at present, by time.
    by_time: BTreeSet<(Duration, SessionSlot)>,
    problems: Vec<AnnounceProblem>,
    /// Problem of the last call that failed.
    last_problem: Option<String>,
    is_by_api: bool,
    reply_to: Option<ReplyHandle>,
}

struct Postponed {
    /// Number of tries so far.
    tries: u32,
    /// Pause after the next failure.
    pause: Duration,
    /// Time to announce; `None` once that has come.
    until: Option<Duration>,
}

impl Announcements {
    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty() && self.calls.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.running.len()
    }

    /// Begins an announcement to these sessions, which stand in the order of their age.
    pub(crate) fn begin(
        &mut self,
        mut stored: StoredAnnouncement,
        sessions: Vec<(Time, SessionSlot)>,
        reply_to: Option<ReplyHandle>,
    ) {
        let notice = Arc::new(Notice {
            kind: NoticeKind::Maintenance,
            id: stored.id.clone(),
            text: stored.text.clone(),
            sessions_end_at: stored.sessions_end_at,
            data: stored.data.clone(),
            cancelled: stored.cancelled,
        });
        if stored.progress.channels == 0 {
            stored.progress.channels = count(sessions.len());
        }
        self.last_number += 1;
        let running = Announcement {
            recorded: stored.progress,
            notice,
            left: sessions.iter().map(|&(age, slot)| (slot, age)).collect(),
            by_age: sessions.iter().copied().collect(),
            waiting: sessions.into_iter().collect(),
            pending: BTreeSet::new(),
            changed: BTreeSet::new(),
            postponed: BTreeMap::new(),
            by_time: BTreeSet::new(),
            problems: Vec::new(),
            last_problem: None,
            is_by_api: false,
            reply_to,
            stored,
        };
        self.running.insert(self.last_number, running);
    }

    /// Returns the progress of the latest announcement of this plan to all channels, if it goes on.
    pub(crate) fn of_plan(&self, plan_id: &PlanId) -> Option<&AnnouncementProgress> {
        self.find(plan_id).map(|it| &it.stored.progress)
    }

    /// Number of channels that the latest announcement of this plan still goes to.
    pub(crate) fn left(&self, plan_id: &PlanId) -> u64 {
        self.find(plan_id).map_or(0, |it| count(it.left.len()))
    }

    /// Returns the problem of the last call that failed for this announcement.
    pub(crate) fn last_problem(&self, plan_id: &PlanId) -> Option<&str> {
        self.find(plan_id)?.last_problem.as_deref()
    }

    fn find(&self, plan_id: &PlanId) -> Option<&Announcement> {
        let mut latest = self.running.values().rev();
        latest.find(|it| it.stored.is_of(plan_id) && it.stored.channel_ids.is_none())
    }

    /// Stops the announcements of this plan.
    pub(crate) fn stop(&mut self, plan_id: &PlanId, out: &mut PlanEffects<'_>) {
        let stopped = self
            .running
            .extract_if(.., |_, it| it.stored.is_of(plan_id));
        for (_, it) in stopped {
            out.records
                .push(Record::AnnouncementFinished(it.stored.id.clone()));
        }
    }

    /// Takes note that a session has ended.
    pub(crate) fn on_session_ended(&mut self, slot: SessionSlot) {
        for running in self.running.values_mut() {
            running.drop_session(slot);
        }
    }

    /// Takes note that a pending connection of a session is live or has ended.
    pub(crate) fn on_pending_changed(&mut self, slot: SessionSlot) {
        for running in self.running.values_mut() {
            if running.pending.contains(&slot) {
                running.changed.insert(slot);
            }
        }
    }

    /// Returns whether the announcement of this plan to all channels names an end that is past.
    pub(crate) fn names_past_end(&self, plan_id: &PlanId, now: Time) -> bool {
        let mut running = self.running.values();
        running.any(|it| it.names_past_end(plan_id, now))
    }

    /// Makes the calls that may be made now. Returns whether one named the new end.
    pub(crate) fn make_calls(
        &mut self,
        view: &PlanView<'_>,
        renewal: Option<&Renewal>,
        out: &mut PlanEffects<'_>,
    ) -> bool {
        let mut is_renewed = false;
        for (&number, running) in &mut self.running {
            if running.is_held(view) {
                continue;
            }
            running.requeue_ready(view);
            while self.limiter.may_call(view.state.now.boot) {
                let Some(slot) = running.next(view, out) else {
                    break;
                };
                let Some(session) = view.sessions.view_session(slot) else {
                    out.bug("a session to announce to is not in the table");
                    running.drop_session(slot);
                    continue;
                };
                if let Some(renewal) = renewal
                    && running.names_past_end(&renewal.plan_id, view.state.now.wall)
                {
                    running.renew(renewal);
                    is_renewed = true;
                }
                let id = out.call_id();
                out.actions.push(Action::Sfu(Box::new(SfuCall {
                    id,
                    channel_id: session.channel_id,
                    session_id: session.session_id,
                    request: SfuRequest::Push(Arc::clone(&running.notice)),
                })));
                self.calls.insert(id, (number, slot));
                self.limiter.on_call();
            }
        }
        is_renewed
    }

    /// Takes in the outcome of a call. Returns false if the call is none of these.
    pub(crate) fn on_outcome(
        &mut self,
        view: &PlanView<'_>,
        id: CallId,
        outcome: &SfuOutcome,
    ) -> bool {
        let Some((number, slot)) = self.calls.remove(&id) else {
            return false;
        };
        let reached = if outcome.is_unreachable() {
            self.unanswered += 1;
            SfuReach::Unreachable
        } else {
            self.unanswered = 0;
            SfuReach::Reachable
        };
        self.limiter.on_outcome(view.state.now.boot, reached);
        let is_outage = self.unanswered >= OUTAGE_CALLS_MAX;
        if let Some(running) = self.running.get_mut(&number) {
            running.on_outcome(view, slot, outcome, is_outage);
        }
        true
    }

    /// Takes back a call that was never made; false if it is none of these.
    pub(crate) fn retract_call(&mut self, id: CallId) -> bool {
        let Some((number, slot)) = self.calls.remove(&id) else {
            return false;
        };
        self.limiter.on_retracted();
        if let Some(running) = self.running.get_mut(&number) {
            running.requeue(slot);
        }
        true
    }

    /// Takes the announcements that are over, and answers their clients; stores how far the others are.
    pub(crate) fn finish(
        &mut self,
        means: &Means,
        out: &mut PlanEffects<'_>,
    ) -> Vec<FinishedAnnouncement> {
        let mut finished = Vec::new();
        for (_, running) in self.running.extract_if(.., |_, it| it.left.is_empty()) {
            out.records
                .push(Record::AnnouncementFinished(running.stored.id.clone()));
            finished.push(running.finish(means, out));
        }
        for running in self.running.values_mut() {
            running.record(out);
        }
        finished
    }

    /// Returns when something is to be done although nothing happens.
    pub(crate) fn next_deadline(&self, view: &PlanView<'_>) -> Option<Duration> {
        let now = view.state.now.boot;
        let running = self.running.values().filter(|it| !it.is_held(view));
        let work = running.filter_map(|it| it.next_deadline(now)).min()?;
        self.limiter.may_call_at(now).map(|at| at.max(work))
    }
}

impl Announcement {
    /// Returns whether it waits for means: a plan's does, for its subscribers come back after a restart.
    fn is_held(&self, view: &PlanView<'_>) -> bool {
        self.stored.plan_id.is_some() && view.means.check_announce().is_err()
    }

    fn names_past_end(&self, plan_id: &PlanId, now: Time) -> bool {
        let is_past = self.notice.sessions_end_at.is_some_and(|end| end <= now);
        is_past && self.stored.is_of(plan_id) && self.stored.channel_ids.is_none()
    }

    /// Makes the notice anew, with the same id.
    fn renew(&mut self, renewal: &Renewal) {
        let notice = Arc::make_mut(&mut self.notice);
        notice.sessions_end_at = Some(renewal.sessions_end_at);
        notice.text.clone_from(&renewal.text);
    }

    fn drop_session(&mut self, slot: SessionSlot) {
        if let Some(age) = self.left.remove(&slot) {
            self.by_age.remove(&(age, slot));
            self.take_postponed(slot);
            self.postponed.remove(&slot);
        }
    }

    /// Puts a session among those to announce to.
    fn requeue(&mut self, slot: SessionSlot) {
        if let Some(age) = self.left.get(&slot) {
            self.waiting.insert((*age, slot));
        }
    }

    fn postpone(&mut self, slot: SessionSlot, (tries, pause): (u32, Duration), until: Duration) {
        self.by_time.insert((until, slot));
        let postponed = Postponed {
            tries,
            pause,
            until: Some(until),
        };
        self.postponed.insert(slot, postponed);
    }

    /// Takes a session from those that are postponed at present.
    fn take_postponed(&mut self, slot: SessionSlot) {
        self.pending.remove(&slot);
        self.changed.remove(&slot);
        let postponed = self.postponed.get_mut(&slot);
        if let Some(until) = postponed.and_then(|it| it.until.take()) {
            self.by_time.remove(&(until, slot));
        }
    }

    /// Moves sessions that need not wait any longer to those to announce to.
    fn requeue_ready(&mut self, view: &PlanView<'_>) {
        let is_ready = |slot: &SessionSlot| {
            let row = view.sessions.session(*slot);
            row.is_none_or(|row| row.pending == 0)
        };
        let due = (self.by_time.iter())
            .take_while(|(until, _)| *until <= view.state.now.boot)
            .map(|(_, slot)| *slot);
        let ready = std::mem::take(&mut self.changed)
            .into_iter()
            .filter(is_ready);
        for slot in ready.chain(due).collect::<Vec<_>>() {
            self.take_postponed(slot);
            self.requeue(slot);
        }
    }

    /// Takes the next session to announce to.
    fn next(&mut self, view: &PlanView<'_>, out: &mut PlanEffects<'_>) -> Option<SessionSlot> {
        while let Some((_, slot)) = self.waiting.pop_first() {
            if !self.left.contains_key(&slot) {
                continue;
            }
            let Some(row) = view.sessions.session(slot) else {
                out.bug("a session that waits for an announcement is not in the table");
                self.drop_session(slot);
                continue;
            };
            let was_postponed = self.postponed.contains_key(&slot);
            if row.pending > 0 && !was_postponed {
                self.pending.insert(slot);
                let until = view.state.now.boot + view.pending_timeout;
                self.postpone(slot, (0, RETRY_PAUSE_MIN), until);
            } else if row.live == 0 {
                // No client is left to notify.
                self.drop_session(slot);
            } else {
                return Some(slot);
            }
        }
        None
    }

    fn on_outcome(
        &mut self,
        view: &PlanView<'_>,
        slot: SessionSlot,
        outcome: &SfuOutcome,
        is_outage: bool,
    ) {
        let progress = &mut self.stored.progress;
        progress.subscribers = progress.subscribers.max(outcome.subscribers);
        self.is_by_api |= outcome.api.is_some();
        if !self.left.contains_key(&slot) {
            return;
        }
        let Some(problem) = outcome.problem().filter(|_| outcome.api.is_some()) else {
            progress.told += u64::from(!outcome.has_no_recipient());
            progress.unreached += u64::from(outcome.has_no_recipient());
            return self.drop_session(slot);
        };
        self.last_problem = Some(shorten(problem, PROBLEM_BYTES_MAX));
        if outcome.is_unreachable() {
            self.requeue(slot);
            if is_outage && self.stored.plan_id.is_none() {
                self.give_up(view, problem);
            }
            return;
        }
        let before = self.postponed.get(&slot);
        let (tries, pause) = before.map_or((0, RETRY_PAUSE_MIN), |it| (it.tries, it.pause));
        if tries + 1 >= TRIES_MAX {
            return self.fail(view, slot, problem);
        }
        self.postpone(
            slot,
            (tries + 1, longer(pause)),
            view.state.now.boot + pause,
        );
    }

    fn fail(&mut self, view: &PlanView<'_>, slot: SessionSlot, problem: &str) {
        self.stored.progress.failed += 1;
        if self.problems.len() < ANNOUNCE_PROBLEMS_MAX
            && let Some(session) = view.sessions.session(slot)
        {
            self.problems.push(AnnounceProblem {
                channel_id: session.channel_id.clone(),
                problem: shorten(problem, PROBLEM_BYTES_MAX),
            });
        }
        self.drop_session(slot);
    }

    fn give_up(&mut self, view: &PlanView<'_>, problem: &str) {
        let left: Vec<SessionSlot> = self.by_age.iter().map(|&(_, slot)| slot).collect();
        for slot in left {
            self.fail(view, slot, problem);
        }
    }

    fn finish(self, means: &Means, out: &mut PlanEffects<'_>) -> FinishedAnnouncement {
        let progress = self.stored.progress;
        let webhooks = self.stored.webhooks;
        let has_reached = progress.failed + progress.unreached == 0
            || progress.told > 0
            || progress.had_told
            || progress.subscribers > 0
            || webhooks > 0;
        if let Some(reply_to) = self.reply_to {
            let answer = if has_reached || self.is_by_api {
                Ok(Reply::Announced(Announced {
                    id: self.stored.id.clone(),
                    channels: progress.channels,
                    by: AnnouncedBy {
                        sora_api: self.is_by_api.then_some(AnnouncedByApi {
                            told: progress.told,
                            failed: progress.failed,
                        }),
                        subscribers: progress.subscribers,
                        webhooks,
                    },
                    problems: self.problems,
                }))
            } else {
                Err(means.cannot_announce())
            };
            out.actions.push(Action::Answer(reply_to, answer));
        }
        FinishedAnnouncement {
            plan_id: self.stored.plan_id,
            channel_ids: self.stored.channel_ids,
            cancelled: self.stored.cancelled,
            progress,
            last_problem: self.last_problem,
            has_reached,
        }
    }

    /// Stores how far it is, if that changed.
    fn record(&mut self, out: &mut PlanEffects<'_>) {
        if let Some(&(age, _)) = self.by_age.first() {
            self.stored.progress.cursor = age;
        }
        if self.recorded != self.stored.progress {
            self.recorded = self.stored.progress;
            out.records.push(Record::AnnouncementProgress {
                id: self.stored.id.clone(),
                progress: self.stored.progress,
            });
        }
    }

    fn next_deadline(&self, now: Duration) -> Option<Duration> {
        let waiting = (!self.waiting.is_empty()).then_some(now);
        waiting.or_else(|| Some(self.by_time.first()?.0))
    }
}
