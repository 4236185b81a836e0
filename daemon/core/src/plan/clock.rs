//! Moments by both clocks.

use std::time::Duration;

use soramode_protocol::time::Time;

use super::stored::Moment;
use crate::expiry::CLOCK_STEP;
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

    /// Returns the moment of a time by the wall clock, as both clocks stand. A moment that has come by the wall clock has come by the boot
    /// clock.
    pub(crate) fn of_wall(wall: Time, now: Timestamp) -> Self {
        let left = wall.as_micros().saturating_sub(now.wall.as_micros());
        Self {
            wall,
            boot_micros: micros(now.boot).saturating_add(left),
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

    /// Returns the moment at which both have come, by each clock.
    pub(crate) fn latest(self, other: Self) -> Self {
        Self {
            wall: self.wall.max(other.wall),
            boot_micros: self.boot_micros.max(other.boot_micros),
        }
    }

    /// Returns how long ago it was, by the boot clock.
    pub(crate) fn ago(self, now: Timestamp) -> Duration {
        let micros = micros(now.boot).saturating_sub(self.boot_micros);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    /// Returns how much later than another it is, by the boot clock.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        let micros = self.boot_micros.saturating_sub(earlier.boot_micros);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    /// Returns the same moment with its time by the boot clock set from the wall clock as it stands.
    pub(crate) fn boot_from_wall(self, now: Timestamp) -> Self {
        Self::of_wall(self.wall, now)
    }

    /// Returns the same moment with its time by the wall clock computed anew from the boot clock, if the wall clock was set since.
    pub(crate) fn wall_from_boot(self, now: Timestamp) -> Self {
        let left = self.boot_micros.saturating_sub(micros(now.boot));
        let wall = shifted(now.wall, left);
        let difference = wall.since(self.wall).max(self.wall.since(wall));
        Self {
            wall: if difference < CLOCK_STEP {
                self.wall
            } else {
                wall
            },
            boot_micros: self.boot_micros,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_keeps_its_time_by_the_wall_clock_until_that_is_set() {
        let at = |wall: u64, boot: u64| Timestamp {
            wall: Time::from_micros(i64::try_from(wall).unwrap()),
            boot: Duration::from_micros(boot),
        };
        let moment = Moment::now(at(5_000_000, 7_000_000));
        let a_second_later = at(6_000_003, 8_000_000);
        assert_eq!(moment.wall_from_boot(a_second_later).wall, moment.wall);
        let set_forward = moment.wall_from_boot(at(60_000_000, 8_000_000));
        assert_eq!(set_forward.wall, Time::from_micros(59_000_000));
    }

    #[test]
    fn a_moment_that_has_come_by_the_wall_clock_has_come_by_the_boot_clock() {
        let now = Timestamp {
            wall: Time::from_micros(1_000_000),
            boot: Duration::from_nanos(7_000_001),
        };
        let moment = Moment::now(now);
        assert!(moment.boot() > now.boot, "rounded up");
        assert!(moment.boot_from_wall(now).boot() <= now.boot);
        let next = moment.shifted(1).boot_from_wall(now);
        assert!(next.boot() > now.boot, "one microsecond later");
    }
}
