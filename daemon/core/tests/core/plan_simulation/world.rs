//! What is around the gate: clients, an SFU, operators, a disk, clocks.

use std::collections::BTreeMap;
use std::time::Duration;

use soramode_core::effect::{Action, Effects};
use soramode_core::gate::Gate;
use soramode_core::input::{HostState, Input, ReplyHandle, SocketId, Timestamp};
use soramode_core::plan::calls::{SfuCall, SfuFailure, SfuOutcome, SfuRequest};
use soramode_core::snapshot::{
    MAX_CONNECTIONS_DEFAULT, PENDING_TIMEOUT_DEFAULT, SOCKET_GRACE_DEFAULT, Seed, Settings,
    SoraAdmission, SoraSettings, StartParams, Stored,
};
use soramode_protocol::announce::Announce;
use soramode_protocol::decision::{
    Connect, Decision, Disconnect, Lifetime, Report, ReportedConnection,
};
use soramode_protocol::end::End;
use soramode_protocol::event::EventKind;
use soramode_protocol::id::{ConnectionId, NodeName};
use soramode_protocol::mode::{ChangeMode, Mode, SettableMode};
use soramode_protocol::node::{Status, Storage, StorageState};
use soramode_protocol::plan::{
    CancelPlan, EndRate, Plan, PlanOutcome, PlanStep, RISK_OF_END, StartPlan,
};
use soramode_protocol::reply::Reply;
use soramode_protocol::request::GateRequest;
use soramode_protocol::time::Time;
use soramode_testkit::record_store::RecordStore;

use super::guarantees::{At, Client, Guarantees, RATE};
use super::naive::{Facts, Naive};
use crate::dice::Dice;

const START: Time = Time::from_micros(1_795_377_600_000_000);
const OPS: ReplyHandle = ReplyHandle {
    socket: SocketId(1),
    serial: 0,
};

pub(super) struct World {
    gate: Gate,
    ledger: RecordStore,
    settings: Settings,
    pub(super) dice: Dice,
    now: Timestamp,
    starts: u8,
    step: u64,
    clients: BTreeMap<ConnectionId, Client>,
    last_client: u64,
    calls: Vec<SfuCall>,
    has_means: bool,
    storage_failed: bool,
    guarantees: Guarantees,
    naive: Option<Naive>,
    last_start: Option<StartPlan>,
    pub(super) outcomes: [u64; 5],
    pub(super) cuts: u64,
    pub(super) trace: Vec<String>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let now = Timestamp {
            wall: START,
            boot: Duration::from_secs(1_000),
        };
        let settings = Settings {
            node_name: NodeName::new("node-01").unwrap(),
            cluster: None,
            mode: None,
            reconnect_grace: Duration::from_secs(dice.roll(2) * 30),
            stall_after: Duration::from_mins(10),
            max_connections: MAX_CONNECTIONS_DEFAULT,
            pending_timeout: PENDING_TIMEOUT_DEFAULT,
            socket_grace: SOCKET_GRACE_DEFAULT,
            assume_complete: !dice.one_in(6),
            sora: SoraSettings::default(),
            storage: Storage {
                state: StorageState::Ok,
                path: None,
            },
            webhooks: Vec::new(),
        };
        let has_means = !dice.one_in(8);
        let gate = restore(&settings, now, Stored::default(), 1);
        let mut world = Self {
            gate,
            ledger: RecordStore::new(Stored::default()),
            settings,
            dice,
            now,
            starts: 1,
            step: 0,
            clients: BTreeMap::new(),
            last_client: 0,
            calls: Vec::new(),
            has_means,
            storage_failed: false,
            guarantees: Guarantees::default(),
            naive: None,
            last_start: None,
            outcomes: [0; 5],
            cuts: 0,
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
        match self.dice.roll(40) {
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
            _ => self.input(Input::Tick, Facts::default()).map(drop),
        }
    }

