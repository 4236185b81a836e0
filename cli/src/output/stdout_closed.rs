//! Noticing that the reader of stdout is gone while there is nothing to write.

use std::future::pending;
use std::io;
use std::os::fd::AsFd;

use soramode_protocol::or_pending::or_pending;
use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;

/// The other end of stdout, if that is a pipe or a socket.
pub(crate) struct StdoutClosed(Option<Sender>);

impl StdoutClosed {
    /// Watches the stdout of this process. Files cannot be watched. Nothing is written here, so
    /// blocking mode is fine.
    pub(super) fn of_stdout() -> Self {
        let stdout = io::stdout().as_fd().try_clone_to_owned();
        Self(stdout.and_then(Sender::from_owned_fd_unchecked).ok())
    }

    /// Returns when no process reads stdout any more.
    pub(crate) async fn closed(&self) {
        let closed = self.0.as_ref().map(|stdout| stdout.ready(Interest::ERROR));
        if or_pending(closed).await.is_err() {
            pending::<()>().await;
        }
    }
}
