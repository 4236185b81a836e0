//! Waits: look first, then follow.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use soramode_protocol::error::{Error, ErrorType};
use soramode_protocol::node::Membership;
use soramode_protocol::plan::PlanOutcome;
use soramode_protocol::reply::{Answer, Reply};
use soramode_protocol::session::Session;
use soramode_protocol::wait::{OLDEST_SESSIONS_MAX, Outcome, WAITS_MAX, Wait, WaitEnded, WaitFor};

use crate::effect::{Action, WaitProgress};
use crate::gate::{Ctx, Gate, Refusable};
use crate::input::{ReplyHandle, SocketId};
use crate::plan::UnknownPlan;
use crate::timers::Timer;

/// A wait that is under way. Never used twice.
pub(crate) type WaitId = u64;

struct Waiting {
    reply_to: ReplyHandle,
    wait: Wait,
    /// Sessions that had ended when it began.
    ended_before: u64,
    /// Number of times that ends had been stopped when it began.
    stops_before: u64,
}

/// A change that waits go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// The mode.
    Mode,
    /// The sessions, or whether all of them are known.
    Sessions,
    /// The place in the cluster.
    Membership,
    /// Requests to end sessions.
    Ends,
}

#[derive(Default)]
pub(crate) struct Waits {
    under_way: BTreeMap<WaitId, Waiting>,
    by_socket: BTreeMap<SocketId, BTreeSet<WaitId>>,
    /// Waits for each thing, and whether it changed since they were evaluated.
    drained: Kind,
    mode: Kind,
    joined: Kind,
    ended: Kind,
    last_id: WaitId,
}

#[derive(Default)]
struct Kind {
    ids: BTreeSet<WaitId>,
    is_changed: bool,
}

impl Waits {
    /// Has the waits that go by this evaluated before the step ends.
    pub(crate) fn note(&mut self, change: Changed) {
        match change {
            Changed::Mode => (self.drained.is_changed, self.mode.is_changed) = (true, true),
            Changed::Sessions => self.drained.is_changed = true,
            Changed::Membership => self.joined.is_changed = true,
            Changed::Ends => self.ended.is_changed = true,
        }
    }

    /// Takes the waits to evaluate, oldest first: those that go by what changed, and no others.
    fn take_changed(&mut self) -> Vec<WaitId> {
        let mut ids = Vec::new();
        for kind in [
            &mut self.drained,
            &mut self.mode,
            &mut self.joined,
            &mut self.ended,
        ] {
            if std::mem::take(&mut kind.is_changed) {
                ids.extend(&kind.ids);
            }
        }
        ids.sort_unstable();
        ids
    }

    fn count_of(&self, socket: SocketId) -> usize {
        self.by_socket.get(&socket).map_or(0, BTreeSet::len)
    }

    fn insert(&mut self, waiting: Waiting) -> WaitId {
        self.last_id += 1;
        let id = self.last_id;
        self.by_socket
            .entry(waiting.reply_to.socket)
            .or_default()
            .insert(id);
        self.kind(waiting.wait.wait_for).ids.insert(id);
        self.under_way.insert(id, waiting);
        id
    }

    fn remove(&mut self, id: WaitId) -> Option<Waiting> {
        let waiting = self.under_way.remove(&id)?;
        self.kind(waiting.wait.wait_for).ids.remove(&id);
        if let Some(ids) = self.by_socket.get_mut(&waiting.reply_to.socket) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_socket.remove(&waiting.reply_to.socket);
            }
        }
        Some(waiting)
    }

    const fn kind(&mut self, wait_for: WaitFor) -> &mut Kind {
        match wait_for {
            WaitFor::Drained => &mut self.drained,
            WaitFor::Mode => &mut self.mode,
            WaitFor::Joined => &mut self.joined,
            WaitFor::Ended => &mut self.ended,
        }
    }
}

