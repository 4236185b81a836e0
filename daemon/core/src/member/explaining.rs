//! Requests to explain that wait for etcd.

use std::collections::BTreeMap;

use soramode_protocol::id::ChannelId;

use crate::handles::{ReplyHandle, SocketId};

/// The channels that are being read, each with the requests that wait for it.
#[derive(Default)]
pub(super) struct Explaining(pub(super) BTreeMap<ChannelId, PendingRead>);

#[derive(Default)]
pub(super) struct PendingRead {
    pub(super) reply_handles: Vec<ReplyHandle>,
    pub(super) rounds: u8,
    /// The members are read first.
    pub(super) is_deferred: bool,
}

impl Explaining {
    /// Forgets the requests of a closed socket.
    pub(super) fn forget(&mut self, socket: SocketId) {
        for read in self.0.values_mut() {
            read.reply_handles
                .retain(|reply_to| reply_to.socket != socket);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.0.values().map(|read| read.reply_handles.len()).sum()
    }
}
