//! `soramode connections`

use clap_complete::engine::ArgValueCandidates;
use serde::Serialize;
use soramode_protocol::id::{ChannelId, ClientId, ConnectionId, SessionId};
use soramode_protocol::session::{Connection, ConnectionState, LIST_LIMIT_MAX, ListConnections};
use soramode_protocol::sora::SoraConnection;
use soramode_protocol::time::Time;

use crate::Context;
use crate::api::Api;
use crate::args::Format;
use crate::completion;
use crate::error::{Exit, Failure};
use crate::output::{Column, List, Output};

/// List the connections; a table has the oldest first, the other formats are as the daemon lists them
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this channel's
    #[arg(long, value_name = "CHANNEL", add = ArgValueCandidates::new(completion::channels))]
    channel: Option<ChannelId>,
}

/// The columns of [`show`].
pub(super) const COLUMNS: [Column; 6] = [
    Column::id("CONNECTION"),
    Column::id("CHANNEL"),
    Column::id("SESSION").optional(4),
    Column::id("CLIENT").optional(3),
    Column::word("STATE").optional(1),
    Column::word("SINCE").optional(2),
];

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    if let Some(api) = context.api {
        return list_over_api(&args, api, &mut context.output).await;
    }
    let mut daemon = context.socket.connect().await?;
    let format = context.output.format();
    let mut kept: Vec<Connection> = Vec::new();
    let mut list = List::begin(&mut context.output, "connections", &COLUMNS)?;
    let mut page = ListConnections { channel_id: args.channel, limit: Some(LIST_LIMIT_MAX), cursor: None };
    loop {
        let answer = daemon.call(&page).await?;
        match format {
            Format::Table => kept.extend(answer.connections),
            Format::Plain | Format::Json | Format::Jsonl => {
                answer.connections.iter().try_for_each(|connection| show(connection, &mut list))?;
            }
        }
        page.cursor = answer.cursor;
        if page.cursor.is_none() || list.is_closed() {
            break;
        }
    }
    kept.sort_by(|one, other| (one.created_at, &one.connection_id).cmp(&(other.created_at, &other.connection_id)));
    kept.iter().try_for_each(|connection| show(connection, &mut list))?;
    list.finish("no connections")?;
    Ok(Exit::Done)
}

async fn list_over_api(args: &Args, api: &Api, output: &mut Output) -> Result<Exit, Failure> {
    let connections = api.connections().await?;
    let mut list = List::begin(output, "connections", &COLUMNS)?;
    let wanted = |connection: &&SoraConnection| args.channel.as_ref().is_none_or(|channel| connection.channel_id == *channel);
    for connection in connections.iter().filter(wanted) {
        let created_at = connection.created_timestamp.or(connection.created_time.map(Time::from_micros));
        let since = created_at.map(|created_at| list.time(created_at));
        let cells = [
            connection.connection_id.as_str().into(),
            connection.channel_id.as_str().into(),
            connection.session_id.as_ref().map(SessionId::as_str).into(),
            connection.client_id.as_ref().map(ClientId::as_str).into(),
            "live".into(),
            since.into(),
        ];
        let SoraConnection { connection_id, channel_id, session_id, client_id, .. } = connection;
        let (session_id, client_id) = (session_id.as_ref(), client_id.as_ref());
        list.row(&Listed { connection_id, channel_id, session_id, client_id, state: ConnectionState::Live, created_at }, &cells)?;
    }
    list.finish("no connections")?;
    api.note_pending(output).await;
    Ok(Exit::Done)
}

/// A connection of Sora's with the fields that a daemon's has: its time is text. Sora lists no pending connections.
#[derive(Serialize)]
struct Listed<'a> {
    connection_id: &'a ConnectionId,
    channel_id: &'a ChannelId,
    /// Older Soras do not tell it.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a SessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a ClientId>,
    state: ConnectionState,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<Time>,
}

/// One row.
pub(super) fn show(connection: &Connection, list: &mut List<'_>) -> Result<(), Failure> {
    let state = match connection.state {
        ConnectionState::Pending => "pending",
        ConnectionState::Live => "live",
    };
    let cells = [
        connection.connection_id.as_str().into(),
        connection.channel_id.as_str().into(),
        connection.session_id.as_str().into(),
        connection.client_id.as_ref().map(ClientId::as_str).into(),
        state.into(),
        list.time(connection.created_at),
    ];
    list.row(connection, &cells)
}
