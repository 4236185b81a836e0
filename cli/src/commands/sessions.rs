//! `soramode sessions`

use std::cmp::Reverse;
use std::time::Duration;

use clap_complete::engine::ArgValueCandidates;
use soramode_protocol::id::{ChannelId, SessionId};
use soramode_protocol::session::{LIST_LIMIT_MAX, ListSessions, Session};

use crate::api::{Api, Look};
use crate::completion;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::output::{Column, List, Output, times};

/// List sessions
///
/// A session is one life of a channel: it begins with the first connection and ends when the last has left (later, with --session-linger of
/// soramoded).
#[derive(Debug, clap::Args)]
#[command(visible_alias = "list")]
pub(crate) struct Args {
    /// List only the session of this channel
    #[arg(long, value_name = "CHANNEL", add = ArgValueCandidates::new(completion::channels))]
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
const COLUMNS: [Column; 6] = [
    Column::id("CHANNEL"),
    Column::id("SESSION").optional(4),
    Column::word("SINCE").optional(1),
    Column::word("CONNECTIONS"),
    Column::word("MAX").optional(2),
    Column::word("TOTAL").optional(3),
];

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    if let Some(api) = context.api {
        return list_over_api(&args, api, &mut context.output).await;
    }
    let mut daemon = context.socket.connect().await?;
    let mut list = List::begin(&mut context.output, "sessions", &COLUMNS)?;
    let mut kept: Vec<Session> = Vec::new();
    let mut younger = 0;
    let mut page = ListSessions {
        channel_id: args.channel,
        limit: Some(LIST_LIMIT_MAX),
        cursor: None,
    };
    loop {
        let answer = daemon.call(&page).await?;
        let now = times::now();
        let (old_enough, too_young): (Vec<_>, Vec<_>) = answer
            .sessions
            .into_iter()
            .partition(|session| now.since(session.created_at) >= args.older);
        younger += too_young.len();
        match args.sort {
            // That is the daemon's own order.
            Sort::Age => old_enough
                .iter()
                .try_for_each(|session| show(session, &mut list))?,
            Sort::Size => kept.extend(old_enough),
        }
        page.cursor = answer.cursor;
        if page.cursor.is_none() || list.is_closed() {
            break;
        }
    }
    kept.sort_by_key(|session| Reverse(session.connections));
    kept.iter()
        .try_for_each(|session| show(session, &mut list))?;
    list.finish(&none_words(args.older, younger))?;
    Ok(Exit::Done)
}

/// The sessions that somebody is in; how many they had at most and in all is not told.
async fn list_over_api(args: &Args, api: &Api, output: &mut Output) -> Result<Exit, Failure> {
    let mut sessions = Look::at(api).await?.list;
    let now = times::now();
    sessions.retain(|session| {
        args.channel
            .as_ref()
            .is_none_or(|channel| session.channel_id == *channel)
    });
    let wanted = sessions.len();
    // One whose age is not told may be old enough.
    sessions.retain(|session| {
        session
            .created_at
            .is_none_or(|created_at| now.since(created_at) >= args.older)
    });
    if args.sort == Sort::Size {
        sessions.sort_by_key(|session| Reverse(session.connections));
    }
    let mut list = List::begin(output, "sessions", &COLUMNS)?;
    for session in &sessions {
        let since = session.created_at.map(|created_at| list.time(created_at));
        let id = session.session_id.as_ref().map(SessionId::as_str);
        list.row(
            session,
            &[
                session.channel_id.as_str().into(),
                id.into(),
                since.into(),
                session.connections.into(),
                "".into(),
                "".into(),
            ],
        )?;
    }
    list.finish(&none_words(args.older, wanted - sessions.len()))?;
    api.note_pending(output).await;
    Ok(Exit::Done)
}

/// Says that the list is empty, and where only `--older` makes it so, how many sessions there are.
fn none_words(older: Duration, younger: usize) -> String {
    match younger {
        0 => "no sessions".to_owned(),
        younger => format!(
            "no session is older than {} ({younger} younger)",
            times::typed(older)
        ),
    }
}

fn show(session: &Session, list: &mut List<'_>) -> Result<(), Failure> {
    let cells = [
        session.channel_id.as_str().into(),
        session.session_id.as_str().into(),
        list.time(session.created_at),
        session.connections.into(),
        // The past counts connections that came; those that are on their way are among the present ones.
        session.max_connections.max(session.connections).into(),
        session.total_connections.max(session.connections).into(),
    ];
    list.row(session, &cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_says_whether_there_are_younger_sessions() {
        assert_eq!(none_words(Duration::ZERO, 0), "no sessions");
        assert_eq!(
            none_words(Duration::from_mins(10), 16),
            "no session is older than 10m (16 younger)"
        );
    }
}
