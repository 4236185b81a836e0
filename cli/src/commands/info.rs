//! `soramode info`

use serde::Serialize;
use soramode_protocol::node::{GetInfo, Info};
use soramode_protocol::version::{PROTOCOL, VERSION};

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::output::{Format, pairs};

/// Show versions, permissions and methods
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Serialize)]
struct InfoView<'a> {
    #[serde(flatten)]
    daemon: &'a Info,
    client_version: &'static str,
    client_protocol: u32,
}

pub(crate) async fn run(_: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let info = context.node.connect().await?.call(&GetInfo {}).await?;
    match context.output.format() {
        Format::Json | Format::Jsonl => {
            context.output.json(&InfoView {
                daemon: &info,
                client_version: VERSION,
                client_protocol: PROTOCOL,
            })?;
        }
        Format::Table | Format::Plain => pairs(
            &mut context.output,
            &[
                ("node", Some(info.node_name.to_string())),
                (
                    "soramoded",
                    Some(format!("{} (protocol {})", info.version, info.protocol)),
                ),
                ("soramode", Some(format!("{VERSION} (protocol {PROTOCOL})"))),
                ("access", Some(info.access.to_string())),
                ("actor", info.actor.clone()),
                ("log", Some(info.log_id.to_string())),
                ("methods", Some(info.methods.join(" "))),
            ],
        )?,
    }
    Ok(Exit::Done)
}
