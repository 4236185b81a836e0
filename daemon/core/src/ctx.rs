//! Context of one step: its time, its effects so far, and the services that every part of the gate shares.

use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use soramode_protocol::event::{Event, EventKind};
use soramode_protocol::id::{EventId, NodeName};
use soramode_protocol::reply::Answer;

use crate::effect::{Action, Effects, Record};
use crate::handles::{ReplyHandle, Timestamp};
use crate::member::etcd::EtcdRequest;
use crate::timers::Timers;

/// Context of one step.
pub(crate) struct Ctx<'a> {
    pub(crate) now: Timestamp,
    /// Effects of the step, behind those of the steps before it.
    pub(crate) effects: &'a mut Effects,
    pub(crate) timers: &'a mut Timers,
    pub(crate) random: &'a mut Random,
    numbering: &'a mut EventNumbering,
    /// Index of the first record that the outbox has not seen.
    new_records: usize,
}

impl Ctx<'_> {
    /// Appends an event to the log.
    pub(crate) fn emit(&mut self, kind: EventKind) {
        let event = Event {
            seq: self.numbering.next_seq,
            id: EventId::generate(self.random.bytes()),
            kind,
            timestamp: self.now.wall,
            node_name: Arc::clone(&self.numbering.node_name),
        };
        self.numbering.next_seq += 1;
        self.record(Record::Event(event));
    }

    /// Returns the events since the last call that pass a filter.
    pub(crate) fn take_new_events(
        &mut self,
        mut filter: impl FnMut(&EventKind) -> bool,
    ) -> Vec<Event> {
        let records = self.effects.records.get(self.new_records..);
        self.new_records = self.effects.records.len();
        records
            .unwrap_or_default()
            .iter()
            .filter_map(Record::event)
            .filter(|event| filter(&event.kind))
            .cloned()
            .collect()
    }

    pub(crate) fn record(&mut self, record: Record) {
        self.effects.records.push(record);
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.effects.actions.push(action);
    }

    pub(crate) fn bug(&mut self, what: &'static str) {
        bug(&mut self.effects.actions, what);
    }

    pub(crate) fn answer(&mut self, reply_to: ReplyHandle, answer: Answer) {
        self.act(Action::Answer(reply_to, answer));
    }

    pub(crate) fn request_etcd(&mut self, request: EtcdRequest) {
        self.act(Action::Etcd(Box::new(request)));
    }
}

/// Reports a state that must not occur. Tests end with it; a release goes on, for an SFU rejects every client while its daemon is down.
pub(crate) fn bug(actions: &mut Vec<Action>, what: &'static str) {
    if cfg!(debug_assertions) {
        unreachable!("{what}");
    }
    actions.push(Action::Bug(what));
}

/// Services that every part of the gate shares.
pub(crate) struct Services {
    pub(crate) timers: Timers,
    pub(crate) random: Random,
    numbering: EventNumbering,
}

impl Services {
    pub(crate) fn new(random: Random, node_name: NodeName, next_seq: u64) -> Self {
        Self {
            timers: Timers::default(),
            random,
            numbering: EventNumbering {
                next_seq,
                node_name: Arc::new(node_name),
            },
        }
    }

    /// Begins a step.
    pub(crate) const fn begin<'a>(
        &'a mut self,
        now: Timestamp,
        effects: &'a mut Effects,
    ) -> Ctx<'a> {
        Ctx {
            now,
            new_records: effects.records.len(),
            effects,
            timers: &mut self.timers,
            random: &mut self.random,
            numbering: &mut self.numbering,
        }
    }
}

/// Random numbers, which follow from the seed of the start.
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha8Rng::from_seed(seed))
    }

    /// Returns bytes for an id.
    pub(crate) fn bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// Number of the next event, and the node that all of them name.
struct EventNumbering {
    next_seq: u64,
    node_name: Arc<NodeName>,
}
