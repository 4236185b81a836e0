//! Rolls beside gates, without I/O: with lists that overlap, a network that delays and loses, daemons that restart, commands that freeze,
//! die and are resumed.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod closed;
mod commands;
mod nodes;
mod released;
mod resumed;
mod simulation;
mod steps;
