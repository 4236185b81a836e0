//! Writes the engine's records, one batch after another, and retries all of them after a failure.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use soramode_core::commit_failure::OPEN_IT;
use soramode_core::effect::Record;
use soramode_protocol::error::Error;
use soramode_protocol::or_pending::or_pending;
use tokio::task::yield_now;
use tokio::time::{Instant, Interval, interval, sleep_until};

use crate::engine::{Engine, WriteFailure};
use crate::metrics::Metrics;
use crate::notify;
use crate::store::{Store, WriteError};
use crate::watchdog::Watchdog;

/// Pause after a failed write before the next.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Pause between checks that the database is still there.
const CHECK_PAUSE: Duration = Duration::from_secs(10);

/// Duration of a write from which it is logged as slow.
const SLOW_WRITE: Duration = Duration::from_secs(1);

/// Passes of the runtime for which a write waits for clients that were just answered.
const GATHER_PASSES_MAX: usize = 4;

/// The committer.
#[derive(Debug)]
pub(crate) struct Committer {
    engine: Engine,
    store: Store,
    metrics: Arc<Metrics>,
    watchdog: Watchdog,
    /// Set after a failed write.
    retry_at: Option<Instant>,
    checks: Option<Interval>,
}

impl Committer {
    /// Needs a tokio runtime.
    pub(crate) fn new(engine: Engine, store: Store, metrics: Arc<Metrics>) -> Self {
        let checks = match store {
            Store::Memory => None,
            Store::Disk(_) => Some(interval(CHECK_PAUSE)),
        };
        Self {
            engine,
            store,
            metrics,
            watchdog: Watchdog::of_process(),
            retry_at: None,
            checks,
        }
    }

    /// Writes until the engine's stop begins and nothing is open. The watchdog gets no sign of life during a write.
    pub(crate) async fn run(mut self) {
        loop {
            tokio::select! {
                () = self.engine.can_write() => {}
                () = or_pending(self.retry_at.map(sleep_until)) => self.retry().await,
                _ = or_pending(self.checks.as_mut().map(Interval::tick)), if self.retry_at.is_none() => self.write(Vec::new()).await,
                () = self.watchdog.due() => notify::alive(),
                () = self.engine.stop_begun() => break,
            }
            self.write_open().await;
        }
        if self.retry_at.is_some() {
            // The last chance of all that waits.
            self.retry().await;
        }
        self.write_open().await;
        self.engine.finish_stop();
    }

    /// Writes until nothing is open, or a write fails.
    pub(crate) async fn write_open(&mut self) {
        while let Some(records) = self.engine.begin_write() {
            let answered = records.len();
            self.write(records).await;
            self.gather(answered).await;
        }
    }

    /// Waits a few passes of the runtime for clients that were just answered: their next requests then share a write with those that are
    /// open.
    async fn gather(&self, answered: usize) {
        let expected = answered + self.engine.open_records();
        for _ in 0..GATHER_PASSES_MAX {
            if self.engine.open_records() >= expected {
                return;
            }
            yield_now().await;
        }
    }

    /// Writes records; without any, checks that the database is still there.
    async fn write(&mut self, records: Vec<Record>) {
        let began = Instant::now();
        let (records, written) = self.store.commit(records).await;
        let took = began.elapsed();
        if took >= SLOW_WRITE {
            tracing::warn!(seconds = took.as_secs_f64(), "writing the state took long");
        }
        if written.is_err() {
            self.retry_at = Some(Instant::now() + RETRY_PAUSE);
        }
        let outcome = match written {
            Ok(()) => {
                self.metrics.committed(took);
                Ok(())
            }
            Err(error) => Err(self.failure(&error)),
        };
        self.engine.finish_write(records, outcome);
    }

    async fn retry(&mut self) {
        let Some(records) = self.engine.begin_retry() else {
            self.retry_at = None;
            return;
        };
        let (records, written) = self.store.commit(records).await;
        match &written {
            Ok(()) => self.retry_at = None,
            Err(error) => {
                tracing::debug!(%error, "still cannot write the state");
                self.retry_at = Some(Instant::now() + RETRY_PAUSE);
            }
        }
        self.engine.finish_retry(records, written.is_ok());
        if written.is_ok() {
            tracing::info!(
                "the state can be written again; the node is still closed. To open it, run: soramode set normal"
            );
        }
    }

