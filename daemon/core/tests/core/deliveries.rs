//! Deliveries by chance: receivers that accept or refuse, restarts, and time that passes. In every run the order is kept,
//! nobody is asked twice at once, and in the end everybody has everything that was not given up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use soramode_core::effect::{Action, Effects, Record};
use soramode_core::gate::Gate;
use soramode_core::handles::{DeliveryId, ReceiverIndex, ReplyHandle, SocketId, Timestamp};
use soramode_core::input::{AttemptResult, HostState, Input};
use soramode_core::outbox::{
    DELIVERIES_FAILED_KEPT, DELIVERIES_FINISHED_KEPT, DELIVERIES_PENDING_MAX, RETRY_PAUSES,
};
use soramode_core::restore::{Seed, StartParams};
use soramode_core::settings::{EventReceiver, Settings};
use soramode_core::stored::{Stored, StoredDelivery};
use soramode_protocol::decision::{Connect, Disconnect, Lifetime};
use soramode_protocol::delivery::{DeliveryState, ResendDelivery};
use soramode_protocol::event::{EventKind, EventType};
use soramode_protocol::mode::{ChangeMode, SettableMode};
use soramode_protocol::request::GateRequest;
use soramode_protocol::time::Time;
use soramode_testkit::record_store::RecordStore;

use crate::plain_settings::plain_settings;
use crate::seeds::Rng;

const SEEDS: u64 = 2_000;
const STEPS: u64 = 80;

struct World {
    rng: Rng,
    gate: Gate,
    record_store: RecordStore,
    now: Timestamp,
    starts: u8,
    /// The attempt in flight at each receiver.
    under_way: BTreeMap<ReceiverIndex, DeliveryId>,
    /// Events that each receiver has answered with 200, in that order.
    had: BTreeMap<ReceiverIndex, Vec<DeliveryId>>,
    /// Each delivery that there was, as it was last.
    deliveries: BTreeMap<DeliveryId, StoredDelivery>,
    /// Number of deliveries that the events so far make.
    expected: u64,
}

