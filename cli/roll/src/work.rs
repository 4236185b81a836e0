//! The work on one host: close it, wait, run the command, reboot, open it.

use std::time::Duration;

use soramode_protocol::error::ErrorType;
use soramode_protocol::id::PlanId;
use soramode_protocol::mode::{ChangeMode, Mode, SettableMode, with_message};
use soramode_protocol::plan::{PlanStarted, PlanState};
use soramode_protocol::reservation::RollStep;

use crate::check::{
    COMMAND_GONE, LOOK_FOR_COMMAND, Resumed, closed_by_another, command_failed, has_rebooted,
    is_closed, is_closed_by, is_open, own_plan, too_few_open,
};
use crate::fault::Fault;
use crate::pass_state::PassResult;
use crate::roll::{Ask, Job, Phase, Purpose, Question, RollRun};
use crate::{
    Answer, Call, CallError, Close, ClosedNodes, HostIndex, OPEN_TIME_MAX, RENEW_PAUSE, SEEK_PAUSE,
    SEEK_TIME_MAX, Stage, Start, Stop, StopKind, Task, TaskEnd,
};

impl RollRun {
    /// Begins to look whether enough others are open to close this host.
    pub(crate) fn prepare(&mut self, host: HostIndex) {
        self.show(host, Stage::Preparing);
        let until = self.now + OPEN_TIME_MAX;
        self.phase = Phase::Working(host, Job::Prepare { until });
        self.next_pass = Some(self.now);
    }

    /// Goes on with a host that the roll has closed before.
    pub(crate) fn resume(&mut self, resumed: Resumed) {
        let Resumed { host, step, plan } = resumed;
        let is_again = self.settings.start == Start::ResumeAgain;
        match step {
            RollStep::Draining => self.drain(host, plan),
            RollStep::Command if !self.settings.work.command => self.after_command(host),
            RollStep::Command => self.record(host, RollStep::Command),
            RollStep::CommandEnded if is_again => self.record(host, RollStep::Command),
            RollStep::CommandEnded => self.after_command(host),
            RollStep::Ready | RollStep::Done => self.record(host, RollStep::Ready),
        }
    }

    /// Decides what a pass means for the host that is to be closed.
    pub(crate) fn on_pass_over(&mut self, result: &PassResult) {
        let host = result.host;
        let (until, is_planned) = match &self.phase {
            Phase::Working(_, Job::Prepare { until }) => (*until, false),
            Phase::Working(_, Job::AwaitClose { until, .. }) => (*until, true),
            _ => return,
        };
        let open = result.open;
        let status = result.status.as_deref();
        let roll = &self.settings.roll;
        if status.is_some_and(|status| is_closed_by(status, roll)) {
            let plan = status.and_then(|status| own_plan(status, roll)).cloned();
            return self.on_closed(host, is_planned, plan);
        }
        let may_close =
            status.is_some_and(|status| is_open(status) || own_plan(status, roll).is_some());
        match status.filter(|status| is_closed(status)) {
            Some(_) if !is_planned && self.settings.closed_nodes == ClosedNodes::Skip => {
                self.show(host, Stage::Skipped);
                return self.next_host();
            }
            Some(status) if !is_planned => {
                // This roll's own record has taken the place of any other.
                return self.stop(closed_by_another(host, status, |_| false));
            }
            Some(_) | None => {}
        }
        if may_close && open >= self.settings.keep_open {
            let least = self.least_open.map_or(open, |least| least.min(open));
            self.least_open = Some(least);
            self.close(host, result.round);
        } else if self.now >= until {
            self.stop(match (status, may_close) {
                (Some(_), true) => too_few_open(host, open, self.settings.keep_open),
                (Some(_), false) => {
                    let problem = "is neither open nor closed by this roll";
                    Stop::on(host, StopKind::Refused, problem)
                }
                (None, _) => Stop::on(host, StopKind::Unreachable, "could not be reserved"),
            });
        }
    }

