//! The gate: decides every new connection, and holds a node's mode and sessions.
//!
//! Pure: it is given the time, a seed and what happened, and answers with what is to be kept and done. No I/O, no clock,
//! no async, no lock, and no hash order that can be seen.

#![warn(clippy::wildcard_enum_match_arm)]

pub mod cluster;
pub mod commit_failure;
pub mod commits;
mod ctx;
pub mod effect;
mod expiry;
pub mod fault;
pub mod gate;
pub mod handles;
pub mod input;
pub mod member;
mod mode;
mod newcomer;
mod node;
pub mod outbox;
pub mod plan;
pub mod reservation;
pub mod restore;
pub mod settings;
mod storage;
pub mod stored;
mod sync;
pub mod tables;
mod timers;
mod tombstones;
mod waits;
