//! Commands of the simulation: each drives a [`RollRun`] over a network that delays requests, loses answers, and delivers late.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use fastrand::Rng;
use soramode_core::fault::PlantedFault;
use soramode_core::input::HostState;
use soramode_protocol::access::Access;
use soramode_protocol::id::{LogId, RollId};
use soramode_protocol::mode::{ChangeMode, SettableMode};
use soramode_protocol::plan::{PlanStep, StartPlan};
use soramode_protocol::reply::{Answer as NodeAnswer, Reply};
use soramode_protocol::request::GateRequest;
use soramode_protocol::reservation::{Reserve, RollStep};
use soramode_roll::{
    Action, Answer, Call, CallError, CallId, Close, ClosedNodes, Finish, HostFacts, Input,
    RESERVED_SECONDS, RollRun, Settings, Start, Stop, StopKind, Task, TaskEnd, Work,
};

use crate::nodes::{Nodes, Promise};

/// Time after which a command takes an answer as lost.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Something that happens at a time of its own.
#[derive(Debug)]
pub(crate) enum Event {
    /// A request arrives at a node.
    Request {
        command: usize,
        host: usize,
        id: CallId,
        request: GateRequest,
    },
    /// Something reaches a command.
    Reach { command: usize, input: Input },
    /// A task ends, or is looked at again.
    Task {
        command: usize,
        host: usize,
        task: Task,
    },
    /// A command looks at the time.
    Wake(usize),
}

/// Events by their times.
#[derive(Default)]
pub(crate) struct Events {
    by_time: BTreeMap<(Duration, u64), Event>,
    last: u64,
}

impl Events {
    pub(crate) fn add(&mut self, at: Duration, event: Event) {
        self.last += 1;
        self.by_time.insert((at, self.last), event);
    }

    pub(crate) fn next(&self) -> Option<Duration> {
        self.by_time.first_key_value().map(|((at, _), _)| *at)
    }

    pub(crate) fn take(&mut self) -> Option<(Duration, Event)> {
        self.by_time.pop_first().map(|((at, _), event)| (at, event))
    }
}

/// Size of a run, and the odds of what goes wrong in it, of 256 each.
#[derive(Clone, Debug)]
pub(crate) struct Odds {
    pub(crate) nodes: RangeInclusive<usize>,
    /// Limit of the number of hosts of a roll. With 2, the other one is always kept open.
    pub(crate) hosts_max: usize,
    /// Time of the incidents, in seconds.
    pub(crate) seconds: Range<u64>,
    /// Limit of the time between two incidents, in milliseconds.
    pub(crate) pause_max: u64,
    /// An incident is the start of a roll.
    pub(crate) start: u8,
    /// A request is late, by these seconds.
    pub(crate) late: (u8, Range<u64>),
    /// The first request of a pass is late, if other odds hold for it: it renews the node that is to be closed.
    pub(crate) late_first: Option<(u8, Range<u64>)>,
    /// A request that releases a node is late.
    pub(crate) late_release: (u8, Range<u64>),
    /// A request that closes a node is late.
    pub(crate) late_close: (u8, Range<u64>),
    /// The process ends, freezes or is interrupted at a late close.
    pub(crate) end_at_close: u8,
}

impl Odds {
    /// A few of everything.
    pub(crate) const USUAL: Self = Self {
        nodes: 2..=5,
        hosts_max: 5,
        seconds: 60..1_200,
        pause_max: 60_000,
        start: 0,
        late: (8, 1..150),
        late_first: None,
        late_release: (8, 1..150),
        late_close: (60, 1..150),
        end_at_close: 128,
    };

    /// Rolls that begin all the time, and requests that are late.
    pub(crate) const LATE_REQUESTS: Self = Self {
        seconds: 100..240,
        pause_max: 2_000,
        start: 208,
        late: (40, 1..10),
        late_release: (128, 1..10),
        late_close: (192, 1..80),
        end_at_close: 208,
        ..Self::USUAL
    };

