//! Waiting until a node is drained, joined or in a mode.

mod again;
mod follow;
mod poll;
pub(crate) mod remote;
mod request;

use std::time::Duration;

use soramode_protocol::actor::SystemActor;
use soramode_protocol::error::ErrorType;
use soramode_protocol::node::Status;
use soramode_protocol::plan::{Plan, PlanOutcome};
use soramode_protocol::wait::{Outcome, Wait, WaitFor};

use crate::context::Context;
use crate::describe::describe_later_change;
use crate::error::{Exit, Failure};
use crate::last_status::LastStatus;
use crate::mode_info::ModeInfo;
use crate::node::Node;
use crate::output::escape::{escape, quoted};
use crate::output::{Output, ProgressDisplay, counted, counted_connections, times};
use crate::plan::{describe_not_done, describe_replaced};
use crate::report::Report;
use crate::session_info::SessionInfo;
use crate::sfu::{FailingApi, awaited_end, describe_not_in_force};
use crate::signals::Signals;
use again::superseded_hint;
pub(crate) use again::{Then, again};
use request::Ended;
pub(crate) use request::{Reached, WaitRequest, describe_limit, describe_wait, interrupted};

/// Waits until the condition of the request is true; any other end is a failure. Records the end in the report.
pub(crate) async fn wait(
    node: Node<'_>,
    request: &WaitRequest,
    context: &mut Context<'_>,
    signals: &mut Signals,
    report: &mut Report,
) -> Result<Reached, Failure> {
    let mut progress = ProgressDisplay::new(
        &context.output,
        request.wait.wait_for,
        request.max_sessions(),
        request.settle(),
        request.limit,
    );
    progress.add_seen(request.sessions_before);
    let output = &mut context.output;
    let Ended {
        outcome,
        status,
        oldest_sessions,
        silence,
        plan,
    } = match node {
        Node::Daemon(endpoint) => {
            follow::follow(endpoint, request, &mut progress, output, signals).await
        }
        Node::Api(api) => poll::poll(api, request, &mut progress, output, signals).await,
    };
    progress.clear();
    let waited = progress.elapsed();
    report.waited(waited);
    if let Some(status) = &status {
        report.status = Some(status.clone());
        report.oldest_sessions = oldest_sessions;
    }
    let left = status
        .as_ref()
        .and_then(LastStatus::counts)
        .map(|(left, _)| left);
    let sessions_ended = progress.ended(left.unwrap_or_default());
    let (outcome, result) = match (outcome, status) {
        (Err(failure), _) if failure.exit == Exit::Superseded => {
            (Some(Outcome::Superseded), Err(failure))
        }
        (Err(failure), _) => (None, Err(failure)),
        (Ok(Outcome::Reached), Some(status)) => {
            let reached = Reached {
                status,
                waited,
                sessions_ended,
            };
            (Some(Outcome::Reached), Ok(reached))
        }
        (Ok(Outcome::Superseded), Some(status)) => {
            let now = node.last_mode(&status.mode_info()).await;
            let name = status.name();
            let failure = match (&plan, &request.wait.plan) {
                (Some(plan), _) => describe_not_done(plan, (&name, &now), node),
                (None, Some(id)) => describe_replaced(id, node),
                (None, None) => superseded((&name, &now), &request.wait, request.then, node),
            };
            (outcome_of(plan.as_deref()), Err(failure))
        }
        (Ok(Outcome::Timeout | Outcome::Reached | Outcome::Superseded), status) => {
            let oldest = &report.oldest_sessions;
            let failure = timed_out(request, status.as_ref(), silence, oldest, output);
            (Some(Outcome::Timeout), Err(failure))
        }
    };
    report.outcome = outcome;
    result
}

