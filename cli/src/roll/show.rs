//! The roll on the screen: a table that is redrawn, or a line a step; and its result at the end.

use std::cell::RefCell;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use soramode_protocol::reservation::RollStep;
use soramode_protocol::time::Time;
use soramode_roll::{Finish, HostIndex, Stage, Start, Stop, StopKind};

use super::request::RollRequest;
use crate::error::{Exit, Failure};
use crate::output::escape::escape;
use crate::output::width_of_stderr;
use crate::output::{Format, Output, cells, counted, relay, report_failure, times};

/// Outcome of the roll on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum HostOutcome {
    Done,
    Skipped,
    Stopped,
    Untouched,
}

/// A host of the roll.
#[derive(Debug)]
pub(super) struct Host {
    typed: String,
    node_name: Option<String>,
    stage: Option<Stage>,
    since: Option<Time>,
    sessions: Option<u64>,
    sessions_at_close: Option<u64>,
    closed_at: Option<Time>,
    drained_at: Option<Time>,
    opened_at: Option<Time>,
    command_exit: Option<u8>,
    /// The obstacle that the wait for readiness has seen last.
    waits_for: String,
    bar: Option<ProgressBar>,
}

impl Host {
    pub(super) const fn new(typed: String, node_name: Option<String>) -> Self {
        Self {
            typed,
            node_name,
            stage: None,
            since: None,
            sessions: None,
            sessions_at_close: None,
            closed_at: None,
            drained_at: None,
            opened_at: None,
            command_exit: None,
            waits_for: String::new(),
            bar: None,
        }
    }

    fn outcome(&self, stop: Option<&Stop>, number: HostIndex) -> HostOutcome {
        match self.stage {
            Some(Stage::At(RollStep::Done)) => HostOutcome::Done,
            Some(Stage::Skipped) => HostOutcome::Skipped,
            _ if stop.is_some_and(|stop| stop.host == Some(number)) => HostOutcome::Stopped,
            Some(_) if stop.is_some() && self.closed_at.is_some() => HostOutcome::Stopped,
            Some(_) | None => HostOutcome::Untouched,
        }
    }

    const fn step(&self) -> Option<RollStep> {
        match self.stage {
            Some(Stage::At(step)) => Some(step),
            Some(Stage::Seeking | Stage::Rebooting) => Some(RollStep::Command),
            Some(Stage::Opening) => Some(RollStep::Ready),
            Some(Stage::Preparing | Stage::Skipped) | None => None,
        }
    }
}

/// Returns the word for a step.
const fn describe_step(step: RollStep) -> &'static str {
    match step {
        RollStep::Draining => "draining",
        RollStep::Command => "running the command",
        RollStep::CommandEnded => "command ended",
        RollStep::Ready => "waiting until ready",
        RollStep::Done => "done",
    }
}

/// Describes where the roll is on a host.
const fn describe_stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Preparing => "waiting until enough others are open",
        Stage::At(step) => describe_step(step),
        Stage::Seeking => "connection lost while the command runs: looking for the host",
        Stage::Rebooting => "rebooting",
        Stage::Opening => "opening",
        Stage::Skipped => "skipped: another user has closed it",
    }
}

/// The screen of a roll.
pub(super) struct RollView {
    hosts: RefCell<Vec<Host>>,
    /// The redrawn table, on a terminal.
    table: Option<MultiProgress>,
    quiet: bool,
    name_width: usize,
}

/// The JSON of a host.
#[derive(Serialize)]
struct HostView<'a> {
    host: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_name: Option<&'a str>,
    outcome: HostOutcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<RollStep>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command_exit: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drained_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    opened_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions_at_close: Option<u64>,
}

/// The JSON of a roll.
#[derive(Serialize)]
struct RollResult<'a> {
    roll: &'a str,
    outcome: &'static str,
    exit: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    resume: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    least_open: Option<usize>,
    nodes: Vec<HostView<'a>>,
}