    /// Renewals that are late, and closes that arrive when the reservations expire, after the end of their commands.
    pub(crate) const LATE_CLOSES: Self = Self {
        nodes: 3..=3,
        hosts_max: 2,
        seconds: 70..110,
        late: (24, 5..10),
        late_release: (24, 5..10),
        late_close: (128, RESERVED_SECONDS - 10..RESERVED_SECONDS),
        end_at_close: 240,
        ..Self::LATE_REQUESTS
    };

    /// Interrupts, and releases that are late.
    pub(crate) const LATE_RELEASES: Self = Self {
        late: (8, 1..10),
        late_release: (128, 5..40),
        late_close: (224, 4..30),
        end_at_close: 224,
        ..Self::LATE_CLOSES
    };

    /// Renewals that count as lost and arrive later, and closes that arrive when only such a renewal keeps their node reserved.
    pub(crate) const LATE_RENEWALS: Self = Self {
        seconds: 100..180,
        late: (0, 1..2),
        late_first: Some((128, 40..60)),
        late_release: (0, 1..2),
        late_close: (96, 60..90),
        ..Self::LATE_CLOSES
    };
}

/// State of a command's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Process {
    Running,
    FrozenUntil(Duration),
    Dead,
}

/// A command.
#[derive(Debug)]
pub(crate) struct Command {
    roll: RollRun,
    pub(crate) id: RollId,
    /// Nodes by the indices that the roll gives them.
    pub(crate) hosts: Vec<usize>,
    process: Process,
    /// Inputs that arrived while it was frozen.
    waiting: VecDeque<Input>,
    lead: Option<Duration>,
    pub(crate) finish: Option<Finish>,
    pub(crate) settings: Settings,
    odds: Odds,
    /// Nodes of the hosts that it has begun to reboot, each with the answer after which it did.
    pub(crate) begun_reboots: Vec<(usize, Option<CallId>)>,
}

/// Creates a roll over some of the nodes.
pub(crate) fn settings(
    rng: &mut Rng,
    nodes: usize,
    (name, odds): (&str, &Odds),
    fault: soramode_roll::fault::PlantedFault,
) -> (Settings, Promise, Option<Duration>) {
    let mut hosts: Vec<usize> = (0..nodes).collect();
    rng.shuffle(&mut hosts);
    hosts.truncate(rng.usize(2..=nodes.min(odds.hosts_max)));
    let keep_open = match odds.hosts_max {
        2 => 1,
        _ => rng.usize(0..hosts.len()),
    };
    let maintained = (0..hosts.len()).filter(|_| rng.u8(..4) > 0).collect();
    let lead = (rng.u8(..4) == 0).then(|| Duration::from_secs(rng.u64(..90)));
    let mode = PlanStep::Mode {
        at_seconds: 0,
        mode: SettableMode::BlockNewSession,
    };
    let close = match lead {
        None => Close::Mode(Box::new(ChangeMode::to(SettableMode::BlockNewSession))),
        Some(lead) => {
            let at_seconds = -i64::try_from(lead.as_secs()).unwrap();
            let unready = PlanStep::Unready { at_seconds };
            let steps = if at_seconds < 0 {
                vec![unready, mode]
            } else {
                vec![mode]
            };
            Close::Plan(Box::new(StartPlan::now(steps)))
        }
    };
    let settings = Settings {
        roll: name.parse().unwrap(),
        by: "alice@laptop".to_owned(),
        keep_open,
        maintained,
        close,
        work: match rng.u8(..8) {
            0 => Work {
                command: false,
                reboot: true,
            },
            number => Work {
                command: true,
                reboot: number == 1,
            },
        },
        pause: Duration::from_secs(rng.u64(..3)),
        closed_nodes: if rng.bool() {
            ClosedNodes::Skip
        } else {
            ClosedNodes::Refuse
        },
        start: Start::New,
        salt: rng.u64(..),
        fault,
    };
    (settings, Promise { hosts, keep_open }, lead)
}

