//! A mode that the SFU holds by locks of its rooms: which rooms are to be locked, and the answers that wait until that is done.

use std::time::Duration;

use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::{InForce, Mode, ModeChanged, ModeState};
use soramode_protocol::node::RoomCounts;
use soramode_protocol::reply::{Answer, Reply};

use crate::ctx::Ctx;
use crate::handles::{ReplyHandle, SessionSlot};
use crate::input::ListScope;
use crate::locks::{LockOutcome, RoomLocks};
use crate::node::Node;
use crate::timers::{Timer, Timers};

/// Time for which a change of the mode waits until it is in force.
const IN_FORCE_TIMEOUT: Duration = Duration::from_secs(4);

/// A mode that the SFU holds.
pub(crate) struct HeldMode {
    rooms: RoomLocks,
    /// State at the end of the last step.
    seen: InForce,
    /// Answers to changes of the mode that wait until it is in force.
    answers: Vec<(ReplyHandle, ModeChanged)>,
}

impl HeldMode {
    /// Creates the mode of a start; these rooms may be locked.
    pub(crate) fn restore(locked_rooms: Vec<ChannelId>, started: Duration) -> Self {
        Self {
            rooms: RoomLocks::restore(locked_rooms, started),
            seen: InForce::Pending,
            answers: Vec::new(),
        }
    }
}

impl Node {
    /// Returns the mode for an answer to `GetMode`.
    pub(super) fn shown_mode(&self, ctx: &Ctx) -> ModeState {
        ModeState {
            in_force: self.in_force(),
            ..self.mode.shown(ctx.timers, ctx.now)
        }
    }

    /// Returns whether the mode is in force; `None` if the SFU does not hold it.
    pub(super) fn in_force(&self) -> Option<InForce> {
        self.held.as_deref().map(|held| held.rooms.in_force())
    }

    /// Returns whether the mode is in force, or nothing but the gate applies it.
    pub(super) fn is_in_force(&self) -> bool {
        self.in_force().is_none_or(|it| it == InForce::Yes)
    }

    pub(super) fn room_counts(&self) -> Option<RoomCounts> {
        let counts = self.held.as_deref()?.rooms.counts();
        Some(RoomCounts {
            settled: counts.settled,
            outstanding: counts.outstanding,
            impossible: counts.impossible,
        })
    }

    /// Returns a warning while the mode is not in force.
    pub(super) fn held_warning(&self) -> Option<String> {
        let problem = self.held.as_deref()?.rooms.describe()?;
        Some(not_in_force(self.mode.mode(), &problem))
    }

    /// Has the SFU hold a mode that was changed.
    pub(super) fn hold_mode(&mut self, ctx: &mut Ctx) {
        let is_block = self.mode.mode() != Mode::Normal;
        if let Some(held) = self.held.as_deref_mut() {
            held.rooms.mark_all();
            held.rooms.require_list(is_block.then_some(ctx.now.boot));
            if is_block {
                self.sync.request_poll(ctx);
            }
        }
    }

    /// Has the room of a session evaluated again.
    pub(super) fn mark_room(&mut self, session: SessionSlot) {
        if let Some(held) = self.held.as_deref_mut()
            && let Some(row) = self.sessions.session(session)
        {
            held.rooms.mark(&row.channel_id);
        }
    }

    pub(super) fn mark_all_rooms(&mut self) {
        if let Some(held) = self.held.as_deref_mut() {
            held.rooms.mark_all();
        }
    }

    pub(super) fn rooms_listed(
        &mut self,
        scope: &ListScope,
        rooms: Vec<ChannelId>,
        began: Duration,
    ) {
        if let Some(held) = self.held.as_deref_mut() {
            match scope {
                ListScope::All => held.rooms.on_listed(rooms, began),
                ListScope::Channel(channel_id) => held.rooms.note(channel_id.clone()),
            }
        }
    }

    pub(super) fn room_list_failed(&mut self) {
        if let Some(held) = self.held.as_deref_mut() {
            held.rooms.on_list_failed();
        }
    }

