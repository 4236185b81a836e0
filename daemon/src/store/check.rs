//! Report on a state for `--check-state`.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use soramode_core::plan::stored::StoredPlan;
use soramode_core::stored::Stored;

use super::connections::read_only;
use super::file_names::database;
use super::files;
use super::load::load;
use super::meta::MetaKey;
use super::problem::{Problem, Unusable};
use super::schema::{self, SCHEMA, SchemaKind};
use super::state_lock::is_noted;

const CLOSED: &str = "closed (block_new_connection): the state could not be written";

/// Reads the whole state in a folder without changing it, and describes its contents, or the reason
/// why soramoded would refuse it.
pub fn check(folder: &Path) -> Result<String, Unusable> {
    let unusable = |problem: Problem| Unusable {
        folder: folder.to_owned(),
        problem: problem.after_check(),
    };
    let path = database(folder);
    match files::inspect(folder).map_err(unusable)? {
        files::Inspection::Nothing => Ok(format!("{}: not there yet\n", path.display())),
        files::Inspection::DatabaseOf(uid) => {
            let mut report = describe(&path).map_err(unusable)?;
            if is_noted(folder) {
                add_line(&mut report, "start", CLOSED);
            }
            if uid != rustix::process::geteuid().as_raw() {
                add_line(
                    &mut report,
                    "owner",
                    &format!("uid {uid}: soramoded must run as this user, not as root"),
                );
            }
            Ok(report)
        }
    }
}

/// Adds a line. Writing to text cannot fail.
fn add_line(report: &mut String, name: &str, value: &str) {
    let _ = writeln!(report, "{name:<14}{value}");
}

fn describe(path: &Path) -> Result<String, Problem> {
    match check_with(path, read_only) {
        Err(Problem::Database(_)) if has_nothing_to_replay(path) => check_with(path, never_written),
        result => result,
    }
}

/// Returns true if the write-ahead log is empty, so that the database can be read without write
/// access beside it.
fn has_nothing_to_replay(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).map_or(true, |log| log.len() == 0)
}

/// Opens a database on a file system without write access: `SQLite` then creates no index of the
/// write-ahead log.
fn never_written(path: &Path) -> rusqlite::Result<Connection> {
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            byte => write!(uri, "%{byte:02X}").unwrap_or_default(),
        }
    }
    uri.push_str("?immutable=1");
    Connection::open_with_flags(
        uri,
        OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
}

fn check_with(
    path: &Path,
    open: fn(&Path) -> rusqlite::Result<Connection>,
) -> Result<String, Problem> {
    let connection = open(path)?;
    match schema::find(&connection)? {
        SchemaKind::Empty => return Ok(format!("{}: empty\n", path.display())),
        SchemaKind::Known => {}
        SchemaKind::Newer(schema) => return Err(Problem::Newer(schema)),
        SchemaKind::Foreign => return Err(Problem::Foreign),
    }
    let verdict: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(Problem::Inconsistent(verdict));
    }
    // A daemon that is running may show the second reader a later moment: the count of connections
    // is then approximate.
    let Stored {
        mode,
        mode_changes,
        next_seq,
        sessions,
        connections,
        claims,
        plan,
        announcements,
        ends,
        ..
    } = load(&connection, &mut open(path)?)?;
    let oldest: Option<u64> =
        connection.query_row("SELECT min(first_seq) FROM log", [], |row| row.get(0))?;
    let log_id: Option<String> = MetaKey::LogId.read(&connection)?;
    let schema: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let mode = mode.map_or_else(
        || "none".to_owned(),
        |state| {
            format!(
                "{} (generation {}, since {}, {})",
                state.mode,
                state.generation,
                state.since,
                state.actor.escape_debug()
            )
        },
    );
    let events = oldest.map_or_else(
        || "none".to_owned(),
        |oldest| format!("{oldest} to {}", next_seq - 1),
    );
    let mut report = format!("{}: sound\n", path.display());
    let lines = [
        ("schema", format!("{schema} (this version writes {SCHEMA})")),
        ("log", log_id.unwrap_or_default()),
        ("mode", mode),
        ("mode changes", mode_changes.len().to_string()),
        ("sessions", sessions.len().to_string()),
        ("connections", connections.len().to_string()),
        ("channels", claims.len().to_string()),
        (
            "plan",
            plan.as_ref()
                .map_or_else(|| "none".to_owned(), describe_plan),
        ),
        ("announcements", announcements.len().to_string()),
        ("end requests", ends.len().to_string()),
        ("events", events),
    ];
    for (name, value) in lines {
        add_line(&mut report, name, &value);
    }
    Ok(report)
}

/// Returns a plan's id, its owner and how far it is.
fn describe_plan(plan: &StoredPlan) -> String {
    let (owner, progress) = (plan.owner.escape_debug(), &plan.progress);
    let state = match &progress.over {
        Some(over) => format!("over: {}", over.outcome),
        None => format!("{} of {} steps done", progress.done.len(), plan.steps.len()),
    };
    format!("{} ({state}, {owner})", plan.id)
}
