//! Step 1: refuses a roll that cannot work, with nothing changed; and finds where each host stands.

use std::collections::BTreeSet;

use soramode_protocol::access::Access;
use soramode_protocol::end::EndMethod;
use soramode_protocol::error::Error;
use soramode_protocol::id::{PlanId, RollId};
use soramode_protocol::mode::Mode;
use soramode_protocol::node::{MeansFor, Membership, Status};
use soramode_protocol::plan::PlanStep;
use soramode_protocol::reservation::{Reservation, RollStep, is_maintain, roll_words};

use crate::{Close, ClosedNodes, HostFacts, HostIndex, Settings, Start, Stop, StopKind};

/// Words for a command without a recorded end, which none will record.
pub const COMMAND_GONE: &str =
    "the command may still run there: soramode has lost it, and its end is not recorded";

/// Remedy for a command without a recorded end.
pub const LOOK_FOR_COMMAND: &str = "Look on that host first whether the command still runs: ps -ef";

/// Work to do, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Hosts that the roll has closed and goes on with, each after this step.
    pub resumed: Vec<Resumed>,
    /// Hosts that are closed one after the other.
    pub closed: Vec<HostIndex>,
    /// Hosts that the roll is done with.
    pub done: Vec<HostIndex>,
    /// Hosts that are skipped, because another user has closed them.
    pub skipped: Vec<HostIndex>,
}

/// A host that the roll has closed before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// The host.
    pub host: HostIndex,
    /// Step that the roll goes on after.
    pub step: RollStep,
    /// Plan of the roll, if one runs.
    pub plan: Option<PlanId>,
}

/// Place of a host in the roll.
enum Place {
    Open,
    Done,
    Resumed(RollStep),
    ClosedByAnother,
}

/// Checks all hosts, and returns the work to do.
pub fn check(settings: &Settings, hosts: &[Result<HostFacts, String>]) -> Result<Schedule, Stop> {
    let facts = reached(hosts)?;
    if settings.start != Start::New && !facts.iter().any(|it| record(settings, it).is_some()) {
        return Err(Stop {
            kind: StopKind::Refused,
            host: None,
            problem: "no node has a record of it: the id is mistyped, or another roll has reserved the nodes since"
                .to_owned(),
            hint: None,
        });
    }
    let mut schedule = Schedule::default();
    for &host in &settings.maintained {
        let Some(facts) = facts.get(host) else {
            continue;
        };
        match place(settings, facts) {
            Place::Open => {
                check_means(settings, host, &facts.status)?;
                schedule.closed.push(host);
            }
            Place::Done => schedule.done.push(host),
            Place::Resumed(step) => {
                check_resumed(settings, host, facts, step)?;
                let plan = own_plan(&facts.status, &settings.roll).cloned();
                if step == RollStep::Draining && plan.is_none() {
                    check_plan_was_made(settings, host, &facts.status)?;
                }
                schedule.resumed.push(Resumed { host, step, plan });
            }
            Place::ClosedByAnother if settings.closed_nodes == ClosedNodes::Skip => {
                schedule.skipped.push(host);
            }
            Place::ClosedByAnother => {
                return Err(closed_by_another(host, &facts.status, |roll| {
                    hosts.iter().flatten().any(|it| has_record(it, roll))
                }));
            }
        }
    }
    Ok(schedule)
}

/// Refuses a plan for a node that the roll has closed without one: its sessions would never be ended.
fn check_plan_was_made(settings: &Settings, host: HostIndex, status: &Status) -> Result<(), Stop> {
    let is_planned = matches!(settings.close, Close::Plan(_));
    if !is_planned || status.mode.plan_id.is_some() {
        return Ok(());
    }
    let problem =
        "this roll has closed it without a plan, and the options of a plan come too late for it";
    let hint = "Leave them out, and announce the end and end the sessions there while the roll waits: soramode announce, soramode end --all";
    Err(Stop::on(host, StopKind::Refused, problem).with_hint(hint))
}

/// Refuses a plan if a node has no means for its steps, as the node itself does.
fn check_means(settings: &Settings, host: HostIndex, status: &Status) -> Result<(), Stop> {
    let Close::Plan(plan) = &settings.close else {
        return Ok(());
    };
    let lacks = |step: &PlanStep| match step {
        PlanStep::Announce { .. } if status.no_means_to.contains(&MeansFor::Announce) => {
            let is_janus = status.sources.iter().any(|source| source.name == "janus");
            let end_method = is_janus.then_some(EndMethod::JanusAdmin);
            Some(Error::cannot_announce(end_method))
        }
        PlanStep::End { .. } if status.no_means_to.contains(&MeansFor::End) => {
            Some(Error::cannot_end_sessions())
        }
        PlanStep::Announce { .. }
        | PlanStep::End { .. }
        | PlanStep::Unready { .. }
        | PlanStep::Mode { .. }
        | PlanStep::Unknown => None,
    };
    match plan.steps.iter().find_map(lacks) {
        Some(refusal) => Err(Stop::on(host, StopKind::Refused, refusal.to_string())),
        None => Ok(()),
    }
}

