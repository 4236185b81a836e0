//! What the gate decided, on its way to the store: kept in order while that cannot write.

use std::time::Duration;

use soramode_core::effect::Record;
use tokio::time::Instant;

use crate::store::{Store, WriteError};

/// How long after a failed write the next is tried.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Records that wait for a disk that can be written again; when so many do, nothing more is taken in.
pub(crate) const WAITING_RECORDS_MAX: usize = 262_144;

/// What became of a batch of records.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// They are safe, and can be told of.
    Safe(Vec<Record>),
    /// They could not be written, the first that could not. They wait.
    Failed(WriteError),
    /// They wait behind others.
    Waits,
}

/// The way to the store.
#[derive(Debug)]
pub(crate) struct Journal {
    store: Store,
    waiting: Vec<Record>,
    retry_at: Option<Instant>,
    /// What is wrong with the store, and what to do.
    trouble: Option<String>,
}

impl Journal {
    pub(crate) const fn new(store: Store, trouble: Option<String>) -> Self {
        Self { store, waiting: Vec::new(), retry_at: None, trouble }
    }

    /// What an operator must know of it.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Writes records, all or none.
    pub(crate) async fn commit(&mut self, records: Vec<Record>) -> Outcome {
        if self.retry_at.is_some() {
            self.waiting.extend(records);
            return Outcome::Waits;
        }
        let (records, outcome) = self.store.commit(records).await;
        match outcome {
            Ok(()) => Outcome::Safe(records),
            Err(error) => {
                self.trouble = Some(format!(
                    "the state cannot be written ({error}): the node is closed, and what happens waits. Make room, or mend the disk; then \
                     it is written, and an operator opens the node"
                ));
                self.waiting = records;
                self.retry_at = Some(Instant::now() + RETRY_PAUSE);
                Outcome::Failed(error)
            }
        }
    }

    /// Waits until it is time to try again; for ever if nothing waits. Cancel safe.
    pub(crate) async fn retry_due(&self) {
        match self.retry_at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Tries to write what waits; gives it, if that succeeded.
    pub(crate) async fn retry(&mut self) -> Option<Vec<Record>> {
        let (records, outcome) = self.store.commit(std::mem::take(&mut self.waiting)).await;
        match outcome {
            Ok(()) => {
                (self.retry_at, self.trouble) = (None, None);
                Some(records)
            }
            Err(error) => {
                tracing::debug!(%error, "the state still cannot be written");
                self.waiting = records;
                self.retry_at = Some(Instant::now() + RETRY_PAUSE);
                None
            }
        }
    }

    /// Whether so much waits that nothing more can be taken in.
    pub(crate) const fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING_RECORDS_MAX
    }

    /// What would be lost now.
    pub(crate) fn waiting(&self) -> &[Record] {
        &self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use soramode_protocol::id::LogId;

    use crate::store::open::{Newcomer, database, open};

    fn records(count: usize) -> Vec<Record> {
        (0..count).map(|_| Record::VanishedHeld(true)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_written_waits_in_order_until_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let log_id = LogId::generate([0; 16]);
        let opened = open(folder.path(), Newcomer { keep_events: 1, log_id: &log_id, boot_id: None }).unwrap();
        let mut journal = Journal::new(Store::Disk(opened.disk), None);
        assert!(matches!(journal.commit(records(1)).await, Outcome::Safe(records) if records.len() == 1));
        let saboteur = rusqlite::Connection::open(database(folder.path())).unwrap();
        saboteur.execute_batch("ALTER TABLE facts RENAME TO stolen").unwrap();
        assert!(matches!(journal.commit(records(1)).await, Outcome::Failed(_)));
        assert!(journal.trouble().unwrap().contains("no such table"), "{:?}", journal.trouble());
        assert!(matches!(journal.commit(records(WAITING_RECORDS_MAX - 2)).await, Outcome::Waits));
        assert!(!journal.is_full());
        assert!(matches!(journal.commit(records(1)).await, Outcome::Waits));
        assert!(journal.is_full(), "{} wait", journal.waiting().len());
        journal.retry_due().await;
        assert_eq!(journal.retry().await, None);
        saboteur.execute_batch("ALTER TABLE stolen RENAME TO facts").unwrap();
        journal.retry_due().await;
        assert_eq!(journal.retry().await.map(|records| records.len()), Some(WAITING_RECORDS_MAX));
        assert_eq!((journal.waiting().len(), journal.trouble()), (0, None));
    }
}
