//! Moments by both clocks.

use std::time::Duration;

use soramode_protocol::time::Time;

use super::stored::Moment;
use crate::handles::Timestamp;

/// Microseconds of a duration.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Returns the time this many microseconds later, or earlier if negative.
pub(crate) const fn shifted(time: Time, micros: i64) -> Time {
    Time::from_micros(time.as_micros().saturating_add(micros))
}

impl Moment {
    /// Returns the present, rounded up: nothing that counts from it comes early.
    pub(crate) fn now(now: Timestamp) -> Self {
        let is_even = now.boot.subsec_nanos().is_multiple_of(1_000);
        Self {
            wall: now.wall,
            boot_micros: micros(now.boot).saturating_add(i64::from(!is_even)),
        }
    }

    /// Returns the moment this many microseconds later, or earlier if negative.
    pub(crate) const fn shifted(self, micros: i64) -> Self {
        Self {
            wall: shifted(self.wall, micros),
            boot_micros: self.boot_micros.saturating_add(micros),
        }
    }

    /// Returns the moment in its time by the boot clock; 0 if that was before the boot.
    pub(crate) fn boot(self) -> Duration {
        Duration::from_micros(u64::try_from(self.boot_micros).unwrap_or(0))
    }

    /// Returns how long ago it was, by the boot clock.
    pub(crate) fn ago(self, now: Timestamp) -> Duration {
        let micros = micros(now.boot).saturating_sub(self.boot_micros);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    /// Returns the same moment with its time by the boot clock set from the wall clock as it stands.
    pub(crate) fn by_wall(self, now: Timestamp) -> Self {
        let left = self.wall.as_micros().saturating_sub(now.wall.as_micros());
        Self {
            wall: self.wall,
            boot_micros: Self::now(now).boot_micros.saturating_add(left),
        }
    }

    /// Returns the same moment with its time by the wall clock set from the boot clock.
    pub(crate) fn by_boot(self, now: Timestamp) -> Self {
        let left = self.boot_micros.saturating_sub(micros(now.boot));
        Self {
            wall: shifted(now.wall, left),
            boot_micros: self.boot_micros,
        }
    }
}
