//! The files that this process has open: how many that may be (a client is one, one more while it only listens, and one more while it
//! does not read), and how they are watched.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::control::{CLIENTS_MAX, NEWCOMERS_MAX};
use crate::http::HTTP_CLIENTS_MAX;

/// For the socket itself, its lock, the timer, the log and the like.
const OTHER_DESCRIPTORS: usize = 64;

/// What all clients take at most. Behind each client of an HTTP listener there may be an upstream or Sora's API.
const fn needed(http_listeners: usize) -> usize {
    3 * CLIENTS_MAX + NEWCOMERS_MAX + http_listeners * 2 * HTTP_CLIENTS_MAX + OTHER_DESCRIPTORS
}

/// Watches a file for this alone. Needs a tokio runtime.
pub(crate) fn watch(file: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(deprecated, reason = "what replaces it is unsafe to call; an OwnedFd that is only lent out is one descriptor all its life")]
    AsyncFd::with_interest(file, interest)
}

/// The same through a descriptor of its own: what is cleared of its readiness is missed by nobody who watches the file itself.
pub(crate) fn watch_beside(file: &impl AsFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    watch(file.as_fd().try_clone_to_owned()?, interest)
}

/// Lets this process open as many files as the system allows it, and says so in the log if that is too few for all clients.
pub(crate) fn raise_limit(http_listeners: usize) {
    let needed = needed(http_listeners);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let limit = getrlimit(Resource::Nofile).current;
    if let Some(limit) = limit.filter(|limit| *limit < needed as u64) {
        tracing::warn!(limit, needed, "too few files can be open for all clients that are let in: raise LimitNOFILE");
    }
}