    /// Time goes by. Mostly the gate is woken for its deadlines, now and then it oversleeps.
    fn pass_time(&mut self) -> Result<(), String> {
        let pause = match self.dice.roll(10) {
            0..5 => Duration::from_secs(self.dice.roll(3)),
            5..8 => Duration::from_secs(self.dice.roll(30)),
            8 => Duration::from_secs(self.dice.roll(600)),
            _ => Duration::from_millis(self.dice.roll(1_000)),
        };
        let until = self.now.boot + pause;
        let oversleeps = self.dice.one_in(12);
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

    fn pass(&mut self, time: Duration) {
        self.now.boot += time;
        self.now.wall = self.now.wall + time;
    }

    /// Gives an input to the gate, and checks everything after it.
    fn input(&mut self, input: Input, mut facts: Facts) -> Result<Vec<Action>, String> {
        self.step += 1;
        let now = self.now;
        self.trace.push(format!("@{:?} {input:?}", now.boot));
        let is_start = matches!(input, Input::Started(_));
        let mut effects = self.gate.step(now, input);
        if is_start {
            // Deadlines that came meanwhile.
            self.gate.step_into(now, Input::Tick, &mut effects);
        }
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
            (Some(naive), Some(plan)) => naive.compare(now, status.mode.mode, plan)?,
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

    fn take_facts(&mut self, facts: &mut Facts, effects: &Effects, status: &Status) {
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
        facts.is_shadow = self.settings.sora.admission == SoraAdmission::Shadow;
    }

    fn take_actions(&mut self, effects: &Effects, mode: Mode) -> Result<(), String> {
        for action in &effects.actions {
            let Action::Sfu(call) = action else { continue };
            self.guarantees.called(
                call,
                &At {
                    now: self.now,
                    step: self.step,
                    mode,
                    storage_failed: self.storage_failed,
                    is_shadow: self.settings.sora.admission == SoraAdmission::Shadow,
                    naive: self.naive.as_ref(),
                    clients: &self.clients,
                },
            )?;
            self.cuts += u64::from(matches!(call.request, SfuRequest::Disconnect { .. }));
            self.calls.push((**call).clone());
        }
        Ok(())
    }

    /// The gate as it shows itself.
    fn look(&mut self) -> Result<(Status, Option<Plan>), String> {
        let Reply::Status(status) = self.ask(GateRequest::GetStatus)? else {
            return Err("no status".to_owned());
        };
        let Reply::PlanFound(found) = self.ask(GateRequest::GetPlan)? else {
            return Err("no plan".to_owned());
        };
        Ok((*status, found.plan))
    }

    fn ask(&mut self, request: GateRequest) -> Result<Reply, String> {
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

    fn request(&mut self, request: GateRequest, facts: Facts) -> Result<Vec<Action>, String> {
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
        let channel = format!("x{}", self.dice.roll(6));
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
        let channel = format!("x{}", self.dice.roll(8));
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
            complete: self.dice.one_in(2),
        };
        self.request(GateRequest::Report(report), Facts::default())
            .map(drop)
    }

    fn disconnect(&mut self) -> Result<(), String> {
        let count = u64::try_from(self.clients.len()).unwrap();
        if count == 0 {
            return Ok(());
        }
        let place = usize::try_from(self.dice.roll(count)).unwrap();
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
        for _ in 0..1 + self.dice.roll(4) {
            if self.calls.is_empty() {
                return Ok(());
            }
            let count = u64::try_from(self.calls.len()).unwrap();
            let place = usize::try_from(self.dice.roll(count)).unwrap();
            let call = self.calls.remove(place);
            let api = match self.dice.roll(12) {
                _ if !self.has_means => None,
                0 => Some(Err(SfuFailure::Refused("as it said".to_owned()))),
                1 => Some(Err(SfuFailure::Unreachable("no answer".to_owned()))),
                _ => Some(Ok(())),
            };
            let is_done = matches!(api, Some(Ok(())));
            let outcome = SfuOutcome {
                api,
                subscribers: 0,
            };
            self.guarantees.answered(call.id);
            self.input(
                Input::SfuAnswered {
                    id: call.id,
                    outcome,
                },
                Facts::default(),
            )?;
            let ends = matches!(call.request, SfuRequest::Disconnect { .. });
            if ends && is_done && !self.dice.one_in(8) {
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

    fn start_plan(&mut self) -> Result<(), String> {
        let mut start = StartPlan::now(self.steps());
        let dice = &mut self.dice;
        if dice.one_in(3) {
            let ahead = Duration::from_secs(dice.roll(900));
            start.at = Some(self.now.wall + ahead);
        }
        start.accept_risk = Some(RISK_OF_END.to_owned());
        start.max_delay_seconds = Some(60 + dice.roll(600));
        start.replace = dice.one_in(2);
        self.last_start = Some(start.clone());
        self.start(start)
    }

    /// The same command again changes nothing.
    fn repeat_start(&mut self) -> Result<(), String> {
        let runs = self
            .naive
            .as_ref()
            .is_some_and(|naive| naive.over.is_none());
        match self.last_start.clone().filter(|_| runs) {
            Some(start) => self.start(start),
            None => Ok(()),
        }
    }

    fn start(&mut self, start: StartPlan) -> Result<(), String> {
        self.input(Input::Tick, Facts::default())?;
        // The gate says whether it is started; what follows is compared.
        let mut trial = Facts::default();
        let now = self.now;
        self.step += 1;
        self.trace.push(format!("@{:?} {start:?}", now.boot));
        let before = self.look()?;
        let effects = self.gate.step(
            now,
            Input::Request {
                reply_to: OPS,
                actor: "uid:1000(ops)".into(),
                request: GateRequest::StartPlan(Box::new(start.clone())),
            },
        );
        for record in &effects.records {
            self.trace.push(format!("    {record:?}"));
            self.ledger.read(record);
        }
        for action in &effects.actions {
            self.trace.push(format!("    {action:?}"));
        }
        let started = effects.actions.iter().find_map(|action| match action {
            Action::Answer(_, Ok(Reply::PlanStarted(started))) => Some(started.as_ref()),
            _ => None,
        });
        match started {
            Some(started) if started.created => {
                trial.started = Some((started.plan.id.clone(), start));
            }
            Some(started) => {
                let is_same = before.1.as_ref() == Some(&started.plan);
                if !is_same && before.1.as_ref().is_some_and(|plan| plan.outcome.is_some()) {
                    return Err(format!("5: the same plan is another: {started:?}"));
                }
            }
            None => {}
        }
        let (status, plan) = self.look()?;
        self.take_facts(&mut trial, &effects, &status);
        if let Some(mut naive) = Naive::started(&trial, now) {
            naive.step(now, &trial, &effects);
            self.naive = Some(naive);
        } else if let Some(naive) = &mut self.naive {
            naive.step(now, &trial, &effects);
        }
        if let (Some(naive), Some(plan)) = (&self.naive, &plan) {
            naive.compare(now, status.mode.mode, plan)?;
        }
        self.take_actions(&effects, status.mode.mode)
    }

    fn steps(&mut self) -> Vec<PlanStep> {
        let dice = &mut self.dice;
        let mut steps = Vec::new();
        let mut at = 0;
        if dice.one_in(3) {
            let at_seconds = -1 - i64::try_from(dice.roll(60)).unwrap();
            steps.push(PlanStep::Unready { at_seconds });
        }
        let mode = if dice.one_in(3) {
            SettableMode::BlockNewConnection
        } else {
            SettableMode::BlockNewSession
        };
        steps.push(PlanStep::Mode {
            at_seconds: 0,
            mode,
        });
        if dice.one_in(3) {
            at += i64::try_from(dice.roll(60)).unwrap();
            steps.push(PlanStep::Mode {
                at_seconds: at,
                mode: SettableMode::BlockNewConnection,
            });
        }
        for _ in 0..dice.roll(3) {
            at += i64::try_from(dice.roll(60)).unwrap();
            steps.push(PlanStep::Announce {
                at_seconds: at,
                text: None,
                data: None,
            });
        }
        if !dice.one_in(4) {
            at += i64::try_from(dice.roll(60)).unwrap();
            steps.push(PlanStep::End {
                at_seconds: at,
                per_minute: Some(EndRate::PerMinute(u32::try_from(RATE).unwrap())),
            });
        }
        steps
    }

    fn cancel_plan(&mut self) -> Result<(), String> {
        let runs = self
            .naive
            .as_ref()
            .is_some_and(|naive| naive.over.is_none());
        let facts = Facts {
            cancelled: runs,
            ..Facts::default()
        };
        self.request(GateRequest::CancelPlan(CancelPlan::default()), facts)
            .map(drop)
    }

    fn change_mode(&mut self) -> Result<(), String> {
        let modes = SettableMode::ALL;
        let mode = modes[usize::try_from(self.dice.roll(3)).unwrap()];
        self.input(Input::Tick, Facts::default())?;
        let before = self.look()?.0.mode.mode;
        let mut change = ChangeMode::to(mode);
        if mode != SettableMode::Normal && self.dice.one_in(3) {
            change.expires_in_seconds = Some(1 + self.dice.roll(120));
        }
        let is_allowed = !self.storage_failed
            || (Mode::from(mode) == before && change.expires_in_seconds.is_none());
        let loosens = mode == SettableMode::BlockNewSession && before == Mode::BlockNewConnection;
        // A deadline that came before may have opened it.
        let facts = Facts {
            operator_opened: mode == SettableMode::Normal && is_allowed,
            loosened_to: (loosens && is_allowed).then_some(mode.into()),
            ..Facts::default()
        };
        self.request(GateRequest::ChangeMode(Box::new(change)), facts)
            .map(drop)
    }

    fn end_or_announce(&mut self) -> Result<(), String> {
        if self.dice.one_in(2) {
            return self
                .request(
                    GateRequest::Announce(Box::new(Announce::default())),
                    Facts::default(),
                )
                .map(drop);
        }
        self.input(Input::Tick, Facts::default())?;
        self.guarantees.is_end_wanted = true;
        let end = End {
            all: true,
            per_minute: self.dice.one_in(2).then_some(EndRate::PerMinute(10)),
            ..End::default()
        };
        self.request(GateRequest::End(end), Facts::default())
            .map(drop)
    }

    fn disk(&mut self) -> Result<(), String> {
        self.storage_failed = !self.storage_failed;
        let input = if self.storage_failed {
            Input::StorageFailed {
                refused: Vec::new(),
                generations: Vec::new(),
                plans: Vec::new(),
                calls: Vec::new(),
            }
        } else {
            Input::StorageRestored
        };
        self.input(input, Facts::default()).map(drop)
    }

    fn set_clock(&mut self) -> Result<(), String> {
        let seconds = i64::try_from(self.dice.roll(1_800)).unwrap() - 900;
        self.now.wall = Time::from_micros(self.now.wall.as_micros() + seconds * 1_000_000);
        self.input(Input::WallClockSet, Facts::default()).map(drop)
    }

    fn restart(&mut self) -> Result<(), String> {
        if self.storage_failed {
            return Ok(());
        }
        let host = if self.dice.one_in(3) {
            HostState::Rebooted
        } else {
            HostState::Running
        };
        let downtime = Duration::from_secs(self.dice.roll(60) * self.dice.roll(10));
        self.pass(downtime);
        if host == HostState::Rebooted {
            self.now.boot = Duration::from_secs(1 + self.dice.roll(20));
            self.guarantees.rebooted();
            self.clients.clear();
        }
        self.settings.mode = self.dice.one_in(8).then_some(SettableMode::Normal);
        self.settings.sora.admission = if self.dice.one_in(8) {
            SoraAdmission::Shadow
        } else {
            SoraAdmission::Enforced
        };
        self.starts += 1;
        self.calls.clear();
        self.guarantees.restarted();
        let mut stored = self.ledger.stored();
        if host == HostState::Rebooted {
            stored.expires_at_boot = None;
        }
        let was_open = stored.mode.as_ref().is_none_or(|it| !it.mode.is_block());
        let opens = self.settings.mode.is_some();
        if opens && !was_open {
            self.guarantees.is_end_wanted = false;
        }
        self.gate = restore(&self.settings, self.now, stored, self.starts);
        let facts = Facts {
            rebooted: host == HostState::Rebooted,
            system_opened: opens && !was_open,
            ..Facts::default()
        };
        self.input(Input::Started(host), facts).map(drop)
    }
}

fn restore(settings: &Settings, started: Timestamp, stored: Stored, seed: u8) -> Gate {
    let params = StartParams {
        settings: settings.clone(),
        started,
        stored,
    };
    Gate::restore(params, Seed([seed; 32]))
}
