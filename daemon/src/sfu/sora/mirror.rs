//! Mirror of the mode to a Sora (`--sora-mode mirror`): sets each change there, and reads Sora's
//! own mode.
//!
//! A change here is complete before Sora is called, and stands independent of Sora's answer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use soramode_core::handles::ReplyHandle;
use soramode_protocol::mode::{Mode, ModeChanged, ModeState, SettableMode};
use soramode_protocol::node::Status;
use soramode_protocol::reply::Reply;
use soramode_protocol::sora_api::{SoraApi, SoraApiError};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::engine::WeakEngine;
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

/// Answer to a client that waits for Sora's answer.
#[derive(Debug)]
pub(crate) struct MirroredAnswer {
    engine: WeakEngine,
    reply_to: ReplyHandle,
}

/// Request to set Sora's mode.
#[derive(Debug)]
struct MirrorRequest {
    mode: SettableMode,
    answer: Option<(MirroredAnswer, ModeChanged)>,
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

    /// Mirrors a change, and answers once Sora has. Returns the change if the caller must answer at
    /// once.
    pub(crate) fn answer_change(
        &self,
        pending: MirroredAnswer,
        changed: ModeChanged,
    ) -> Option<ModeChanged> {
        let Ok(mode) = SettableMode::try_from(changed.mode) else {
            return Some(changed);
        };
        let answer = Some((pending, changed));
        let mpsc::error::SendError(request) =
            self.requests.send(MirrorRequest { mode, answer }).err()?;
        request.answer.map(|(_, changed)| changed)
    }

    /// Answers with Sora's mode if that is stricter, and with ours if Sora does not answer.
    pub(crate) async fn answer_mode(self, pending: MirroredAnswer, mut state: ModeState) {
        if let Ok(theirs) = with_timeout(self.api.get_mode()).await
            && theirs > state.mode
        {
            state.own_mode = Some(state.mode);
            state.mode = theirs;
        }
        pending.answer(Reply::Mode(Box::new(state)));
    }

    /// Adds a warning to a status if Sora's mode could not be set.
    pub(crate) fn complete(&self, status: &mut Status) {
        status.warnings.extend(lock(&self.warning).clone());
    }
}

impl MirroredAnswer {
    pub(crate) const fn new(engine: WeakEngine, reply_to: ReplyHandle) -> Self {
        Self { engine, reply_to }
    }

    fn answer(self, reply: Reply) {
        self.engine.respond(self.reply_to, Ok(reply));
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
            for (pending, changed) in requests.into_iter().filter_map(|request| request.answer) {
                pending.answer(Reply::ModeChanged(ModeChanged {
                    warning: warning.clone(),
                    ..changed
                }));
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
