//! `soramode connect CHANNEL`

use clap_complete::engine::ArgValueCandidates;
use soramode_protocol::decision::{Connect, Decision, Lifetime};
use soramode_protocol::id::{ChannelId, ClientId, ConnectionId};

use crate::Context;
use crate::args::Format;
use crate::completion;
use crate::error::{Exit, Failure};
use crate::output::Output;
use crate::output::escape::{escape, quoted};

/// Ask the gate to let a connection in, as a signalling server does
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The channel it asks for
    #[arg(add = ArgValueCandidates::new(completion::channels))]
    channel: ChannelId,
    /// The connection's id; the gate makes one if it is not given
    #[arg(long, value_name = "ID")]
    connection_id: Option<ConnectionId>,
    /// Whose it is
    #[arg(long, value_name = "ID")]
    client_id: Option<ClientId>,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let connect = Connect {
        channel_id: args.channel,
        connection_id: args.connection_id,
        client_id: args.client_id,
        lifetime: Lifetime::Explicit,
        hops: 0,
    };
    let decision = context.socket.connect().await?.call(&connect).await?;
    show(&decision, &mut context.output)?;
    match decision {
        Decision::Offer { .. } => Ok(Exit::Done),
        Decision::Reject { .. } | Decision::Redirect { .. } => Ok(Exit::No),
    }
}

fn show(decision: &Decision, output: &mut Output) -> Result<(), Failure> {
    match output.format() {
        Format::Json | Format::Jsonl => output.json(decision),
        Format::Plain => show_record(decision, output),
        Format::Table => output.text(&words(decision)),
    }
}

fn show_record(decision: &Decision, output: &mut Output) -> Result<(), Failure> {
    match decision {
        Decision::Offer { channel_id, connection_id, session_id, created, .. } => {
            let created = if *created { "created" } else { "joined" };
            output.record(&["offer", channel_id.as_str(), connection_id.as_str(), session_id.as_str(), created])
        }
        Decision::Reject { reason, mode, .. } => output.record(&["reject", reason.name(), mode.name()]),
        Decision::Redirect { node_name, location } => {
            output.record(&["redirect", node_name.as_str(), location.as_deref().unwrap_or_default()])
        }
    }
}

fn words(decision: &Decision) -> String {
    match decision {
        Decision::Offer { channel_id, connection_id, session_id, created, .. } => {
            let session = if *created { "a new session" } else { "session" };
            let (channel, session_id) = (quoted(channel_id.as_str()), escape(session_id.as_str()));
            format!("offer: connection {} on channel {channel}, {session} {session_id}", quoted(connection_id.as_str()))
        }
        Decision::Reject { reason, mode, .. } => format!("reject: {reason} (the mode is {mode})"),
        Decision::Redirect { node_name, location } => {
            let location = location.as_deref().map(|location| format!(" at {}", escape(location)));
            format!("redirect: to {}{}", escape(node_name.as_str()), location.unwrap_or_default())
        }
    }
}
