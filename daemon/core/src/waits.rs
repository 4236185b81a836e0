//! Waits in flight: each ends when its condition holds, cannot hold any more, or has taken too long.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use soramode_protocol::error::{Error, ErrorType};
use soramode_protocol::id::PlanId;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::Membership;
use soramode_protocol::plan::PlanOutcome;
use soramode_protocol::wait::{Outcome, WAITS_MAX, Wait, WaitFor};

use crate::ctx::Ctx;
use crate::handles::{ReplyHandle, SocketId, WaitId};
use crate::plan::{Plans, UnknownPlan};
use crate::timers::Timer;

/// State of the node that the conditions of waits depend on, beside the plans; no condition depends on anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaitInputs {
    pub(crate) sessions: u64,
    /// Sessions that have ended since the start.
    pub(crate) sessions_ended: u64,
    pub(crate) mode: Mode,
    pub(crate) generation: u64,
    /// The last generation in which no operator had closed the node.
    pub(crate) opened_generation: u64,
    pub(crate) membership: Membership,
    /// All sessions are known, and nothing is left to verify.
    pub(crate) is_synced: bool,
    pub(crate) is_in_force: bool,
    /// Not all sessions are known, and only an operator or a client can change that.
    pub(crate) needs_report_or_purge: bool,
    /// Number of changes of plans and ends.
    pub(crate) plan_changes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitEnd {
    Outcome(Outcome),
    /// An error: the session list is not complete.
    SessionsIncomplete,
}

/// A wait that has ended, as far as its answer depends on it.
pub(crate) struct EndedWait {
    pub(crate) reply_to: ReplyHandle,
    /// The plan that it was for.
    pub(crate) plan: Option<PlanId>,
}

/// A request to wait.
pub(crate) struct NewWait {
    pub(crate) reply_to: ReplyHandle,
    pub(crate) wait: Wait,
    /// All sessions are known, or may be at any moment.
    pub(crate) is_synced_soon: bool,
}

/// Result of a request to wait.
pub(crate) enum Begun {
    Pending(WaitId),
    Ended(WaitEnd),
}

pub(crate) struct PendingWait {
    pub(crate) reply_to: ReplyHandle,
    pub(crate) wait: Wait,
    /// Sessions that had ended when it began.
    pub(crate) ended_before: u64,
    /// Number of times that ends had been stopped when it began.
    stops_before: u64,
}

#[derive(Default)]
pub(crate) struct Waits {
    pending: BTreeMap<WaitId, PendingWait>,
    by_socket: BTreeMap<SocketId, BTreeSet<WaitId>>,
    drained: BTreeSet<WaitId>,
    mode: BTreeSet<WaitId>,
    joined: BTreeSet<WaitId>,
    ended: BTreeSet<WaitId>,
    /// The inputs that the waits were evaluated for last.
    seen: Option<WaitInputs>,
    last_id: u64,
}

impl Waits {
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Begins a wait, if its condition does not hold yet.
    pub(crate) fn begin(
        &mut self,
        ctx: &mut Ctx,
        new: NewWait,
        inputs: &WaitInputs,
        plans: &Plans,
    ) -> Result<Begun, Error> {
        if self.count_of(new.reply_to.socket) >= WAITS_MAX {
            let message = format!("this client already has {WAITS_MAX} waits under way");
            return Err(Error::new(ErrorType::InvalidRequest, message)
                .with_hint("Wait until some of them have ended"));
        }
        let stops = plans.stops();
        if let Some(end) = refusal(&new, inputs, plans)? {
            return Ok(Begun::Ended(end));
        }
        let NewWait {
            reply_to, mut wait, ..
        } = new;
        if wait.wait_for == WaitFor::Drained && wait.plan.is_none() {
            wait.generation.get_or_insert(inputs.generation);
        }
        let holds = holds(&wait, inputs, plans);
        let settle_time = settle_time(&wait);
        let outcome = if is_superseded(&wait, inputs, plans, stops) {
            Some(Outcome::Superseded)
        } else if holds && settle_time.is_none() {
            Some(Outcome::Reached)
        } else if wait.timeout_seconds == Some(0.0) {
            Some(Outcome::Timeout)
        } else {
            None
        };
        if let Some(outcome) = outcome {
            return Ok(Begun::Ended(WaitEnd::Outcome(outcome)));
        }
        let timeout = wait.timeout_seconds;
        let id = self.insert(PendingWait {
            reply_to,
            wait,
            ended_before: inputs.sessions_ended,
            stops_before: stops,
        });
        if let Some(timeout) = timeout {
            ctx.timers
                .set(Timer::WaitTimeout(id), ctx.now.boot + duration(timeout));
        }
        if let Some(settle_time) = settle_time.filter(|_| holds) {
            ctx.timers
                .set(Timer::WaitSettled(id), ctx.now.boot + settle_time);
        }
        Ok(Begun::Pending(id))
    }

