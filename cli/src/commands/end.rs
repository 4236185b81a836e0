//! `soramode end CHANNEL|--all`

use clap::ValueEnum;
use clap_complete::engine::ArgValueCandidates;
use soramode_protocol::end::{End, EndMethod, Ended};
use soramode_protocol::id::ChannelId;

use crate::candidates;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::output::{Format, counted};

/// End sessions and disconnect their clients
///
/// Asks Sora's API (--sora-api of soramoded), or the signalling server that accepts end requests. New clients may join unless the node is closed:
/// soramode close
#[derive(Debug, clap::Args)]
#[command(override_usage = "soramode end [OPTIONS] --accept-risk <RISK> <CHANNEL|--all>")]
pub(crate) struct Args {
    /// Channel of the session to end
    #[arg(required_unless_present = "all", conflicts_with = "all", add = ArgValueCandidates::new(candidates::channels))]
    channel: Option<ChannelId>,
    /// End every session on the node
    #[arg(long)]
    all: bool,
    /// Required: accept that connected clients are disconnected
    #[arg(long, value_enum, value_name = "RISK")]
    accept_risk: Option<Risk>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Risk {
    /// Connected clients are disconnected
    CutsClients,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    if args.accept_risk.is_none() {
        let message = "this disconnects the clients of the session. Nothing was done";
        return Err(Failure::new(Exit::Usage, message)
            .with_hint("To go on, add --accept-risk=cuts-clients"));
    }
    let end = End {
        channel_id: args.channel,
        all: args.all,
        reason: None,
        per_minute: None,
    };
    let ended = context
        .node
        .connect()
        .await?
        .call(&end)
        .await
        .map_err(|failure| failure.if_not_found(&context.node.command("sessions")))?;
    if ended.sessions > 0 {
        context.output.changed(&format!(
            "{} asked to end",
            counted(ended.sessions, "session")
        ));
    }
    show(&ended, context)?;
    if ended.failed == 0 {
        return Ok(Exit::Done);
    }
    let why = ended.problem.as_deref().unwrap_or("no reason was given");
    let again = format!(
        "Look at what is left, then try again: {}",
        context.node.command("sessions")
    );
    Err(Failure::new(
        Exit::Failed,
        format!(
            "{} could not be ended: {why}",
            counted(ended.failed, "session")
        ),
    )
    .with_hint(again))
}

fn show(ended: &Ended, context: &mut Context<'_>) -> Result<(), Failure> {
    let (name, means) = match ended.via {
        EndMethod::SoraApi => ("sora_api", "Sora's API"),
        EndMethod::Subscribers => ("subscribers", "the signalling server"),
    };
    let output = &mut context.output;
    match output.format() {
        Format::Json | Format::Jsonl => output.json(ended),
        Format::Plain => {
            output.record(&[&ended.sessions.to_string(), &ended.failed.to_string(), name])
        }
        // The error is the whole answer.
        Format::Table if ended.sessions == 0 && ended.failed > 0 => Ok(()),
        Format::Table => {
            let list = context.node.command("sessions");
            let text = format!(
                "asked {means} to end {}. Clients are being disconnected; follow it with: {list}",
                counted(ended.sessions, "session")
            );
            output.confirm(&text)
        }
    }
}
