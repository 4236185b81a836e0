//! Writes records: the change of each in the tables. A commit is one transaction: the changed rows, each session's once, and the events
//! as one compressed row.

use std::cell::Cell;

use rusqlite::hooks::Wal;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use soramode_core::effect::Record;
use soramode_core::restore::start_change;
use soramode_core::stored::StoredDelivery;
use soramode_protocol::event::{Event, EventKind};
use soramode_protocol::id::ClientId;
use soramode_protocol::mode::{DatedModeChange, MODE_CHANGES_KEPT, ModeState};
use soramode_protocol::time::Time;

use super::archive::OldestSeq;
use super::checkpointer::checkpoint;
use super::durability::{Durability, needs_sync};
use super::event_blob;
use super::membership;
use super::meta::MetaKey;
use super::plans;
use super::reservation;
use super::session_changes::SessionChanges;
use super::start::StartFacts;
use super::statements::{json, run, unwritable};

/// Sequence numbers that are reserved at once: a power loss may skip them, and each reservation waits for the disk.
const RESERVED_SEQS_MIN: u64 = 8_192;
const RESERVED_SEQS_MAX: u64 = 1_048_576;

const EVENTS_PER_ROW: usize = 1_024;

/// Maximum number of rows of the log that one commit removes: more than it adds, so that a surplus shrinks.
const ROWS_REMOVED: u32 = 4;

thread_local! {
    /// Pages in the write-ahead log after the last commit of this thread, which has one connection that writes.
    static PAGES: Cell<i32> = const { Cell::new(0) };
}

#[expect(clippy::unnecessary_wraps, reason = "a hook may fail")]
fn count_pages(_: &mut Wal, pages: i32) -> rusqlite::Result<()> {
    PAGES.set(pages);
    Ok(())
}

#[derive(Clone, Copy, Debug)]
struct LogPosition {
    last_seq: u64,
    reserved_seq: u64,
    /// The first and the last event of the oldest row, if there is one.
    oldest_row: Option<(u64, u64)>,
}

/// The one connection that writes.
#[derive(Debug)]
pub(super) struct Writer {
    connection: Connection,
    /// Facts of the start, until a commit has written them.
    start: Option<StartFacts>,
    position: LogPosition,
    keep_events: u64,
    oldest: OldestSeq,
    durability: Durability,
}

impl Writer {
    /// Creates the writer of a migrated database, over a connection that waits for the disk. No event has `next_seq` or a later one.
    pub(super) fn new(
        mut connection: Connection,
        start: StartFacts,
        next_seq: u64,
        keep_events: u64,
    ) -> rusqlite::Result<Self> {
        prepare(&mut connection)?;
        let reserved_seq = MetaKey::ReservedSeq.read(&connection)?.unwrap_or(0);
        let oldest_row = oldest_row(&connection)?;
        let position = LogPosition {
            last_seq: next_seq - 1,
            reserved_seq,
            oldest_row,
        };
        let writer = Self {
            connection,
            start: Some(start),
            position,
            keep_events,
            oldest: OldestSeq::default(),
            durability: Durability::PowerLoss,
        };
        writer.publish_oldest();
        Ok(writer)
    }

    /// Writes over another connection from now on, to a database in which everything is that was committed.
    pub(super) fn switch_to(&mut self, mut connection: Connection) -> rusqlite::Result<()> {
        prepare(&mut connection)?;
        (self.connection, self.durability) = (connection, Durability::PowerLoss);
        Ok(())
    }

    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Returns the durability that a commit of these records needs.
    pub(super) fn durability_of(&self, records: &[Record]) -> Durability {
        let must_sync = self.start.is_some()
            || self.last_seq(records) >= self.position.reserved_seq
            || records.iter().any(needs_sync);
        if must_sync {
            Durability::PowerLoss
        } else {
            Durability::ProcessCrash
        }
    }

    fn last_seq(&self, records: &[Record]) -> u64 {
        records
            .iter()
            .filter_map(Record::event)
            .next_back()
            .map_or(self.position.last_seq, |event| event.seq)
    }

