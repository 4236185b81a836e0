//! Whether a client that has said all it wants to say still listens.

use std::io;
use std::os::fd::AsFd;

use tokio::io::Interest;
use tokio::net::UnixStream;

/// Tells when the other side of a socket is wholly gone (`EPOLLHUP`), and not just done with writing.
///
/// Has a descriptor of its own: readiness that is cleared here would be missed by whoever writes to the socket.
#[derive(Debug)]
pub(super) struct HangUp(UnixStream);

impl HangUp {
    pub(super) fn of(stream: &impl AsFd) -> io::Result<Self> {
        let own = stream.as_fd().try_clone_to_owned()?;
        UnixStream::from_std(own.into()).map(Self)
    }

    /// Waits until the other side is gone. Cancel safe.
    pub(super) async fn gone(&self) {
        loop {
            match self.0.ready(Interest::WRITABLE).await {
                Ok(ready) if !ready.is_write_closed() => {
                    // Room to write is no news: forget it, so that only the next change wakes us.
                    let nothing = self.0.try_io(Interest::WRITABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
                    debug_assert!(nothing.is_err(), "nothing was written");
                }
                Ok(_) | Err(_) => return,
            }
        }
    }
}
