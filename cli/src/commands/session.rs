//! `soramode session CHANNEL`

use clap_complete::engine::ArgValueCandidates;
use soramode_protocol::id::ChannelId;
use soramode_protocol::session::{GetSession, LIST_LIMIT_MAX, Session};

use super::connections;
use crate::candidates;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::output::{Format, List, Output, pairs, with_pending};

/// Show one session and its connections
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Channel of the session
    #[arg(add = ArgValueCandidates::new(candidates::channels))]
    channel: ChannelId,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let mut daemon = context.node.connect().await?;
    let mut page = GetSession {
        channel_id: args.channel,
        limit: Some(LIST_LIMIT_MAX),
        cursor: None,
    };
    let mut answer = daemon
        .call(&page)
        .await
        .map_err(|failure| failure.if_not_found(&context.node.command("sessions")))?;
    show_head(&answer.session, &mut context.output)?;
    let beside = Some(("session", &answer.session));
    let mut list = List::begin_beside(
        &mut context.output,
        "connections",
        &connections::COLUMNS,
        beside,
    )?;
    loop {
        answer
            .connections
            .into_iter()
            .try_for_each(|connection| connections::show(&connection.into(), &mut list))?;
        page.cursor = answer.cursor;
        if page.cursor.is_none() || list.is_closed() {
            break;
        }
        answer = daemon.call(&page).await?;
    }
    list.finish("no connections")?;
    Ok(Exit::Done)
}

/// Prints the session above its connections in a table; other formats have it in every row or
/// before them.
fn show_head(session: &Session, output: &mut Output) -> Result<(), Failure> {
    match output.format() {
        Format::Plain | Format::Json | Format::Jsonl => Ok(()),
        Format::Table => {
            let rows = [
                ("channel", Some(session.channel_id.to_string())),
                ("session", Some(session.session_id.to_string())),
                ("since", Some(output.time(session.created_at))),
                (
                    "connections",
                    Some(with_pending(session.connections, session.pending)),
                ),
                (
                    "max",
                    Some(session.max_connections.max(session.connections).to_string()),
                ),
                (
                    "total",
                    Some(
                        session
                            .total_connections
                            .max(session.connections)
                            .to_string(),
                    ),
                ),
            ];
            pairs(output, &rows)?;
            output.text("")
        }
    }
}
