//! `soramode explain CHANNEL`

use clap_complete::engine::ArgValueCandidates;
use soramode_protocol::decision::{Answer, Explain, Explanation, RejectReason, Verdict};
use soramode_protocol::id::ChannelId;
use soramode_protocol::node::GetStatus;

use crate::candidates;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::output::color::Emphasis;
use crate::output::escape::{escape, quoted};
use crate::output::{Cell, Column, Format, List};
use crate::plan::describe::describe_future;
use crate::sfu::describe_not_in_force;

/// Show whether a channel accepts a new connection, and why
///
/// Shows the decision now, and in each mode: offer (admit), reject or redirect, and the plan that will change the mode. RULE is a row of the table of Connect in man soramode-protocol. Changes nothing, and does not ask the cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Channel to explain
    #[arg(add = ArgValueCandidates::new(candidates::channels))]
    channel: ChannelId,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let explain = Explain {
        channel_id: args.channel,
    };
    let mut daemon = context.node.connect().await?;
    let (explanation, status) = daemon.call_both(&explain, &GetStatus {}).await?;
    match context.output.format() {
        Format::Json | Format::Jsonl => context.output.json(&explanation)?,
        Format::Plain => show_modes(&explanation, context)?,
        Format::Table => {
            let now = &explanation.now;
            let channel = quoted(explanation.channel_id.as_str());
            let mode = explanation.mode;
            context.output.sentence(&format!(
                "channel {channel}, mode {mode}: {}",
                describe(now)
            ))?;
            if let Some(why) = status
                .in_force
                .and_then(|it| describe_not_in_force(it, status.rooms))
            {
                context.output.sentence(&format!(
                    "{mode} is set, but not in force ({why}). Clients may join rooms that are not locked"
                ))?;
            }
            if let Some(plan) = &status.plan {
                let node = escape(status.node_name.as_str());
                let (id, state) = (&plan.id, plan.state);
                let future = describe_future(plan, &node);
                context
                    .output
                    .sentence(&format!("plan {id}, {state}: {future}"))?;
            }
            context.output.text("")?;
            show_modes(&explanation, context)?;
        }
    }
    Ok(Exit::Done)
}

/// The columns of [`show_modes`].
const COLUMNS: [Column; 5] = [
    Column::word("MODE"),
    Column::word("ANSWER"),
    Column::word("REASON").optional(1),
    Column::word("RULE").optional(2),
    Column::text("WHY"),
];

fn show_modes(explanation: &Explanation, context: &mut Context<'_>) -> Result<(), Failure> {
    let modes = &explanation.modes;
    let verdicts = [
        ("now", &explanation.now),
        ("normal", &modes.normal),
        ("block_new_session", &modes.block_new_session),
        ("block_new_connection", &modes.block_new_connection),
        ("initial", &modes.initial),
    ];
    let mut list = List::begin(&mut context.output, "modes", &COLUMNS)?;
    for (mode, verdict) in verdicts {
        let reason = verdict.reason.map(RejectReason::name);
        let row = u64::from(verdict.rule);
        list.row(
            verdict,
            &[
                mode.into(),
                Cell::from(answer(verdict)).colored(Some(emphasis(verdict))),
                reason.into(),
                row.into(),
                verdict.explanation.as_str().into(),
            ],
        )?;
    }
    list.finish("")
}

const fn emphasis(verdict: &Verdict) -> Emphasis {
    match verdict.answer {
        Answer::Offer => Emphasis::Good,
        Answer::Redirect => Emphasis::Careful,
        Answer::Reject | Answer::Unavailable => Emphasis::Bad,
    }
}

const fn answer(verdict: &Verdict) -> &'static str {
    match verdict.answer {
        Answer::Offer => "offer",
        Answer::Reject => "reject",
        Answer::Redirect => "redirect",
        Answer::Unavailable => "unavailable",
    }
}

fn describe(verdict: &Verdict) -> String {
    let why = escape(&verdict.explanation);
    match verdict.reason {
        Some(reason) => format!("{} {reason}, because {why}", answer(verdict)),
        None => format!("{}, because {why}", answer(verdict)),
    }
}
