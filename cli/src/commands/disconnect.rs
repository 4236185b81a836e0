//! `soramode disconnect CONNECTION`

use clap_complete::engine::ArgValueCandidates;
use soramode_protocol::decision::{Disconnect, Disconnected};
use soramode_protocol::id::{ChannelId, ConnectionId, SessionId};

use crate::candidates;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::output::Format;
use crate::output::escape::quoted;

/// Remove a connection from the list, as a signalling server does
///
/// For a connection without a client. No client is disconnected: the SFU is not asked. A session ends with its last connection.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Connection id
    #[arg(add = ArgValueCandidates::new(candidates::connections))]
    connection: ConnectionId,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let disconnect = Disconnect {
        connection_id: args.connection,
    };
    let answer = context.node.connect().await?.call(&disconnect).await?;
    if answer.found {
        context.output.changed(&format!(
            "connection {} is removed",
            quoted(disconnect.connection_id.as_str())
        ));
    }
    match context.output.format() {
        Format::Json | Format::Jsonl => context.output.json(&answer)?,
        Format::Plain => {
            let found = if answer.found { "found" } else { "absent" };
            let channel = answer
                .channel_id
                .as_ref()
                .map(ChannelId::as_str)
                .unwrap_or_default();
            let session = answer
                .session_id
                .as_ref()
                .map(SessionId::as_str)
                .unwrap_or_default();
            context.output.record(&[found, channel, session])?;
        }
        Format::Table if answer.found => context
            .output
            .confirm(&describe(&disconnect.connection_id, &answer))?,
        Format::Table => {}
    }
    if answer.found {
        return Ok(Exit::Done);
    }
    let absent = Failure::new(
        Exit::NotFound,
        format!(
            "no connection {}",
            quoted(disconnect.connection_id.as_str())
        ),
    );
    Err(absent.if_not_found(&context.node.command("connections")))
}

fn describe(connection_id: &ConnectionId, answer: &Disconnected) -> String {
    let connection = quoted(connection_id.as_str());
    match &answer.channel_id {
        Some(channel_id) => {
            let unwritten = if answer.durable {
                ""
            } else {
                "; soramoded cannot write that to disk yet"
            };
            format!(
                "removed connection {connection} from channel {}{unwritten}",
                quoted(channel_id.as_str())
            )
        }
        None => format!("removed connection {connection}"),
    }
}
