//! Nodes beside a real Janus.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking, and shows what it measured"
)]

mod diagrams;
mod end_sessions;
mod event_faults;
mod failures;
mod guide;
mod kills;
mod locks;
mod proxy;
mod source;
mod watch;
mod window;
