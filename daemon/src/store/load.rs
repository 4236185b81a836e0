//! Loads a stored state.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row};
use serde::de::DeserializeOwned;
use soramode_core::cluster::Token;
use soramode_core::cluster::history::EtcdIdentity;
use soramode_core::handles::DeliveryId;
use soramode_core::stored::{
    Stored, StoredConnection, StoredDelivery, StoredMember, StoredSession,
};
use soramode_core::tables::rows::{SessionOwner, Source};
use soramode_protocol::http_client::PEER_TEXT_BYTES_MAX;
use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::ModeState;
use soramode_protocol::session::ConnectionState;
use soramode_protocol::text::shorten;
use soramode_protocol::time::Time;

use super::membership::{StoredEtcdJson, StoredMemberJson};
use super::meta::MetaKey;
use super::parallel_load;
use super::plans;
use super::reservation;

/// More changes of the mode than any node has seen, and the largest number that every JSON parser
/// reads exactly.
const GENERATION_MAX: u64 = (1 << 53) - 1;

/// Longest text of the state, in bytes. soramoded writes at most an announcement to a thousand channels.
const STORED_TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Reads everything that a start begins with. The other connection to the same state shares the work.
pub fn load(connection: &Connection, other: &mut Connection) -> rusqlite::Result<Stored> {
    let mode = mode(connection)?;
    let mode_changes = all(
        connection,
        "SELECT change FROM mode_changes ORDER BY generation",
        |row| read_json(row.get_ref(0)?.as_str()?, 0),
    )?;
    let last_row = connection.query_row(
        "SELECT last_seq FROM log ORDER BY first_seq DESC LIMIT 1",
        [],
        |row| row.get(0),
    );
    let last_seq: Option<u64> = last_row.optional()?;
    Ok(Stored {
        mode,
        expires_at_boot: MetaKey::ExpiresAtBoot
            .read::<i64>(connection)?
            .and_then(|micros| u64::try_from(micros).ok())
            .map(Duration::from_micros),
        mode_changes,
        next_seq: last_seq.unwrap_or(0) + 1,
        sessions: all(
            connection,
            "SELECT channel_id, session_id, created_at, max_connections, total_connections, is_sora FROM sessions",
            session,
        )?,
        connections: parallel_load::connections(connection, other)?,
        vanished_pending: MetaKey::IsVanishedHeld.read(connection)?.unwrap_or(false),
        deliveries: all(connection, "SELECT * FROM deliveries ORDER BY id", delivery)?,
        member: member(connection)?,
        etcd: etcd(connection)?,
        claims: claims(connection)?,
        locked_rooms: locked_rooms(connection)?,
        plan: plans::plan(connection)?,
        announcements: plans::announcements(connection)?,
        ends: plans::ends(connection)?,
        reservation: reservation::load(connection)?,
    })
}

fn mode(connection: &Connection) -> rusqlite::Result<Option<ModeState>> {
    let Some(json) = MetaKey::Mode.read::<String>(connection)? else {
        return Ok(None);
    };
    let mode: ModeState = read_json(&json, 0)?;
    if mode.generation > GENERATION_MAX {
        return Err(unreadable(
            0,
            &format!(
                "the mode's generation is {}, which can be {GENERATION_MAX} at most",
                mode.generation
            ),
        ));
    }
    Ok(Some(mode))
}

fn member(connection: &Connection) -> rusqlite::Result<Option<StoredMember>> {
    let json = MetaKey::Member
        .read::<String>(connection)?
        .filter(|json| !json.is_empty());
    json.map(|json| read_json::<StoredMemberJson>(&json, 0).map(StoredMember::from))
        .transpose()
}

fn etcd(connection: &Connection) -> rusqlite::Result<Option<EtcdIdentity>> {
    MetaKey::Etcd
        .read::<String>(connection)?
        .map(|json| read_json::<StoredEtcdJson>(&json, 0).map(EtcdIdentity::from))
        .transpose()
}

