//! `soramode sessions`

use std::cmp::Reverse;
use std::time::Duration;

use clap_complete::engine::ArgValueCandidates;
use serde::Serialize;
use soramode_protocol::id::ChannelId;
use soramode_protocol::node::GetInfo;
use soramode_protocol::time::Time;

use crate::candidates;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::fleet::host_answer::{HostAnswer, raw_json};
use crate::lists;
use crate::node::Node;
use crate::output::{Cell, Column, List, Output, times};
use crate::session_info::SessionInfo;

/// List sessions
///
/// A session is one life of a channel: it begins with the first connection and ends when the last has left (later, with --reconnect-grace of
/// soramoded).
#[derive(Debug, clap::Args)]
#[command(visible_alias = "list")]
pub(crate) struct Args {
    /// List only the session of this channel
    #[arg(long, value_name = "CHANNEL", add = ArgValueCandidates::new(candidates::channels))]
    channel: Option<ChannelId>,
    /// List only sessions that are at least this old
    #[arg(long, value_name = "DURATION", value_parser = times::read_span, default_value = "0", hide_default_value = true)]
    older: Duration,
    /// Sort by age or size, largest first
    #[arg(long, value_enum, default_value_t = Sort::Age)]
    sort: Sort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Sort {
    /// Oldest first
    Age,
    /// Most connections first
    Size,
}

/// The columns of [`show`].
pub(super) const COLUMNS: [Column; 6] = [
    Column::id("CHANNEL"),
    Column::id("SESSION").optional(4),
    Column::word("SINCE").optional(1),
    Column::word("CONNECTIONS").answer(),
    Column::word("MAX").optional(2),
    Column::word("TOTAL").optional(3),
];

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let mut pages = lists::sessions(context.node, args.channel).await?;
    let mut page = pages.next().await?;
    let mut list = List::begin(&mut context.output, "sessions", &COLUMNS)?;
    let mut kept: Vec<SessionInfo> = Vec::new();
    let mut younger = 0;
    while let Some(sessions) = page {
        let now = times::now();
        let (old_enough, too_young): (Vec<_>, Vec<_>) = sessions
            .into_iter()
            .partition(|session| is_old_enough(session, args.older, now));
        younger += too_young.len();
        match args.sort {
            // The pages are in this order.
            Sort::Age => old_enough
                .iter()
                .try_for_each(|session| show(session, &mut list))?,
            Sort::Size => kept.extend(old_enough),
        }
        page = if list.is_closed() {
            None
        } else {
            pages.next().await?
        };
    }
    kept.sort_by_key(|session| Reverse(session.connections()));
    kept.iter()
        .try_for_each(|session| show(session, &mut list))?;
    list.finish(&describe_none(args.older, younger))?;
    context.node.note_pending(&context.output).await;
    Ok(Exit::Done)
}

/// Describes an empty list, and how many sessions `--older` left out.
fn describe_none(older: Duration, younger: usize) -> String {
    match younger {
        0 => "no sessions".to_owned(),
        younger => format!(
            "no session is older than {} ({younger} younger)",
            times::typed(older)
        ),
    }
}

fn show(session: &SessionInfo, list: &mut List<'_>) -> Result<(), Failure> {
    let cells = cells(session, list.output());
    list.row(session, &cells)
}

fn cells(session: &SessionInfo, output: &Output) -> Vec<Cell<'static>> {
    vec![
        session.channel_id().to_owned().into(),
        session.session_id().map(str::to_owned).into(),
        session
            .created_at()
            .map(|created_at| output.time_cell(created_at))
            .into(),
        session.connections().into(),
        session.max_connections().into(),
        session.total_connections().into(),
    ]
}

/// Asks one of several hosts.
pub(super) async fn ask_host(
    args: &Args,
    node: Node<'_>,
    output: &Output,
) -> Result<HostAnswer, Failure> {
    let mut daemon = node.connect().await?;
    let node_name = daemon.call(&GetInfo {}).await?.node_name;
    let mut pages = lists::sessions_of(daemon, args.channel.clone());
    let mut sessions = Vec::new();
    while let Some(page) = pages.next().await? {
        let now = times::now();
        sessions.extend(
            page.into_iter()
                .filter(|it| is_old_enough(it, args.older, now)),
        );
    }
    if args.sort == Sort::Size {
        sessions.sort_by_key(|session| Reverse(session.connections()));
    }
    Ok(HostAnswer {
        node_name: node_name.to_string(),
        exit: Exit::Done,
        rows: sessions.iter().map(|it| cells(it, output)).collect(),
        result: raw_json(&SessionsView { sessions })?,
        note: None,
    })
}

/// The JSON of a host.
#[derive(Serialize)]
struct SessionsView {
    sessions: Vec<SessionInfo>,
}

/// Returns whether a session is at least so old. One of unknown age may be.
fn is_old_enough(session: &SessionInfo, older: Duration, now: Time) -> bool {
    session
        .created_at()
        .is_none_or(|created_at| now.since(created_at) >= older)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_says_whether_there_are_younger_sessions() {
        assert_eq!(describe_none(Duration::ZERO, 0), "no sessions");
        assert_eq!(
            describe_none(Duration::from_mins(10), 16),
            "no session is older than 10m (16 younger)"
        );
    }
}
