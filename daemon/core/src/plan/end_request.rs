//! A request to end sessions: which of them are left, and its answer.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use soramode_protocol::end::{EndMethod, Ended};
use soramode_protocol::plan::EndRate;
use soramode_protocol::reply::Reply;

use super::context::PlanEffects;
use super::stored::{EndProgress, StoredEnd};
use crate::count::count;
use crate::effect::{Action, Record};
use crate::handles::{ReplyHandle, SessionSlot};

/// Number of a request in the end queue, in the order in which they came. The daemon counts from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestNumber(pub(super) u64);

/// A new request.
pub(crate) struct NewEnd {
    pub(crate) stored: StoredEnd,
    /// Oldest first.
    pub(crate) sessions: Vec<SessionSlot>,
    /// Number of the oldest of them that its plan counts as asked already, since before a restart.
    pub(crate) counted: usize,
    pub(crate) reply_to: Option<EndReply>,
}

/// The client that waits for the answer, and the means that the answer names.
#[derive(Clone, Copy)]
pub(crate) struct EndReply {
    pub(crate) to: ReplyHandle,
    pub(crate) via: EndMethod,
}

/// A request, and how far it is.
pub(super) struct EndRequest {
    pub(super) stored: StoredEnd,
    /// Progress that was recorded last.
    pub(super) recorded: EndProgress,
    /// Its sessions that are still there.
    pub(super) left: BTreeSet<SessionSlot>,
    /// Those of them that were not asked yet.
    pub(super) unasked: BTreeSet<SessionSlot>,
    /// Those of them that its plan counts as asked: by this request or another, or before a restart.
    pub(super) counted: BTreeSet<SessionSlot>,
    /// The sessions of `unasked`, oldest first, and some that have left it.
    pub(super) waiting: VecDeque<SessionSlot>,
    /// Time from which its rate allows another call, by the boot clock.
    pub(super) next_at: Duration,
    /// The last session that was picked was asked again, so that a new one is next.
    pub(super) was_retry: bool,
    pub(super) counts: EndCounts,
    pub(super) reply_to: Option<EndReply>,
}

/// The answer so far: each session counts once.
#[derive(Default)]
pub(super) struct EndCounts {
    pub(super) in_flight: u64,
    pub(super) asked: u64,
    pub(super) failed: u64,
    pub(super) problem: Option<String>,
}

impl EndCounts {
    /// Counts a session that another request asks already; with the problem where that has failed so far.
    pub(super) fn note_shared(&mut self, problem: Option<&str>) {
        match problem {
            None => self.asked += 1,
            Some(problem) => {
                self.failed += 1;
                self.problem = Some(problem.to_owned());
            }
        }
    }
}

impl EndRequest {
    pub(super) fn new(new: NewEnd) -> Self {
        let NewEnd {
            stored,
            sessions,
            counted,
            reply_to,
        } = new;
        Self {
            counted: sessions.iter().take(counted).copied().collect(),
            recorded: stored.progress,
            next_at: stored.progress.next.boot(),
            left: sessions.iter().copied().collect(),
            unasked: sessions.iter().copied().collect(),
            waiting: sessions.into(),
            was_retry: false,
            counts: EndCounts::default(),
            reply_to,
            stored,
        }
    }

    /// Takes over the sessions and the client of another request. `refused` of those that were asked are still there.
    pub(super) fn join(&mut self, new: NewEnd, refused: u64, problem: Option<String>) {
        for slot in new.sessions {
            if self.left.insert(slot) {
                self.unasked.insert(slot);
                self.waiting.push_back(slot);
            }
        }
        let progress = &mut self.stored.progress;
        progress.cutoff = progress.cutoff.max(new.stored.progress.cutoff);
        let in_flight = self.counts.in_flight;
        let asked = count(self.left.len()).saturating_sub(count(self.unasked.len()) + in_flight);
        self.counts = EndCounts {
            in_flight,
            asked: asked.saturating_sub(refused),
            failed: refused,
            problem: problem.filter(|_| refused > 0),
        };
        self.reply_to = new.reply_to;
    }

