//! Opening the state: whose it is, whether it can be used, and what became of the machine since.

use std::fs::{self, File};
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use soramode_core::input::HostState;
use soramode_core::snapshot::Stored;
use soramode_protocol::id::LogId;

use super::archive::Archive;
use super::disk::{Disk, Supplies};
use super::facts::Fact;
use super::files::{self, Files};

use super::load::load;
use super::schema::{self, Found};
use super::trouble::{Trouble, on};
use super::write::{BUSY_TIMEOUT, Writer};

pub use super::files::database;
pub use super::trouble::{Held, Unusable};

/// Why the state is not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon has it.
    #[error(transparent)]
    Held(#[from] Held),
    /// It cannot be used.
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

/// What a daemon brings along.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<'a> {
    /// How many events are kept.
    pub keep_events: u64,
    /// The id of a log that begins here.
    pub log_id: &'a LogId,
    /// Which boot of the machine this is, if that can be known.
    pub boot_id: Option<&'a str>,
}

/// The state, opened.
#[derive(Debug)]
pub struct Opened {
    /// What writes it.
    pub disk: Disk,
    /// What reads its events.
    pub archive: Archive,
    /// What it held.
    pub stored: Stored,
    /// The log's id.
    pub log_id: LogId,
    /// What became of the machine since it was written last.
    pub host: HostState,
}

/// Opens the state in a folder, which is made if it is not there.
pub fn open(folder: &Path, newcomer: Newcomer<'_>) -> Result<Opened, OpenError> {
    let unusable = |trouble| Unusable {
        folder: folder.to_owned(),
        trouble,
    };
    files::prepare(folder).map_err(unusable)?;
    let lock = files::lock(folder)?;
    Ok(open_database(folder, newcomer, lock).map_err(unusable)?)
}

/// Which boot of the machine this is. In a container it is its host's.
pub fn boot_id() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .ok()
        .map(|id| id.trim_end().to_owned())
}

fn open_database(folder: &Path, newcomer: Newcomer<'_>, lock: File) -> Result<Opened, Trouble> {
    let path = &database(folder);
    files::make_database(path).map_err(on("open soramode.db"))?;
    // Open until the end: with the first connection that comes after none the whole write-ahead log is read again.
    let mut reader = read_only(path)?;
    match schema::find(&reader)? {
        Found::Empty | Found::Known => {}
        Found::Newer(schema) => return Err(Trouble::Newer(schema)),
        Found::Foreign => return Err(Trouble::Foreign),
    }
    let mut connection = writable(path)?;
    // What turns out to be of no use is left as it is, also when it is closed.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    schema::migrate(&mut connection)?;
    let mut stored = load(&connection, &mut reader)?;
    be_written_ahead(&connection)?;
    let (log_id, host) = begin(&mut connection, newcomer, &mut stored)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    let writer = Writer::new(connection, stored.next_seq, newcomer.keep_events)?;
    let archive = Archive::new(reader, writer.oldest());
    let files = Files::opened(folder, lock).map_err(on("read its files"))?;
    let supplies = Supplies {
        writer,
        copies: writable(path)?,
        archive: archive.clone(),
        files,
    };
    let disk = Disk::start(supplies).map_err(on("start the writing thread"))?;
    Ok(Opened {
        disk,
        archive,
        stored,
        log_id,
        host,
    })
}

/// The mode of the journal is the file's; what is waited for is the connection's.
fn be_written_ahead(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")
}

/// The connections to an open state.
pub(super) struct Connections {
    pub(super) writer: Connection,
    pub(super) copies: Connection,
    pub(super) reader: Connection,
}

/// Opens a database that was written again, with this version's schema.
pub(super) fn reopen(path: &Path) -> rusqlite::Result<Connections> {
    let writer = writable(path)?;
    be_written_ahead(&writer)?;
    Ok(Connections {
        writer,
        copies: writable(path)?,
        reader: read_only(path)?,
    })
}

fn writable(path: &Path) -> rusqlite::Result<Connection> {
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

/// Notes that a daemon has begun to write, and finds out what it must know of the one before.
fn begin(
    connection: &mut Connection,
    newcomer: Newcomer<'_>,
    stored: &mut Stored,
) -> Result<(LogId, HostState), Trouble> {
    let transaction = connection.transaction()?;
    let boot_id: Option<String> = Fact::BootId.read(&transaction)?;
    let host = match (&boot_id, newcomer.boot_id) {
        (Some(before), Some(now)) if before != now => HostState::Rebooted,
        (Some(_) | None, Some(_) | None) => HostState::Running,
    };
    if boot_id.as_deref() != newcomer.boot_id || newcomer.boot_id.is_none() {
        // It is from a clock that has restarted since, or may have.
        stored.expires_at_boot = None;
    }
    let was_closed = Fact::IsClosed.read(&transaction)?.unwrap_or(false);
    if host == HostState::Rebooted && !was_closed {
        // The last events may have been lost with the power, and somebody may have seen them.
        stored.next_seq = Fact::ReservedSeq
            .read(&transaction)?
            .unwrap_or(0)
            .max(stored.next_seq);
    }
    if let Some(boot_id) = newcomer.boot_id {
        Fact::BootId.write(&transaction, boot_id)?;
    }
    Fact::IsClosed.write(&transaction, false)?;
    let log_id = match Fact::LogId.read::<String>(&transaction)? {
        Some(log_id) => LogId::new(&log_id)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?,
        None => newcomer.log_id.clone(),
    };
    Fact::LogId.write(&transaction, log_id.as_str())?;
    transaction.commit()?;
    Ok((log_id, host))
}
