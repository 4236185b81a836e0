//! The end of a roll: its sentences and its JSON.

use std::time::Duration;

use serde::Serialize;
use soramode_protocol::id::RollId;
use soramode_protocol::reservation::RollStep;
use soramode_protocol::time::Time;
use soramode_roll::{Finish, HostIndex, RESERVED_SECONDS, Stage, Start, Stop, StopKind};

use super::request::RollRequest;
use super::show::{Host, RollView};
use crate::caller::{Caller, before_opening};
use crate::describe::describe_change;
use crate::error::{Exit, Failure};
use crate::mode_info::ModeInfo;
use crate::opening::Opening;
use crate::output::escape::escape;
use crate::output::{Format, Output, counted, report_failure, times};

/// The node that a roll has left closed, as it is after the end.
pub(super) struct Left {
    pub(super) host: HostIndex,
    /// False if the operator did not wait for the look.
    pub(super) is_looked_at: bool,
    /// The mode; `None` if the node does not answer, or was not looked at.
    pub(super) mode: Option<ModeInfo>,
    /// This user on the node.
    pub(super) me: Option<Caller>,
    /// The offer of the command that opens the node; `None` if that could not be read.
    pub(super) opening: Option<Opening>,
    /// The command that opens the node.
    pub(super) open: String,
    /// The command that lists its sessions.
    pub(super) sessions: String,
}

impl Left {
    /// Continues the hint: the command that opens the node, or the operator to ask where another one has closed it meanwhile.
    fn how_to_open(&self, roll: &RollId) -> String {
        let own = format!(". Or open the node: {}", self.open);
        match &self.mode {
            Some(now) if !now.mode.is_block() => String::new(),
            Some(now) => match &now.state {
                Some(state) if state.roll.as_ref() != Some(roll) => {
                    format!(". {}", before_opening(now, self.me.as_ref()))
                }
                Some(_) | None => match &self.opening {
                    Some(Opening::Others(words) | Opening::Runs(words)) => format!(". {words}"),
                    Some(Opening::Own) | None => own,
                },
            },
            None => own,
        }
    }

    /// `. sfu-01 is still closed: uid:0(root) for alice@laptop set block_new_session 12 s ago ("CHG-1")`
    fn describe(&self, host: &Host) -> String {
        let name = escape(&host.typed);
        let state = self.mode.as_ref().and_then(|mode| mode.state.as_ref());
        match state {
            Some(state) if state.mode.is_block() => {
                format!(". {name} is still closed: {}", describe_change(state))
            }
            Some(state) => format!(". {name} is {}: {}", state.mode, describe_change(state)),
            None if !self.is_looked_at && host.step() == Some(RollStep::Draining) => {
                format!(". {name} may be closed")
            }
            None if !self.is_looked_at => format!(". {name} stays closed"),
            None => {
                let closed = host.closed_at.map(times::age);
                let closed = closed.map(|age| format!("was closed {age} ago, and "));
                let closed = closed.unwrap_or_default();
                format!(". {name} {closed}does not answer now")
            }
        }
    }
}

/// Outcome of the roll on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum HostOutcome {
    Done,
    Skipped,
    Stopped,
    Untouched,
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
    /// Time at which the reservation has expired at the latest; set if no release was confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reserved_until: Option<Time>,
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

impl Host {
    fn outcome(&self, stop: Option<&Stop>, number: HostIndex) -> HostOutcome {
        match self.stage {
            Some(Stage::At(RollStep::Done)) => HostOutcome::Done,
            Some(Stage::Skipped) => HostOutcome::Skipped,
            _ if stop.is_some_and(|stop| stop.host == Some(number)) => HostOutcome::Stopped,
            Some(_) if stop.is_some() && self.closed_at.is_some() => HostOutcome::Stopped,
            Some(_) | None => HostOutcome::Untouched,
        }
    }
}

