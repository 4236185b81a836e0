//! Rooms to list, as events of Janus named them. Many events about a room are one request for it.

use std::collections::BTreeSet;
use std::mem;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use super::ids::Id;
use crate::lock::lock;

/// Rooms that are kept; more of them make one list of all.
const ROOMS_MAX: usize = 1_024;

/// Rooms to list.
#[derive(Debug, Default)]
pub(crate) struct Bells {
    due: Mutex<Due>,
    rung: Notify,
    /// Number of requests with events.
    events: AtomicU64,
}

/// Rooms that are to be listed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Due {
    #[default]
    Nothing,
    Rooms(BTreeSet<Id>),
    All,
    /// Janus was restarted: the gate wants a list of all by itself.
    Restarted,
}

impl Bells {
    /// Counts a request with events.
    pub(super) fn note_events(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of requests with events.
    pub(super) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Has a room listed.
    pub(super) fn ring(&self, room: Id) {
        let mut due = lock(&self.due);
        *due = match mem::take(&mut *due) {
            Due::Nothing => Due::Rooms(BTreeSet::from([room])),
            Due::Rooms(mut rooms) if rooms.len() < ROOMS_MAX => {
                rooms.insert(room);
                Due::Rooms(rooms)
            }
            Due::Rooms(_) | Due::All => Due::All,
            Due::Restarted => Due::Restarted,
        };
        self.rung.notify_one();
    }

    /// Has all rooms listed.
    pub(super) fn ring_all(&self) {
        let mut due = lock(&self.due);
        if *due != Due::Restarted {
            *due = Due::All;
        }
        self.rung.notify_one();
    }

    /// Reports that Janus was restarted.
    pub(super) fn ring_restarted(&self) {
        *lock(&self.due) = Due::Restarted;
        self.rung.notify_one();
    }

    /// Waits until something is to be listed. Cancel safe.
    pub(super) async fn due(&self) -> Due {
        loop {
            let due = mem::take(&mut *lock(&self.due));
            if due != Due::Nothing {
                return due;
            }
            self.rung.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_room_is_listed_once_and_too_many_are_all() {
        let bells = Bells::default();
        for _ in 0..3 {
            bells.ring(Id::Number(1));
        }
        assert_eq!(
            bells.due().await,
            Due::Rooms(BTreeSet::from([Id::Number(1)]))
        );
        for room in 0..=u64::try_from(ROOMS_MAX).unwrap() {
            bells.ring(Id::Number(room));
        }
        assert_eq!(bells.due().await, Due::All);
        bells.ring_all();
        bells.ring(Id::Number(1));
        assert_eq!(bells.due().await, Due::All);
        bells.ring_restarted();
        bells.ring_all();
        bells.ring(Id::Number(1));
        assert_eq!(bells.due().await, Due::Restarted);
    }
}
