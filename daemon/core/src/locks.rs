//! Locks of the SFU's rooms, where the SFU is not asked about each client: a mode is in force when the right rooms are locked.
//!
//! A lock is recorded before the SFU is asked for it, and the record goes when the SFU has confirmed that the lock is gone. So after a
//! kill at any moment each room that may be locked is known, and is locked or unlocked again. Both begin with a request for the room's
//! tokens: a room with tokens is the application's, and is left as it is.
//!
//! The record may have been lost with the state, and the SFU does not show locks. So each room of the first list after a start may be
//! locked, and is locked or unlocked once.

pub mod calls;
mod describe;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::InForce;

use crate::effect::{Action, Effects, Record};

use calls::{LockCall, LockOutcome, LockRequest};

/// Number of rooms by the state of their locks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LockCounts {
    /// Rooms that are locked or open, as the mode requires.
    pub settled: u64,
    /// Rooms that are being locked or unlocked.
    pub outstanding: u64,
    /// Rooms that cannot be locked or unlocked.
    pub impossible: u64,
}

/// Locks of all rooms.
#[derive(Debug, Default)]
pub struct RoomLocks {
    rooms: BTreeMap<ChannelId, Room>,
    counts: LockCounts,
    /// Rooms to evaluate.
    due: BTreeSet<ChannelId>,
    /// A room that appears may be locked without a record: no list since the start has come.
    may_be_unrecorded: bool,
    /// The rooms are not known before a list that began then or later.
    list_since: Option<Duration>,
    /// Why the last list failed.
    list_problem: Option<String>,
    /// When the rooms that cannot be locked were tried last, by the boot clock.
    tried_at: Duration,
}

/// A room.
#[derive(Debug, Default)]
struct Room {
    lock: Lock,
    /// It is to be locked.
    is_wanted: bool,
    in_flight: Option<LockRequest>,
    blocked: Option<Blocked>,
    /// It is tried again, although it is blocked.
    is_retried: bool,
}

/// State of a lock, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Lock {
    /// There is none.
    #[default]
    Absent,
    /// There may be one of a state that was lost.
    Unknown,
    /// It is recorded that there may be one.
    Recorded,
    /// The SFU has confirmed it.
    Confirmed,
}

/// Pause before a room that cannot be locked is tried again.
const RETRY_PAUSE: Duration = Duration::from_mins(1);

/// Why nothing is requested for a room for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blocked {
    /// The application has tokens in it.
    Tokens,
    NoSecret,
    Unreachable,
    /// No lock could be recorded.
    NoRecord,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Settled,
    Outstanding,
    Impossible,
}

impl Room {
    /// Notes that a lock which was confirmed may be gone.
    const fn doubt(&mut self) {
        if matches!(self.lock, Lock::Confirmed) {
            self.lock = Lock::Recorded;
        }
    }

    /// Has the room tried again after a list.
    fn unblock(&mut self, is_retry: bool) {
        match self.blocked {
            Some(Blocked::Unreachable | Blocked::NoRecord) => self.blocked = None,
            Some(Blocked::Tokens | Blocked::NoSecret) => {
                self.is_retried |= is_retry && !self.is_left_unknown();
            }
            None => {}
        }
    }

    /// Returns whether it is to be open, and cannot be asked about: without its secret soramode has not locked it.
    const fn is_left_unknown(&self) -> bool {
        !self.is_wanted
            && matches!(
                (self.lock, self.blocked),
                (Lock::Unknown, Some(Blocked::NoSecret))
            )
    }

    const fn class(&self) -> Class {
        let is_right = self.is_left_unknown()
            || matches!(
                (self.is_wanted, self.lock),
                (true, Lock::Confirmed) | (false, Lock::Absent)
            );
        match self.blocked {
            _ if is_right && self.in_flight.is_none() => Class::Settled,
            Some(Blocked::Tokens | Blocked::NoSecret | Blocked::NoRecord) => Class::Impossible,
            Some(Blocked::Unreachable) | None => Class::Outstanding,
        }
    }
}

impl RoomLocks {
    /// Creates the locks of a start; these rooms may be locked, and others too if the record may have been lost.
    pub fn restore(recorded: Vec<ChannelId>, may_be_unrecorded: bool, started: Duration) -> Self {
        let mut locks = Self {
            may_be_unrecorded,
            list_since: Some(started),
            ..Self::default()
        };
        for channel_id in recorded {
            locks.change(channel_id, |room| room.lock = Lock::Recorded);
        }
        locks
    }

