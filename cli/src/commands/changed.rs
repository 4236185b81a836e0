//! Reports a change of the mode that was made: `set`, `open`, `close`, and a `drain` that does not wait.

use serde::Serialize;
use soramode_protocol::id::PlanId;
use soramode_protocol::mode::{EndsStopped, InForce, Mode};
use soramode_protocol::plan::Plan;
use soramode_protocol::time::Time;

use crate::close::give_way;
use crate::closed::Closed;
use crate::cluster::ClusterFlags;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::node::Node;
use crate::output::{Format, Output};

/// Prints the answer after a change of the mode, and checks the other nodes.
pub(super) async fn finish(
    closed: &Closed,
    node: Node<'_>,
    (cluster, reason): (&ClusterFlags, Option<&str>),
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    note_change(closed, node, &mut context.output);
    give_way(context, node, closed, cluster, reason).await?;
    closed.status.warn(&context.output);
    print(closed, node, &mut context.output)?;
    cluster.check_published(
        closed.published,
        &closed.status.name(),
        closed.now.mode,
        &context.output,
    )?;
    if closed.is_not_in_force() {
        return Ok(Exit::NotInForce);
    }
    Ok(Exit::Done)
}

/// Records that the mode was changed, and prints the node's warning about it.
pub(super) fn note_change(closed: &Closed, node: Node<'_>, output: &mut Output) {
    if closed.changed {
        output.changed(&format!("{} is {}", closed.status.name(), closed.now.mode));
    }
    if let Some(warning) = &closed.warning {
        output.warn(warning);
    }
    if let Some(plan) = closed.describe_plan(node) {
        output.note(&plan);
    }
}

fn print(closed: &Closed, node: Node<'_>, output: &mut Output) -> Result<(), Failure> {
    let mode = closed.now.mode;
    let previous_mode = closed.before.mode;
    let node_name = closed.status.node_name();
    match output.format() {
        Format::Json | Format::Jsonl => output.json(&ChangeView::of(closed)),
        Format::Plain => {
            let word = if closed.changed {
                "changed"
            } else {
                "unchanged"
            };
            let generation = closed.now.generation().map(|it| it.to_string());
            let fields = [word, node_name, previous_mode.name(), mode.name()];
            output.record(&[&fields[..], generation.as_deref().as_slice()].concat())
        }
        Format::Table => {
            if let Some(problem) = &closed.status_failure {
                return output.confirm(&format!(
                    "{} is {mode} now, but its sessions cannot be read: {problem}",
                    closed.status.name()
                ));
            }
            if closed.is_not_in_force() {
                return output.confirm(&format!(
                    "{} is set to {mode}, and soramoded goes on until that is in force: {} shows it",
                    closed.status.name(),
                    node.command("status")
                ));
            }
            let undo = closed
                .undo_hint(node)
                .filter(|_| previous_mode != Mode::Initial)
                .map(|undo| format!(". {undo}"))
                .unwrap_or_default();
            output.confirm(&format!("{}{undo}", closed.describe()))
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
    pub(super) fn of(closed: &'a Closed) -> Self {
        let (sessions, connections) = closed.status.counts().unzip();
        let status = closed.status.of_daemon();
        Self {
            mode: closed.now.mode,
            previous_mode: closed.before.mode,
            changed: closed.changed,
            generation: closed.now.generation(),
            sessions,
            connections,
            expires_at: closed.now.expires_at(),
            expected_end_at: closed.now.expected_end_at(),
            warning: closed.warning.as_deref(),
            published: closed.published,
            in_force: status.and_then(|status| status.in_force),
            plan: status.and_then(|status| status.plan.as_deref()),
            plan_cancelled: closed.stopped.plan.as_ref(),
            ends_stopped: closed.stopped.ends,
            node_name: closed.status.node_name(),
        }
    }
}
