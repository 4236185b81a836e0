//! Opens the state: checks its owner and format, and detects a reboot of the machine.

use std::fs::{self, File};
use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use soramode_core::input::HostState;
use soramode_core::stored::Stored;
use soramode_protocol::id::LogId;

use super::archive::Archive;
use super::connections::{enable_wal, read_only, writable};
use super::files::{self, Files};
use super::load::load;
use super::meta::MetaKey;
use super::problem::{Problem, on};
use super::schema::{self, SchemaKind};
use super::write::Writer;
use super::writer_thread::{Disk, WriterDeps};

pub use super::file_names::database;
pub use super::problem::{AlreadyLocked, OpenError, Unusable};

/// Parameters of opening a state.
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions<'a> {
    /// Number of events to retain.
    pub keep_events: u64,
    /// The id of a log that begins here.
    pub log_id: &'a LogId,
    /// Boot of the machine, if known.
    pub boot_id: Option<&'a str>,
}

/// State that was opened.
#[derive(Debug)]
pub struct Opened {
    /// Writer of the state.
    pub disk: Disk,
    /// Archive of its events.
    pub archive: Archive,
    /// Contents of the state.
    pub stored: Stored,
    /// Identifier of the log.
    pub log_id: LogId,
    /// State of the machine since the last write.
    pub host: HostState,
}

/// Opens the state in a folder, which is made if it is not there.
pub fn open(folder: &Path, options: OpenOptions<'_>) -> Result<Opened, OpenError> {
    let unusable = |problem| Unusable {
        folder: folder.to_owned(),
        problem,
    };
    files::prepare(folder).map_err(unusable)?;
    let lock = files::lock(folder)?;
    Ok(open_database(folder, options, lock).map_err(unusable)?)
}

/// Returns the identifier of the machine's boot. In a container it is its host's.
pub fn boot_id() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .ok()
        .map(|id| id.trim_end().to_owned())
}

fn open_database(folder: &Path, options: OpenOptions<'_>, lock: File) -> Result<Opened, Problem> {
    let path = &database(folder);
    files::make_database(path).map_err(on("open soramode.db"))?;
    // Open until the end: with the first connection that comes after none the whole write-ahead log is read again.
    let mut reader = read_only(path)?;
    match schema::find(&reader)? {
        SchemaKind::Empty | SchemaKind::Known => {}
        SchemaKind::Newer(schema) => return Err(Problem::Newer(schema)),
        SchemaKind::Foreign => return Err(Problem::Foreign),
    }
    let mut connection = writable(path)?;
    // A file that cannot be used is left unchanged, also when it is closed. The first connection
    // stays open until all others are: after the last one closes, opening another would replay the
    // write-ahead log again.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    schema::migrate(&mut connection)?;
    let mut stored = load(&connection, &mut reader)?;
    enable_wal(&connection)?;
    let (log_id, host) = begin(&mut connection, options, &mut stored)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    let writer = Writer::new(connection, stored.next_seq, options.keep_events)?;
    let archive = Archive::new(reader, writer.oldest());
    let files = Files::opened(folder, lock).map_err(on("read its files"))?;
    let deps = WriterDeps {
        writer,
        checkpoints: writable(path)?,
        archive: archive.clone(),
        files,
    };
    let disk = Disk::start(deps).map_err(on("start the writing thread"))?;
    Ok(Opened {
        disk,
        archive,
        stored,
        log_id,
        host,
    })
}

/// Notes that a daemon has begun to write, and reads the state of the previous one.
fn begin(
    connection: &mut Connection,
    options: OpenOptions<'_>,
    stored: &mut Stored,
) -> Result<(LogId, HostState), Problem> {
    let transaction = connection.transaction()?;
    let boot_id: Option<String> = MetaKey::BootId.read(&transaction)?;
    let host = match (&boot_id, options.boot_id) {
        (Some(before), Some(now)) if before != now => HostState::Rebooted,
        (Some(_) | None, Some(_) | None) => HostState::Running,
    };
    if boot_id.as_deref() != options.boot_id || options.boot_id.is_none() {
        // It is from a clock that has restarted since, or may have.
        stored.expires_at_boot = None;
    }
    let was_closed = MetaKey::IsClosed.read(&transaction)?.unwrap_or(false);
    if host == HostState::Rebooted && !was_closed {
        // A power loss may have removed the last events, which readers may have seen.
        stored.next_seq = MetaKey::ReservedSeq
            .read(&transaction)?
            .unwrap_or(0)
            .max(stored.next_seq);
    }
    if let Some(boot_id) = options.boot_id {
        MetaKey::BootId.write(&transaction, boot_id)?;
    }
    MetaKey::IsClosed.write(&transaction, false)?;
    let log_id = match MetaKey::LogId.read::<String>(&transaction)? {
        Some(log_id) => LogId::new(&log_id)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?,
        None => options.log_id.clone(),
    };
    MetaKey::LogId.write(&transaction, log_id.as_str())?;
    transaction.commit()?;
    Ok((log_id, host))
}