/// Returns the outcome of a superseded wait: a plan that was missed did not become true in time, and one that failed has none.
fn outcome_of(plan: Option<&Plan>) -> Option<Outcome> {
    match plan.and_then(|plan| plan.outcome) {
        Some(PlanOutcome::Missed) => Some(Outcome::Timeout),
        Some(PlanOutcome::Failed) => None,
        Some(PlanOutcome::Done | PlanOutcome::Cancelled | PlanOutcome::Replaced) | None => {
            Some(Outcome::Superseded)
        }
    }
}

/// Describes a wait that another client's change ended.
fn superseded((name, now): (&str, &ModeInfo), wait: &Wait, then: Then, node: Node<'_>) -> Failure {
    let wait_for = wait.wait_for;
    let change = describe_later_change(now);
    if wait_for == WaitFor::Ended {
        let message = format!(
            "stopped waiting: the sessions that are left on {name} are not ended any more ({change})"
        );
        return Failure::new(Exit::Superseded, message);
    }
    // A node that is closed again was open in between, unless the mode that opened it could not be written.
    let is_undone = now
        .state
        .as_ref()
        .is_some_and(|state| state.actor == SystemActor::Storage.name());
    let is_drain = wait_for == WaitFor::Drained;
    let opened = if is_drain && now.mode.is_block() && !is_undone {
        "it was opened meanwhile, and now "
    } else {
        ""
    };
    let message = format!("stopped waiting on {name}: {opened}{change}");
    let failure = Failure::new(Exit::Superseded, message);
    if is_drain {
        failure.with_hint(superseded_hint(now.mode, wait, then, node))
    } else {
        failure
    }
}

/// Describes a timeout. `silence` is set if the node stopped answering.
fn timed_out(
    request: &WaitRequest,
    status: Option<&LastStatus>,
    silence: Option<String>,
    oldest_sessions: &[SessionInfo],
    output: &Output,
) -> Failure {
    let node = status.map(LastStatus::name).unwrap_or_default();
    let limit = times::limit(request.limit.unwrap_or_default());
    let is_drain = silence.is_none() && request.wait.wait_for == WaitFor::Drained;
    let of_drain = status.and_then(LastStatus::of_daemon).filter(|_| is_drain);
    if let Some(status) = of_drain
        && lacks_confirmation(&request.wait, status)
        && let Some(api) = FailingApi::awaited(status)
    {
        let left = counted(status.sessions, "session");
        let why = api.describe(|at| output.time(at));
        let message =
            format!("timed out after {limit}: {left} left on {node}, not confirmed: {why}");
        return unconfirmed(message, &api);
    }
    let how = match (silence, request.wait.wait_for, status) {
        (Some(silence), _, _) => silence,
        (None, WaitFor::Drained, Some(status)) => {
            let (sessions, _) = status.counts().unwrap_or_default();
            not_in_force(request, status).unwrap_or_else(|| {
                describe_remaining(&node, sessions, request.max_sessions(), request.settle())
            })
        }
        (None, WaitFor::Joined, Some(LastStatus::Daemon(status))) => {
            format!("{node} is {}", status.membership_words())
        }
        (None, WaitFor::Mode | WaitFor::Joined | WaitFor::Ended, Some(status)) => {
            format!("{node} is {}", status.mode())
        }
        (None, _, None) => "the node did not answer".to_owned(),
    };
    let mut failure = Failure::new(Exit::TimedOut, format!("timed out after {limit}: {how}"));
    if let Some(api) = of_drain.and_then(FailingApi::of) {
        failure = failure
            .and(api.describe(|at| output.time(at)))
            .with_hint(api.remedy);
    }
    if request.wait.wait_for == WaitFor::Drained {
        failure.details = oldest_sessions.iter().map(session_line).collect();
    }
    if status.is_some_and(|status| not_in_force(request, status).is_some()) {
        return failure.with_hint(
            "Give the rooms' secrets in --janus-room-secrets-file, or add --assume-in-force: clients may join the rooms that are not locked",
        );
    }
    failure
}

