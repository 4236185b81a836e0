//! Keep-alive notifications to the service manager (`WatchdogSec=`). The committer alone sends
//! them, and none during a write: a daemon that hangs is restarted.

use std::time::Duration;

use soramode_protocol::or_pending::or_pending;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Notifications per watchdog interval.
const SIGNS: u32 = 2;

/// Timer of the next notification; never due without a watchdog.
#[derive(Debug)]
pub(crate) struct Watchdog(Option<Interval>);

impl Watchdog {
    /// Reads the interval that the service manager wants of this process. Needs a tokio runtime.
    pub(crate) fn of_process() -> Self {
        Self::within(sd_notify::watchdog_enabled())
    }

    fn within(time: Option<Duration>) -> Self {
        Self(
            time.map(|time| time / SIGNS)
                .filter(|pause| !pause.is_zero())
                .map(|pause| {
                    let mut interval = interval(pause);
                    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    interval
                }),
        )
    }

    /// Waits until a sign is due. Cancel safe.
    pub(crate) async fn due(&mut self) {
        or_pending(self.0.as_mut().map(Interval::tick)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn is_due(watchdog: &mut Watchdog) -> bool {
        matches!(
            pin!(watchdog.due()).poll(&mut Context::from_waker(Waker::noop())),
            Poll::Ready(())
        )
    }

    #[tokio::test(start_paused = true)]
    async fn two_notifications_per_interval_and_none_without_a_watchdog() {
        let mut watchdog = Watchdog::within(Some(Duration::from_mins(1)));
        assert!(
            is_due(&mut watchdog) && !is_due(&mut watchdog),
            "one at once"
        );
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(is_due(&mut watchdog) && !is_due(&mut watchdog));
        tokio::time::advance(Duration::from_hours(1)).await;
        assert!(
            is_due(&mut watchdog) && !is_due(&mut watchdog),
            "what was missed is not made up for"
        );
        for nobody in [None, Some(Duration::ZERO)] {
            let mut watchdog = Watchdog::within(nobody);
            tokio::time::advance(Duration::from_hours(1)).await;
            assert!(!is_due(&mut watchdog));
        }
    }
}