    /// Takes in all rooms that the SFU listed, in a list that began then. A recorded room that is not in it is asked about.
    pub fn on_listed(&mut self, rooms: Vec<ChannelId>, began: Duration) {
        let listed: BTreeSet<ChannelId> = rooms.into_iter().collect();
        let missing = |(id, room): (&ChannelId, &Room)| {
            let is_missing = room.in_flight.is_none() && !listed.contains(id);
            is_missing.then(|| (id.clone(), room.lock))
        };
        let missing: Vec<(ChannelId, Lock)> = self.rooms.iter().filter_map(missing).collect();
        let is_retry = began.saturating_sub(self.tried_at) >= RETRY_PAUSE;
        if is_retry {
            self.tried_at = began;
        }
        for (channel_id, lock) in missing {
            if lock == Lock::Absent {
                self.remove(&channel_id);
            } else {
                self.change(channel_id, |room| {
                    room.doubt();
                    room.unblock(is_retry);
                });
            }
        }
        for channel_id in listed {
            self.change(channel_id, |room| room.unblock(is_retry));
        }
        self.list_problem = None;
        self.may_be_unrecorded = false;
        self.list_since = self.list_since.filter(|since| began < *since);
    }

    /// Takes in that a room may be there.
    pub fn note(&mut self, channel_id: ChannelId) {
        self.change(channel_id, |_| ());
    }

    /// Notes that the SFU could not list its rooms.
    pub fn on_list_failed(&mut self, why: &str) {
        self.list_problem = Some(why.to_owned());
    }

    /// Notes that the SFU may have been restarted, and then has no lock.
    pub fn on_restarted(&mut self) {
        let ids: Vec<ChannelId> = self.rooms.keys().cloned().collect();
        for channel_id in ids {
            self.change(channel_id, |room| {
                room.is_retried = true;
                room.doubt();
            });
        }
    }

    /// Has a room evaluated again.
    pub fn mark_due(&mut self, channel_id: &ChannelId) {
        if self.rooms.contains_key(channel_id) {
            self.due.insert(channel_id.clone());
        }
    }

    /// Has all rooms evaluated again, and those tried that could not be locked.
    pub fn mark_all_due(&mut self) {
        for (channel_id, room) in &mut self.rooms {
            room.is_retried = true;
            self.due.insert(channel_id.clone());
        }
    }

    /// Requires a list that begins then or later, before the rooms count as known; or none.
    pub const fn require_list(&mut self, since: Option<Duration>) {
        // The first list after a start shows the rooms that a lost state had locked.
        if since.is_some() || !self.may_be_unrecorded {
            self.list_since = since;
        }
    }

    /// Evaluates the rooms that are due: `is_wanted` says whether one is to be locked. Locks are requested only if they can be recorded.
    pub fn drive(
        &mut self,
        effects: &mut Effects,
        can_record: bool,
        is_wanted: impl Fn(&ChannelId) -> bool,
    ) {
        while let Some(channel_id) = self.due.pop_first() {
            let is_wanted = is_wanted(&channel_id);
            let Some(room) = self.rooms.get_mut(&channel_id) else {
                continue;
            };
            self.counts.remove(room.class());
            room.is_retried |= is_wanted && !room.is_wanted;
            room.is_wanted = is_wanted;
            if room.blocked == Some(Blocked::NoRecord) && can_record {
                room.blocked = None;
            }
            let is_to_lock = room.is_wanted && room.lock != Lock::Confirmed;
            let is_to_unlock = !room.is_wanted && room.lock != Lock::Absent;
            let may_try = room.blocked.is_none() || room.is_retried;
            if room.in_flight.is_none() && may_try && (is_to_lock || is_to_unlock) {
                room.is_retried = false;
                if is_to_lock && !can_record {
                    room.blocked = Some(Blocked::NoRecord);
                } else {
                    request(effects, &channel_id, room, LockRequest::ShowTokens);
                }
            }
            self.counts.add(room.class());
        }
    }

