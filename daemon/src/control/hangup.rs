//! Whether a client that has said all it wants to say still listens.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::descriptors::watch_beside;

/// Tells when the other side of a socket is wholly gone (`EPOLLHUP`), and not just done with writing.
///
/// Has a descriptor of its own: readiness that is cleared here would be missed by whoever writes to the socket.
#[derive(Debug)]
pub(super) struct HangUp(AsyncFd<OwnedFd>);

impl HangUp {
    pub(super) fn of(stream: &impl AsFd) -> io::Result<Self> {
        watch_beside(stream, Interest::WRITABLE).map(Self)
    }

    /// Waits until the other side is gone. Cancel safe.
    pub(super) async fn closed(&self) {
        loop {
            match self.0.ready(Interest::WRITABLE).await {
                // Room to write is no news: forget it, so that only the next change wakes us.
                Ok(mut ready) if !ready.ready().is_write_closed() => ready.clear_ready(),
                Ok(_) | Err(_) => return,
            }
        }
    }
}
