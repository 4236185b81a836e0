//! Users that may operate: the members of the operator group.

use std::sync::Arc;

use tokio::net::UnixStream;

use super::peer::{Peer, Peers};
use crate::socket_file::{self, SocketError};

/// Users with the access `operate`, in addition to root and the daemon's own user. A change applies
/// to new clients.
#[derive(Clone, Debug)]
pub(crate) struct Operators {
    pub(super) group: Option<String>,
    pub(super) peers: Arc<Peers>,
}

impl Operators {
    /// The members of a group. Asks the user database, which may take its time.
    pub(crate) fn look_up(group: Option<String>) -> Result<Self, SocketError> {
        let gid = group.as_deref().map(socket_file::find_group).transpose()?;
        Ok(Self::of(group, gid))
    }

    /// Takes the members of a group that was looked up.
    pub(crate) fn of(group: Option<String>, gid: Option<u32>) -> Self {
        Self {
            group,
            peers: Arc::new(Peers::new(gid)),
        }
    }

    /// Identifies the client of another Unix socket.
    pub(crate) async fn identify(&self, stream: &UnixStream) -> Peer {
        self.peers.identify(stream).await
    }

    /// Returns the id of the group.
    pub(crate) fn gid(&self) -> Option<u32> {
        self.peers.operator_gid()
    }
}
