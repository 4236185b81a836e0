//! When the mode ends by itself (`--for`): by the boot clock where the machine has not been restarted since it was set, else by the wall
//! clock, within bounds that do not depend on it.

use std::time::Duration;

use soramode_protocol::time::Time;

use crate::ctx::Ctx;
use crate::effect::Record;
use crate::handles::Timestamp;
use crate::timers::{Timer, Timers};

/// Time after a restart of the machine in which the mode does not end by itself: the wall clock may be wrong until a time server has set it.
const CLOCK_SETTLES: Duration = Duration::from_mins(1);

/// Time between two reads of the wall clock, where the expiry goes by it: it may be set meanwhile.
const CLOCK_READ_PAUSE: Duration = Duration::from_mins(1);

/// The difference from which on the wall clock has been set, and does not merely run a little faster.
pub(crate) const CLOCK_STEP: Duration = Duration::from_secs(1);

/// Measure of the mode's expiry. The timer [`Timer::Expiry`] holds its next deadline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expiry {
    started: Timestamp,
    /// Set if it is measured by the wall clock.
    bounds: Option<Bounds>,
}

/// The bounds, by the boot clock, of an expiry that is measured by the wall clock.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    not_before: Duration,
    /// The requested time, counted from the start: no wrong clock makes it longer.
    at_latest: Duration,
}

impl Bounds {
    /// Returns when the wall clock reads `expires_at`, by the boot clock, if it goes on as it stands now.
    fn due(&self, expires_at: Time, now: Timestamp) -> Duration {
        let by_wall =
            (now.boot + expires_at.since(now.wall)).saturating_sub(now.wall.since(expires_at));
        by_wall.max(self.not_before).min(self.at_latest)
    }
}

impl Expiry {
    /// Creates one for a mode that does not end by itself.
    pub(crate) const fn new(started: Timestamp) -> Self {
        Self {
            started,
            bounds: None,
        }
    }

    /// Sets the expiry of a mode that was set before the start, for the time `requested`. `at_boot` is its stored deadline, if the machine
    /// has not been restarted since.
    pub(crate) fn restore(
        &mut self,
        timers: &mut Timers,
        expires_at: Time,
        requested: Duration,
        at_boot: Option<Duration>,
    ) {
        let Timestamp { boot, .. } = self.started;
        if let Some(at_boot) = at_boot {
            timers.set(Timer::Expiry, at_boot.min(boot + requested));
            return;
        }
        self.bounds = Some(Bounds {
            not_before: boot + CLOCK_SETTLES,
            at_latest: boot + requested.max(CLOCK_SETTLES),
        });
        self.follow_clock(timers, expires_at, self.started);
    }

    /// Sets the deadline anew where it goes by the wall clock, which may have been set meanwhile.
    pub(crate) fn follow_clock(&self, timers: &mut Timers, expires_at: Time, now: Timestamp) {
        // One that came while the state could not be written waits for that.
        if let Some(bounds) = self.bounds
            && (now.boot == self.started.boot || timers.is_set(Timer::Expiry))
        {
            let due = bounds.due(expires_at, now);
            timers.set(Timer::Expiry, due.min(now.boot + CLOCK_READ_PAUSE));
        }
    }

    /// Returns whether the mode ends now that its timer fired; if not, sets the timer anew.
    pub(crate) fn is_over(&self, timers: &mut Timers, expires_at: Time, now: Timestamp) -> bool {
        let Some(due) = self.bounds.map(|bounds| bounds.due(expires_at, now)) else {
            return true;
        };
        if due <= now.boot {
            return true;
        }
        timers.set(Timer::Expiry, due.min(now.boot + CLOCK_READ_PAUSE));
        false
    }

    /// Has the mode end after a time. Returns when that is, by the wall clock as it stands.
    pub(crate) fn set(&mut self, ctx: &mut Ctx, time: Duration) -> Time {
        let at = ctx.now.boot + time;
        self.bounds = None;
        ctx.timers.set(Timer::Expiry, at);
        ctx.record(Record::ExpiresAtBoot(Some(at)));
        ctx.now.wall + time
    }

    pub(crate) fn cancel(&mut self, timers: &mut Timers) {
        self.bounds = None;
        timers.cancel(Timer::Expiry);
    }

    /// Returns when the mode ends, by the wall clock as it stands now.
    pub(crate) fn shown(&self, timers: &Timers, expires_at: Time, now: Timestamp) -> Time {
        let due = match self.bounds {
            Some(bounds) => Some(bounds.due(expires_at, now)),
            None => timers.at(Timer::Expiry),
        };
        let Some(due) = due.filter(|due| *due > now.boot) else {
            return expires_at;
        };
        let by_now = now.wall + due.saturating_sub(now.boot);
        let difference = by_now.since(expires_at).max(expires_at.since(by_now));
        if difference < CLOCK_STEP {
            expires_at
        } else {
            by_now
        }
    }
}
