//! Waiting for a plan. The plan goes on without the command: each end of the wait says how.

use std::time::Duration;

use soramode_protocol::plan::{GetPlan, Plan, PlanState};
use soramode_protocol::wait::{Wait, WaitFor};
use tokio::time::timeout;

use super::describe::describe_future;
use super::request::NewPlan;
use super::start::{Started, describe_start};
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::mode_result::ModeResult;
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
) -> Result<(ModeResult, Reached), Failure> {
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
    closed: &ModeResult,
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
        then: new.then,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Endpoint;
    use crate::plan::describe::tests::plan;

    #[test]
    fn a_wait_that_ends_early_says_when_sessions_are_ended() {
        let endpoint = Endpoint::local(Some("/s".into()));
        let failure = Failure::new(Exit::Interrupted, "interrupted after 3 s: stopped waiting");
        let said = add_future(failure, &plan(), "node-01", Node::Daemon(&endpoint));
        for words in [
            ". Plan 7Q2K9XA0 goes on: it blocks new connections from 2",
            ", and ends the sessions that are left from 2",
        ] {
            assert!(said.message.contains(words), "{}", said.message);
        }
        assert_eq!(
            said.hint.as_deref(),
            Some(
                "Watch it again with the same command. Cancel it: soramode --socket /s plan cancel 7Q2K9XA0"
            )
        );
    }
}
