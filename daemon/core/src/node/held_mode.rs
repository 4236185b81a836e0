//! A mode that the SFU holds by locks of its rooms: which rooms are to be locked, and the answers that wait until that is done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::{InForce, Mode, ModeChanged, ModeState};
use soramode_protocol::node::RoomCounts;
use soramode_protocol::reply::{Answer, Reply};

use crate::ctx::Ctx;
use crate::effect::Action;
use crate::handles::{ReplyHandle, SessionSlot};
use crate::input::ListScope;
use crate::locks::RoomLocks;
use crate::locks::calls::LockOutcome;
use crate::new_sessions::NewSessions;
use crate::node::Node;
use crate::plan::calls::{CallId, SfuCall};
use crate::settings::SfuFeed;
use crate::timers::{Timer, Timers};

/// Time for which a change of the mode waits until it is in force.
const IN_FORCE_TIMEOUT: Duration = Duration::from_secs(4);

/// A mode that the SFU holds.
pub(crate) struct HeldMode {
    rooms: RoomLocks,
    /// New sessions of clients, where the SFU may refuse them.
    new_sessions: Option<NewSessions>,
    /// Rooms with a session that is being ended, and the calls that wait for the lock.
    ends: BTreeMap<ChannelId, Vec<SfuCall>>,
    /// State at the end of the last step.
    seen: InForce,
    /// Answers to changes of the mode that wait until it is in force.
    answers: Vec<(ReplyHandle, ModeChanged)>,
}

/// State that the SFU is to have.
struct Target<'a> {
    /// Locks can be recorded.
    can_record: bool,
    may_accept_sessions: bool,
    /// The SFU is being asked to end the session of a room.
    is_ending: &'a dyn Fn(&ChannelId) -> bool,
    /// The request of a call was not stopped.
    is_awaited: &'a dyn Fn(CallId) -> bool,
    /// The mode lets nobody into a room.
    is_to_be_locked: &'a dyn Fn(&Timers, &ChannelId) -> bool,
}

impl HeldMode {
    /// Creates the mode of a start; these rooms may be locked, and others too if the SFU holds the mode: the record may have been lost.
    /// `None` if the SFU does not hold it, and none is left from a start in the way `lock`.
    pub(crate) fn restore(
        feed: SfuFeed,
        locked_rooms: Vec<ChannelId>,
        started: Duration,
    ) -> Option<Box<Self>> {
        let SfuFeed::Janus {
            locks_rooms,
            refuses_sessions,
            ..
        } = feed
        else {
            return None;
        };
        if !locks_rooms && locked_rooms.is_empty() {
            return None;
        }
        Some(Box::new(Self {
            rooms: RoomLocks::restore(locked_rooms, locks_rooms, started),
            new_sessions: refuses_sessions.then(NewSessions::default),
            ends: BTreeMap::new(),
            seen: InForce::Pending,
            answers: Vec::new(),
        }))
    }

    /// Has a session ended once its room is locked: its clients would come back at once.
    pub(crate) fn postpone_end(&mut self, call: SfuCall) {
        self.rooms.note(call.channel_id.clone());
        self.ends
            .entry(call.channel_id.clone())
            .or_default()
            .push(call);
    }

    /// Returns the calls that wait for the lock of a room.
    pub(crate) fn postponed(&self) -> BTreeSet<CallId> {
        let calls = self.ends.values().flatten();
        calls.map(|call| call.id).collect()
    }

    /// Takes out the calls that wait for the lock of this room.
    fn take_postponed(&mut self, channel_id: &ChannelId) -> Vec<CallId> {
        let calls = self.ends.get_mut(channel_id).map(std::mem::take);
        let calls = calls.into_iter().flatten();
        calls.map(|call| call.id).collect()
    }

    fn in_force(&self) -> InForce {
        let in_force = self.rooms.in_force();
        let is_locked = matches!(in_force, InForce::Yes | InForce::Partial);
        if is_locked && self.has_unsettled_sessions() {
            InForce::Pending
        } else {
            in_force
        }
    }

