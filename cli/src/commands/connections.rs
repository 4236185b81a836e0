//! `soramode connections`

use clap_complete::engine::ArgValueCandidates;
use soramode_protocol::id::{ChannelId, ClientId};
use soramode_protocol::session::{Connection, ConnectionState, LIST_LIMIT_MAX, ListConnections};

use crate::Context;
use crate::completion;
use crate::error::{Exit, Failure};
use crate::output::List;

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
