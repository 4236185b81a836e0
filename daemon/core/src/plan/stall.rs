//! Detects that the drain of a closed node does not progress.

use std::time::Duration;

use soramode_protocol::plan::{StallCause, Stalled};

use super::context::NodeState;
use crate::handles::Timestamp;

/// Watches the drain of a closed node.
#[derive(Debug, Default)]
pub(crate) struct StallWatch {
    /// The last progress, and the number of sessions that had ended then; `None` while there is nothing to drain.
    progress: Option<(Timestamp, u64)>,
    stalled: Option<Stalled>,
}

impl StallWatch {
    /// Returns whether a check would change nothing.
    pub(crate) fn is_settled(&self, node: &NodeState) -> bool {
        match self.progress {
            None => !is_draining(node),
            Some((since, ended)) => {
                let has_stalled = node.now.boot >= since.boot + node.stall_after;
                is_draining(node) && ended == node.sessions_ended && !has_stalled
            }
        }
    }

    pub(crate) const fn stalled(&self) -> Option<Stalled> {
        self.stalled
    }

    /// Checks the drain. Returns the cause if it has stalled since the last check.
    pub(crate) fn check(
        &mut self,
        node: &NodeState,
        end_obstacle: Option<StallCause>,
    ) -> Option<StallCause> {
        if !is_draining(node) {
            *self = Self::default();
            return None;
        }
        let (since, ended) = *self.progress.get_or_insert((node.now, node.sessions_ended));
        if ended != node.sessions_ended {
            self.progress = Some((node.now, node.sessions_ended));
            self.stalled = None;
            return None;
        }
        if node.now.boot < since.boot + node.stall_after {
            return None;
        }
        let cause = cause(node, end_obstacle);
        let since = since.wall;
        let before = self.stalled.replace(Stalled { cause, since });
        before.is_none().then_some(cause)
    }

    /// Returns when it will have stalled if nothing happens.
    pub(crate) fn next_deadline(&self, stall_after: Duration) -> Option<Duration> {
        match (self.progress, self.stalled) {
            (Some((since, _)), None) => Some(since.boot + stall_after),
            (_, Some(_)) | (None, None) => None,
        }
    }
}

/// Returns whether the node is closed, and sessions are left or may be.
const fn is_draining(node: &NodeState) -> bool {
    node.mode.is_block() && (node.session_count > 0 || !node.is_complete)
}

const fn cause(node: &NodeState, end_obstacle: Option<StallCause>) -> StallCause {
    if node.is_storage_failed {
        StallCause::StorageFailed
    } else if !node.is_complete {
        StallCause::SessionsIncomplete
    } else if let Some(obstacle) = end_obstacle {
        obstacle
    } else {
        StallCause::NoDepartures
    }
}
