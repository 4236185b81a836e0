//! Deadlines by the boot clock, each with its purpose.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::handles::{ConnectionSlot, FenceId, ReceiverIndex, SessionSlot, SocketId, WaitId};

/// Purpose of a deadline. Where several are due at the same time, they fire in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The lease ends, in part or as a whole.
    Membership,
    /// The mode ends by itself.
    Expiry,
    /// Changes of the mode are answered, whether or not it is in force.
    InForce,
    /// Sora's API is to be polled.
    Poll,
    /// A pending connection has not become live.
    PendingTimeout(ConnectionSlot),
    /// A socket has been closed for the grace time.
    SocketGrace(SocketId),
    /// No client has come back to a session in the reconnect grace.
    ReconnectGrace(SessionSlot),
    /// The SFU is asked again to end sessions that have not ended.
    Fence(FenceId),
    /// A receiver's next delivery is due.
    Delivery(ReceiverIndex),
    /// Something of a plan, an announcement or an end is due. It is done at the end of the step.
    Plan,
    /// The reservation by a roll expires.
    Reservation,
    /// A wait's condition has held for the settling time.
    WaitSettled(WaitId),
    /// A wait gives up.
    WaitTimeout(WaitId),
    /// The progress of a wait is to be reported.
    WaitProgress(WaitId),
}

#[derive(Default)]
pub(crate) struct Timers {
    by_time: BTreeSet<(Duration, Timer)>,
    by_timer: BTreeMap<Timer, Duration>,
}

impl Timers {
    /// Sets a deadline, in place of the one that was set for the same.
    pub(crate) fn set(&mut self, timer: Timer, at: Duration) {
        self.cancel(timer);
        self.by_timer.insert(timer, at);
        self.by_time.insert((at, timer));
    }

    pub(crate) fn cancel(&mut self, timer: Timer) {
        if let Some(at) = self.by_timer.remove(&timer) {
            self.by_time.remove(&(at, timer));
        }
    }

    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.by_timer.contains_key(&timer)
    }

    /// Returns when a deadline comes, if it is set.
    pub(crate) fn at(&self, timer: Timer) -> Option<Duration> {
        self.by_timer.get(&timer).copied()
    }

    pub(crate) fn next(&self) -> Option<Duration> {
        self.by_time.first().map(|&(at, _)| at)
    }

    /// Takes one deadline that has come.
    pub(crate) fn take_due(&mut self, now: Duration) -> Option<Timer> {
        let &(at, timer) = self.by_time.first()?;
        if at > now {
            return None;
        }
        self.cancel(timer);
        Some(timer)
    }
}
