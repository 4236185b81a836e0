//! `soramode connections`

use clap_complete::engine::ArgValueCandidates;
use serde::Serialize;
use soramode_protocol::id::{ChannelId, ClientId, SessionId};
use soramode_protocol::session::{Connection, ConnectionState, LIST_LIMIT_MAX, ListConnections};
use soramode_protocol::sora::SoraConnection;
use soramode_protocol::time::Time;

use crate::Context;
use crate::api::Api;
use crate::completion;
use crate::error::{Exit, Failure};
use crate::output::{List, Output};

/// List the connections
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this channel's
    #[arg(long, value_name = "CHANNEL", add = ArgValueCandidates::new(completion::channels))]
    channel: Option<ChannelId>,
}

/// Over the columns of [`show`].
pub(super) const HEADERS: [&str; 6] = ["CONNECTION", "CHANNEL", "SESSION", "CLIENT", "STATE", "SINCE"];

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    if let Some(api) = context.api {
        return list_over_api(&args, api, &mut context.output).await;
    }
    let mut daemon = context.socket.connect().await?;
    let mut list = List::begin(&mut context.output, "connections", &HEADERS)?;
    let mut page = ListConnections { channel_id: args.channel, limit: Some(LIST_LIMIT_MAX), cursor: None };
    loop {
        let answer = daemon.call(&page).await?;
        answer.connections.iter().try_for_each(|connection| show(connection, &mut list))?;
        page.cursor = answer.cursor;
        if page.cursor.is_none() || list.is_closed() {
            break;
        }
    }
    list.finish("no connections")?;
    Ok(Exit::Done)
}

async fn list_over_api(args: &Args, api: &Api, output: &mut Output) -> Result<Exit, Failure> {
    let connections = api.connections().await?;
    let mut list = List::begin(output, "connections", &HEADERS)?;
    let wanted = |connection: &&SoraConnection| args.channel.as_ref().is_none_or(|channel| connection.channel_id == *channel);
    for connection in connections.iter().filter(wanted) {
        let created_at = connection.created_timestamp.or(connection.created_time.map(Time::from_micros));
        let since = created_at.map(|created_at| list.time(created_at)).unwrap_or_default();
        let cells = [
            connection.connection_id.as_str(),
            connection.channel_id.as_str(),
            connection.session_id.as_ref().map(SessionId::as_str).unwrap_or_default(),
            connection.client_id.as_ref().map(ClientId::as_str).unwrap_or_default(),
            "live",
            &since,
        ];
        list.row(&Listed { connection, state: ConnectionState::Live, created_at }, &cells)?;
    }
    list.finish("no connections")?;
    Ok(Exit::Done)
}

/// A connection of Sora's with the fields that a daemon's has. Sora lists none that has not come yet.
#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    connection: &'a SoraConnection,
    state: ConnectionState,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<Time>,
}

/// One row.
pub(super) fn show(connection: &Connection, list: &mut List<'_>) -> Result<(), Failure> {
    let since = list.time(connection.created_at);
    let state = match connection.state {
        ConnectionState::Pending => "pending",
        ConnectionState::Live => "live",
    };
    let cells = [
        connection.connection_id.as_str(),
        connection.channel_id.as_str(),
        connection.session_id.as_str(),
        connection.client_id.as_ref().map(ClientId::as_str).unwrap_or_default(),
        state,
        &since,
    ];
    list.row(connection, &cells)
}