/// Returns whether a column exists: a check reads a state of an older schema as it is.
pub(super) fn has_column(
    connection: &Connection,
    table: &str,
    name: &str,
) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) FROM pragma_table_info(?1) WHERE name = ?2";
    connection.query_row(sql, [table, name], |row| row.get(0))
}

/// Returns whether a table exists: a check reads a state of an older schema as it is.
pub(super) fn has_table(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = ?1";
    connection.query_row(sql, [name], |row| row.get(0))
}

fn claims(connection: &Connection) -> rusqlite::Result<Vec<(ChannelId, Token)>> {
    if !has_table(connection, "claims")? {
        return Ok(Vec::new());
    }
    all(connection, "SELECT channel_id, token FROM claims", |row| {
        Ok((id(row, 0)?, Token(row.get(1)?)))
    })
}

fn locked_rooms(connection: &Connection) -> rusqlite::Result<Vec<ChannelId>> {
    if !has_table(connection, "locked_rooms")? {
        return Ok(Vec::new());
    }
    let sql = "SELECT channel_id FROM locked_rooms";
    all(connection, sql, |row| id(row, 0))
}

pub(super) fn all<T>(
    connection: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare(sql)?.query_map([], read)?.collect()
}

fn session(row: &Row<'_>) -> rusqlite::Result<StoredSession> {
    Ok(StoredSession {
        channel_id: id(row, 0)?,
        session_id: id(row, 1)?,
        created_at: Time::from_micros(row.get(2)?),
        max_connections: row.get(3)?,
        total_connections: row.get(4)?,
        owner: if row.get(5)? {
            SessionOwner::Sora
        } else {
            SessionOwner::Gate
        },
    })
}

pub(super) fn stored_connection(row: &Row<'_>) -> rusqlite::Result<StoredConnection> {
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

fn delivery(row: &Row<'_>) -> rusqlite::Result<StoredDelivery> {
    let time = |column: &str| {
        row.get::<_, Option<i64>>(column)
            .map(|micros| micros.map(Time::from_micros))
    };
    Ok(StoredDelivery {
        id: DeliveryId(row.get("id")?),
        url: text(row, "url")?,
        endpoint: text(row, "endpoint")?,
        event: read_json(&row.get::<_, String>("event")?, 3)?,
        generation: row.get("generation")?,
        state: parse(&row.get::<_, String>("state")?, 5)?,
        attempts: row.get("attempts")?,
        created_at: Time::from_micros(row.get("created_at")?),
        next_attempt_at: time("next_attempt_at")?,
        finished_at: time("finished_at")?,
        status: row.get("status")?,
        problem: row
            .get_ref("problem")?
            .as_str_or_null()?
            .map(|_| text(row, "problem"))
            .transpose()?,
    })
}

/// Reads a text that is kept as it is.
fn text(row: &Row<'_>, column: &str) -> rusqlite::Result<String> {
    let text = row.get_ref(column)?.as_str()?;
    check_length(text, row.as_ref().column_index(column)?)?;
    Ok(text.to_owned())
}

fn check_length(text: &str, column: usize) -> rusqlite::Result<()> {
    if text.len() <= STORED_TEXT_BYTES_MAX {
        return Ok(());
    }
    let problem = format!(
        "a text has {} bytes, and can have {STORED_TEXT_BYTES_MAX} at most",
        text.len()
    );
    Err(unreadable(column, &problem))
}

fn id<T: FromStr<Err: Display>>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    parse(row.get_ref(column)?.as_str()?, column)
}

fn parse<T: FromStr<Err: Display>>(text: &str, column: usize) -> rusqlite::Result<T> {
    text.parse()
        .map_err(|error: T::Err| unreadable(column, &error.to_string()))
}

pub(super) fn read_json<T: DeserializeOwned>(json: &str, column: usize) -> rusqlite::Result<T> {
    check_length(json, column)?;
    serde_json::from_str(json).map_err(|error| unreadable(column, &error.to_string()))
}

/// Creates an error that repeats at most the beginning of a text in the state.
fn unreadable(column: usize, problem: &str) -> rusqlite::Error {
    let problem = shorten(problem, PEER_TEXT_BYTES_MAX);
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, problem.into())
}
