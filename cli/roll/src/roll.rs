//! The roll: its phases, its timers, and its end.

mod begin;
mod release;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use soramode_protocol::error::ErrorType;
use soramode_protocol::id::PlanId;
use soramode_protocol::reservation::{Reservation, Reserve, RollStep};

use crate::check::Resumed;
use crate::pass_state::Pass;
use crate::{
    Action, Answer, Call, CallError, CallId, Finish, HostFacts, HostIndex, Input, RESERVED_SECONDS,
    Settings, Stage, Start, Stop, StopKind, Task, TaskEnd,
};

/// A rolling maintenance.
#[derive(Debug)]
pub struct RollRun {
    pub(crate) settings: Settings,
    /// Hosts as they were found.
    facts: Vec<Result<HostFacts, String>>,
    /// Hosts in the order in which they are reserved, which is the same for every roll.
    order: Vec<HostIndex>,
    /// Hosts that the roll has closed before, and goes on with first.
    resumed: VecDeque<Resumed>,
    /// Hosts that are to be closed.
    queue: VecDeque<HostIndex>,
    /// Hosts that the roll has reserved, or may have, and that were not released.
    reserved: BTreeSet<HostIndex>,
    pub(crate) phase: Phase,
    /// The renewal of all reservations that is under way.
    pub(crate) pass: Option<Pass>,
    round: u64,
    calls: BTreeMap<CallId, (HostIndex, Purpose)>,
    last_call: CallId,
    /// When the next pass begins.
    pub(crate) next_pass: Option<Duration>,
    pub(crate) least_open: Option<usize>,
    is_interrupted: bool,
    stop: Option<Stop>,
    pub(crate) now: Duration,
    actions: Vec<Action>,
}

/// Phase of a roll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Before the first input.
    Connecting,
    /// The hosts are reserved one by one; this is the number of those that are.
    Reserving(usize),
    /// The hosts of a resumed roll are read once more, now that no other command goes on with it.
    Rereading,
    /// Work on a host.
    Working(HostIndex, Job),
    /// Between two hosts.
    Pausing(Duration),
    /// The host that may be about to be closed is released.
    ReleasingFirst(Duration),
    /// The others are.
    Releasing(Duration),
    Over,
}

/// Job on the present host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// Enough others must be open, until then at the latest.
    Prepare {
        until: Duration,
    },
    /// The node was asked to close.
    Close {
        until: Duration,
    },
    /// A plan runs that has not closed the node yet. Every pass confirms it.
    AwaitClose {
        until: Duration,
        plan: PlanId,
    },
    Run(Task),
    Ask(Ask),
}

/// Question to the present host, which is asked again while its answer is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) question: Question,
    /// When it is given up.
    pub(crate) until: Duration,
    /// When it is asked again, after an answer was lost.
    pub(crate) retry_at: Option<Duration>,
}

/// Subject of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// Records the step on the host, before it is carried out.
    Record(RollStep),
    /// The node must still be closed by this roll before its machine is worked on.
    Check(Task),
    /// The connection was lost while the command ran: its end is looked for.
    Seek,
    /// Opens the node.
    Open,
    /// An answer to [`Open`](Self::Open) was lost: the mode is looked at.
    LookAtMode,
}

/// Attempt to release a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    First,
    Second,
}

/// Purpose of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Reserve the host for the first time.
    Reserve,
    /// Read its step once more.
    Reread,
    /// Renew it in a pass.
    Renew,
    /// Look at it in a pass.
    Look,
    Close,
    /// The [`Ask`] of the present job.
    Ask,
    Release(Attempt),
}

impl RollRun {
    /// Creates a roll.
    pub const fn new(settings: Settings) -> Self {
        Self {
            settings,
            facts: Vec::new(),
            order: Vec::new(),
            resumed: VecDeque::new(),
            queue: VecDeque::new(),
            reserved: BTreeSet::new(),
            phase: Phase::Connecting,
            pass: None,
            round: 0,
            calls: BTreeMap::new(),
            last_call: 0,
            next_pass: None,
            least_open: None,
            is_interrupted: false,
            stop: None,
            now: Duration::ZERO,
            actions: Vec::new(),
        }
    }

    /// Takes in an input. `now` is any clock that does not go back.
    pub fn step(&mut self, now: Duration, input: Input) -> Vec<Action> {
        self.now = now;
        match input {
            Input::Connected(hosts) => self.begin(hosts),
            Input::Answered(id, answer) => {
                if let Some((host, purpose)) = self.calls.remove(&id) {
                    self.answered(host, purpose, answer);
                }
            }
            Input::Ended(host, end) => self.task_ended(host, end),
            Input::Tick => {}
            Input::Interrupted => self.interrupt(),
        }
        self.run_timers();
        std::mem::take(&mut self.actions)
    }

