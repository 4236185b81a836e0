//! Detects when a half-closed client closes its socket.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::readiness::watch_beside;

/// Detects that the other side has closed its socket (`EPOLLHUP`), not only its sending side.
///
/// Uses a duplicate descriptor, so that clearing its readiness does not affect the task that writes
/// to the socket.
#[derive(Debug)]
pub(super) struct HangUp(AsyncFd<OwnedFd>);

impl HangUp {
    pub(super) fn of(stream: &impl AsFd) -> io::Result<Self> {
        watch_beside(stream, Interest::WRITABLE).map(Self)
    }

    /// Waits until the other side has closed. Cancel safe.
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