    /// Takes in the outcome of a request.
    pub fn on_outcome(
        &mut self,
        effects: &mut Effects,
        channel_id: &ChannelId,
        outcome: &LockOutcome,
        can_record: bool,
    ) {
        let Some(room) = self.rooms.get_mut(channel_id) else {
            return;
        };
        self.counts.remove(room.class());
        let requested = room.in_flight.take();
        match (outcome, requested) {
            (LockOutcome::NoRoom, _) => {
                forget(effects, channel_id, room);
                self.rooms.remove(channel_id);
                return;
            }
            (LockOutcome::NoSecret, _) => room.blocked = Some(Blocked::NoSecret),
            (LockOutcome::Unreachable, _) => room.blocked = Some(Blocked::Unreachable),
            (LockOutcome::Done { .. }, Some(LockRequest::Unlock)) => {
                room.blocked = None;
                forget(effects, channel_id, room);
            }
            (LockOutcome::Done { tokens: 1.. }, _) => {
                forget(effects, channel_id, room);
                room.blocked = room.is_wanted.then_some(Blocked::Tokens);
            }
            (LockOutcome::Done { tokens: 0 }, Some(LockRequest::Lock)) => {
                (room.lock, room.blocked) = (Lock::Confirmed, None);
            }
            (LockOutcome::Done { tokens: 0 }, Some(LockRequest::ShowTokens)) => {
                room.blocked = None;
                if room.is_wanted && !can_record {
                    room.blocked = Some(Blocked::NoRecord);
                } else if room.is_wanted {
                    if matches!(room.lock, Lock::Absent | Lock::Unknown) {
                        room.lock = Lock::Recorded;
                        effects.records.push(Record::RoomLocked(channel_id.clone()));
                    }
                    request(effects, channel_id, room, LockRequest::Lock);
                } else if room.lock != Lock::Absent {
                    request(effects, channel_id, room, LockRequest::Unlock);
                }
            }
            (LockOutcome::Done { tokens: 0 }, None) => {}
        }
        self.counts.add(room.class());
        self.due.insert(channel_id.clone());
    }

    /// Notes that requests were not made, because a record before them could not be written.
    pub fn on_not_made(&mut self, channels: Vec<ChannelId>) {
        for channel_id in channels {
            self.change(channel_id, |room| {
                (room.in_flight, room.blocked) = (None, Some(Blocked::NoRecord));
            });
        }
    }

    /// Returns whether the mode is in force.
    pub fn in_force(&self) -> InForce {
        if self.list_problem.is_some() {
            InForce::No
        } else if self.list_since.is_some() || self.counts.outstanding > 0 || !self.due.is_empty() {
            InForce::Pending
        } else if self.counts.impossible > 0 {
            InForce::Partial
        } else {
            InForce::Yes
        }
    }

    /// Returns whether a room is being locked or unlocked by an SFU that answers.
    pub fn is_in_progress(&self, channel_id: &ChannelId) -> bool {
        self.rooms.get(channel_id).is_some_and(|room| {
            room.class() == Class::Outstanding && room.blocked != Some(Blocked::Unreachable)
        })
    }

    /// Returns the number of rooms by the state of their locks.
    pub const fn counts(&self) -> LockCounts {
        self.counts
    }

    /// Changes a room, which is added if it is not there, and has it evaluated again.
    fn change(&mut self, channel_id: ChannelId, change: impl FnOnce(&mut Room)) {
        let room = if let Some(room) = self.rooms.get_mut(&channel_id) {
            self.counts.remove(room.class());
            room
        } else {
            let room = self.rooms.entry(channel_id.clone()).or_default();
            if self.may_be_unrecorded {
                room.lock = Lock::Unknown;
            }
            room
        };
        change(room);
        self.counts.add(room.class());
        self.due.insert(channel_id);
    }

    /// Removes a room that is not recorded.
    fn remove(&mut self, channel_id: &ChannelId) {
        if let Some(room) = self.rooms.remove(channel_id) {
            self.counts.remove(room.class());
        }
    }
}

fn request(effects: &mut Effects, channel_id: &ChannelId, room: &mut Room, request: LockRequest) {
    room.in_flight = Some(request);
    effects.actions.push(Action::Lock(LockCall {
        channel_id: channel_id.clone(),
        request,
    }));
}

fn forget(effects: &mut Effects, channel_id: &ChannelId, room: &mut Room) {
    match std::mem::take(&mut room.lock) {
        Lock::Recorded | Lock::Confirmed => effects
            .records
            .push(Record::RoomUnlocked(channel_id.clone())),
        Lock::Absent | Lock::Unknown => {}
    }
}

impl LockCounts {
    const fn count(&mut self, class: Class) -> &mut u64 {
        match class {
            Class::Settled => &mut self.settled,
            Class::Outstanding => &mut self.outstanding,
            Class::Impossible => &mut self.impossible,
        }
    }

    const fn add(&mut self, class: Class) {
        *self.count(class) += 1;
    }

    const fn remove(&mut self, class: Class) {
        *self.count(class) -= 1;
    }
}
