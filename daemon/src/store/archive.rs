//! The stored event log, for readers that are further behind than memory goes back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use soramode_protocol::event::Event;
use soramode_protocol::subscribe::Gap;

use super::event_blob;

use crate::lock::lock;

/// Events of the archive from a sequence number on.
#[derive(Debug)]
pub struct ArchivePage {
    /// Events before these that are no longer stored.
    pub gap: Option<Gap>,
    /// The events that follow, in order, without a hole.
    pub events: Vec<Event>,
}

/// Sequence number of the oldest stored event, set by the writer.
#[derive(Clone, Debug, Default)]
pub(super) struct OldestSeq(Arc<AtomicU64>);

impl OldestSeq {
    pub(super) fn set(&self, seq: Option<u64>) {
        // No event has the seq 0.
        self.0.store(seq.unwrap_or(0), Ordering::Relaxed);
    }
}

/// The log on the disk. Each read is a short one, so that it holds up no copying back.
#[derive(Clone, Debug)]
pub struct Archive {
    connection: Arc<Mutex<Connection>>,
    oldest: OldestSeq,
}

impl Archive {
    pub(super) fn new(connection: Connection, oldest: OldestSeq) -> Self {
        Self {
            connection: Arc::new(Mutex::new(connection)),
            oldest,
        }
    }

    /// Reads over another connection from now on.
    pub(super) fn switch_to(&self, connection: Connection) {
        *lock(&self.connection) = connection;
    }

    /// The oldest event that is there.
    pub fn oldest_seq(&self) -> Option<u64> {
        Some(self.oldest.0.load(Ordering::Relaxed)).filter(|seq| *seq > 0)
    }

    /// Reads events from `from` on and before `until`: at least `limit`, to the end of the last
    /// row.
    pub fn read(&self, from: u64, until: u64, limit: usize) -> rusqlite::Result<ArchivePage> {
        let connection = lock(&self.connection);
        let mut statement = connection.prepare_cached(
            "SELECT first_seq, events FROM log
             WHERE first_seq >= coalesce((SELECT max(first_seq) FROM log WHERE first_seq <= ?1), 0) AND last_seq >= ?1 AND first_seq < ?2
             ORDER BY first_seq",
        )?;
        let mut rows = statement.query((from, until))?;
        let mut found = ArchivePage {
            gap: None,
            events: Vec::new(),
        };
        let mut next = from;
        while let Some(row) = rows.next()? {
            let first_seq: u64 = row.get(0)?;
            let is_after_a_hole = first_seq > next;
            if found.events.len() >= limit || (is_after_a_hole && !found.events.is_empty()) {
                return Ok(found);
            }
            found.gap = found.gap.or_else(|| {
                is_after_a_hole.then(|| Gap {
                    from,
                    to: first_seq - 1,
                })
            });
            let events = event_blob::unpack(row.get_ref(1)?)?;
            next = events.last().map_or(next, |last| last.seq + 1);
            found
                .events
                .extend(events.into_iter().filter(|event| event.seq >= from));
        }
        if found.events.is_empty() && from < until {
            found.gap = Some(Gap {
                from,
                to: until - 1,
            });
        }
        Ok(found)
    }
}