    /// Closes the host in the round of the pass before, or confirms its plan in that round.
    fn close(&mut self, host: HostIndex, round: u64) {
        let (roll, round) = (Some(self.settings.roll.clone()), Some(round));
        let call = match &self.settings.close {
            Close::Mode(change) => {
                let mut change = change.clone();
                (change.roll, change.round, change.if_mode) = (roll, round, Some(Mode::Normal));
                Call::ChangeMode(change)
            }
            Close::Plan(start) => {
                let mut start = start.clone();
                (start.roll, start.round) = (roll, round);
                Call::StartPlan(start)
            }
        };
        if let Phase::Working(_, Job::Prepare { until }) = self.phase {
            self.phase = Phase::Working(host, Job::Close { until });
        }
        self.call(host, Purpose::Close, call);
    }

    /// Takes note that the roll has closed the host. With a plan it waits already.
    fn on_closed(&mut self, host: HostIndex, is_planned: bool, plan: Option<PlanId>) {
        self.next_pass = Some(self.now + RENEW_PAUSE);
        if is_planned {
            self.phase = Phase::Working(host, Job::Run(Task::Drain(plan)));
        } else {
            self.drain(host, plan);
        }
    }

    fn drain(&mut self, host: HostIndex, plan: Option<PlanId>) {
        self.show(host, Stage::At(RollStep::Draining));
        self.run(host, Task::Drain(plan));
    }

    pub(crate) fn on_close_answered(&mut self, host: HostIndex, answer: Result<Answer, CallError>) {
        if matches!(self.phase, Phase::ReleasingFirst(_)) {
            return self.on_late_close(host, &answer);
        }
        // The plan may be done before the answer that confirms it.
        let Phase::Working(_, Job::Close { .. } | Job::AwaitClose { .. }) = self.phase else {
            return;
        };
        match answer {
            Ok(Answer::PlanStarted(started)) => self.on_plan_started(host, *started),
            Ok(_) => self.on_closed(host, false, None),
            Err(CallError::Refused(error)) => match error.data.error_type {
                // It is looked at anew, in the next round.
                ErrorType::Reserved | ErrorType::Superseded => self.prepare_again(host),
                _ => self.stop(Stop::on(host, StopKind::Refused, error.message)),
            },
            // It may have arrived. The next round refuses it from then on, and shows what it did.
            Err(CallError::Lost(_)) => self.prepare_again(host),
        }
    }

    fn prepare_again(&mut self, host: HostIndex) {
        if let Phase::Working(_, Job::Close { until }) = self.phase {
            self.phase = Phase::Working(host, Job::Prepare { until });
        }
        self.next_pass = Some(self.now);
    }

    fn on_plan_started(&mut self, host: HostIndex, started: PlanStarted) {
        if let Some(before) = &started.closed_before_by {
            let problem = format!("was closed by {} before the plan", before.actor);
            return self.stop(Stop::on(host, StopKind::Refused, problem));
        }
        let plan = started.plan;
        let is_first = matches!(self.phase, Phase::Working(_, Job::Close { .. }));
        let is_open = matches!(plan.state, PlanState::Scheduled | PlanState::Lead);
        if is_first {
            self.drain(host, Some(plan.id.clone()));
        }
        self.next_pass = Some(self.now + RENEW_PAUSE);
        let plan = plan.id;
        let job = if is_open {
            let until = self.now + RENEW_PAUSE + OPEN_TIME_MAX;
            Job::AwaitClose { until, plan }
        } else {
            Job::Run(Task::Drain(Some(plan)))
        };
        self.phase = Phase::Working(host, job);
    }

    /// Takes in the end of the present task.
    pub(crate) fn on_task_ended(&mut self, host: HostIndex, job: &Job, end: TaskEnd) {
        match (job, end) {
            (_, TaskEnd::Failed(stop)) => self.stop(stop),
            (Job::Run(Task::Drain(_)) | Job::AwaitClose { .. }, TaskEnd::Done) => {
                let work = self.settings.work;
                let step = if work.command || work.reboot {
                    RollStep::Command
                } else {
                    RollStep::Ready
                };
                self.record(host, step);
            }
            (Job::Run(Task::Command), TaskEnd::CommandEnded(exit)) => {
                self.on_command_ended(host, exit);
            }
            (Job::Run(Task::Command), TaskEnd::Lost(_)) => {
                self.show(host, Stage::Seeking);
                self.ask(host, Question::Seek);
            }
            (Job::Run(Task::Reboot), TaskEnd::Done) => self.record(host, RollStep::Ready),
            (Job::Run(Task::Ready), TaskEnd::Done) => {
                self.show(host, Stage::Opening);
                self.ask(host, Question::Open);
            }
            (_, TaskEnd::Done | TaskEnd::CommandEnded(_) | TaskEnd::Lost(_)) => {}
        }
    }

