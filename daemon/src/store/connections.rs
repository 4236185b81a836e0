//! Connections to the database.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// Time that a commit waits for a short lock of another connection.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Sets the journal mode of the file, and the durability of the connection.
pub(super) fn enable_wal(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")
}

/// The connections to an open state.
pub(super) struct Connections {
    pub(super) writer: Connection,
    pub(super) checkpoints: Connection,
    pub(super) reader: Connection,
}

/// Opens a database that was written again, with this version's schema.
pub(super) fn reopen(path: &Path) -> rusqlite::Result<Connections> {
    let writer = writable(path)?;
    enable_wal(&writer)?;
    Ok(Connections {
        writer,
        checkpoints: writable(path)?,
        reader: read_only(path)?,
    })
}

/// The connection that writes, or one for its checkpoints.
pub(super) fn writable(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// A connection that cannot change anything.
pub(super) fn read_only(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}
