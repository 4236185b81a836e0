//! `soramode connections`

use clap_complete::engine::ArgValueCandidates;
use serde::Serialize;
use soramode_protocol::id::{ChannelId, ClientId, ConnectionId, SessionId};
use soramode_protocol::session::{Connection, ConnectionState, LIST_LIMIT_MAX, ListConnections};
use soramode_protocol::sora::SoraConnection;
use soramode_protocol::time::Time;

use crate::api::Api;
use crate::completion;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::output::paint::Paint;
use crate::output::{Cell, Column, List, Output};

/// List connections
///
/// Oldest first; more than 100,000 are not sorted. A connection is pending until its client has been seen connected, then live.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// List only connections in this channel
    #[arg(long, value_name = "CHANNEL", add = ArgValueCandidates::new(completion::channels))]
    channel: Option<ChannelId>,
}

/// Connections that are sorted by age. More are listed in the daemon's order, so that the memory for them is bounded.
const SORTED_MAX: usize = 100_000;

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
    let mut by_age = ByAge {
        kept: Vec::new(),
        max: SORTED_MAX,
    };
    let mut list = List::begin(&mut context.output, "connections", &COLUMNS)?;
    let mut page = ListConnections {
        channel_id: args.channel,
        limit: Some(LIST_LIMIT_MAX),
        cursor: None,
    };
    loop {
        let answer = daemon.call(&page).await?;
        by_age
            .add(answer.connections)
            .iter()
            .try_for_each(|connection| show(connection, &mut list))?;
        page.cursor = answer.cursor;
        if page.cursor.is_none() || list.is_closed() {
            break;
        }
    }
    let is_sorted = by_age.is_sorted();
    by_age
        .rest()
        .iter()
        .try_for_each(|connection| show(connection, &mut list))?;
    list.finish("no connections")?;
    if !is_sorted {
        context.output.note(&format!(
            "more than {SORTED_MAX} connections: they are not sorted by age"
        ));
    }
    Ok(Exit::Done)
}

/// Sorts connections by age, up to a number of them.
struct ByAge {
    kept: Vec<Connection>,
    /// None are kept once there were more.
    max: usize,
}

impl ByAge {
    /// Takes more connections; returns those that are listed now, since there are too many to sort.
    fn add(&mut self, connections: Vec<Connection>) -> Vec<Connection> {
        self.kept.extend(connections);
        if self.kept.len() <= self.max {
            return Vec::new();
        }
        self.max = 0;
        std::mem::take(&mut self.kept)
    }

    const fn is_sorted(&self) -> bool {
        self.max > 0
    }

    /// Returns the others, the oldest first.
    fn rest(mut self) -> Vec<Connection> {
        self.kept.sort_by(|one, other| {
            (one.created_at, &one.connection_id).cmp(&(other.created_at, &other.connection_id))
        });
        self.kept
    }
}

async fn list_over_api(args: &Args, api: &Api, output: &mut Output) -> Result<Exit, Failure> {
    let mut connections = api.connections().await?;
    connections.sort_by_key(|connection| {
        created_at(connection).map_or((true, None), |created_at| (false, Some(created_at)))
    });
    let mut list = List::begin(output, "connections", &COLUMNS)?;
    let wanted = |connection: &&SoraConnection| {
        args.channel
            .as_ref()
            .is_none_or(|channel| connection.channel_id == *channel)
    };
    for connection in connections.iter().filter(wanted) {
        let created_at = created_at(connection);
        let since = created_at.map(|created_at| list.time(created_at));
        let cells = [
            connection.connection_id.as_str().into(),
            connection.channel_id.as_str().into(),
            connection.session_id.as_ref().map(SessionId::as_str).into(),
            connection.client_id.as_ref().map(ClientId::as_str).into(),
            "live".into(),
            since.into(),
        ];
        let SoraConnection {
            connection_id,
            channel_id,
            session_id,
            client_id,
            ..
        } = connection;
        let (session_id, client_id) = (session_id.as_ref(), client_id.as_ref());
        list.row(
            &Listed {
                connection_id,
                channel_id,
                session_id,
                client_id,
                state: ConnectionState::Live,
                created_at,
            },
            &cells,
        )?;
    }
    list.finish("no connections")?;
    api.note_pending(output).await;
    Ok(Exit::Done)
}

fn created_at(connection: &SoraConnection) -> Option<Time> {
    connection
        .created_timestamp
        .or(connection.created_time.map(Time::from_micros))
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
        ConnectionState::Pending => Cell::from("pending").painted(Some(Paint::Careful)),
        ConnectionState::Live => "live".into(),
    };
    let cells = [
        connection.connection_id.as_str().into(),
        connection.channel_id.as_str().into(),
        connection.session_id.as_str().into(),
        connection.client_id.as_ref().map(ClientId::as_str).into(),
        state,
        list.time(connection.created_at),
    ];
    list.row(connection, &cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(id: &str, seconds: i64) -> Connection {
        let created_at = Time::from_micros(seconds * 1_000_000);
        let text = format!(
            r#"{{"connection_id":"{id}","channel_id":"spam","session_id":"S","state":"live","created_at":"{created_at}"}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn ids(connections: &[Connection]) -> Vec<&str> {
        connections
            .iter()
            .map(|connection| connection.connection_id.as_str())
            .collect()
    }

    #[test]
    fn as_many_as_are_kept_are_sorted_and_more_are_not() {
        let mut by_age = ByAge {
            kept: Vec::new(),
            max: 3,
        };
        assert!(
            by_age
                .add(vec![connection("b", 2), connection("c", 3)])
                .is_empty()
        );
        assert!(by_age.add(vec![connection("a", 1)]).is_empty());
        assert!(by_age.is_sorted());
        assert_eq!(ids(&by_age.rest()), ["a", "b", "c"]);
        let mut by_age = ByAge {
            kept: Vec::new(),
            max: 3,
        };
        assert!(
            by_age
                .add(vec![connection("b", 2), connection("c", 3)])
                .is_empty()
        );
        assert_eq!(
            ids(&by_age.add(vec![connection("a", 1), connection("d", 4)])),
            ["b", "c", "a", "d"]
        );
        assert_eq!(
            ids(&by_age.add(vec![connection("e", 0)])),
            ["e"],
            "nothing is kept any more"
        );
        assert!(!by_age.is_sorted() && by_age.rest().is_empty());
    }
}