/// Checks all hosts, and whether the first node could be closed as things are. Reserves nothing.
pub fn preview(settings: &Settings, hosts: &[Result<HostFacts, String>]) -> Result<Schedule, Stop> {
    let schedule = check(settings, hosts)?;
    let facts = reached(hosts)?;
    for (host, facts) in facts.iter().enumerate() {
        if let Some(other) = facts.status.reservation.as_deref()
            && other.is_current()
            && other.roll != settings.roll
        {
            return Err(reserved(host, other));
        }
    }
    if let Some(&first) = schedule.closed.first() {
        let others = facts.iter().enumerate().filter(|(host, _)| *host != first);
        let open = others.filter(|(_, facts)| is_open(&facts.status)).count();
        if open < settings.keep_open {
            return Err(too_few_open(first, open, settings.keep_open));
        }
    }
    Ok(schedule)
}

/// Returns the hosts' facts, or the reason why one of them cannot take part.
fn reached(hosts: &[Result<HostFacts, String>]) -> Result<Vec<&HostFacts>, Stop> {
    let mut log_ids = BTreeSet::new();
    let mut reached = Vec::new();
    for (host, facts) in hosts.iter().enumerate() {
        let facts = facts.as_ref().map_err(|problem| {
            let stop = Stop::on(host, StopKind::Unreachable, problem.clone());
            stop.with_hint("To go on without that host, leave it out of -H")
        })?;
        if facts.access != Access::Operate {
            let problem = "the user may not operate this node";
            return Err(Stop::on(host, StopKind::NotPermitted, problem));
        }
        if !facts.can_reserve {
            let problem = "its soramoded cannot reserve the node: it is too old";
            return Err(Stop::on(host, StopKind::TooOld, problem));
        }
        if let Some(stop) = &facts.cannot_work {
            return Err(stop.clone());
        }
        if !log_ids.insert(facts.log_id.as_str()) {
            let problem = "is the same node as another host of the list";
            return Err(Stop::on(host, StopKind::Usage, problem));
        }
        reached.push(facts);
    }
    Ok(reached)
}

/// Returns whether a host has the record of this roll.
fn has_record(facts: &HostFacts, roll: &RollId) -> bool {
    let record = facts.status.reservation.as_deref();
    record.is_some_and(|record| record.roll == *roll)
}

/// Returns the record of the roll on a host.
fn record<'a>(settings: &Settings, facts: &'a HostFacts) -> Option<&'a Reservation> {
    let record = facts.status.reservation.as_deref();
    record.filter(|record| settings.start != Start::New && record.roll == settings.roll)
}

fn place(settings: &Settings, facts: &HostFacts) -> Place {
    let status = &facts.status;
    let step = record(settings, facts).and_then(|record| record.step);
    let is_resumed = settings.start != Start::New;
    match (is_closed(status), step) {
        // The command has ended, and the node was opened: by the roll, or by a person in its place.
        (_, Some(RollStep::Done)) | (false, Some(RollStep::CommandEnded | RollStep::Ready)) => {
            Place::Done
        }
        (true, step) if is_resumed && is_closed_by(status, &settings.roll) => {
            Place::Resumed(step.unwrap_or(RollStep::Draining))
        }
        (true, _) => Place::ClosedByAnother,
        (false, Some(step @ RollStep::Command)) if settings.start == Start::Resume => {
            Place::Resumed(step)
        }
        (false, Some(RollStep::Draining | RollStep::Command) | None) => Place::Open,
    }
}

/// Refuses to go on with a host if its command may still run, or has failed.
fn check_resumed(
    settings: &Settings,
    host: HostIndex,
    facts: &HostFacts,
    step: RollStep,
) -> Result<(), Stop> {
    let exit = record(settings, facts).and_then(|record| record.command_exit);
    match (step, exit) {
        (RollStep::Command | RollStep::CommandEnded, _) if settings.start == Start::ResumeAgain => {
            Ok(())
        }
        // Only the reboot runs, which is looked at before it is repeated.
        (RollStep::Command | RollStep::CommandEnded, None) if !settings.work.command => Ok(()),
        (RollStep::Command, None) => {
            let problem = if has_rebooted(&facts.status, &settings.roll) {
                "the host has rebooted while the command ran there: --again runs it again"
            } else {
                "the command may still run there. Once it has ended, resume without --again, which runs it again"
            };
            Err(Stop::on(host, StopKind::Refused, problem))
        }
        (RollStep::CommandEnded, Some(exit @ 1..)) => Err(command_failed(host, exit)),
        (RollStep::CommandEnded, None) => {
            let problem = format!("{COMMAND_GONE}. Once it does not run, add --again");
            Err(Stop::on(host, StopKind::Refused, problem).with_hint(LOOK_FOR_COMMAND))
        }
        (_, _) => Ok(()),
    }
}