    /// Ends the waits that these inputs decide.
    pub(crate) fn settle(
        &mut self,
        ctx: &mut Ctx,
        inputs: WaitInputs,
        plans: &Plans,
    ) -> Vec<(EndedWait, WaitEnd)> {
        let mut ended = Vec::new();
        for id in self.take_changed(inputs) {
            if let Some(end) = self.evaluate(ctx, id, &inputs, plans)
                && let Some(wait) = self.end(ctx, id)
            {
                ended.push((wait, end));
            }
        }
        ended
    }

    /// Takes the waits to evaluate, oldest first: those that depend on what has changed, and no others.
    fn take_changed(&mut self, inputs: WaitInputs) -> Vec<WaitId> {
        let Some(before) = self.seen.replace(inputs) else {
            return self.pending.keys().copied().collect();
        };
        if before == inputs {
            return Vec::new();
        }
        let WaitInputs {
            mode,
            generation,
            membership,
            plan_changes,
            ..
        } = before;
        let is_mode_changed = (mode, generation) != (inputs.mode, inputs.generation);
        let is_membership_changed = membership != inputs.membership;
        let is_drain_changed = WaitInputs {
            membership,
            ..inputs
        } != before;
        let kinds = [
            (is_drain_changed, &self.drained),
            (is_mode_changed, &self.mode),
            (is_membership_changed, &self.joined),
            (plan_changes != inputs.plan_changes, &self.ended),
        ];
        let changed = kinds.into_iter().filter(|(is_changed, _)| *is_changed);
        let mut ids: Vec<WaitId> = changed.flat_map(|(_, ids)| ids).copied().collect();
        ids.sort_unstable();
        ids
    }

    fn evaluate(
        &self,
        ctx: &mut Ctx,
        id: WaitId,
        inputs: &WaitInputs,
        plans: &Plans,
    ) -> Option<WaitEnd> {
        let Some(pending) = self.pending.get(&id) else {
            ctx.bug("a wait of an index is not pending");
            return None;
        };
        let wait = &pending.wait;
        let holds = holds(wait, inputs, plans);
        let settle_time = settle_time(wait);
        if is_superseded(wait, inputs, plans, pending.stops_before) {
            return Some(WaitEnd::Outcome(Outcome::Superseded));
        }
        if holds && settle_time.is_none() {
            return Some(WaitEnd::Outcome(Outcome::Reached));
        }
        let needs_complete =
            wait.wait_for == WaitFor::Drained && !wait.assume_complete && wait.plan.is_none();
        if needs_complete && inputs.needs_report_or_purge {
            return Some(WaitEnd::SessionsIncomplete);
        }
        match settle_time {
            Some(settle_time) if holds && !ctx.timers.is_set(Timer::WaitSettled(id)) => {
                ctx.timers
                    .set(Timer::WaitSettled(id), ctx.now.boot + settle_time);
            }
            _ if !holds => ctx.timers.cancel(Timer::WaitSettled(id)),
            Some(_) | None => {}
        }
        None
    }

    /// Returns the wait of which progress is reported; sets the time of the next report.
    pub(crate) fn next_progress(&self, ctx: &mut Ctx, id: WaitId) -> Option<&PendingWait> {
        let Some(pending) = self.pending.get(&id) else {
            ctx.bug("a wait that reports its progress is not pending");
            return None;
        };
        let pause = duration(pending.wait.progress_seconds?);
        ctx.timers
            .set(Timer::WaitProgress(id), ctx.now.boot + pause);
        Some(pending)
    }

