//! The engine's interfaces for the daemon's own tasks: the committer, the one that waits for deadlines, and the one that stops all.

use soramode_core::effect::Record;
use soramode_core::input::Input;

use super::{Engine, WriteFailure};

/// Interface of the committer.
impl Engine {
    /// Waits until a write can begin. Cancel safe.
    pub(crate) async fn can_write(&self) {
        self.0.work.notified().await;
    }

    /// Waits until no input comes any more. Cancel safe.
    pub(crate) async fn closed(&self) {
        self.0.closing.cancelled().await;
    }

    /// Returns the number of records that wait for the next write.
    pub(crate) fn open_records(&self) -> usize {
        self.with(|state, _| state.commits.open_records())
            .unwrap_or(0)
    }

    /// Begins a write, if there is something to write.
    pub(crate) fn begin_write(&self) -> Option<Vec<Record>> {
        self.with(|state, _| state.commits.begin_write())?
    }

    /// Begins to write again after a failure.
    pub(crate) fn begin_retry(&self) -> Option<Vec<Record>> {
        self.with(|state, _| state.commits.begin_retry())?
    }

    /// Ends a write, or a check without records: performs effects that may leave now.
    pub(crate) fn finish_write(&self, records: Vec<Record>, outcome: Result<(), WriteFailure>) {
        self.with(|state, now| {
            state.released = match outcome {
                Ok(()) => state.commits.written(records),
                Err(WriteFailure { refusal, problem }) => {
                    state.outputs.deps.storage_problem = Some(problem);
                    let gate = &mut state.gate;
                    state.commits.write_failed(gate, now, records, &refusal)
                }
            };
            state.perform(now, None);
            state.settle(now, None);
        });
    }

    /// Finishes a retry.
    pub(crate) fn finish_retry(&self, records: Vec<Record>, is_written: bool) {
        self.with(|state, now| {
            if !is_written {
                return state.commits.retry_failed(records);
            }
            state.outputs.deps.storage_problem = None;
            state.released = state.commits.restored(&mut state.gate, now, records);
            state.perform(now, None);
            state.settle(now, None);
        });
    }

    /// Takes no input any more.
    pub(crate) fn end(&self) {
        self.with(|state, _| {
            let lost = state.commits.unwritten();
            if state.commits.is_failed() && lost > 0 {
                tracing::error!(
                    "stopping with {lost} changes that could not be written: they are lost"
                );
            }
            state.outputs.close();
            state.is_closed = true;
        });
    }
}

/// Interface of the task that waits for deadlines.
impl Engine {
    /// Waits until the timer fires.
    pub(crate) async fn deadline(&self) -> std::io::Result<()> {
        self.0.timer.fired().await
    }

    /// Steps the gate for deadlines that have passed.
    pub(crate) fn tick(&self) {
        self.with(|state, now| {
            state.armed = None;
            state.apply(now, Input::Tick);
        });
    }
}

/// Interface of the daemon's end.
impl Engine {
    /// Returns once a step has panicked.
    pub(crate) async fn broken(&self) {
        self.0.broken.cancelled().await;
    }

    /// Closes the engine: the committer writes the open records, and ends.
    pub(crate) fn close(&self) {
        self.0.closing.cancel();
    }
}
