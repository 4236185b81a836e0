//! Request to admit a connection, from either source.

use soramode_protocol::decision::{Connect, HOPS_MAX, Lifetime};
use soramode_protocol::id::{ChannelId, ClientId, ConnectionId};

use crate::handles::{ReplyHandle, SocketId};
use crate::tables::rows::Source;

/// Request to admit a connection.
pub(crate) struct AdmissionRequest {
    pub(crate) reply_to: ReplyHandle,
    pub(crate) source: Source,
    pub(crate) channel_id: ChannelId,
    /// Generated if absent.
    pub(crate) connection_id: Option<ConnectionId>,
    pub(crate) client_id: Option<ClientId>,
    pub(crate) lifetime: Lifetime,
    pub(crate) hops: u8,
}

impl AdmissionRequest {
    /// A client that a client of the control socket asks for. `source` is where it will be seen.
    pub(crate) fn connect(reply_to: ReplyHandle, source: Source, connect: Connect) -> Self {
        Self {
            reply_to,
            source,
            channel_id: connect.channel_id,
            connection_id: connect.connection_id,
            client_id: connect.client_id,
            lifetime: connect.lifetime,
            hops: connect.hops,
        }
    }

    /// A client of a real Sora, which cannot redirect it: it is admitted here, or nowhere.
    pub(crate) const fn of_sora(
        reply_to: ReplyHandle,
        channel_id: ChannelId,
        connection_id: ConnectionId,
        client_id: Option<ClientId>,
    ) -> Self {
        Self {
            reply_to,
            source: Source::Sfu,
            channel_id,
            connection_id: Some(connection_id),
            client_id,
            lifetime: Lifetime::Explicit,
            hops: HOPS_MAX,
        }
    }

    /// Returns the socket that the connection ends with, if it does.
    pub(crate) const fn bound_socket(&self) -> Option<SocketId> {
        match self.lifetime {
            Lifetime::Explicit => None,
            Lifetime::Socket => Some(self.reply_to.socket),
        }
    }
}
