//! `soramode connections`

use clap_complete::engine::ArgValueCandidates;
use soramode_protocol::id::{ChannelId, ClientId, SessionId};
use soramode_protocol::session::ConnectionState;

use crate::candidates;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::lists::{self, ConnectionInfo};
use crate::output::color::Emphasis;
use crate::output::{Cell, Column, List};

/// List connections
///
/// Oldest first; more than 100,000 are not sorted. A connection is pending until its client has been seen connected, then live.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// List only connections in this channel
    #[arg(long, value_name = "CHANNEL", add = ArgValueCandidates::new(candidates::channels))]
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
    let mut pages = lists::connections(context.node, args.channel).await?;
    let mut page = pages.next().await?;
    let mut by_age = ByAge {
        kept: Vec::new(),
        max: SORTED_MAX,
    };
    let mut list = List::begin(&mut context.output, "connections", &COLUMNS)?;
    while let Some(connections) = page {
        by_age
            .add(connections)
            .iter()
            .try_for_each(|connection| show(connection, &mut list))?;
        page = if list.is_closed() {
            None
        } else {
            pages.next().await?
        };
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
    context.node.note_pending(&context.output).await;
    Ok(Exit::Done)
}

/// Sorts connections by age, up to a number of them.
struct ByAge {
    kept: Vec<ConnectionInfo>,
    /// Becomes 0 once there were more.
    max: usize,
}

impl ByAge {
    /// Takes more connections; returns those that are listed now, since there are too many to sort.
    fn add(&mut self, connections: Vec<ConnectionInfo>) -> Vec<ConnectionInfo> {
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
    fn rest(mut self) -> Vec<ConnectionInfo> {
        let key = |it: &ConnectionInfo| (it.created_at.is_none(), it.created_at);
        self.kept.sort_by(|one, other| {
            (key(one), &one.connection_id).cmp(&(key(other), &other.connection_id))
        });
        self.kept
    }
}

/// Prints a row.
pub(super) fn show(connection: &ConnectionInfo, list: &mut List<'_>) -> Result<(), Failure> {
    let state = match connection.state {
        ConnectionState::Pending => Cell::from("pending").colored(Some(Emphasis::Careful)),
        ConnectionState::Live => "live".into(),
    };
    let cells = [
        connection.connection_id.as_str().into(),
        connection.channel_id.as_str().into(),
        connection.session_id.as_ref().map(SessionId::as_str).into(),
        connection.client_id.as_ref().map(ClientId::as_str).into(),
        state,
        connection.created_at.map(|at| list.time(at)).into(),
    ];
    list.row(connection, &cells)
}

#[cfg(test)]
mod tests {
    use soramode_protocol::session::Connection;
    use soramode_protocol::time::Time;

    use super::*;

    fn connection(id: &str, seconds: i64) -> ConnectionInfo {
        let created_at = Time::from_micros(seconds * 1_000_000);
        let text = format!(
            r#"{{"connection_id":"{id}","channel_id":"spam","session_id":"S","state":"live","created_at":"{created_at}"}}"#
        );
        let connection: Connection = serde_json::from_str(&text).unwrap();
        connection.into()
    }

    fn ids(connections: &[ConnectionInfo]) -> Vec<&str> {
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