fn settings() -> Settings {
    let receiver = |name: &str, types: &[EventType]| EventReceiver {
        url: name.to_owned(),
        endpoint: name.to_owned(),
        types: types.to_vec(),
    };
    Settings {
        receivers: vec![
            receiver(
                "a",
                &[
                    EventType::SessionCreated,
                    EventType::SessionDestroyed,
                    EventType::SessionVanished,
                ],
            ),
            receiver("b", &[EventType::SessionVanished, EventType::ModeChanged]),
        ],
        ..plain_settings()
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Timestamp {
            wall: Time::from_micros(1_795_377_600_000_000),
            boot: Duration::from_secs(1_000),
        };
        let gate = Gate::restore(
            StartParams {
                settings: settings(),
                started: now,
                stored: Stored::default(),
            },
            Seed([1; 32]),
        );
        let (record_store, deliveries, had) = (
            RecordStore::new(Stored::default()),
            BTreeMap::new(),
            BTreeMap::new(),
        );
        let mut world = Self {
            rng: Rng(seed),
            gate,
            record_store,
            now,
            starts: 1,
            under_way: BTreeMap::new(),
            had,
            deliveries,
            expected: 0,
        };
        world.step(Input::Started(HostState::Running));
        world
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now.boot + time;
        while let Some(deadline) = self
            .gate
            .next_deadline()
            .filter(|deadline| *deadline <= until)
        {
            let passed = deadline.saturating_sub(self.now.boot);
            (self.now.boot, self.now.wall) = (self.now.boot + passed, self.now.wall + passed);
            self.step(Input::Tick);
        }
        let passed = until.saturating_sub(self.now.boot);
        (self.now.boot, self.now.wall) = (until, self.now.wall + passed);
    }

    /// Without a look at everything after it.
    fn step_fast(&mut self, input: Input) {
        let Effects { records, actions } = self.gate.step(self.now, input);
        for record in &records {
            self.record_store.read(record);
        }
        for action in actions {
            if let Action::Deliver(attempt) = action {
                self.under_way.insert(attempt.receiver, attempt.id);
            }
        }
    }

    fn step(&mut self, input: Input) {
        let Effects { records, actions } = self.gate.step(self.now, input);
        self.gate.check().unwrap();
        for record in &records {
            self.record_store.read(record);
            if let Some(event) = record.event() {
                self.expected += settings()
                    .receivers
                    .iter()
                    .filter(|it| wants(it, &event.kind))
                    .count() as u64;
            }
            if let Record::Delivery(delivery) = record {
                self.deliveries
                    .insert(delivery.id, delivery.as_ref().clone());
            }
        }
        for action in actions {
            let Action::Deliver(attempt) = action else {
                continue;
            };
            assert_eq!(
                self.under_way.insert(attempt.receiver, attempt.id),
                None,
                "one at a time"
            );
            let before = |it: &&StoredDelivery| {
                it.id < attempt.id && it.url == settings().receivers[attempt.receiver.0].url
            };
            let overtaken = self
                .deliveries
                .values()
                .filter(before)
                .find(|it| it.state == DeliveryState::Pending);
            assert_eq!(overtaken, None, "delivery {} overtakes", attempt.id.0);
        }
    }

    fn answer(&mut self, receiver: ReceiverIndex, status: Option<u16>) {
        let Some(id) = self.under_way.remove(&receiver) else {
            return;
        };
        if status == Some(200) {
            self.had.entry(receiver).or_default().push(id);
        }
        let pauses = [
            Duration::ZERO,
            Duration::from_secs(7),
            Duration::from_hours(2),
            Duration::MAX,
        ];
        let retry_after = self
            .rng
            .one_in(4)
            .then(|| pauses[usize::try_from(self.rng.below(4)).unwrap()]);
        self.step(Input::DeliveryAttempted {
            id,
            result: AttemptResult {
                status,
                retry_after,
                problem: None,
            },
        });
    }

    /// Has a receiver that is up with everything but an answer of success asked until the delivery fails; returns how long that took.
    fn refuse_until_it_fails(&mut self, receiver: ReceiverIndex, id: DeliveryId) -> Duration {
        let reply_to = ReplyHandle {
            socket: SocketId(1),
            serial: 1,
        };
        let (began, mut is_clock_right, mut changes) = (self.now.boot, true, 0);
        while self.deliveries[&id].state == DeliveryState::Pending {
            match self.rng.below(40) {
                0 => self.step(Input::Request {
                    reply_to,
                    actor: "ops".into(),
                    request: GateRequest::ResendDelivery(ResendDelivery { id: id.0 }),
                }),
                1 => self.restart(),
                2 => {
                    changes += 1;
                    self.step(mode_change(changes));
                }
                3 if is_clock_right => {
                    is_clock_right = false;
                    self.restart_with_the_clock_behind();
                }
                _ => {}
            }
            let status = [Some(500), Some(429), Some(304), None]
                [usize::try_from(self.rng.below(4)).unwrap()];
            self.answer(receiver, status);
            let millis = self.rng.below(1_800_000);
            self.pass(Duration::from_millis(millis));
        }
        self.now.boot.saturating_sub(began)
    }

    fn restart_with_the_clock_behind(&mut self) {
        let right = self.now;
        self.now.wall = Time::from_micros(right.wall.as_micros() - 365 * 24 * 3_600_000_000);
        self.restart();
        self.now.wall = right.wall;
    }

    fn restart(&mut self) {
        self.starts += 1;
        self.under_way.clear();
        let params = StartParams {
            settings: settings(),
            started: self.now,
            stored: self.record_store.stored(),
        };
        self.gate = Gate::restore(params, Seed([self.starts; 32]));
        self.step(Input::Started(HostState::Running));
    }

    fn happen(&mut self) {
        let reply_to = ReplyHandle {
            socket: SocketId(1),
            serial: 1,
        };
        let ask = |request| Input::Request {
            reply_to,
            actor: "ops".into(),
            request,
        };
        let connection_id = format!("c{}", self.rng.below(2)).parse().unwrap();
        match self.rng.below(16) {
            0..3 => {
                let channel_id = "spam".parse().unwrap();
                let connection_id = Some(connection_id);
                self.step(ask(GateRequest::Connect(Connect {
                    channel_id,
                    connection_id,
                    client_id: None,
                    lifetime: Lifetime::Explicit,
                    hops: 0,
                })));
            }
            3..6 => self.step(ask(GateRequest::Disconnect(Disconnect { connection_id }))),
            6..8 => {
                let mode = if self.rng.one_in(2) {
                    SettableMode::Normal
                } else {
                    SettableMode::BlockNewSession
                };
                let change = ChangeMode::to(mode);
                self.step(ask(GateRequest::ChangeMode(Box::new(change))));
            }
            8..14 => {
                let receiver = ReceiverIndex(usize::try_from(self.rng.below(2)).unwrap());
                let status = [Some(200), Some(200), Some(200), Some(500), Some(410), None]
                    [usize::try_from(self.rng.below(6)).unwrap()];
                self.answer(receiver, status);
            }
            14 => self.restart(),
            _ => {
                let millis = self.rng.below(20_000);
                self.pass(Duration::from_millis(millis));
            }
        }
    }

    /// Every receiver answers, for as long as a delivery can be pending.
    fn settle(&mut self) {
        for _ in 0..200 {
            for receiver in [0, 1].map(ReceiverIndex) {
                self.answer(receiver, Some(200));
            }
            self.pass(RETRY_PAUSES[RETRY_PAUSES.len() - 1] * 2);
        }
    }

    fn check(&self) {
        assert_eq!(
            self.deliveries.len() as u64,
            self.expected,
            "one delivery for each event and receiver"
        );
        for delivery in self.deliveries.values() {
            assert_ne!(delivery.state, DeliveryState::Pending, "{delivery:?}");
            let is_vanished = delivery.event.kind == EventKind::SessionVanished;
            assert!(
                is_vanished || delivery.state != DeliveryState::Obsolete,
                "{delivery:?}"
            );
        }
        for (receiver, had) in &self.had {
            let first_times: Vec<DeliveryId> = {
                let mut seen = BTreeSet::new();
                had.iter().copied().filter(|id| seen.insert(*id)).collect()
            };
            assert!(first_times.is_sorted(), "receiver {receiver:?} had {had:?}");
            let succeeded = |id: &DeliveryId| self.deliveries[id].state == DeliveryState::Succeeded;
            assert!(
                first_times.iter().all(succeeded),
                "what a receiver has is known to have succeeded"
            );
        }
    }
}

