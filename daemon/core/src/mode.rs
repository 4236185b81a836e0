//! Changes of the mode: by an operator, and by themselves.

use std::time::Duration;

use soramode_protocol::error::Error;
use soramode_protocol::event::EventKind;
use soramode_protocol::id::PlanId;
use soramode_protocol::mode::{
    ChangeMode, DatedModeChange, Mode, ModeChange, ModeChanged, ModeState, SettableMode,
};
use soramode_protocol::node::{Membership, StorageState};
use soramode_protocol::reply::{Answer, Reply};

use crate::gate::{Ctx, Gate, Refusable};
use crate::input::Timestamp;
use crate::plan::{PlanMode, Stopped};
use crate::waits::Changed;

/// Actor of a node that closes itself because its state cannot be written.
pub(crate) const BY_STORAGE: &str = "system:storage";

/// A change that is going to be made.
struct Change {
    mode: Mode,
    actor: String,
    on_behalf_of: Option<String>,
    reason: Option<String>,
    expiry: Expiry,
    plan_id: Option<PlanId>,
}

/// What becomes of the mode's expiry.
enum Expiry {
    /// The running one stays.
    Keep,
    /// None from now on.
    None,
    /// After this time.
    In(Duration),
}

impl Gate {
    /// Changes the mode, whatever the other nodes of a cluster know of it.
    pub(crate) fn change_mode_here(
        &mut self,
        ctx: &mut Ctx,
        change: ChangeMode,
        actor: &str,
    ) -> Answer {
        self.may_change(ctx.now, &change)?;
        let previous_mode = self.mode.mode;
        let confirms_normal = change.mode == SettableMode::Normal;
        let changed = self.decide_change(change, actor);
        let is_changed = changed.is_some();
        let stopped = match changed {
            Some(change) => {
                self.check_can_keep()?;
                self.make_change(ctx, change)
            }
            None if confirms_normal => self.normal_confirmed(ctx, actor),
            None => Stopped::default(),
        };
        let warning = self.scheduled_warning(ctx.now);
        Ok(Reply::ModeChanged(ModeChanged {
            mode: self.mode.mode,
            previous_mode,
            changed: is_changed,
            generation: self.mode.generation,
            sessions: self.sessions.session_count(),
            connections: self.sessions.connection_count(),
            expires_at: self
                .mode
                .expires_at
                .map(|expires_at| self.told_expiry(expires_at, ctx.now)),
            warning: warning.filter(|_| confirms_normal),
            published: None,
            plan_id: self.plans.running_id().cloned(),
            plan_cancelled: stopped.plan_id,
            ends_stopped: stopped.ends,
        }))
    }

    /// Whether the change may be made as things are.
    pub(crate) fn may_change(&self, now: Timestamp, change: &ChangeMode) -> Refusable<()> {
        self.check_conditions(now, change)?;
        self.check_may(change.mode.into())
    }

    fn check_conditions(&self, now: Timestamp, change: &ChangeMode) -> Refusable<()> {
        let mode_holds = change.if_mode.is_none_or(|mode| mode == self.mode.mode);
        let generation_holds = change
            .if_generation
            .is_none_or(|generation| generation == self.mode.generation);
        let plan_holds = change.if_plan.is_none() || change.if_plan == self.mode.plan_id;
        if mode_holds && generation_holds && plan_holds {
            Ok(())
        } else {
            Err(Error::superseded(self.told_mode(now)))
        }
    }

    fn check_may(&self, mode: Mode) -> Refusable<()> {
        if mode != Mode::Normal {
            return Ok(());
        }
        match self.membership {
            Membership::Isolated | Membership::Fenced => {
                Err(Error::not_joined(self.membership, &self.mode))
            }
            Membership::Standalone | Membership::Joined => Ok(()),
        }
    }

    /// A mode that could not be kept is none to promise: the node stays closed, as it is.
    fn check_can_keep(&self) -> Refusable<()> {
        match self.storage {
            StorageState::Failed => Err(self.unwritable()),
            StorageState::Ok | StorageState::Memory => Ok(()),
        }
    }

