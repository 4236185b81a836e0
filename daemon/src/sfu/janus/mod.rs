//! Janus and its plugin VideoRoom: the participants of its rooms, read over the Admin API, locks of the rooms, and sessions that it ends.
//! Events only say which room to ask about.

mod admin;
mod admin_error;
mod checks;
mod due_lists;
mod event_check;
pub mod events;
mod ids;
mod means;
mod room_locker;
mod secret_check;
mod source;

pub(crate) use admin::AdminApi;
pub(crate) use due_lists::DueLists;
pub(crate) use means::JanusMeans;
pub(crate) use room_locker::{HolderCalls, RoomLocker, holder_calls};
pub(crate) use source::JanusSource;
