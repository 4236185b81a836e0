//! Nodes beside a real Janus.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod client;
mod guide;
mod locks;
mod server;
mod source;
mod watch;
