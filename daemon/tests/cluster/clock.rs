//! `CLOCK_BOOTTIME`: one for all machines of the test, since they are of one kernel.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

pub(crate) fn boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap(),
        u32::try_from(time.tv_nsec).unwrap(),
    )
}

/// A clock that goes at another rate, as a machine's own may.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Thousandths of a true second that it counts in one.
    pub(crate) rate_milli: u32,
}

impl Clock {
    pub(crate) const TRUE: Self = Self { rate_milli: 1_000 };

    pub(crate) fn now(self) -> Duration {
        boot() * self.rate_milli / 1_000
    }
}