fn wants(receiver: &EventReceiver, kind: &EventKind) -> bool {
    kind.event_type()
        .is_some_and(|event_type| receiver.types.contains(&event_type))
}

#[test]
fn every_receiver_has_every_event_in_order_in_the_end() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        for _ in 0..world.rng.below(STEPS) {
            world.happen();
        }
        world.settle();
        world.check();
    }
}

/// In each way in which a receiver may refuse. New events and operators may add tries, and a clock that is wrong may
/// not keep one from coming.
#[test]
fn a_receiver_is_tried_for_a_day_and_a_half_and_not_for_ever() {
    for seed in 0..50 {
        let mut world = World::new(seed);
        world.step(mode_change(0));
        let (receiver, id) = world
            .under_way
            .iter()
            .map(|(receiver, id)| (*receiver, *id))
            .next()
            .unwrap();
        let tried_for = world.refuse_until_it_fails(receiver, id);
        assert!(
            tried_for >= Duration::from_hours(36),
            "seed {seed}: given up after {tried_for:?}"
        );
        assert!(
            tried_for <= Duration::from_hours(96),
            "seed {seed}: still tried after {tried_for:?}"
        );
    }
}

/// The time-th change of the mode, which makes a delivery for one receiver.
fn mode_change(time: usize) -> Input {
    let mode = if time.is_multiple_of(2) {
        SettableMode::BlockNewConnection
    } else {
        SettableMode::BlockNewSession
    };
    let change = ChangeMode::to(mode);
    let reply_to = ReplyHandle {
        socket: SocketId(1),
        serial: 1,
    };
    Input::Request {
        reply_to,
        actor: "ops".into(),
        request: GateRequest::ChangeMode(Box::new(change)),
    }
}

fn change_mode(world: &mut World, times: usize) {
    for time in 0..times {
        world.step_fast(mode_change(time));
    }
}

#[test]
fn surplus_deliveries_fail_oldest_first_and_are_forgotten_in_the_end() {
    let mut world = World::new(0);
    change_mode(&mut world, DELIVERIES_PENDING_MAX);
    let counts = |world: &World| {
        let count = |state| {
            world
                .record_store
                .stored()
                .deliveries
                .iter()
                .filter(|it| it.state == state)
                .count()
        };
        DeliveryState::ALL.map(count)
    };
    assert_eq!(counts(&world), [DELIVERIES_PENDING_MAX, 0, 0, 0]);
    change_mode(&mut world, 1);
    assert_eq!(counts(&world), [DELIVERIES_PENDING_MAX, 0, 1, 0]);
    // The first is on its way.
    let failed = world
        .record_store
        .stored()
        .deliveries
        .into_iter()
        .find(|it| it.state == DeliveryState::Failed)
        .unwrap();
    assert_eq!(
        (failed.id, failed.problem.as_deref()),
        (
            DeliveryId(2),
            Some("overflow: too many deliveries were pending")
        )
    );
    change_mode(&mut world, DELIVERIES_FAILED_KEPT);
    assert_eq!(
        counts(&world),
        [DELIVERIES_PENDING_MAX, 0, DELIVERIES_FAILED_KEPT, 0]
    );
    for _ in 0..=DELIVERIES_FINISHED_KEPT {
        world.answer(ReceiverIndex(1), Some(200));
    }
    assert_eq!(
        counts(&world),
        [
            DELIVERIES_PENDING_MAX - DELIVERIES_FINISHED_KEPT - 1,
            DELIVERIES_FINISHED_KEPT,
            DELIVERIES_FAILED_KEPT,
            0
        ]
    );
}