    pub(crate) fn end(&mut self, ctx: &mut Ctx, id: WaitId) -> Option<EndedWait> {
        for timer in [
            Timer::WaitSettled(id),
            Timer::WaitTimeout(id),
            Timer::WaitProgress(id),
        ] {
            ctx.timers.cancel(timer);
        }
        let Some(pending) = self.remove(id) else {
            ctx.bug("a wait to end is not pending");
            return None;
        };
        Some(EndedWait {
            reply_to: pending.reply_to,
            plan: pending.wait.plan,
        })
    }

    /// Removes the waits of a closed socket.
    pub(crate) fn end_of(&mut self, ctx: &mut Ctx, socket: SocketId) {
        for id in self.by_socket.remove(&socket).unwrap_or_default() {
            self.end(ctx, id);
        }
    }

    fn count_of(&self, socket: SocketId) -> usize {
        self.by_socket.get(&socket).map_or(0, BTreeSet::len)
    }

    fn insert(&mut self, pending: PendingWait) -> WaitId {
        self.last_id += 1;
        let id = WaitId(self.last_id);
        self.by_socket
            .entry(pending.reply_to.socket)
            .or_default()
            .insert(id);
        self.kind(pending.wait.wait_for).insert(id);
        self.pending.insert(id, pending);
        id
    }

    fn remove(&mut self, id: WaitId) -> Option<PendingWait> {
        let pending = self.pending.remove(&id)?;
        self.kind(pending.wait.wait_for).remove(&id);
        if let Some(ids) = self.by_socket.get_mut(&pending.reply_to.socket) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_socket.remove(&pending.reply_to.socket);
            }
        }
        Some(pending)
    }

    const fn kind(&mut self, wait_for: WaitFor) -> &mut BTreeSet<WaitId> {
        match wait_for {
            WaitFor::Drained => &mut self.drained,
            WaitFor::Mode => &mut self.mode,
            WaitFor::Joined => &mut self.joined,
            WaitFor::Ended => &mut self.ended,
        }
    }
}

/// Returns why a wait cannot begin: its condition cannot become true as things are.
fn refusal(new: &NewWait, inputs: &WaitInputs, plans: &Plans) -> Result<Option<WaitEnd>, Error> {
    let wait = &new.wait;
    if let Some(plan) = &wait.plan {
        let known = plans.outcome_of(plan);
        return known
            .map(|_| None)
            .map_err(|UnknownPlan| Error::no_plan(plan));
    }
    match wait.wait_for {
        WaitFor::Drained if is_superseded(wait, inputs, plans, plans.stops()) => Ok(None),
        WaitFor::Drained if !inputs.mode.is_block() => Err(Error::cannot_drain(inputs.mode)),
        WaitFor::Drained if !new.is_synced_soon && !wait.assume_complete => {
            Ok(Some(WaitEnd::SessionsIncomplete))
        }
        WaitFor::Joined if inputs.membership == Membership::Standalone => Err(Error::cannot_join()),
        WaitFor::Drained | WaitFor::Joined | WaitFor::Mode | WaitFor::Ended => Ok(None),
    }
}

fn holds(wait: &Wait, inputs: &WaitInputs, plans: &Plans) -> bool {
    if let Some(plan) = &wait.plan {
        return matches!(plans.outcome_of(plan), Ok(Some(PlanOutcome::Done)));
    }
    match wait.wait_for {
        WaitFor::Drained => {
            let is_low = inputs.sessions <= wait.max_sessions.unwrap_or(0);
            inputs.mode.is_block()
                && is_low
                && (wait.assume_complete || inputs.is_synced)
                && (wait.assume_in_force || inputs.is_in_force)
        }
        WaitFor::Mode => wait.mode == Some(inputs.mode),
        WaitFor::Joined => inputs.membership == Membership::Joined,
        WaitFor::Ended => !plans.has_ends(wait.end_id.as_ref()),
    }
}

/// Returns whether the mode was changed, since the generation that the client knows, to another than the wait is in or for; or the plan that
/// it is for is over without being done, or the ends were stopped.
fn is_superseded(wait: &Wait, inputs: &WaitInputs, plans: &Plans, stops_before: u64) -> bool {
    if let Some(plan) = &wait.plan {
        return match plans.outcome_of(plan) {
            Ok(Some(outcome)) => outcome != PlanOutcome::Done,
            Ok(None) => false,
            Err(UnknownPlan) => true,
        };
    }
    match (wait.wait_for, wait.generation) {
        (WaitFor::Drained, Some(generation)) => inputs.opened_generation > generation,
        (WaitFor::Mode, Some(generation)) => {
            inputs.generation > generation && wait.mode != Some(inputs.mode)
        }
        (WaitFor::Ended, _) => plans.has_stopped(wait.end_id.as_ref(), stops_before),
        (WaitFor::Drained | WaitFor::Mode, None) | (WaitFor::Joined, _) => false,
    }
}

