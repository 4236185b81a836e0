//! What all clients of one kind may use together at one time. Operators have a budget of their own, so that viewers cannot use up theirs.

use std::sync::Arc;

use soramode_protocol::access::Access;
use tokio::sync::Semaphore;

/// Readings of stored events at one time by clients of one kind: each has a thread.
pub const READINGS_MAX: usize = 1;

/// The budget of each kind of client.
#[derive(Clone, Debug)]
pub(crate) struct Budgets {
    viewers: Arc<Budget>,
    operators: Arc<Budget>,
}

/// What is left for one kind of client.
#[derive(Debug)]
pub(super) struct Budget {
    /// Readings of stored events. Taken before a thread is.
    pub(super) readings: Arc<Semaphore>,
}

impl Budgets {
    pub(crate) fn new() -> Self {
        Self { viewers: Arc::new(Budget::new()), operators: Arc::new(Budget::new()) }
    }

    pub(super) const fn of(&self, access: Access) -> &Arc<Budget> {
        match access {
            Access::View => &self.viewers,
            Access::Operate => &self.operators,
        }
    }
}

impl Budget {
    fn new() -> Self {
        Self { readings: Arc::new(Semaphore::new(READINGS_MAX)) }
    }
}