    /// Pages in the write-ahead log, copied or not.
    pub(super) fn log_pages() -> i32 {
        PAGES.get()
    }

    /// Copies the write-ahead log into the database, as far as no reader uses it.
    pub(super) fn checkpoint(&self) -> rusqlite::Result<()> {
        checkpoint(&self.connection)
    }

    /// Notes the clean stop, if anything was written, and checkpoints: a reader of the log may continue a moment longer and would leave the log behind.
    pub(super) fn close(mut self) -> rusqlite::Result<()> {
        self.set_durability(Durability::PowerLoss)?;
        if self.start.is_none() {
            MetaKey::IsClosed.write(&self.connection, true)?;
        }
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }

    /// Commits records, all or none. A commit that must survive a power loss waits for the disk, and everything before it with it.
    pub(super) fn commit(
        &mut self,
        records: &[Record],
        durability: Durability,
    ) -> rusqlite::Result<()> {
        let last_seq = self.last_seq(records);
        let reserves = last_seq >= self.position.reserved_seq;
        self.set_durability(durability)?;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let Some(start) = &self.start {
            start.write(&transaction)?;
        }
        let mut position = LogPosition {
            last_seq,
            ..self.position
        };
        if reserves {
            position.reserved_seq = last_seq + last_seq.clamp(RESERVED_SEQS_MIN, RESERVED_SEQS_MAX);
            MetaKey::ReservedSeq.write(&transaction, position.reserved_seq)?;
        }
        let mut session_changes = SessionChanges::default();
        for record in records {
            write(&transaction, record, &mut session_changes)?;
        }
        session_changes.write(&transaction)?;
        write_log(&transaction, records)?;
        match position.oldest_row {
            Some((_, ends)) if last_seq.saturating_sub(ends) < self.keep_events => {}
            _ => {
                position.oldest_row =
                    remove_oldest(&transaction, last_seq.saturating_sub(self.keep_events))?;
            }
        }
        transaction.commit()?;
        (self.start, self.position) = (None, position);
        self.publish_oldest();
        Ok(())
    }

    pub(super) fn oldest(&self) -> OldestSeq {
        self.oldest.clone()
    }

    fn publish_oldest(&self) {
        self.oldest
            .set(self.position.oldest_row.map(|(first, _)| first));
    }

    /// The setting may change between transactions only.
    fn set_durability(&mut self, durability: Durability) -> rusqlite::Result<()> {
        if self.durability != durability {
            let synchronous = match durability {
                Durability::ProcessCrash => "NORMAL",
                Durability::PowerLoss => "FULL",
            };
            self.connection
                .pragma_update(None, "synchronous", synchronous)?;
            self.durability = durability;
        }
        Ok(())
    }
}

fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    // The hook replaces SQLite's own, which would checkpoint in the commit that makes the log long. There is only one: `PRAGMA
    // wal_autocheckpoint`, even with 0, would remove this one.
    connection.wal_hook(Some(count_pages))?;
    connection.set_prepared_statement_cache_capacity(64);
    PAGES.set(0);
    Ok(())
}

