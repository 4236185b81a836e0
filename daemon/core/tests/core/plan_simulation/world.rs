//! The gate's surroundings: clients, an SFU, operators, a disk, clocks.

use std::collections::BTreeMap;
use std::time::Duration;

use soramode_core::effect::{Action, Effects};
use soramode_core::fault::PlantedFault;
use soramode_core::gate::Gate;
use soramode_core::handles::{DeliveryId, ReplyHandle, SocketId, Timestamp};
use soramode_core::input::{HostState, Input, Subscribers};
use soramode_core::plan::calls::{SfuCall, SfuRequest};
use soramode_core::restore::{Seed, StartParams};
use soramode_core::settings::{
    MAX_CONNECTIONS_DEFAULT, PENDING_TIMEOUT_DEFAULT, SOCKET_GRACE_DEFAULT, Settings, SfuAdmission,
    SfuSettings,
};
use soramode_core::stored::Stored;
use soramode_protocol::decision::{
    Connect, Decision, Disconnect, Lifetime, Report, ReportedConnection,
};
use soramode_protocol::event::EventKind;
use soramode_protocol::id::{ConnectionId, NodeName};
use soramode_protocol::mode::Mode;
use soramode_protocol::node::{Status, Storage, StorageState};
use soramode_protocol::plan::{Plan, PlanHold, PlanOutcome, StartPlan};
use soramode_protocol::reply::Reply;
use soramode_protocol::request::GateRequest;
use soramode_protocol::time::Time;
use soramode_testkit::record_store::RecordStore;

use super::guarantees::{At, Client, Guarantees};
use super::naive::{Facts, Naive};
use super::reach::{Reaches, draw_means};
use crate::seeds::Rng;

const START: Time = Time::from_micros(1_795_377_600_000_000);
/// Limit of the number of times that deadlines of one moment are looked at.
const DEADLINES_MAX: usize = 100;

pub(super) const OPS: ReplyHandle = ReplyHandle {
    socket: SocketId(1),
    serial: 0,
};

pub(super) struct World {
    pub(super) fault: PlantedFault,
    pub(super) gate: Gate,
    pub(super) ledger: RecordStore,
    pub(super) settings: Settings,
    pub(super) rng: Rng,
    pub(super) now: Timestamp,
    pub(super) starts: u8,
    pub(super) step: u64,
    pub(super) clients: BTreeMap<ConnectionId, Client>,
    pub(super) last_client: u64,
    pub(super) calls: Vec<SfuCall>,
    /// The SFU's API refuses nearly every call, and subscribers leave before it.
    pub(super) refuses: bool,
    pub(super) subscribers: Subscribers,
    /// Attempts of deliveries that were not answered.
    pub(super) attempts: Vec<DeliveryId>,
    pub(super) reaches: Reaches,
    pub(super) storage_failed: bool,
    pub(super) guarantees: Guarantees,
    pub(super) naive: Option<Naive>,
    pub(super) last_start: Option<StartPlan>,
    pub(super) outcomes: [u64; 5],
    pub(super) cuts: u64,
    /// Steps of the gate after which a plan waits for means.
    pub(super) held: u64,
    /// Announcements that reached nobody.
    pub(super) unheard: u64,
    pub(super) trace: Vec<String>,
}

