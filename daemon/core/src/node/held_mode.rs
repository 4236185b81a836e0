//! Connects the mode that the SFU holds by locks of its rooms with the rest of the node.

use std::time::Duration;

use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::{InForce, Mode, ModeState};
use soramode_protocol::node::RoomCounts;
use soramode_protocol::reply::{Answer, Reply};

use crate::ctx::Ctx;
use crate::handles::{ReplyHandle, SessionSlot};
use crate::held_mode::{HeldMode, Target};
use crate::input::ListScope;
use crate::locks::calls::LockOutcome;
use crate::node::Node;
use crate::plan::calls::CallId;
use crate::timers::Timers;

impl Node {
    /// Returns the mode for an answer to `GetMode`.
    pub(super) fn shown_mode(&self, ctx: &Ctx) -> ModeState {
        ModeState {
            in_force: self.in_force(),
            ..self.mode.shown(ctx.timers, ctx.now)
        }
    }

    /// Returns the locks, if the SFU holds the mode. Otherwise there are only those that are left from a start in the way `lock`.
    fn holder(&self) -> Option<&HeldMode> {
        let holds = self.settings.sfu.feed.locks_rooms();
        self.held_mode.as_deref().filter(|_| holds)
    }

    /// Returns whether the mode is in force; `None` if the SFU does not hold it.
    pub(super) fn in_force(&self) -> Option<InForce> {
        self.holder().map(HeldMode::in_force)
    }

    /// Returns whether the mode is in force, or nothing but the gate applies it.
    pub(super) fn is_in_force(&self) -> bool {
        self.in_force().is_none_or(|it| it == InForce::Yes)
    }

    pub(super) fn room_counts(&self) -> Option<RoomCounts> {
        let counts = self.holder()?.counts();
        Some(RoomCounts {
            settled: counts.settled,
            outstanding: counts.outstanding,
            impossible: counts.impossible,
        })
    }

    /// Returns a warning while the mode is not in force.
    pub(super) fn held_warning(&self) -> Option<String> {
        let Some(holder) = self.holder() else {
            let left = self.held_mode.as_deref()?.describe_locked()?;
            return Some(format!(
                "rooms are locked since --janus-way was lock: {left}"
            ));
        };
        holder.warning(self.mode.mode())
    }

    /// Has the SFU hold a mode that was changed.
    pub(super) fn hold_mode(&mut self, ctx: &mut Ctx) {
        let is_block = self.mode.mode() != Mode::Normal;
        let holds = self.settings.sfu.feed.locks_rooms();
        if let Some(held_mode) = self.held_mode.as_deref_mut().filter(|_| holds) {
            held_mode.on_mode_changed(is_block, ctx.now.boot);
            if is_block {
                self.sync.request_poll(ctx);
            }
        }
    }

    /// Has the room of a session evaluated again.
    pub(super) fn reevaluate_room(&mut self, session: SessionSlot) {
        if let Some(held_mode) = self.held_mode.as_deref_mut()
            && let Some(row) = self.sessions.session(session)
        {
            held_mode.reevaluate_room(&row.channel_id);
        }
    }

    /// Takes back the calls to end a session that wait for the lock of its room: the session has ended by itself.
    pub(super) fn retract_postponed(&mut self, channel_id: &ChannelId) {
        if let Some(held_mode) = self.held_mode.as_deref_mut() {
            let calls = held_mode.take_postponed(channel_id);
            self.plans.retract_calls(&calls);
        }
    }

    pub(super) fn reevaluate_all_rooms(&mut self) {
        if let Some(held_mode) = self.held_mode.as_deref_mut() {
            held_mode.reevaluate_all_rooms();
        }
    }

    pub(super) fn rooms_listed(
        &mut self,
        scope: &ListScope,
        rooms: Vec<ChannelId>,
        began: Duration,
    ) {
        if let Some(held_mode) = self.held_mode.as_deref_mut() {
            held_mode.on_listed(scope, rooms, began);
        }
    }

    pub(super) fn room_list_failed(&mut self, why: &str) {
        if let Some(held_mode) = self.held_mode.as_deref_mut() {
            held_mode.on_list_failed(why);
        }
    }

    /// Takes in that the SFU may have been restarted: it has other rooms, without locks, and accepts sessions.
    pub(super) fn locks_lost(&mut self, now: Duration) {
        let is_closed = self.mode.mode() != Mode::Normal;
        if let Some(held_mode) = self.held_mode.as_deref_mut() {
            held_mode.on_restarted(is_closed, now);
        }
    }

