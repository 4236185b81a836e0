//! The gate: decides every new connection, and holds a node's mode and sessions.
//!
//! Sans I/O: inputs, the time and a seed go in; records to commit and actions to perform come out. No I/O, no clock,
//! no async, no lock, and no visible hash order.

#![warn(clippy::wildcard_enum_match_arm)]

mod admission_request;
mod auth_webhooks;
pub mod cluster;
pub mod commit_failure;
pub mod commits;
mod count;
mod ctx;
pub mod effect;
mod expiry;
pub mod fault;
pub mod gate;
pub mod handles;
mod held_mode;
pub mod input;
pub mod locks;
pub mod member;
mod mode;
pub(crate) mod new_sessions;
mod node;
pub mod outbox;
mod past_rounds;
pub mod plan;
mod reservation;
pub mod restore;
pub mod settings;
mod storage;
pub mod stored;
mod sync;
pub mod tables;
mod timers;
mod tombstones;
mod waits;