impl World {
    pub(super) fn new(seed: u64, fault: PlantedFault) -> Self {
        let mut rng = Rng(seed);
        let now = Timestamp {
            wall: START,
            boot: Duration::from_secs(1_000),
        };
        let settings = Settings {
            node_name: NodeName::new("node-01").unwrap(),
            cluster: None,
            mode: None,
            reconnect_grace: Duration::from_secs(rng.below(2) * 30),
            stall_after: Duration::from_mins(10),
            max_connections: MAX_CONNECTIONS_DEFAULT,
            pending_timeout: PENDING_TIMEOUT_DEFAULT,
            socket_grace: SOCKET_GRACE_DEFAULT,
            assume_complete: !rng.one_in(6),
            sfu: SfuSettings {
                means: draw_means(&mut rng),
                ..SfuSettings::default()
            },
            storage: Storage {
                state: StorageState::Ok,
                path: None,
            },
            receivers: Vec::new(),
        };
        let refuses = rng.one_in(4);
        let gate = restore(&settings, now, (Stored::default(), 1), fault);
        let mut world = Self {
            fault,
            gate,
            ledger: RecordStore::new(Stored::default()),
            settings,
            rng,
            now,
            starts: 1,
            step: 0,
            clients: BTreeMap::new(),
            last_client: 0,
            calls: Vec::new(),
            refuses,
            subscribers: Subscribers::default(),
            attempts: Vec::new(),
            reaches: Reaches::default(),
            storage_failed: false,
            guarantees: Guarantees::default(),
            naive: None,
            last_start: None,
            outcomes: [0; 5],
            cuts: 0,
            held: 0,
            unheard: 0,
            trace: Vec::new(),
        };
        world
            .input(Input::Started(HostState::Running), Facts::default())
            .unwrap();
        world
    }

    /// Something happens.
    pub(super) fn turn(&mut self) -> Result<(), String> {
        self.pass_time()?;
        match self.rng.below(45) {
            0..9 => self.connect(),
            9..12 => self.disconnect(),
            12 => self.rogue(),
            13..27 => self.answer_call(),
            27..31 => self.start_plan(),
            31 => self.cancel_plan(),
            32..34 => self.change_mode(),
            34 => self.end_or_announce(),
            35 => self.disk(),
            36 => self.set_clock(),
            37 => self.restart(),
            38 => self.repeat_start(),
            39 | 40 => self.subscribe(),
            41 => self.set_webhooks(),
            42 => self.answer_attempt(),
            // In the midst of an announcement, or of an end of sessions.
            43 if !self.calls.is_empty() => self.restart(),
            _ => self.input(Input::Tick, Facts::default()).map(drop),
        }
    }

    /// Time goes by. Mostly the gate is woken for its deadlines, now and then it oversleeps.
    fn pass_time(&mut self) -> Result<(), String> {
        let pause = match self.rng.below(10) {
            0..5 => Duration::from_secs(self.rng.below(3)),
            5..8 => Duration::from_secs(self.rng.below(30)),
            8 => Duration::from_secs(self.rng.below(600)),
            _ => Duration::from_millis(self.rng.below(1_000)),
        };
        let until = self.now.boot + pause;
        let oversleeps = self.rng.one_in(12);
        for _ in 0..500 {
            let deadline = self.gate.next_deadline();
            let Some(at) = deadline.filter(|at| *at <= until && !oversleeps) else {
                break;
            };
            self.pass(at.saturating_sub(self.now.boot));
            self.input(Input::Tick, Facts::default())?;
        }
        self.pass(until.saturating_sub(self.now.boot));
        Ok(())
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now.boot += time;
        self.now.wall = self.now.wall + time;
    }

    /// Gives an input to the gate, and checks everything after it.
    pub(super) fn input(&mut self, input: Input, mut facts: Facts) -> Result<Vec<Action>, String> {
        self.step += 1;
        let now = self.now;
        self.trace.push(format!("@{:?} {input:?}", now.boot));
        let effects = self.step_gate(input);
        self.gate.check()?;
        for record in &effects.records {
            self.trace.push(format!("    {record:?}"));
            self.ledger.read(record);
        }
        for action in &effects.actions {
            self.trace.push(format!("    {action:?}"));
        }
        let (status, plan) = self.look()?;
        self.take_facts(&mut facts, &effects, &status);
        if let Some(naive) = &mut self.naive
            && facts.started.is_none()
        {
            naive.step(now, &facts, &effects);
        }
        if let Some(mut started) = Naive::started(&facts, now) {
            started.step(now, &facts, &effects);
            self.naive = Some(started);
        }
        match (&self.naive, &plan) {
            (Some(naive), Some(plan)) => {
                naive.compare(now, &status, plan)?;
                self.held += u64::from(plan.held == Some(PlanHold::NoMeans));
            }
            (None, None) => {}
            (naive, plan) => {
                return Err(format!(
                    "a plan is {plan:?}, and is it? {}",
                    naive.is_some()
                ));
            }
        }
        self.take_actions(&effects, status.mode.mode)?;
        Ok(effects.actions)
    }

