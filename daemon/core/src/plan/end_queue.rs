//! The end queue: sessions that the SFU is asked to end, each request at its rate, the oldest session first.

mod in_flight;
mod join;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use soramode_protocol::id::{EndId, PlanId};
use soramode_protocol::mode::EndsStopped;
use soramode_protocol::text::shorten;

use super::asked::{Asked, AskedState, EndedSession};
use super::calls::{
    CallId, CallLimiter, RETRY_PAUSE_MIN, SfuCall, SfuOutcome, SfuReach, SfuRequest, longer,
};
use super::clock::micros;
use super::context::{PlanEffects, PlanView};
use super::end_request::{EndRequest, NewEnd, RequestNumber, interval};
use super::stored::Moment;
use crate::count::count;
use crate::effect::{Action, EndOutcome, Record};
use crate::handles::{SessionSlot, Timestamp};

/// Pause before the first session of a plan is asked, and after the daemon was stopped: an opening that waits comes first.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Time after which a session that is still there, although the SFU said that it ends it, is asked again.
pub(crate) const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Longest time that a call takes. Later the daemon must have been stopped.
const CALL_TIME_MAX: Duration = Duration::from_secs(10);

/// Number of requests that are remembered as stopped.
const STOPPED_KEPT: usize = 1_024;

/// Longest problem that is kept, in bytes.
const PROBLEM_BYTES_MAX: usize = 400;

/// Problem of a session that has not ended although the SFU said that it ends it.
const STILL_THERE: &str = "the SFU was asked before, and it has not ended";

/// Sessions to be ended.
#[derive(Default)]
pub(crate) struct EndQueue {
    requests: BTreeMap<RequestNumber, EndRequest>,
    /// Sessions that the SFU was asked to end, or is being asked at this moment, and that are still there.
    asked: BTreeMap<SessionSlot, Asked>,
    /// Sessions to be asked again, by the time of that.
    retries: BTreeSet<(Duration, SessionSlot)>,
    /// Calls in flight.
    calls: BTreeMap<CallId, SessionSlot>,
    /// Calls in flight about a session that has gone.
    calls_of_gone: BTreeMap<CallId, Asked>,
    limiter: CallLimiter,
    /// Time from which the calls in flight are watched: that of the first call, of the last outcome, or of the last watch that was over.
    called_since: Option<Duration>,
    /// The latest problem, until a call succeeds.
    problem: Option<String>,
    last_number: u64,
    /// Requests that were stopped, the last ones of them.
    stopped: VecDeque<EndId>,
    /// Number of times that requests were stopped.
    stops: u64,
}

/// Session that a request turns to next.
enum Picked {
    First(SessionSlot),
    Retry(SessionSlot),
    /// It was asked before, or is being asked.
    Asked(SessionSlot),
}

