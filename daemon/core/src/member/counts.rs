//! Counting the channels that each node owns: every claim of the cluster is read for that, so one count at most is in flight, and its
//! result answers later requests too.

use std::time::Duration;

use soramode_protocol::time::Time;

use crate::handles::{ReplyHandle, SocketId};

use super::etcd::OwnedChannels;

/// Time after a count for which its result is the answer, with its time, unless a node comes or goes; then the claims are read anew.
pub const COUNT_PAUSE: Duration = Duration::from_secs(5);

/// Requests that wait for one count at most. The next one is answered at once with the last count.
pub const COUNT_WAITERS_MAX: usize = 64;

/// The requests that wait for a count, and the last one's result.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) is_in_flight: bool,
    pub(super) waiting: Vec<ReplyHandle>,
    pub(super) last: Option<Counted>,
    /// A node came or went since the last count began.
    pub(super) is_outdated: bool,
}

/// Result of a count.
pub(super) struct Counted {
    /// End of the count by the boot clock.
    pub(super) ended: Duration,
    pub(super) at: Time,
    pub(super) owned: Result<Vec<OwnedChannels>, String>,
}

impl Counts {
    /// Notes that a node came or went: the last count does not show it.
    pub(super) fn outdate(&mut self) {
        self.is_outdated = true;
    }

    /// Forgets the requests of a closed socket.
    pub(super) fn forget(&mut self, socket: SocketId) {
        self.waiting.retain(|reply_to| reply_to.socket != socket);
    }
}
