//! Connections and sessions that ended a moment ago, so that a webhook that comes late does not bring one back.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use soramode_protocol::id::ConnectionId;

/// Time for which an id is remembered, by default.
pub(crate) const TOMBSTONE_TIME: Duration = Duration::from_mins(1);

/// Ids that are remembered at most; past that the oldest is forgotten.
pub(crate) const TOMBSTONES_MAX: usize = 100_000;

pub(crate) struct Tombstones<Id = ConnectionId> {
    /// Time for which an id is remembered.
    lasting: Duration,
    by_time: VecDeque<(Duration, Id)>,
    /// When each id ended last.
    ended: BTreeMap<Id, Duration>,
}

impl<Id: Clone + Ord> Default for Tombstones<Id> {
    fn default() -> Self {
        Self::lasting(TOMBSTONE_TIME)
    }
}

impl<Id: Clone + Ord> Tombstones<Id> {
    /// Creates tombstones that last for this time.
    pub(crate) const fn lasting(lasting: Duration) -> Self {
        Self {
            lasting,
            by_time: VecDeque::new(),
            ended: BTreeMap::new(),
        }
    }

    pub(crate) fn remember(&mut self, id: Id, now: Duration) {
        self.forget_old(now);
        if self.by_time.len() >= TOMBSTONES_MAX {
            self.forget_oldest();
        }
        self.ended.insert(id.clone(), now);
        self.by_time.push_back((now, id));
    }

    pub(crate) fn has(&mut self, id: &Id, now: Duration) -> bool {
        self.forget_old(now);
        self.ended.contains_key(id)
    }

    /// Returns whether it ended at that time or later.
    pub(crate) fn ended_since(&self, id: &Id, moment: Duration) -> bool {
        self.ended.get(id).is_some_and(|ended| *ended >= moment)
    }

    fn forget_old(&mut self, now: Duration) {
        while self
            .by_time
            .front()
            .is_some_and(|&(ended, _)| now >= ended + self.lasting)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((ended, id)) = self.by_time.pop_front() else {
            return;
        };
        if self.ended.get(&id) == Some(&ended) {
            self.ended.remove(&id);
        }
    }
}
