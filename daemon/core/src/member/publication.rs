//! The published mode, and the requests that wait for another one to be published: one attempt at a time.

use std::sync::Arc;

use soramode_protocol::error::Error;
use soramode_protocol::mode::{ChangeMode, Mode, ModeChanged, ModeState};
use soramode_protocol::reply::Reply;

use crate::cluster::Incarnation;
use crate::ctx::Ctx;
use crate::handles::ReplyHandle;

use super::etcd::EtcdRequest;

/// The published mode, and the requests that wait for another one to be published.
#[derive(Default)]
pub(super) struct Publication {
    /// The mode that the other nodes know, as far as that is certain.
    published: Option<Mode>,
    in_flight: Option<Mode>,
    /// The last attempt failed: the next one is made when etcd answers again.
    must_wait: bool,
    /// Changes that are made, and are answered when they are published.
    unpublished: Vec<(ReplyHandle, Box<ModeChanged>)>,
    /// Changes to `normal` that are made when they are published.
    openings: Vec<Opening>,
}

/// A change to `normal` that is made when it is published.
pub(crate) struct Opening {
    pub(crate) reply_to: ReplyHandle,
    pub(crate) change: ChangeMode,
    pub(crate) actor: Arc<str>,
}

impl Publication {
    /// Lets the next attempt begin, also if the last one failed.
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

    pub(super) fn is_published(&self, mode: Mode) -> bool {
        self.published == Some(mode_to_publish(mode))
    }

    pub(super) const fn has_openings(&self) -> bool {
        !self.openings.is_empty()
    }

    /// Defers a change to `normal` until it is published.
    pub(super) fn defer(&mut self, opening: Opening) {
        self.openings.push(opening);
    }

    /// Has a change answered when it is published. Returns the response if that is known now; without `by` the node cannot publish it.
    pub(super) fn answer_when_published(
        &mut self,
        ctx: &mut Ctx,
        by: Option<Incarnation>,
        state: &ModeState,
        (reply_to, mut changed): (ReplyHandle, Box<ModeChanged>),
    ) -> Option<Box<ModeChanged>> {
        let is_published = self.is_published(state.mode) && self.in_flight.is_none();
        for opening in std::mem::take(&mut self.openings) {
            ctx.answer(opening.reply_to, Err(Error::superseded(state.clone())));
        }
        if is_published || by.is_none() {
            changed.published = Some(is_published && by.is_some());
            return Some(changed);
        }
        self.unpublished.push((reply_to, changed));
        // The response comes within one attempt.
        self.try_again();
        None
    }

    /// Publishes the mode, if the other nodes do not know it: one attempt at a time.
    pub(super) fn publish(&mut self, ctx: &mut Ctx, by: Option<Incarnation>, mode: Mode) {
        let wanted = if self.has_openings() {
            Mode::Normal
        } else {
            mode_to_publish(mode)
        };
        let is_done = self.published == Some(wanted) && !self.has_openings();
        if self.in_flight.is_some() || is_done {
            return;
        }
        let Some(by) = by else {
            return self.fail(ctx, "the node has not joined its cluster");
        };
        if self.must_wait && !self.has_openings() {
            return;
        }
        self.in_flight = Some(wanted);
        ctx.request_etcd(EtcdRequest::Publish { by, mode: wanted });
    }

    /// Takes in etcd's response. Returns the changes to make if the mode is published; `None` if it is not, or another one is in flight.
    pub(super) fn on_response(
        &mut self,
        ctx: &mut Ctx,
        mode: Mode,
        outcome: Result<(), String>,
    ) -> Option<Vec<Opening>> {
        if self.in_flight != Some(mode) {
            return None;
        }
        self.in_flight = None;
        self.published = outcome.is_ok().then_some(mode);
        match outcome {
            Ok(()) if mode == Mode::Normal => Some(std::mem::take(&mut self.openings)),
            Ok(()) => Some(Vec::new()),
            Err(why) => {
                self.must_wait = true;
                self.fail(ctx, &why);
                None
            }
        }
    }

    /// Answers the changes that waited for their publication.
    pub(super) fn answer(&mut self, ctx: &mut Ctx, is_published: bool) {
        for (reply_to, mut changed) in std::mem::take(&mut self.unpublished) {
            changed.published = Some(is_published);
            ctx.answer(reply_to, Ok(Reply::ModeChanged(changed)));
        }
    }

    /// Answers all changes that wait: those that close the node are made all the same, those that would open it are not.
    fn fail(&mut self, ctx: &mut Ctx, why: &str) {
        self.answer(ctx, false);
        for opening in std::mem::take(&mut self.openings) {
            ctx.answer(opening.reply_to, Err(Error::cluster_unavailable(why)));
        }
    }

    /// Refuses all changes that wait: they could not be stored.
    pub(super) fn refuse(&mut self, ctx: &mut Ctx, refusal: &Error) {
        let unpublished = std::mem::take(&mut self.unpublished);
        let openings = std::mem::take(&mut self.openings);
        let unpublished = unpublished.into_iter().map(|(reply_to, _)| reply_to);
        let openings = openings.into_iter().map(|opening| opening.reply_to);
        for reply_to in unpublished.chain(openings) {
            ctx.answer(reply_to, Err(refusal.clone()));
        }
    }
}

/// Returns the mode that the other nodes are to know: a node that is `initial` because it was isolated goes back to `normal`.
pub(super) const fn mode_to_publish(mode: Mode) -> Mode {
    match mode {
        Mode::Initial => Mode::Normal,
        Mode::Normal | Mode::BlockNewSession | Mode::BlockNewConnection => mode,
    }
}

/// Adds to a response that the mode is published.
pub(crate) fn with_published(mut reply: Reply) -> Reply {
    if let Reply::ModeChanged(changed) = &mut reply {
        changed.published = Some(true);
    }
    reply
}
