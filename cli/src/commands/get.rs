//! `soramode get`

use soramode_protocol::mode::GetMode;

use crate::Context;
use crate::args::Format;
use crate::error::{Exit, Failure};

/// Print the mode, one word
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let state = context.socket.connect().await?.call(&GetMode {}).await?;
    match context.output.format() {
        Format::Table => context.output.text(&context.output.mode(state.mode))?,
        Format::Plain => context.output.text(state.mode.name())?,
        Format::Json | Format::Jsonl => context.output.json(&state)?,
    }
    Ok(Exit::Done)
}