    pub(super) fn locks_lost(&mut self) {
        if let Some(held) = self.held.as_deref_mut() {
            held.rooms.on_restarted();
        }
    }

    pub(super) fn lock_answered(
        &mut self,
        ctx: &mut Ctx,
        channel_id: &ChannelId,
        outcome: &LockOutcome,
    ) {
        let can_record = !self.storage.is_failed();
        if let Some(held) = self.held.as_deref_mut() {
            held.rooms
                .on_outcome(ctx.effects, channel_id, outcome, can_record);
        }
    }

    /// Takes in that records could not be written.
    pub(super) fn locks_failed(
        &mut self,
        ctx: &mut Ctx,
        generations: &[u64],
        locks: Vec<ChannelId>,
    ) {
        let refusal = self.storage.refusal();
        let Some(held) = self.held.as_deref_mut() else {
            return;
        };
        held.rooms.on_not_made(locks);
        for (reply_to, changed) in std::mem::take(&mut held.answers) {
            if changed.changed && generations.contains(&changed.generation) {
                ctx.answer(reply_to, Err(refusal.clone()));
            } else {
                held.answers.push((reply_to, changed));
            }
        }
    }

    /// Answers a request, or holds the answer until the mode is in force.
    pub(super) fn answer_request(&mut self, ctx: &mut Ctx, reply_to: ReplyHandle, answer: Answer) {
        match (answer, self.held.as_deref_mut()) {
            (Ok(Reply::ModeChanged(changed)), Some(held)) => {
                if held.answers.is_empty() {
                    let until = ctx.now.boot + IN_FORCE_TIMEOUT;
                    ctx.timers.set(Timer::InForce, until);
                }
                held.answers.push((reply_to, changed));
            }
            (answer, _) => ctx.answer(reply_to, answer),
        }
    }

    /// Requests the locks that the mode requires, and does what follows when it is in force.
    pub(super) fn drive_locks(&mut self, ctx: &mut Ctx) {
        let Some(mut held) = self.held.take() else {
            return;
        };
        let can_record = !self.storage.is_failed();
        let timers = &*ctx.timers;
        held.rooms.drive(ctx.effects, can_record, |channel_id| {
            self.is_to_be_locked(timers, channel_id)
        });
        let in_force = held.rooms.in_force();
        let before = std::mem::replace(&mut held.seen, in_force);
        self.held = Some(held);
        if in_force == InForce::Yes {
            if before != InForce::Yes && self.mode.is_block() {
                // Clients may have come until the last lock: only a list from now on shows them all.
                self.sync.require_verification(ctx);
            }
            self.emit_vanished_if_synced(ctx);
        }
        if matches!(in_force, InForce::Yes | InForce::Partial) {
            self.answer_held_changes(ctx);
        }
    }

    /// Returns whether the mode lets nobody into a room.
    fn is_to_be_locked(&self, timers: &Timers, channel_id: &ChannelId) -> bool {
        match self.mode.mode() {
            Mode::Normal => false,
            Mode::BlockNewSession => {
                !self.is_joinable(timers, self.sessions.find_session(channel_id))
            }
            Mode::BlockNewConnection | Mode::Initial => true,
        }
    }

    /// Answers the changes of the mode, in force or not.
    pub(super) fn answer_held_changes(&mut self, ctx: &mut Ctx) {
        let Some(held) = self.held.as_deref_mut() else {
            return;
        };
        if held.answers.is_empty() {
            return;
        }
        ctx.timers.cancel(Timer::InForce);
        let (in_force, problem) = (held.rooms.in_force(), held.rooms.describe());
        for (reply_to, changed) in std::mem::take(&mut held.answers) {
            let problem = problem
                .as_ref()
                .map(|problem| not_in_force(changed.mode, problem));
            let answer = Reply::ModeChanged(ModeChanged {
                in_force: Some(in_force),
                warning: problem.or(changed.warning),
                ..changed
            });
            ctx.answer(reply_to, Ok(answer));
        }
    }
}

fn not_in_force(mode: Mode, problem: &str) -> String {
    format!("{mode} is set, but not in force: {problem}")
}
