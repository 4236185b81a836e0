//! Opens the state: checks its owner and format, and detects a reboot of the machine.

use std::fs;
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
use super::problem::{Problem, on};
use super::schema::{self, SchemaKind};
use super::start::StartFacts;
use super::state_lock::{StateLock, is_noted};
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
    let mut lock = StateLock::take(folder)?;
    let mut database = open_database(&database(folder), options)
        .inspect_err(|problem| {
            if problem.is_passing() {
                lock.note_commit(false);
            }
        })
        .map_err(unusable)?;
    database.stored.closed_by_storage = lock.is_closed();
    Ok(start(folder, database, lock).map_err(unusable)?)
}

/// Returns the remedy, with the command that opens a node which the next start has closed, as this one.
pub(crate) fn remedy(unusable: &Unusable) -> String {
    let hint = unusable.hint();
    if unusable.problem.is_passing() && is_noted(&unusable.folder) {
        format!("{hint}. Then open the node with: soramode set normal")
    } else {
        hint
    }
}

/// Returns the identifier of the machine's boot. In a container it is its host's.
pub fn boot_id() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .ok()
        .map(|id| id.trim_end().to_owned())
}

/// A database with its contents, and its connections.
struct OpenDatabase {
    writer: Writer,
    checkpoints: Connection,
    reader: Connection,
    stored: Stored,
    log_id: LogId,
    host: HostState,
}

fn open_database(path: &Path, options: OpenOptions<'_>) -> Result<OpenDatabase, Problem> {
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
    let (facts, host) =
        StartFacts::read(&connection, options.boot_id, options.log_id, &mut stored)?;
    let log_id = facts.log_id().clone();
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok(OpenDatabase {
        writer: Writer::new(connection, facts, stored.next_seq, options.keep_events)?,
        checkpoints: writable(path)?,
        reader,
        stored,
        log_id,
        host,
    })
}

/// Starts the thread that writes.
fn start(folder: &Path, database: OpenDatabase, lock: StateLock) -> Result<Opened, Problem> {
    let OpenDatabase {
        writer,
        checkpoints,
        reader,
        stored,
        log_id,
        host,
    } = database;
    let archive = Archive::new(reader, writer.oldest());
    let deps = WriterDeps {
        writer,
        checkpoints,
        archive: archive.clone(),
        files: Files::opened(folder, lock).map_err(on("read its files"))?,
    };
    Ok(Opened {
        disk: Disk::start(deps).map_err(on("start the writing thread"))?,
        archive,
        stored,
        log_id,
        host,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_the_next_start_closes_is_to_be_opened_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let remedy = |problem| {
            remedy(&Unusable {
                folder: folder.path().to_owned(),
                problem,
            })
        };
        let full = || Problem::Full(rusqlite::Error::InvalidQuery);
        assert_eq!(remedy(full()), "Free disk space, and restart soramoded");
        StateLock::take(folder.path()).unwrap().note_commit(false);
        assert_eq!(
            remedy(full()),
            "Free disk space, and restart soramoded. Then open the node with: soramode set normal"
        );
        assert!(!remedy(Problem::Foreign).contains("set normal"));
    }
}
