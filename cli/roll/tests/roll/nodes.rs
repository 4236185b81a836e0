//! Nodes of the simulation: a gate each, its stored records, and the invariants of each close.

use std::collections::BTreeMap;
use std::time::Duration;

use soramode_core::effect::Action;
use soramode_core::fault::PlantedFault;
use soramode_core::gate::Gate;
use soramode_core::handles::{ReplyHandle, SocketId, Timestamp};
use soramode_core::input::{HostState, Input};
use soramode_core::restore::{Seed, StartParams};
use soramode_core::settings::{
    MAX_CONNECTIONS_DEFAULT, PENDING_TIMEOUT_DEFAULT, SOCKET_GRACE_DEFAULT, STALL_AFTER_DEFAULT,
    Settings, SfuSettings,
};
use soramode_core::stored::Stored;
use soramode_protocol::event::EventKind;
use soramode_protocol::id::{NodeName, RollId};
use soramode_protocol::mode::{Mode, ModeChange};
use soramode_protocol::node::{Status, Storage, StorageState};
use soramode_protocol::reply::{Answer, Reply};
use soramode_protocol::request::GateRequest;
use soramode_protocol::reservation::RollStep;
use soramode_protocol::time::Time;
use soramode_testkit::record_store::RecordStore;

const START: Time = Time::from_micros(1_795_377_600_000_000);

/// Promise of a roll to its operator.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    pub(crate) hosts: Vec<usize>,
    pub(crate) keep_open: usize,
}

struct Node {
    gate: Gate,
    records: RecordStore,
    starts: u8,
    /// Number of reboots of its host.
    reboots: u32,
    /// Number of reboots when a roll's command was about to run, or ended.
    reboots_at_step: BTreeMap<RollId, u32>,
}

/// All nodes.
pub(crate) struct Nodes {
    all: Vec<Node>,
    fault: PlantedFault,
    /// Promises of all rolls.
    pub(crate) promises: BTreeMap<RollId, Promise>,
    pub(crate) closes: u64,
    pub(crate) last_start: Duration,
    serial: u64,
}

pub(crate) fn timestamp(now: Duration) -> Timestamp {
    Timestamp {
        wall: START + now,
        boot: Duration::from_secs(1_000) + now,
    }
}

impl Nodes {
    pub(crate) fn new(count: usize, fault: PlantedFault) -> Self {
        let mut nodes = Self {
            all: Vec::new(),
            fault,
            promises: BTreeMap::new(),
            closes: 0,
            last_start: Duration::ZERO,
            serial: 0,
        };
        for _ in 0..count {
            let records = RecordStore::new(Stored::default());
            let gate = nodes.restore(Duration::ZERO, records.stored(), 1);
            nodes.all.push(Node {
                gate,
                records,
                starts: 1,
                reboots: 0,
                reboots_at_step: BTreeMap::new(),
            });
        }
        for node in 0..count {
            let started = Input::Started(HostState::Running);
            nodes.step(Duration::ZERO, node, started).unwrap();
        }
        nodes
    }

    fn restore(&self, now: Duration, stored: Stored, seed: u8) -> Gate {
        let settings = Settings {
            node_name: NodeName::new("node").unwrap(),
            cluster: None,
            mode: None,
            reconnect_grace: Duration::ZERO,
            stall_after: STALL_AFTER_DEFAULT,
            max_connections: MAX_CONNECTIONS_DEFAULT,
            pending_timeout: PENDING_TIMEOUT_DEFAULT,
            socket_grace: SOCKET_GRACE_DEFAULT,
            assume_complete: true,
            sfu: SfuSettings::default(),
            storage: Storage {
                state: StorageState::Ok,
                path: None,
            },
            receivers: Vec::new(),
        };
        let params = StartParams {
            settings,
            started: timestamp(now),
            stored,
        };
        let mut gate = Gate::restore(params, Seed([seed; 32]));
        gate.plant_reservation_fault(self.fault);
        gate
    }

    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// Returns the number of starts of a node's daemon.
    pub(crate) fn starts(&self, node: usize) -> u8 {
        self.all[node].starts
    }

    /// The daemon of a node starts anew, with what it has stored.
    pub(crate) fn restart(
        &mut self,
        now: Duration,
        node: usize,
        host: HostState,
    ) -> Result<(), String> {
        self.last_start = now;
        let starts = self.all[node].starts.wrapping_add(1);
        let stored = self.all[node].records.stored();
        let gate = self.restore(now, stored, starts);
        (self.all[node].gate, self.all[node].starts) = (gate, starts);
        self.all[node].reboots += u32::from(host == HostState::Rebooted);
        self.step(now, node, Input::Started(host)).map(drop)
    }