    /// Gives an input to the gate, and lets the deadlines fire that it sets to the past.
    pub(super) fn step_gate(&mut self, input: Input) -> Effects {
        let mut effects = self.gate.step(self.now, input);
        for _ in 0..DEADLINES_MAX {
            let next = self.gate.next_deadline();
            if next.is_none_or(|at| at > self.now.boot) {
                break;
            }
            self.gate.step_into(self.now, Input::Tick, &mut effects);
        }
        effects
    }

    pub(super) fn take_facts(&mut self, facts: &mut Facts, effects: &Effects, status: &Status) {
        for kind in effects.kinds() {
            match kind {
                EventKind::ModeChanged(change) if change.actor == "system:expired" => {
                    facts.system_opened = true;
                    self.guarantees.is_end_wanted = false;
                }
                EventKind::PlanOver(over) => {
                    self.guarantees.plan_over(&over.plan_id);
                    let outcomes = [
                        PlanOutcome::Done,
                        PlanOutcome::Cancelled,
                        PlanOutcome::Replaced,
                        PlanOutcome::Missed,
                        PlanOutcome::Failed,
                    ];
                    let place = outcomes.iter().position(|it| *it == over.outcome);
                    self.outcomes[place.unwrap()] += 1;
                }
                _ => {}
            }
        }
        if facts.operator_opened {
            self.guarantees.is_end_wanted = false;
        }
        if facts.started.is_some() {
            self.guarantees.is_end_wanted = true;
        }
        facts.mode = Some(status.mode.mode);
        facts.sessions = status.sessions;
        facts.is_complete = status.sessions_complete;
        facts.storage_failed = self.storage_failed;
        facts.is_shadow = self.settings.sfu.admission == SfuAdmission::Shadow;
        facts.means = self.means();
        self.reaches.began(effects, &self.settings.receivers);
        facts.reached_nobody = self.reached_nobody(effects);
        self.unheard += facts.reached_nobody.len() as u64;
        self.take_attempts(effects);
    }

    pub(super) fn take_actions(&mut self, effects: &Effects, mode: Mode) -> Result<(), String> {
        let at = At {
            now: self.now,
            step: self.step,
            mode,
            storage_failed: self.storage_failed,
            is_shadow: self.settings.sfu.admission == SfuAdmission::Shadow,
            means: self.means(),
            reaches: &self.reaches,
            naive: self.naive.as_ref(),
            clients: &self.clients,
        };
        for kind in effects.kinds() {
            if let EventKind::MaintenanceAnnounced(announced) = kind {
                self.guarantees.announced(announced, &at);
            }
        }
        for action in &effects.actions {
            let Action::Sfu(call) = action else { continue };
            self.guarantees.called(call, &at)?;
            self.cuts += u64::from(matches!(call.request, SfuRequest::Disconnect { .. }));
            self.calls.push((**call).clone());
        }
        Ok(())
    }

    /// The gate as it shows itself.
    pub(super) fn look(&mut self) -> Result<(Status, Option<Plan>), String> {
        let Reply::Status(status) = self.ask(GateRequest::GetStatus)? else {
            return Err("no status".to_owned());
        };
        let Reply::PlanFound(found) = self.ask(GateRequest::GetPlan)? else {
            return Err("no plan".to_owned());
        };
        Ok((*status, found.plan))
    }

    pub(super) fn ask(&mut self, request: GateRequest) -> Result<Reply, String> {
        let input = Input::Request {
            reply_to: OPS,
            actor: "observer".into(),
            request,
        };
        let mut effects = self.gate.step(self.now, input);
        match (effects.actions.pop(), effects.records.is_empty()) {
            (Some(Action::Answer(_, Ok(reply))), true) if effects.actions.is_empty() => Ok(reply),
            (other, _) => Err(format!("a look changes something: {other:?} {effects:?}")),
        }
    }

