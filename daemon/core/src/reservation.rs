//! The node's reservation by a roll: as long as it is current, only that roll may close the node.
//!
//! Its time goes by the boot clock. A roll closes the node only in the round of its last renewal, so that a late request of an earlier
//! round does nothing; and only after a renewal since the daemon started, for a start makes the reservation last longer than that round
//! promised to the other nodes.

use std::time::Duration;

use soramode_protocol::error::Error;
use soramode_protocol::id::RollId;
use soramode_protocol::reservation::{
    Release, Released, Reservation, Reserve, Reserved, RollStep, roll_words,
};

use crate::ctx::Ctx;
use crate::effect::Record;
use crate::fault::{Fault, PlantedFault};
use crate::handles::Timestamp;
use crate::input::HostState;
use crate::past_rounds::PastRounds;
use crate::stored::StoredReservation;
use crate::timers::Timer;

/// Right of a roll to close the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseRight {
    /// It may close the node.
    Held,
    /// Its reservation is current, and was renewed in another round.
    OtherRound,
    /// Its reservation is current, and was not renewed since the daemon started.
    NotRenewed,
    /// It has no current reservation.
    None,
}

/// The node's reservation: the current one, or the last one.
#[derive(Default)]
pub(crate) struct Reservations {
    record: Option<StoredReservation>,
    /// True if it was renewed since the daemon started.
    is_renewed: bool,
    /// Rounds of rolls that are not on record. Late requests of these rolls are refused.
    past: PastRounds,
    fault: PlantedFault,
}

impl Reservations {
    /// Takes what was stored.
    pub(crate) fn restore(record: Option<StoredReservation>) -> Self {
        Self {
            record,
            ..Self::default()
        }
    }

    /// Plants a mistake.
    #[cfg(feature = "fault-injection")]
    pub(crate) const fn plant(&mut self, fault: PlantedFault) {
        self.fault = fault;
    }

    /// Begins after a start: a current reservation keeps others out for its whole time anew. After a reboot it counts as current, for the
    /// boot clock of before says nothing.
    pub(crate) fn begin(&mut self, ctx: &mut Ctx, host: HostState) {
        let now = ctx.now.boot;
        let Some(record) = &mut self.record else {
            return;
        };
        let before = record.clone();
        if let Some(expires) = record.expires {
            let is_current = host == HostState::Rebooted || now < expires;
            record.expires = is_current.then(|| now + record.time);
        }
        record.rebooted |= host == HostState::Rebooted && record.step.is_some();
        if before.expires.is_some() || *record != before {
            ctx.record(Record::Reservation(Box::new(record.clone())));
        }
        self.is_renewed = self.fault.is(Fault::ReservationOutlivesRestart);
        self.set_timer(ctx);
    }

    /// Records that the reservation has expired, so that no reboot brings it back.
    pub(crate) fn expire(&mut self, ctx: &mut Ctx) {
        let now = ctx.now;
        if let Some(record) = self.record.as_mut().filter(|it| !it.is_current(now)) {
            record.expires = None;
            ctx.record(Record::Reservation(Box::new(record.clone())));
        }
    }

    /// Sets the timer for the expiry.
    fn set_timer(&self, ctx: &mut Ctx) {
        match self.record.as_ref().and_then(|record| record.expires) {
            Some(expires) => ctx.timers.set(Timer::Reservation, expires),
            None => ctx.timers.cancel(Timer::Reservation),
        }
    }

