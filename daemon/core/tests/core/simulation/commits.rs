//! The gate with its commits, whose writes take any time, succeed or fail, against a reference: all steps since the last success are one
//! batch.
//!
//! `SORAMODE_SEEDS` runs N seeds, `SORAMODE_SEED` one alone.

mod reference;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Write as _;
use std::mem;
use std::time::Instant;

use soramode_core::commits::{Batch, Commits, Durability, OPEN_EFFECTS_MAX, UNWRITTEN_RECORDS_MAX};
use soramode_core::effect::{Action, Effects, Record};
use soramode_core::gate::Gate;
use soramode_core::handles::{ReplyHandle, SocketId, Timestamp};
use soramode_core::input::{AttemptResult, HostState, Input, SoraInput};
use soramode_core::snapshot::{Seed, StartParams, Webhook};
use soramode_protocol::decision::Decision;
use soramode_protocol::error::Error;
use soramode_protocol::event::{EventKind, EventType};
use soramode_protocol::id::ConnectionId;
use soramode_protocol::mode::Mode;
use soramode_protocol::reply::{Answer, Reply};
use soramode_protocol::request::GateRequest;
use soramode_protocol::wait::{PROGRESS_SECONDS_MIN, WAITS_MAX, Wait, WaitFor};

use reference::Reference;

use super::inputs::{Dice, Inputs, Turn, snapshot};
use super::run::look;
use super::{SEEDS_DEFAULT, number};

const STEPS_MAX: u64 = 60;

