//! What the measurements have in common: servers as processes, what is said to them, how much of it they bear, and what comes out.

pub(crate) mod echo;
pub(crate) mod load;
pub(crate) mod peers;
pub(crate) mod row;
pub(crate) mod server;
pub(crate) mod tongue;

use std::path::Path;
use std::time::Duration;

/// How thoroughly, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort<'a> {
    /// For sockets and states; it is taken away afterwards.
    pub(crate) folder: &'a Path,
    /// How often each pair is measured.
    pub(crate) rounds: usize,
    /// How long a rate is measured.
    pub(crate) time: Duration,
    /// How many connections are many.
    pub(crate) many: usize,
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
