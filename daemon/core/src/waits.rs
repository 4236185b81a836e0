//! Waits: look first, then follow.

use std::collections::BTreeMap;
use std::time::Duration;

use soramode_protocol::error::{Error, ErrorType};
use soramode_protocol::node::Standing;
use soramode_protocol::reply::{Answer, Reply};
use soramode_protocol::session::Session;
use soramode_protocol::wait::{BLOCKERS_MAX, Outcome, WAITS_MAX, Wait, WaitEnded, WaitFor};

use crate::effect::{Act, WaitProgress};
use crate::gate::{Gate, Refusable, Turn};
use crate::input::{SocketId, Ticket};
use crate::timers::Timer;

/// A wait that is under way. Never used twice.
pub(crate) type WaitId = u64;

struct Waiting {
    ticket: Ticket,
    wait: Wait,
    /// Sessions that had ended when it began.
    ended_before: u64,
}

#[derive(Default)]
pub(crate) struct Waits {
    under_way: BTreeMap<WaitId, Waiting>,
    last_id: WaitId,
    /// Something changed that a wait may go by.
    must_look: bool,
}

impl Waits {
    /// Something changed that a wait may go by.
    pub(crate) fn look_again(&mut self) {
        self.must_look = true;
    }

    fn count_of(&self, socket: SocketId) -> usize {
        self.under_way.values().filter(|waiting| waiting.ticket.socket == socket).count()
    }
}

impl Gate {
    pub(crate) fn wait(&mut self, turn: &mut Turn, ticket: Ticket, mut wait: Wait) -> Option<Answer> {
        if let Err(error) = self.check_wait(&wait, ticket.socket) {
            return Some(Err(error));
        }
        if wait.wait_for == WaitFor::Drained {
            wait.generation.get_or_insert(self.mode.generation);
        }
        let settle = wait.settle_seconds.map(duration).filter(|settle| !settle.is_zero());
        let is_over = self.is_superseded(&wait).then_some(Outcome::Superseded);
        let is_over = is_over.or_else(|| (self.holds(&wait) && settle.is_none()).then_some(Outcome::Reached));
        let is_over = is_over.or_else(|| (wait.timeout_seconds == Some(0.0)).then_some(Outcome::Timeout));
        if let Some(outcome) = is_over {
            return Some(Ok(self.wait_ended(turn, outcome)));
        }
        self.waits.last_id += 1;
        let id = self.waits.last_id;
        if let Some(timeout) = wait.timeout_seconds {
            self.timers.set(Timer::GiveUp(id), turn.now.boot + duration(timeout));
        }
        let tells = wait.progress_seconds.is_some();
        self.waits.under_way.insert(id, Waiting { ticket, wait, ended_before: self.sessions_ended });
        self.waits.look_again();
        if tells {
            self.wait_progress(turn, id);
        }
        None
    }

    fn check_wait(&self, wait: &Wait, socket: SocketId) -> Refusable<()> {
        if self.waits.count_of(socket) >= WAITS_MAX {
            let message = format!("this client has {WAITS_MAX} waits under way already");
            return Err(Error::new(ErrorType::InvalidRequest, message).with_hint("Let some end first"));
        }
        match wait.wait_for {
            WaitFor::Drained if self.is_superseded(wait) => Ok(()),
            WaitFor::Drained if !self.mode.mode.is_block() => Err(Error::cannot_drain(self.mode.mode)),
            WaitFor::Drained if !self.known.is_known_soon() && !wait.assume_known => Err(Error::sessions_unknown(&self.what_is_missing())),
            WaitFor::Joined if self.standing == Standing::Standalone => Err(Error::cannot_join()),
            WaitFor::Drained | WaitFor::Joined | WaitFor::Mode => Ok(()),
        }
    }

    /// Looks at every wait, if something changed that one may go by.
    pub(crate) fn settle_waits(&mut self, turn: &mut Turn) {
        if !std::mem::take(&mut self.waits.must_look) {
            return;
        }
        let ids: Vec<WaitId> = self.waits.under_way.keys().copied().collect();
        for id in ids {
            self.look(turn, id);
        }
    }

