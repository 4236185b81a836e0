//! `soramode plan [cancel [ID]]`

use clap_complete::engine::ArgValueCandidates;
use serde::Serialize;
use soramode_protocol::id::PlanId;
use soramode_protocol::mode::ModeState;
use soramode_protocol::node::{GetStatus, Status};
use soramode_protocol::plan::{CancelPlan, GetPlan, Plan, PlanCancelled, PlanState, Stalled};

use crate::candidates;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::mode_result::describe_not_ended;
use crate::node::Node;
use crate::opening::{Opening, opening};
use crate::output::color::Emphasis;
use crate::output::escape::escape;
use crate::output::{Format, Output, Row, colored_groups, counted, counted_connections, times};
use crate::plan::describe::{
    describe_announced, describe_ended, describe_ended_by, describe_next, describe_over,
    describe_plan_state, describe_stalled,
};
use crate::plan::steps::step_rows;

/// Show the maintenance plan of the node, or cancel it
///
/// Shows the plan that runs, else the last one: its steps, the next step and when, and problems. soramode drain and soramode maintain start
/// plans; soramoded runs them.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Cancel the plan that runs
    ///
    /// No further step runs, and no further session is asked to end; up to 8 calls that are on their way to the SFU still end theirs. The mode
    /// stays as it is. Without an ID, the sessions that wait to be ended by soramode end are not ended either.
    Cancel {
        /// Plan to cancel; any that runs if absent
        #[arg(add = ArgValueCandidates::new(candidates::plans))]
        id: Option<PlanId>,
        /// Record REASON with the event
        #[arg(short, long, value_name = "REASON")]
        message: Option<String>,
    },
}

impl Args {
    /// Returns whether it cancels a plan.
    pub(crate) const fn changes_node(&self) -> bool {
        self.what.is_some()
    }
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    match args.what {
        None => show(context).await,
        Some(What::Cancel { id, message }) => cancel(id, message, context).await,
    }
}

/// The JSON of a plan.
#[derive(Serialize)]
struct LastPlanView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<&'a Plan>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stalled: Option<&'a Stalled>,
}

async fn show(context: &mut Context<'_>) -> Result<Exit, Failure> {
    let mut daemon = context.node.connect().await?;
    let (found, status) = daemon.call_both(&GetPlan {}, &GetStatus {}).await?;
    let plan = found.plan.as_ref();
    let output = &mut context.output;
    match (output.format(), plan) {
        (Format::Json | Format::Jsonl, _) => output.json(&LastPlanView {
            plan,
            stalled: status.stalled.as_ref(),
        })?,
        (Format::Plain, None) => {}
        (Format::Table, None) => {
            let node = escape(status.node_name.as_str());
            output.note(&format!("{node} has no plan"));
        }
        (Format::Table | Format::Plain, Some(plan)) => {
            let groups = [
                ("PLAN", plan_rows(plan, &status, context.node, output)),
                ("STEPS", step_rows(plan, output)),
            ];
            colored_groups(output, &groups, emphasis)?;
        }
    }
    Ok(Exit::Done)
}

fn emphasis(name: &str) -> Option<Emphasis> {
    match name {
        "stalled" | "problem" | "held" => Some(Emphasis::Bad),
        "to cancel" => Some(Emphasis::Careful),
        _ => None,
    }
}

