//! Pending claims end, and the clients that wait for them are answered.

use soramode_protocol::error::Error;
use soramode_protocol::id::{ChannelId, ConnectionId};

use crate::ctx::Ctx;
use crate::handles::SocketId;

use super::waiters::ClusterAnswer;
use super::{ClusterEvent, ClusterMember};

impl ClusterMember {
    /// Ends a claim, and has its waiters answered.
    pub(super) fn resolve(&mut self, channel_id: &ChannelId, cluster_answer: ClusterAnswer) {
        if let Some(waiters) = self.pending_claims.end(channel_id) {
            self.events.push_back(ClusterEvent::Resolved {
                channel_id: channel_id.clone(),
                waiters,
                cluster_answer,
            });
        }
    }

    /// Ends all pending claims.
    pub(super) fn resolve_all(&mut self, cluster_answer: &ClusterAnswer) {
        for channel_id in self.pending_claims.channels() {
            self.resolve(&channel_id, cluster_answer.clone());
        }
    }

    /// Answers the clients that wait with this connection, which ended before it was admitted.
    pub(crate) fn cancel_connection(&mut self, ctx: &mut Ctx, connection_id: &ConnectionId) {
        for reply_to in self.pending_claims.cancel_connection(connection_id) {
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
        self.pending_claims.forget(socket);
    }
}