impl EndQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.calls.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(crate) fn problem(&self) -> Option<&String> {
        self.problem.as_ref()
    }

    /// Returns whether the SFU was asked to end this session.
    pub(crate) fn is_asked(&self, slot: SessionSlot) -> bool {
        self.asked.contains_key(&slot)
    }

    /// Number of sessions of a plan that are still there although they were asked, or that the SFU refused to end.
    pub(crate) fn failed(&self, plan_id: &PlanId) -> u64 {
        let requests = self.requests.values();
        let of_plan = requests.filter(|it| it.stored.plan_id.as_ref() == Some(plan_id));
        let is_failed = |slot: &&SessionSlot| self.asked.get(slot).is_some_and(|it| it.is_failed);
        let counted = of_plan.flat_map(|it| &it.counted);
        count(counted.filter(is_failed).count())
    }

    /// Returns whether sessions are still there that the SFU was asked to end, or refuses to.
    pub(crate) fn is_failing(&self) -> bool {
        let has_left = |it: &EndRequest| !it.left.is_empty();
        (self.limiter.is_down() && self.requests.values().any(has_left))
            || self.failing().next().is_some()
    }

    /// Returns the sessions that are still there although the SFU was asked to end them.
    pub(crate) fn failing(&self) -> impl Iterator<Item = SessionSlot> {
        let is_failing =
            |asked: &Asked| asked.is_failed && self.requests.contains_key(&asked.request);
        let asked = self.asked.iter();
        let failing = asked.filter(move |(_, asked)| is_failing(asked));
        failing.map(|(slot, _)| *slot)
    }

    pub(crate) fn has_request(&self, id: Option<&EndId>) -> bool {
        let is_wanted = |it: &EndRequest| id.is_none_or(|id| it.stored.id == *id);
        let mut requests = self.requests.values();
        requests.any(|it| !it.left.is_empty() && is_wanted(it))
    }

    /// Returns whether the request was stopped before its sessions had ended.
    pub(crate) fn was_stopped(&self, id: &EndId) -> bool {
        self.stopped.contains(id)
    }

    pub(crate) const fn stops(&self) -> u64 {
        self.stops
    }

    /// Adds a request.
    pub(crate) fn begin(&mut self, new: NewEnd) {
        self.last_number += 1;
        let number = RequestNumber(self.last_number);
        self.requests.insert(number, EndRequest::new(new));
    }

    /// Adds a session that was found later to a plan's request: it is asked last.
    pub(crate) fn add_found(&mut self, now: Timestamp, plan_id: &PlanId, slot: SessionSlot) {
        let request = self
            .requests
            .values_mut()
            .find(|it| it.stored.plan_id.as_ref() == Some(plan_id));
        if let Some(request) = request
            && request.left.insert(slot)
        {
            request.waiting.push_back(slot);
            request.unasked.insert(slot);
            request.stored.progress.cutoff = request.stored.progress.cutoff.max(now.wall);
        }
    }

    /// Stops the requests of this plan, or all: returns what was left of them.
    pub(crate) fn stop(
        &mut self,
        plan_id: Option<&PlanId>,
        out: &mut PlanEffects<'_>,
    ) -> EndsStopped {
        // A session that several requests name counts once.
        let mut left: BTreeSet<SessionSlot> = BTreeSet::new();
        let numbers: BTreeSet<RequestNumber> = self
            .requests
            .iter()
            .filter(|(_, it)| plan_id.is_none() || it.stored.plan_id.as_ref() == plan_id)
            .map(|(number, _)| *number)
            .collect();
        for number in &numbers {
            let Some(mut request) = self.requests.remove(number) else {
                out.bug("a request to stop is not in the end queue");
                continue;
            };
            left.extend(&request.unasked);
            out.records.push(Record::EndFinished {
                id: request.stored.id.clone(),
                outcome: EndOutcome::Stopped,
            });
            if request.left.is_empty() && request.reply_to.is_none() {
                continue;
            }
            request.answer_stopped(out);
            self.stops += 1;
            self.stopped.push_back(request.stored.id);
            if self.stopped.len() > STOPPED_KEPT {
                self.stopped.pop_front();
            }
        }
        let ours = |asked: &Asked| numbers.contains(&asked.request);
        let in_flight: BTreeSet<SessionSlot> = self
            .calls
            .values()
            .filter(|slot| self.asked.get(slot).is_some_and(ours))
            .copied()
            .collect();
        let refused = |asked: &Asked| ours(asked) && asked.is_failed && !asked.is_in_flight();
        let refused = self.asked.iter().filter(|(_, asked)| refused(asked));
        left.extend(refused.map(|(slot, _)| *slot));
        let goes_on = |slot: &SessionSlot| self.requests.values().any(|it| it.left.contains(slot));
        left.retain(|slot| !in_flight.contains(slot) && !goes_on(slot));
        let stopped = EndsStopped {
            sessions: count(left.len()),
            in_flight: count(in_flight.len()),
        };
        self.hand_over(ours);
        stopped
    }

    /// Takes note that a session has ended. Returns whether the SFU was asked to end it, and whether the plan counts it.
    pub(crate) fn on_session_ended(&mut self, slot: SessionSlot) -> EndedSession {
        let mut ended = EndedSession {
            was_asked: false,
            is_of_plan: false,
        };
        for request in self.requests.values_mut() {
            request.left.remove(&slot);
            request.unasked.remove(&slot);
            ended.is_of_plan |= request.counted.remove(&slot);
        }
        let Some(asked) = self.asked.remove(&slot) else {
            return ended;
        };
        ended.was_asked = true;
        if let AskedState::RetryAt(at) = asked.state {
            self.retries.remove(&(at, slot));
        }
        let mut calls = self.calls.iter().filter(|(_, called)| **called == slot);
        if let Some((id, _)) = calls.next().filter(|_| asked.is_in_flight()) {
            self.calls_of_gone.insert(*id, asked);
        }
        ended
    }

    /// Makes no call for [`FIRST_PAUSE`].
    pub(crate) fn pause(&mut self, now: Duration) {
        for request in self.requests.values_mut() {
            request.next_at = request.next_at.max(now + FIRST_PAUSE);
        }
    }

    /// Makes the calls that may be made now; those of a plan only if it may. Returns the number of the plan's sessions that count as asked now.
    pub(crate) fn make_calls(
        &mut self,
        view: &PlanView<'_>,
        may_plan: bool,
        out: &mut PlanEffects<'_>,
    ) -> u64 {
        let now = view.state.now.boot;
        let mut counted = 0;
        let numbers: Vec<RequestNumber> = self.requests.keys().copied().collect();
        for number in numbers {
            loop {
                let may = |it: &EndRequest| {
                    it.next_at <= now && (may_plan || it.stored.plan_id.is_none())
                };
                if !self.limiter.may_call(now) || !self.requests.get(&number).is_some_and(may) {
                    break;
                }
                let Some(picked) = self.pick(number, now) else {
                    break;
                };
                match picked {
                    Picked::First(slot) => self.ask(view, (number, slot), true, out),
                    Picked::Retry(slot) => self.ask(view, (number, slot), false, out),
                    Picked::Asked(_) => {}
                }
                let (Picked::First(slot) | Picked::Retry(slot) | Picked::Asked(slot)) = picked;
                let requests = self.requests.values_mut();
                let newly = requests.map(|it| it.count_for_plan(slot));
                counted += newly.map(u64::from).sum::<u64>();
            }
        }
        counted
    }

    /// Picks the session that a request asks next: new ones and those to be asked again take turns.
    fn pick(&mut self, number: RequestNumber, now: Duration) -> Option<Picked> {
        let retry = self
            .retries
            .iter()
            .take_while(|(at, _)| *at <= now)
            .find(|(_, slot)| {
                let ours = |asked: &Asked| asked.request == number;
                self.asked.get(slot).is_some_and(ours)
            })
            .map(|&(_, slot)| slot);
        let request = self.requests.get_mut(&number)?;
        if let Some(slot) = retry
            && !request.was_retry
        {
            request.was_retry = true;
            return Some(Picked::Retry(slot));
        }
        let Some(slot) = request.next_unasked() else {
            request.was_retry = retry.is_some();
            return retry.map(Picked::Retry);
        };
        let Some(asked) = self.asked.get_mut(&slot) else {
            request.was_retry = false;
            return Some(Picked::First(slot));
        };
        let is_of_another = self.requests.contains_key(&asked.request);
        let request = self.requests.get_mut(&number)?;
        if is_of_another {
            let problem = self.problem.as_deref().unwrap_or(STILL_THERE);
            let problem = Some(problem).filter(|_| asked.is_failed);
            request.counts.note_shared(problem);
        } else {
            // The call of a request that was stopped is still in flight: it counts for this one.
            (asked.request, asked.tries) = (number, 1);
            request.counts.in_flight += 1;
        }
        Some(Picked::Asked(slot))
    }

    fn ask(
        &mut self,
        view: &PlanView<'_>,
        (number, slot): (RequestNumber, SessionSlot),
        is_first: bool,
        out: &mut PlanEffects<'_>,
    ) {
        let now = view.state.now;
        let (Some(request), Some(session)) = (
            self.requests.get_mut(&number),
            view.sessions.view_session(slot),
        ) else {
            out.bug("a session to end is not in the table");
            let _ = self.on_session_ended(slot);
            return;
        };
        let id = out.call_id();
        out.actions.push(Action::Sfu(Box::new(SfuCall {
            id,
            channel_id: session.channel_id,
            session_id: session.session_id,
            request: SfuRequest::Disconnect {
                plan_id: request.stored.plan_id.clone(),
                reason: request.stored.reason.clone(),
            },
        })));
        request.counts.in_flight += u64::from(is_first);
        request.next_at = now.boot + interval(request.stored.rate);
        request.stored.progress.next =
            Moment::now(now).shifted(micros(interval(request.stored.rate)));
        let asked = self.asked.entry(slot).or_insert(Asked::by(number));
        if let AskedState::RetryAt(at) = asked.state {
            self.retries.remove(&(at, slot));
            // It was asked before, and is still there.
            asked.is_failed = true;
        }
        asked.state = AskedState::InFlight;
        asked.tries += 1;
        self.calls.insert(id, slot);
        self.limiter.on_call();
        self.called_since.get_or_insert(now.boot);
    }

    /// Takes in the outcome of a call. Returns false if the call is none of these.
    pub(crate) fn on_outcome(&mut self, now: Duration, id: CallId, outcome: &SfuOutcome) -> bool {
        let Some(slot) = self.calls.remove(&id) else {
            return false;
        };
        self.called_since = (!self.calls.is_empty()).then_some(now);
        if let Some(asked) = self.calls_of_gone.remove(&id) {
            self.on_outcome_of_gone(now, &asked, outcome);
            return true;
        }
        let is_unreachable = outcome.is_unreachable() || outcome.has_no_recipient();
        self.limiter.on_outcome(now, SfuReach::of(is_unreachable));
        let problem = outcome
            .problem()
            .map(|problem| shorten(problem, PROBLEM_BYTES_MAX));
        self.problem.clone_from(&problem);
        let number = self.asked.get(&slot).map(|asked| asked.request);
        let is_first = self.asked.get(&slot).is_some_and(|asked| asked.tries == 1);
        if let Some(asked) = self.asked.get_mut(&slot) {
            let pause = if problem.is_some() {
                let pause = asked.pause;
                asked.pause = longer(pause);
                pause
            } else {
                asked.pause = RETRY_PAUSE_MIN;
                ASKED_AGAIN_AFTER
            };
            asked.is_failed = problem.is_some() || asked.tries > 1;
            asked.state = AskedState::RetryAt(now + pause);
            self.retries.insert((now + pause, slot));
        }
        if let Some(request) = number.and_then(|number| self.requests.get_mut(&number)) {
            request.count_outcome(is_first, problem);
        } else {
            // Its request was stopped: it is not asked again.
            self.retries.retain(|(_, other)| *other != slot);
            self.asked.remove(&slot);
        }
        true
    }

    /// Takes in the outcome of a call about a session that has gone meanwhile.
    fn on_outcome_of_gone(&mut self, now: Duration, asked: &Asked, outcome: &SfuOutcome) {
        self.limiter
            .on_outcome(now, SfuReach::of(outcome.is_unreachable()));
        if let Some(request) = self.requests.get_mut(&asked.request) {
            request.count_outcome(asked.tries == 1, None);
        }
    }

    /// Answers clients once each of their sessions was asked, and takes their requests away of which no session is left; that of a plan stays
    /// until the plan is over, since sessions may be found until then. Returns whether one was taken away.
    pub(crate) fn finish(&mut self, out: &mut PlanEffects<'_>) -> bool {
        let is_down = self.limiter.is_down();
        let problem = self.problem.clone();
        for request in self.requests.values_mut() {
            request.answer_if_asked(is_down, problem.as_ref(), out);
        }
        let over: Vec<RequestNumber> = self
            .requests
            .iter()
            .filter(|(_, it)| {
                let is_done = it.left.is_empty() && it.counts.in_flight == 0;
                is_done && it.stored.plan_id.is_none()
            })
            .map(|(number, _)| *number)
            .collect();
        for number in &over {
            if let Some(request) = self.requests.remove(number) {
                out.records.push(Record::EndFinished {
                    id: request.stored.id,
                    outcome: EndOutcome::Ended,
                });
            }
        }
        for request in self.requests.values_mut() {
            request.record(out);
        }
        !over.is_empty()
    }

    /// Returns when something is to be done although nothing happens.
    pub(crate) fn next_deadline(&self, now: Duration, may_plan: bool) -> Option<Duration> {
        let at = |(number, request): (&RequestNumber, &EndRequest)| {
            if !may_plan && request.stored.plan_id.is_some() {
                return None;
            }
            let retry = self
                .retries
                .iter()
                .find(|(at, slot)| {
                    let ours = |asked: &Asked| asked.request == *number;
                    *at < Duration::MAX && self.asked.get(slot).is_some_and(ours)
                })
                .map(|&(at, _)| at);
            let work = (!request.unasked.is_empty()).then_some(now).or(retry);
            work.map(|work| work.max(request.next_at))
        };
        let work = self.requests.iter().filter_map(at).min();
        let next = work.and_then(|work| self.limiter.may_call_at(now).map(|at| at.max(work)));
        let watch = self
            .called_since
            .filter(|_| !self.requests.is_empty())
            .map(|since| since + CALL_TIME_MAX);
        [next, watch].into_iter().flatten().min()
    }

    /// Begins the watch over the calls in flight anew, if the longest time of a call has passed: [`Self::next_deadline`] then names a later one.
    pub(crate) fn rewatch_calls(&mut self, now: Duration) {
        if let Some(since) = &mut self.called_since
            && now >= *since + CALL_TIME_MAX
        {
            *since = now;
        }
    }
}
