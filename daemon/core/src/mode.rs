//! The node's mode: its changes, and when it ends by itself.

use std::collections::VecDeque;
use std::time::Duration;

use soramode_protocol::actor::SystemActor;
use soramode_protocol::error::Error;
use soramode_protocol::id::{PlanId, RollId};
use soramode_protocol::mode::{
    ChangeMode, DatedModeChange, ListModeChanges, MODE_CHANGES_KEPT, Mode, ModeChange, ModeChanges,
    ModeState,
};
use soramode_protocol::time::Time;

use crate::ctx::Ctx;
use crate::expiry::Expiry;
use crate::handles::Timestamp;
use crate::plan::PlanMode;
use crate::tables::lists::page_size;
use crate::timers::{Timer, Timers};

/// Actor of a node that closes itself because its state cannot be written.
pub(crate) const BY_STORAGE: &str = "system:storage";

/// The mode, and its history.
pub(crate) struct ModeControl {
    state: ModeState,
    /// Oldest first.
    changes: VecDeque<DatedModeChange>,
    /// The last generation in which no operator had closed the node.
    opened_generation: u64,
    expiry: Expiry,
}

/// A change of the mode that is to be made.
pub(crate) struct Change {
    mode: Mode,
    actor: String,
    on_behalf_of: Option<String>,
    reason: Option<String>,
    expiry: NewExpiry,
    expected_end_at: Option<Time>,
    plan_id: Option<PlanId>,
    roll: Option<RollId>,
}

/// Expiry of the mode after a change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NewExpiry {
    /// The present one.
    Keep,
    None,
    After(Duration),
}

impl Change {
    /// A change that no operator makes.
    pub(crate) fn by_system(mode: Mode, actor: &str) -> Self {
        Self {
            mode,
            actor: actor.to_owned(),
            on_behalf_of: None,
            reason: None,
            expiry: NewExpiry::None,
            expected_end_at: None,
            plan_id: None,
            roll: None,
        }
    }

    /// A change that a plan makes, in the name of its owner.
    pub(crate) fn by_plan(change: PlanMode) -> Self {
        Self {
            mode: change.mode.into(),
            actor: change.actor,
            on_behalf_of: change.on_behalf_of,
            reason: change.reason,
            expiry: NewExpiry::None,
            expected_end_at: change.expected_end_at,
            plan_id: Some(change.plan_id),
            roll: change.roll,
        }
    }

    /// Closes a node that cannot write its state any more, and undoes changes of the mode that were refused because of it: nothing
    /// that was reported as failed is carried out later.
    pub(crate) fn by_storage(refused: &[u64]) -> Self {
        let reason = match refused {
            [] => None,
            [generation] => Some(format!(
                "undoes generation {generation}, which was refused because it could not be written"
            )),
            [first, .., last] => Some(format!(
                "undoes generations {first} to {last}, which were refused because they could not be written"
            )),
        };
        Self {
            reason,
            ..Self::by_system(Mode::BlockNewConnection, BY_STORAGE)
        }
    }

    pub(crate) const fn mode(&self) -> Mode {
        self.mode
    }
}

impl ModeControl {
    pub(crate) fn new(
        state: ModeState,
        changes: Vec<DatedModeChange>,
        opened_generation: u64,
        started: Timestamp,
    ) -> Self {
        Self {
            state,
            changes: changes.into(),
            opened_generation,
            expiry: Expiry::new(started),
        }
    }

    /// Sets the expiry of the mode that a start begins with. `at_boot` is its stored deadline, if the machine has not been restarted since.
    pub(crate) fn restore_expiry(&mut self, timers: &mut Timers, at_boot: Option<Duration>) {
        if let Some(expires_at) = self.state.expires_at {
            let requested = expires_at.since(self.state.since);
            self.expiry.restore(timers, expires_at, requested, at_boot);
        }
    }

    pub(crate) const fn mode(&self) -> Mode {
        self.state.mode
    }

    pub(crate) const fn is_block(&self) -> bool {
        self.state.mode.is_block()
    }

    pub(crate) const fn generation(&self) -> u64 {
        self.state.generation
    }

    pub(crate) const fn opened_generation(&self) -> u64 {
        self.opened_generation
    }

    pub(crate) const fn state(&self) -> &ModeState {
        &self.state
    }

    /// Returns the mode for a response, with its expiry by the wall clock as it stands now, which may have been set since.
    pub(crate) fn shown(&self, timers: &Timers, now: Timestamp) -> ModeState {
        ModeState {
            expires_at: self.shown_expiry(timers, now),
            ..self.state.clone()
        }
    }

    /// Returns when the mode ends, by the wall clock as it stands now.
    pub(crate) fn shown_expiry(&self, timers: &Timers, now: Timestamp) -> Option<Time> {
        let expires_at = self.state.expires_at?;
        Some(self.expiry.shown(timers, expires_at, now))
    }

    /// Returns the history, newest first.
    pub(crate) fn list(&self, list: &ListModeChanges) -> ModeChanges {
        let changes = self.changes.iter().rev().take(page_size(list.limit));
        ModeChanges {
            changes: changes.cloned().collect(),
        }
    }

    /// Returns whether the node closed itself because its state could not be written, and no operator has opened it since.
    pub(crate) fn is_closed_by_storage(&self) -> bool {
        self.state.actor == BY_STORAGE && self.is_block()
    }