    fn on_command_ended(&mut self, host: HostIndex, exit: u8) {
        if exit != 0 {
            self.stop(command_failed(host, exit));
        } else if !self.stop_if_interrupted(host) {
            self.after_command(host);
        }
    }

    fn after_command(&mut self, host: HostIndex) {
        if self.settings.work.reboot {
            self.ask(host, Question::Check(Task::Reboot));
        } else {
            self.record(host, RollStep::Ready);
        }
    }

    /// Records a step on the host, before it is carried out.
    fn record(&mut self, host: HostIndex, step: RollStep) {
        self.ask(host, Question::Record(step));
    }

    /// Asks the host, for [`SEEK_TIME_MAX`] at most.
    fn ask(&mut self, host: HostIndex, question: Question) {
        self.send(host, question, self.now + SEEK_TIME_MAX);
    }

    /// Asks the host, or asks it again.
    pub(crate) fn send(&mut self, host: HostIndex, question: Question, until: Duration) {
        let call = match question {
            Question::Record(step) => {
                let round = self.next_round();
                Call::Reserve(self.reserve(round, Some(step)))
            }
            Question::Open => Call::ChangeMode(Box::new(self.opening())),
            Question::Check(_) | Question::Seek | Question::LookAtMode => Call::GetStatus,
        };
        let ask = Ask {
            question,
            until,
            retry_at: None,
        };
        self.phase = Phase::Working(host, Job::Ask(ask));
        self.call(host, Purpose::Ask, call);
    }

    /// Asks again after a while; stops once it was asked for too long.
    fn ask_later(&mut self, host: HostIndex, question: Question, problem: impl Into<String>) {
        let Phase::Working(_, Job::Ask(ask)) = &mut self.phase else {
            return;
        };
        if self.now >= ask.until {
            return self.stop(Stop::on(host, StopKind::Unreachable, problem));
        }
        ask.question = question;
        ask.retry_at = Some(self.now + SEEK_PAUSE);
    }

    /// Takes in the answer to the present question.
    pub(crate) fn on_answered(&mut self, host: HostIndex, answer: Result<Answer, CallError>) {
        let Phase::Working(_, Job::Ask(ask)) = &self.phase else {
            return;
        };
        match ask.question.clone() {
            Question::Record(step) => self.on_recorded(host, step, answer),
            Question::Check(task) => self.on_checked(host, task, answer),
            Question::Seek => self.on_sought(host, answer),
            Question::Open => self.on_opened(host, answer),
            Question::LookAtMode => self.on_mode_seen(host, answer),
        }
    }

    fn on_recorded(&mut self, host: HostIndex, step: RollStep, answer: Result<Answer, CallError>) {
        match answer {
            Ok(_) => self.on_step(host, step),
            Err(CallError::Refused(error)) => {
                self.stop(Stop::on(host, StopKind::Refused, error.message));
            }
            Err(CallError::Lost(problem)) => {
                self.ask_later(host, Question::Record(step), problem);
            }
        }
    }

    /// Carries out a step that is recorded.
    fn on_step(&mut self, host: HostIndex, step: RollStep) {
        let is_command = step == RollStep::Command && self.settings.work.command;
        if !is_command {
            self.show(host, Stage::At(step));
        }
        match step {
            RollStep::Command if is_command => self.ask(host, Question::Check(Task::Command)),
            RollStep::Command => self.ask(host, Question::Check(Task::Reboot)),
            RollStep::Ready => self.run(host, Task::Ready),
            RollStep::Done => {
                self.phase = Phase::Pausing(self.now + self.settings.pause);
            }
            RollStep::Draining | RollStep::CommandEnded => {}
        }
    }

