//! Tells a Sora of each change of the mode, and asks it for its own (`--sora-mode mirror`).
//!
//! A change of ours is done before that Sora hears of it, and stays done whatever it says.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use soramode_protocol::mode::{Mode, ModeChanged, ModeState, SettableMode};
use soramode_protocol::node::Status;
use soramode_protocol::reply::Reply;
use soramode_protocol::sora_api::{SoraApi, SoraApiError};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::inbox::{Mail, Mailbox};

/// How long Sora may take: whoever changes the mode waits for it.
const MIRROR_TIME: Duration = Duration::from_secs(4);

/// After a failure Sora is told again so often.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// The way to the Sora.
#[derive(Clone, Debug)]
pub(crate) struct Mirror {
    api: SoraApi,
    orders: mpsc::UnboundedSender<Order>,
    warning: Arc<Mutex<Option<String>>>,
}

/// Where an answer goes that is still to be given.
#[derive(Debug)]
pub(crate) struct Owed {
    pub(crate) mailbox: Mailbox,
    pub(crate) serial: u64,
}

/// What Sora is to be told.
#[derive(Debug)]
struct Order {
    mode: SettableMode,
    answer: Option<(Owed, ModeChanged)>,
}

/// The orders, for [`Mirroring::run`].
#[derive(Debug)]
pub(crate) struct Mirroring {
    api: SoraApi,
    orders: mpsc::UnboundedReceiver<Order>,
    warning: Arc<Mutex<Option<String>>>,
}

impl Mirror {
    /// To this Sora.
    pub(crate) fn new(api: SoraApi) -> (Self, Mirroring) {
        let (orders, receiver) = mpsc::unbounded_channel();
        let warning = Arc::default();
        let mirroring = Mirroring {
            api: api.clone(),
            orders: receiver,
            warning: Arc::clone(&warning),
        };
        (
            Self {
                api,
                orders,
                warning,
            },
            mirroring,
        )
    }

    /// The mode changed by itself. Nobody can set `initial` on a Sora.
    pub(crate) fn tell(&self, mode: Mode) {
        if let Ok(mode) = SettableMode::try_from(mode) {
            self.order(Order { mode, answer: None });
        }
    }

    /// Somebody asked for a mode: the answer goes out when Sora has heard of it, or did not want to.
    pub(crate) fn answer_change(&self, owed: Owed, changed: ModeChanged) {
        match SettableMode::try_from(changed.mode) {
            Ok(mode) => self.order(Order {
                mode,
                answer: Some((owed, changed)),
            }),
            Err(_) => owed.answer(Reply::ModeChanged(changed)),
        }
    }

    fn order(&self, order: Order) {
        // Whoever would have told Sora is gone with the daemon.
        if let Err(mpsc::error::SendError(Order {
            answer: Some((owed, changed)),
            ..
        })) = self.orders.send(order)
        {
            owed.answer(Reply::ModeChanged(changed));
        }
    }

    /// Answers with Sora's mode where that is the stricter, and with ours where it does not say.
    pub(crate) async fn answer_mode(self, owed: Owed, mut state: ModeState) {
        if let Ok(theirs) = in_time(self.api.get_mode()).await
            && theirs > state.mode
        {
            state.own_mode = Some(state.mode);
            state.mode = theirs;
        }
        owed.answer(Reply::Mode(Box::new(state)));
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

impl Owed {
    fn answer(self, reply: Reply) {
        // Whoever is gone by now needs no answer.
        self.mailbox.take(Mail::Answer(self.serial, Ok(reply)));
    }
}

/// Mirrors where that is asked for.
pub(crate) async fn run(mirroring: Option<Mirroring>, stop: CancellationToken) {
    if let Some(mirroring) = mirroring {
        mirroring.run(stop).await;
    }
}

impl Mirroring {
    /// Tells Sora of one change after the other until the daemon stops. Of changes that wait together only the last counts.
    async fn run(mut self, stop: CancellationToken) {
        let mut untold = None;
        while !self.orders.is_closed() {
            let mut orders = Vec::new();
            tokio::select! {
                taken = self.orders.recv_many(&mut orders, usize::MAX) => if taken == 0 { return },
                () = tokio::time::sleep(RETRY_PAUSE), if untold.is_some() => {}
                () = stop.cancelled() => {
                    self.close(&mut orders);
                    untold = None;
                }
            }
            let Some(mode) = orders.last().map(|order| order.mode).or(untold) else {
                continue;
            };
            let told = tokio::select! {
                biased;
                () = stop.cancelled() => Err(SoraApiError::Unreachable("soramoded is stopping".to_owned())),
                told = in_time(self.api.change_mode(mode)) => told,
            };
            untold = told.is_err().then_some(mode);
            let warning = told.err().map(|error| {
                format!(
                    "cannot set the mode of Sora ({}) to {}: {error}",
                    self.api.url(),
                    Mode::from(mode)
                )
            });
            self.warn(warning.clone());
            for (owed, changed) in orders.into_iter().filter_map(|order| order.answer) {
                owed.answer(Reply::ModeChanged(ModeChanged {
                    warning: warning.clone(),
                    ..changed
                }));
            }
        }
    }

    /// Takes no more orders: whoever comes now is answered by itself.
    fn close(&mut self, orders: &mut Vec<Order>) {
        self.orders.close();
        orders.extend(std::iter::from_fn(|| self.orders.try_recv().ok()));
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

async fn in_time<T>(
    asked: impl Future<Output = Result<T, SoraApiError>>,
) -> Result<T, SoraApiError> {
    timeout(MIRROR_TIME, asked)
        .await
        .unwrap_or(Err(SoraApiError::TimedOut))
}
