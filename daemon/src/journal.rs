//! What the gate decided, on its way to the store: kept in order while that cannot write.

use std::path::Path;
use std::time::Duration;

use soramode_core::effect::Record;
use tokio::time::{Instant, Interval, interval};

use crate::store::{Store, WriteError};

/// How long after a failed write the next is tried.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How often it is looked whether the database is still there, where nothing durable is written meanwhile.
const LOOK_PAUSE: Duration = Duration::from_secs(10);

/// Records that wait for a disk that can be written again; when so many do, nothing more is taken in.
pub(crate) const WAITING_RECORDS_MAX: usize = 262_144;

/// What became of a batch of records.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// They are safe, and can be told of.
    Safe(Vec<Record>),
    /// They could not be written, the first that could not. They wait.
    Failed {
        /// The problem.
        error: WriteError,
        /// Remedy for the operator.
        remedy: String,
    },
    /// They wait behind others.
    Waits,
}

/// The next action that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// To write again what could not be written.
    Retry,
    /// To look whether the database is still there: a commit of nothing.
    Look,
}

/// The way to the store.
#[derive(Debug)]
pub(crate) struct Journal {
    store: Store,
    waiting: Vec<Record>,
    retry_at: Option<Instant>,
    /// When it is looked whether the store is still there.
    looks: Option<Interval>,
    /// What is wrong with the store, and what to do.
    trouble: Option<String>,
}

impl Journal {
    /// Needs a tokio runtime.
    pub(crate) fn new(store: Store, trouble: Option<String>) -> Self {
        let looks = match store {
            Store::Memory => None,
            Store::Disk(_) => Some(interval(LOOK_PAUSE)),
        };
        Self {
            store,
            waiting: Vec::new(),
            retry_at: None,
            looks,
            trouble,
        }
    }

    /// What an operator must know of it.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.clone().or_else(|| self.store.warning())
    }

    /// Waits until there is something to do for the store. Cancel safe.
    pub(crate) async fn due(&mut self) -> Due {
        match (self.retry_at, &mut self.looks) {
            (Some(at), _) => {
                tokio::time::sleep_until(at).await;
                Due::Retry
            }
            (None, Some(looks)) => {
                looks.tick().await;
                Due::Look
            }
            (None, None) => std::future::pending().await,
        }
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
                let remedy = error.remedy(self.store.database().unwrap_or(Path::new("")));
                self.trouble = Some(format!(
                    "the state cannot be written ({error}). The node is closed, and changes wait. {remedy}. Then open the node with: soramode \
                     set normal"
                ));
                self.waiting = records;
                self.retry_at = Some(Instant::now() + RETRY_PAUSE);
                Outcome::Failed { error, remedy }
            }
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
                tracing::debug!(%error, "still cannot write the state");
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

    use crate::store::check;
    use crate::store::open::{Newcomer, OpenError, database, open};

    fn records(count: usize) -> Vec<Record> {
        (0..count).map(|_| Record::VanishedPending(true)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_written_waits_in_order_until_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let log_id = LogId::generate([0; 16]);
        let opened = open(
            folder.path(),
            Newcomer {
                keep_events: 1,
                log_id: &log_id,
                boot_id: None,
            },
        )
        .unwrap();
        let mut journal = Journal::new(Store::Disk(opened.disk), None);
        assert!(
            matches!(journal.commit(records(1)).await, Outcome::Safe(records) if records.len() == 1)
        );
        let saboteur = rusqlite::Connection::open(database(folder.path())).unwrap();
        saboteur
            .execute_batch("ALTER TABLE facts RENAME TO stolen")
            .unwrap();
        assert!(matches!(
            journal.commit(records(1)).await,
            Outcome::Failed { .. }
        ));
        assert!(
            journal.trouble().unwrap().contains("no such table"),
            "{:?}",
            journal.trouble()
        );
        assert!(matches!(
            journal.commit(records(WAITING_RECORDS_MAX - 2)).await,
            Outcome::Waits
        ));
        assert!(!journal.is_full());
        assert!(matches!(journal.commit(records(1)).await, Outcome::Waits));
        assert!(journal.is_full(), "{} wait", journal.waiting().len());
        assert_eq!(journal.due().await, Due::Retry);
        assert_eq!(journal.retry().await, None);
        saboteur
            .execute_batch("ALTER TABLE stolen RENAME TO facts")
            .unwrap();
        assert_eq!(journal.due().await, Due::Retry);
        assert_eq!(
            journal.retry().await.map(|records| records.len()),
            Some(WAITING_RECORDS_MAX)
        );
        assert_eq!((journal.waiting().len(), journal.trouble()), (0, None));
    }

    #[tokio::test]
    async fn a_database_that_was_deleted_is_written_anew_with_everything_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let log_id = LogId::generate([0; 16]);
        let newcomer = Newcomer {
            keep_events: 1,
            log_id: &log_id,
            boot_id: None,
        };
        let state = folder.path().join("state");
        let opened = open(&state, newcomer).unwrap();
        let mut journal = Journal::new(Store::Disk(opened.disk), None);
        let is_held = || check(&state).unwrap();
        for what in [
            "soramode.db",
            "soramode.db-wal",
            "soramode.db-shm",
            "soramode.lock",
            "moved",
            "all",
        ] {
            assert!(matches!(journal.commit(records(1)).await, Outcome::Safe(_)));
            match what {
                "moved" => std::fs::rename(database(&state), folder.path().join("moved.db")),
                "all" => std::fs::remove_dir_all(&state),
                file => std::fs::remove_file(state.join(file)),
            }
            .unwrap();
            assert!(
                matches!(journal.commit(Vec::new()).await, Outcome::Safe(_)),
                "{what}"
            );
            assert!(is_held().contains("sound"), "{what}");
            assert!(
                matches!(open(&state, newcomer), Err(OpenError::Held(_))),
                "{what}: its lock is held still"
            );
        }
        drop(journal);
        assert!(
            open(&state, newcomer).unwrap().stored.vanished_pending,
            "what was committed is in it"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn another_database_in_its_place_is_left_alone_until_it_is_moved_away() {
        let folder = tempfile::tempdir().unwrap();
        let log_id = LogId::generate([0; 16]);
        let opened = open(
            folder.path(),
            Newcomer {
                keep_events: 1,
                log_id: &log_id,
                boot_id: None,
            },
        )
        .unwrap();
        let mut journal = Journal::new(Store::Disk(opened.disk), None);
        let path = database(folder.path());
        std::fs::write(folder.path().join("other"), "a backup").unwrap();
        std::fs::rename(folder.path().join("other"), &path).unwrap();
        assert!(matches!(
            journal.commit(Vec::new()).await,
            Outcome::Failed {
                error: WriteError::Replaced(_),
                ..
            }
        ));
        assert!(
            journal
                .trouble()
                .unwrap()
                .contains("Restart soramoded to use that file"),
            "{:?}",
            journal.trouble()
        );
        assert_eq!(journal.due().await, Due::Retry);
        assert_eq!(
            (
                journal.retry().await,
                std::fs::read_to_string(&path).unwrap()
            ),
            (None, "a backup".to_owned())
        );
        std::fs::remove_file(&path).unwrap();
        assert_eq!(journal.due().await, Due::Retry);
        assert_eq!(journal.retry().await, Some(Vec::new()));
        assert!(check(folder.path()).unwrap().contains("sound"));
    }
}