    /// Refuses a change if its conditions do not hold.
    pub(crate) fn check_conditions(
        &self,
        timers: &Timers,
        now: Timestamp,
        change: &ChangeMode,
    ) -> Result<(), Error> {
        let mode_holds = change.if_mode.is_none_or(|mode| mode == self.state.mode);
        let generation_holds = change
            .if_generation
            .is_none_or(|generation| generation == self.state.generation);
        let plan_holds = change.if_plan.is_none() || change.if_plan == self.state.plan_id;
        let roll_holds = change.if_roll.is_none() || change.if_roll == self.state.roll;
        if mode_holds && generation_holds && plan_holds && roll_holds {
            Ok(())
        } else {
            Err(Error::superseded(self.shown(timers, now)))
        }
    }

    /// Returns the change that a request leads to; `None` if it changes nothing.
    pub(crate) fn decide(&self, change: ChangeMode, actor: &str) -> Option<Change> {
        let mode = Mode::from(change.mode);
        let is_same_mode = mode == self.state.mode;
        let is_same_reason = change.reason.is_none() || change.reason == self.state.reason;
        let expiry = match change.expires_in_seconds {
            Some(0) => NewExpiry::None,
            Some(seconds) => NewExpiry::After(Duration::from_secs(seconds)),
            None if is_same_mode => NewExpiry::Keep,
            None => NewExpiry::None,
        };
        let is_same_expiry = match expiry {
            NewExpiry::Keep => true,
            NewExpiry::None => self.state.expires_at.is_none(),
            NewExpiry::After(_) => false,
        };
        let is_same_expected_end = change.expected_end_at.is_none()
            || change.expected_end_at == self.state.expected_end_at;
        if is_same_mode && is_same_reason && is_same_expiry && is_same_expected_end {
            return None;
        }
        let (reason, expected_end_at) = if is_same_mode {
            (
                change.reason.or_else(|| self.state.reason.clone()),
                change.expected_end_at.or(self.state.expected_end_at),
            )
        } else {
            (change.reason, change.expected_end_at)
        };
        Some(Change {
            mode,
            actor: actor.to_owned(),
            on_behalf_of: change.on_behalf_of,
            reason,
            expiry,
            expected_end_at,
            plan_id: None,
            roll: change.roll,
        })
    }

    /// Makes a change, and adds it to the history.
    pub(crate) fn apply(&mut self, ctx: &mut Ctx, change: Change) -> ModeChange {
        let expires_at = match change.expiry {
            NewExpiry::Keep => self.state.expires_at,
            NewExpiry::None => {
                self.expiry.cancel(ctx.timers);
                None
            }
            NewExpiry::After(time) => Some(self.expiry.set(ctx, time)),
        };
        let state = ModeState {
            mode: change.mode,
            generation: self.state.generation + 1,
            since: ctx.now.wall,
            actor: change.actor,
            on_behalf_of: change.on_behalf_of,
            reason: change.reason,
            expires_at,
            expected_end_at: change.expected_end_at,
            own_mode: None,
            in_force: None,
            plan_id: change.plan_id,
            roll: change.roll,
        };
        let previous = std::mem::replace(&mut self.state, state);
        if !self.is_block() {
            self.opened_generation = self.state.generation;
        }
        let change = ModeChange {
            mode: self.state.mode,
            previous_mode: previous.mode,
            generation: self.state.generation,
            actor: self.state.actor.clone(),
            on_behalf_of: self.state.on_behalf_of.clone(),
            reason: self.state.reason.clone(),
            expires_at,
            expected_end_at: self.state.expected_end_at,
            plan_id: self.state.plan_id.clone(),
            roll: self.state.roll.clone(),
        };
        if self.changes.len() >= MODE_CHANGES_KEPT {
            self.changes.pop_front();
        }
        self.changes.push_back(DatedModeChange {
            timestamp: ctx.now.wall,
            change: change.clone(),
        });
        change
    }

    /// Returns whether an operator has changed the mode, its reason or its timer since this generation or, where that is unknown, since this
    /// time by the wall clock.
    pub(crate) fn is_set_by_operator_since(&self, generation: Option<u64>, at: Time) -> bool {
        let is_set = |set_in: u64, set_at: Time, actor: &str| {
            let is_later = generation.map_or(set_at > at, |generation| set_in > generation);
            is_later && SystemActor::from_name(actor).is_none()
        };
        let mut changes = self.changes.iter();
        changes.any(|it| is_set(it.change.generation, it.timestamp, &it.change.actor))
            || is_set(self.state.generation, self.state.since, &self.state.actor)
    }

    /// Sets the deadline of the expiry anew where it goes by the wall clock, which may have been set meanwhile.
    pub(crate) fn follow_clock(&self, timers: &mut Timers, now: Timestamp) {
        if let Some(expires_at) = self.state.expires_at {
            self.expiry.follow_clock(timers, expires_at, now);
        }
    }

    /// Returns whether the mode ends now that its timer fired; if not, sets the timer anew.
    pub(crate) fn is_expired(&self, ctx: &mut Ctx) -> bool {
        self.state
            .expires_at
            .is_none_or(|expires_at| self.expiry.is_over(ctx.timers, expires_at, ctx.now))
    }

    /// Returns whether the timer of the mode's expiry has fired already.
    pub(crate) fn has_missed_expiry(&self, timers: &Timers) -> bool {
        self.state.expires_at.is_some() && !timers.is_set(Timer::Expiry)
    }
}
