//! Parallel load of the largest table: two threads read it from both ends until they meet.

use std::panic::resume_unwind;
use std::sync::Mutex;
use std::thread;

use rusqlite::{Connection, Row};
use soramode_core::stored::StoredConnection;
use soramode_core::tables::rows::Source;
use soramode_protocol::id::ConnectionId;
use soramode_protocol::session::ConnectionState;
use soramode_protocol::time::Time;

use super::rows::{has_column, id, parse};
use crate::lock::lock;

/// Rows between two checks of the other's progress.
const STRIDE: usize = 1_024;

#[derive(Clone, Copy)]
enum End {
    First,
    Last,
}

impl End {
    const fn order(self) -> &'static str {
        match self {
            Self::First => "ASC",
            Self::Last => "DESC",
        }
    }
}

/// Ids that each thread has reached.
#[derive(Debug, Default)]
struct Reached {
    from_first: Option<ConnectionId>,
    from_last: Option<ConnectionId>,
}

impl Reached {
    /// Notes the progress of one thread, and returns true once they have met.
    fn note(&mut self, end: End, id: &ConnectionId) -> bool {
        match end {
            End::First => self.from_first = Some(id.clone()),
            End::Last => self.from_last = Some(id.clone()),
        }
        matches!(&*self, Self { from_first: Some(first), from_last: Some(last) } if first >= last)
    }
}

/// Loads the connections by their ids, over two connections to a state without a writer.
pub(super) fn connections(
    one: &Connection,
    other: &mut Connection,
) -> rusqlite::Result<Vec<StoredConnection>> {
    let reached = &Mutex::new(Reached::default());
    let (first, last) = thread::scope(|scope| {
        let last = scope.spawn(move || read(other, End::Last, reached));
        (read(one, End::First, reached), last.join())
    });
    let (mut rows, last) = (first?, last.unwrap_or_else(|panic| resume_unwind(panic))?);
    // Both threads may have read the row at which they meet.
    let met = rows.last().map(|row| row.connection_id.clone());
    rows.extend(
        last.into_iter()
            .rev()
            .skip_while(|row| Some(&row.connection_id) <= met.as_ref()),
    );
    Ok(rows)
}

fn read(
    connection: &Connection,
    end: End,
    reached: &Mutex<Reached>,
) -> rusqlite::Result<Vec<StoredConnection>> {
    const COLUMNS: &str =
        "connection_id, channel_id, client_id, created_at, is_live, is_sora, is_bound";
    let session_id = if has_column(connection, "connections", "session_id")? {
        "session_id"
    } else {
        "NULL"
    };
    let sql = format!(
        "SELECT {COLUMNS}, {session_id} FROM connections ORDER BY connection_id {}",
        end.order()
    );
    let mut statement = connection.prepare(&sql)?;
    let mut found = statement.query([])?;
    let mut rows: Vec<StoredConnection> = Vec::new();
    while let Some(row) = found.next()? {
        let row = stored_connection(row)?;
        let is_met =
            rows.len() % STRIDE == STRIDE - 1 && lock(reached).note(end, &row.connection_id);
        rows.push(row);
        if is_met {
            break;
        }
    }
    Ok(rows)
}

fn stored_connection(row: &Row<'_>) -> rusqlite::Result<StoredConnection> {
    Ok(StoredConnection {
        connection_id: id(row, 0)?,
        channel_id: id(row, 1)?,
        client_id: row
            .get_ref(2)?
            .as_str_or_null()?
            .map(|text| parse(text, 2))
            .transpose()?,
        created_at: Time::from_micros(row.get(3)?),
        state: if row.get(4)? {
            ConnectionState::Live
        } else {
            ConnectionState::Pending
        },
        source: if row.get(5)? {
            Source::Sfu
        } else {
            Source::ControlSocket
        },
        is_bound: row.get(6)?,
        session_id: row
            .get_ref(7)?
            .as_str_or_null()?
            .map(|text| parse(text, 7))
            .transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::*;

    /// Opens two connections to a state with this number of connections.
    fn readers(connections: usize) -> (tempfile::TempDir, [Connection; 2]) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let [mut one, other] = [(); 2].map(|()| Connection::open(&path).unwrap());
        schema::migrate(&mut one).unwrap();
        let writing = one.unchecked_transaction().unwrap();
        for number in 0..connections {
            let row = (
                format!("c-{number:06}"),
                format!("spam-{}", number / 3),
                i64::try_from(number).unwrap(),
            );
            writing
                .execute(
                    "INSERT INTO connections VALUES (?1, ?2, NULL, ?3, 1, 0, 0, NULL)",
                    row,
                )
                .unwrap();
        }
        writing.commit().unwrap();
        (folder, [one, other])
    }

    #[test]
    fn each_row_is_read_once_however_many_there_are() {
        for count in [
            0,
            1,
            2,
            STRIDE - 1,
            STRIDE,
            STRIDE + 1,
            2 * STRIDE,
            9 * STRIDE + 7,
        ] {
            let (_folder, [one, mut other]) = readers(count);
            let rows = connections(&one, &mut other).unwrap();
            let ids: Vec<String> = rows
                .iter()
                .map(|row| row.connection_id.to_string())
                .collect();
            assert_eq!(
                ids,
                (0..count)
                    .map(|number| format!("c-{number:06}"))
                    .collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn a_row_that_cannot_be_read_is_an_error_from_either_end() {
        for bad in ["c-000000", "c-003071"] {
            let (_folder, [one, mut other]) = readers(3 * STRIDE);
            one.execute(
                "UPDATE connections SET channel_id = '' WHERE connection_id = ?1",
                [bad],
            )
            .unwrap();
            connections(&one, &mut other).unwrap_err();
        }
    }
}
