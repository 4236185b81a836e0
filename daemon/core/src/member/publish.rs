//! The mode, as the other nodes know it. A node that closes does so at once, and then publishes it; one that opens publishes it first.

use soramode_protocol::error::Error;
use soramode_protocol::mode::{Mode, ModeChanged, ModeState};
use soramode_protocol::reply::Reply;

use crate::ctx::Ctx;
use crate::handles::ReplyHandle;

use super::etcd::EtcdRequest;
use super::publication::Opening;
use super::{ClusterEvent, ClusterMember, NodeView};

impl ClusterMember {
    /// Defers a change to `normal` until it is published.
    pub(crate) fn defer_opening(&mut self, opening: Opening) {
        self.publication.openings.push(opening);
    }

    /// Has a change answered when it is published. Returns the response if that is known now.
    pub(crate) fn answer_when_published(
        &mut self,
        ctx: &mut Ctx,
        state: &ModeState,
        reply_to: ReplyHandle,
        changed: ModeChanged,
    ) -> Option<ModeChanged> {
        let wanted = mode_to_publish(state.mode);
        let openings = std::mem::take(&mut self.publication.openings);
        let can_publish = self.incarnation().is_some();
        let is_published =
            self.publication.published == Some(wanted) && self.publication.in_flight.is_none();
        for opening in openings {
            ctx.answer(opening.reply_to, Err(Error::superseded(state.clone())));
        }
        if is_published || !can_publish {
            return Some(ModeChanged {
                published: Some(is_published && can_publish),
                ..changed
            });
        }
        self.publication.unpublished.push((reply_to, changed));
        // The response comes within one attempt.
        self.publication.try_again();
        None
    }

    /// Publishes the mode, if the other nodes do not know it: one attempt at a time.
    pub(crate) fn publish_mode(&mut self, ctx: &mut Ctx, mode: Mode) {
        let wanted = if self.publication.openings.is_empty() {
            mode_to_publish(mode)
        } else {
            Mode::Normal
        };
        let publication = &self.publication;
        if publication.in_flight.is_some()
            || publication.published == Some(wanted) && publication.openings.is_empty()
        {
            return;
        }
        let Some(by) = self.incarnation() else {
            return self.fail_publish(ctx, "the node has not joined its cluster");
        };
        let publication = &mut self.publication;
        if publication.must_wait && publication.openings.is_empty() {
            return;
        }
        publication.in_flight = Some(wanted);
        ctx.request_etcd(EtcdRequest::Publish { by, mode: wanted });
    }

    pub(super) fn on_published(&mut self, ctx: &mut Ctx, mode: Mode, outcome: Result<(), String>) {
        let publication = &mut self.publication;
        if publication.in_flight != Some(mode) {
            return;
        }
        publication.in_flight = None;
        publication.published = outcome.is_ok().then_some(mode);
        match outcome {
            Ok(()) => {
                let openings = if mode == Mode::Normal {
                    std::mem::take(&mut publication.openings)
                } else {
                    Vec::new()
                };
                self.events
                    .push_back(ClusterEvent::Published { mode, openings });
            }
            Err(why) => {
                publication.must_wait = true;
                self.fail_publish(ctx, &why);
            }
        }
    }

    /// Answers the changes that waited for this mode to be published, if it is still wanted.
    pub(crate) fn answer_published(&mut self, ctx: &mut Ctx, node: NodeView, mode: Mode) {
        if mode_to_publish(node.mode) == mode {
            self.answer_unpublished(ctx, true);
        }
    }

    fn answer_unpublished(&mut self, ctx: &mut Ctx, is_published: bool) {
        for (reply_to, changed) in std::mem::take(&mut self.publication.unpublished) {
            let changed = ModeChanged {
                published: Some(is_published),
                ..changed
            };
            ctx.answer(reply_to, Ok(Reply::ModeChanged(changed)));
        }
    }

    /// Answers all changes that wait: those that close the node are made all the same, those that would open it are not.
    fn fail_publish(&mut self, ctx: &mut Ctx, why: &str) {
        self.answer_unpublished(ctx, false);
        for opening in std::mem::take(&mut self.publication.openings) {
            ctx.answer(opening.reply_to, Err(Error::cluster_unavailable(why)));
        }
    }

    /// Refuses all changes that wait: they could not be stored.
    pub(crate) fn refuse_changes(&mut self, ctx: &mut Ctx, refusal: &Error) {
        let unpublished = std::mem::take(&mut self.publication.unpublished);
        let openings = std::mem::take(&mut self.publication.openings);
        let unpublished = unpublished.into_iter().map(|(reply_to, _)| reply_to);
        let openings = openings.into_iter().map(|opening| opening.reply_to);
        for reply_to in unpublished.chain(openings) {
            ctx.answer(reply_to, Err(refusal.clone()));
        }
    }

    pub(super) fn is_published(&self, mode: Mode) -> bool {
        self.publication.published == Some(mode_to_publish(mode)) && self.incarnation().is_some()
    }
}

/// Returns the mode that the other nodes are to know: a node that is `initial` because it was isolated goes back to `normal`.
pub(super) const fn mode_to_publish(mode: Mode) -> Mode {
    match mode {
        Mode::Initial => Mode::Normal,
        Mode::Normal | Mode::BlockNewSession | Mode::BlockNewConnection => mode,
    }
}