impl RollView {
    pub(super) fn new(request: &RollRequest, mut hosts: Vec<Host>, output: &Output) -> Self {
        let name_width = hosts
            .iter()
            .map(|host| cells::width(&host.typed))
            .max()
            .unwrap_or_default();
        let table = output.can_draw().then(|| {
            let table = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
            for host in &mut hosts {
                let bar = table.add(ProgressBar::no_length());
                bar.set_style(
                    ProgressStyle::with_template("{msg}")
                        .unwrap_or_else(|_| ProgressStyle::default_spinner()),
                );
                host.bar = Some(bar);
            }
            table
        });
        let view = Self {
            hosts: RefCell::new(hosts),
            table,
            quiet: output.is_quiet(),
            name_width,
        };
        view.line(&format!(
            "roll {}: {} of {}",
            request.settings.roll,
            request.settings.maintained.len(),
            counted(request.hosts.len() as u64, "host")
        ));
        view.draw();
        view
    }

    /// Shows that the roll is here on this host.
    pub(super) fn show(&self, number: HostIndex, stage: Stage) {
        let now = times::now();
        let line = self.change(number, |host| {
            let is_new = host.stage != Some(stage);
            host.stage = Some(stage);
            host.since = Some(now);
            match stage {
                Stage::At(RollStep::Draining) => host.closed_at = host.closed_at.or(Some(now)),
                Stage::At(RollStep::Command | RollStep::Ready) if host.closed_at.is_some() => {
                    host.drained_at = host.drained_at.or(Some(now));
                }
                Stage::At(RollStep::Done) if host.closed_at.is_some() => {
                    host.opened_at = Some(now);
                }
                _ => {}
            }
            is_new.then(|| format!("{}: {}", escape(&host.typed), describe_stage(stage)))
        });
        if let Some(line) = line.filter(|_| self.table.is_none()) {
            self.line(&line);
        }
    }

    /// Shows how many sessions are left.
    pub(super) fn sessions(&self, number: HostIndex, sessions: u64) {
        self.change(number, |host| {
            host.sessions = Some(sessions);
            host.sessions_at_close.get_or_insert(sessions);
            None
        });
    }

    /// Shows a line of the command's output.
    pub(super) fn output(&self, number: HostIndex, text: &str) {
        let hosts = self.hosts.borrow();
        let host = hosts.get(number).map_or("", |host| host.typed.as_str());
        self.any_line(&format!("{host}: {text}"));
    }

    pub(super) fn command_exit(&self, number: HostIndex, code: u8) {
        self.change(number, |host| {
            host.command_exit = Some(code);
            None
        });
    }

    /// Shows what the wait until the host is ready waits for.
    pub(super) fn waits_for(&self, number: HostIndex, why: &str) {
        self.change(number, |host| {
            why.clone_into(&mut host.waits_for);
            None
        });
    }

    pub(super) fn last_wait(&self, number: HostIndex) -> String {
        let hosts = self.hosts.borrow();
        hosts
            .get(number)
            .map(|host| host.waits_for.clone())
            .unwrap_or_default()
    }

    /// Says that an interrupt waits for the command, if one runs.
    pub(super) fn interrupted(&self) {
        let runs = |host: &Host| host.stage.is_some() && host.step() == Some(RollStep::Command);
        if !self.hosts.borrow().iter().any(runs) {
            return;
        }
        self.line("interrupted: the command that runs is waited for. Ctrl-C again leaves at once");
    }

    fn change(
        &self,
        number: HostIndex,
        change: impl FnOnce(&mut Host) -> Option<String>,
    ) -> Option<String> {
        let line = self.hosts.borrow_mut().get_mut(number).and_then(change);
        self.draw();
        line
    }

    /// Prints a note.
    fn line(&self, text: &str) {
        if !self.quiet {
            self.any_line(text);
        }
    }

    fn any_line(&self, text: &str) {
        match &self.table {
            Some(table) => table.suspend(|| relay(text)),
            None => relay(text),
        }
    }

    fn draw(&self) {
        let width = width_of_stderr().saturating_sub(1);
        for host in self.hosts.borrow().iter() {
            let Some(bar) = &host.bar else { continue };
            let step = host.stage.map_or("", describe_stage);
            let left = match (host.step(), host.sessions) {
                (Some(RollStep::Draining), Some(sessions)) => {
                    format!(", {} left", counted(sessions, "session"))
                }
                _ => String::new(),
            };
            let since = host.since.map(|since| format!(" ({})", times::age(since)));
            let name = cells::padded(&escape(&host.typed), self.name_width);
            let line = format!("{name}  {step}{left}{}", since.unwrap_or_default());
            bar.set_message(cells::cut_middle(&line, width).into_owned());
        }
    }

