//! Sora: its webhooks and polls of its API, the mirror of the mode, and sessions that it ends.

mod means;
pub(crate) mod mirror;
mod poll;
pub mod webhooks;

pub(crate) use means::SoraMeans;
pub(crate) use poll::Poller;