/// Returns the time for which the condition must hold, if any.
fn settle_time(wait: &Wait) -> Option<Duration> {
    wait.settle_seconds
        .map(duration)
        .filter(|time| !time.is_zero())
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUTS: WaitInputs = WaitInputs {
        sessions: 3,
        sessions_ended: 0,
        mode: Mode::Normal,
        generation: 1,
        opened_generation: 1,
        membership: Membership::Joined,
        is_synced: true,
        is_in_force: true,
        needs_report_or_purge: false,
        plan_changes: 0,
    };

    fn waits(sockets: u64, each: u64) -> Waits {
        let mut waits = Waits {
            seen: Some(INPUTS),
            ..Waits::default()
        };
        for socket in 1..=sockets {
            for serial in 1..=each {
                let kinds = [
                    WaitFor::Mode,
                    WaitFor::Drained,
                    WaitFor::Joined,
                    WaitFor::Ended,
                ];
                let wait_for = kinds[usize::try_from(serial % 4).unwrap()];
                let reply_to = ReplyHandle {
                    socket: SocketId(socket),
                    serial,
                };
                waits.insert(PendingWait {
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
        assert_eq!(waits(1_000, 4).take_changed(INPUTS), [] as [WaitId; 0]);
    }

    #[test]
    fn a_change_has_those_evaluated_that_go_by_it_once() {
        const DRAINED: &[WaitFor] = &[WaitFor::Drained];
        let mut waits = waits(100, 4);
        let mut inputs = INPUTS;
        let mut changed = |change: fn(&mut WaitInputs), evaluated: &[WaitFor]| {
            change(&mut inputs);
            let ids = waits.take_changed(inputs);
            assert_eq!(ids.len(), 100 * evaluated.len(), "{inputs:?}");
            assert!(
                ids.is_sorted()
                    && ids
                        .iter()
                        .all(|id| evaluated.contains(&waits.pending[id].wait.wait_for)),
                "{inputs:?}"
            );
            assert!(waits.take_changed(inputs).is_empty());
        };
        changed(|inputs| inputs.sessions = 2, DRAINED);
        changed(|inputs| inputs.is_synced = false, DRAINED);
        changed(|inputs| inputs.is_in_force = false, DRAINED);
        changed(|inputs| inputs.needs_report_or_purge = true, DRAINED);
        changed(|inputs| inputs.sessions_ended = 1, DRAINED);
        changed(
            |inputs| inputs.plan_changes = 1,
            &[WaitFor::Drained, WaitFor::Ended],
        );
        changed(
            |inputs| (inputs.mode, inputs.generation) = (Mode::BlockNewSession, 2),
            &[WaitFor::Drained, WaitFor::Mode],
        );
        changed(
            |inputs| inputs.membership = Membership::Isolated,
            &[WaitFor::Joined],
        );
        changed(
            |inputs| {
                inputs.membership = Membership::Joined;
                (inputs.generation, inputs.opened_generation) = (3, 3);
            },
            &[WaitFor::Drained, WaitFor::Mode, WaitFor::Joined],
        );
    }

    #[test]
    fn a_client_that_goes_leaves_nothing_behind_and_others_alone() {
        let mut waits = waits(3, 4);
        assert_eq!(waits.count_of(SocketId(2)), 4);
        for id in (5..=8).map(WaitId) {
            assert_eq!(waits.remove(id).unwrap().reply_to.socket, SocketId(2));
            assert!(waits.remove(id).is_none());
        }
        assert_eq!(
            (
                waits.count_of(SocketId(2)),
                waits.by_socket.len(),
                waits.pending.len()
            ),
            (0, 2, 8)
        );
        assert_eq!(
            (
                waits.mode.len(),
                waits.drained.len(),
                waits.joined.len(),
                waits.ended.len()
            ),
            (2, 2, 2, 2)
        );
    }
}