    /// What the change comes to; `None` if it changes nothing.
    fn decide_change(&self, change: ChangeMode, actor: &str) -> Option<Change> {
        let mode = Mode::from(change.mode);
        let is_same_mode = mode == self.mode.mode;
        let is_same_reason = change.reason.is_none() || change.reason == self.mode.reason;
        let expiry = match change.expires_in_seconds {
            Some(0) => Expiry::None,
            Some(seconds) => Expiry::In(Duration::from_secs(seconds)),
            None if is_same_mode => Expiry::Keep,
            None => Expiry::None,
        };
        let is_same_expiry = match expiry {
            Expiry::Keep => true,
            Expiry::None => self.mode.expires_at.is_none(),
            Expiry::In(_) => false,
        };
        if is_same_mode && is_same_reason && is_same_expiry {
            return None;
        }
        let reason = if is_same_mode {
            change.reason.or_else(|| self.mode.reason.clone())
        } else {
            change.reason
        };
        Some(Change {
            mode,
            actor: actor.to_owned(),
            on_behalf_of: change.on_behalf_of,
            reason,
            expiry,
            plan_id: None,
        })
    }

    /// Changes the mode as a plan says: always a change of its own.
    pub(crate) fn change_mode_for_plan(&mut self, ctx: &mut Ctx, change: PlanMode) {
        let change = Change {
            mode: change.mode.into(),
            actor: change.actor,
            on_behalf_of: change.on_behalf_of,
            reason: change.reason,
            expiry: Expiry::None,
            plan_id: Some(change.plan_id),
        };
        self.make_change(ctx, change);
    }

    /// Warning that a plan will close the node all the same.
    fn scheduled_warning(&self, now: Timestamp) -> Option<String> {
        let plan = self.running_plan(now)?;
        let (id, at) = (&plan.id, plan.at);
        Some(format!(
            "plan {id} is scheduled and closes the node at {at}. To cancel it, run: soramode plan cancel {id}"
        ))
    }

    /// Changes the mode by itself; nothing if it is this one already.
    pub(crate) fn switch_mode(&mut self, ctx: &mut Ctx, mode: Mode, actor: &str) {
        if self.mode.mode != mode {
            let change = Change {
                mode,
                actor: actor.to_owned(),
                on_behalf_of: None,
                reason: None,
                expiry: Expiry::None,
                plan_id: None,
            };
            self.make_change(ctx, change);
        }
    }

    fn make_change(&mut self, ctx: &mut Ctx, change: Change) -> Stopped {
        let expires_at = match change.expiry {
            Expiry::Keep => self.mode.expires_at,
            Expiry::None => {
                self.cancel_expiry();
                None
            }
            Expiry::In(time) => Some(self.set_expiry(ctx, time)),
        };
        let state = ModeState {
            mode: change.mode,
            generation: self.mode.generation + 1,
            since: ctx.now.wall,
            actor: change.actor,
            reason: change.reason,
            expires_at,
            own_mode: None,
            plan_id: change.plan_id,
        };
        let previous = std::mem::replace(&mut self.mode, state);
        if !self.mode.mode.is_block() {
            self.opened_generation = self.mode.generation;
            self.vanished_pending = false;
            self.confirm_nothing();
            // That it was empty must not be told any more.
            self.make_obsolete(ctx, |kind| *kind == EventKind::SessionVanished);
        } else if !previous.mode.is_block() {
            self.confirm(ctx);
        }
        let change = ModeChange {
            mode: self.mode.mode,
            previous_mode: previous.mode,
            generation: self.mode.generation,
            actor: self.mode.actor.clone(),
            on_behalf_of: change.on_behalf_of,
            reason: self.mode.reason.clone(),
            expires_at,
            plan_id: self.mode.plan_id.clone(),
        };
        self.remember_change(DatedModeChange {
            timestamp: ctx.now.wall,
            change: change.clone(),
        });
        self.emit(ctx, EventKind::ModeChanged(Box::new(change.clone())));
        self.waits.note(Changed::Mode);
        if self.mode.mode == Mode::BlockNewConnection {
            self.end_graces(ctx);
        }
        if change.plan_id.is_some() {
            return Stopped::default();
        }
        self.mode_changed_for_plans(ctx, &change)
    }

