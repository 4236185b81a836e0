//! The gate: decides every new connection, and holds a node's mode and sessions.
//!
//! Pure: it is given the time, a seed and what happened, and answers with what is to be kept and done. No I/O, no clock,
//! no async, no lock, and no hash order that can be seen.

#![warn(clippy::wildcard_enum_match_arm)]

mod admission;
mod check;
pub mod cluster;
pub mod commit_failure;
pub mod commits;
mod connections;
pub mod deliveries;
pub mod effect;
mod expiry;
pub mod gate;
mod index;
pub mod input;
mod known;
mod lists;
pub mod member;
mod mode;
pub mod plan;
mod reconcile;
pub mod restore;
pub mod rows;
mod sessions;
mod slab;
pub mod snapshot;
mod sora;
mod timers;
mod tombstones;
mod waits;
