//! Pending claims end, and the clients that wait for them are answered.

use soramode_protocol::error::Error;
use soramode_protocol::id::{ChannelId, ConnectionId, NodeName};

use crate::ctx::Ctx;
use crate::handles::SocketId;

use super::waiters::{ClusterAnswer, Waiter};
use super::{ClusterEvent, ClusterMember};

impl ClusterMember {
    /// Ends a claim, and has its waiters answered.
    pub(super) fn resolve(&mut self, channel_id: &ChannelId, cluster_answer: ClusterAnswer) {
        if let Some(pending) = self.pending_claims.remove(channel_id) {
            self.events.push_back(ClusterEvent::Resolved {
                channel_id: channel_id.clone(),
                waiters: pending.waiters,
                cluster_answer,
            });
        }
    }

    /// Ends all pending claims.
    pub(super) fn resolve_all(&mut self, cluster_answer: &ClusterAnswer) {
        let channels: Vec<ChannelId> = self.pending_claims.keys().cloned().collect();
        for channel_id in channels {
            self.resolve(&channel_id, cluster_answer.clone());
        }
    }

    /// Returns where clients of a node are redirected to.
    pub(crate) fn signaling_url(&self, node: &NodeName) -> Option<String> {
        self.nodes.get(node)?.signaling_url.clone()
    }

    /// Answers the clients that wait with this connection, which ended before it was admitted.
    pub(crate) fn cancel_connection(&mut self, ctx: &mut Ctx, connection_id: &ConnectionId) {
        let is_it = |waiter: &mut Waiter| waiter.connection_id() == Some(connection_id);
        let cancelled = self
            .pending_claims
            .values_mut()
            .flat_map(|pending| pending.waiters.extract_if(.., is_it));
        for reply_to in cancelled.filter_map(|waiter| waiter.reply_to()) {
            ctx.answer(
                reply_to,
                Err(Error::disconnected_during_claim(connection_id)),
            );
        }
    }

    /// Forgets the requests of a closed socket.
    pub(crate) fn forget_socket(&mut self, socket: SocketId) {
        self.counts.forget(socket);
        self.explain_requests.forget(socket);
        for pending in self.pending_claims.values_mut() {
            pending.waiters.retain(|waiter| {
                waiter
                    .reply_to()
                    .is_none_or(|reply_to| reply_to.socket != socket)
            });
        }
    }
}