    fn look(&mut self, turn: &mut Turn, id: WaitId) {
        let Some(waiting) = self.waits.under_way.get(&id) else { return };
        let settle = waiting.wait.settle_seconds.map(duration).filter(|settle| !settle.is_zero());
        let holds = self.holds(&waiting.wait);
        if self.is_superseded(&waiting.wait) {
            return self.end_wait(turn, id, Outcome::Superseded);
        }
        if holds && settle.is_none() {
            return self.end_wait(turn, id, Outcome::Reached);
        }
        match settle {
            Some(settle) if holds && !self.timers.is_set(Timer::Settled(id)) => {
                self.timers.set(Timer::Settled(id), turn.now.boot + settle);
            }
            _ if !holds => self.timers.cancel(Timer::Settled(id)),
            Some(_) | None => {}
        }
    }

    fn holds(&self, wait: &Wait) -> bool {
        match wait.wait_for {
            WaitFor::Drained => {
                let is_low = self.sessions.session_count() <= wait.max_sessions.unwrap_or(0);
                self.mode.mode.is_block() && is_low && (wait.assume_known || self.known.is_confirmed())
            }
            WaitFor::Mode => wait.mode == Some(self.mode.mode),
            WaitFor::Joined => self.standing == Standing::Joined,
        }
    }

    /// Whether the mode was changed, since what the caller knows of, to another than is waited in or for.
    fn is_superseded(&self, wait: &Wait) -> bool {
        match (wait.wait_for, wait.generation) {
            (WaitFor::Drained, Some(generation)) => self.opened_generation > generation,
            (WaitFor::Mode, Some(generation)) => self.mode.generation > generation && wait.mode != Some(self.mode.mode),
            (WaitFor::Drained | WaitFor::Mode, None) | (WaitFor::Joined, _) => false,
        }
    }

    pub(crate) fn wait_settled(&mut self, turn: &mut Turn, id: WaitId) {
        self.end_wait(turn, id, Outcome::Reached);
    }

    pub(crate) fn wait_timed_out(&mut self, turn: &mut Turn, id: WaitId) {
        self.end_wait(turn, id, Outcome::Timeout);
    }

    pub(crate) fn wait_progress(&mut self, turn: &mut Turn, id: WaitId) {
        let Some(waiting) = self.waits.under_way.get(&id) else { return };
        let Some(pause) = waiting.wait.progress_seconds else { return };
        let progress = WaitProgress {
            sessions: self.sessions.session_count(),
            connections: self.sessions.connection_count(),
            oldest_session: self.oldest_session(),
            ended: self.sessions_ended - waiting.ended_before,
        };
        turn.effects.acts.push(Act::Progress(waiting.ticket, Box::new(progress)));
        self.timers.set(Timer::Progress(id), turn.now.boot + duration(pause));
    }

    fn end_wait(&mut self, turn: &mut Turn, id: WaitId, outcome: Outcome) {
        if let Some(waiting) = self.drop_wait(id) {
            let ended = self.wait_ended(turn, outcome);
            turn.effects.acts.push(Act::Answer(waiting.ticket, Ok(ended)));
        }
    }

    fn wait_ended(&self, turn: &Turn, outcome: Outcome) -> Reply {
        let blockers: Vec<Session> =
            self.sessions.by_age(None).take(BLOCKERS_MAX).filter_map(|slot| self.sessions.view_session(slot)).collect();
        Reply::WaitEnded(Box::new(WaitEnded { outcome, status: self.status(turn.now), blockers }))
    }

    /// Whoever waited on this socket is gone.
    pub(crate) fn drop_waits(&mut self, socket: SocketId) {
        let of_socket = self.waits.under_way.iter().filter(|(_, waiting)| waiting.ticket.socket == socket);
        let ids: Vec<WaitId> = of_socket.map(|(&id, _)| id).collect();
        for id in ids {
            self.drop_wait(id);
        }
    }

    fn drop_wait(&mut self, id: WaitId) -> Option<Waiting> {
        for timer in [Timer::Settled(id), Timer::GiveUp(id), Timer::Progress(id)] {
            self.timers.cancel(timer);
        }
        self.waits.under_way.remove(&id)
    }
}

/// Seconds that have been checked to lie within a wait's limits.
fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}