/// Describes a node with few enough sessions that is not drained, because the SFU does not hold its mode.
fn not_in_force(request: &WaitRequest, status: &LastStatus) -> Option<String> {
    let status = status.of_daemon()?;
    let why = describe_not_in_force(status.in_force?, status.rooms)?;
    let is_awaited = !request.wait.assume_in_force
        && request.wait.wait_for == WaitFor::Drained
        && status.sessions <= request.max_sessions();
    is_awaited.then(|| {
        format!(
            "{} left on {}, and {} is not in force: {why}",
            counted(status.sessions, "session"),
            escape(status.node_name.as_str()),
            status.mode.mode,
        )
    })
}

/// Returns whether few enough sessions are left for the wait, and the session list is incomplete.
pub(crate) const fn lacks_confirmation(wait: &Wait, status: &Status) -> bool {
    let allowed = match wait.max_sessions {
        Some(allowed) => allowed,
        None => 0,
    };
    !wait.assume_complete && !status.sessions_complete && status.sessions <= allowed
}

/// The failure for a node of which the SFU's API does not confirm that it is drained.
pub(crate) fn unconfirmed(message: String, api: &FailingApi) -> Failure {
    let failure = Failure {
        error_type: Some(ErrorType::SessionsIncomplete),
        ..Failure::new(Exit::SessionsIncomplete, message)
    };
    failure.with_hint(format!("Do not restart the SFU. {}", api.remedy))
}

/// `2 sessions are left on node-01`, and why a node with few enough of them is not drained.
fn describe_remaining(node: &str, sessions: u64, allowed: u64, settle: Duration) -> String {
    let verb = if sessions == 1 { "is" } else { "are" };
    let left = format!("{} {verb} left on {node}", counted(sessions, "session"));
    if sessions > allowed {
        return left;
    }
    if settle.is_zero() {
        format!("{left}, and there may be more: the session list is incomplete")
    } else {
        format!("{left}, but not yet for {}", times::limit(settle))
    }
}

/// `"spam": 2 connections, for 5 min`
fn session_line(session: &SessionInfo) -> String {
    let age = session
        .created_at()
        .map(|created_at| format!(", for {}", times::age(created_at)));
    format!(
        "{}: {}{}{}",
        quoted(session.channel_id()),
        counted_connections(session.connections(), session.pending()),
        age.unwrap_or_default(),
        awaited_end(session.connections())
    )
}

#[cfg(test)]
mod tests {
    use soramode_protocol::mode::{Mode, ModeState};

    use super::*;
    use crate::endpoint::Endpoint;
    use crate::undo::tests::state;

    #[test]
    fn a_drain_that_another_change_ended_says_whether_the_node_is_open() {
        const OPEN: &str =
            "Clients may connect again. To close the node and drain it: soramode drain";
        const CLOSED: &str = "Watch again: soramode wait drained";
        let endpoint = Endpoint::local(None);
        let wait = Wait::new(WaitFor::Drained);
        let described = |mode, actor: &str| {
            let now = ModeInfo::of(ModeState {
                actor: actor.to_owned(),
                ..state(mode, 4, None, None)
            });
            let failure = superseded(("n1", &now), &wait, Then::Nothing, Node::Daemon(&endpoint));
            (failure.message, failure.hint.unwrap())
        };
        for (mode, actor, begin, hint) in [
            (Mode::Normal, "uid:0(root)", "uid:0(root) set normal", OPEN),
            (
                Mode::BlockNewSession,
                "uid:0(root)",
                "it was opened meanwhile, and now uid:0(root) set",
                CLOSED,
            ),
            (
                Mode::BlockNewConnection,
                "system:storage",
                "soramoded (it could not write its state) set",
                CLOSED,
            ),
        ] {
            let (message, said) = described(mode, actor);
            let begin = format!("stopped waiting on n1: {begin}");
            assert!(message.starts_with(&begin), "{mode} {actor}: {message}");
            assert_eq!(said, hint, "{mode} {actor}");
        }
    }
}