fn write<'a>(
    to: &Transaction<'_>,
    record: &'a Record,
    session_changes: &mut SessionChanges<'a>,
) -> rusqlite::Result<()> {
    match record {
        Record::Event(event) => write_event(to, event, session_changes),
        Record::Pending {
            channel_id,
            connection_id,
            client_id,
            created_at,
            session_id,
        } => {
            let sql = "INSERT INTO connections VALUES (?1, ?2, ?3, ?4, FALSE, TRUE, FALSE, ?5)";
            run(
                to,
                sql,
                params![
                    connection_id.as_str(),
                    channel_id.as_str(),
                    client_id.as_ref().map(ClientId::as_str),
                    created_at.as_micros(),
                    session_id.as_str()
                ],
            )
        }
        Record::PendingEnded(connection_id) => {
            remove_connection(to, connection_id.as_str()).map(drop)
        }
        Record::BoundTo {
            connection_id,
            socket,
        } => run(
            to,
            "UPDATE connections SET is_bound = ?2 WHERE connection_id = ?1",
            params![connection_id.as_str(), socket.is_some()],
        ),
        Record::ConnectionOfSfu(connection_id) => run(
            to,
            "UPDATE connections SET is_sora = TRUE WHERE connection_id = ?1",
            params![connection_id.as_str()],
        ),
        Record::SessionOfSora(channel_id) => {
            session_changes.session_is_of_sora(channel_id);
            Ok(())
        }
        Record::SessionOfGate(channel_id) => {
            session_changes.session_is_of_gate(channel_id);
            Ok(())
        }
        Record::Mode(state) => {
            let before = MetaKey::Mode
                .read::<String>(to)?
                .and_then(|json| serde_json::from_str::<ModeState>(&json).ok());
            if let Some(change) = before.and_then(|before| start_change(&before, state)) {
                write_change(to, &change)?;
            }
            MetaKey::Mode.write(to, json(state)?)
        }
        Record::ExpiresAtBoot(at) => {
            // None as a number that no boot clock reads.
            let micros = at.map_or(-1, |at| i64::try_from(at.as_micros()).unwrap_or(i64::MAX));
            MetaKey::ExpiresAtBoot.write(to, micros)
        }
        Record::Delivery(delivery) => write_delivery(to, delivery),
        Record::DeliveryForgotten(id) => {
            run(to, "DELETE FROM deliveries WHERE id = ?1", params![id.0])
        }
        Record::Member(member) => MetaKey::Member.write(to, membership::to_json(*member)),
        Record::Etcd(known) => MetaKey::Etcd.write(to, membership::known_to_json(known)),
        Record::Claimed { channel_id, token } => run(
            to,
            "INSERT OR REPLACE INTO claims VALUES (?1, ?2)",
            params![channel_id.as_str(), token.0],
        ),
        Record::Unclaimed(channel_id) => run(
            to,
            "DELETE FROM claims WHERE channel_id = ?1",
            params![channel_id.as_str()],
        ),
        Record::RoomLocked(room) => run(
            to,
            "INSERT OR REPLACE INTO locked_rooms VALUES (?1)",
            params![room.as_str()],
        ),
        Record::RoomUnlocked(room) => run(
            to,
            "DELETE FROM locked_rooms WHERE channel_id = ?1",
            params![room.as_str()],
        ),
        Record::VanishedPending(is_pending) => MetaKey::IsVanishedPending.write(to, is_pending),
        Record::Plan(plan) => plans::write_plan(to, plan),
        Record::PlanProgress(progress) | Record::PlanCounts(progress) => {
            plans::write_plan_progress(to, progress)
        }
        Record::Announcement(announcement) => plans::add_announcement(to, announcement),
        Record::AnnouncementProgress { id, progress } => {
            plans::write_announcement_progress(to, id, progress)
        }
        Record::AnnouncementFinished(id) => plans::remove_announcement(to, id),
        Record::End(end) => plans::add_end(to, end),
        Record::EndProgress { id, progress } => plans::write_end_progress(to, id, progress),
        Record::EndFinished { id, .. } => plans::remove_end(to, id),
        Record::Reservation(it) => reservation::write(to, it),
    }
}

