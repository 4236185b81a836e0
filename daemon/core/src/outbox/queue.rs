//! Pending deliveries of one receiver: one is sent at a time, in order.

use std::collections::VecDeque;
use std::time::Duration;

use crate::handles::DeliveryId;

use super::schedule::{NEW_EVENT_PAUSE, capped};

/// Reason of deliveries that failed because their receiver was removed.
pub const REMOVED: &str = "its receiver is no longer configured (--webhook)";

/// Why a delivery failed that was the oldest of too many.
pub const OVERFLOW: &str = "overflow: too many deliveries were pending";

/// Pending deliveries of one receiver. All times are by the boot clock.
#[derive(Default)]
pub(super) struct ReceiverQueue {
    /// The oldest first.
    pub(super) waiting: VecDeque<DeliveryId>,
    /// Delivery that is being sent. It may not be pending any more.
    pub(super) in_flight: Option<DeliveryId>,
    /// When the schedule sends the first one again. An attempt before that is an extra one.
    pub(super) due: Option<Duration>,
    /// When the last attempt ended.
    last_attempt: Option<Duration>,
    /// End of the pause that the receiver requested.
    quiet_until: Duration,
}

impl ReceiverQueue {
    /// Forgets the pending deliveries, as their receiver was removed.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.due = None;
    }

    /// Notes that an attempt ended.
    pub(super) fn on_attempted(&mut self, now: Duration, retry_after: Option<Duration>) {
        self.in_flight = None;
        self.last_attempt = Some(now);
        self.quiet_until = now + capped(retry_after);
    }

    /// Returns when the schedule sends the first delivery again, if that is still to come.
    pub(super) fn due_after(&self, now: Duration) -> Option<Duration> {
        self.due.filter(|due| *due > now)
    }

    /// Returns the earliest time at which a new event may have the first delivery sent ahead of the schedule.
    pub(super) fn retry_from(&self, now: Duration) -> Duration {
        self.last_attempt
            .map_or(now, |last_attempt| last_attempt + NEW_EVENT_PAUSE)
            .max(self.quiet_until)
            .max(now)
    }
}
