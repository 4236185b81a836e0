//! Sentences about a plan: its steps, its state, and the things that hold it up.

use soramode_protocol::plan::{
    Plan, PlanHold, PlanOutcome, PlanState, PlanStep, StallCause, Stalled,
};
use soramode_protocol::time::Time;

use crate::output::escape::{escape, quoted};
use crate::output::{counted, times};

use super::steps::{step_name, step_that_blocks};

/// Describes what a step does: `the node closes`.
fn describe_action(step: &PlanStep, node: &str) -> String {
    match step {
        PlanStep::Unready { .. } => format!("{node} becomes unready"),
        PlanStep::Mode { at_seconds: 0, .. } => format!("{node} closes"),
        PlanStep::Mode { .. } => format!("{node} blocks new connections"),
        PlanStep::Announce { .. } => "announces the end".to_owned(),
        PlanStep::End { .. } => "ends the sessions that are left".to_owned(),
        PlanStep::Unknown => "a step of a newer soramoded".to_owned(),
    }
}

/// `announce in 9 min`, and the reason if the step is late.
pub(crate) fn describe_next(plan: &Plan) -> Option<String> {
    let held = plan.held.map(describe_hold);
    let Some(next) = plan.next_step() else {
        return held.map(|why| match plan.state {
            PlanState::Ending => format!("no session is asked to end {why}"),
            PlanState::Scheduled | PlanState::Lead | PlanState::Closed | PlanState::Over => {
                format!("it is not done {why}")
            }
        });
    };
    Some(match held {
        Some(why) => format!("{} is held {why}", step_name(&next.step)),
        None => format!("{} {}", step_name(&next.step), when(next.due_at)),
    })
}

/// `in 9 min`, or `now` for a step that is about to run.
fn when(due_at: Time) -> String {
    if due_at > times::now() {
        times::until(due_at)
    } else {
        "now".to_owned()
    }
}

/// Describes the hold of a step: `until the session list is complete`.
pub(crate) const fn describe_hold(hold: PlanHold) -> &'static str {
    match hold {
        PlanHold::StorageFailed => "until soramoded can write its state",
        PlanHold::SessionsIncomplete => "until the session list is complete",
        PlanHold::KeepOpen => "until enough other nodes are open",
        PlanHold::Announcing => "until the announcement has reached every channel",
        PlanHold::NoMeans => "until soramoded has means to announce or to end sessions",
        PlanHold::Reservation => "until its roll has reserved the other nodes, too",
        PlanHold::AnnouncedEnd => "until the time that was announced, as the clock was set back",
        PlanHold::NotInForce => "until Janus's rooms are locked",
    }
}

/// `no session has ended`
const fn describe_cause(cause: StallCause) -> &'static str {
    match cause {
        StallCause::NoDepartures => "no session has ended",
        StallCause::SessionsIncomplete => "the session list is incomplete",
        StallCause::NoMeans => "soramoded has no means to announce or to end sessions",
        StallCause::EndFailing => "the SFU does not end the sessions that it was asked to end",
        StallCause::StorageFailed => "soramoded cannot write its state",
    }
}

/// `for 12 min: no session has ended`
pub(crate) fn describe_stalled(stalled: &Stalled) -> String {
    format!(
        "for {}: {}",
        times::age(stalled.since),
        describe_cause(stalled.cause)
    )
}

/// `closed`, or the outcome of a plan that is over.
pub(crate) fn describe_plan_state(plan: &Plan) -> String {
    match plan.outcome {
        Some(outcome) => format!("over: {outcome}"),
        None => plan.state.to_string(),
    }
}

/// Returns the time from which a plan that runs ends sessions, unless it does so already.
fn ends_later(plan: &Plan) -> Option<Time> {
    let is_running = matches!(
        plan.state,
        PlanState::Scheduled | PlanState::Lead | PlanState::Closed
    );
    plan.sessions_end_at().filter(|_| is_running)
}

/// Returns the time from which an announcement that is to come blocks new connections.
fn blocks_later(plan: &Plan) -> Option<Time> {
    let it = plan.steps.get(step_that_blocks(plan)?)?;
    let is_to_come = it.done_at.is_none() && plan.outcome.is_none();
    let is_announcement = matches!(it.step, PlanStep::Announce { .. });
    (is_to_come && is_announcement).then_some(it.due_at)
}

/// Describes the future of a plan: `it closes node-01 at … (in 3 h), and ends the sessions that are left from … on (in 4 h)`.
pub(crate) fn describe_future(plan: &Plan, node: &str) -> String {
    let closes = matches!(plan.state, PlanState::Scheduled | PlanState::Lead).then(|| {
        format!(
            "closes {node} at {} ({})",
            times::local(plan.at),
            times::until(plan.at)
        )
    });
    let blocks = blocks_later(plan).map(|at| {
        format!(
            "blocks new connections from {} on ({})",
            times::local(at),
            times::until(at)
        )
    });
    let ends = match (plan.state, ends_later(plan)) {
        (PlanState::Ending, _) => Some("is ending the sessions that are left".to_owned()),
        (_, Some(end)) => Some(format!(
            "ends the sessions that are left from {} on ({})",
            times::local(end),
            times::until(end)
        )),
        (_, None) => None,
    };
    let parts: Vec<String> = closes.into_iter().chain(blocks).chain(ends).collect();
    match (parts.is_empty(), plan.outcome) {
        (false, _) => {
            let held = plan.held.map(describe_hold);
            let held = held.map_or_else(String::new, |why| format!(", but is held {why}"));
            format!("it {}{held}", parts.join(", and "))
        }
        (true, Some(outcome)) => format!("it is over ({outcome})"),
        (true, None) => "it ends no session".to_owned(),
    }
}

