//! `soramode version`

use soramode_protocol::version::{PROTOCOL, VERSION};

use serde::Serialize;

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::output::Format;

/// Print the version of soramode
///
/// soramode info shows soramoded's too.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Serialize)]
struct VersionView {
    version: &'static str,
    protocol: u32,
}

#[expect(clippy::unused_async, reason = "every verb is run alike")]
pub(crate) async fn run(_: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    match context.output.format() {
        Format::Json | Format::Jsonl => context.output.json(&VersionView {
            version: VERSION,
            protocol: PROTOCOL,
        })?,
        Format::Table | Format::Plain => context.output.text(&format!("soramode {VERSION}"))?,
    }
    Ok(Exit::Done)
}