impl Gate {
    pub(crate) fn wait(
        &mut self,
        ctx: &mut Ctx,
        reply_to: ReplyHandle,
        mut wait: Wait,
    ) -> Option<Answer> {
        if let Err(error) = self.check_wait(&wait, reply_to.socket) {
            return Some(Err(error));
        }
        if wait.wait_for == WaitFor::Drained && wait.plan.is_none() {
            wait.generation.get_or_insert(self.mode.generation);
        }
        let settle = wait
            .settle_seconds
            .map(duration)
            .filter(|settle| !settle.is_zero());
        let is_over = self
            .is_superseded(&wait, self.plans.stops())
            .then_some(Outcome::Superseded);
        let is_over =
            is_over.or_else(|| (self.holds(&wait) && settle.is_none()).then_some(Outcome::Reached));
        let is_over =
            is_over.or_else(|| (wait.timeout_seconds == Some(0.0)).then_some(Outcome::Timeout));
        if let Some(outcome) = is_over {
            return Some(Ok(self.wait_ended(ctx, &wait, outcome)));
        }
        let (timeout, tells) = (wait.timeout_seconds, wait.progress_seconds.is_some());
        let id = self.waits.insert(Waiting {
            reply_to,
            wait,
            ended_before: self.sessions_ended,
            stops_before: self.plans.stops(),
        });
        if let Some(timeout) = timeout {
            self.timers
                .set(Timer::GiveUp(id), ctx.now.boot + duration(timeout));
        }
        if tells {
            self.wait_progress(ctx, id);
        }
        // It begins to settle if what it waits for is so already.
        self.evaluate(ctx, id);
        None
    }

    fn check_wait(&self, wait: &Wait, socket: SocketId) -> Refusable<()> {
        if self.waits.count_of(socket) >= WAITS_MAX {
            let message = format!("this client already has {WAITS_MAX} waits under way");
            return Err(Error::new(ErrorType::InvalidRequest, message)
                .with_hint("Wait until some of them have ended"));
        }
        if let Some(plan) = &wait.plan {
            let known = self.plans.outcome_of(plan);
            return known.map(drop).map_err(|UnknownPlan| Error::no_plan(plan));
        }
        match wait.wait_for {
            WaitFor::Drained if self.is_superseded(wait, self.plans.stops()) => Ok(()),
            WaitFor::Drained if !self.mode.mode.is_block() => {
                Err(Error::cannot_drain(self.mode.mode))
            }
            WaitFor::Drained if !self.known.is_known_soon() && !wait.assume_complete => {
                Err(self.sessions_incomplete())
            }
            WaitFor::Joined if self.membership == Membership::Standalone => {
                Err(Error::cannot_join())
            }
            WaitFor::Drained | WaitFor::Joined | WaitFor::Mode | WaitFor::Ended => Ok(()),
        }
    }

    fn sessions_incomplete(&self) -> Error {
        let (reason, remedy) = self.what_is_missing();
        Error::sessions_incomplete(&reason, remedy.as_deref())
    }

    /// Evaluates the waits that go by what changed.
    pub(crate) fn settle_waits(&mut self, ctx: &mut Ctx) {
        for id in self.waits.take_changed() {
            self.evaluate(ctx, id);
        }
    }

    fn evaluate(&mut self, ctx: &mut Ctx, id: WaitId) {
        let Some(waiting) = self.waits.under_way.get(&id) else {
            return;
        };
        let settle = waiting
            .wait
            .settle_seconds
            .map(duration)
            .filter(|settle| !settle.is_zero());
        let holds = self.holds(&waiting.wait);
        if self.is_superseded(&waiting.wait, waiting.stops_before) {
            return self.end_wait(ctx, id, Outcome::Superseded);
        }
        if holds && settle.is_none() {
            return self.end_wait(ctx, id, Outcome::Reached);
        }
        let is_drain = waiting.wait.wait_for == WaitFor::Drained
            && !waiting.wait.assume_complete
            && waiting.wait.plan.is_none();
        if is_drain && self.known.needs_report_or_purge() {
            return self.refuse_wait(ctx, id);
        }
        match settle {
            Some(settle) if holds && !self.timers.is_set(Timer::Settled(id)) => {
                self.timers.set(Timer::Settled(id), ctx.now.boot + settle);
            }
            _ if !holds => self.timers.cancel(Timer::Settled(id)),
            Some(_) | None => {}
        }
    }

