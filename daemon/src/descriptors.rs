//! How many files this process may have open: a client is one, and one more while it only listens.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::control::{CLIENTS_MAX, NEWCOMERS_MAX};

/// For the socket itself, its lock, the timer, the log and the like.
const OTHER_DESCRIPTORS: usize = 64;

/// What all clients take at most.
const NEEDED: usize = 2 * CLIENTS_MAX + NEWCOMERS_MAX + OTHER_DESCRIPTORS;

/// Lets this process open as many files as the system allows it, and says so in the log if that is too few for all clients.
pub(crate) fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let limit = getrlimit(Resource::Nofile).current;
    if let Some(limit) = limit.filter(|limit| *limit < NEEDED as u64) {
        tracing::warn!(limit, needed = NEEDED, "too few files can be open for {CLIENTS_MAX} clients: raise LimitNOFILE");
    }
}
