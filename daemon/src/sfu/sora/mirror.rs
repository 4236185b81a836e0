//! Mirror of the mode to a Sora (`--sora-mode mirror`): sets each change there, and reads Sora's
//! own mode.
//!
//! A change here is complete before Sora is called, and stands independent of Sora's answer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use soramode_protocol::mode::{Mode, ModeState, SettableMode};
use soramode_protocol::node::Status;
use soramode_protocol::sora_api::{SoraApi, SoraApiError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::lock::lock;

/// Timeout of a call to Sora: the client that changes the mode waits for it.
const MIRROR_TIMEOUT: Duration = Duration::from_secs(4);

/// Pause before a failed change is retried.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// Handle of the task that sets the mode on Sora.
#[derive(Clone, Debug)]
pub(crate) struct MirrorHandle {
    api: SoraApi,
    requests: mpsc::UnboundedSender<MirrorRequest>,
    warning: Arc<Mutex<Option<String>>>,
}

/// Request to set Sora's mode.
#[derive(Debug)]
struct MirrorRequest {
    mode: SettableMode,
    /// Takes the warning, for the client that requested the change.
    answer: Option<oneshot::Sender<Option<String>>>,
}

/// Task that sets the mode on Sora, as requested.
#[derive(Debug)]
pub(crate) struct MirrorTask {
    api: SoraApi,
    requests: mpsc::UnboundedReceiver<MirrorRequest>,
    warning: Arc<Mutex<Option<String>>>,
}

impl MirrorHandle {
    /// Creates a mirror to this Sora.
    pub(crate) fn new(api: SoraApi) -> (Self, MirrorTask) {
        let (requests, receiver) = mpsc::unbounded_channel();
        let warning = Arc::default();
        let mirror_task = MirrorTask {
            api: api.clone(),
            requests: receiver,
            warning: Arc::clone(&warning),
        };
        (
            Self {
                api,
                requests,
                warning,
            },
            mirror_task,
        )
    }

    /// Mirrors a change that no client requested. `initial` cannot be set on a Sora.
    pub(crate) fn set_mode(&self, mode: Mode) {
        if let Ok(mode) = SettableMode::try_from(mode) {
            // If the daemon is stopping, Sora is set at the next start.
            self.requests
                .send(MirrorRequest { mode, answer: None })
                .unwrap_or_default();
        }
    }

    /// Mirrors a change that a client requested. Returns a receiver of the warning, if there is one, for when Sora has answered; `None` if
    /// the change is not mirrored.
    pub(crate) fn mirror_change(&self, mode: Mode) -> Option<oneshot::Receiver<Option<String>>> {
        let mode = SettableMode::try_from(mode).ok()?;
        let (answer, warning) = oneshot::channel();
        let answer = Some(answer);
        self.requests.send(MirrorRequest { mode, answer }).ok()?;
        Some(warning)
    }

    /// Returns Sora's mode if that is stricter, and ours if Sora does not answer.
    pub(crate) async fn stricter_mode(self, mut state: ModeState) -> ModeState {
        if let Ok(theirs) = with_timeout(self.api.get_mode()).await
            && theirs > state.mode
        {
            state.own_mode = Some(state.mode);
            state.mode = theirs;
        }
        state
    }

    /// Adds a warning to a status if Sora's mode could not be set.
    pub(crate) fn complete(&self, status: &mut Status) {
        status.warnings.extend(lock(&self.warning).clone());
    }
}

/// Runs the task, if there is one.
pub(crate) async fn run(mirror_task: Option<MirrorTask>, stop: CancellationToken) {
    if let Some(mirror_task) = mirror_task {
        mirror_task.run(stop).await;
    }
}

impl MirrorTask {
    /// Sets one change after another until the daemon stops. Of several waiting changes only the
    /// last counts.
    async fn run(mut self, stop: CancellationToken) {
        let mut unset = None;
        while !self.requests.is_closed() {
            let mut requests = Vec::new();
            tokio::select! {
                taken = self.requests.recv_many(&mut requests, usize::MAX) => if taken == 0 { return },
                () = tokio::time::sleep(RETRY_PAUSE), if unset.is_some() => {}
                () = stop.cancelled() => {
                    self.close(&mut requests);
                    unset = None;
                }
            }
            let Some(mode) = requests.last().map(|request| request.mode).or(unset) else {
                continue;
            };
            let outcome = tokio::select! {
                biased;
                () = stop.cancelled() => Err(SoraApiError::Unreachable("soramoded is stopping".to_owned())),
                outcome = with_timeout(self.api.change_mode(mode, None)) => outcome,
            };
            unset = outcome.is_err().then_some(mode);
            let warning = outcome.err().map(|error| {
                format!(
                    "cannot set the mode of Sora ({}) to {}: {error}",
                    self.api.url(),
                    Mode::from(mode)
                )
            });
            self.warn(warning.clone());
            for answer in requests.into_iter().filter_map(|request| request.answer) {
                // The engine may have stopped.
                answer.send(warning.clone()).unwrap_or_default();
            }
        }
    }

    /// Accepts no more requests: later changes are answered without Sora.
    fn close(&mut self, requests: &mut Vec<MirrorRequest>) {
        self.requests.close();
        requests.extend(std::iter::from_fn(|| self.requests.try_recv().ok()));
    }

    fn warn(&self, warning: Option<String>) {
        let before = std::mem::replace(&mut *lock(&self.warning), warning.clone());
        match (before, warning) {
            (before, Some(warning)) if before.as_ref() != Some(&warning) => {
                tracing::warn!("{warning}");
            }
            (Some(_), None) => tracing::info!("Sora's mode matches again"),
            (_, _) => {}
        }
    }
}

async fn with_timeout<T>(
    asked: impl Future<Output = Result<T, SoraApiError>>,
) -> Result<T, SoraApiError> {
    timeout(MIRROR_TIMEOUT, asked)
        .await
        .unwrap_or(Err(SoraApiError::TimedOut))
}
