//! Pending deliveries of one receiver: one is tried at a time, in order.

use std::collections::VecDeque;
use std::time::Duration;

use super::schedule::{NEWS_PAUSE, heeded};

/// Reason of deliveries that failed because their receiver was removed.
pub const REMOVED: &str = "its receiver is no longer configured (--webhook)";

/// Why a delivery failed that was the oldest of too many.
pub const OVERFLOW: &str = "overflow: too many deliveries were pending";

/// Pending deliveries of one receiver. All times are by the boot clock.
#[derive(Default)]
pub(super) struct Queue {
    /// The oldest first.
    pub(super) waiting: VecDeque<u64>,
    /// The delivery that is being tried. It may not be pending any more.
    pub(super) under_way: Option<u64>,
    /// When the schedule tries the first one again. A try before that is an extra one.
    pub(super) due: Option<Duration>,
    /// When the last try ended.
    last_try: Option<Duration>,
    /// Until when the receiver asks to be left alone.
    quiet_until: Duration,
}

impl Queue {
    /// Forgets the pending deliveries, as their receiver was removed.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.due = None;
    }

    /// Notes that a try ended.
    pub(super) fn tried(&mut self, now: Duration, retry_after: Option<Duration>) {
        self.under_way = None;
        self.last_try = Some(now);
        self.quiet_until = now + heeded(retry_after);
    }

    /// Returns when the schedule tries the first delivery again, if that is still to come.
    pub(super) fn due_after(&self, now: Duration) -> Option<Duration> {
        self.due.filter(|due| *due > now)
    }

    /// Returns when a new event may have the first delivery tried ahead of its time.
    pub(super) fn news_at(&self, now: Duration) -> Duration {
        self.last_try
            .map_or(now, |last_try| last_try + NEWS_PAUSE)
            .max(self.quiet_until)
            .max(now)
    }
}