    /// Logs a failure, and describes it for clients and operators.
    fn failure(&self, error: &WriteError) -> WriteFailure {
        let remedy = error.remedy(self.store.database().unwrap_or(Path::new("")));
        tracing::error!(%error, "the state cannot be written; node set to block_new_connection. {remedy}. {OPEN_IT}");
        WriteFailure {
            refusal: Error::storage_unavailable(error).with_hint(format!("{remedy}. {OPEN_IT}")),
            problem: format!(
                "the state cannot be written ({error}). The node is closed, and changes wait. {remedy}. Then open the node with: \
                 soramode set normal"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::Path;

    use soramode_core::commits::Durability;
    use soramode_protocol::decision::{Report, ReportedConnection};
    use soramode_protocol::error::ErrorType;
    use soramode_protocol::id::LogId;
    use soramode_protocol::node::StorageState;
    use soramode_protocol::reply::Reply;
    use soramode_protocol::request::GateRequest;

    use crate::engine::tests::{ask, connect, engine, request, status};
    use crate::store::check;
    use crate::store::open::{OpenError, OpenOptions, database, open};

    fn options(log_id: &LogId) -> OpenOptions<'_> {
        OpenOptions {
            keep_events: 1,
            log_id,
            boot_id: None,
        }
    }

    fn store(folder: &Path) -> Store {
        let opened = open(folder, options(&LogId::generate([0; 16]))).unwrap();
        Store::Disk(opened.disk)
    }

    fn committer(folder: &Path) -> Committer {
        Committer::new(
            engine(Durability::Durable),
            store(folder),
            Arc::new(Metrics::new().unwrap()),
        )
    }

    /// Asks, and writes until there is an answer.
    async fn decide(
        committer: &mut Committer,
        request: GateRequest,
    ) -> soramode_protocol::reply::Answer {
        let engine = committer.engine.clone();
        let (answer, ()) = tokio::join!(ask(&engine, request), committer.write_open());
        answer
    }

    fn report(connection: &str) -> GateRequest {
        GateRequest::Report(Report {
            connections: vec![ReportedConnection {
                channel_id: "spam".parse().unwrap(),
                connection_id: connection.parse().unwrap(),
                client_id: None,
                session_id: None,
            }],
            complete: false,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn records_that_cannot_be_written_wait_until_they_can() {
        let folder = tempfile::tempdir().unwrap();
        let mut committer = committer(folder.path());
        let engine = committer.engine.clone();
        let first = decide(&mut committer, connect("spam")).await;
        assert!(matches!(first, Ok(Reply::Decision(_))), "{first:?}");
        let saboteur = rusqlite::Connection::open(database(folder.path())).unwrap();
        saboteur
            .execute_batch("ALTER TABLE connections RENAME TO stolen")
            .unwrap();
        let refused = decide(&mut committer, connect("spam")).await.unwrap_err();
        assert_eq!(refused.data.error_type, ErrorType::StorageUnavailable);
        let failed = status(&engine).await;
        assert_eq!(failed.storage.state, StorageState::Failed);
        assert!(failed.warnings[0].contains("no such table"), "{failed:?}");
        // Reports are accepted, and their records wait.
        assert!(ask(&engine, report("c1")).await.is_ok());
        let retry_at = committer.retry_at.unwrap();
        assert_eq!(retry_at.duration_since(Instant::now()), RETRY_PAUSE);
        committer.retry().await;
        assert!(committer.retry_at.is_some());
        assert!(ask(&engine, report("c2")).await.is_ok());
        saboteur
            .execute_batch("ALTER TABLE stolen RENAME TO connections")
            .unwrap();
        committer.retry().await;
        committer.write_open().await;
        let healed = status(&engine).await;
        assert_eq!(
            (healed.storage.state, committer.retry_at),
            (StorageState::Ok, None)
        );
        assert!(
            !healed
                .warnings
                .iter()
                .any(|it| it.contains("no such table"))
        );
        drop(committer);
        assert!(
            check(folder.path())
                .unwrap()
                .contains("\nconnections   3\n")
        );
    }

    /// Number of writes that took place.
    fn writes(metrics: &Metrics) -> u64 {
        let families = metrics.gather();
        let family = families
            .iter()
            .find(|family| family.name() == "soramode_commit_duration_seconds");
        let histogram = family.unwrap().get_metric()[0].get_histogram();
        histogram.get_sample_count()
    }

    #[tokio::test]
    async fn clients_that_ask_again_share_one_write() {
        const ROUNDS: u64 = 10;
        let folder = tempfile::tempdir().unwrap();
        let mut committer = committer(folder.path());
        let (engine, metrics) = (committer.engine.clone(), Arc::clone(&committer.metrics));
        let first = async {
            for _ in 0..ROUNDS {
                ask(&engine, connect("spam")).await.unwrap();
            }
        };
        let second = async {
            // The first write has begun by then.
            yield_now().await;
            for _ in 0..ROUNDS {
                ask(&engine, connect("eggs")).await.unwrap();
            }
        };
        tokio::join!(first, second, committer.write_open());
        assert_eq!(writes(&metrics), ROUNDS + 1, "only the first was alone");
    }

    #[tokio::test]
    async fn everything_that_is_open_at_a_stop_is_written_and_answered() {
        let folder = tempfile::tempdir().unwrap();
        let committer = committer(folder.path());
        let engine = committer.engine.clone();
        let asked: Vec<_> = (0..100)
            .map(|_| request(&engine, connect("spam")))
            .collect();
        engine.begin_stop();
        committer.run().await;
        for answer in asked {
            let answer = answer.answer().await;
            assert!(matches!(answer, Ok(Reply::Decision(_))), "{answer:?}");
        }
        assert!(ask(&engine, connect("spam")).await.is_err(), "too late");
        let stored = check(folder.path()).unwrap();
        assert!(stored.contains("\nconnections   100\n"), "{stored}");
    }

    #[tokio::test]
    async fn a_stop_retries_a_failed_write_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut committer = committer(folder.path());
        let engine = committer.engine.clone();
        assert!(decide(&mut committer, connect("spam")).await.is_ok());
        let saboteur = rusqlite::Connection::open(database(folder.path())).unwrap();
        saboteur
            .execute_batch("ALTER TABLE connections RENAME TO stolen")
            .unwrap();
        assert!(decide(&mut committer, connect("spam")).await.is_err());
        assert!(ask(&engine, report("c1")).await.is_ok());
        saboteur
            .execute_batch("ALTER TABLE stolen RENAME TO connections")
            .unwrap();
        engine.begin_stop();
        committer.run().await;
        let stored = check(folder.path()).unwrap();
        assert!(stored.contains("\nconnections   2\n"), "{stored}");
    }

    #[tokio::test]
    async fn a_database_that_was_deleted_is_written_anew_with_everything_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let log_id = LogId::generate([0; 16]);
        let state = folder.path().join("state");
        let mut committer = committer(&state);
        let mut connections = 0;
        for what in [
            "soramode.db",
            "soramode.db-wal",
            "soramode.db-shm",
            "soramode.lock",
            "moved",
            "all",
        ] {
            assert!(decide(&mut committer, connect("spam")).await.is_ok());
            connections += 1;
            match what {
                "moved" => std::fs::rename(database(&state), folder.path().join("moved.db")),
                "all" => std::fs::remove_dir_all(&state),
                file => std::fs::remove_file(state.join(file)),
            }
            .unwrap();
            committer.write(Vec::new()).await;
            assert_eq!(committer.retry_at, None, "{what}");
            assert!(check(&state).unwrap().contains("sound"), "{what}");
            assert!(
                matches!(
                    open(&state, options(&log_id)),
                    Err(OpenError::AlreadyLocked(_))
                ),
                "{what}: its lock is held still"
            );
        }
        drop(committer);
        let stored = open(&state, options(&log_id)).unwrap().stored;
        assert_eq!(stored.connections.len(), connections, "all are in it");
    }

    #[tokio::test(start_paused = true)]
    async fn another_database_in_its_place_is_left_alone_until_it_is_moved_away() {
        let folder = tempfile::tempdir().unwrap();
        let mut committer = committer(folder.path());
        committer.write_open().await;
        let path = database(folder.path());
        std::fs::write(folder.path().join("other"), "a backup").unwrap();
        std::fs::rename(folder.path().join("other"), &path).unwrap();
        committer.write(Vec::new()).await;
        let failed = status(&committer.engine).await;
        assert!(
            failed.warnings[0].contains("Restart soramoded to use that file"),
            "{failed:?}"
        );
        committer.retry().await;
        assert!(committer.retry_at.is_some());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a backup");
        std::fs::remove_file(&path).unwrap();
        committer.retry().await;
        assert_eq!(committer.retry_at, None);
        assert!(check(folder.path()).unwrap().contains("sound"));
    }
}
