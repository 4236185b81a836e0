//! Publishing the mode to the other nodes. A node that closes does so at once, and then publishes it; one that opens publishes it first.

use soramode_protocol::error::Error;
use soramode_protocol::mode::{Mode, ModeChanged, ModeState};

use crate::ctx::Ctx;
use crate::handles::ReplyHandle;

use super::publication::{Opening, mode_to_publish};
use super::{ClusterEvent, ClusterMember, NodeView};

impl ClusterMember {
    /// Defers a change to `normal` until it is published.
    pub(crate) fn defer_opening(&mut self, opening: Opening) {
        self.publication.defer(opening);
    }

    /// Returns whether an operator's change to `normal` waits until it is published.
    pub(crate) const fn is_opening(&self) -> bool {
        self.publication.has_openings()
    }

    /// Has a change answered when it is published. Returns the response if that is known now.
    pub(crate) fn answer_when_published(
        &mut self,
        ctx: &mut Ctx,
        state: &ModeState,
        reply_to: ReplyHandle,
        changed: Box<ModeChanged>,
    ) -> Option<Box<ModeChanged>> {
        let by = self.incarnation();
        self.publication
            .answer_when_published(ctx, by, state, (reply_to, changed))
    }

    /// Publishes the mode, if the other nodes do not know it.
    pub(crate) fn publish_mode(&mut self, ctx: &mut Ctx, mode: Mode) {
        let by = if self.is_opening() {
            self.incarnation()
        } else {
            let by = self.ownership.published_as();
            by.filter(|_| !self.trust.refuses())
        };
        self.publication.publish(ctx, by, mode);
    }

    pub(super) fn on_published(&mut self, ctx: &mut Ctx, mode: Mode, outcome: Result<(), String>) {
        if let Some(openings) = self.publication.on_response(ctx, mode, outcome) {
            self.events
                .push_back(ClusterEvent::Published { mode, openings });
        }
    }

    /// Answers the changes that waited for this mode to be published, if it is still wanted.
    pub(crate) fn answer_published(&mut self, ctx: &mut Ctx, node: NodeView, mode: Mode) {
        if mode_to_publish(node.mode) == mode {
            self.publication.answer(ctx, true);
        }
    }

    /// Refuses all changes that wait: they could not be stored.
    pub(crate) fn refuse_changes(&mut self, ctx: &mut Ctx, refusal: &Error) {
        self.publication.refuse(ctx, refusal);
    }

    pub(super) fn is_published(&self, mode: Mode) -> bool {
        self.publication.is_published(mode) && self.incarnation().is_some()
    }
}
