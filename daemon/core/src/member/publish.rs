//! The mode, as the other nodes know it. A node that closes does so at once, and then tells them; one that opens tells them first.

use std::sync::Arc;

use soramode_protocol::error::Error;
use soramode_protocol::mode::{ChangeMode, Mode, ModeChanged, SettableMode};
use soramode_protocol::reply::{Answer, Reply};

use crate::ctx::Ctx;
use crate::effect::Action;
use crate::handles::ReplyHandle;
use crate::node::Node;

use super::etcd::EtcdRequest;

/// What the others know, and who waits for them to know more.
#[derive(Default)]
pub(super) struct Publication {
    /// What they know, as far as that is certain.
    published: Option<Mode>,
    under_way: Option<Mode>,
    /// The last try failed: the next one is made when etcd is heard again.
    must_wait: bool,
    /// Changes that are done, and are answered when the others know.
    owed: Vec<(ReplyHandle, ModeChanged)>,
    /// Changes to `normal` that are done when the others know.
    openings: Vec<Opening>,
}

struct Opening {
    reply_to: ReplyHandle,
    change: ChangeMode,
    actor: Arc<str>,
}

impl Publication {
    pub(super) fn try_again(&mut self) {
        self.must_wait = false;
    }

    /// The member key is being written, and this mode with it.
    pub(super) fn joining(&mut self, mode: Mode) {
        self.published = None;
        self.under_way = Some(mode);
    }

    pub(super) fn not_joined(&mut self) {
        self.under_way = None;
    }

    /// The key was written, and the mode with it: returns that.
    pub(super) fn joined(&mut self) -> Option<Mode> {
        self.published = self.under_way.take();
        self.published
    }
}

impl Node {
    /// Changes the mode, and answers at once or when the others know.
    pub(crate) fn change_mode(
        &mut self,
        ctx: &mut Ctx,
        reply_to: ReplyHandle,
        (change, actor): (ChangeMode, &Arc<str>),
    ) -> Option<Answer> {
        let opens = change.mode == SettableMode::Normal && self.mode.mode() != Mode::Normal;
        if self.member.is_none() || (opens && self.check_change(ctx, &change).is_err()) {
            return Some(self.change_mode_here(ctx, change, actor));
        }
        if opens {
            let opening = Opening {
                reply_to,
                change,
                actor: Arc::clone(actor),
            };
            if let Some(member) = self.member() {
                member.publication.openings.push(opening);
            }
            return None;
        }
        match self.change_mode_here(ctx, change, actor) {
            Ok(Reply::ModeChanged(changed)) => self.owe_published(ctx, reply_to, changed),
            other => Some(other),
        }
    }

    fn owe_published(
        &mut self,
        ctx: &mut Ctx,
        reply_to: ReplyHandle,
        changed: ModeChanged,
    ) -> Option<Answer> {
        let wanted = self.mode_to_publish();
        let superseded = self.mode.state().clone();
        let member = self.member()?;
        let openings = std::mem::take(&mut member.publication.openings);
        let can_tell = member.incarnation().is_some();
        let is_known =
            member.publication.published == Some(wanted) && member.publication.under_way.is_none();
        for opening in openings {
            ctx.effects.actions.push(Action::Answer(
                opening.reply_to,
                Err(Error::superseded(superseded.clone())),
            ));
        }
        if is_known || !can_tell {
            return Some(Ok(Reply::ModeChanged(ModeChanged {
                published: Some(is_known && can_tell),
                ..changed
            })));
        }
        member.publication.owed.push((reply_to, changed));
        // Whoever asks is told within one try.
        member.publication.try_again();
        None
    }

    /// Tells the others of the mode, if they do not know it: one try at a time.
    pub(crate) fn publish(&mut self, ctx: &mut Ctx) {
        let wanted = self.mode_to_publish();
        let Some(member) = self.member() else { return };
        let wanted = if member.publication.openings.is_empty() {
            wanted
        } else {
            Mode::Normal
        };
        let publication = &mut member.publication;
        if publication.under_way.is_some()
            || publication.published == Some(wanted) && publication.openings.is_empty()
        {
            return;
        }
        let Some(by) = member.incarnation() else {
            return self.publish_nothing(ctx, "the node has not joined its cluster");
        };
        let publication = &mut member.publication;
        if publication.must_wait && publication.openings.is_empty() {
            return;
        }
        publication.under_way = Some(wanted);
        Self::order(ctx, EtcdRequest::Publish { by, mode: wanted });
    }