    fn holds(&self, wait: &Wait) -> bool {
        if let Some(plan) = &wait.plan {
            return matches!(self.plans.outcome_of(plan), Ok(Some(PlanOutcome::Done)));
        }
        match wait.wait_for {
            WaitFor::Ended => !self.plans.has_ends(wait.end_id.as_ref()),
            WaitFor::Drained => {
                let is_low = self.sessions.session_count() <= wait.max_sessions.unwrap_or(0);
                self.mode.mode.is_block()
                    && is_low
                    && (wait.assume_complete || self.known.is_confirmed())
            }
            WaitFor::Mode => wait.mode == Some(self.mode.mode),
            WaitFor::Joined => self.membership == Membership::Joined,
        }
    }

    /// Whether the mode was changed, since what the caller knows of, to another than is waited in or for.
    fn is_superseded(&self, wait: &Wait, stops_before: u64) -> bool {
        if let Some(plan) = &wait.plan {
            return match self.plans.outcome_of(plan) {
                Ok(Some(outcome)) => outcome != PlanOutcome::Done,
                Ok(None) => false,
                Err(UnknownPlan) => true,
            };
        }
        match (wait.wait_for, wait.generation) {
            (WaitFor::Drained, Some(generation)) => self.opened_generation > generation,
            (WaitFor::Mode, Some(generation)) => {
                self.mode.generation > generation && wait.mode != Some(self.mode.mode)
            }
            (WaitFor::Ended, _) => self.plans.has_stopped(wait.end_id.as_ref(), stops_before),
            (WaitFor::Drained | WaitFor::Mode, None) | (WaitFor::Joined, _) => false,
        }
    }

    pub(crate) fn wait_settled(&mut self, ctx: &mut Ctx, id: WaitId) {
        self.end_wait(ctx, id, Outcome::Reached);
    }

    pub(crate) fn wait_timed_out(&mut self, ctx: &mut Ctx, id: WaitId) {
        self.end_wait(ctx, id, Outcome::Timeout);
    }

    pub(crate) fn wait_progress(&mut self, ctx: &mut Ctx, id: WaitId) {
        let Some(waiting) = self.waits.under_way.get(&id) else {
            return;
        };
        let Some(pause) = waiting.wait.progress_seconds else {
            return;
        };
        let progress = WaitProgress {
            sessions: self.sessions.session_count(),
            connections: self.sessions.connection_count(),
            oldest_session: self.oldest_session(),
            ended: self.sessions_ended - waiting.ended_before,
            plan: self.running_plan(ctx.now),
            stalled: self.plans.stalled(),
        };
        ctx.effects
            .actions
            .push(Action::Progress(waiting.reply_to, Box::new(progress)));
        self.timers
            .set(Timer::Progress(id), ctx.now.boot + duration(pause));
    }

    fn end_wait(&mut self, ctx: &mut Ctx, id: WaitId, outcome: Outcome) {
        if let Some(waiting) = self.drop_wait(id) {
            let ended = self.wait_ended(ctx, &waiting.wait, outcome);
            ctx.effects
                .actions
                .push(Action::Answer(waiting.reply_to, Ok(ended)));
        }
    }

    /// Ends a wait that began before it was known that the session list is incomplete.
    fn refuse_wait(&mut self, ctx: &mut Ctx, id: WaitId) {
        if let Some(waiting) = self.drop_wait(id) {
            let refused = Err(self.sessions_incomplete());
            ctx.effects
                .actions
                .push(Action::Answer(waiting.reply_to, refused));
        }
    }