    fn has_unsettled_sessions(&self) -> bool {
        let new_sessions = self.new_sessions.as_ref();
        new_sessions.is_some_and(|it| !it.is_settled())
    }

    /// Describes why the mode is not in force; `None` if it is.
    fn describe(&self) -> Option<String> {
        match self.rooms.in_force() {
            InForce::Yes | InForce::Partial if self.has_unsettled_sessions() => {
                Some("Janus has not confirmed whether it accepts new sessions".to_owned())
            }
            InForce::Yes | InForce::Pending | InForce::Partial | InForce::No => {
                self.rooms.describe()
            }
        }
    }

    /// Requests what the mode requires of the SFU, and makes the calls that waited for a lock.
    fn drive(&mut self, ctx: &mut Ctx, target: &Target<'_>) {
        let Self {
            rooms,
            new_sessions,
            ends,
            ..
        } = self;
        if let Some(new_sessions) = new_sessions {
            new_sessions.drive(ctx.effects, target.may_accept_sessions);
        }
        ends.retain(|channel_id, calls| {
            calls.retain(|call| (target.is_awaited)(call.id));
            let is_ending = !calls.is_empty() || (target.is_ending)(channel_id);
            if !is_ending {
                rooms.mark(channel_id);
            }
            is_ending
        });
        rooms.drive(ctx.effects, target.can_record, |channel_id| {
            ends.contains_key(channel_id) || (target.is_to_be_locked)(ctx.timers, channel_id)
        });
        for (channel_id, calls) in ends {
            if !rooms.is_in_progress(channel_id) {
                let calls = calls.drain(..).map(|call| Action::Sfu(Box::new(call)));
                ctx.effects.actions.extend(calls);
            }
        }
        if let Some(new_sessions) = new_sessions
            && matches!(rooms.in_force(), InForce::Yes | InForce::Partial)
        {
            new_sessions.on_locked();
            new_sessions.drive(ctx.effects, target.may_accept_sessions);
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

    /// Returns the locks, if the SFU holds the mode. Otherwise there are only those that are left from a start in the way `lock`.
    fn holder(&self) -> Option<&HeldMode> {
        let holds = self.settings.sfu.feed.locks_rooms();
        self.held.as_deref().filter(|_| holds)
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
        let counts = self.holder()?.rooms.counts();
        Some(RoomCounts {
            settled: counts.settled,
            outstanding: counts.outstanding,
            impossible: counts.impossible,
        })
    }

    /// Returns a warning while the mode is not in force.
    pub(super) fn held_warning(&self) -> Option<String> {
        let Some(holder) = self.holder() else {
            let left = self.held.as_deref()?.rooms.describe_locked()?;
            return Some(format!(
                "rooms are locked since --janus-way was lock: {left}"
            ));
        };
        let problem = holder.describe()?;
        Some(not_in_force(self.mode.mode(), &problem))
    }

    /// Has the SFU hold a mode that was changed.
    pub(super) fn hold_mode(&mut self, ctx: &mut Ctx) {
        let is_block = self.mode.mode() != Mode::Normal;
        let holds = self.settings.sfu.feed.locks_rooms();
        if let Some(held) = self.held.as_deref_mut().filter(|_| holds) {
            held.rooms.mark_all();
            if let Some(new_sessions) = &mut held.new_sessions {
                new_sessions.mark();
            }
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

    /// Takes back the calls to end a session that wait for the lock of its room: the session has ended by itself.
    pub(super) fn retract_postponed(&mut self, channel_id: &ChannelId) {
        if let Some(held) = self.held.as_deref_mut() {
            let calls = held.take_postponed(channel_id);
            self.plans.retract_calls(&calls);
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
                ListScope::All => {
                    held.rooms.on_listed(rooms, began);
                    if let Some(new_sessions) = &mut held.new_sessions {
                        new_sessions.on_listed();
                    }
                }
                ListScope::Channel(channel_id) => held.rooms.note(channel_id.clone()),
            }
        }
    }

    pub(super) fn room_list_failed(&mut self, why: &str) {
        if let Some(held) = self.held.as_deref_mut() {
            held.rooms.on_list_failed(why);
        }
    }

    /// Takes in that the SFU may have been restarted: it has other rooms, without locks, and accepts sessions.
    pub(super) fn locks_lost(&mut self, now: Duration) {
        let is_closed = self.mode.mode() != Mode::Normal;
        if let Some(held) = self.held.as_deref_mut() {
            held.rooms.on_restarted();
            if is_closed {
                held.rooms.require_list(Some(now));
            }
            if let Some(new_sessions) = &mut held.new_sessions {
                new_sessions.on_restarted(is_closed);
            }
        }
    }

    pub(super) fn sessions_answered(&mut self, is_done: bool) {
        let held = self.held.as_deref_mut();
        if let Some(new_sessions) = held.and_then(|held| held.new_sessions.as_mut()) {
            new_sessions.on_outcome(is_done);
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

    /// Takes in that records could not be written. Returns the calls that are not made.
    pub(super) fn locks_failed(
        &mut self,
        ctx: &mut Ctx,
        generations: &[u64],
        locks: Vec<ChannelId>,
    ) -> Vec<CallId> {
        let refusal = self.storage.refusal();
        let Some(held) = self.held.as_deref_mut() else {
            return Vec::new();
        };
        held.rooms.on_not_made(locks);
        for (reply_to, changed) in std::mem::take(&mut held.answers) {
            if changed.changed && generations.contains(&changed.generation) {
                ctx.answer(reply_to, Err(refusal.clone()));
            } else {
                held.answers.push((reply_to, changed));
            }
        }
        let postponed = held.ends.values_mut().flat_map(std::mem::take);
        postponed.map(|call| call.id).collect()
    }

    /// Answers a request, or holds the answer until the mode is in force.
    pub(super) fn answer_request(&mut self, ctx: &mut Ctx, reply_to: ReplyHandle, answer: Answer) {
        let holds = self.settings.sfu.feed.locks_rooms();
        match (answer, self.held.as_deref_mut().filter(|_| holds)) {
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

    /// Requests the locks that the mode requires, and does what follows when it is in force. Returns true if it was not until now.
    pub(super) fn drive_locks(&mut self, ctx: &mut Ctx) -> bool {
        let Some(mut held) = self.held.take() else {
            return false;
        };
        let target = Target {
            can_record: !self.storage.is_failed(),
            may_accept_sessions: matches!(self.mode.mode(), Mode::Normal | Mode::BlockNewSession),
            is_ending: &|channel_id| {
                let session = self.sessions.find_session(channel_id);
                session.is_some_and(|session| self.plans.is_ending(session))
            },
            is_awaited: &|id| self.plans.is_end_in_flight(id),
            is_to_be_locked: &|timers, channel_id| self.is_to_be_locked(timers, channel_id),
        };
        let was_in_force = held.in_force() == InForce::Yes;
        held.drive(ctx, &target);
        let in_force = held.in_force();
        let before = std::mem::replace(&mut held.seen, in_force);
        self.held = Some(held);
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
        let Some(held) = self.held.as_deref_mut() else {
            return;
        };
        if held.answers.is_empty() {
            return;
        }
        ctx.timers.cancel(Timer::InForce);
        let (in_force, problem) = (held.in_force(), held.describe());
        for (reply_to, mut changed) in std::mem::take(&mut held.answers) {
            let (in_force, problem) = if changed.generation == generation {
                (in_force, problem.clone())
            } else {
                (InForce::No, Some(CHANGED_AGAIN.to_owned()))
            };
            let problem = problem.map(|problem| not_in_force(changed.mode, &problem));
            let warnings: Vec<String> = problem.into_iter().chain(changed.warning.take()).collect();
            let answer = Reply::ModeChanged(ModeChanged {
                in_force: Some(in_force),
                warning: (!warnings.is_empty()).then(|| warnings.join(". ")),
                ..changed
            });
            ctx.answer(reply_to, Ok(answer));
        }
    }
}

/// Why a mode that was changed again before it was in force is not.
const CHANGED_AGAIN: &str = "the mode was changed again meanwhile";

fn not_in_force(mode: Mode, problem: &str) -> String {
    format!("{mode} is set, but not in force: {problem}")
}
