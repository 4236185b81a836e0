//! Tells a Sora of each change of the mode, and asks it for its own (`--sora-mode mirror`).
//!
//! A change of ours is done before that Sora hears of it, and stays done whatever it says.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use soramode_core::input::ReplyHandle;
use soramode_protocol::mode::{Mode, ModeChanged, ModeState, SettableMode};
use soramode_protocol::node::Status;
use soramode_protocol::reply::Reply;
use soramode_protocol::sora_api::{SoraApi, SoraApiError};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::engine::WeakEngine;

/// How long Sora may take: whoever changes the mode waits for it.
const MIRROR_TIMEOUT: Duration = Duration::from_secs(4);

/// After a failure Sora is told again so often.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// The way to the Sora.
#[derive(Clone, Debug)]
pub(crate) struct MirrorHandle {
    api: SoraApi,
    requests: mpsc::UnboundedSender<MirrorRequest>,
    warning: Arc<Mutex<Option<String>>>,
}

/// An answer that is given once Sora has answered.
#[derive(Debug)]
pub(crate) struct MirroredAnswer {
    engine: WeakEngine,
    reply_to: ReplyHandle,
}

/// What Sora is to be told.
#[derive(Debug)]
struct MirrorRequest {
    mode: SettableMode,
    answer: Option<(MirroredAnswer, ModeChanged)>,
}

/// The orders, for [`MirrorTask::run`].
#[derive(Debug)]
pub(crate) struct MirrorTask {
    api: SoraApi,
    requests: mpsc::UnboundedReceiver<MirrorRequest>,
    warning: Arc<Mutex<Option<String>>>,
}

impl MirrorHandle {
    /// To this Sora.
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

    /// The mode changed by itself. Nobody can set `initial` on a Sora.
    pub(crate) fn set_mode(&self, mode: Mode) {
        if let Ok(mode) = SettableMode::try_from(mode) {
            // If the daemon stops, Sora is told at the next start.
            self.requests
                .send(MirrorRequest { mode, answer: None })
                .unwrap_or_default();
        }
    }

    /// Sets the mode that was requested, and answers once Sora has. Returns the change where that is the answer by itself.
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

    /// Answers with Sora's mode where that is the stricter, and with ours where it does not say.
    pub(crate) async fn answer_mode(self, pending: MirroredAnswer, mut state: ModeState) {
        if let Ok(theirs) = with_timeout(self.api.get_mode()).await
            && theirs > state.mode
        {
            state.own_mode = Some(state.mode);
            state.mode = theirs;
        }
        pending.answer(Reply::Mode(Box::new(state)));
    }

    /// Says in a status what Sora was not told.
    pub(crate) fn complete(&self, status: &mut Status) {
        status.warnings.extend(
            self.warning
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        );
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

/// Mirrors where that is asked for.
pub(crate) async fn run(mirror_task: Option<MirrorTask>, stop: CancellationToken) {
    if let Some(mirror_task) = mirror_task {
        mirror_task.run(stop).await;
    }
}

impl MirrorTask {
    /// Tells Sora of one change after the other until the daemon stops. Of changes that wait together only the last counts.
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
                outcome = with_timeout(self.api.change_mode(mode)) => outcome,
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

    /// Takes no more orders: whoever comes now is answered by itself.
    fn close(&mut self, requests: &mut Vec<MirrorRequest>) {
        self.requests.close();
        requests.extend(std::iter::from_fn(|| self.requests.try_recv().ok()));
    }

    fn warn(&self, warning: Option<String>) {
        let before = std::mem::replace(
            &mut *self.warning.lock().unwrap_or_else(PoisonError::into_inner),
            warning.clone(),
        );
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
