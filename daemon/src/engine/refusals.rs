//! Why input is not taken, or a write has failed.

use soramode_protocol::error::Error;

/// The engine takes no input any more: the daemon stops, or a step has panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopped;

/// Why Sora's input is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The daemon is stopping.
    Stopped,
    /// The limit of records that wait for the disk is reached.
    Full,
}

/// Why a write failed.
#[derive(Debug)]
pub(crate) struct WriteFailure {
    /// Answer to requests that cannot be committed.
    pub(crate) refusal: Error,
    /// The problem, for operators.
    pub(crate) problem: String,
}
