//! Limits that all clients of one access level share. Operators have a budget of their own, so that
//! viewers cannot use it up.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use soramode_protocol::access::Access;
use soramode_protocol::or_pending::or_pending;
use tokio::sync::Semaphore;
use tokio::task::yield_now;

use super::turns::Turns;

/// Concurrent reads of stored events by clients of one level: each has a thread.
pub const READINGS_MAX: usize = 1;

/// Waits of all viewers together.
pub const VIEW_WAITS_MAX: usize = 1_024;

/// Waits of all operators together.
pub const OPERATE_WAITS_MAX: usize = 16_384;

/// Memory for unread answers of all viewers together, in bytes. Past it, no more lines are read
/// from a viewer with unread answers.
pub const VIEW_UNREAD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Memory for unread answers of all operators together, in bytes.
pub const OPERATE_UNREAD_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Requests of one client that may be in flight; past that it is not read until some are answered.
pub const IN_FLIGHT_MAX: usize = 256;

/// Requests of one viewer that may be undecided or unanswered.
pub const VIEW_IN_FLIGHT_MAX: usize = 32;

/// Lines of a viewer that are read in one of its turns, in bytes.
const VIEW_TURN_BYTES: usize = 4 * 1024;

/// Bytes of an operator's lines per turn: an operator with many requests delays no other client.
const OPERATE_TURN_BYTES: usize = 16 * 1024;

/// The budget of each kind of client.
#[derive(Clone, Debug)]
pub(crate) struct Budgets {
    viewers: Arc<Budget>,
    operators: Arc<Budget>,
}

/// Limits that clients of one kind share.
#[derive(Debug)]
pub(super) struct Budget {
    /// Readings of stored events. Taken before a thread is.
    pub(super) readings: Arc<Semaphore>,
    pub(super) waits: Arc<Semaphore>,
    pub(super) waits_max: usize,
    pub(super) unread: Arc<Unread>,
    /// Requests of one client that may be undecided or unanswered.
    pub(super) in_flight_max: usize,
    /// Lines of one client that are read in one turn, in bytes.
    pub(super) turn_bytes: usize,
    /// Turns for reading lines; operators need none.
    turns: Option<Turns>,
}

impl Budgets {
    pub(crate) fn new() -> Self {
        let viewers = Budget {
            readings: Arc::new(Semaphore::new(READINGS_MAX)),
            waits: Arc::new(Semaphore::new(VIEW_WAITS_MAX)),
            waits_max: VIEW_WAITS_MAX,
            unread: Arc::new(Unread::new(VIEW_UNREAD_BYTES_MAX)),
            in_flight_max: VIEW_IN_FLIGHT_MAX,
            turn_bytes: VIEW_TURN_BYTES,
            turns: Some(Turns::new()),
        };
        let operators = Budget {
            readings: Arc::new(Semaphore::new(READINGS_MAX)),
            waits: Arc::new(Semaphore::new(OPERATE_WAITS_MAX)),
            waits_max: OPERATE_WAITS_MAX,
            unread: Arc::new(Unread::new(OPERATE_UNREAD_BYTES_MAX)),
            in_flight_max: IN_FLIGHT_MAX,
            turn_bytes: OPERATE_TURN_BYTES,
            turns: None,
        };
        Self {
            viewers: Arc::new(viewers),
            operators: Arc::new(operators),
        }
    }

    pub(super) const fn of(&self, access: Access) -> &Arc<Budget> {
        match access {
            Access::View => &self.viewers,
            Access::Operate => &self.operators,
        }
    }

    /// Gives viewers their turns, for as long as it is polled.
    pub(super) async fn refill(self) -> Infallible {
        or_pending(self.viewers.turns.as_ref().map(Turns::refill)).await
    }
}

impl Budget {
    /// Lets the others have their turn, and waits for the next of this client. Cancel safe.
    pub(super) async fn next_turn(&self) {
        yield_now().await;
        self.first_turn().await;
    }

    /// Waits for the first turn of a new client.
    pub(super) async fn first_turn(&self) {
        if let Some(turns) = &self.turns {
            turns.take().await;
        }
    }
}

/// Memory for the unread answers of all clients of one kind.
#[derive(Debug)]
pub(super) struct Unread {
    bytes: AtomicUsize,
    max: usize,
}

impl Unread {
    pub(super) const fn new(max: usize) -> Self {
        Self {
            bytes: AtomicUsize::new(0),
            max,
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns whether the memory is used up.
    pub(super) fn is_used_up(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= self.max
    }

    /// Counts a client that had `before` and now has `after`.
    pub(super) fn change(&self, before: usize, after: usize) {
        self.bytes
            .fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }
}
