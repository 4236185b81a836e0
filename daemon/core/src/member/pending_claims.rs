//! Channels that are being read or claimed, each with the waiters for its owner.

use std::collections::BTreeMap;

use soramode_protocol::id::{ChannelId, ConnectionId};

use crate::handles::{ReplyHandle, SocketId};

use super::waiters::Waiter;

/// Channels that are being read or claimed at a time, at most; the client of one more has to retry.
const CLAIMS_IN_FLIGHT_MAX: usize = 64;

/// Retries of one claim because the channel changed its owner meanwhile, at most.
const RETRIES_MAX: u8 = 8;

/// The channels that are being read or claimed.
#[derive(Default)]
pub(super) struct PendingClaims(BTreeMap<ChannelId, PendingClaim>);

struct PendingClaim {
    waiters: Vec<Waiter>,
    retries: u8,
    /// The members are read first, then the claim again.
    is_deferred: bool,
}

/// Waiters for the owner of a channel, as far as they matter to the decision.
pub(super) struct WaitingRequests<'a> {
    pub(super) channel_id: &'a ChannelId,
    /// The most redirects that one of them has followed.
    pub(super) hops: u8,
    /// A session of the channel runs already, and no node has claimed it.
    pub(super) has_session: bool,
}

impl PendingClaims {
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns how many more channels may be read or claimed.
    pub(super) fn room(&self) -> usize {
        CLAIMS_IN_FLIGHT_MAX.saturating_sub(self.0.len())
    }

    pub(super) fn contains(&self, channel_id: &ChannelId) -> bool {
        self.0.contains_key(channel_id)
    }

    pub(super) fn channels(&self) -> Vec<ChannelId> {
        self.0.keys().cloned().collect()
    }

    /// Adds a waiter for a channel. Returns whether the channel is new, and so is to be read or claimed.
    pub(super) fn add(&mut self, channel_id: &ChannelId, waiter: Waiter) -> bool {
        if let Some(pending) = self.0.get_mut(channel_id) {
            pending.waiters.push(waiter);
            return false;
        }
        let pending = PendingClaim {
            waiters: vec![waiter],
            retries: 0,
            is_deferred: false,
        };
        self.0.insert(channel_id.clone(), pending);
        true
    }

    /// Counts a retry. Returns false after too many of them; `None` if the channel is not pending.
    pub(super) fn may_retry(&mut self, channel_id: &ChannelId) -> Option<bool> {
        let pending = self.0.get_mut(channel_id)?;
        pending.retries += 1;
        Some(pending.retries <= RETRIES_MAX)
    }

    /// Has a channel wait for a read of the members. Returns false if it is not pending.
    pub(super) fn defer(&mut self, channel_id: &ChannelId) -> bool {
        let pending = self.0.get_mut(channel_id);
        pending.map(|pending| pending.is_deferred = true).is_some()
    }

    /// Takes the channels that waited for a read of the members.
    pub(super) fn take_deferred(&mut self) -> Vec<ChannelId> {
        let deferred = self.0.iter_mut().filter_map(|(channel_id, pending)| {
            std::mem::take(&mut pending.is_deferred).then(|| channel_id.clone())
        });
        deferred.collect()
    }

    /// Returns the waiters for a channel, as far as they matter to the decision.
    pub(super) fn waiting_requests<'a>(&self, channel_id: &'a ChannelId) -> WaitingRequests<'a> {
        let pending = self.0.get(channel_id);
        let waiters = || pending.into_iter().flat_map(|pending| &pending.waiters);
        WaitingRequests {
            channel_id,
            hops: waiters().map(Waiter::hops).max().unwrap_or(0),
            has_session: waiters().any(|waiter| matches!(waiter, Waiter::Session)),
        }
    }

    /// Ends a claim. Returns the waiters to answer; `None` if it is not pending.
    pub(super) fn end(&mut self, channel_id: &ChannelId) -> Option<Vec<Waiter>> {
        self.0.remove(channel_id).map(|pending| pending.waiters)
    }

    /// Removes the requests for a connection. Returns where to answer them.
    pub(super) fn cancel_connection(&mut self, connection_id: &ConnectionId) -> Vec<ReplyHandle> {
        let is_it = |waiter: &mut Waiter| waiter.connection_id() == Some(connection_id);
        let cancelled = self
            .0
            .values_mut()
            .flat_map(|pending| pending.waiters.extract_if(.., is_it));
        cancelled.filter_map(|waiter| waiter.reply_to()).collect()
    }

    /// Forgets the requests of a closed socket.
    pub(super) fn forget(&mut self, socket: SocketId) {
        for pending in self.0.values_mut() {
            pending.waiters.retain(|waiter| {
                waiter
                    .reply_to()
                    .is_none_or(|reply_to| reply_to.socket != socket)
            });
        }
    }
}
