//! The gate as a whole: what it holds, how it starts, and the one way in.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use soramode_protocol::decision::RejectReason;
use soramode_protocol::error::Error;
use soramode_protocol::event::{Event, EventKind};
use soramode_protocol::id::{EventId, NodeName};
use soramode_protocol::mode::{DatedModeChange, MODE_CHANGES_KEPT, Mode, ModeState};
use soramode_protocol::node::{Standing, StorageState};
use soramode_protocol::reply::{Answer, Reply};
use soramode_protocol::request::GateRequest;

use crate::effect::{Act, Effects, Record};
use crate::index::Hashing;
use crate::input::{Input, SocketId, Ticket, Timestamp};
use crate::known::Known;
use crate::sessions::Sessions;
use crate::slab::Slot;
use crate::snapshot::{Clustering, Seed, Settings, Snapshot};
use crate::timers::{Timer, Timers};
use crate::tombstones::Tombstones;
use crate::waits::Waits;

/// How many deadlines that have come one step looks at, so that many at once do not hold up what else is waiting.
const TIMERS_PER_STEP: usize = 256;

/// The gate.
pub struct Gate {
    pub(crate) settings: Settings,
    pub(crate) node_name: Arc<NodeName>,
    pub(crate) started: Timestamp,
    pub(crate) mode: ModeState,
    pub(crate) mode_changes: VecDeque<DatedModeChange>,
    /// The last generation that let new sessions in, or that no operator set.
    pub(crate) opened_generation: u64,
    pub(crate) standing: Standing,
    pub(crate) storage: StorageState,
    pub(crate) sessions: Sessions,
    pub(crate) known: Known,
    /// The last session left a blocked node before the sessions were known: `session.vanished` waits for that.
    pub(crate) vanished_held: bool,
    pub(crate) sessions_ended: u64,
    pub(crate) rejected: BTreeMap<RejectReason, u64>,
    /// Connections that a report which is under way has named, or that came since it began; by the socket that reports.
    pub(crate) reports: BTreeMap<SocketId, BTreeSet<Slot>>,
    pub(crate) tombstones: Tombstones,
    pub(crate) timers: Timers,
    pub(crate) waits: Waits,
    next_seq: u64,
    random: ChaCha8Rng,
}

impl Gate {
    /// Starts. `seed` is fresh from the system, never stored.
    pub fn restore(snapshot: Snapshot, seed: Seed) -> Self {
        let Snapshot { settings, started, mode, mode_changes, next_seq } = snapshot;
        let mut random = ChaCha8Rng::from_seed(seed.0);
        let hashing = Hashing::new(random.next_u64(), random.next_u64());
        let mode = start_mode(&settings, mode, started);
        let mut gate = Self {
            node_name: Arc::new(settings.node_name.clone()),
            started,
            opened_generation: opened_generation(&mode, &mode_changes),
            mode_changes: mode_changes.into(),
            mode,
            standing: match settings.clustering {
                Clustering::Standalone => Standing::Standalone,
                Clustering::Clustered => Standing::Fenced,
            },
            storage: settings.storage.state,
            sessions: Sessions::new(hashing),
            known: Known::new(&settings),
            vanished_held: false,
            sessions_ended: 0,
            rejected: BTreeMap::new(),
            reports: BTreeMap::new(),
            tombstones: Tombstones::default(),
            timers: Timers::default(),
            waits: Waits::default(),
            next_seq,
            random,
            settings,
        };
        if let Some(expires_at) = gate.mode.expires_at {
            gate.timers.set(Timer::Expiry, started.boot + expires_at.since(started.wall));
        }
        gate.begin_polls();
        gate
    }

    /// Takes in what happened. Deadlines that have come by `now` come first.
    pub fn step(&mut self, now: Timestamp, input: Input) -> Effects {
        let mut effects = Effects::default();
        self.step_into(now, input, &mut effects);
        effects
    }

    /// The same, with the effects behind those of the steps before it: for whoever commits many steps at once.
    pub fn step_into(&mut self, now: Timestamp, input: Input, effects: &mut Effects) {
        let mut turn = Turn { now, effects: std::mem::take(effects) };
        self.fire_due(&mut turn);
        match input {
            Input::Ask { ticket, actor, request } => {
                if let Some(answer) = self.ask(&mut turn, Asked { ticket, actor, request }) {
                    turn.effects.acts.push(Act::Answer(ticket, answer));
                }
            }
            Input::Gone(socket) => self.socket_gone(&turn, socket),
            Input::Tick => {}
            Input::Cluster(membership) => self.cluster(&mut turn, membership),
            Input::StorageFailed => self.storage_failed(&mut turn),
            Input::StorageRestored => self.storage_restored(&mut turn),
            Input::Sora(input) => self.sora(&mut turn, input),
        }
        self.settle_waits(&mut turn);
        *effects = turn.effects;
    }