/// Names a plan that runs in the answer to another command: its future, and the command that cancels it.
pub(crate) fn describe_running(plan: &Plan, node: &str, cancel: &str) -> String {
    let owner = describe_owner(plan);
    format!(
        "plan {} of {owner} goes on: {}. Cancel it: {cancel}",
        plan.id,
        describe_future(plan, node)
    )
}

/// `uid:0(root) for alice ("CHG-1")`
pub(crate) fn describe_owner(plan: &Plan) -> String {
    let operator = plan
        .on_behalf_of
        .as_deref()
        .map(|operator| format!(" for {}", escape(operator)))
        .unwrap_or_default();
    let reason = in_brackets(plan.reason.as_deref());
    format!("{}{operator}{reason}", escape(&plan.owner))
}

/// ` ("CHG-1")` for a reason that was given.
fn in_brackets(reason: Option<&str>) -> String {
    reason
        .map(|reason| format!(" ({})", quoted(reason)))
        .unwrap_or_default()
}

/// Operator that ended a plan, with the reason: `uid:0(root) ("INC-8")`; `None` if soramoded ended it.
pub(crate) fn describe_ended_by(plan: &Plan) -> Option<String> {
    let by = plan
        .over_by
        .as_deref()
        .filter(|by| !by.starts_with("system:"))?;
    let reason = in_brackets(plan.over_reason.as_deref());
    Some(format!("{}{reason}", escape(by)))
}

/// Describes a plan that is over: `plan 7Q2K9XA0 was cancelled (the node was opened)`, or its operator if no cause is known:
/// `plan 7Q2K9XA0 was cancelled by uid:0(root) ("INC-8")`.
pub(crate) fn describe_over(plan: &Plan) -> String {
    let outcome = match plan.outcome {
        Some(PlanOutcome::Done) => "is done",
        Some(PlanOutcome::Cancelled) => "was cancelled",
        Some(PlanOutcome::Replaced) => "was replaced by another plan",
        Some(PlanOutcome::Missed) => "was missed",
        Some(PlanOutcome::Failed) => "failed",
        None => "is not over",
    };
    let cause = match &plan.why {
        Some(why) => format!(" ({})", escape(why)),
        None => describe_ended_by(plan)
            .map(|by| format!(" by {by}"))
            .unwrap_or_default(),
    };
    format!("plan {} {outcome}{cause}", plan.id)
}

/// Returns the parts of a progress line, the most important first.
pub(crate) fn progress_parts(plan: &Plan) -> Vec<String> {
    let next = match plan.next_step() {
        Some(it) if plan.held.is_none() => {
            let action = describe_short(&it.step);
            Some(format!("{action} {}", when(it.due_at)))
        }
        Some(_) | None => describe_next(plan),
    };
    let is_last = matches!(plan.next_step(), Some(it) if matches!(it.step, PlanStep::End { .. }));
    let end = ends_later(plan)
        .filter(|_| !is_last)
        .map(|end| format!("ends sessions {}", when(end)));
    let ended = (plan.state == PlanState::Ending || plan.asked > 0).then(|| describe_ended(plan));
    let announced = plan
        .announced
        .filter(|announced| announced.left > 0)
        .and_then(|_| describe_announced(plan))
        .map(|announced| format!("announced {announced}"));
    let problem = plan
        .problem
        .as_deref()
        .map(|problem| escape(problem).into_owned());
    [next, end, ended, announced, problem]
        .into_iter()
        .flatten()
        .collect()
}

/// `closes`, in a line that names no node.
const fn describe_short(step: &PlanStep) -> &'static str {
    match step {
        PlanStep::Unready { .. } => "unready",
        PlanStep::Mode { at_seconds: 0, .. } => "closes",
        PlanStep::Mode { .. } => "tightens",
        PlanStep::Announce { .. } => "announces",
        PlanStep::End { .. } => "ends sessions",
        PlanStep::Unknown => "?",
    }
}

/// `40 asked to end, 38 ended, 1 failed`
pub(crate) fn describe_ended(plan: &Plan) -> String {
    let failed = if plan.failed == 0 {
        String::new()
    } else {
        format!(", {} failed", plan.failed)
    };
    format!("{} asked to end, {} ended{failed}", plan.asked, plan.ended)
}

