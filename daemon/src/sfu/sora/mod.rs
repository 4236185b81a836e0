//! Sora: polls of its API, the mirror of the mode, and sessions that it ends. Its webhooks come through an HTTP listener.

mod means;
pub(crate) mod mirror;
mod poll;

pub(crate) use means::SoraMeans;
pub(crate) use poll::Poller;
