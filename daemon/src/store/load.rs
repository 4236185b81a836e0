//! Loads a stored state.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row};
use soramode_core::cluster::Token;
use soramode_core::cluster::history::EtcdIdentity;
use soramode_core::handles::DeliveryId;
use soramode_core::stored::{Stored, StoredDelivery, StoredMember, StoredSession};
use soramode_core::tables::rows::SessionOwner;
use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::ModeState;
use soramode_protocol::time::Time;

use super::membership::{StoredEtcdJson, StoredMemberJson};
use super::meta::MetaKey;
use super::parallel_load;
use super::plans;
use super::reservation;
use super::rows::{all, has_table, id, parse, read_json, text, unreadable};

/// More changes of the mode than any node has seen, and the largest number that every JSON parser
/// reads exactly.
const GENERATION_MAX: u64 = (1 << 53) - 1;

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
        closed_by_storage: false,
        mode_changes,
        next_seq: last_seq.unwrap_or(0) + 1,
        sessions: all(
            connection,
            "SELECT channel_id, session_id, created_at, max_connections, total_connections, is_sora FROM sessions",
            session,
        )?,
        connections: parallel_load::connections(connection, other)?,
        vanished_pending: MetaKey::IsVanishedPending
            .read(connection)?
            .unwrap_or(false),
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