    /// Counts a session as asked for its plan. Returns whether it was not counted before.
    pub(super) fn count_for_plan(&mut self, slot: SessionSlot) -> bool {
        let is_of_plan = self.stored.plan_id.is_some() && self.left.contains(&slot);
        is_of_plan && self.counted.insert(slot)
    }

    /// Takes note that a session that is left was not asked after all. Returns whether the request took it for asked.
    pub(super) fn give_back(&mut self, slot: SessionSlot) -> bool {
        let is_new = self.left.contains(&slot) && self.unasked.insert(slot);
        if is_new {
            self.waiting.push_front(slot);
        }
        is_new
    }

    /// Takes the oldest session that was not asked yet.
    pub(super) fn next_unasked(&mut self) -> Option<SessionSlot> {
        while let Some(slot) = self.waiting.pop_front() {
            if self.unasked.remove(&slot) {
                return Some(slot);
            }
        }
        None
    }

    /// Counts the outcome of a call: for each session only that of the first.
    pub(super) fn count_outcome(&mut self, is_first: bool, problem: Option<String>) {
        let counts = &mut self.counts;
        if !is_first {
            return;
        }
        counts.in_flight = counts.in_flight.saturating_sub(1);
        match problem {
            None => counts.asked += 1,
            Some(problem) => {
                counts.failed += 1;
                counts.problem = Some(problem);
            }
        }
    }

    /// Answers the client once each session was asked; at once if the SFU does not answer.
    pub(super) fn answer_if_asked(
        &mut self,
        is_down: bool,
        problem: Option<&String>,
        out: &mut PlanEffects<'_>,
    ) {
        let is_asked = self.unasked.is_empty() && self.counts.in_flight == 0;
        if !is_asked && !is_down {
            return;
        }
        let Some(reply_to) = self.reply_to.take() else {
            return;
        };
        let left = count(self.unasked.len()) + self.counts.in_flight;
        if left > 0 {
            let problem = problem.map_or("the SFU does not answer", String::as_str);
            self.counts.problem = Some(format!(
                "{problem}; soramoded goes on until they have ended"
            ));
        }
        self.counts.failed += left;
        out.actions.push(self.reply(reply_to));
    }

    pub(super) fn answer_stopped(&mut self, out: &mut PlanEffects<'_>) {
        if let Some(reply_to) = self.reply_to.take() {
            let left = count(self.unasked.len()) + self.counts.in_flight;
            self.counts.failed += left;
            self.counts.problem = Some("stopped before each session was asked to end".to_owned());
            out.actions.push(self.reply(reply_to));
        }
    }

    pub(super) fn reply(&self, reply_to: EndReply) -> Action {
        let EndCounts {
            asked,
            failed,
            problem,
            ..
        } = &self.counts;
        Action::Answer(
            reply_to.to,
            Ok(Reply::Ended(Ended {
                sessions: *asked,
                via: reply_to.via,
                failed: *failed,
                problem: problem.clone(),
                id: Some(self.stored.id.clone()),
            })),
        )
    }

    /// Stores how far it is, if that changed.
    pub(super) fn record(&mut self, out: &mut PlanEffects<'_>) {
        if self.recorded != self.stored.progress {
            self.recorded = self.stored.progress;
            out.records.push(Record::EndProgress {
                id: self.stored.id.clone(),
                progress: self.stored.progress,
            });
        }
    }
}

/// Returns the pause between two calls at this rate.
pub(crate) fn interval(rate: EndRate) -> Duration {
    match rate {
        EndRate::PerMinute(number) => {
            Duration::from_micros(60_000_000_u64.div_ceil(u64::from(number.max(1))))
        }
        EndRate::Max => Duration::ZERO,
    }
}
