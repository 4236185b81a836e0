//! Counting the channels that each node owns: every claim of the cluster is read for that, so one count at most is in flight, and its
//! result answers later requests too.

use std::time::Duration;

use soramode_protocol::time::Time;

use crate::ctx::Ctx;
use crate::handles::{ReplyHandle, SocketId};

use super::etcd::{EtcdRequest, OwnedChannels};

/// Time after a count for which its result is the answer, with its time, unless a node comes or goes; then the claims are read anew.
const COUNT_PAUSE: Duration = Duration::from_secs(5);

/// Requests that wait for one count at most. The next one is answered at once with the last count.
const COUNT_WAITERS_MAX: usize = 64;

/// The requests that wait for a count, and the last one's result.
#[derive(Default)]
pub(super) struct CountCache {
    is_in_flight: bool,
    waiting: Vec<ReplyHandle>,
    last: Option<Counted>,
    /// A node came or went since the last count began.
    is_outdated: bool,
}

/// Result of a count.
pub(super) struct Counted {
    /// End of the count by the boot clock.
    ended: Duration,
    pub(super) at: Time,
    pub(super) owned: Result<Vec<OwnedChannels>, String>,
}

impl CountCache {
    /// Notes that a node came or went: the last count does not show it.
    pub(super) fn outdate(&mut self) {
        self.is_outdated = true;
    }

    /// Has a request wait for a count, unless the last one is the answer.
    pub(super) fn wait(&mut self, ctx: &Ctx, reply_to: ReplyHandle, is_joined: bool) -> bool {
        // Without etcd a count that succeeded is not known to hold any more.
        let is_recent = |last: &Counted| {
            ctx.now.boot.saturating_sub(last.ended) < COUNT_PAUSE
                && (is_joined || last.owned.is_err())
        };
        let is_fresh = !self.is_outdated && self.last.as_ref().is_some_and(is_recent);
        let waits = !is_fresh && self.waiting.len() < COUNT_WAITERS_MAX;
        if waits {
            self.waiting.push(reply_to);
        }
        waits
    }

    /// Requests a count, unless one is in flight.
    pub(super) fn begin(&mut self, ctx: &mut Ctx) {
        if !std::mem::replace(&mut self.is_in_flight, true) {
            self.is_outdated = false;
            ctx.request_etcd(EtcdRequest::Count);
        }
    }

    /// Takes in the result of a count. Returns the requests to answer.
    pub(super) fn end(
        &mut self,
        ctx: &Ctx,
        owned: Result<Vec<OwnedChannels>, String>,
    ) -> Vec<ReplyHandle> {
        self.is_in_flight = false;
        self.last = Some(Counted {
            ended: ctx.now.boot,
            at: ctx.now.wall,
            owned,
        });
        std::mem::take(&mut self.waiting)
    }

    pub(super) const fn last(&self) -> Option<&Counted> {
        self.last.as_ref()
    }

    /// Forgets the requests of a closed socket.
    pub(super) fn forget(&mut self, socket: SocketId) {
        self.waiting.retain(|reply_to| reply_to.socket != socket);
    }
}
