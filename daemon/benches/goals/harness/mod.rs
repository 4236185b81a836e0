//! What the measurements have in common: servers as processes, what is said to them, how much of it they bear, and what comes out.

pub(crate) mod baselines;
pub(crate) mod chart;
pub(crate) mod dialect;
pub(crate) mod echo;
pub(crate) mod load;
pub(crate) mod row;
pub(crate) mod server;
pub(crate) mod sheet;
pub(crate) mod web;

use std::path::Path;
use std::time::Duration;

/// How thoroughly, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort<'a> {
    /// For sockets and states; it is taken away afterwards.
    pub(crate) folder: &'a Path,
    /// How often each pair is measured.
    pub(crate) rounds: usize,
    /// The same, where a goal is so near that chance decides.
    pub(crate) more_rounds: usize,
    /// How long a rate is measured.
    pub(crate) time: Duration,
    /// How long an idle daemon is looked at.
    pub(crate) idle: Duration,
    /// How long a soak is.
    pub(crate) soak: Duration,
    /// How many connections are many.
    pub(crate) many: usize,
}

impl Effort<'_> {
    /// For looking whether all is well.
    pub(crate) const fn quick(folder: &Path) -> Effort<'_> {
        Effort {
            folder,
            rounds: 3,
            more_rounds: 3,
            time: Duration::from_millis(300),
            idle: Duration::from_secs(10),
            soak: Duration::ZERO,
            many: 100_000,
        }
    }

    pub(crate) const fn full(folder: &Path) -> Effort<'_> {
        Effort {
            folder,
            rounds: 5,
            more_rounds: 15,
            time: Duration::from_secs(1),
            idle: Duration::from_mins(1),
            soak: Duration::ZERO,
            many: 1_000_000,
        }
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}
