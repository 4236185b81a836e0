//! Whoever reads stdout: it can go while there is nothing to write, and nobody would notice.

use std::future::pending;
use std::io;
use std::os::fd::AsFd;

use soramode_protocol::or_pending::or_pending;
use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;

/// The other end of stdout, where that is a pipe or a socket.
pub(crate) struct StdoutClosed(Option<Sender>);

impl StdoutClosed {
    /// Of this process. A file cannot go: the system refuses to watch one. Nothing is written here, so that it may block.
    pub(super) fn of_stdout() -> Self {
        let stdout = io::stdout().as_fd().try_clone_to_owned();
        Self(stdout.and_then(Sender::from_owned_fd_unchecked).ok())
    }

    /// Ends when nobody reads any more.
    pub(crate) async fn closed(&self) {
        let closed = self.0.as_ref().map(|stdout| stdout.ready(Interest::ERROR));
        if or_pending(closed).await.is_err() {
            pending::<()>().await;
        }
    }
}