/// `to 28 of 30 channels, 1 failed`
pub(crate) fn describe_announced(plan: &Plan) -> Option<String> {
    let announced = plan.announced?;
    let failed = if announced.failed == 0 {
        String::new()
    } else {
        format!(", {} failed", announced.failed)
    };
    let taken_back = match plan.outcome {
        Some(PlanOutcome::Done) | None => "",
        Some(_) => ", and taken back",
    };
    Some(format!(
        "to {} of {}{failed}{taken_back}",
        announced.told,
        counted(announced.channels, "channel")
    ))
}

/// Returns the sentence with which a plan begins: `plan 7Q2K9XA0 is scheduled; next: node-01 closes in 3 h`.
pub(crate) fn describe_begun(plan: &Plan, node: &str) -> String {
    let next = plan.next_step().map(|next| {
        format!(
            "; next: {} {}",
            describe_action(&next.step, node),
            when(next.due_at)
        )
    });
    let state = match plan.state {
        PlanState::Scheduled => "is scheduled".to_owned(),
        PlanState::Lead => format!("has made {node} unready"),
        PlanState::Closed => format!("has closed {node}"),
        PlanState::Ending => "ends sessions".to_owned(),
        PlanState::Over => format!("is {}", describe_plan_state(plan)),
    };
    format!("plan {} {state}{}", plan.id, next.unwrap_or_default())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A plan that closed the node 2 min ago, announces in more than 8 min and ends in more than 10 min.
    pub(crate) fn plan() -> Plan {
        let now = times::now().as_micros();
        let at = |seconds: i64| Time::from_micros(now + seconds * 1_000_000).to_string();
        let text = format!(
            r#"{{"id":"7Q2K9XA0","state":"closed","owner":"uid:0(root)","on_behalf_of":"alice","reason":"CHG-1","created_at":"{0}","at":"{1}",
            "steps":[{{"do":"unready","at_seconds":-30,"due_at":"{0}","done_at":"{0}"}},
            {{"do":"mode","at_seconds":0,"mode":"block_new_session","due_at":"{1}","done_at":"{1}"}},
            {{"do":"announce","at_seconds":600,"text":"会議室: {{minutes}} min","due_at":"{2}"}},
            {{"do":"end","at_seconds":720,"due_at":"{3}"}}],
            "delay_seconds":0,"max_delay_seconds":600,"asked":0,"ended":0,"failed":0}}"#,
            at(-150),
            at(-120),
            at(500),
            at(620)
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_future_of_a_plan_is_described() {
        let closed = plan();
        let future = describe_future(&closed, "node-01");
        assert!(
            future.starts_with("it blocks new connections from 2")
                && future.contains(" on (in 8 min ")
                && future.contains(", and ends the sessions that are left from 2")
                && future.contains(" on (in 10 min "),
            "{future}"
        );
        let scheduled = Plan {
            state: PlanState::Scheduled,
            ..plan()
        };
        let future = describe_future(&scheduled, "node-01");
        assert!(
            future.starts_with("it closes node-01 at 2")
                && future.contains(", and blocks new connections from 2")
                && future.contains(", and ends the sessions that are left from 2"),
            "{future}"
        );
        let mut endless = plan();
        endless.steps.pop();
        assert_eq!(describe_future(&endless, "n"), "it ends no session");
        let held = Plan {
            held: Some(PlanHold::SessionsIncomplete),
            ..plan()
        };
        let future = describe_future(&held, "n");
        assert!(
            future.ends_with(", but is held until the session list is complete"),
            "{future}"
        );
        let over = Plan {
            state: PlanState::Over,
            outcome: Some(PlanOutcome::Missed),
            ..plan()
        };
        assert_eq!(describe_future(&over, "n"), "it is over (missed)");
    }

    #[test]
    fn a_step_that_is_held_says_why() {
        let held = Plan {
            held: Some(PlanHold::SessionsIncomplete),
            ..plan()
        };
        assert_eq!(
            progress_parts(&held)[0],
            "announce is held until the session list is complete"
        );
    }

    #[test]
    fn a_plan_without_further_steps_says_why_it_is_not_done() {
        let held = |state| {
            let plan = plan();
            Plan {
                held: Some(PlanHold::NotInForce),
                state,
                steps: Vec::new(),
                ..plan
            }
        };
        assert_eq!(
            describe_next(&held(PlanState::Closed)).unwrap(),
            "it is not done until Janus's rooms are locked"
        );
        assert_eq!(
            describe_next(&held(PlanState::Ending)).unwrap(),
            "no session is asked to end until Janus's rooms are locked"
        );
    }

    #[test]
    fn progress_has_the_next_step_and_the_counts() {
        let parts = progress_parts(&plan());
        assert!(
            parts.len() == 2
                && parts[0].starts_with("announces in 8 min ")
                && parts[1].starts_with("ends sessions in 10 min "),
            "{parts:?}"
        );
        let ending = Plan {
            state: PlanState::Ending,
            asked: 40,
            ended: 38,
            failed: 1,
            problem: Some("connection refused".to_owned()),
            ..plan()
        };
        assert_eq!(
            progress_parts(&ending)[1..],
            ["40 asked to end, 38 ended, 1 failed", "connection refused"]
        );
    }
}
