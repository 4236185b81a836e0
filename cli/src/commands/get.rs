//! `soramode get`

#![expect(clippy::doc_markdown, reason = "what clap shows as help is plain text")]

use serde::Serialize;
use soramode_protocol::mode::{GetMode, InForce, Mode};
use soramode_protocol::node::GetInfo;

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::fleet::host_answer::HostAnswer;
use crate::node::Node;
use crate::output::{Column, Format, Output};

/// Print the mode
///
/// One word: normal, block_new_session, block_new_connection or initial (not yet in its cluster). With -o json also its
/// generation, actor, reason, since when it is set, and expires_at if it reopens automatically.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let mode = context.node.mode().await?;
    let in_force = mode.state.as_ref().and_then(|state| state.in_force);
    if in_force.is_some_and(|it| it != InForce::Yes) {
        context.output.warn(&format!(
            "{} is set, but not in force. To see why, run: {}",
            mode.mode,
            context.node.command("status")
        ));
    }
    show(mode.mode, &mode, &mut context.output)
}

/// The columns on several hosts.
pub(super) const HOST_COLUMNS: [Column; 1] = [Column::word("MODE").answer()];

/// Asks one of several hosts.
pub(super) async fn ask_host(node: Node<'_>) -> Result<HostAnswer, Failure> {
    let mut daemon = node.connect().await?;
    let (state, info) = daemon.call_both(&GetMode {}, &GetInfo {}).await?;
    HostAnswer::one_row(info.node_name.as_str(), &state, vec![state.mode.into()])
}

/// Prints a mode: `all` is the JSON.
pub(crate) fn show(mode: Mode, all: &impl Serialize, output: &mut Output) -> Result<Exit, Failure> {
    match output.format() {
        Format::Table => output.text(&output.mode(mode))?,
        Format::Plain => output.text(mode.name())?,
        Format::Json | Format::Jsonl => output.json(all)?,
    }
    Ok(Exit::Done)
}