    /// Returns when the next deadline comes, by the clock of [`step`](Self::step).
    pub fn next_deadline(&self) -> Option<Duration> {
        let own = match &self.phase {
            Phase::Connecting | Phase::Reserving(_) | Phase::Rereading | Phase::Over => {
                return None;
            }
            Phase::Pausing(until) | Phase::ReleasingFirst(until) | Phase::Releasing(until) => {
                Some(*until)
            }
            Phase::Working(_, job) => job.retry_at(),
        };
        let pass = self.next_pass.filter(|_| self.may_begin_pass());
        own.into_iter().chain(pass).min()
    }

    /// Returns whether the roll is over.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    fn answered(&mut self, host: HostIndex, purpose: Purpose, answer: Result<Answer, CallError>) {
        if let Err(CallError::Refused(error)) = &answer
            && error.data.error_type == ErrorType::Reserved
            && self.is_resumed_elsewhere(error.data.reservation.as_deref())
        {
            return self.stop_resumed_elsewhere(host);
        }
        match purpose {
            Purpose::Reserve => self.on_reserved(host, answer),
            Purpose::Reread => self.on_reread(host, answer),
            Purpose::Renew => self.on_renewed(host, &answer),
            Purpose::Look => self.on_looked(host, answer),
            Purpose::Close => self.on_close_answered(host, answer),
            Purpose::Ask => self.on_answered(host, answer),
            Purpose::Release(attempt) => self.on_released(host, attempt, &answer),
        }
    }

    /// Returns whether the node knows a later round of this roll than any of ours.
    pub(crate) fn is_resumed_elsewhere(&self, record: Option<&Reservation>) -> bool {
        record.is_some_and(|it| it.roll == self.settings.roll && it.round > self.round)
    }

    pub(crate) fn stop_resumed_elsewhere(&mut self, host: HostIndex) {
        if self.leaves_reservations() {
            // The other command takes over the reservations, and releases them.
            self.reserved.clear();
            self.order.clear();
        }
        let problem = "another command has resumed this roll";
        self.stop(Stop::on(host, StopKind::Refused, problem));
    }

    /// Goes on with the next host, or ends.
    pub(crate) fn next_host(&mut self) {
        if let Some(resumed) = self.resumed.pop_front() {
            self.resume(resumed);
        } else if let Some(host) = self.queue.pop_front() {
            self.prepare(host);
        } else {
            self.release(None);
        }
    }

    fn interrupt(&mut self) {
        let is_second = std::mem::replace(&mut self.is_interrupted, true);
        let stop = self.interrupted();
        match &self.phase {
            Phase::Releasing(_) | Phase::ReleasingFirst(_) if is_second => {
                self.stop.get_or_insert(stop);
                self.finish();
            }
            // The command that runs is waited for, and so are the releases.
            Phase::Working(_, job) if job.is_command() && !is_second => {}
            Phase::Releasing(_) | Phase::ReleasingFirst(_) | Phase::Over => {}
            _ => self.stop(stop),
        }
    }

    /// Describes an interrupt, with the work on a host that goes on without the roll.
    fn interrupted(&self) -> Stop {
        let going_on = match &self.phase {
            Phase::Working(host, job) => job.goes_on().map(|words| (*host, words)),
            _ => None,
        };
        let Some((host, (problem, hint))) = going_on else {
            return Stop {
                kind: StopKind::Interrupted,
                host: None,
                problem: "interrupted".to_owned(),
                hint: None,
            };
        };
        Stop::on(host, StopKind::Interrupted, problem).with_hint(hint)
    }

    /// Returns whether the roll stops before it does anything more.
    pub(crate) fn stop_if_interrupted(&mut self, host: HostIndex) -> bool {
        if self.is_interrupted {
            self.stop(Stop::on(host, StopKind::Interrupted, "interrupted"));
        }
        self.is_interrupted
    }

    /// Stops: leaves the present host as it is, and releases all.
    pub(crate) fn stop(&mut self, stop: Stop) {
        if self.stop.is_some() || self.phase == Phase::Over {
            return;
        }
        self.stop = Some(stop);
        if self.leaves_reservations() {
            // A late close of the command of before may be on its way to a host that this one has not reserved yet.
            self.note_reserved_before();
            return self.finish();
        }
        let mut present = None;
        if let Phase::Working(host, job) = self.phase.clone() {
            present = job.may_close().then_some(host);
            if job.waits() {
                self.actions.push(Action::Abandon(host));
            }
        }
        self.release(present);
    }

    /// Returns whether a stop releases none of the hosts: those of a resumed roll are not all reserved anew.
    fn leaves_reservations(&self) -> bool {
        matches!(self.phase, Phase::Reserving(_)) && self.settings.start != Start::New
    }

    fn finish(&mut self) {
        self.forget_close();
        self.phase = Phase::Over;
        self.calls.clear();
        self.actions.push(Action::Finish(Finish {
            stop: self.stop.clone(),
            least_open: self.least_open,
            unreleased: self.reserved.iter().copied().collect(),
        }));
    }

    fn run_timers(&mut self) {
        if self.next_pass.is_some_and(|at| at <= self.now) && self.may_begin_pass() {
            self.begin_pass();
        }
        match self.phase.clone() {
            Phase::Pausing(until) if until <= self.now => self.next_host(),
            Phase::ReleasingFirst(until) | Phase::Releasing(until) if until <= self.now => {
                self.finish();
            }
            Phase::Working(host, Job::Ask(ask))
                if ask.retry_at.is_some_and(|at| at <= self.now) =>
            {
                self.send(host, ask.question, ask.until);
            }
            _ => {}
        }
    }

    /// Returns whether a pass may begin: none is under way, and no close waits for its answer, which a later round would refuse.
    fn may_begin_pass(&self) -> bool {
        let closes = |purpose: &Purpose| *purpose == Purpose::Close;
        let is_working = matches!(self.phase, Phase::Working(..) | Phase::Pausing(_));
        let is_closing = self.calls.values().any(|(_, purpose)| closes(purpose));
        is_working && self.pass.is_none() && !is_closing
    }

    /// Returns all hosts but this one, which may be none.
    pub(crate) fn others(&self, but: Option<HostIndex>) -> Vec<HostIndex> {
        let others = self.order.iter().filter(|host| Some(**host) != but);
        others.copied().collect()
    }

    /// Enters the next round.
    pub(crate) const fn next_round(&mut self) -> u64 {
        self.round += 1;
        self.round
    }

    pub(crate) const fn round(&self) -> u64 {
        self.round
    }

    /// Returns a request that reserves a node in this round.
    pub(crate) fn reserve(&self, round: u64, step: Option<RollStep>) -> Reserve {
        Reserve {
            roll: self.settings.roll.clone(),
            by: Some(self.settings.by.clone()),
            seconds: Some(RESERVED_SECONDS),
            round: Some(round),
            step,
            command_exit: None,
        }
    }

    pub(crate) fn call(&mut self, host: HostIndex, purpose: Purpose, call: Call) {
        self.last_call += 1;
        self.calls.insert(self.last_call, (host, purpose));
        self.actions.push(Action::Call(host, self.last_call, call));
    }

    pub(crate) fn run(&mut self, host: HostIndex, task: Task) {
        self.phase = Phase::Working(host, Job::Run(task.clone()));
        self.actions.push(Action::Begin(host, task));
    }

    pub(crate) fn show(&mut self, host: HostIndex, stage: Stage) {
        self.actions.push(Action::Show(host, stage));
    }

    fn task_ended(&mut self, host: HostIndex, end: TaskEnd) {
        match self.phase.clone() {
            Phase::Working(present, job) if present == host => self.on_task_ended(host, &job, end),
            _ => {}
        }
    }
}