    /// When the next deadline comes, by the boot clock. One that lies in the past wants a [`Input::Tick`] at once.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.timers.next()
    }

    fn ask(&mut self, turn: &mut Turn, asked: Asked) -> Option<Answer> {
        let Asked { ticket, actor, request } = asked;
        let answer = match request {
            GateRequest::GetMode => Ok(Reply::Mode(Box::new(self.mode.clone()))),
            GateRequest::ChangeMode(change) => self.change_mode(turn, *change, &actor),
            GateRequest::GetStatus => Ok(Reply::Status(Box::new(self.status(turn.now)))),
            GateRequest::ListClusterNodes => Ok(Reply::ClusterNodes(self.list_cluster_nodes())),
            GateRequest::ListModeChanges(list) => Ok(Reply::ModeChanges(self.list_mode_changes(&list))),
            GateRequest::Connect(connect) => self.connect(turn, ticket, connect).map(Reply::Decision),
            GateRequest::Report(report) => Ok(Reply::Reported(self.report(turn, ticket.socket, report))),
            GateRequest::Disconnect(gone) => Ok(Reply::Disconnected(self.disconnect(turn, &gone))),
            GateRequest::End(end) => match self.sessions_to_end(&end) {
                Ok(sessions) => {
                    turn.effects.acts.push(Act::End { ticket, actor, sessions });
                    return None;
                }
                Err(error) => Err(error),
            },
            GateRequest::Explain(explain) => Ok(Reply::Explanation(Box::new(self.explain(explain)))),
            GateRequest::List(list) => self.list(&list).map(Reply::Page),
            GateRequest::Wait(wait) => return self.wait(turn, ticket, *wait),
        };
        Some(answer)
    }

    fn fire_due(&mut self, turn: &mut Turn) {
        for _ in 0..TIMERS_PER_STEP {
            let Some(timer) = self.timers.take_due(turn.now.boot) else { return };
            match timer {
                Timer::Expiry => self.mode_expired(turn),
                Timer::Poll => self.want_poll(turn),
                Timer::Pending(slot) => self.pending_over(turn, slot, soramode_protocol::event::EndReason::Timeout),
                Timer::Grace(socket) => self.grace_over(turn, socket),
                Timer::Linger(session) => self.destroy_session(turn, session),
                Timer::Settled(wait) => self.wait_settled(turn, wait),
                Timer::GiveUp(wait) => self.wait_timed_out(turn, wait),
                Timer::Progress(wait) => self.wait_progress(turn, wait),
            }
            // A wait goes by what came before its own deadline, also where this step comes late for both.
            self.settle_waits(turn);
        }
    }

    fn storage_failed(&mut self, turn: &mut Turn) {
        self.storage = StorageState::Failed;
        self.switch_mode(turn, Mode::BlockNewConnection, "system:storage");
    }

    fn storage_restored(&mut self, turn: &mut Turn) {
        self.storage = self.settings.storage.state;
        // An expiry that came meanwhile could not open the gate.
        if self.mode.expires_at.is_some() && !self.timers.is_set(Timer::Expiry) {
            self.mode_expired(turn);
        }
    }

    /// Writes an event to the log.
    pub(crate) fn emit(&mut self, turn: &mut Turn, kind: EventKind) {
        let event = Event {
            seq: self.next_seq,
            id: EventId::generate(self.random_bytes()),
            kind,
            timestamp: turn.now.wall,
            node_name: Arc::clone(&self.node_name),
        };
        self.next_seq += 1;
        turn.effects.records.push(Record::Event(event));
    }

    /// Remembers a change of the mode for `ListModeChanges`.
    pub(crate) fn remember_change(&mut self, change: DatedModeChange) {
        if self.mode_changes.len() >= MODE_CHANGES_KEPT {
            self.mode_changes.pop_front();
        }
        self.mode_changes.push_back(change);
    }

    pub(crate) fn random_bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.random.fill_bytes(&mut bytes);
        bytes
    }
}

/// One step: its time, and what it wants done so far.
pub(crate) struct Turn {
    pub(crate) now: Timestamp,
    pub(crate) effects: Effects,
}

struct Asked {
    ticket: Ticket,
    actor: Arc<str>,
    request: GateRequest,
}

/// The mode at the start: the one that the operator says, else the stored one, as far as the cluster leaves it.
fn start_mode(settings: &Settings, stored: Option<ModeState>, started: Timestamp) -> ModeState {
    let stored_mode = stored.as_ref().map(|state| state.mode);
    let mode = match (settings.mode.map(Mode::from), stored_mode, settings.clustering) {
        (Some(said), _, Clustering::Standalone) => said,
        (None, Some(stored), Clustering::Standalone) if stored != Mode::Initial => stored,
        (None, _, Clustering::Standalone) => Mode::Normal,
        (Some(mode), _, Clustering::Clustered) | (None, Some(mode), Clustering::Clustered) if mode.is_block() => mode,
        (_, _, Clustering::Clustered) => Mode::Initial,
    };
    match stored {
        Some(state) if state.mode == mode => state,
        Some(ModeState { generation, .. }) => start_state(mode, generation + 1, started),
        None => start_state(mode, 1, started),
    }
}

/// The last generation in which the node was not closed by an operator, as far as the history goes back.
fn opened_generation(now: &ModeState, changes: &[DatedModeChange]) -> u64 {
    if !now.mode.is_block() {
        return now.generation;
    }
    let opened = changes.iter().rev().find_map(|DatedModeChange { change, .. }| match (change.previous_mode, change.mode) {
        (_, mode) if !mode.is_block() => Some(change.generation),
        (previous, _) if !previous.is_block() => Some(change.generation.saturating_sub(1)),
        _ => None,
    });
    opened.unwrap_or(0)
}

fn start_state(mode: Mode, generation: u64, started: Timestamp) -> ModeState {
    ModeState { mode, generation, since: started.wall, actor: "system:start".to_owned(), reason: None, expires_at: None, own_mode: None }
}

/// What the gate may refuse with an error.
pub(crate) type Refusable<T> = Result<T, Error>;
