//! Waiting for a plan. The plan goes on without the command: each end of the wait says how.

use std::time::Duration;

use soramode_protocol::id::PlanId;
use soramode_protocol::plan::{GetPlan, Plan, PlanOutcome, PlanState};
use soramode_protocol::wait::{Wait, WaitFor};
use tokio::time::timeout;

use super::describe::{describe_future, describe_over};
use super::request::NewPlan;
use super::start::{Started, describe_start};
use crate::closed::Closed;
use crate::context::Context;
use crate::describe::describe_later_change;
use crate::error::{Exit, Failure};
use crate::mode_info::ModeInfo;
use crate::node::Node;
use crate::report::Report;
use crate::signals::Signals;
use crate::wait::{Reached, WaitRequest, describe_limit, wait};

/// Limit of the time for reading the plan at the end of a wait: after Ctrl-C the operator waits for it.
const LAST_PLAN_MAX: Duration = Duration::from_secs(1);

/// Prints the plan, and waits until it is done.
pub(crate) async fn watch(
    new: &NewPlan,
    started: Started,
    node: Node<'_>,
    (context, signals, report): (&mut Context<'_>, &mut Signals, &mut Report),
) -> Result<(Closed, Reached), Failure> {
    report.change = Some(started.closed.change());
    report.status = Some(started.closed.status.clone());
    report.plan = Some(Box::new(started.answer.plan.clone()));
    for line in describe_start(&started, new.close_time.as_ref(), node) {
        context.output.note(&line);
    }
    let plan = started.answer.plan;
    let mut closed = started.closed;
    let ended = wait_for(new, &plan, &closed, node, (context, signals, report)).await;
    let last = last_plan(node, &plan).await;
    report.plan = Some(Box::new(last.clone()));
    let name = closed.status.name();
    let reached = ended.map_err(|failure| add_future(failure, &last, &name, node))?;
    closed.now = node.last_mode(&reached.status.mode_info()).await;
    closed.changed = true;
    closed.status = reached.status.clone();
    Ok((closed, reached))
}

/// Waits until the plan is done, or until the node is closed and then for another condition.
async fn wait_for(
    new: &NewPlan,
    plan: &Plan,
    closed: &Closed,
    node: Node<'_>,
    (context, signals, report): (&mut Context<'_>, &mut Signals, &mut Report),
) -> Result<Reached, Failure> {
    let is_closed = matches!(plan.state, PlanState::Closed | PlanState::Ending);
    let status = closed.status.of_daemon();
    let is_incomplete = |status: &&soramode_protocol::node::Status| {
        is_closed && !status.is_complete_soon() && new.after_close.is_none()
    };
    if let Some(status) = status.filter(is_incomplete) {
        return Err(status.sessions_incomplete().into());
    }
    let mut request = WaitRequest {
        wait: Wait {
            plan: Some(plan.id.clone()),
            ..Wait::new(WaitFor::Drained)
        },
        limit: new.limit(plan),
        is_closed: false,
        until_closed: new.after_close.is_some(),
        sessions_before: closed.status.counts().unwrap_or_default().0,
    };
    context.output.note(&format!(
        "waiting {} until plan {} is over (now {}). Ctrl-C stops waiting; the plan goes on",
        describe_limit(request.limit),
        plan.id,
        closed.status.describe_counts()
    ));
    let Some(after_close) = &new.after_close else {
        return wait(node, &request, context, signals, report).await;
    };
    if !is_closed {
        let reached = wait(node, &request, context, signals, report).await?;
        request.limit = request
            .limit
            .map(|limit| limit.saturating_sub(reached.waited));
    }
    let mode = node.mode_now().await?;
    let request = WaitRequest {
        wait: Wait {
            generation: mode.generation(),
            ..after_close.clone()
        },
        is_closed: true,
        until_closed: false,
        ..request
    };
    wait(node, &request, context, signals, report).await
}

/// Reads the plan at the end of a wait; returns `last` if the node does not answer at once.
async fn last_plan(node: Node<'_>, last: &Plan) -> Plan {
    let read = async { node.connect().await?.call(&GetPlan {}).await };
    let found = match timeout(LAST_PLAN_MAX, read).await {
        Ok(Ok(found)) => found.plan,
        Ok(Err(_)) | Err(_) => None,
    };
    found
        .filter(|plan| plan.id == last.id)
        .unwrap_or_else(|| last.clone())
}

/// Adds to the end of a wait that the plan goes on, when it ends sessions, and how to cancel it.
fn add_future(failure: Failure, plan: &Plan, name: &str, node: Node<'_>) -> Failure {
    if plan.outcome.is_some() || failure.exit == Exit::Superseded {
        return failure;
    }
    let when = if failure.exit == Exit::Unreachable {
        " once soramoded runs"
    } else {
        ""
    };
    let cancel = node.command(&format!("plan cancel {}", plan.id));
    failure
        .and(format!(
            "Plan {} goes on{when}: {}",
            plan.id,
            describe_future(plan, name)
        ))
        .with_hint(format!(
            "Watch it again with the same command. Cancel it: {cancel}"
        ))
}

/// Describes a wait for a plan that the node does not know any more, since another one took its place.
pub(crate) fn describe_replaced(id: &PlanId, node: Node<'_>) -> Failure {
    let message = format!("stopped waiting: plan {id} was replaced by another plan");
    Failure::new(Exit::Superseded, message).with_hint(see_other(node))
}

fn see_other(node: Node<'_>) -> String {
    format!("See the plan that replaced it: {}", node.command("plan"))
}

/// Describes a wait for a plan that is over in another way than done.
pub(crate) fn describe_not_done(
    plan: &Plan,
    (name, now): (&str, &ModeInfo),
    node: Node<'_>,
) -> Failure {
    let exit = match plan.outcome {
        Some(PlanOutcome::Missed) => Exit::TimedOut,
        Some(PlanOutcome::Failed) => Exit::Failed,
        Some(PlanOutcome::Cancelled | PlanOutcome::Replaced | PlanOutcome::Done) | None => {
            Exit::Superseded
        }
    };
    let is_by_plan = now
        .state
        .as_ref()
        .is_some_and(|state| state.plan_id.as_ref() == Some(&plan.id));
    let mode = match (now.mode.is_block(), is_by_plan) {
        (true, true) => format!("{name} stays closed ({})", now.mode),
        (true, false) => format!("{name} is closed: {}", describe_later_change(now)),
        (false, _) => format!("{name} is open: {}", describe_later_change(now)),
    };
    let hint = match (plan.outcome, now.mode.is_block()) {
        (Some(PlanOutcome::Replaced), _) => see_other(node),
        (_, true) => format!(
            "Wait until it is drained: {}. Open it: {}",
            node.command("wait drained"),
            node.command("set normal")
        ),
        (_, false) => format!(
            "Clients may connect. To close the node and drain it: {}",
            node.command("drain")
        ),
    };
    Failure::new(
        exit,
        format!("stopped waiting: {}. {mode}", describe_over(plan)),
    )
    .with_hint(hint)
}

#[cfg(test)]
mod tests {
    use soramode_protocol::mode::Mode;

    use super::*;
    use crate::endpoint::Endpoint;
    use crate::plan::describe::tests::plan;
    use crate::undo::tests::state;

    #[test]
    fn the_outcome_of_a_plan_sets_the_exit_code() {
        let endpoint = Endpoint::local(Some("/s".into()));
        let node = Node::Daemon(&endpoint);
        for (outcome, exit, words) in [
            (
                PlanOutcome::Cancelled,
                Exit::Superseded,
                "was cancelled (late by 20 min). node-01 stays closed (block_new_session)",
            ),
            (
                PlanOutcome::Replaced,
                Exit::Superseded,
                "was replaced by another plan (late by 20 min). node-01 stays closed",
            ),
            (
                PlanOutcome::Missed,
                Exit::TimedOut,
                "was missed (late by 20 min). node-01 stays closed",
            ),
            (
                PlanOutcome::Failed,
                Exit::Failed,
                "failed (late by 20 min). node-01 stays closed",
            ),
        ] {
            let over = Plan {
                state: PlanState::Over,
                outcome: Some(outcome),
                why: Some("late by 20 min".to_owned()),
                ..plan()
            };
            let mut now = state(Mode::BlockNewSession, 5, None, None);
            now.plan_id = Some(over.id.clone());
            let failure = describe_not_done(&over, ("node-01", &ModeInfo::of(now)), node);
            assert_eq!(failure.exit, exit, "{outcome}");
            let begin = format!("stopped waiting: plan {} {words}", over.id);
            assert!(failure.message.starts_with(&begin), "{}", failure.message);
            assert!(failure.hint.is_some());
        }
    }

    #[test]
    fn a_wait_that_ends_early_says_when_sessions_are_ended() {
        let endpoint = Endpoint::local(Some("/s".into()));
        let failure = Failure::new(Exit::Interrupted, "interrupted after 3 s: stopped waiting");
        let said = add_future(failure, &plan(), "node-01", Node::Daemon(&endpoint));
        assert!(
            said.message
                .contains(". Plan 7Q2K9XA0 goes on: it ends the sessions that are left from 2"),
            "{}",
            said.message
        );
        assert_eq!(
            said.hint.as_deref(),
            Some(
                "Watch it again with the same command. Cancel it: soramode --socket /s plan cancel 7Q2K9XA0"
            )
        );
    }
}
