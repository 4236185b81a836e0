//! Watches files for the events that one task waits for.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches a file for this alone. Needs a tokio runtime.
pub(crate) fn watch(file: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(
        deprecated,
        reason = "what replaces it is unsafe to call; an OwnedFd that is only lent out is one descriptor all its life"
    )]
    AsyncFd::with_interest(file, interest)
}

/// Watches a file through a duplicate descriptor: clearing its readiness does not affect other
/// watchers.
pub(crate) fn watch_beside(file: &impl AsFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    watch(file.as_fd().try_clone_to_owned()?, interest)
}