    pub(super) fn published(&mut self, ctx: &mut Ctx, mode: Mode, outcome: Result<(), String>) {
        let Some(member) = self.member() else { return };
        let publication = &mut member.publication;
        if publication.under_way != Some(mode) {
            return;
        }
        publication.under_way = None;
        publication.published = outcome.is_ok().then_some(mode);
        match outcome {
            Ok(()) => self.now_known(ctx, mode),
            Err(why) => {
                publication.must_wait = true;
                self.publish_nothing(ctx, &why);
            }
        }
    }

    /// Opens the node, if that was asked for, and answers whoever waited for this mode to be known.
    fn now_known(&mut self, ctx: &mut Ctx, mode: Mode) {
        if mode == Mode::Normal {
            let openings = self
                .member()
                .map(|member| std::mem::take(&mut member.publication.openings))
                .unwrap_or_default();
            for Opening {
                reply_to,
                change,
                actor,
            } in openings
            {
                let answer = self
                    .change_mode_here(ctx, change, &actor)
                    .map(with_published);
                ctx.effects.actions.push(Action::Answer(reply_to, answer));
            }
        }
        self.answer_published(ctx, mode);
    }

    /// Answers the changes that waited for this mode to be known.
    pub(super) fn answer_published(&mut self, ctx: &mut Ctx, mode: Mode) {
        let is_wanted = self.mode_to_publish() == mode;
        let Some(member) = self.member() else { return };
        let owed = if is_wanted {
            std::mem::take(&mut member.publication.owed)
        } else {
            Vec::new()
        };
        for (reply_to, changed) in owed {
            let changed = ModeChanged {
                published: Some(true),
                ..changed
            };
            ctx.effects
                .actions
                .push(Action::Answer(reply_to, Ok(Reply::ModeChanged(changed))));
        }
    }

    /// The others were not told: who closed is closed all the same, who would have opened is not open.
    fn publish_nothing(&mut self, ctx: &mut Ctx, why: &str) {
        let Some(member) = self.member() else { return };
        let owed = std::mem::take(&mut member.publication.owed);
        let openings = std::mem::take(&mut member.publication.openings);
        for (reply_to, changed) in owed {
            let changed = ModeChanged {
                published: Some(false),
                ..changed
            };
            ctx.effects
                .actions
                .push(Action::Answer(reply_to, Ok(Reply::ModeChanged(changed))));
        }
        for opening in openings {
            ctx.effects.actions.push(Action::Answer(
                opening.reply_to,
                Err(Error::cluster_unavailable(why)),
            ));
        }
    }

    /// What was promised cannot be kept: nobody is told that it was.
    pub(crate) fn refuse_publications(&mut self, ctx: &mut Ctx) {
        let Some(member) = self.member() else { return };
        let owed = std::mem::take(&mut member.publication.owed)
            .into_iter()
            .map(|(reply_to, _)| reply_to);
        let openings = std::mem::take(&mut member.publication.openings)
            .into_iter()
            .map(|opening| opening.reply_to);
        let refusal = self.storage.refusal();
        ctx.effects.actions.extend(
            owed.chain(openings)
                .map(|reply_to| Action::Answer(reply_to, Err(refusal.clone()))),
        );
    }

    pub(super) fn is_published(&self) -> bool {
        let wanted = self.mode_to_publish();
        self.member.as_deref().is_some_and(|member| {
            member.publication.published == Some(wanted) && member.incarnation().is_some()
        })
    }
}

fn with_published(reply: Reply) -> Reply {
    if let Reply::ModeChanged(changed) = reply {
        return Reply::ModeChanged(ModeChanged {
            published: Some(true),
            ..changed
        });
    }
    reply
}
