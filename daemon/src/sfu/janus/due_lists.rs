//! Rooms to list, as events of Janus named them. Many events about a room make one request for it.

use std::collections::BTreeSet;
use std::mem;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use super::ids::Id;
use crate::lock::lock;

/// Rooms that are kept; more of them make one list of all.
const ROOMS_MAX: usize = 1_024;

/// Longest id of a room that is kept, in bytes; an event with a longer one makes a list of all.
const ROOM_BYTES_MAX: usize = 1_024;

/// Rooms to list.
#[derive(Debug, Default)]
pub(crate) struct DueLists {
    due: Mutex<Due>,
    changed: Notify,
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

impl DueLists {
    /// Counts a request with events.
    pub(super) fn note_events(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of requests with events.
    pub(super) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Has a room listed.
    pub(super) fn add(&self, room: Id) {
        if matches!(&room, Id::Text(text) if text.len() > ROOM_BYTES_MAX) {
            return self.add_all();
        }
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
        self.changed.notify_one();
    }

    /// Has all rooms listed.
    pub(super) fn add_all(&self) {
        let mut due = lock(&self.due);
        if *due != Due::Restarted {
            *due = Due::All;
        }
        self.changed.notify_one();
    }

    /// Reports that Janus was restarted.
    pub(super) fn note_restart(&self) {
        *lock(&self.due) = Due::Restarted;
        self.changed.notify_one();
    }

    /// Waits until something is to be listed. Cancel safe.
    pub(super) async fn next(&self) -> Due {
        loop {
            let due = mem::take(&mut *lock(&self.due));
            if due != Due::Nothing {
                return due;
            }
            self.changed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_room_is_listed_once_and_too_many_or_too_long_ones_are_all() {
        let text = |bytes| Id::Text("r".repeat(bytes));
        let due_lists = DueLists::default();
        for _ in 0..3 {
            due_lists.add(Id::Number(1));
        }
        assert_eq!(
            due_lists.next().await,
            Due::Rooms(BTreeSet::from([Id::Number(1)]))
        );
        for room in 0..=u64::try_from(ROOMS_MAX).unwrap() {
            due_lists.add(Id::Number(room));
        }
        assert_eq!(due_lists.next().await, Due::All);
        due_lists.add_all();
        due_lists.add(Id::Number(1));
        assert_eq!(due_lists.next().await, Due::All);
        for (bytes, due) in [
            (
                ROOM_BYTES_MAX,
                Due::Rooms(BTreeSet::from([text(ROOM_BYTES_MAX)])),
            ),
            (ROOM_BYTES_MAX + 1, Due::All),
        ] {
            due_lists.add(text(bytes));
            assert_eq!(due_lists.next().await, due);
        }
        due_lists.note_restart();
        due_lists.add_all();
        due_lists.add(Id::Number(1));
        assert_eq!(due_lists.next().await, Due::Restarted);
    }
}