    fn wait_ended(&self, ctx: &Ctx, wait: &Wait, outcome: Outcome) -> Reply {
        let plan = wait.plan.as_ref();
        let plan = plan.and_then(|id| self.plan_with_id(ctx.now, id));
        let oldest_sessions: Vec<Session> = self
            .sessions
            .by_age(None)
            .take(OLDEST_SESSIONS_MAX)
            .filter_map(|slot| self.sessions.view_session(slot))
            .collect();
        Reply::WaitEnded(Box::new(WaitEnded {
            outcome,
            status: self.status(ctx.now),
            oldest_sessions,
            plan,
        }))
    }

    /// Drops the waits of a client that is gone.
    pub(crate) fn drop_waits(&mut self, socket: SocketId) {
        for id in self.waits.by_socket.remove(&socket).unwrap_or_default() {
            self.drop_wait(id);
        }
    }

    fn drop_wait(&mut self, id: WaitId) -> Option<Waiting> {
        for timer in [Timer::Settled(id), Timer::GiveUp(id), Timer::Progress(id)] {
            self.timers.cancel(timer);
        }
        self.waits.remove(id)
    }
}

/// Seconds that have been checked to lie within a wait's limits.
fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    use soramode_protocol::wait::Wait;

    fn waits(sockets: u64, each: u64) -> Waits {
        let mut waits = Waits::default();
        for socket in 1..=sockets {
            for serial in 1..=each {
                let wait_for = [WaitFor::Mode, WaitFor::Drained, WaitFor::Joined]
                    [usize::try_from(serial % 3).unwrap()];
                let reply_to = ReplyHandle {
                    socket: SocketId(socket),
                    serial,
                };
                waits.insert(Waiting {
                    reply_to,
                    wait: Wait::new(wait_for),
                    ended_before: 0,
                    stops_before: 0,
                });
            }
        }
        waits
    }

    #[test]
    fn a_new_wait_has_no_other_evaluated() {
        assert_eq!(waits(1_000, 3).take_changed(), [] as [WaitId; 0]);
    }

    #[test]
    fn a_change_has_those_evaluated_that_go_by_it_once() {
        let mut waits = waits(100, 3);
        for (changes, evaluated) in [
            (
                &[Changed::Sessions, Changed::Sessions][..],
                &[WaitFor::Drained][..],
            ),
            (&[Changed::Mode], &[WaitFor::Drained, WaitFor::Mode]),
            (&[Changed::Membership], &[WaitFor::Joined]),
            (
                &[Changed::Membership, Changed::Mode],
                &[WaitFor::Drained, WaitFor::Mode, WaitFor::Joined],
            ),
        ] {
            for change in changes {
                waits.note(*change);
            }
            let ids = waits.take_changed();
            assert_eq!(ids.len(), 100 * evaluated.len(), "{changes:?}");
            assert!(
                ids.is_sorted()
                    && ids
                        .iter()
                        .all(|id| evaluated.contains(&waits.under_way[id].wait.wait_for)),
                "{changes:?}"
            );
            assert!(waits.take_changed().is_empty());
        }
    }

    #[test]
    fn a_client_that_goes_leaves_nothing_behind_and_others_alone() {
        let mut waits = waits(3, 3);
        assert_eq!(waits.count_of(SocketId(2)), 3);
        for id in 4..=6 {
            assert_eq!(waits.remove(id).unwrap().reply_to.socket, SocketId(2));
            assert!(waits.remove(id).is_none());
        }
        assert_eq!(
            (
                waits.count_of(SocketId(2)),
                waits.by_socket.len(),
                waits.under_way.len()
            ),
            (0, 2, 6)
        );
        assert_eq!(
            (
                waits.mode.ids.len(),
                waits.drained.ids.len(),
                waits.joined.ids.len()
            ),
            (2, 2, 2)
        );
    }
}