impl RollView {
    /// Prints the result.
    pub(super) fn finish(
        &self,
        finish: &Finish,
        (exit, left): (Exit, Option<&Left>),
        request: &RollRequest,
        output: &mut Output,
    ) -> Result<(), Failure> {
        self.end();
        let stop = finish.stop.as_ref();
        let roll = request.settings.roll.as_str();
        match output.format() {
            Format::Json | Format::Jsonl => {
                self.json(finish, exit, request, output)?;
            }
            Format::Plain | Format::Table if stop.is_none() => {
                let hosts = self.hosts();
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
        if !finish.unreleased.is_empty() {
            output.warn(&describe_unreleased(&finish.unreleased, request));
        }
        if let Some(stop) = stop {
            let failure = self.failure((stop, finish), (exit, left), request);
            let has_begun = self.hosts().iter().any(|host| host.stage.is_some());
            let says_resume = has_begun || stop.kind == StopKind::Failed;
            let is_hint_due = !says_resume && !finish.unreleased.is_empty();
            let hint = is_hint_due.then(|| {
                let resume = request.resume.line(false);
                format!("To run it again before the reservation expires: {resume}")
            });
            report_failure(&failure.with_hint(hint.unwrap_or_default()));
        }
        Ok(())
    }

    /// Describes a stop.
    fn failure(
        &self,
        (stop, finish): (&Stop, &Finish),
        (exit, left): (Exit, Option<&Left>),
        request: &RollRequest,
    ) -> Failure {
        let hosts = self.hosts();
        let host = stop.host.and_then(|number| hosts.get(number));
        let problem = match host {
            Some(host) => format!("{}: {}", escape(&host.typed), stop.problem),
            None => stop.problem.clone(),
        };
        if hosts.iter().all(|host| host.stage.is_none()) {
            return not_begun((stop, finish), &problem, exit, request);
        }
        let state = left.and_then(|left| Some(left.describe(hosts.get(left.host)?)));
        let message = format!(
            "roll {} has stopped: {problem}{}",
            request.settings.roll,
            state.unwrap_or_default()
        );
        let resume = request.resume.line(needs_again(&hosts, stop));
        // A node on which work goes on is not to be opened.
        let opens = |_: &&Left| stop.kind != StopKind::Interrupted || stop.hint.is_none();
        let open = left.filter(opens);
        let open = open.map(|left| left.how_to_open(&request.settings.roll));
        let drains = left.filter(|left| {
            let host = hosts.get(left.host);
            host.is_some_and(|it| it.step() == Some(RollStep::Draining))
        });
        let sessions = drains.map_or_else(String::new, |left| {
            format!("See the sessions that are left: {}", left.sessions)
        });
        let go_on = format!("Go on: {resume}{}", open.unwrap_or_default());
        Failure::new(exit, message)
            .with_hint(stop.hint.as_deref().unwrap_or_default())
            .with_hint(sessions)
            .with_hint(go_on)
    }

    fn json(
        &self,
        finish: &Finish,
        exit: Exit,
        request: &RollRequest,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let hosts = self.hosts();
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
            reserved_until: finish.unreleased.contains(&number).then(reserved_until),
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

/// Returns when the reservations that were not released have expired: the last one was renewed by now.
fn reserved_until() -> Time {
    times::now() + Duration::from_secs(RESERVED_SECONDS)
}

/// `sfu-01, sfu-02 may stay reserved for roll 7Q2K9XA0 until 2026-12-01 02:00:00 +09:00: other rolls are refused there`
fn describe_unreleased(unreleased: &[HostIndex], request: &RollRequest) -> String {
    let names = unreleased
        .iter()
        .filter_map(|host| request.hosts.get(*host));
    let names: Vec<_> = names.map(|name| escape(name)).collect();
    format!(
        "{} may stay reserved for roll {} until {}: other rolls are refused there",
        names.join(", "),
        request.settings.roll,
        times::local(reserved_until())
    )
}

/// Returns whether the roll goes on only with `--again`: its command failed, or may not have been run.
fn needs_again(hosts: &[Host], stop: &Stop) -> bool {
    let host = stop.host.and_then(|number| hosts.get(number));
    let stage = host.and_then(|host| host.stage);
    stage == Some(Stage::At(RollStep::Command))
        && !matches!(stop.kind, StopKind::Unreachable | StopKind::Interrupted)
}

/// Describes a roll that was refused before it closed a node.
fn not_begun(
    (stop, finish): (&Stop, &Finish),
    problem: &str,
    exit: Exit,
    request: &RollRequest,
) -> Failure {
    let begins = match request.settings.start {
        Start::New => "has not begun",
        Start::Resume | Start::ResumeAgain => "does not go on",
    };
    let roll = &request.settings.roll;
    let unchanged = if finish.unreleased.is_empty() {
        "Nothing was changed"
    } else {
        "No node was closed or opened"
    };
    let message = format!("roll {roll} {begins}: {problem}. {unchanged}");
    let failure = Failure::new(exit, message).with_hint(stop.hint.as_deref().unwrap_or_default());
    if stop.kind == StopKind::Failed {
        return failure.with_hint(format!(
            "Run the command again: {}. Or open the node to go on without the command",
            request.resume.line(true)
        ));
    }
    failure
}
