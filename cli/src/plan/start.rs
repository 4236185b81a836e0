//! Starting a plan, and the answer.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Zoned};
use soramode_protocol::error::ErrorType;
use soramode_protocol::mode::{ListModeChanges, Mode, SettableMode};
use soramode_protocol::node::{GetStatus, Status};
use soramode_protocol::plan::{
    ClosedBefore, GetPlan, Plan, PlanStarted, PlanState, PlanStep, PlanStepState, StartPlan,
};

use super::describe::describe_begun;
use super::request::NewPlan;
use super::steps::step_lines;
use crate::cluster;
use crate::context::Context;
use crate::daemon::Daemon;
use crate::describe::describe_origin;
use crate::error::{Exit, Failure};
use crate::last_status::LastStatus;
use crate::mode_info::{ModeInfo, with_operator};
use crate::mode_result::{Joined, ModeResult, Stopped};
use crate::node::{NEWEST, Node};
use crate::output::{Format, Output};
use crate::signals::{Signals, unless_interrupted};
use crate::typed_time::TypedTime;
use crate::wait::Then;

/// A plan that was started, or was there already.
pub(crate) struct Started {
    pub(crate) answer: PlanStarted,
    /// The mode from before, and as the plan left it by now.
    pub(crate) closed: ModeResult,
}

/// Starts a plan. A daemon that knows no plans refuses that, and nothing is changed.
///
/// A signal before the request leaves the node as it is.
pub(crate) async fn start(
    new: &NewPlan,
    node: Node<'_>,
    signals: Option<&mut Signals>,
) -> Result<Started, Failure> {
    let newest = ListModeChanges {
        limit: Some(NEWEST),
    };
    let read = async {
        if new.request.keep_open.is_some() && new.close_time.is_none() {
            cluster::wait_for_read(node).await?;
        }
        let mut daemon = node.connect().await?;
        let (status, history) = daemon.call_both(&GetStatus {}, &newest).await?;
        let before = ModeInfo::of(with_operator(status.mode, &history.changes));
        check_not_past(new, &mut daemon, node)
            .await
            .map_err(nothing_done)?;
        Ok((daemon, before))
    };
    let (mut daemon, before) = unless_interrupted(signals, read).await?;
    let mut answer = daemon
        .call(&StartPlan {
            on_behalf_of: daemon.on_behalf_of(),
            ..new.request.clone()
        })
        .await
        .map_err(nothing_done)
        .map_err(|failure| with_own_remedy(failure, new))?;
    // A step that is due at once may be done only after the answer.
    let found = daemon.call(&GetPlan {}).await?.plan;
    if let Some(plan) = found.filter(|plan| plan.id == answer.plan.id) {
        answer.plan = plan;
    }
    let (status, history) = daemon.call_both(&GetStatus {}, &newest).await?;
    let state = with_operator(status.mode.clone(), &history.changes);
    let is_done = state.plan_id.as_ref() == Some(&answer.plan.id);
    let now = if is_done {
        ModeInfo::of(state)
    } else {
        before.clone()
    };
    let closed = ModeResult {
        target: last_mode(&answer.plan).into(),
        published: published(&status),
        status: LastStatus::Daemon(Box::new(status)),
        changed: answer.created && is_done,
        joined: if answer.closed_before_by.is_some() {
            Joined::Theirs
        } else {
            Joined::No
        },
        before,
        now,
        warning: answer.warning.clone(),
        status_failure: None,
        plan_id: Some(answer.plan.id.clone()),
        stopped: Stopped::default(),
    };
    Ok(Started { answer, closed })
}

fn published(status: &Status) -> Option<bool> {
    status.cluster.as_ref().map(|cluster| cluster.published)
}

/// Returns the last mode that a plan sets: an announcement or an end blocks new connections.
fn last_mode(plan: &Plan) -> SettableMode {
    let mode_of = |it: &PlanStepState| match it.step {
        PlanStep::Mode { mode, .. } => Some(mode),
        PlanStep::Announce { .. } | PlanStep::End { .. } => Some(SettableMode::BlockNewConnection),
        PlanStep::Unready { .. } | PlanStep::Unknown => None,
    };
    let modes = plan.steps.iter().filter_map(mode_of);
    modes.max().unwrap_or(SettableMode::BlockNewSession)
}

/// Largest difference between this machine's clock and a host's that is not taken for a wrong time.
const CLOCK_DIFFERENCE_MAX: SignedDuration = SignedDuration::from_mins(5);