    /// Prints the result.
    pub(super) fn finish(
        &self,
        finish: &Finish,
        exit: Exit,
        request: &RollRequest,
        output: &mut Output,
    ) -> Result<(), Failure> {
        // The table stays on the screen.
        for host in self.hosts.borrow().iter() {
            host.bar.iter().for_each(ProgressBar::finish);
        }
        let stop = finish.stop.as_ref();
        let roll = request.settings.roll.as_str();
        match output.format() {
            Format::Json | Format::Jsonl => {
                self.json(finish, exit, request, output)?;
            }
            Format::Plain | Format::Table if stop.is_none() => {
                let hosts = self.hosts.borrow();
                let count = |outcome| {
                    let hosts = hosts.iter().enumerate();
                    hosts
                        .filter(|(number, it)| it.outcome(None, *number) == outcome)
                        .count() as u64
                };
                let skipped = match count(HostOutcome::Skipped) {
                    0 => String::new(),
                    skipped => format!(", {skipped} skipped"),
                };
                let done = counted(count(HostOutcome::Done), "node");
                output.confirm(&format!("roll {roll} is done: {done}{skipped}"))?;
            }
            Format::Plain | Format::Table => {}
        }
        output.flush()?;
        if let Some(stop) = stop {
            report_failure(&self.failure(stop, exit, request));
        }
        Ok(())
    }

    /// Describes a stop.
    fn failure(&self, stop: &Stop, exit: Exit, request: &RollRequest) -> Failure {
        let hosts = self.hosts.borrow();
        let host = stop.host.and_then(|number| hosts.get(number));
        let problem = match host {
            Some(host) => format!("{}: {}", escape(&host.typed), stop.problem),
            None => stop.problem.clone(),
        };
        if hosts.iter().all(|host| host.stage.is_none()) {
            return not_begun(stop, &problem, exit, request);
        }
        let is_left = |host: &&Host| host.closed_at.is_some() && host.opened_at.is_none();
        let left = hosts
            .iter()
            .find(is_left)
            .map(|host| format!(". {} is left as it is", escape(&host.typed)));
        let message = format!(
            "roll {} has stopped: {problem}{}",
            request.settings.roll,
            left.unwrap_or_default()
        );
        let resume = request.resume.line(needs_again(&hosts, stop));
        Failure::new(exit, message).with_hint(format!("Go on: {resume}"))
    }

    fn json(
        &self,
        finish: &Finish,
        exit: Exit,
        request: &RollRequest,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let hosts = self.hosts.borrow();
        let stop = finish.stop.as_ref();
        let nodes = hosts.iter().enumerate().map(|(number, host)| HostView {
            host: &host.typed,
            node_name: host.node_name.as_deref(),
            outcome: host.outcome(stop, number),
            step: host.step(),
            command_exit: host.command_exit,
            problem: stop
                .filter(|stop| stop.host == Some(number))
                .map(|stop| stop.problem.as_str()),
            closed_at: host.closed_at,
            drained_at: host.drained_at,
            opened_at: host.opened_at,
            sessions_at_close: host.sessions_at_close,
        });
        output.json(&RollResult {
            roll: request.settings.roll.as_str(),
            outcome: if stop.is_some() { "stopped" } else { "done" },
            exit: exit.code(),
            resume: stop.map(|stop| request.resume.line(needs_again(&hosts, stop))),
            least_open: finish.least_open,
            nodes: nodes.collect(),
        })
    }
}

/// Returns whether the roll goes on only with `--again`: its command failed, or may not have been run.
fn needs_again(hosts: &[Host], stop: &Stop) -> bool {
    let host = stop.host.and_then(|number| hosts.get(number));
    let stage = host.and_then(|host| host.stage);
    stage == Some(Stage::At(RollStep::Command))
        && !matches!(stop.kind, StopKind::Unreachable | StopKind::Interrupted)
}

/// Describes a roll that was refused, with nothing changed.
fn not_begun(stop: &Stop, problem: &str, exit: Exit, request: &RollRequest) -> Failure {
    let begins = match request.settings.start {
        Start::New => "has not begun",
        Start::Resume | Start::ResumeAgain => "does not go on",
    };
    let roll = &request.settings.roll;
    let message = format!("roll {roll} {begins}: {problem}. Nothing was changed");
    let failure = Failure::new(exit, message);
    if stop.kind == StopKind::Failed {
        return failure.with_hint(format!(
            "Run the command again: {}. Or open the node to go on without the command",
            request.resume.line(true)
        ));
    }
    failure
}
