//! The way to the receivers of events: one task for each, so that none waits for another.

use std::time::Duration;

use soramode_core::effect::Attempt;
use soramode_core::input::Tried;
use soramode_protocol::webhook::{self, Answered, Sender};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::config::WebhookConfig;
use crate::inbox::{Inbox, Letter};

/// What the driver says to a receiver's task.
#[derive(Debug)]
pub(crate) enum Errand {
    /// Send this.
    Send(Box<Attempt>),
    /// The outcome of what was sent last has been taken in; if more is to be sent now, that was said before.
    Settled,
}

/// The driver's end.
#[derive(Debug, Default)]
pub(crate) struct Webhooks(Vec<mpsc::UnboundedSender<Errand>>);

impl Webhooks {
    /// A way to each receiver, and what walks it.
    pub(crate) fn new(config: &WebhookConfig, inbox: &Inbox) -> Result<(Self, Vec<Receiver>), reqwest::Error> {
        let (mut ways, mut receivers) = (Vec::new(), Vec::new());
        for (place, url) in config.urls.iter().enumerate() {
            let sender = Sender::new(url.0.clone(), config.secrets.clone(), config.authorities.as_deref())?;
            // It holds one attempt and what follows from it: the gate gives the next one when it has heard of the last.
            let (way, errands) = mpsc::unbounded_channel();
            ways.push(way);
            let (label, grace) = (config.label.clone(), config.shutdown_grace);
            receivers.push(Receiver { place, sender, label, grace, errands, inbox: inbox.clone() });
        }
        Ok((Self(ways), receivers))
    }

    /// Whoever is gone by now, because the daemon stops, is told at the next start.
    pub(crate) fn say(&self, place: usize, errand: Errand) {
        if let Some(way) = self.0.get(place) {
            way.send(errand).unwrap_or_default();
        }
    }
}

/// Walks the ways to all receivers until the daemon stops.
pub(crate) async fn run(receivers: Vec<Receiver>, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    for receiver in receivers {
        tasks.spawn(receiver.run(stop.clone()));
    }
    tasks.close();
    tasks.wait().await;
}

/// A receiver's task.
#[derive(Debug)]
pub(crate) struct Receiver {
    place: usize,
    sender: Sender,
    label: String,
    /// How long it goes on when the daemon stops.
    grace: Duration,
    errands: mpsc::UnboundedReceiver<Errand>,
    inbox: Inbox,
}

impl Receiver {
    /// Sends until the daemon stops, and then what can be sent in the grace time.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let grace = self.grace;
        let mut over = std::pin::pin!(async {
            stop.cancelled().await;
            tokio::time::sleep(grace).await;
        });
        // Whether the gate is still to say what follows.
        let mut is_unsettled = false;
        loop {
            let errand = tokio::select! {
                biased;
                errand = self.errands.recv() => errand,
                () = stop.cancelled(), if !is_unsettled => return,
                () = &mut over => return,
            };
            let tried = match errand {
                None => return,
                Some(Errand::Settled) => {
                    is_unsettled = false;
                    continue;
                }
                Some(Errand::Send(attempt)) => tokio::select! {
                    tried = self.send(&attempt) => Letter::Tried { place: self.place, id: attempt.id, tried },
                    () = &mut over => return,
                },
            };
            is_unsettled = true;
            if self.inbox.send(tried).await.is_err() {
                return;
            }
        }
    }

    async fn send(&self, attempt: &Attempt) -> Tried {
        let tried = match self.try_send(attempt).await {
            Ok(answered) => {
                Tried { status: Some(answered.status.as_u16()), retry_after: answered.retry_after, problem: answered.problem() }
            }
            Err(problem) => Tried { status: None, retry_after: None, problem: Some(problem) },
        };
        if let Some(problem) = &tried.problem {
            let (endpoint, attempt, seq) = (self.sender.endpoint(), attempt.attempt, attempt.event.seq);
            tracing::debug!(endpoint, seq, attempt, problem, "a webhook was not delivered");
        }
        tried
    }

    async fn try_send(&self, attempt: &Attempt) -> Result<Answered, String> {
        let body = webhook::body(&attempt.event, &self.label, attempt.generation).map_err(|error| error.to_string())?;
        self.sender.send(&attempt.event.id.to_string(), clock::now().wall, body).await
    }
}
