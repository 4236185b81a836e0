//! Maintenance plans: the flags that make one, its times, starting it, waiting for it, and the sentences about it.

pub(crate) mod describe;
pub(crate) mod flags;
mod not_done;
pub(crate) mod request;
mod start;
pub(crate) mod steps;
mod watch;

pub(crate) use not_done::{describe_not_done, describe_replaced};
pub(crate) use start::{check_published, confirm_started, note_started, start};
pub(crate) use watch::watch;