fn write_event<'a>(
    to: &Transaction<'_>,
    event: &'a Event,
    session_changes: &mut SessionChanges<'a>,
) -> rusqlite::Result<()> {
    match &event.kind {
        EventKind::SessionCreated {
            channel_id,
            session_id,
            created_time,
            ..
        } => {
            session_changes.session_created(channel_id, session_id, *created_time);
            Ok(())
        }
        EventKind::SessionDestroyed {
            channel_id,
            session_id,
            ..
        } => session_changes.session_destroyed(to, channel_id, session_id),
        EventKind::ConnectionCreated {
            channel_id,
            connection_id,
            client_id,
            ..
        } => {
            session_changes.connection_created(channel_id);
            let sql = "INSERT INTO connections VALUES (?1, ?2, ?3, ?4, TRUE, FALSE, FALSE, NULL)
                ON CONFLICT DO UPDATE SET is_live = TRUE, created_at = excluded.created_at, session_id = NULL";
            let client_id = client_id.as_ref().map(ClientId::as_str);
            run(
                to,
                sql,
                params![
                    connection_id.as_str(),
                    channel_id.as_str(),
                    client_id,
                    event.timestamp.as_micros()
                ],
            )
        }
        EventKind::ConnectionDestroyed {
            channel_id,
            connection_id,
            ..
        } => {
            // A pending connection has no row that counts.
            if remove_connection(to, connection_id.as_str())? {
                session_changes.connection_destroyed(channel_id);
            }
            Ok(())
        }
        EventKind::ModeChanged(change) => {
            let change = DatedModeChange {
                timestamp: event.timestamp,
                change: change.as_ref().clone(),
            };
            MetaKey::Mode.write(to, json(&change.state())?)?;
            write_change(to, &change)
        }
        EventKind::SessionVanished
        | EventKind::NodeJoined { .. }
        | EventKind::NodeIsolated { .. }
        | EventKind::NodeFenced { .. }
        | EventKind::WebhookReceived { .. }
        | EventKind::DeliverySucceeded(_)
        | EventKind::DeliveryFailed(_)
        | EventKind::PlanCreated(_)
        | EventKind::PlanStep(_)
        | EventKind::PlanStalled { .. }
        | EventKind::PlanOver(_)
        | EventKind::MaintenanceAnnounced(_)
        | EventKind::EndRequested(_)
        | EventKind::Unknown => Ok(()),
    }
}

fn write_delivery(to: &Transaction<'_>, it: &StoredDelivery) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO deliveries VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    let micros = |time: Option<Time>| time.map(Time::as_micros);
    let (next_attempt_at, finished_at) = (micros(it.next_attempt_at), micros(it.finished_at));
    run(
        to,
        sql,
        params![
            it.id.0,
            it.url,
            it.endpoint,
            json(&it.event)?,
            it.generation,
            it.state.name(),
            it.attempts,
            it.created_at.as_micros(),
            next_attempt_at,
            finished_at,
            it.status,
            it.problem
        ],
    )
}

fn write_change(to: &Transaction<'_>, change: &DatedModeChange) -> rusqlite::Result<()> {
    run(
        to,
        "INSERT OR REPLACE INTO mode_changes VALUES (?1, ?2)",
        params![change.change.generation, json(change)?],
    )?;
    // Each change has the next generation.
    let surplus = change
        .change
        .generation
        .saturating_sub(u64::try_from(MODE_CHANGES_KEPT).unwrap_or(u64::MAX));
    run(
        to,
        "DELETE FROM mode_changes WHERE generation <= ?1",
        params![surplus],
    )
}

fn remove_connection(to: &Transaction<'_>, connection_id: &str) -> rusqlite::Result<bool> {
    Ok(to
        .prepare_cached("DELETE FROM connections WHERE connection_id = ?1")?
        .execute([connection_id])?
        > 0)
}

fn write_log(to: &Transaction<'_>, records: &[Record]) -> rusqlite::Result<()> {
    let events: Vec<&Event> = records.iter().filter_map(Record::event).collect();
    for row in events.chunks(EVENTS_PER_ROW) {
        if let (Some(first), Some(last)) = (row.first(), row.last()) {
            run(
                to,
                "INSERT INTO log VALUES (?1, ?2, ?3)",
                params![
                    first.seq,
                    last.seq,
                    event_blob::pack(row).map_err(unwritable)?
                ],
            )?;
        }
    }
    Ok(())
}

/// Removes some of the rows that end with a seq or before it; gives the oldest of the others.
fn remove_oldest(to: &Transaction<'_>, until: u64) -> rusqlite::Result<Option<(u64, u64)>> {
    let sql = "DELETE FROM log WHERE first_seq IN (SELECT first_seq FROM log ORDER BY first_seq LIMIT ?2) AND last_seq <= ?1";
    run(to, sql, params![until, ROWS_REMOVED])?;
    oldest_row(to)
}

fn oldest_row(connection: &Connection) -> rusqlite::Result<Option<(u64, u64)>> {
    let mut statement = connection
        .prepare_cached("SELECT first_seq, last_seq FROM log ORDER BY first_seq LIMIT 1")?;
    statement
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}