    pub(super) fn request(
        &mut self,
        request: GateRequest,
        facts: Facts,
    ) -> Result<Vec<Action>, String> {
        request.check().map_err(|error| error.to_string())?;
        let actor = "uid:1000(ops)".into();
        let input = Input::Request {
            reply_to: OPS,
            actor,
            request,
        };
        self.input(input, facts)
    }

    fn connect(&mut self) -> Result<(), String> {
        self.last_client += 1;
        let id: ConnectionId = format!("c{}", self.last_client).parse().unwrap();
        let channel = format!("x{}", self.rng.below(6));
        let connect = Connect {
            channel_id: channel.parse().unwrap(),
            connection_id: Some(id.clone()),
            client_id: None,
            lifetime: Lifetime::Explicit,
            hops: 0,
        };
        // An announcement of the same step goes to the client, too.
        let client = Client {
            channel: channel.parse().unwrap(),
            since: self.step + 1,
            is_rogue: false,
        };
        let actions = self.request(GateRequest::Connect(connect), Facts::default())?;
        let is_offer = |action: &Action| {
            matches!(
                action,
                Action::Answer(_, Ok(Reply::Decision(Decision::Offer { .. })))
            )
        };
        if actions.iter().any(is_offer) {
            self.clients.insert(id, client);
        }
        Ok(())
    }

    /// A client reaches the SFU past the gate, and is found.
    fn rogue(&mut self) -> Result<(), String> {
        self.last_client += 1;
        let id: ConnectionId = format!("c{}", self.last_client).parse().unwrap();
        let channel = format!("x{}", self.rng.below(8));
        let client = Client {
            channel: channel.parse().unwrap(),
            since: self.step + 1,
            is_rogue: true,
        };
        self.clients.insert(id, client);
        let connections = self.clients.iter().map(|(id, client)| ReportedConnection {
            channel_id: client.channel.clone(),
            connection_id: id.clone(),
            client_id: None,
            session_id: None,
        });
        let connections = connections.collect();
        let report = Report {
            connections,
            complete: self.rng.one_in(2),
        };
        self.request(GateRequest::Report(report), Facts::default())
            .map(drop)
    }

    fn disconnect(&mut self) -> Result<(), String> {
        let count = u64::try_from(self.clients.len()).unwrap();
        if count == 0 {
            return Ok(());
        }
        let place = usize::try_from(self.rng.below(count)).unwrap();
        let id = self.clients.keys().nth(place).unwrap().clone();
        self.leave(id)
    }

    fn leave(&mut self, id: ConnectionId) -> Result<(), String> {
        self.clients.remove(&id);
        let gone = Disconnect { connection_id: id };
        self.request(GateRequest::Disconnect(gone), Facts::default())
            .map(drop)
    }

    /// The SFU answers the oldest call, or another one.
    fn answer_call(&mut self) -> Result<(), String> {
        for _ in 0..=self.rng.below(4) {
            if self.calls.is_empty() {
                return Ok(());
            }
            let count = u64::try_from(self.calls.len()).unwrap();
            let place = usize::try_from(self.rng.below(count)).unwrap();
            let call = self.calls.remove(place);
            let outcome = self.outcome(&call)?;
            let is_done = outcome.problem().is_none();
            self.guarantees.answered(call.id);
            self.input(
                Input::SfuAnswered {
                    id: call.id,
                    outcome,
                },
                Facts::default(),
            )?;
            let ends = matches!(call.request, SfuRequest::Disconnect { .. });
            if ends && is_done && !self.rng.one_in(8) {
                let inside =
                    |client: &&ConnectionId| self.clients[*client].channel == call.channel_id;
                let inside: Vec<ConnectionId> =
                    self.clients.keys().filter(inside).cloned().collect();
                for id in inside {
                    self.leave(id)?;
                }
            }
        }
        Ok(())
    }
}

pub(super) fn restore(
    settings: &Settings,
    started: Timestamp,
    (stored, seed): (Stored, u8),
    fault: PlantedFault,
) -> Gate {
    let params = StartParams {
        settings: settings.clone(),
        started,
        stored,
    };
    let mut gate = Gate::restore(params, Seed([seed; 32]));
    gate.plant_plan_fault(fault);
    gate
}
