//! Requests to explain that wait for etcd.

use std::collections::BTreeMap;

use soramode_protocol::id::ChannelId;

use crate::handles::{ReplyHandle, SocketId};

/// Reads of one channel at most, while its owner is not known.
const READS_MAX: u8 = 3;

/// The channels that are being read, each with the requests that wait for it.
#[derive(Default)]
pub(super) struct ExplainRequests(BTreeMap<ChannelId, PendingRead>);

#[derive(Default)]
struct PendingRead {
    reply_handles: Vec<ReplyHandle>,
    reads: u8,
    /// The members are read first.
    is_deferred: bool,
}

impl ExplainRequests {
    /// Number of waiting requests.
    pub(super) fn count(&self) -> usize {
        self.0.values().map(|read| read.reply_handles.len()).sum()
    }

    /// Adds a request. Returns whether its channel is to be read now.
    pub(super) fn add(&mut self, channel_id: &ChannelId, reply_to: ReplyHandle) -> bool {
        let is_new = !self.0.contains_key(channel_id);
        let read = self.0.entry(channel_id.clone()).or_default();
        read.reply_handles.push(reply_to);
        is_new
    }

    pub(super) fn is_pending(&self, channel_id: &ChannelId) -> bool {
        self.0.contains_key(channel_id)
    }

    /// Has a channel wait for a read of the members. Returns false if it was read too often.
    pub(super) fn defer(&mut self, channel_id: &ChannelId) -> bool {
        let read = self.0.get_mut(channel_id);
        read.filter(|read| read.reads < READS_MAX)
            .map(|read| {
                read.reads += 1;
                read.is_deferred = true;
            })
            .is_some()
    }

    /// Takes the channels that waited for a read of the members.
    pub(super) fn take_deferred(&mut self) -> Vec<ChannelId> {
        let deferred = self.0.iter_mut().filter_map(|(channel_id, read)| {
            std::mem::take(&mut read.is_deferred).then(|| channel_id.clone())
        });
        deferred.collect()
    }

    /// Ends the read of a channel. Returns the requests to answer.
    pub(super) fn end(&mut self, channel_id: &ChannelId) -> Vec<ReplyHandle> {
        let read = self.0.remove(channel_id);
        read.map(|read| read.reply_handles).unwrap_or_default()
    }

    pub(super) fn channels(&self) -> Vec<ChannelId> {
        self.0.keys().cloned().collect()
    }

    /// Forgets the requests of a closed socket.
    pub(super) fn forget(&mut self, socket: SocketId) {
        for read in self.0.values_mut() {
            read.reply_handles
                .retain(|reply_to| reply_to.socket != socket);
        }
    }
}
