//! The report of `set`, `open`, `close`, and a `drain` that does not wait: the mode that was set, and its exit code.

use serde::Serialize;
use soramode_protocol::id::PlanId;
use soramode_protocol::mode::{EndsStopped, InForce, Mode};
use soramode_protocol::plan::Plan;
use soramode_protocol::time::Time;

use crate::cluster::ClusterFlags;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::mode_result::ModeResult;
use crate::node::Node;
use crate::output::{Format, Output};
use crate::set_mode::give_way;

/// Prints the result of a command that sets the mode and does not wait, checks the other nodes, and returns the exit code.
pub(super) async fn report_mode(
    result: &ModeResult,
    node: Node<'_>,
    (cluster, reason): (&ClusterFlags, Option<&str>),
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    note_change(result, node, &mut context.output);
    give_way(context, node, result, cluster, reason).await?;
    result.status.warn(&context.output);
    print(result, node, &mut context.output).await?;
    cluster.check_published(
        result.published,
        &result.status,
        result.now.mode,
        &context.output,
    )?;
    if result.is_not_in_force() {
        return Ok(Exit::NotInForce);
    }
    Ok(Exit::Done)
}

/// Records that the mode was changed, and prints the node's warning about it.
pub(super) fn note_change(result: &ModeResult, node: Node<'_>, output: &mut Output) {
    if result.changed {
        output.changed(&format!("{} is {}", result.status.name(), result.now.mode));
    }
    if let Some(warning) = &result.warning {
        output.warn(warning);
    }
    if let Some(plan) = result.describe_plan(node) {
        output.note(&plan);
    }
}

async fn print(result: &ModeResult, node: Node<'_>, output: &mut Output) -> Result<(), Failure> {
    let mode = result.now.mode;
    let previous_mode = result.before.mode;
    let node_name = result.status.node_name();
    match output.format() {
        Format::Json | Format::Jsonl => output.json(&ChangeView::of(result)),
        Format::Plain => {
            let word = if result.changed {
                "changed"
            } else {
                "unchanged"
            };
            let generation = result.now.generation().map(|it| it.to_string());
            let fields = [word, node_name, previous_mode.name(), mode.name()];
            output.record(&[&fields[..], generation.as_deref().as_slice()].concat())
        }
        Format::Table => {
            if let Some(problem) = &result.status_failure {
                return output.confirm(&format!(
                    "{} is {mode} now, but its sessions cannot be read: {problem}",
                    result.status.name()
                ));
            }
            if result.is_not_in_force() {
                return output.confirm(&format!(
                    "{} is set to {mode}, and soramoded goes on until that is in force. To see it: {}",
                    result.status.name(),
                    node.command("status")
                ));
            }
            let undo = result.undo_hint(node);
            let parts = std::iter::once(result.describe())
                .chain(result.loosen_hint(node).await)
                .chain(result.keep_closed_hint(node))
                .chain(undo);
            output.confirm(&parts.collect::<Vec<_>>().join(". "))
        }
    }
}

/// A change, as JSON.
#[derive(Serialize)]
pub(super) struct ChangeView<'a> {
    mode: Mode,
    previous_mode: Mode,
    changed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_end_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_force: Option<InForce>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<&'a Plan>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan_cancelled: Option<&'a PlanId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_stopped: Option<EndsStopped>,
    node_name: &'a str,
}

impl<'a> ChangeView<'a> {
    pub(super) fn of(result: &'a ModeResult) -> Self {
        let (sessions, connections) = result.status.counts().unzip();
        let status = result.status.of_daemon();
        Self {
            mode: result.now.mode,
            previous_mode: result.before.mode,
            changed: result.changed,
            generation: result.now.generation(),
            sessions,
            connections,
            expires_at: result.now.expires_at(),
            expected_end_at: result.now.expected_end_at(),
            warning: result.warning.as_deref(),
            published: result.published,
            in_force: status.and_then(|status| status.in_force),
            plan: status.and_then(|status| status.plan.as_deref()),
            plan_cancelled: result.stopped.plan.as_ref(),
            ends_stopped: result.stopped.ends,
            node_name: result.status.node_name(),
        }
    }
}
