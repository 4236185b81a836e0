//! When the mode ends by itself (`--for`): by the boot clock where the machine has not been restarted since it was set, else by the wall
//! clock, within bounds that hold whatever that says.

use std::time::Duration;

use soramode_protocol::mode::ModeState;
use soramode_protocol::time::Time;

use crate::effect::Record;
use crate::gate::{Ctx, Gate};
use crate::input::Timestamp;
use crate::timers::Timer;

/// How long after a restart of the machine the mode does not end by itself: the wall clock may be wrong until a time server has been heard.
const CLOCK_SETTLES: Duration = Duration::from_mins(1);

/// How often the wall clock is looked at, where the expiry goes by it: it may be set meanwhile.
const CLOCK_LOOK_PAUSE: Duration = Duration::from_mins(1);

/// The difference from which on the wall clock has been set, and does not merely run a little faster.
const CLOCK_STEP: Duration = Duration::from_secs(1);

/// The bounds, by the boot clock, of an expiry that goes by the wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    not_before: Duration,
    /// What was asked for, counted from the start: no wrong clock makes it longer.
    at_latest: Duration,
}

impl Bounds {
    /// When the wall clock reads `expires_at`, by the boot clock, if it goes on as it stands now.
    fn due(&self, expires_at: Time, now: Timestamp) -> Duration {
        let by_wall =
            (now.boot + expires_at.since(now.wall)).saturating_sub(now.wall.since(expires_at));
        by_wall.max(self.not_before).min(self.at_latest)
    }
}

impl Gate {
    /// Sets the expiry of the mode that a start begins with. `at_boot` is what was kept of it, if the machine has been up since.
    pub(crate) fn restore_expiry(&mut self, at_boot: Option<Duration>) {
        let Some(expires_at) = self.mode.expires_at else {
            return;
        };
        let Timestamp { boot, .. } = self.started;
        let asked = expires_at.since(self.mode.since);
        if let Some(at_boot) = at_boot {
            self.timers.set(Timer::Expiry, at_boot.min(boot + asked));
            return;
        }
        self.expiry_bounds = Some(Bounds {
            not_before: boot + CLOCK_SETTLES,
            at_latest: boot + asked.max(CLOCK_SETTLES),
        });
        self.look_at_clock(self.started);
    }

    /// Sets the expiry anew where it goes by the wall clock, which may have been set since the last look.
    pub(crate) fn look_at_clock(&mut self, now: Timestamp) {
        // One that came while the state could not be written waits for that.
        if let (Some(bounds), Some(expires_at)) = (self.expiry_bounds, self.mode.expires_at)
            && (now.boot == self.started.boot || self.timers.is_set(Timer::Expiry))
        {
            let due = bounds.due(expires_at, now);
            let next_look = now.boot + CLOCK_LOOK_PAUSE;
            self.timers
                .set(Timer::Expiry, if due > next_look { next_look } else { due });
        }
    }

    /// Whether the mode ends now that its timer fired; if not, the timer is set anew.
    pub(crate) fn is_expired(&mut self, now: Timestamp) -> bool {
        let (Some(bounds), Some(expires_at)) = (self.expiry_bounds, self.mode.expires_at) else {
            return true;
        };
        let due = bounds.due(expires_at, now);
        if due <= now.boot {
            return true;
        }
        self.timers
            .set(Timer::Expiry, due.min(now.boot + CLOCK_LOOK_PAUSE));
        false
    }

    /// Ends the mode after a time; gives when, by the wall clock as it stands.
    pub(crate) fn set_expiry(&mut self, ctx: &mut Ctx, time: Duration) -> Time {
        let at = ctx.now.boot + time;
        self.expiry_bounds = None;
        self.timers.set(Timer::Expiry, at);
        ctx.effects.records.push(Record::ExpiresAtBoot(Some(at)));
        ctx.now.wall + time
    }

    /// The mode ends by itself no more.
    pub(crate) fn cancel_expiry(&mut self) {
        self.expiry_bounds = None;
        self.timers.cancel(Timer::Expiry);
    }

    /// The mode as it is told: when it ends, by the wall clock as it stands now, which may have been set since.
    pub(crate) fn told_mode(&self, now: Timestamp) -> ModeState {
        let expires_at = self
            .mode
            .expires_at
            .map(|expires_at| self.told_expiry(expires_at, now));
        ModeState {
            expires_at,
            ..self.mode.clone()
        }
    }

    /// When the mode ends, by the wall clock as it stands now.
    pub(crate) fn told_expiry(&self, expires_at: Time, now: Timestamp) -> Time {
        let due = match self.expiry_bounds {
            Some(bounds) => Some(bounds.due(expires_at, now)),
            None => self.timers.at(Timer::Expiry),
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
