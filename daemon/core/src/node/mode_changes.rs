//! Changes of the mode and of the cluster membership, and what follows from them.

use std::sync::Arc;

use soramode_protocol::error::Error;
use soramode_protocol::event::EventKind;
use soramode_protocol::mode::{ChangeMode, Mode, ModeChanged, SettableMode};
use soramode_protocol::node::Membership;
use soramode_protocol::reply::{Answer, Reply};

use crate::ctx::Ctx;
use crate::handles::ReplyHandle;
use crate::member::Opening;
use crate::mode::Change;
use crate::node::Node;
use crate::node::unasked::Unasked;
use crate::plan::StoppedByMode;

impl Node {
    /// Changes the mode; `None` if it is answered when the other nodes know the mode.
    pub(super) fn change_mode(
        &mut self,
        ctx: &mut Ctx,
        reply_to: ReplyHandle,
        change: ChangeMode,
        actor: &Arc<str>,
    ) -> Option<Answer> {
        let opens = change.mode == SettableMode::Normal && self.mode.mode() != Mode::Normal;
        let is_refused = opens && self.check_change(ctx, &change).is_err();
        if opens
            && !is_refused
            && let Some(member) = self.member.as_deref_mut()
        {
            member.defer_opening(Opening {
                reply_to,
                change,
                actor: Arc::clone(actor),
            });
            return None;
        }
        let answer = self.change_mode_now(ctx, change, actor);
        match (answer, self.member.as_deref_mut()) {
            (Ok(Reply::ModeChanged(changed)), Some(member)) if !opens => member
                .answer_when_published(ctx, self.mode.state(), reply_to, changed)
                .map(|changed| Ok(Reply::ModeChanged(changed))),
            (answer, _) => Some(answer),
        }
    }

    /// Changes the mode at once: the other nodes of a cluster may learn of it later.
    pub(crate) fn change_mode_now(
        &mut self,
        ctx: &mut Ctx,
        change: ChangeMode,
        actor: &str,
    ) -> Answer {
        self.check_change(ctx, &change)?;
        let previous_mode = self.mode.mode();
        let confirms_normal = change.mode == SettableMode::Normal;
        let roll = change.roll.clone().or_else(|| change.if_roll.clone());
        let change = self.mode.decide(change, actor);
        let changed = change.is_some();
        let stopped = match change {
            Some(change) => {
                self.storage.check_writable()?;
                self.make_change(ctx, change)
            }
            None if confirms_normal => self.confirm_normal(ctx, actor),
            None => StoppedByMode::default(),
        };
        let by_plan = self.scheduled_plan_warning(ctx.now);
        let by_roll = self.reservations.warning(ctx.now, roll.as_ref());
        let warnings = [
            by_roll.filter(|_| changed),
            by_plan.filter(|_| confirms_normal),
            self.no_open_node_warning().filter(|_| changed),
        ];
        let warning = warnings
            .into_iter()
            .flatten()
            .reduce(|one, other| format!("{one}. {other}"));
        Ok(Reply::ModeChanged(Box::new(ModeChanged {
            mode: self.mode.mode(),
            previous_mode,
            changed,
            generation: self.mode.generation(),
            sessions: self.sessions.session_count(),
            connections: self.sessions.connection_count(),
            expires_at: self.mode.shown_expiry(ctx.timers, ctx.now),
            expected_end_at: self.mode.state().expected_end_at,
            warning,
            published: None,
            plan_id: self.plans.running_id().cloned(),
            in_force: None,
            plan_cancelled: stopped.plan_id,
            ends_stopped: stopped.ends,
        })))
    }

    /// Refuses a change of the mode that the node's state does not allow.
    pub(crate) fn check_change(&self, ctx: &Ctx, change: &ChangeMode) -> Result<(), Error> {
        self.mode.check_conditions(ctx.timers, ctx.now, change)?;
        if let (Some(roll), Some(round)) = (&change.roll, change.round) {
            self.reservations.check_close(ctx.now, roll, round)?;
        }
        if change.unless_reserved {
            self.reservations.check_unreserved(ctx.now)?;
        }
        let opens = Mode::from(change.mode) == Mode::Normal;
        match self.membership() {
            Membership::Isolated | Membership::Fenced if opens => {
                let status = self.status(ctx);
                let problem = status.cluster.as_ref().and_then(|it| it.problem.as_deref());
                Err(Error::not_joined(
                    status.membership_words(),
                    self.mode.state(),
                    problem,
                ))
            }
            Membership::Isolated
            | Membership::Fenced
            | Membership::Standalone
            | Membership::Joined => Ok(()),
        }
    }

    /// Makes a change of the mode, with what follows from it. Returns what it stopped of a plan.
    pub(super) fn make_change(&mut self, ctx: &mut Ctx, change: Change) -> StoppedByMode {
        // Events up to here belong to the generation before, and a delivery of one may become obsolete with the change.
        self.outbox.enqueue_new_events(ctx, self.mode.generation());
        let was_block = self.mode.is_block();
        let change = self.mode.apply(ctx, change);
        if !self.mode.is_block() {
            self.vanished_pending = false;
            self.sync.clear_verification();
            // `session.vanished` is outdated on an open node.
            self.outbox
                .make_obsolete(ctx, |kind| *kind == EventKind::SessionVanished);
        } else if !was_block {
            self.unasked = Unasked::default();
            self.sync.require_verification(ctx);
        }
        self.hold_mode(ctx);
        ctx.emit(EventKind::ModeChanged(Box::new(change.clone())));
        if self.mode.mode() == Mode::BlockNewConnection {
            self.end_graces(ctx);
        }
        if change.plan_id.is_some() {
            return StoppedByMode::default();
        }
        self.notify_plans(ctx, &change)
    }

    /// Ends the mode, if its time is over.
    pub(super) fn expire_mode(&mut self, ctx: &mut Ctx) {
        // While the state cannot be written the node stays closed; this follows when it can.
        if self.storage.is_failed() || !self.mode.is_expired(ctx) {
            return;
        }
        let mode = match self.membership() {
            Membership::Isolated | Membership::Fenced => Mode::Initial,
            Membership::Standalone | Membership::Joined => Mode::Normal,
        };
        self.switch_mode(ctx, mode, "system:expired");
    }

    /// Changes the mode without an operator; nothing if it is this one already.
    fn switch_mode(&mut self, ctx: &mut Ctx, mode: Mode, actor: &str) {
        if self.mode.mode() != mode {
            self.make_change(ctx, Change::by_system(mode, actor));
        }
    }

    /// Follows a change of the node's membership in its cluster by the mode.
    pub(super) fn on_membership_changed(&mut self, ctx: &mut Ctx, membership: Membership) {
        let switch = match (membership, self.mode.mode()) {
            (Membership::Joined, Mode::Initial) => Some((Mode::Normal, "system:joined")),
            (Membership::Isolated, Mode::Normal) => Some((Mode::Initial, "system:isolated")),
            (Membership::Fenced, Mode::Normal) => Some((Mode::Initial, "system:fenced")),
            _ => None,
        };
        let mode = switch.map_or(self.mode.mode(), |(mode, _)| mode);
        ctx.emit(match membership {
            Membership::Joined => EventKind::NodeJoined { membership, mode },
            Membership::Isolated => EventKind::NodeIsolated { membership, mode },
            Membership::Fenced => EventKind::NodeFenced { membership, mode },
            Membership::Standalone => return ctx.bug("a node leaves its cluster"),
        });
        if let Some((mode, actor)) = switch {
            self.switch_mode(ctx, mode, actor);
        }
    }
}
