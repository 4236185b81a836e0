//! Common parts of the measurements: servers as processes, their dialects, loads and results.

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

/// Profile of a run: thoroughness, and the working folder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Profile<'a> {
    /// For sockets and states; it is taken away afterwards.
    pub(crate) folder: &'a Path,
    /// Number of rounds per pair.
    pub(crate) rounds: usize,
    /// Number of rounds if the ratio is close to its goal.
    pub(crate) more_rounds: usize,
    /// Duration of a rate's measurement.
    pub(crate) time: Duration,
    /// Duration of the measurement of an idle daemon.
    pub(crate) idle: Duration,
    /// Duration of a soak.
    pub(crate) soak: Duration,
    /// Number of connections that count as many.
    pub(crate) many: usize,
}

impl Profile<'_> {
    /// For looking whether all is well.
    pub(crate) const fn quick(folder: &Path) -> Profile<'_> {
        Profile {
            folder,
            rounds: 3,
            more_rounds: 3,
            time: Duration::from_millis(300),
            idle: Duration::from_secs(10),
            soak: Duration::ZERO,
            many: 100_000,
        }
    }

    pub(crate) const fn full(folder: &Path) -> Profile<'_> {
        Profile {
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
