//! The machine's clocks, for the gate: the one place where time is read, and a timer on the clock its deadlines go by.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use soramode_core::handles::Timestamp;
use soramode_protocol::time::Time;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::readiness::watch;

const MICROS_IN_A_SECOND: i64 = 1_000_000;
const NANOS_IN_A_MICRO: i64 = 1_000;

/// Size of what the kernel returns for a timer that fired: the number of expirations.
const FIRED_BYTES: usize = 8;

/// Returns the wall clock, truncated to microseconds, and the time since boot, including
/// suspension.
pub fn now() -> Timestamp {
    let wall = clock_gettime(ClockId::Realtime);
    let boot = clock_gettime(ClockId::Boottime);
    Timestamp {
        wall: Time::from_micros(
            wall.tv_sec
                .saturating_mul(MICROS_IN_A_SECOND)
                .saturating_add(wall.tv_nsec / NANOS_IN_A_MICRO),
        ),
        // Neither part is ever negative on this clock.
        boot: Duration::new(
            u64::try_from(boot.tv_sec).unwrap_or(0),
            u32::try_from(boot.tv_nsec).unwrap_or(0),
        ),
    }
}

/// A timer for one deadline at a time on `CLOCK_BOOTTIME`. Tokio's own stands still while the machine is suspended.
#[derive(Debug)]
pub struct BootTimer(AsyncFd<OwnedFd>);

impl BootTimer {
    /// A timer without a deadline. Needs a tokio runtime.
    pub fn new() -> io::Result<Self> {
        let timer = timerfd_create(
            TimerfdClockId::Boottime,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        watch(timer, Interest::READABLE).map(Self)
    }

    /// Sets the timer to fire once, when the boot clock reads `deadline`: at once if that has
    /// passed, never for `None`. Replaces the previous deadline.
    pub fn set(&self, deadline: Option<Duration>) -> io::Result<()> {
        // All zeroes would stop the timer, so a deadline at boot itself comes a nanosecond later.
        let it_value = deadline.map_or(timespec(Duration::ZERO), |at| {
            timespec(at.max(Duration::from_nanos(1)))
        });
        let once = Itimerspec {
            it_interval: timespec(Duration::ZERO),
            it_value,
        };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::ABSTIME, &once)?;
        Ok(())
    }

    /// Waits for the deadline and consumes it: the next call waits for the next one. Cancel safe.
    pub async fn fired(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut times = [0; FIRED_BYTES];
            // A timer that was set again after it fired has nothing to read: the readiness was of
            // the old deadline.
            if let Ok(taken) = ready.try_io(|timer| Ok(rustix::io::read(timer, &mut times)?)) {
                return taken.map(drop);
            }
        }
    }
}

/// The wall clock of a time far ahead, in 2106. Libraries that simulate another time calculate with it in nanoseconds, which must not overflow.
const FAR_AHEAD: Duration = Duration::from_secs(1 << 32);

/// Changes of the wall clock by anything but the passing of time, such as `date -s` or a step of NTP. Waiting costs nothing.
#[derive(Debug)]
pub struct ClockChanges(AsyncFd<OwnedFd>);

impl ClockChanges {
    /// Watches the clock from now on. Needs a tokio runtime.
    pub fn new() -> io::Result<Self> {
        let timer = timerfd_create(
            TimerfdClockId::Realtime,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        // A timer that does not fire. The kernel cancels it when the clock is set.
        let never = Itimerspec {
            it_interval: timespec(Duration::ZERO),
            it_value: timespec(FAR_AHEAD),
        };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        timerfd_settime(&timer, flags, &never)?;
        watch(timer, Interest::READABLE).map(Self)
    }

    /// Waits for the next change. Cancel safe.
    pub async fn next(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut times = [0; FIRED_BYTES];
            match ready.try_io(|timer| Ok(rustix::io::read(timer, &mut times)?)) {
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::CANCELED.raw_os_error()) => {
                    return Ok(());
                }
                Ok(Err(error)) => return Err(error),
                // It was ready for a change that was read before.
                Ok(Ok(_)) | Err(_) => {}
            }
        }
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    const LATER: Duration = Duration::from_hours(1);

    /// Polls once, without waiting.
    fn is_fired(timer: &BootTimer) -> bool {
        matches!(
            pin!(timer.fired()).poll(&mut Context::from_waker(Waker::noop())),
            Poll::Ready(Ok(()))
        )
    }

    #[test]
    fn both_clocks_go_forward() {
        let (earlier, later) = (now(), now());
        assert!(earlier.boot <= later.boot && later.boot > Duration::ZERO);
        assert!(earlier.wall > "2025-01-01T00:00:00Z".parse().unwrap());
    }

    #[tokio::test]
    async fn a_clock_that_is_not_set_does_not_change() {
        let changes = ClockChanges::new().unwrap();
        let pause = BootTimer::new().unwrap();
        pause
            .set(Some(now().boot + Duration::from_millis(5)))
            .unwrap();
        tokio::select! {
            set = changes.next() => panic!("{set:?}"),
            fired = pause.fired() => fired.unwrap(),
        }
    }

    #[tokio::test]
    async fn fires_at_its_deadline_and_not_before() {
        let timer = BootTimer::new().unwrap();
        let deadline = now().boot + Duration::from_millis(5);
        timer.set(Some(deadline)).unwrap();
        timer.fired().await.unwrap();
        assert!(now().boot >= deadline);
        assert!(!is_fired(&timer), "a deadline is taken once");
    }

    #[tokio::test]
    async fn a_past_deadline_fires_at_once_and_so_does_zero() {
        let timer = BootTimer::new().unwrap();
        for over in [Duration::ZERO, Duration::from_nanos(1), now().boot] {
            timer.set(Some(over)).unwrap();
            timer.fired().await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_new_deadline_replaces_one_that_fired_unnoticed() {
        let timer = BootTimer::new().unwrap();
        timer.set(Some(Duration::ZERO)).unwrap();
        // Tokio sees the readiness before the timer is set again.
        timer.0.readable().await.unwrap().retain_ready();
        for deadline in [None, Some(now().boot + LATER), Some(Duration::MAX)] {
            timer.set(deadline).unwrap();
            assert!(!is_fired(&timer));
        }
        timer.set(Some(now().boot)).unwrap();
        timer.fired().await.unwrap();
    }

    #[tokio::test]
    async fn a_wait_that_was_dropped_loses_nothing() {
        let timer = BootTimer::new().unwrap();
        timer.set(Some(now().boot + LATER)).unwrap();
        assert!(!is_fired(&timer));
        timer.set(Some(now().boot)).unwrap();
        timer.fired().await.unwrap();
    }
}
