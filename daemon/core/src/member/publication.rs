//! The published mode, and the requests that wait for another one to be published.

use std::sync::Arc;

use soramode_protocol::mode::{ChangeMode, Mode, ModeChanged};
use soramode_protocol::reply::Reply;

use crate::handles::ReplyHandle;

/// The published mode, and the requests that wait for another one to be published.
#[derive(Default)]
pub(super) struct Publication {
    /// The mode that the other nodes know, as far as that is certain.
    pub(super) published: Option<Mode>,
    pub(super) in_flight: Option<Mode>,
    /// The last attempt failed: the next one is made when etcd answers again.
    pub(super) must_wait: bool,
    /// Changes that are made, and are answered when they are published.
    pub(super) unpublished: Vec<(ReplyHandle, ModeChanged)>,
    /// Changes to `normal` that are made when they are published.
    pub(super) openings: Vec<Opening>,
}

/// A change to `normal` that is made when it is published.
pub(crate) struct Opening {
    pub(crate) reply_to: ReplyHandle,
    pub(crate) change: ChangeMode,
    pub(crate) actor: Arc<str>,
}

impl Publication {
    pub(super) fn try_again(&mut self) {
        self.must_wait = false;
    }

    /// Notes that the member key is being written, and this mode with it.
    pub(super) fn joining(&mut self, mode: Mode) {
        self.published = None;
        self.in_flight = Some(mode);
    }

    pub(super) fn not_joined(&mut self) {
        self.in_flight = None;
    }

    /// Notes that the key was written; returns the mode that was written with it.
    pub(super) fn joined(&mut self) -> Option<Mode> {
        self.published = self.in_flight.take();
        self.published
    }
}

/// Adds to a response that the mode is published.
pub(crate) fn with_published(reply: Reply) -> Reply {
    if let Reply::ModeChanged(changed) = reply {
        return Reply::ModeChanged(ModeChanged {
            published: Some(true),
            ..changed
        });
    }
    reply
}