impl Command {
    /// Starts a command, which has connected to its hosts.
    pub(crate) fn start(
        settings: Settings,
        hosts: Vec<usize>,
        lead: Option<Duration>,
        odds: Odds,
    ) -> Self {
        Self {
            roll: RollRun::new(settings.clone()),
            id: settings.roll.clone(),
            hosts,
            process: Process::Running,
            waiting: VecDeque::new(),
            lead,
            finish: None,
            settings,
            odds,
            begun_reboots: Vec::new(),
        }
    }

    fn note_reboot(&mut self, action: &Action, answered: Option<CallId>) {
        if let Action::Begin(host, Task::Reboot) = action {
            self.begun_reboots.push((self.hosts[*host], answered));
        }
    }

    /// Returns a command that resumes this roll.
    pub(crate) fn resume(&self, rng: &mut Rng) -> Self {
        let mut settings = self.settings.clone();
        settings.start = if rng.bool() {
            Start::Resume
        } else {
            Start::ResumeAgain
        };
        settings.salt = rng.u64(..);
        Self::start(settings, self.hosts.clone(), self.lead, self.odds.clone())
    }

    pub(crate) fn facts(&self, nodes: &mut Nodes, now: Duration) -> Vec<Result<HostFacts, String>> {
        let facts = |node: &usize| {
            Ok(HostFacts {
                log_id: LogId::new(&format!("log-{node}")).unwrap(),
                access: Access::Operate,
                can_reserve: true,
                cannot_work: None,
                status: nodes.status(now, *node),
            })
        };
        self.hosts.iter().map(facts).collect()
    }

    pub(crate) fn freeze(&mut self, until: Duration) {
        if self.process == Process::Running {
            self.process = Process::FrozenUntil(until);
        }
    }

    pub(crate) fn kill(&mut self) {
        self.process = Process::Dead;
        self.waiting.clear();
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.process == Process::Dead
    }

    pub(crate) fn interrupt(&mut self) {
        self.waiting.push_back(Input::Interrupted);
    }

    /// Takes an input in, or keeps it until the process runs again; then does what the roll says.
    pub(crate) fn reach(
        &mut self,
        now: Duration,
        input: Input,
        number: usize,
        rng: &mut Rng,
        events: &mut Events,
    ) {
        if let Process::FrozenUntil(until) = self.process
            && until <= now
        {
            self.process = Process::Running;
        }
        self.waiting.push_back(input);
        match self.process {
            Process::Dead => self.waiting.clear(),
            Process::FrozenUntil(until) => events.add(until, Event::Wake(number)),
            Process::Running => {
                while let Some(input) = self.waiting.pop_front() {
                    let answered = match &input {
                        Input::Answered(id, _) => Some(*id),
                        _ => None,
                    };
                    for action in self.roll.step(now, input) {
                        self.note_reboot(&action, answered);
                        self.act(now, action, number, rng, events);
                    }
                }
                if let Some(at) = self.roll.next_deadline() {
                    events.add(at.max(now), Event::Wake(number));
                }
            }
        }
    }

    fn act(
        &mut self,
        now: Duration,
        action: Action,
        number: usize,
        rng: &mut Rng,
        events: &mut Events,
    ) {
        match action {
            Action::Call(host, id, call) => self.send(now, (host, id, call), number, rng, events),
            Action::Begin(host, task) => {
                let pause = Duration::from_secs(rng.u64(..20));
                let task = Event::Task {
                    command: number,
                    host,
                    task,
                };
                events.add(now + pause, task);
            }
            Action::Abandon(_) | Action::Show(..) => {}
            Action::Finish(finish) => self.finish = Some(finish),
        }
    }

