//! Reports in progress: a client lists its connections in several requests, and the last one says that the list is complete.

use std::collections::{BTreeMap, BTreeSet};

use crate::handles::{ConnectionSlot, SocketId};

/// Connections that each report in progress has listed, or that were seen since it began; by the socket that reports.
#[derive(Default)]
pub(crate) struct Reports(BTreeMap<SocketId, BTreeSet<ConnectionSlot>>);

impl Reports {
    /// Takes the connections of the report in progress on a socket, none if there is none.
    pub(crate) fn take(&mut self, socket: SocketId) -> BTreeSet<ConnectionSlot> {
        self.0.remove(&socket).unwrap_or_default()
    }

    /// Keeps them until the socket's next request.
    pub(crate) fn keep(&mut self, socket: SocketId, listed: BTreeSet<ConnectionSlot>) {
        self.0.insert(socket, listed);
    }

    /// Notes that a connection was seen: the reports in progress need not list it.
    pub(crate) fn mark_seen(&mut self, slot: ConnectionSlot) {
        for listed in self.0.values_mut() {
            listed.insert(slot);
        }
    }

    /// Drops the report in progress on a closed socket.
    pub(crate) fn forget(&mut self, socket: SocketId) {
        self.0.remove(&socket);
    }
}
