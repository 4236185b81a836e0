//! `soramode sessions`

use std::cmp::Reverse;
use std::time::Duration;

use clap_complete::engine::ArgValueCandidates;
use soramode_protocol::id::ChannelId;
use soramode_protocol::session::{LIST_LIMIT_MAX, ListSessions, Session};

use crate::Context;
use crate::completion;
use crate::error::{Exit, Failure};
use crate::output::{List, times};

/// List the sessions
#[derive(Debug, clap::Args)]
#[command(visible_alias = "list")]
pub(crate) struct Args {
    /// Only this channel's
    #[arg(long, value_name = "CHANNEL", add = ArgValueCandidates::new(completion::channels))]
    channel: Option<ChannelId>,
    /// Only those that have lasted at least so long
    #[arg(long, value_name = "DURATION", value_parser = times::read_span, default_value = "0", hide_default_value = true)]
    older: Duration,
    /// What comes first
    #[arg(long, value_enum, default_value_t = Sort::Age)]
    sort: Sort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Sort {
    /// The oldest
    Age,
    /// The one with the most connections
    Size,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let mut daemon = context.socket.connect().await?;
    let headers = ["CHANNEL", "SESSION", "SINCE", "CONNECTIONS", "MOST", "TOTAL"];
    let mut list = List::begin(&mut context.output, "sessions", &headers)?;
    let mut kept: Vec<Session> = Vec::new();
    let mut page = ListSessions { channel_id: args.channel, limit: Some(LIST_LIMIT_MAX), cursor: None };
    loop {
        let answer = daemon.call(&page).await?;
        let now = times::now();
        let mut old_enough = answer.sessions.into_iter().filter(|session| now.since(session.created_at) >= args.older);
        match args.sort {
            // That is the daemon's own order.
            Sort::Age => old_enough.try_for_each(|session| show(&session, &mut list))?,
            Sort::Size => kept.extend(old_enough),
        }
        page.cursor = answer.cursor;
        if page.cursor.is_none() || list.is_closed() {
            break;
        }
    }
    kept.sort_by_key(|session| Reverse(session.connections));
    kept.iter().try_for_each(|session| show(session, &mut list))?;
    list.finish("no sessions")?;
    Ok(Exit::Done)
}

fn show(session: &Session, list: &mut List<'_>) -> Result<(), Failure> {
    let since = list.time(session.created_at);
    let counts = [session.connections, session.max_connections, session.total_connections].map(|count| count.to_string());
    let [connections, most, total] = counts.each_ref().map(String::as_str);
    list.row(session, &[session.channel_id.as_str(), session.session_id.as_str(), &since, connections, most, total])
}