    /// Lets the deadlines of all nodes fire.
    pub(crate) fn tick(&mut self, now: Duration) -> Result<(), String> {
        for node in 0..self.all.len() {
            let is_due = |at: Duration| at <= timestamp(now).boot;
            if self.all[node].gate.next_deadline().is_some_and(is_due) {
                self.step(now, node, Input::Tick)?;
            }
        }
        Ok(())
    }

    /// Returns when the next deadline of a node comes.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let deadlines = self.all.iter().filter_map(|it| it.gate.next_deadline());
        let next = deadlines.min()?;
        Some(next.saturating_sub(Duration::from_secs(1_000)))
    }

    /// A request arrives. Standalone nodes answer at once.
    pub(crate) fn request(
        &mut self,
        now: Duration,
        node: usize,
        request: GateRequest,
    ) -> Result<Answer, String> {
        request.check().map_err(|error| error.to_string())?;
        let at_step = match &request {
            GateRequest::Reserve(it) => match it.step {
                Some(RollStep::Command) if it.seconds.is_some() => Some(it.roll.clone()),
                Some(RollStep::CommandEnded) => Some(it.roll.clone()),
                _ => None,
            },
            _ => None,
        };
        self.serial += 1;
        let reply_to = ReplyHandle {
            socket: SocketId(1),
            serial: self.serial,
        };
        let input = Input::Request {
            reply_to,
            actor: "uid:1000(ops)".into(),
            request,
        };
        let actions = self.step(now, node, input)?;
        let answer = actions.into_iter().find_map(|action| match action {
            Action::Answer(to, answer) if to == reply_to => Some(answer),
            _ => None,
        });
        let answer = answer.ok_or_else(|| "no answer".to_owned())?;
        if let Some(roll) = at_step.filter(|_| answer.is_ok()) {
            let node = &mut self.all[node];
            node.reboots_at_step.insert(roll, node.reboots);
        }
        Ok(answer)
    }

    /// Returns whether the host of a node has rebooted since a roll's command was about to run there, or ended.
    pub(crate) fn has_rebooted(&self, node: usize, roll: &RollId) -> bool {
        let node = &self.all[node];
        let before = node.reboots_at_step.get(roll);
        before.is_some_and(|before| node.reboots > *before)
    }

    pub(crate) fn status(&mut self, now: Duration, node: usize) -> Box<Status> {
        match self.request(now, node, GateRequest::GetStatus) {
            Ok(Ok(Reply::Status(status))) => status,
            other => panic!("no status: {other:?}"),
        }
    }

    fn step(&mut self, now: Duration, node: usize, input: Input) -> Result<Vec<Action>, String> {
        let it = &mut self.all[node];
        let effects = it.gate.step(timestamp(now), input);
        let mut changes = Vec::new();
        for record in &effects.records {
            it.records.read(record);
            if let Some(EventKind::ModeChanged(change)) = record.event().map(|event| &event.kind) {
                changes.push(change.clone());
            }
        }
        for change in changes {
            self.check_close(now, node, &change)?;
        }
        Ok(effects.actions)
    }

    /// Checks the invariants I1 and I2 at a close: enough others are open, and the roll has closed no other node.
    fn check_close(
        &mut self,
        now: Duration,
        node: usize,
        change: &ModeChange,
    ) -> Result<(), String> {
        let closes = change.mode.is_block() && !change.previous_mode.is_block();
        let Some(roll) = change.roll.as_ref().filter(|_| closes) else {
            return Ok(());
        };
        self.closes += 1;
        let promise = self.promises[roll].clone();
        let others = promise.hosts.iter().filter(|host| **host != node);
        let mut open = 0;
        for &host in others {
            let mode = self.mode(now, host);
            if mode.0 == Mode::Normal {
                open += 1;
            } else if mode.1.as_ref() == Some(roll) {
                return Err(format!("I1: {roll} closes {node} while {host} is closed"));
            }
        }
        if open < promise.keep_open {
            return Err(format!(
                "I2: {roll} closes {node} while {open} others are open, not {}",
                promise.keep_open
            ));
        }
        Ok(())
    }

    fn mode(&mut self, now: Duration, node: usize) -> (Mode, Option<RollId>) {
        let mode = self.status(now, node).mode;
        (mode.mode, mode.roll)
    }

    /// Checks I4: no reservation outlasts its roll by more than its time, counted anew from the last start of a daemon.
    pub(crate) fn check_none_reserved(&mut self, now: Duration) -> Result<(), String> {
        for node in 0..self.all.len() {
            let reservation = self.status(now, node).reservation;
            if let Some(it) = reservation.filter(|it| it.is_current()) {
                return Err(format!("I4: {node} is still reserved for {}", it.roll));
            }
        }
        Ok(())
    }
}
