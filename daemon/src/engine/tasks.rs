//! The engine's interfaces for the daemon's own tasks: the committer, the task that waits for deadlines, and the one that stops all.

use soramode_core::effect::Record;
use soramode_core::input::Input;

use super::{Engine, WriteFailure};

/// Interface of the committer.
impl Engine {
    /// Waits until a write can begin. Cancel safe.
    pub(crate) async fn can_write(&self) {
        self.0.work.notified().await;
    }

    /// Waits until a stop begins: no input comes any more. Cancel safe.
    pub(crate) async fn stop_begun(&self) {
        self.0.stopping.cancelled().await;
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

    /// Takes in the outcome of a write, or of a check without records, and performs the effects that may leave now.
    pub(crate) fn finish_write(&self, records: Vec<Record>, outcome: Result<(), WriteFailure>) {
        self.with(|state, now| {
            state.released = match outcome {
                Ok(()) => state.commits.write_succeeded(records),
                Err(WriteFailure { refusal, problem }) => {
                    state.outputs.deps.storage_problem = Some(problem);
                    let gate = &mut state.gate;
                    state.commits.write_failed(gate, now, records, &refusal)
                }
            };
            state.perform_released(now, None);
            state.settle(now, None);
        });
    }

    /// Takes in the outcome of a retry, and performs the effects that may leave now.
    pub(crate) fn finish_retry(&self, records: Vec<Record>, is_written: bool) {
        self.with(|state, now| {
            if !is_written {
                return state.commits.retry_failed(records);
            }
            state.outputs.deps.storage_problem = None;
            state.released = state.commits.retry_succeeded(&mut state.gate, now, records);
            state.perform_released(now, None);
            state.settle(now, None);
        });
    }

    /// Finishes the stop, once the committer has written what it can: nothing is decided and answered any more.
    pub(crate) fn finish_stop(&self) {
        self.with(|state, _| {
            let lost = state.commits.unwritten();
            if state.commits.is_failed() && lost > 0 {
                tracing::error!(
                    "stopping with {lost} changes that could not be written: they are lost"
                );
            }
            state.outputs.close();
            state.is_stopped = true;
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

    /// Begins the stop: the committer writes the open records, and finishes it.
    pub(crate) fn begin_stop(&self) {
        self.0.stopping.cancel();
    }
}
