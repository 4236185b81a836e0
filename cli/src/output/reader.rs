//! Whoever reads stdout: it can go while there is nothing to write, and nobody would notice.

use std::future::pending;
use std::io;
use std::os::fd::AsFd;

use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;

/// The other end of stdout, where that is a pipe or a socket.
pub(crate) struct Reader(Option<Sender>);

impl Reader {
    /// Of this process. A file cannot go: the system refuses to watch one. Nothing is written here, so that it may block.
    pub(super) fn of_stdout() -> Self {
        let stdout = io::stdout().as_fd().try_clone_to_owned();
        Self(stdout.and_then(Sender::from_owned_fd_unchecked).ok())
    }

    /// Ends when nobody reads any more.
    pub(crate) async fn gone(&self) {
        match &self.0 {
            Some(stdout) if stdout.ready(Interest::ERROR).await.is_ok() => {}
            Some(_) | None => pending().await,
        }
    }
}
