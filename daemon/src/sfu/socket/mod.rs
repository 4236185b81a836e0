//! Clients of the control socket that speak for an SFU: they report its connections with `Connect`, `Report` and `Disconnect`, and
//! subscribe to requests to end sessions and to announcements.

pub(crate) mod notifier;