    /// Closes a node whose state can no longer be written, and takes back changes of the mode that were refused because of it: nothing
    /// that was reported as failed is carried out later.
    pub(crate) fn close_for_storage(&mut self, ctx: &mut Ctx, refused: &[u64]) {
        let (mode, actor) = (Mode::BlockNewConnection, BY_STORAGE);
        let reason = match refused {
            [] => return self.switch_mode(ctx, mode, actor),
            [generation] => format!(
                "undoes generation {generation}, which was refused because it could not be written"
            ),
            [first, .., last] => format!(
                "undoes generations {first} to {last}, which were refused because they could not be written"
            ),
        };
        let change = Change {
            mode,
            actor: actor.to_owned(),
            on_behalf_of: None,
            reason: Some(reason),
            expiry: Expiry::None,
            plan_id: None,
        };
        self.make_change(ctx, change);
    }

    pub(crate) fn mode_expired(&mut self, ctx: &mut Ctx) {
        if self.storage == StorageState::Failed {
            // The node stays closed until a write succeeds; then this is made up for.
            return;
        }
        if !self.is_expired(ctx.now) {
            return;
        }
        let is_shut_out = matches!(self.membership, Membership::Isolated | Membership::Fenced);
        let mode = if is_shut_out {
            Mode::Initial
        } else {
            Mode::Normal
        };
        self.switch_mode(ctx, mode, "system:expired");
    }

    /// Sets the node's membership in its cluster, and the mode that follows from it.
    pub(crate) fn set_membership(&mut self, ctx: &mut Ctx, membership: Membership) {
        // A fenced node has no right left that could still run: it becomes joined, not isolated.
        let is_past = self.membership == Membership::Fenced && membership == Membership::Isolated;
        if self.membership == membership || is_past {
            return;
        }
        let switch = match (membership, self.mode.mode) {
            (Membership::Joined, Mode::Initial) => Some((Mode::Normal, "system:joined")),
            (Membership::Isolated, Mode::Normal) => Some((Mode::Initial, "system:isolated")),
            (Membership::Fenced, Mode::Normal) => Some((Mode::Initial, "system:fenced")),
            _ => None,
        };
        self.membership = membership;
        if let Some(member) = self.member() {
            member.membership_since = Some(ctx.now.wall);
        }
        let mode = switch.map_or(self.mode.mode, |(mode, _)| mode);
        self.emit(
            ctx,
            match membership {
                Membership::Joined => EventKind::NodeJoined { membership, mode },
                Membership::Isolated => EventKind::NodeIsolated { membership, mode },
                Membership::Fenced => EventKind::NodeFenced { membership, mode },
                Membership::Standalone => unreachable!("a node does not leave its cluster"),
            },
        );
        if let Some((mode, actor)) = switch {
            self.switch_mode(ctx, mode, actor);
        }
        self.waits.note(Changed::Membership);
    }
}

impl Gate {
    /// Refusal of a mode that could not be kept. A state that was refused at the start is not looked at again.
    pub(crate) fn unwritable(&self) -> Error {
        match self.settings.storage.state {
            StorageState::Failed => Error::storage_unavailable(
                "it could not be used when soramoded started, and needs a restart",
            )
            .with_hint("Repair the state as soramode status says, then restart soramoded"),
            StorageState::Ok | StorageState::Memory => {
                Error::storage_unavailable("the node stays closed until it can")
                    .with_hint("Remove the cause that soramode status names, then run this again")
            }
        }
    }
}