impl Job {
    /// Returns when something is to be done although nothing happens.
    const fn retry_at(&self) -> Option<Duration> {
        match self {
            Self::Ask(ask) => ask.retry_at,
            Self::Prepare { .. } | Self::Close { .. } | Self::AwaitClose { .. } | Self::Run(_) => {
                None
            }
        }
    }

    /// Returns whether the operator's command runs, as far as the roll knows.
    fn is_command(&self) -> bool {
        match self {
            Self::Run(task) => *task == Task::Command,
            Self::Ask(ask) => ask.question == Question::Seek,
            Self::Prepare { .. } | Self::Close { .. } | Self::AwaitClose { .. } => false,
        }
    }

    /// Describes work that goes on when the roll does not wait for it, and the end of that work to wait for.
    fn goes_on(&self) -> Option<(&'static str, &'static str)> {
        const RECORDED: &str =
            "Wait until the command has ended. Its exit code is recorded: soramode status";
        match self {
            Self::Run(Task::Command) => Some(("interrupted; the command goes on there", RECORDED)),
            Self::Ask(ask) if ask.question == Question::Seek => {
                Some(("interrupted; the command may still run there", RECORDED))
            }
            Self::Run(Task::Reboot) => Some((
                "interrupted while the machine reboots",
                "Wait until the machine has started. To see it: soramode status",
            )),
            Self::Prepare { .. }
            | Self::Close { .. }
            | Self::AwaitClose { .. }
            | Self::Run(_)
            | Self::Ask(_) => None,
        }
    }

    /// Returns whether the node may be closed by a request that is under way, or by a plan.
    const fn may_close(&self) -> bool {
        matches!(
            self,
            Self::Prepare { .. } | Self::Close { .. } | Self::AwaitClose { .. }
        )
    }

    /// Returns whether a task waits that can be abandoned.
    const fn waits(&self) -> bool {
        matches!(
            self,
            Self::AwaitClose { .. } | Self::Run(Task::Drain(_) | Task::Reboot | Task::Ready)
        )
    }
}
