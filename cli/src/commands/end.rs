//! `soramode end CHANNEL|--all`

use clap_complete::engine::ArgValueCandidates;
use soramode_protocol::end::{End, EndMethod, Ended};
use soramode_protocol::id::{ChannelId, EndId};
use soramode_protocol::plan::{EndRate, RISK_OF_END};
use soramode_protocol::wait::{Wait, WaitFor};

use crate::api::Detail;
use crate::candidates;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::long_call::{LongCall, call};
use crate::output::escape::escape;
use crate::output::{Format, counted};
use crate::plan::flags::{Risk, read_rate};
use crate::report::Report;
use crate::signals::Signals;
use crate::wait::{Then, WaitRequest, describe_limit, wait};

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
    /// End at most N sessions per minute: N/min, or max [default: max]
    ///
    /// The oldest first. With max, 8 at a time. soramode plan cancel stops the rest.
    #[arg(long, value_name = "N/min|max", value_parser = read_rate)]
    rate: Option<EndRate>,
    /// Then wait until each of these sessions has ended
    #[arg(long)]
    wait: bool,
    /// Record REASON with the event, and send it to the signalling server
    #[arg(short, long, value_name = "REASON")]
    message: Option<String>,
    /// Required: accept that connected clients are disconnected
    #[arg(long, value_enum, value_name = "RISK")]
    accept_risk: Option<Risk>,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    if args.accept_risk.is_none() {
        let sessions = if args.all {
            "every session on the node"
        } else {
            "the session"
        };
        let message = format!("this disconnects the clients of {sessions}. Nothing was done");
        return Err(Failure::new(Exit::Usage, message)
            .with_hint(format!("To go on, add --accept-risk={RISK_OF_END}")));
    }
    let end = End {
        channel_id: args.channel,
        all: args.all,
        reason: args.message,
        per_minute: args.rate,
    };
    let how = LongCall {
        doing: "still asking to end sessions",
        goes_on: "soramoded goes on. To stop it: soramode plan cancel",
    };
    let ended = call(&end, &how, context)
        .await
        .map_err(|failure| failure.if_not_found(&context.node.command("sessions")))?;
    if ended.sessions > 0 {
        context.output.changed(&format!(
            "{} asked to end",
            counted(ended.sessions, "session")
        ));
    }
    if let Some(id) = ended.id.clone().filter(|_| args.wait) {
        return wait_ended(&ended, id, context).await;
    }
    show(&ended, context)?;
    note_open(context).await;
    check_failed(&ended, context)
}

/// Says that clients may come back to a node that is open.
async fn note_open(context: &Context<'_>) {
    let Ok(status) = context.node.status(Detail::Mode).await else {
        return;
    };
    if !status.mode().is_block() {
        context.output.note(&format!(
            "{} is open: clients may come back. Close it: {}",
            status.name(),
            context.node.command("close")
        ));
    }
}

fn check_failed(ended: &Ended, context: &Context<'_>) -> Result<Exit, Failure> {
    if ended.failed == 0 {
        return Ok(Exit::Done);
    }
    let hint = format!(
        "Look at what is left, and whether soramoded goes on asking: {}. To stop it: {}",
        context.node.command("status"),
        context.node.command("plan cancel")
    );
    Err(Failure::new(Exit::Failed, describe_failed(ended)).with_hint(hint))
}

/// `2 sessions could not be ended: Sora's API at http://127.0.0.1:3000/ (DisconnectChannel) answered 500`
fn describe_failed(ended: &Ended) -> String {
    let why = ended.problem.as_deref().unwrap_or("no reason was given");
    format!(
        "{} could not be ended: {}",
        counted(ended.failed, "session"),
        escape(why)
    )
}

/// Waits until each session of a request has ended.
async fn wait_ended(ended: &Ended, id: EndId, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let mut report = Report::new();
    let result = wait_and_confirm(ended, id, context, &mut report).await;
    report.finish(&mut context.output, result)
}

async fn wait_and_confirm(
    ended: &Ended,
    id: EndId,
    context: &mut Context<'_>,
    report: &mut Report,
) -> Result<Exit, Failure> {
    let node = context.node;
    let mut signals = Signals::listen()?;
    let sessions = ended.sessions + ended.failed;
    let request = WaitRequest {
        wait: Wait {
            end_id: Some(id),
            ..Wait::new(WaitFor::Ended)
        },
        limit: None,
        is_closed: false,
        until_closed: false,
        sessions_before: sessions,
        then: Then::Nothing,
    };
    context.output.note(&format!(
        "asked to end {}; waiting {} until each has ended",
        counted(sessions, "session"),
        describe_limit(None)
    ));
    if ended.failed > 0 {
        context
            .output
            .warn(&format!("{}; soramoded asks again", describe_failed(ended)));
    }
    let stop = format!("To stop the rest: {}", node.command("plan cancel"));
    let reached = wait(node, &request, context, &mut signals, report)
        .await
        .map_err(|failure| failure.with_hint(stop))?;
    let output = &mut context.output;
    match output.format() {
        Format::Json | Format::Jsonl => {}
        Format::Plain => output.record(&["ended", &sessions.to_string()])?,
        Format::Table => output.confirm(&format!(
            "{} ended ({} left on {})",
            counted(sessions, "session"),
            reached.status.describe_counts(),
            reached.status.name()
        ))?,
    }
    note_open(context).await;
    Ok(Exit::Done)
}

fn show(ended: &Ended, context: &mut Context<'_>) -> Result<(), Failure> {
    let (name, means) = match ended.via {
        EndMethod::SoraApi => ("sora_api", "Sora's API"),
        EndMethod::JanusAdmin => ("janus_admin", "Janus"),
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
        Format::Table if ended.sessions == 0 => output.confirm("the node has no session to end"),
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
