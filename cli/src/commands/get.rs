//! `soramode get`

#![expect(clippy::doc_markdown, reason = "what clap shows as help is plain text")]

use serde::Serialize;
use soramode_protocol::mode::Mode;

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::output::{Format, Output};

/// Print the mode
///
/// One word: normal, block_new_session, block_new_connection or initial (not yet in its cluster). With -o json also its
/// generation, actor, reason, since when it is set, and expires_at if it reopens automatically.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let mode = context.node.mode().await?;
    show(mode.mode, &mode, &mut context.output)
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