    /// Reserves the node, renews the reservation, or records a step.
    pub(crate) fn reserve(
        &mut self,
        ctx: &mut Ctx,
        request: &Reserve,
        actor: &str,
    ) -> Result<Reserved, Error> {
        let now = ctx.now;
        let own = self.record.clone();
        let own = own.filter(|record| record.roll == request.roll);
        let other = self.shown(now).filter(|_| own.is_none());
        if let Some(other) = other.clone().filter(Reservation::is_current) {
            return Err(Error::reserved(other));
        }
        let last_round = match &own {
            Some(own) => Some(own.round),
            None => self.past.of(now.boot, &request.roll),
        };
        let round = request.round.unwrap_or(0);
        if let Some(last) = last_round.filter(|last| request.seconds.is_some() && round < *last) {
            let shown = own.map(|own| own.shown(now));
            return Err(Error::round_is_over(&request.roll, (round, last), shown));
        }
        let record = match (own, request.seconds) {
            (Some(own), None) => own.at_step(request, StepOrder::Forward),
            (None, None) => return Err(Error::no_reservation(&request.roll)),
            (own, Some(seconds)) => {
                self.is_renewed = true;
                self.keep_replaced(now, &request.roll);
                renewed(
                    own.as_ref(),
                    request,
                    Duration::from_secs(seconds),
                    actor,
                    now,
                )
            }
        };
        let expires_in_seconds = record.expires_in_seconds(now);
        ctx.record(Record::Reservation(Box::new(record.clone())));
        self.record = Some(record);
        self.set_timer(ctx);
        Ok(Reserved {
            expires_in_seconds,
            previous: other,
        })
    }

    /// Keeps the round of the record that another roll's replaces.
    fn keep_replaced(&mut self, now: Timestamp, roll: &RollId) {
        self.past.take(now.boot, roll);
        let other = self.record.as_ref().filter(|record| record.roll != *roll);
        if let Some(other) = other.filter(|_| !self.fault.is(Fault::OtherRollForgetsRound)) {
            self.past.keep(now.boot, &other.roll, other.round);
        }
    }

    /// Ends the reservation of a roll. Its requests of earlier rounds, which may still be on their way, are refused from then on, also where
    /// none has arrived yet.
    pub(crate) fn release(&mut self, ctx: &mut Ctx, release: &Release) -> Released {
        let now = ctx.now;
        let own = self.record.as_mut();
        let Some(record) = own.filter(|record| record.roll == release.roll) else {
            let forgets = self.fault.is(Fault::UnknownReleaseIsForgotten);
            if let Some(round) = release.round.filter(|_| !forgets) {
                self.past.keep(now.boot, &release.roll, round);
            }
            return Released { found: false };
        };
        if release.round.is_some_and(|round| round < record.round) {
            return Released { found: false };
        }
        let before = record.clone();
        let found = record.is_current(now);
        record.expires = None;
        if !self.fault.is(Fault::ReleaseForgetsRound) {
            record.round = release.round.unwrap_or(record.round);
        }
        if *record != before {
            ctx.record(Record::Reservation(Box::new(record.clone())));
        }
        self.set_timer(ctx);
        Released { found }
    }

    /// Returns the reservation as clients see it.
    pub(crate) fn shown(&self, now: Timestamp) -> Option<Reservation> {
        self.record.as_ref().map(|record| record.shown(now))
    }

    /// Returns the right of a roll to close the node in this round.
    pub(crate) fn right_to_close(&self, now: Timestamp, roll: &RollId, round: u64) -> CloseRight {
        let record = self.record.as_ref();
        match record.filter(|record| record.roll == *roll && record.is_current(now)) {
            None => CloseRight::None,
            Some(_) if !self.is_renewed => CloseRight::NotRenewed,
            Some(record) if record.round != round && !self.fault.is(Fault::AnyRoundCloses) => {
                CloseRight::OtherRound
            }
            Some(_) => CloseRight::Held,
        }
    }

