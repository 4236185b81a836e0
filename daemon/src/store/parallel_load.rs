//! Reading what there is most of: from both ends at once, by two threads, until they meet.

use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread;

use rusqlite::Connection;
use soramode_core::snapshot::StoredConnection;
use soramode_protocol::id::ConnectionId;

use super::load::stored_connection;

/// Rows between two looks at how far the other has come.
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

/// How far each has come: ids that it has read.
#[derive(Debug, Default)]
struct Reached {
    from_first: Option<ConnectionId>,
    from_last: Option<ConnectionId>,
}

impl Reached {
    /// Whether nothing lies between them any more, now that one of them has come so far.
    fn note(&mut self, end: End, id: &ConnectionId) -> bool {
        match end {
            End::First => self.from_first = Some(id.clone()),
            End::Last => self.from_last = Some(id.clone()),
        }
        matches!(&*self, Self { from_first: Some(first), from_last: Some(last) } if first >= last)
    }
}

/// Connections by their ids, of a state that nobody writes to; two of its readers are wanted.
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
    // Where they met both may have been.
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
    let sql = format!(
        "SELECT {COLUMNS} FROM connections ORDER BY connection_id {}",
        end.order()
    );
    let mut statement = connection.prepare(&sql)?;
    let mut found = statement.query([])?;
    let mut rows: Vec<StoredConnection> = Vec::new();
    while let Some(row) = found.next()? {
        let row = stored_connection(row)?;
        let is_met = rows.len() % STRIDE == STRIDE - 1
            && reached
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .note(end, &row.connection_id);
        rows.push(row);
        if is_met {
            break;
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::*;

    /// Readers of one state with so many connections.
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
                    "INSERT INTO connections VALUES (?1, ?2, NULL, ?3, 1, 0, 0)",
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
