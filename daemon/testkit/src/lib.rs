//! Shared parts of soramode's tests, examples and benches. Development only: no program links it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper that fails fails the test that called it"
)]
#![allow(
    missing_docs,
    reason = "names of fields, variants and short functions that say it all"
)]

#[cfg(feature = "daemon")]
pub mod control_client;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
pub mod fake_sora;
#[cfg(feature = "daemon")]
pub mod janus;
#[cfg(feature = "daemon")]
pub mod receiver;
pub mod record_store;
#[cfg(feature = "daemon")]
pub mod sshd;

/// Timeout of anything in a test. Only a program that hangs comes near it.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(90);