/// Refuses a plan with a first step that is past, unless it is there already: the same command again changes nothing. On another host, its
/// daemon decides on a time that is close to now.
async fn check_not_past(
    new: &NewPlan,
    daemon: &mut Daemon<'_>,
    node: Node<'_>,
) -> Result<(), Failure> {
    let Some(at) = &new.close_time else {
        return Ok(());
    };
    let now = Zoned::now();
    let first_step = new.first_step().min(0);
    let difference = node
        .host()
        .map_or(SignedDuration::ZERO, |_| CLOCK_DIFFERENCE_MAX);
    let is_past = at.is_past(SignedDuration::from_secs(first_step) + difference, &now);
    if !is_past {
        return Ok(());
    }
    let found = daemon.call(&GetPlan {}).await?;
    if found.plan.is_some_and(|plan| new.is_same(&plan)) {
        Ok(())
    } else {
        Err(at.past(
            &now,
            first_step,
            Some("To close the node now, leave out --at"),
        ))
    }
}

/// Adds to the refusal of a daemon without plans that it closed nothing.
fn nothing_done(failure: Failure) -> Failure {
    if failure.exit == Exit::Versions {
        failure.and("No plan was made, and the node was not closed")
    } else {
        failure
    }
}

/// Names the options of this command in the remedy for a plan that is there.
fn with_own_remedy(failure: Failure, new: &NewPlan) -> Failure {
    if failure.error_type != Some(ErrorType::PlanRefused) || new.then == Then::Nothing {
        return failure;
    }
    let hint = failure
        .hint
        .map(|hint| hint.replace("Replace it with --replace, or cancel it", "Cancel it first"));
    Failure { hint, ..failure }
}

/// Describes the operator that had closed the node before the plan.
fn describe_closed_before(before: &ClosedBefore, closed: &ModeResult) -> String {
    let node = closed.status.name();
    let by = closed
        .before
        .state
        .as_ref()
        .filter(|state| state.actor.starts_with(&before.actor))
        .map_or_else(|| before.actor.clone(), describe_origin);
    format!("{node} was already closed, by {by}")
}

/// Returns the lines that describe a plan that was started: its state, the steps to come, and the command that cancels it.
pub(super) fn describe_start(
    started: &Started,
    close_time: Option<&TypedTime>,
    node: Node<'_>,
) -> Vec<String> {
    let plan = &started.answer.plan;
    let name = started.closed.status.name();
    let there = if started.answer.created {
        String::new()
    } else {
        " It was there already: nothing was changed.".to_owned()
    };
    let at = close_time
        .filter(|_| plan.state == PlanState::Scheduled)
        .map(|at| format!(" It closes {name} at {}.", at.describe(&TimeZone::system())));
    let first = format!(
        "{}.{}{there}",
        describe_begun(plan, &name),
        at.unwrap_or_default()
    );
    let before = started
        .answer
        .closed_before_by
        .as_ref()
        .map(|before| describe_closed_before(before, &started.closed));
    let cancel = (plan.state != PlanState::Over).then(|| {
        let cancel = node.command(&format!("plan cancel {}", plan.id));
        format!("Cancel it: {cancel}")
    });
    std::iter::once(first)
        .chain(step_lines(plan))
        .chain(before)
        .chain(cancel)
        .collect()
}

/// Prints the answer of a command that does not wait for its plan.
pub(crate) fn confirm_started(
    started: &Started,
    new: &NewPlan,
    node: Node<'_>,
    output: &mut Output,
) -> Result<(), Failure> {
    let plan = &started.answer.plan;
    match output.format() {
        Format::Json | Format::Jsonl => output.json(&started.answer),
        Format::Plain => {
            let word = if started.answer.created {
                "created"
            } else {
                "unchanged"
            };
            let end = plan.sessions_end_at().map(|end| end.to_string());
            output.record(&[
                word,
                plan.id.as_str(),
                plan.state.name(),
                &plan.at.to_string(),
                end.as_deref().unwrap_or_default(),
            ])
        }
        Format::Table => describe_start(started, new.close_time.as_ref(), node)
            .iter()
            .try_for_each(|line| output.confirm(line)),
    }
}

/// Records that a plan was started, and prints the node's warnings about it.
pub(crate) fn note_started(started: &Started, context: &mut Context<'_>) {
    let plan = &started.answer.plan;
    let output = &mut context.output;
    if started.answer.created {
        output.changed(&format!("plan {} is started", plan.id));
    }
    if let Some(warning) = &started.answer.warning {
        output.warn(warning);
    }
    started.closed.status.warn(output);
}

/// Checks that the other nodes of the cluster were notified of the close.
pub(crate) fn check_published(started: &Started, new: &NewPlan) -> Result<(), Failure> {
    let closed = &started.closed;
    if !new.requires_published || closed.published != Some(false) {
        return Ok(());
    }
    let mode: Mode = closed.now.mode;
    Err(Failure::new(
        Exit::Refused,
        format!(
            "{} is closed ({mode}), but the other nodes could not be notified. Plan {} goes on",
            closed.status.name(),
            started.answer.plan.id
        ),
    ))
}
