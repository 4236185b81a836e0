//! The SFU beside this daemon, and the clients of the control socket that speak for one. Each adapter has some of these parts, and none
//! has all of them:
//!
//! - a *source*, which reports the connections on the SFU to the gate;
//! - a *holder*, which applies the mode on the SFU, where that is not asked about each client;
//! - *means* to end sessions, and to announce maintenance to their clients.

pub(crate) mod announcer;
mod fence_command;
pub mod janus;
pub(crate) mod means;
pub(crate) mod socket;
pub mod sora;
pub(crate) mod terminator;
mod timeouts;
