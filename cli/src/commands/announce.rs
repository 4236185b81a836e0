//! `soramode announce [TEXT]`

#![expect(clippy::doc_markdown, reason = "what clap shows as help is plain text")]

use clap_complete::engine::ArgValueCandidates;
use soramode_protocol::announce::{Announce, Announced, NoticeData};
use soramode_protocol::id::ChannelId;
use soramode_protocol::node::GetInfo;

use crate::candidates;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::fleet::host_answer::HostAnswer;
use crate::long_call::{self, LongCall, call};
use crate::node::Node;
use crate::output::escape::{escape, quoted};
use crate::output::{Column, Format, counted};
use crate::plan::flags::{read_data, read_text};

/// Announce maintenance to the clients of the sessions
///
/// By Sora's API (PushChannel), the signalling server that subscribed with announcements: true, and the webhook maintenance.announced. Clients
/// receive the text and the data, and the time at which a plan ends their sessions. They are not disconnected, and the mode stays.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Text for people; {minutes} stands for the time until a plan ends the sessions, rounded down
    ///
    /// No other word may stand in braces.
    #[arg(value_parser = read_text)]
    text: Option<String>,
    /// Announce to this channel only
    #[arg(long, value_name = "CHANNEL", add = ArgValueCandidates::new(candidates::channels))]
    channel: Option<ChannelId>,
    /// Data for the application
    #[arg(long, value_name = "JSON", value_parser = read_data)]
    data: Option<NoticeData>,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let announce = Announce {
        text: args.text,
        data: args.data,
        channel_id: args.channel,
    };
    let how = LongCall {
        doing: "still announcing",
        goes_on: "the announcement goes on",
    };
    let announced = call(&announce, &how, context)
        .await
        .map_err(|failure| failure.if_not_found(&context.node.command("sessions")))?;
    context.output.changed("the announcement was made");
    show(&announced, context)?;
    let failed = announced.by.sora_api.map_or(0, |api| api.failed);
    if failed == 0 {
        return Ok(Exit::Done);
    }
    let mut failure = Failure::new(
        Exit::Failed,
        format!(
            "{} failed for {failed} of {}",
            if is_by_api_alone(&announced) {
                "the announcement"
            } else {
                "the announcement by Sora's API"
            },
            counted(announced.channels, "channel")
        ),
    );
    failure.details = announced
        .problems
        .iter()
        .map(|it| {
            format!(
                "{}: {}",
                quoted(it.channel_id.as_str()),
                escape(&it.problem)
            )
        })
        .collect();
    Err(failure)
}

/// The columns on several hosts.
pub(super) const HOST_COLUMNS: [Column; 4] = [
    Column::id("NODE").optional(1),
    Column::word("CHANNELS").answer(),
    Column::word("FAILED"),
    Column::text("BY"),
];

/// Announces on one of several hosts.
pub(super) async fn ask_host(args: &Args, node: Node<'_>) -> Result<HostAnswer, Failure> {
    let announce = Announce {
        text: args.text.clone(),
        data: args.data.clone(),
        channel_id: args.channel.clone(),
    };
    let announced = long_call::call_without_notes(&announce, node).await?;
    let node_name = node.connect().await?.call(&GetInfo {}).await?.node_name;
    let failed = announced.by.sora_api.map_or(0, |api| api.failed);
    let row = vec![
        node_name.to_string().into(),
        announced.channels.into(),
        failed.into(),
        describe_means(&announced).into(),
    ];
    let answer = HostAnswer::one_row(node_name.as_str(), &announced, row)?;
    let exit = if failed == 0 {
        Exit::Done
    } else {
        Exit::Failed
    };
    Ok(HostAnswer { exit, ..answer })
}

fn show(announced: &Announced, context: &mut Context<'_>) -> Result<(), Failure> {
    let by = &announced.by;
    let told = by.sora_api.map_or(0, |api| api.told);
    let output = &mut context.output;
    match output.format() {
        Format::Json | Format::Jsonl => output.json(announced),
        Format::Plain => output.record(&[
            announced.id.as_str(),
            &announced.channels.to_string(),
            &told.to_string(),
            &by.subscribers.to_string(),
            &by.webhooks.to_string(),
        ]),
        Format::Table => {
            let means = describe_means(announced);
            let means = if means.is_empty() {
                means
            } else {
                format!(", by {means}")
            };
            output.confirm(&format!(
                "announced to {}{means}",
                describe_reached(announced)
            ))
        }
    }
}

/// Returns whether Sora's API alone announced: no subscribed client and no webhook receiver did.
const fn is_by_api_alone(announced: &Announced) -> bool {
    announced.by.subscribers == 0 && announced.by.webhooks == 0
}

/// `2 channels`, or `0 of 2 channels` if none of the means reached the others.
fn describe_reached(announced: &Announced) -> String {
    let channels = counted(announced.channels, "channel");
    match announced.by.sora_api.map_or(0, |api| api.failed) {
        failed if failed > 0 && is_by_api_alone(announced) => {
            format!(
                "{} of {channels}",
                announced.channels.saturating_sub(failed)
            )
        }
        _ => channels,
    }
}

/// `Sora's API to 2 channels, 1 subscribed client`
fn describe_means(announced: &Announced) -> String {
    let by = &announced.by;
    let means = [
        by.sora_api
            .map(|api| format!("Sora's API to {}", counted(api.told, "channel"))),
        (by.subscribers > 0).then(|| counted(by.subscribers, "subscribed client")),
        (by.webhooks > 0).then(|| counted(by.webhooks, "webhook receiver")),
    ];
    means.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
