//! The requests about plans, and the part of the signalling server that ends sessions when it is asked to.

use soramode_protocol::client::{Client, Message};
use soramode_protocol::decision::Disconnect;
use soramode_protocol::envelope::Notification;
use soramode_protocol::mode::{GetMode, SettableMode};
use soramode_protocol::plan::{
    CancelPlan, EndRate, GetPlan, Plan, PlanState, PlanStep, RISK_OF_END, StartPlan,
};
use soramode_protocol::session::ListConnections;
use soramode_protocol::subscribe::Subscribe;

use super::step_error::StepError;
use crate::plan::describe::describe_ended;

/// Starts a plan that closes the node after the lead, and ends the sessions after that.
pub(super) async fn start(
    (node, subscriber): (&mut Client, &mut Client),
    lead: i64,
    end: i64,
) -> Result<String, StepError> {
    subscribe(subscriber).await?;
    node.call(&plan(lead, end)).await?;
    let plan = last(node).await?;
    let next = plan
        .next_step()
        .map_or("nothing", |next| next.step.action());
    Ok(format!("{}; next: {next}", plan.state))
}

/// Subscribes to requests to end sessions, without which no plan may end any.
async fn subscribe(subscriber: &mut Client) -> Result<(), StepError> {
    let subscribe = Subscribe {
        ends: true,
        ..Subscribe::default()
    };
    subscriber.call(&subscribe).await?;
    Ok(())
}

fn plan(lead: i64, end: i64) -> StartPlan {
    let unready = (lead > 0).then_some(PlanStep::Unready { at_seconds: -lead });
    let steps = unready.into_iter().chain([
        PlanStep::Mode {
            at_seconds: 0,
            mode: SettableMode::BlockNewSession,
        },
        PlanStep::End {
            at_seconds: end,
            per_minute: Some(EndRate::Max),
        },
    ]);
    StartPlan {
        accept_risk: Some(RISK_OF_END.to_owned()),
        ..StartPlan::now(steps.collect())
    }
}

async fn last(node: &mut Client) -> Result<Plan, StepError> {
    let found = node.call(&GetPlan {}).await?;
    found
        .plan
        .ok_or_else(|| StepError::Lost("the node has no plan".to_owned()))
}

/// Cancels the plan, and describes what is left of it.
pub(super) async fn cancel(node: &mut Client) -> Result<String, StepError> {
    let cancelled = node.call(&CancelPlan::default()).await?;
    let outcome = cancelled.plan.and_then(|plan| plan.outcome);
    let mode = node.call(&GetMode {}).await?.mode;
    Ok(match outcome {
        Some(outcome) => format!("{outcome}; {mode}"),
        None => format!("nothing was cancelled; {mode}"),
    })
}

/// Starts a plan that ends every session at once, and ends them as it asks.
pub(super) async fn end_all(
    (node, subscriber): (&mut Client, &mut Client),
) -> Result<String, StepError> {
    subscribe(subscriber).await?;
    node.call(&plan(0, 0)).await?;
    loop {
        if let Message::Notification(Notification::End(session)) = subscriber.receive().await? {
            let list = ListConnections {
                channel_id: Some(session.channel_id),
                ..ListConnections::default()
            };
            for connection in node.call(&list).await?.connections {
                let connection_id = connection.connection_id;
                node.call(&Disconnect { connection_id }).await?;
            }
            let plan = last(node).await?;
            if plan.state == PlanState::Over {
                let outcome = plan.outcome.map(|outcome| outcome.to_string());
                return Ok(format!(
                    "{}; {}",
                    outcome.unwrap_or_default(),
                    describe_ended(&plan)
                ));
            }
        }
    }
}