    /// Decides whether a task that may cut sessions may begin: the node must still be closed by this roll. The host may have rebooted before
    /// the roll was resumed.
    fn on_checked(&mut self, host: HostIndex, task: Task, answer: Result<Answer, CallError>) {
        let problem = match answer {
            // A command that was frozen for a while may come to this with a step that another one has finished.
            Ok(Answer::Status(status))
                if self.is_resumed_elsewhere(status.reservation.as_deref()) =>
            {
                return self.stop_resumed_elsewhere(host);
            }
            Ok(Answer::Status(status)) if is_closed_by(&status, &self.settings.roll) => {
                let has_rebooted = has_rebooted(&status, &self.settings.roll);
                let is_repeated = self.settings.fault.is(Fault::RepeatReboot);
                if task == Task::Reboot && has_rebooted && !is_repeated {
                    return self.record(host, RollStep::Ready);
                }
                let stage = if task == Task::Reboot {
                    Stage::Rebooting
                } else {
                    Stage::At(RollStep::Command)
                };
                self.show(host, stage);
                return self.run(host, task);
            }
            Ok(_) => return self.stop_superseded(host),
            Err(CallError::Refused(error)) => error.message,
            Err(CallError::Lost(problem)) => problem,
        };
        self.ask_later(host, Question::Check(task), problem);
    }

    fn on_sought(&mut self, host: HostIndex, answer: Result<Answer, CallError>) {
        let record = match answer {
            Ok(Answer::Status(status)) => status.reservation,
            Ok(_) | Err(_) => None,
        };
        let own = record.filter(|record| record.roll == self.settings.roll);
        let has_rebooted = own.as_ref().is_some_and(|record| record.rebooted);
        let step = own.as_ref().and_then(|record| record.step);
        if let Some(exit) = own.and_then(|record| record.command_exit) {
            self.on_command_ended(host, exit);
        } else if has_rebooted {
            self.show(host, Stage::At(RollStep::Command));
            let problem = "the host has rebooted while the command ran, and its end is unknown";
            self.stop(Stop::on(host, StopKind::Failed, problem));
        } else if step == Some(RollStep::CommandEnded) {
            self.show(host, Stage::At(RollStep::Command));
            let gone = Stop::on(host, StopKind::Failed, COMMAND_GONE);
            self.stop(gone.with_hint(LOOK_FOR_COMMAND));
        } else {
            let problem = "the connection was lost while the command ran, and its end is unknown";
            self.ask_later(host, Question::Seek, problem);
        }
    }

    /// Returns the request that opens the node.
    fn opening(&self) -> ChangeMode {
        let reason = with_message(self.settings.close.reason(), "maintenance done");
        ChangeMode {
            if_roll: Some(self.settings.roll.clone()),
            reason: Some(reason),
            on_behalf_of: Some(self.settings.by.clone()),
            ..ChangeMode::to(SettableMode::Normal)
        }
    }

    fn on_opened(&mut self, host: HostIndex, answer: Result<Answer, CallError>) {
        match answer {
            Ok(_) => self.record(host, RollStep::Done),
            Err(CallError::Refused(error)) if error.data.error_type == ErrorType::Superseded => {
                self.stop(Stop::on(host, StopKind::Superseded, error.message));
            }
            Err(CallError::Refused(error)) => {
                self.stop(Stop::on(host, StopKind::Refused, error.message));
            }
            Err(CallError::Lost(problem)) => self.ask_later(host, Question::LookAtMode, problem),
        }
    }

    /// Decides whether an opening arrived, after its answer was lost.
    fn on_mode_seen(&mut self, host: HostIndex, answer: Result<Answer, CallError>) {
        let Phase::Working(_, Job::Ask(Ask { until, .. })) = self.phase else {
            return;
        };
        let problem = match answer {
            Ok(Answer::Status(status)) if is_closed_by(&status, &self.settings.roll) => {
                return self.send(host, Question::Open, until);
            }
            Ok(Answer::Status(status)) if !is_closed(&status) => {
                return self.record(host, RollStep::Done);
            }
            Ok(_) => return self.stop_superseded(host),
            Err(CallError::Refused(error)) => error.message,
            Err(CallError::Lost(problem)) => problem,
        };
        self.ask_later(host, Question::LookAtMode, problem);
    }

    fn stop_superseded(&mut self, host: HostIndex) {
        let problem = "another user changed the mode meanwhile";
        self.stop(Stop::on(host, StopKind::Superseded, problem));
    }
}
