//! The way to the receivers of events: one task for each, so that none waits for another.

use std::time::Duration;

use soramode_core::effect::Attempt;
use soramode_core::input::Tried;
use soramode_core::snapshot::Webhook as WebhookSettings;
use soramode_protocol::certificates::Authorities;
use soramode_protocol::http_client::{self, Outgoing};
use soramode_protocol::webhook::{self, Answered, Sender};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::args::http::HttpUrl;
use crate::clock;
use crate::config::WebhookConfig;
use crate::inbox::{Inbox, Letter};

/// What the driver says to a receiver's task.
#[derive(Debug)]
pub(crate) enum Errand {
    /// Send this.
    Send(Box<Attempt>),
    /// Send in this way from now on.
    Renew(Box<Manner>),
    /// The outcome of what was sent last has been taken in; if more is to be sent now, that was said before.
    Settled,
}

/// How a receiver is spoken to.
#[derive(Debug)]
pub(crate) struct Manner {
    sender: Sender,
    label: String,
}

impl Manner {
    fn of(url: &HttpUrl, config: &WebhookConfig, outgoing: &Outgoing) -> Result<Self, reqwest::Error> {
        let sender = Sender::new(url.0.clone(), config.secrets.clone(), outgoing)?;
        Ok(Self { sender, label: config.label.clone() })
    }
}

/// The driver's end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Webhooks(Vec<mpsc::UnboundedSender<Errand>>);

impl Webhooks {
    /// Whoever is gone by now, because the daemon stops, is told at the next start.
    pub(crate) fn say(&self, place: usize, errand: Errand) {
        if let Some(way) = self.0.get(place) {
            way.send(errand).unwrap_or_default();
        }
    }
}

/// Every receiver that there has been since the start, each in a place of its own: one that is told of nothing any more keeps its place,
/// and has it again if it comes back.
#[derive(Debug)]
pub(crate) struct Receivers {
    urls: Vec<HttpUrl>,
    ways: Webhooks,
    outgoing: Outgoing,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Receivers {
    /// Those that the configuration names. Each walks its way until the daemon stops. Needs a tokio runtime.
    pub(crate) fn new(
        config: &WebhookConfig,
        outgoing: Outgoing,
        (inbox, stop): (&Inbox, CancellationToken),
    ) -> Result<Self, reqwest::Error> {
        let authorities = outgoing.authorities.clone();
        let mut receivers = Self { urls: Vec::new(), ways: Webhooks::default(), outgoing, tasks: TaskTracker::new(), stop };
        receivers.renew(config, authorities, inbox)?;
        Ok(receivers)
    }

    /// The driver's end.
    pub(crate) fn ways(&self) -> Webhooks {
        self.ways.clone()
    }

    /// The configuration names others, or says how to speak to them. All or none is taken.
    pub(crate) fn renew(&mut self, config: &WebhookConfig, authorities: Authorities, inbox: &Inbox) -> Result<Webhooks, reqwest::Error> {
        self.outgoing.authorities = authorities;
        let outgoing = &self.outgoing;
        let manners: Result<Vec<_>, _> = config.urls.iter().map(|url| Ok((url, Manner::of(url, config, outgoing)?))).collect();
        for (url, manner) in manners? {
            match self.urls.iter().position(|known| known == url) {
                Some(place) => self.ways.say(place, Errand::Renew(Box::new(manner))),
                None => self.add(url, manner, (config.shutdown_grace, inbox)),
            }
        }
        Ok(self.ways())
    }

    /// What the gate must know of each place.
    pub(crate) fn settings(&self, config: &WebhookConfig) -> Vec<WebhookSettings> {
        let setting = |url: &HttpUrl| WebhookSettings {
            url: url.0.to_string(),
            endpoint: http_client::endpoint(&url.0),
            types: if config.urls.contains(url) { config.types.clone() } else { Vec::new() },
        };
        self.urls.iter().map(setting).collect()
    }

    fn add(&mut self, url: &HttpUrl, manner: Manner, surroundings: (Duration, &Inbox)) {
        let (grace, inbox) = surroundings;
        let place = self.urls.len();
        // It holds one attempt and what follows from it: the gate gives the next one when it has heard of the last.
        let (way, errands) = mpsc::unbounded_channel();
        self.urls.push(url.clone());
        self.ways.0.push(way);
        let receiver = Receiver { place, manner, grace, errands, inbox: inbox.clone() };
        self.tasks.spawn(receiver.run(self.stop.clone()));
    }
}

/// A receiver's task.
#[derive(Debug)]
struct Receiver {
    place: usize,
    manner: Manner,
    /// How long it goes on when the daemon stops.
    grace: Duration,
    errands: mpsc::UnboundedReceiver<Errand>,
    inbox: Inbox,
}

impl Receiver {
    /// Sends until the daemon stops, and then what can be sent in the grace time.
    async fn run(mut self, stop: CancellationToken) {
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
                Some(Errand::Renew(manner)) => {
                    self.manner = *manner;
                    continue;
                }
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
            let (endpoint, attempt, seq) = (self.manner.sender.endpoint(), attempt.attempt, attempt.event.seq);
            tracing::debug!(endpoint, seq, attempt, problem, "a webhook was not delivered");
        }
        tried
    }

    async fn try_send(&self, attempt: &Attempt) -> Result<Answered, String> {
        let body = webhook::body(&attempt.event, &self.manner.label, attempt.generation).map_err(|error| error.to_string())?;
        self.manner.sender.send(&attempt.event.id.to_string(), clock::now().wall, body).await
    }
}
