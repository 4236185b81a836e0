//! A mode that the SFU holds by locks of its rooms: the locks, the calls that wait for one, and the answers that wait until the mode is
//! in force.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use soramode_protocol::error::Error;
use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::{InForce, Mode, ModeChanged};
use soramode_protocol::reply::Reply;

use crate::ctx::Ctx;
use crate::effect::{Action, Effects};
use crate::handles::ReplyHandle;
use crate::input::ListScope;
use crate::locks::calls::LockOutcome;
use crate::locks::{LockCounts, RoomLocks};
use crate::new_sessions::NewSessions;
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
    /// Rooms with a session that is being ended, and the calls that end it once the room is locked.
    ends: BTreeMap<ChannelId, Vec<SfuCall>>,
    /// State at the end of the last step, which the next one is compared with.
    last_in_force: InForce,
    /// Answers to changes of the mode that wait until it is in force.
    answers: Vec<(ReplyHandle, Box<ModeChanged>)>,
}

/// State that the SFU is to have.
pub(crate) struct Target<'a> {
    /// Locks can be recorded.
    pub(crate) can_record: bool,
    pub(crate) may_accept_sessions: bool,
    /// The SFU is being asked to end the session of a room.
    pub(crate) is_ending: &'a dyn Fn(&ChannelId) -> bool,
    /// The request of a call was not stopped.
    pub(crate) is_awaited: &'a dyn Fn(CallId) -> bool,
    /// The mode lets nobody into a room.
    pub(crate) is_to_be_locked: &'a dyn Fn(&Timers, &ChannelId) -> bool,
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
            last_in_force: InForce::Pending,
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

    /// Returns whether calls wait for the lock of a room.
    pub(crate) fn has_postponed(&self) -> bool {
        self.ends.values().any(|calls| !calls.is_empty())
    }

    /// Takes out the calls that wait for the lock of this room.
    pub(crate) fn take_postponed(&mut self, channel_id: &ChannelId) -> Vec<CallId> {
        let calls = self.ends.get_mut(channel_id).map(std::mem::take);
        let calls = calls.into_iter().flatten();
        calls.map(|call| call.id).collect()
    }

    pub(crate) fn in_force(&self) -> InForce {
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

    /// Returns the number of rooms by the state of their locks.
    pub(crate) const fn counts(&self) -> LockCounts {
        self.rooms.counts()
    }

    /// Returns a warning while this mode is not in force.
    pub(crate) fn warning(&self, mode: Mode) -> Option<String> {
        self.describe().map(|problem| not_in_force(mode, &problem))
    }

    /// Describes the rooms that are still to be unlocked; `None` if there are none.
    pub(crate) fn describe_locked(&self) -> Option<String> {
        self.rooms.describe_locked()
    }

    /// Takes in that the mode was changed.
    pub(crate) fn on_mode_changed(&mut self, is_closed: bool, now: Duration) {
        self.rooms.mark_all_due();
        if let Some(new_sessions) = &mut self.new_sessions {
            new_sessions.reevaluate();
        }
        self.rooms.require_list(is_closed.then_some(now));
    }

    /// Has a room evaluated again.
    pub(crate) fn reevaluate_room(&mut self, channel_id: &ChannelId) {
        self.rooms.mark_due(channel_id);
    }

    /// Has all rooms evaluated again, and those tried that could not be locked.
    pub(crate) fn reevaluate_all_rooms(&mut self) {
        self.rooms.mark_all_due();
    }

    /// Takes in a list that began then: all rooms, or the participants of one.
    pub(crate) fn on_listed(&mut self, scope: &ListScope, rooms: Vec<ChannelId>, began: Duration) {
        match scope {
            ListScope::All => {
                self.rooms.on_listed(rooms, began);
                if let Some(new_sessions) = &mut self.new_sessions {
                    new_sessions.on_listed();
                }
            }
            ListScope::Channel(channel_id) => self.rooms.note(channel_id.clone()),
        }
    }

    /// Notes that the SFU could not list its rooms.
    pub(crate) fn on_list_failed(&mut self, why: &str) {
        self.rooms.on_list_failed(why);
    }

    /// Takes in that the SFU may have been restarted: it has other rooms, without locks, and accepts sessions.
    pub(crate) fn on_restarted(&mut self, is_closed: bool, now: Duration) {
        self.rooms.on_restarted();
        if is_closed {
            self.rooms.require_list(Some(now));
        }
        if let Some(new_sessions) = &mut self.new_sessions {
            new_sessions.on_restarted(is_closed);
        }
    }

    /// Takes in the outcome of a request about new sessions.
    pub(crate) const fn on_sessions_answered(&mut self, is_done: bool) {
        if let Some(new_sessions) = &mut self.new_sessions {
            new_sessions.on_outcome(is_done);
        }
    }

    /// Takes in the outcome of a request about the lock of a room.
    pub(crate) fn on_lock_answered(
        &mut self,
        effects: &mut Effects,
        channel_id: &ChannelId,
        outcome: &LockOutcome,
        can_record: bool,
    ) {
        self.rooms
            .on_outcome(effects, channel_id, outcome, can_record);
    }

    /// Takes in that records could not be written: these locks were not requested. Returns the calls that are not made.
    pub(crate) fn on_not_recorded(&mut self, locks: Vec<ChannelId>) -> Vec<CallId> {
        self.rooms.on_not_made(locks);
        let postponed = self.ends.values_mut().flat_map(std::mem::take);
        postponed.map(|call| call.id).collect()
    }

    /// Requests what the mode requires of the SFU, and makes the calls that waited for a lock.
    pub(crate) fn drive(&mut self, ctx: &mut Ctx, target: &Target<'_>) {
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
                rooms.mark_due(channel_id);
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

    /// Returns the state at the last call, and keeps the present one.
    pub(crate) fn note_in_force(&mut self) -> InForce {
        let in_force = self.in_force();
        std::mem::replace(&mut self.last_in_force, in_force)
    }

    /// Holds the answer to a change of the mode until the mode is in force.
    pub(crate) fn hold_answer(
        &mut self,
        ctx: &mut Ctx,
        reply_to: ReplyHandle,
        changed: Box<ModeChanged>,
    ) {
        if self.answers.is_empty() {
            let until = ctx.now.boot + IN_FORCE_TIMEOUT;
            ctx.timers.set(Timer::InForce, until);
        }
        self.answers.push((reply_to, changed));
    }

    /// Refuses the changes of the mode that could not be recorded.
    pub(crate) fn refuse_answers(&mut self, ctx: &mut Ctx, generations: &[u64], refusal: &Error) {
        for (reply_to, changed) in std::mem::take(&mut self.answers) {
            if changed.changed && generations.contains(&changed.generation) {
                ctx.answer(reply_to, Err(refusal.clone()));
            } else {
                self.answers.push((reply_to, changed));
            }
        }
    }

    /// Answers the changes of the mode, in force or not; only one of this generation may be.
    pub(crate) fn answer_changes(&mut self, ctx: &mut Ctx, generation: u64) {
        if self.answers.is_empty() {
            return;
        }
        ctx.timers.cancel(Timer::InForce);
        let (in_force, problem) = (self.in_force(), self.describe());
        for (reply_to, mut changed) in std::mem::take(&mut self.answers) {
            let (in_force, problem) = if changed.generation == generation {
                (in_force, problem.clone())
            } else {
                (InForce::No, Some(CHANGED_AGAIN.to_owned()))
            };
            let problem = problem.map(|problem| not_in_force(changed.mode, &problem));
            let warnings: Vec<String> = problem.into_iter().chain(changed.warning.take()).collect();
            changed.in_force = Some(in_force);
            changed.warning = (!warnings.is_empty()).then(|| warnings.join(". "));
            ctx.answer(reply_to, Ok(Reply::ModeChanged(changed)));
        }
    }
}

/// Why a mode that was changed again before it was in force is not.
const CHANGED_AGAIN: &str = "the mode was changed again meanwhile";

fn not_in_force(mode: Mode, problem: &str) -> String {
    format!("{mode} is set, but not in force: {problem}")
}