    pub(super) fn sessions_answered(&mut self, is_done: bool) {
        if let Some(held_mode) = self.held_mode.as_deref_mut() {
            held_mode.on_sessions_answered(is_done);
        }
    }

    pub(super) fn lock_answered(
        &mut self,
        ctx: &mut Ctx,
        channel_id: &ChannelId,
        outcome: &LockOutcome,
    ) {
        let can_record = !self.storage.is_failed();
        if let Some(held_mode) = self.held_mode.as_deref_mut() {
            held_mode.on_lock_answered(ctx.effects, channel_id, outcome, can_record);
        }
    }

    /// Takes in that records could not be written. Returns the calls that are not made.
    pub(super) fn locks_failed(
        &mut self,
        ctx: &mut Ctx,
        generations: &[u64],
        locks: Vec<ChannelId>,
    ) -> Vec<CallId> {
        let refusal = self.storage.refusal();
        let Some(held_mode) = self.held_mode.as_deref_mut() else {
            return Vec::new();
        };
        held_mode.refuse_answers(ctx, generations, &refusal);
        held_mode.on_not_recorded(locks)
    }

    /// Answers a request, or holds the answer until the mode is in force.
    pub(super) fn answer_request(&mut self, ctx: &mut Ctx, reply_to: ReplyHandle, answer: Answer) {
        let holds = self.settings.sfu.feed.locks_rooms();
        match (answer, self.held_mode.as_deref_mut().filter(|_| holds)) {
            (Ok(Reply::ModeChanged(changed)), Some(held_mode)) => {
                held_mode.hold_answer(ctx, reply_to, changed);
            }
            (answer, _) => ctx.answer(reply_to, answer),
        }
    }

    /// Requests the locks that the mode requires, and does what follows when it is in force. Returns true if it was not until now.
    pub(super) fn drive_locks(&mut self, ctx: &mut Ctx) -> bool {
        let Some(mut held_mode) = self.held_mode.take() else {
            return false;
        };
        let target = Target {
            can_record: !self.storage.is_failed(),
            may_accept_sessions: matches!(self.mode.mode(), Mode::Normal | Mode::BlockNewSession),
            is_ending: &|channel_id| {
                let session = self.sessions.find_session(channel_id);
                session.is_some_and(|session| self.plans.is_asked_to_end(session))
            },
            is_awaited: &|id| self.plans.is_end_in_flight(id),
            is_to_be_locked: &|timers, channel_id| self.is_to_be_locked(timers, channel_id),
        };
        let was_in_force = held_mode.in_force() == InForce::Yes;
        held_mode.drive(ctx, &target);
        let in_force = held_mode.in_force();
        let before = held_mode.note_in_force();
        self.held_mode = Some(held_mode);
        if !self.settings.sfu.feed.locks_rooms() {
            return false;
        }
        if in_force == InForce::Yes {
            let is_empty = self.mode.is_block() && self.sessions.session_count() == 0;
            if before != InForce::Yes && is_empty {
                // Clients may have come until the last lock: only a list from now on shows them all. While sessions are left, none is needed
                // yet: the end of the last one has all rooms listed.
                self.sync.require_verification(ctx);
            }
            self.emit_vanished_if_synced(ctx);
        }
        if matches!(in_force, InForce::Yes | InForce::Partial) {
            self.answer_held_changes(ctx);
        }
        !was_in_force && in_force == InForce::Yes
    }

    /// Returns whether the mode lets nobody into a room.
    fn is_to_be_locked(&self, timers: &Timers, channel_id: &ChannelId) -> bool {
        match self.mode.mode() {
            _ if !self.settings.sfu.feed.locks_rooms() => false,
            Mode::Normal => false,
            Mode::BlockNewSession => {
                !self.is_joinable(timers, self.sessions.find_session(channel_id))
            }
            Mode::BlockNewConnection | Mode::Initial => true,
        }
    }

    /// Answers the changes of the mode, in force or not.
    pub(super) fn answer_held_changes(&mut self, ctx: &mut Ctx) {
        let generation = self.mode.generation();
        if let Some(held_mode) = self.held_mode.as_deref_mut() {
            held_mode.answer_changes(ctx, generation);
        }
    }
}
