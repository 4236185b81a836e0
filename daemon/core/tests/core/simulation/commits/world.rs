//! The gate with its commits, a writer, an etcd, and the reference beside them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;

use soramode_core::commits::{Batch, Commits, Durability};
use soramode_core::effect::{Action, Effects, Record};
use soramode_core::fault::PlantedFault;
use soramode_core::gate::Gate;
use soramode_core::handles::{DeliveryId, ReplyHandle, Timestamp};
use soramode_core::input::{HostState, Input, SoraInput};
use soramode_core::restore::{Seed, StartParams};
use soramode_protocol::decision::Decision;
use soramode_protocol::error::Error;
use soramode_protocol::event::EventKind;
use soramode_protocol::id::ConnectionId;
use soramode_protocol::reply::{Answer, Reply};
use soramode_protocol::request::GateRequest;

use super::reference::Reference;
use crate::simulation::etcd::OwnEtcd;
use crate::simulation::inputs::Transition;
use crate::simulation::run::look;

pub(super) fn admitted(record: &Record) -> Option<ConnectionId> {
    match record {
        Record::Pending { connection_id, .. } => Some(connection_id.clone()),
        Record::Event(event) => match &event.kind {
            EventKind::ConnectionCreated { connection_id, .. } => Some(connection_id.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn is_about_mode(record: &Record) -> bool {
    match record {
        Record::Event(event) => matches!(event.kind, EventKind::ModeChanged(_)),
        record => matches!(record, Record::Mode(_) | Record::ExpiresAtBoot(_)),
    }
}

pub(super) fn refusal() -> Error {
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

/// The gate, its commits, a writer, and the etcd of the node's cluster, if it is in one.
pub(super) struct World {
    pub(super) gate: Gate,
    commits: Commits,
    etcd: OwnEtcd,
    is_clustered: bool,
    /// etcd's answers that have not been stepped.
    inputs: VecDeque<Input>,
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
    pub(super) attempts: Vec<DeliveryId>,
    failures: u32,
}

impl World {
    pub(super) fn new(params: &StartParams, fault: PlantedFault) -> Self {
        let gate = || Gate::restore(params.clone(), Seed([7; 32]));
        let mut world = Self {
            gate: gate(),
            commits: Commits::with_fault(Durability::Durable, fault),
            etcd: OwnEtcd::new(&params.settings),
            is_clustered: params.settings.cluster.is_some(),
            inputs: VecDeque::new(),
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
            next_seq: params.stored.next_seq,
            answers: BTreeMap::new(),
            accepted: BTreeSet::new(),
            attempts: Vec::new(),
            failures: 0,
        };
        world.step(params.started, Input::Started(HostState::Running));
        world
    }

    /// Takes a step, and those that follow from what etcd answers.
    pub(super) fn step(&mut self, now: Timestamp, input: Input) {
        self.inputs.push_back(input);
        self.step_inputs(now);
    }

    fn step_inputs(&mut self, now: Timestamp) {
        while let Some(input) = self.inputs.pop_front() {
            self.step_one(now, input);
        }
    }

    /// Lets one thing happen.
    pub(super) fn apply(&mut self, now: Timestamp, transition: Transition) {
        match transition {
            // The commits say when the disk fails.
            Transition::Input(Input::StorageFailed(_) | Input::StorageRestored)
            | Transition::Restart { .. } => {}
            Transition::Input(input) => self.step(now, input),
            Transition::Heartbeat => {
                let read = self.etcd.read(now);
                self.step(now, read);
            }
            Transition::SessionsEnded => {
                if let Some(id) = self.etcd.fence.take() {
                    let outcome = Ok(());
                    self.step(now, Input::FenceFinished { id, outcome });
                }
            }
        }
    }

    fn step_one(&mut self, now: Timestamp, input: Input) {
        match &input {
            // Requests of this socket that wait for etcd are not answered any more.
            Input::SocketClosed(socket) if self.is_clustered => {
                self.answers
                    .retain(|reply_to, times| reply_to.socket != *socket || *times > 0);
            }
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
            || !self
                .reference
                .since_success
                .records
                .iter()
                .any(is_about_mode);
        assert_eq!(self.commits.is_mode_committed(), is_committed);
        if let Some((reply_to, answer)) = self.commits.take_mode_answer() {
            assert!(is_committed);
            let taken = self.reference.since_success.actions.pop();
            assert_eq!(taken, Some(Action::Answer(reply_to, answer.clone())));
            self.actions.pop_back();
            self.answered(reply_to, &answer);
        }
        assert_eq!(self.commits.has_work(), self.reference.has_work());
        let unwritten = self.reference.since_success.records.len();
        assert_eq!(self.commits.unwritten(), unwritten);
        self.release(now);
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

    fn release(&mut self, now: Timestamp) {
        let expected = self.reference.release();
        if self.commits.take_ready(&mut self.released) {
            let released = mem::take(&mut self.released);
            self.perform(now, released, &expected);
        } else {
            assert_eq!(expected.actions, Vec::new());
        }
    }

    /// Checks effects that leave.
    fn perform(&mut self, now: Timestamp, batch: Batch, expected: &Effects) {
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
            match action {
                Action::Answer(to, answer) => {
                    assert_eq!(Some(to), reply_to, "answers leave in order");
                    self.answered(to, &answer);
                }
                Action::Etcd(request) => self.inputs.extend(self.etcd.execute(now, *request)),
                Action::Fence { id, .. } => self.etcd.fence = Some(id),
                _ => {}
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
    pub(super) fn write(&mut self, now: Timestamp, succeeds: bool) {
        self.write_one(now, succeeds);
        self.step_inputs(now);
    }

    fn write_one(&mut self, now: Timestamp, succeeds: bool) {
        let Some(records) = self.writing.take() else {
            return self.begin();
        };
        assert!(self.commits.begin_retry().is_none(), "one at a time");
        match (self.is_retry, succeeds) {
            (false, true) => {
                self.written += records.len();
                self.settled = self.settled.max(self.written);
                let (batch, expected) = (
                    self.commits.write_succeeded(records),
                    self.reference.write_succeeded(),
                );
                self.perform(now, batch, &expected);
            }
            (false, false) => self.fail(now, records),
            (true, false) => {
                self.commits.retry_failed(records);
                self.reference.retrying = None;
            }
            (true, true) => {
                self.written += records.len();
                let expected = self.reference.retry_succeeded(now);
                let batch = self.commits.retry_succeeded(&mut self.gate, now, records);
                self.perform(now, batch, &expected);
                // Deliveries that came during the retry are in front of what the step itself added.
                self.note_made(now, self.deliveries.len());
            }
        }
        self.release(now);
    }

    fn begin(&mut self) {
        if let Some(records) = self.commits.begin_retry() {
            self.reference.retry();
            (self.writing, self.is_retry) = (Some(records), true);
        } else {
            // Without records it is a check that the database is still there, which may fail as well.
            let records = self.commits.begin_write();
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
        self.perform(now, batch, &expected);
        let tables = look(&mut self.gate, now);
        for connection in tables.connections {
            assert!(
                self.accepted.contains(&connection.connection_id),
                "{connection:?} is in, and every offer of it was refused"
            );
        }
    }

    /// Ends with a disk that works, and checks that nothing is left.
    pub(super) fn end(mut self, now: Timestamp) -> u32 {
        // The last transition may have been left out, and its clock not been seen.
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