fn admitted(record: &Record) -> Option<ConnectionId> {
    match record {
        Record::Pending { connection_id, .. } => Some(connection_id.clone()),
        Record::Event(event) => match &event.kind {
            EventKind::ConnectionCreated { connection_id, .. } => Some(connection_id.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn is_of_mode(record: &Record) -> bool {
    match record {
        Record::Event(event) => matches!(event.kind, EventKind::ModeChanged(_)),
        record => matches!(record, Record::Mode(_) | Record::ExpiresAtBoot(_)),
    }
}

fn refusal() -> Error {
    Error::storage_unavailable("the disk is full")
}

/// An action, with its texts left out: those of a refusal are not the reference's.
fn plain(action: &Action) -> String {
    match action {
        Action::Answer(reply_to, Err(error)) => format!("{reply_to:?} {:?}", error.data.error_type),
        action => format!("{action:?}"),
    }
}

fn reply_to(action: &Action) -> Option<ReplyHandle> {
    match action {
        Action::Answer(reply_to, _) => Some(*reply_to),
        _ => None,
    }
}

/// An action that has not left, and the number of records that it rests on.
type Waiting = VecDeque<(Option<ReplyHandle>, usize)>;

/// The gate, its commits, and a writer.
struct World {
    gate: Gate,
    commits: Commits,
    reference: Reference,
    released: Batch,
    /// Records with the writer.
    writing: Option<Vec<Record>>,
    is_retry: bool,
    /// Records made, written, and written or declared failed.
    made: usize,
    written: usize,
    settled: usize,
    actions: Waiting,
    deliveries: Waiting,
    next_seq: u64,
    /// Answers to each request that is answered at once.
    answers: BTreeMap<ReplyHandle, u32>,
    /// Requests with another answer than `StorageUnavailable` so far, by connection.
    accepted: BTreeSet<ConnectionId>,
    attempts: Vec<u64>,
    failures: u32,
}

impl World {
    fn new(snapshot: &StartParams) -> Self {
        let gate = || Gate::restore(snapshot.clone(), Seed([7; 32]));
        let mut world = Self {
            gate: gate(),
            commits: Commits::new(Durability::Durable),
            reference: Reference {
                gate: gate(),
                since_success: Effects::default(),
                writing: None,
                is_failed: false,
                held: Vec::new(),
                retrying: None,
            },
            released: Batch::default(),
            writing: None,
            is_retry: false,
            made: 0,
            written: 0,
            settled: 0,
            actions: VecDeque::new(),
            deliveries: VecDeque::new(),
            next_seq: snapshot.stored.next_seq,
            answers: BTreeMap::new(),
            accepted: BTreeSet::new(),
            attempts: Vec::new(),
            failures: 0,
        };
        world.step(snapshot.started, Input::Started(HostState::Running));
        world
    }

    fn step(&mut self, now: Timestamp, input: Input) {
        match &input {
            Input::Request {
                reply_to, request, ..
            } => {
                if !matches!(request, GateRequest::Wait(_)) {
                    self.answers.insert(*reply_to, 0);
                }
                if let GateRequest::Report(report) = request {
                    let reported = report.connections.iter();
                    self.accepted
                        .extend(reported.map(|it| it.connection_id.clone()));
                }
            }
            Input::Sora(SoraInput::Admit { reply_to, .. }) => {
                self.answers.insert(*reply_to, 0);
            }
            Input::Sora(SoraInput::ConnectionCreated { connection_id, .. }) => {
                self.accepted.insert(connection_id.clone());
            }
            _ => {}
        }
        self.reference.step(now, input.clone());
        let effects = self.commits.open_mut(now);
        let actions = effects.actions.len();
        self.gate.step_into(now, input, effects);
        self.note_made(now, actions);
        let is_committed = self.reference.is_failed
            || !self.reference.since_success.records.iter().any(is_of_mode);
        assert_eq!(self.commits.is_mode_committed(), is_committed);
        if let Some((reply_to, answer)) = self.commits.take_mode() {
            assert!(is_committed);
            let taken = self.reference.since_success.actions.pop();
            assert_eq!(taken, Some(Action::Answer(reply_to, answer.clone())));
            self.actions.pop_back();
            self.answered(reply_to, &answer);
        }
        self.release();
    }

    /// Notes what a step added to the open batch, which had so many actions before.
    fn note_made(&mut self, now: Timestamp, actions: usize) {
        self.made = self.written + self.commits.unwritten();
        if self.commits.is_failed() {
            self.settled = self.made;
        }
        for action in &self.commits.open_mut(now).actions[actions..] {
            match action {
                Action::Deliver(_) => self.deliveries.push_back((None, self.made)),
                action => self.actions.push_back((reply_to(action), self.made)),
            }
        }
    }

    fn release(&mut self) {
        let expected = self.reference.release();
        if self.commits.release(&mut self.released) {
            let released = mem::take(&mut self.released);
            self.perform(released, &expected);
        } else {
            assert_eq!(expected.actions, Vec::new());
        }
    }

    /// Checks effects that leave.
    fn perform(&mut self, batch: Batch, expected: &Effects) {
        let Effects { records, actions } = batch.effects;
        assert_eq!(records, expected.records);
        let shown = |actions: &[Action]| actions.iter().map(plain).collect::<Vec<String>>();
        assert_eq!(shown(&actions), shown(&expected.actions));
        for event in records.iter().filter_map(Record::event) {
            assert_eq!(event.seq, self.next_seq, "events leave once and in order");
            self.next_seq += 1;
        }
        for action in actions {
            if let Action::Deliver(attempt) = &action {
                let (_, rests_on) = self.deliveries.pop_front().unwrap();
                assert!(rests_on <= self.written, "a delivery before its record");
                self.attempts.push(attempt.id);
                continue;
            }
            let (reply_to, rests_on) = self.actions.pop_front().unwrap();
            assert!(rests_on <= self.settled, "{action:?} before its record");
            if let Action::Answer(to, answer) = &action {
                assert_eq!(Some(*to), reply_to, "answers leave in order");
                self.answered(*to, answer);
            }
        }
    }

    fn answered(&mut self, reply_to: ReplyHandle, answer: &Answer) {
        if let Some(answers) = self.answers.get_mut(&reply_to) {
            *answers += 1;
        }
        if let Ok(Reply::Decision(Decision::Offer { connection_id, .. })) = answer {
            self.accepted.insert(connection_id.clone());
        }
    }

    /// Begins a write, or ends the one in progress.
    fn write(&mut self, now: Timestamp, succeeds: bool) {
        let Some(records) = self.writing.take() else {
            return self.begin();
        };
        match (self.is_retry, succeeds) {
            (false, true) => {
                self.written += records.len();
                self.settled = self.settled.max(self.written);
                let (batch, expected) = (self.commits.written(records), self.reference.written());
                self.perform(batch, &expected);
            }
            (false, false) => self.fail(now, records),
            (true, false) => {
                self.commits.retry_failed(records);
                self.reference.retrying = None;
            }
            (true, true) => {
                self.written += records.len();
                let expected = self.reference.restored(now);
                let batch = self.commits.restored(&mut self.gate, now, records);
                self.perform(batch, &expected);
                // Deliveries that came during the retry are in front of what the step itself added.
                self.note_made(now, self.deliveries.len());
            }
        }
        self.release();
    }

    fn begin(&mut self) {
        if let Some(records) = self.commits.retry() {
            self.reference.retry();
            (self.writing, self.is_retry) = (Some(records), true);
        } else {
            // Without records it is a check that the database is still there, which may fail as well.
            let records = self.commits.begin();
            self.reference.begin(records.is_some());
            (self.writing, self.is_retry) = (Some(records.unwrap_or_default()), false);
        }
    }

    fn fail(&mut self, now: Timestamp, records: Vec<Record>) {
        self.failures += 1;
        let expected = self.reference.write_failed(now);
        let batch = self
            .commits
            .write_failed(&mut self.gate, now, records, &refusal());
        self.made = self.written + self.commits.unwritten();
        self.settled = self.made;
        // The step's own actions are the last.
        for action in &batch.effects.actions[self.actions.len()..] {
            self.actions.push_back((reply_to(action), self.made));
        }
        let own = self.reference.held.len() - self.deliveries.len();
        self.deliveries.extend((0..own).map(|_| (None, self.made)));
        self.perform(batch, &expected);
        let tables = look(&mut self.gate, now);
        for connection in tables.connections {
            assert!(
                self.accepted.contains(&connection.connection_id),
                "{connection:?} is in, and every offer of it was refused"
            );
        }
    }

    /// Ends with a disk that works, and checks that nothing is left.
    fn end(mut self, now: Timestamp) -> u32 {
        // The last turn may have been left out, and its clock not been seen.
        self.step(now, Input::Tick);
        while self.writing.is_some() || self.commits.has_work() || self.commits.is_failed() {
            self.write(now, true);
        }
        assert_eq!(self.commits.unwritten(), 0);
        assert!(self.actions.is_empty() && self.deliveries.is_empty());
        assert!(self.commits.is_mode_committed());
        let odd: Vec<_> = self
            .answers
            .iter()
            .filter(|(_, times)| **times != 1)
            .collect();
        assert_eq!(odd, [], "each request is answered once");
        assert!(look(&mut self.gate, now) == look(&mut self.reference.gate, now));
        self.failures
    }
}

fn play(seed: u64) -> (u64, u32) {
    let mut dice = Dice(seed);
    let mut snapshot = snapshot(&mut dice);
    // With etcd's answers in it this is the cluster simulation's.
    snapshot.settings.cluster = None;
    snapshot.settings.webhooks = vec![Webhook {
        url: "http://receiver/".to_owned(),
        endpoint: "http://receiver".to_owned(),
        types: EventType::ALL.to_vec(),
    }];
    let steps = 1 + dice.roll(STEPS_MAX);
    let mut inputs = Inputs::new(dice, &snapshot);
    let mut world = World::new(&snapshot);
    let mut last = snapshot.started;
    for _ in 0..steps {
        let (now, turn) = inputs.draw(world.gate.next_deadline());
        last = now;
        match turn {
            // The commits say when the disk fails.
            Turn::Input(Input::StorageFailed { .. } | Input::StorageRestored)
            | Turn::Heartbeat
            | Turn::SessionsEnded
            | Turn::Restart { .. } => {}
            Turn::Input(input) => world.step(now, input),
        }
        if inputs.dice.one_in(3) && !world.attempts.is_empty() {
            let id = world.attempts.remove(0);
            let status = Some(if inputs.dice.one_in(2) { 200 } else { 500 });
            let result = AttemptResult {
                status,
                ..AttemptResult::default()
            };
            world.step(now, Input::DeliveryAttempted { id, result });
        }
        if inputs.dice.one_in(2) {
            let succeeds = !inputs.dice.one_in(4);
            world.write(now, succeeds);
        }
    }
    (steps, world.end(last))
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the time it took is told, and nothing goes by it"
)]
fn effects_leave_as_if_all_steps_since_the_last_success_were_one_batch() {
    let seeds = match number("SORAMODE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SORAMODE_SEEDS").unwrap_or(SEEDS_DEFAULT),
    };
    let (began, mut steps, mut failures) = (Instant::now(), 0, 0);
    for seed in seeds.clone() {
        let played = std::panic::catch_unwind(|| play(seed));
        let (played, failed) = played.unwrap_or_else(|_| panic!("seed {seed}"));
        (steps, failures) = (steps + played, failures + u64::from(failed));
    }
    // Past the test harness, which would keep it to itself.
    writeln!(
        std::io::stderr(),
        "commits: {} runs, {steps} steps, {failures} failed writes, {:.1?}",
        seeds.end - seeds.start,
        began.elapsed()
    )
    .unwrap();
}

#[test]
fn nothing_waits_where_nothing_outlives_the_daemon() {
    let snapshot = snapshot(&mut Dice(1));
    let mut gate = Gate::restore(snapshot.clone(), Seed([7; 32]));
    let mut commits = Commits::new(Durability::Ephemeral);
    let mut released = Batch::default();
    let input = Input::Started(HostState::Running);
    gate.step_into(snapshot.started, input, commits.open_mut(snapshot.started));
    let records = commits.open_mut(snapshot.started).records.len();
    assert!(records > 0 && commits.release(&mut released));
    assert_eq!(released.effects.records.len(), records);
    assert!(commits.begin().is_none() && !commits.has_work());
}

#[test]
fn a_write_that_never_ends_does_not_gather_reports_on_the_progress_of_waits() {
    let params = snapshot(&mut Dice(1));
    let mut now = params.started;
    let mut gate = Gate::restore(params, Seed([7; 32]));
    let mut commits = Commits::new(Durability::Durable);
    gate.step_into(
        now,
        Input::Started(HostState::Running),
        commits.open_mut(now),
    );
    assert!(commits.begin().is_some());
    for serial in 1..=WAITS_MAX as u64 {
        let mut wait = Wait::new(WaitFor::Mode);
        (wait.mode, wait.progress_seconds) =
            (Some(Mode::BlockNewSession), Some(PROGRESS_SECONDS_MIN));
        let input = Input::Request {
            reply_to: ReplyHandle {
                socket: SocketId(1),
                serial,
            },
            actor: "test".into(),
            request: GateRequest::Wait(Box::new(wait)),
        };
        gate.step_into(now, input, commits.open_mut(now));
    }
    let waits = commits.open_mut(now).actions.len();
    assert_eq!(waits, WAITS_MAX, "each is told of its progress at once");
    for _ in 0..OPEN_EFFECTS_MAX {
        now.boot = gate.next_deadline().unwrap();
        gate.step_into(now, Input::Tick, commits.open_mut(now));
        assert!(!commits.release(&mut Batch::default()));
        assert!(commits.has_room(), "a client may still ask");
    }
}

#[test]
fn records_that_are_not_written_are_bounded_wherever_they_wait() {
    let (params, now) = (snapshot(&mut Dice(1)), super::START);
    let now = Timestamp {
        wall: now,
        ..params.started
    };
    let mut gate = Gate::restore(params, Seed([7; 32]));
    let mut commits = Commits::new(Durability::Durable);
    let records = |count| vec![Record::VanishedPending(true); count];
    commits.open_mut(now).records = records(OPEN_EFFECTS_MAX - 1);
    assert!(commits.has_room());
    commits.open_mut(now).records.extend(records(1));
    assert!(!commits.has_room());
    let written = commits.begin().unwrap();
    assert!(commits.has_room() && commits.begin().is_none());
    commits.open_mut(now).records = records(2);
    assert_eq!(commits.unwritten(), OPEN_EFFECTS_MAX + 2);
    commits.write_failed(&mut gate, now, written, &refusal());
    let waiting = commits.unwritten();
    let retried = commits.retry().unwrap();
    assert!(commits.retry().is_none(), "one at a time");
    commits.open_mut(now).records = records(UNWRITTEN_RECORDS_MAX - waiting);
    assert!(commits.is_full());
    commits.release(&mut Batch::default());
    assert!(commits.is_full() && commits.unwritten() == UNWRITTEN_RECORDS_MAX);
    commits.retry_failed(retried);
    assert_eq!(commits.retry().unwrap().len(), UNWRITTEN_RECORDS_MAX);
}
