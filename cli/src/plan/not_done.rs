//! Ends of a wait for a plan that was not done.

use soramode_protocol::id::PlanId;
use soramode_protocol::plan::{Plan, PlanOutcome};

use super::describe::describe_over;
use crate::describe::describe_later_change;
use crate::error::{Exit, Failure};
use crate::mode_info::ModeInfo;
use crate::node::Node;

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
            "Wait until it is drained: {}. See how to open it: {}",
            node.command("wait drained"),
            node.command("status")
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
    use soramode_protocol::plan::PlanState;

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
}