fn plan_rows(plan: &Plan, status: &Status, node: Node<'_>, output: &Output) -> Vec<Row> {
    let is_over = plan.state == PlanState::Over;
    let by = match &plan.on_behalf_of {
        Some(operator) => format!("{} for {operator}", plan.owner),
        None => plan.owner.clone(),
    };
    let delay = (plan.delay_seconds > 0).then(|| {
        let span = |seconds| times::span(std::time::Duration::from_secs(seconds));
        format!(
            "{}, at most {}",
            span(plan.delay_seconds),
            span(plan.max_delay_seconds)
        )
    });
    let mode = &status.mode.mode;
    let left = format!(
        "{mode}, {}, {}",
        counted(status.sessions, "session"),
        counted_connections(status.connections, status.pending)
    );
    vec![
        ("plan", Some(plan.id.to_string())),
        ("state", Some(describe_plan_state(plan))),
        ("why", plan.why.clone()),
        ("over", plan.over_at.map(|time| output.time(time))),
        ("ended by", describe_ended_by(plan)),
        ("next", describe_next(plan)),
        ("node", Some(format!("{}: {left}", status.node_name))),
        (
            "stalled",
            status
                .stalled
                .as_ref()
                .filter(|_| !is_over)
                .map(describe_stalled),
        ),
        ("announced", describe_announced(plan)),
        ("sessions", (plan.asked > 0).then(|| describe_ended(plan))),
        ("problem", plan.problem.clone()),
        ("delay", delay),
        ("by", Some(by)),
        ("reason", plan.reason.clone()),
        ("started", Some(output.time(plan.created_at))),
        (
            "to cancel",
            (!is_over).then(|| node.command(&format!("plan cancel {}", plan.id))),
        ),
    ]
}

async fn cancel(
    id: Option<PlanId>,
    reason: Option<String>,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let request = CancelPlan { id, reason };
    let mut daemon = context.node.connect().await?;
    let (answer, status) = daemon.call_both(&request, &GetStatus {}).await?;
    if answer.found {
        context.output.changed(&describe_cancelled(&answer));
    }
    if answer.durable == Some(false) {
        context.output.warn(
            "soramoded cannot write its state: a restart may bring the plan back. Free disk space, then cancel it again",
        );
    }
    if let (Some(id), None) = (&request.id, &answer.plan) {
        return Err(
            Failure::new(Exit::NotFound, format!("no plan {}", escape(id.as_str())))
                .with_hint(format!("See the plan: {}", context.node.command("plan"))),
        );
    }
    let output = &mut context.output;
    match output.format() {
        Format::Json | Format::Jsonl => output.json(&answer)?,
        Format::Plain => {
            let word = if answer.found {
                "cancelled"
            } else {
                "unchanged"
            };
            let plan = answer.plan.as_ref().map(|plan| plan.id.as_str());
            output.record(&[
                word,
                plan.unwrap_or_default(),
                &answer.sessions.to_string(),
                &answer.in_flight.to_string(),
            ])?;
        }
        Format::Table => {
            let node = escape(status.node_name.as_str()).into_owned();
            let next = describe_node(&node, &status.mode, context.node).await;
            output.confirm(&format!("{}. {next}", describe_cancelled(&answer)))?;
        }
    }
    Ok(Exit::Done)
}

/// `plan 7Q2K9XA0 is cancelled; 12 sessions are not ended any more`
fn describe_cancelled(answer: &PlanCancelled) -> String {
    let ends = (answer.sessions > 0 || answer.in_flight > 0)
        .then(|| describe_not_ended(answer.sessions, answer.in_flight));
    let plan = match &answer.plan {
        Some(plan) if answer.found => Some(format!("plan {} is cancelled", plan.id)),
        Some(plan) => Some(format!("{}; nothing was changed", describe_over(plan))),
        None if ends.is_none() => Some("no plan runs, and no session waits to be ended".to_owned()),
        None => None,
    };
    plan.into_iter().chain(ends).collect::<Vec<_>>().join("; ")
}

/// Describes the mode, which a cancelled plan leaves as it is, and how to open the node.
async fn describe_node(name: &str, mode: &ModeState, node: Node<'_>) -> String {
    if !mode.mode.is_block() {
        return format!("{name} is {}", mode.mode);
    }
    let how = match opening(node).await {
        Opening::Own => format!("Open it: {}", node.command("set normal")),
        Opening::Others(words) | Opening::Runs(words) => words,
    };
    format!("{name} stays closed ({}). {how}", mode.mode)
}