    /// Refuses to let a roll close the node without the right to.
    pub(crate) fn check_close(
        &self,
        now: Timestamp,
        roll: &RollId,
        round: u64,
    ) -> Result<(), Error> {
        let shown = self.shown(now);
        let problem = match self.right_to_close(now, roll, round) {
            CloseRight::Held => return Ok(()),
            CloseRight::OtherRound => format!("its reservation is not of round {round}"),
            CloseRight::NotRenewed => {
                "soramoded has started since its reservation was renewed".to_owned()
            }
            CloseRight::None => match shown {
                Some(other) if other.is_current() => return Err(Error::reserved(other)),
                Some(_) | None => "it has no current reservation".to_owned(),
            },
        };
        Err(Error::reservation_missing(roll, problem, shown))
    }

    /// Refuses if the node is reserved.
    pub(crate) fn check_unreserved(&self, now: Timestamp) -> Result<(), Error> {
        match self.shown(now).filter(Reservation::is_current) {
            Some(reservation) => Err(Error::reserved(reservation)),
            None => Ok(()),
        }
    }

    /// Returns a warning if the node is reserved, and not for this roll.
    pub(crate) fn warning(&self, now: Timestamp, roll: Option<&RollId>) -> Option<String> {
        let shown = self.shown(now).filter(Reservation::is_current);
        let other = shown.filter(|it| Some(&it.roll) != roll)?;
        Some(format!(
            "the node is reserved for {} of {}, which counts on its mode",
            roll_words(&other.roll),
            other.by
        ))
    }

    /// Returns when the reservation of a roll expires, if it is current.
    pub(crate) fn expires(&self, now: Timestamp, roll: &RollId) -> Option<Duration> {
        let record = self.record.as_ref()?;
        record
            .expires
            .filter(|_| record.roll == *roll && record.is_current(now))
    }
}

/// Order in which the steps of a roll are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StepOrder {
    /// An earlier step is ignored.
    Forward,
    /// Any step is recorded.
    Any,
}

/// Returns the reservation that a request with a time makes of the roll's own one, if there is one.
fn renewed(
    own: Option<&StoredReservation>,
    request: &Reserve,
    time: Duration,
    actor: &str,
    now: Timestamp,
) -> StoredReservation {
    let round = request.round.unwrap_or(0);
    let is_next = own.is_none_or(|own| round > own.round);
    let order = if is_next {
        StepOrder::Any
    } else {
        StepOrder::Forward
    };
    let record = StoredReservation {
        roll: request.roll.clone(),
        by: request.by.clone().unwrap_or_default(),
        actor: actor.to_owned(),
        since: own.map_or(now.wall, |own| own.since),
        round,
        step: own.and_then(|own| own.step),
        command_exit: own.and_then(|own| own.command_exit),
        rebooted: own.is_some_and(|own| own.rebooted),
        time,
        expires: Some(now.boot + time),
    };
    record.at_step(request, order)
}

impl StoredReservation {
    fn is_current(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| now.boot < expires)
    }

    /// Returns the seconds until it expires, rounded up; `None` if it is over.
    fn expires_in_seconds(&self, now: Timestamp) -> Option<u64> {
        let expires = self.expires.filter(|_| self.is_current(now))?;
        let left = expires.saturating_sub(now.boot);
        Some(left.as_secs() + u64::from(left.subsec_nanos() > 0))
    }

    fn shown(&self, now: Timestamp) -> Reservation {
        Reservation {
            roll: self.roll.clone(),
            by: self.by.clone(),
            actor: self.actor.clone(),
            since: self.since,
            round: self.round,
            step: self.step,
            command_exit: self.command_exit,
            rebooted: self.rebooted,
            expires_in_seconds: self.expires_in_seconds(now),
        }
    }

    /// Returns it with the step of a request. A late request does not take back a later step.
    fn at_step(mut self, request: &Reserve, order: StepOrder) -> Self {
        let is_recorded = order == StepOrder::Any || request.step >= self.step;
        if request.step.is_some() && is_recorded {
            self.rebooted &= order == StepOrder::Forward && request.step == self.step;
            self.step = request.step;
            if request.step <= Some(RollStep::CommandEnded) {
                self.command_exit = request.command_exit;
            }
        }
        self
    }
}