/// Returns the steps' result for a command that failed.
pub(crate) fn command_failed(host: HostIndex, exit: u8) -> Stop {
    let problem = format!("the command failed (exit code {exit})");
    Stop::on(host, StopKind::Failed, problem)
}

/// Describes a node that another user has closed, or another roll. `is_on_record` returns whether a host has the record of that roll, without
/// which it cannot be resumed.
pub(crate) fn closed_by_another(
    host: HostIndex,
    status: &Status,
    is_on_record: impl Fn(&RollId) -> bool,
) -> Stop {
    let mode = &status.mode;
    let reason = mode.reason.as_ref();
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    let Some(roll) = &mode.roll else {
        let problem = format!("is closed ({}) by {}{reason}", mode.mode, mode.actor);
        let hint = "Once that is over, open the node. Or leave it out: --skip-closed";
        return Stop::on(host, StopKind::Refused, problem).with_hint(hint);
    };
    let record = status.reservation.as_deref();
    let record = record.filter(|record| record.roll == *roll);
    if let Some(holder) = record.filter(|record| record.is_current()) {
        return reserved(host, holder);
    }
    let by = record.map(|record| record.by.as_str());
    let by = by.or(mode.on_behalf_of.as_deref()).unwrap_or(&mode.actor);
    let problem = format!(
        "is closed ({}) by {} of {by}{reason}. It holds no reservation: it has stopped, or has lost its connection",
        mode.mode,
        roll_words(roll)
    );
    let hint = if is_maintain(roll) {
        "Run that maintain again. Or, once its work is over, open the node: soramode set normal"
            .to_owned()
    } else if is_on_record(roll) {
        format!(
            "If it does not run any more, go on with it: its own command, with --resume {roll}. To see its step: soramode status"
        )
    } else {
        "That roll can no longer be resumed. Once its work is over, open the node: soramode set normal"
            .to_owned()
    };
    Stop::on(host, StopKind::Refused, problem).with_hint(hint)
}

fn reserved(host: HostIndex, reservation: &Reservation) -> Stop {
    let roll = &reservation.roll;
    let seconds = reservation.expires_in_seconds.unwrap_or_default();
    let problem = format!(
        "is reserved for {} of {} (for {seconds} s, unless it renews that)",
        roll_words(roll),
        reservation.by
    );
    let hint = if is_maintain(roll) {
        "Begin once that maintain is over".to_owned()
    } else {
        format!(
            "Begin once that roll is over. If it has died, go on with it: its own command, with --resume {roll}"
        )
    };
    Stop::on(host, StopKind::Refused, problem).with_hint(hint)
}

pub(crate) fn too_few_open(host: HostIndex, open: usize, keep_open: usize) -> Stop {
    let nodes = if open == 1 {
        "1 other node is".to_owned()
    } else {
        format!("{open} other nodes are")
    };
    let problem = format!("is not closed: {nodes} open, and {keep_open} must be");
    Stop::on(host, StopKind::Refused, problem)
}

pub(crate) fn is_closed(status: &Status) -> bool {
    status.mode.mode.is_block()
}

/// Returns whether the present closure came from this roll.
pub(crate) fn is_closed_by(status: &Status, roll: &RollId) -> bool {
    is_closed(status) && status.mode.roll.as_ref() == Some(roll)
}

/// Returns whether the node is open to clients, and no plan is about to close it.
pub(crate) fn is_open(status: &Status) -> bool {
    let is_member = matches!(
        status.membership,
        Membership::Standalone | Membership::Joined
    );
    status.mode.mode == Mode::Normal && is_member && status.plan.is_none()
}

/// Returns whether the host has rebooted since this roll recorded its step there.
pub(crate) fn has_rebooted(status: &Status, roll: &RollId) -> bool {
    let reservation = status.reservation.as_deref();
    reservation.is_some_and(|it| it.rebooted && it.roll == *roll)
}

/// Returns the plan that runs, if it is this roll's.
pub(crate) fn own_plan<'a>(status: &'a Status, roll: &RollId) -> Option<&'a PlanId> {
    let plan = status.plan.as_deref();
    let own = plan.filter(|plan| plan.roll.as_ref() == Some(roll));
    own.map(|plan| &plan.id)
}

/// Returns whether the roll has a current reservation of the node.
pub(crate) fn is_reserved_by(status: &Status, roll: &RollId) -> bool {
    let reservation = status.reservation.as_deref();
    reservation.is_some_and(|it| it.is_current() && it.roll == *roll)
}
