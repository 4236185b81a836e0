//! Connections that ended a moment ago, so that a webhook that comes late does not bring one back.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use soramode_protocol::id::ConnectionId;

/// Time for which an id is remembered, by default.
pub(crate) const TOMBSTONE_TIME: Duration = Duration::from_mins(1);

/// Ids that are remembered at most; past that the oldest is forgotten.
pub(crate) const TOMBSTONES_MAX: usize = 100_000;

pub(crate) struct Tombstones {
    /// Time for which an id is remembered.
    lasting: Duration,
    by_time: VecDeque<(Duration, ConnectionId)>,
    /// When each id ended last.
    ended: BTreeMap<ConnectionId, Duration>,
}

impl Default for Tombstones {
    fn default() -> Self {
        Self::lasting(TOMBSTONE_TIME)
    }
}

impl Tombstones {
    /// Creates tombstones that last for this time.
    pub(crate) const fn lasting(lasting: Duration) -> Self {
        Self {
            lasting,
            by_time: VecDeque::new(),
            ended: BTreeMap::new(),
        }
    }

    pub(crate) fn remember(&mut self, connection_id: ConnectionId, now: Duration) {
        self.forget_old(now);
        if self.by_time.len() >= TOMBSTONES_MAX {
            self.forget_oldest();
        }
        self.ended.insert(connection_id.clone(), now);
        self.by_time.push_back((now, connection_id));
    }

    pub(crate) fn has(&mut self, connection_id: &ConnectionId, now: Duration) -> bool {
        self.forget_old(now);
        self.ended.contains_key(connection_id)
    }

    /// Returns whether the connection ended at that time or later.
    pub(crate) fn ended_since(&self, connection_id: &ConnectionId, moment: Duration) -> bool {
        self.ended
            .get(connection_id)
            .is_some_and(|ended| *ended >= moment)
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
        let Some((ended, connection_id)) = self.by_time.pop_front() else {
            return;
        };
        if self.ended.get(&connection_id) == Some(&ended) {
            self.ended.remove(&connection_id);
        }
    }
}