    /// Sends a request. Now and then it takes long, and its answer counts as lost; most of all one that closes a node.
    fn send(
        &mut self,
        now: Duration,
        (host, id, call): (usize, CallId, Call),
        number: usize,
        rng: &mut Rng,
        events: &mut Events,
    ) {
        let closes = matches!(&call, Call::StartPlan(_))
            || matches!(&call, Call::ChangeMode(change) if change.roll.is_some());
        let (odds, delay) = match &call {
            _ if closes => &self.odds.late_close,
            Call::Release(_) => &self.odds.late_release,
            Call::Reserve(it) if it.step == Some(RollStep::Draining) => {
                self.odds.late_first.as_ref().unwrap_or(&self.odds.late)
            }
            _ => &self.odds.late,
        };
        let is_late = rng.u8(..) < *odds;
        let pause = if is_late {
            Duration::from_secs(rng.u64(delay.clone()))
        } else {
            Duration::from_millis(rng.u64(1..300))
        };
        if closes && is_late && rng.u8(..) < self.odds.end_at_close {
            // The process ends, too: nobody takes the request back.
            match rng.u8(..3) {
                0 => self.kill(),
                1 => self.freeze(now + Duration::from_secs(rng.u64(30..300))),
                _ => self.interrupt(),
            }
        }
        if pause > ANSWER_TIME_MAX {
            let input = Input::Answered(id, Err(CallError::Lost("no answer".to_owned())));
            let command = number;
            events.add(now + ANSWER_TIME_MAX, Event::Reach { command, input });
        }
        let request = Event::Request {
            command: number,
            host: self.hosts[host],
            id,
            request: call.into(),
        };
        events.add(now + pause, request);
    }

    /// Returns the end of a task, or `None` if it is to be looked at again.
    pub(crate) fn end_of_task(
        &self,
        now: Duration,
        nodes: &mut Nodes,
        host: usize,
        task: &Task,
        rng: &mut Rng,
    ) -> Result<Option<TaskEnd>, String> {
        let node = self.hosts[host];
        let status = nodes.status(now, node);
        let is_ours = status.mode.roll.as_ref() == Some(&self.id) && status.mode.mode.is_block();
        Ok(match task {
            Task::Drain(plan) if !is_ours => match (plan, &status.plan) {
                (Some(_), Some(_)) => None,
                (_, _) => Some(TaskEnd::Failed(Stop::on(
                    host,
                    StopKind::Superseded,
                    "it was not drained",
                ))),
            },
            Task::Command => {
                let exit = u8::from(rng.u8(..10) == 0);
                let mut record = Reserve::step(self.id.clone(), RollStep::CommandEnded);
                // Now and then it is killed on its host, where nothing but that can be recorded.
                record.command_exit = (rng.u8(..16) > 0).then_some(exit);
                let is_killed = record.command_exit.is_none();
                let request = GateRequest::Reserve(Box::new(record));
                // A node that another roll has reserved meanwhile refuses it.
                let _ = nodes.request(now, node, request);
                Some(if is_killed || rng.u8(..5) == 0 {
                    TaskEnd::Lost("the connection was lost".to_owned())
                } else {
                    TaskEnd::CommandEnded(exit)
                })
            }
            Task::Reboot => {
                nodes.restart(now, node, HostState::Rebooted)?;
                Some(TaskEnd::Done)
            }
            Task::Drain(_) | Task::Ready => Some(TaskEnd::Done),
        })
    }
}

/// Returns a node's answer as the roll takes it.
pub(crate) fn answer(answer: NodeAnswer) -> Result<Answer, CallError> {
    match answer {
        Ok(Reply::Reserved(it)) => Ok(Answer::Reserved(*it)),
        Ok(Reply::Released(it)) => Ok(Answer::Released(it)),
        Ok(Reply::Status(it)) => Ok(Answer::Status(it)),
        Ok(Reply::ModeChanged(it)) => Ok(Answer::ModeChanged(*it)),
        Ok(Reply::PlanStarted(it)) => Ok(Answer::PlanStarted(it)),
        Ok(other) => panic!("no answer of a roll's call: {other:?}"),
        Err(error) => Err(CallError::Refused(error)),
    }
}

/// Mistakes that a test has planted, in the gates and in the rolls.
#[derive(Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) gate: PlantedFault,
    pub(crate) roll: soramode_roll::fault::PlantedFault,
}
