//! The locks of a Janus's rooms, killed between any two steps: in the end each room is open again, and no token of the application has
//! changed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use soramode_core::effect::{Action, Effects, Record};
use soramode_core::locks::RoomLocks;
use soramode_core::locks::calls::{LockCall, LockOutcome, LockRequest};
use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::InForce;

use crate::seeds::{Rng, seeds};

/// Rooms of the model.
const ROOMS: [&str; 4] = ["1", "2", "3", "4"];

/// Steps of a run.
const STEPS: u64 = 400;

/// A room of the model's Janus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Room {
    is_enabled: bool,
    tokens: BTreeSet<u64>,
    has_secret: bool,
}

/// A daemon's locks beside a Janus.
struct World {
    rng: Rng,
    now: Duration,
    janus: BTreeMap<ChannelId, Room>,
    /// The tokens that the application gave.
    given: BTreeMap<ChannelId, BTreeSet<u64>>,
    /// Records that were committed.
    disk: BTreeSet<ChannelId>,
    locks: RoomLocks,
    /// Requests that are not made yet, in order.
    calls: VecDeque<LockCall>,
    wanted: BTreeSet<ChannelId>,
    can_record: bool,
}

fn id(room: &str) -> ChannelId {
    ChannelId::new(room).unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let rooms = |room: &&str| (id(room), Room::default());
        Self {
            rng: Rng(seed),
            now: Duration::from_secs(1_000),
            janus: ROOMS.iter().map(rooms).collect(),
            given: ROOMS
                .iter()
                .map(|room| (id(room), BTreeSet::new()))
                .collect(),
            disk: BTreeSet::new(),
            locks: RoomLocks::restore(Vec::new(), true, Duration::ZERO),
            calls: VecDeque::new(),
            wanted: BTreeSet::new(),
            can_record: true,
        }
    }

    fn room(&mut self) -> ChannelId {
        id(ROOMS[usize::try_from(self.rng.below(4)).unwrap()])
    }

    /// Ends a step of the gate: the records are committed, then the actions may be performed.
    fn commit(&mut self, mut effects: Effects) {
        let wanted = &self.wanted;
        self.locks
            .drive(&mut effects, self.can_record, |room| wanted.contains(room));
        for record in effects.records {
            match record {
                Record::RoomLocked(room) => assert!(self.disk.insert(room), "locked twice"),
                Record::RoomUnlocked(room) => assert!(self.disk.remove(&room), "not recorded"),
                other => panic!("{other:?}"),
            }
        }
        for action in effects.actions {
            match action {
                Action::Lock(call) => self.calls.push_back(call),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Performs the oldest request on Janus, and takes its outcome in unless it is lost.
    fn perform(&mut self, is_lost: bool) {
        let Some(LockCall {
            channel_id,
            request,
        }) = self.calls.pop_front()
        else {
            return;
        };
        let outcome = match self.janus.get_mut(&channel_id) {
            None => LockOutcome::NoRoom,
            Some(room) if room.has_secret => LockOutcome::NoSecret,
            Some(room) => {
                match request {
                    LockRequest::ShowTokens => {}
                    LockRequest::Lock => {
                        assert!(self.disk.contains(&channel_id), "a lock is recorded first");
                        room.is_enabled = true;
                    }
                    LockRequest::Unlock => room.is_enabled = false,
                }
                let tokens = if request == LockRequest::Unlock {
                    0
                } else {
                    room.tokens.len()
                };
                LockOutcome::Done { tokens }
            }
        };
        let outcome = if is_lost {
            LockOutcome::Unreachable
        } else {
            outcome
        };
        let mut effects = Effects::default();
        self.locks
            .on_outcome(&mut effects, &channel_id, &outcome, self.can_record);
        self.commit(effects);
    }

    fn list(&mut self) {
        self.now += Duration::from_secs(61);
        let rooms = self.janus.keys().cloned().collect();
        self.locks.on_listed(rooms, self.now);
        self.commit(Effects::default());
    }

    /// Kills the daemon: what was not committed is lost, or all of the state. Its last request may have reached Janus.
    fn kill(&mut self) {
        if self.rng.one_in(2) {
            self.perform(true);
        }
        self.calls.clear();
        if self.rng.one_in(4) {
            self.disk.clear();
        }
        self.locks = RoomLocks::restore(self.disk.iter().cloned().collect(), true, self.now);
        self.commit(Effects::default());
        self.list();
    }

    fn step(&mut self) {
        match self.rng.below(20) {
            0..=8 => {
                let is_lost = self.rng.one_in(12);
                self.perform(is_lost);
            }
            9..=11 => {
                let room = self.room();
                if !self.wanted.remove(&room) {
                    self.wanted.insert(room.clone());
                }
                self.locks.mark_due(&room);
                self.commit(Effects::default());
            }
            12 => {
                let room = self.room();
                let token = self.rng.below(3);
                if let Some(there) = self.janus.get_mut(&room) {
                    there.tokens.insert(token);
                    self.given.entry(room).or_default().insert(token);
                }
            }
            13 => {
                let room = self.room();
                if let Some(there) = self.janus.get_mut(&room) {
                    there.tokens.clear();
                    self.given.entry(room).or_default().clear();
                }
            }
            14 => self.kill(),
            15 => {
                // Janus restarts, with nothing in its rooms.
                self.janus = ROOMS
                    .iter()
                    .map(|room| (id(room), Room::default()))
                    .collect();
                self.given.values_mut().for_each(BTreeSet::clear);
                self.locks.on_restarted();
                self.commit(Effects::default());
            }
            16 => {
                let room = self.room();
                if self.janus.remove(&room).is_none() {
                    self.janus.insert(room.clone(), Room::default());
                }
                self.given.insert(room, BTreeSet::new());
            }
            17 => {
                let room = self.room();
                if let Some(there) = self.janus.get_mut(&room) {
                    there.has_secret = !there.has_secret;
                }
            }
            18 => {
                self.can_record = !self.can_record;
                self.locks.mark_all_due();
                self.commit(Effects::default());
            }
            _ => self.list(),
        }
    }

    /// Opens the node, with every secret known, and waits until nothing is left to do.
    fn open(&mut self) {
        self.can_record = true;
        self.wanted.clear();
        self.janus
            .values_mut()
            .for_each(|room| room.has_secret = false);
        self.locks.mark_all_due();
        self.commit(Effects::default());
        for _ in 0..3 {
            self.list();
            while !self.calls.is_empty() {
                self.perform(false);
            }
        }
    }
}

#[test]
fn after_kills_at_any_moment_every_room_can_be_opened_and_no_token_has_changed() {
    for seed in seeds("SORAMODE_SEEDS", 2_000) {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        // A room with tokens is the application's from then on, locked or not.
        world.open();
        for (room, there) in &world.janus {
            assert_eq!(there.tokens, world.given[room], "seed {seed}, room {room}");
            assert!(
                !there.is_enabled || !there.tokens.is_empty() || !world.disk.contains(room),
                "seed {seed}: room {room} stays locked"
            );
        }
        assert!(world.disk.is_empty(), "seed {seed}: {:?}", world.disk);
        assert_eq!(world.locks.in_force(), InForce::Yes, "seed {seed}");
    }
}

#[test]
fn without_the_applications_tokens_no_room_stays_locked() {
    for seed in seeds("SORAMODE_SEEDS", 2_000) {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
            for room in world.janus.values_mut() {
                room.tokens.clear();
            }
            world.given.values_mut().for_each(BTreeSet::clear);
        }
        world.open();
        for (room, there) in &world.janus {
            assert!(!there.is_enabled, "seed {seed}: room {room} stays locked");
        }
    }
}

#[test]
fn a_mode_is_in_force_when_each_room_that_can_be_is_locked() {
    let mut world = World::new(0);
    world.wanted = ROOMS.iter().map(|room| id(room)).collect();
    world.locks.require_list(Some(world.now));
    assert_eq!(world.locks.in_force(), InForce::Pending);
    world.janus.get_mut(&id("2")).unwrap().tokens.insert(1);
    world.janus.get_mut(&id("3")).unwrap().has_secret = true;
    let rooms = world.janus.keys().cloned().collect();
    world.locks.on_listed(rooms, world.now);
    assert_eq!(
        world.locks.in_force(),
        InForce::Pending,
        "rooms that were not evaluated"
    );
    world.list();
    while !world.calls.is_empty() {
        assert_eq!(world.locks.in_force(), InForce::Pending);
        world.perform(false);
    }
    assert_eq!(world.locks.in_force(), InForce::Partial);
    assert_eq!(world.locks.counts().impossible, 2);
    assert_eq!(
        world.locks.describe().as_deref(),
        Some(
            "2 rooms cannot be locked or unlocked. Give the right secret in --janus-room-secrets-file for \"3\". The application has tokens in \"2\", \
             which soramode leaves as they are"
        )
    );
    assert!(world.janus[&id("1")].is_enabled && !world.janus[&id("2")].is_enabled);
    // They are tried again, and count as impossible until that succeeds.
    world.janus.get_mut(&id("3")).unwrap().has_secret = false;
    world.janus.get_mut(&id("2")).unwrap().tokens.clear();
    world.list();
    assert_eq!(world.locks.in_force(), InForce::Partial);
    while !world.calls.is_empty() {
        world.perform(false);
    }
    assert_eq!(world.locks.in_force(), InForce::Yes);
    world
        .locks
        .on_list_failed("answered 403: Unauthorized request");
    assert_eq!(
        world.locks.describe().as_deref(),
        Some("Janus's rooms cannot be listed: answered 403: Unauthorized request")
    );
    assert_eq!(world.locks.in_force(), InForce::No);
    world.locks.on_restarted();
    world.list();
    assert_eq!(
        world.locks.in_force(),
        InForce::Pending,
        "the locks are lost"
    );
}

#[test]
fn rooms_that_a_lost_state_had_locked_are_opened_at_the_start() {
    let mut world = World::new(0);
    world.wanted = ROOMS.iter().map(|room| id(room)).collect();
    world.list();
    while !world.calls.is_empty() {
        world.perform(false);
    }
    assert!(world.janus.values().all(|room| room.is_enabled));
    world.janus.get_mut(&id("2")).unwrap().tokens.insert(1);
    world.janus.get_mut(&id("3")).unwrap().has_secret = true;
    world.disk.clear();
    world.wanted.clear();
    world.locks = RoomLocks::restore(Vec::new(), true, world.now);
    world.list();
    assert_eq!(world.locks.in_force(), InForce::Pending);
    while !world.calls.is_empty() {
        world.perform(false);
    }
    assert_eq!(world.locks.in_force(), InForce::Yes);
    let is_enabled = |world: &World, room| world.janus[&id(room)].is_enabled;
    assert!(!is_enabled(&world, "1") && !is_enabled(&world, "4"));
    assert!(is_enabled(&world, "2"), "it is the application's");
    // The secret comes later: the next change of the mode opens it.
    assert!(is_enabled(&world, "3"));
    world.janus.get_mut(&id("3")).unwrap().has_secret = false;
    world.locks.mark_all_due();
    world.commit(Effects::default());
    while !world.calls.is_empty() {
        world.perform(false);
    }
    assert!(!is_enabled(&world, "3"));
    // A room of a later list is new.
    world.janus.insert(id("5"), Room::default());
    world.list();
    assert!(world.calls.is_empty());
}
