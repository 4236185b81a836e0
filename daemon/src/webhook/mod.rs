//! The way to the receivers of events: one task for each, so that none waits for another.

mod receiver;
pub(crate) mod senders;

use std::sync::Arc;
use std::time::Duration;

use soramode_core::handles::ReceiverIndex;
use soramode_core::settings::EventReceiver;
use soramode_protocol::certificates::Authorities;
use soramode_protocol::http_client::kept::UnusableClient;
use soramode_protocol::http_client::{self, Outgoing};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::args::http::HttpUrl;
use crate::config::WebhookConfig;
use crate::engine::Engine;
use crate::health::Health;
use receiver::{FailureLog, Receiver};
use senders::{ReceiverCommand, ReceiverSenders, SendOptions};

/// All receivers since the start, each with a fixed index: a removed one keeps its index, and gets
/// it back if it returns.
#[derive(Debug)]
pub(crate) struct Receivers {
    urls: Vec<HttpUrl>,
    senders: ReceiverSenders,
    outgoing: Outgoing,
    health: Arc<Health>,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Set at the start. Earlier receivers wait for it.
    engine: Option<Engine>,
    unstarted: Vec<Receiver>,
}

impl Receivers {
    /// Creates the receivers that the configuration names.
    pub(crate) fn new(
        config: &WebhookConfig,
        outgoing: Outgoing,
        health: Arc<Health>,
        stop: CancellationToken,
    ) -> Result<Self, UnusableClient> {
        let authorities = outgoing.authorities.clone();
        let mut receivers = Self {
            urls: Vec::new(),
            senders: ReceiverSenders::default(),
            outgoing,
            health,
            stop,
            tasks: TaskTracker::new(),
            engine: None,
            unstarted: Vec::new(),
        };
        receivers.reload(config, authorities)?;
        Ok(receivers)
    }

    /// Starts their tasks, each until the daemon stops. Needs a tokio runtime.
    pub(crate) fn start(&mut self, engine: Engine) {
        for receiver in std::mem::take(&mut self.unstarted) {
            self.tasks
                .spawn(receiver.run(engine.clone(), self.stop.clone()));
        }
        self.engine = Some(engine);
    }

    /// Returns the tasks of the receivers.
    pub(crate) const fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Senders to their tasks.
    pub(crate) fn senders(&self) -> ReceiverSenders {
        self.senders.clone()
    }

    /// Applies another configuration: all of it or nothing.
    pub(crate) fn reload(
        &mut self,
        config: &WebhookConfig,
        authorities: Authorities,
    ) -> Result<ReceiverSenders, UnusableClient> {
        self.outgoing.authorities = authorities;
        let outgoing = &self.outgoing;
        let options: Result<Vec<_>, _> = config
            .receivers
            .iter()
            .map(|it| Ok((&it.url, SendOptions::of(it, config, outgoing)?)))
            .collect();
        for (url, options) in options? {
            match self.urls.iter().position(|known| known == url) {
                Some(index) => self.senders.send(
                    ReceiverIndex(index),
                    ReceiverCommand::Reload(Box::new(options)),
                ),
                None => self.add(url, options, config.shutdown_grace),
            }
        }
        let endpoint = |url: &HttpUrl| {
            config
                .receiver(url)
                .map(|receiver| http_client::endpoint(&receiver.url.0))
        };
        self.health.set_receivers(self.urls.iter().map(endpoint));
        Ok(self.senders())
    }

    /// Returns the settings of each index for the gate.
    pub(crate) fn settings(&self, config: &WebhookConfig) -> Vec<EventReceiver> {
        let setting = |url: &HttpUrl| EventReceiver {
            url: url.0.to_string(),
            endpoint: http_client::endpoint(&url.0),
            types: config
                .receiver(url)
                .map(|receiver| config.types_of(receiver))
                .unwrap_or_default(),
        };
        self.urls.iter().map(setting).collect()
    }

    fn add(&mut self, url: &HttpUrl, options: SendOptions, grace: Duration) {
        let index = ReceiverIndex(self.urls.len());
        // Holds one attempt and its follow-up: the gate sends the next one after the outcome of the
        // last.
        let (sender, commands) = mpsc::unbounded_channel();
        self.urls.push(url.clone());
        self.senders.0.push(sender);
        let receiver = Receiver {
            index,
            options,
            grace,
            commands,
            health: Arc::clone(&self.health),
            failure_log: FailureLog::default(),
        };
        match &self.engine {
            Some(engine) => drop(
                self.tasks
                    .spawn(receiver.run(engine.clone(), self.stop.clone())),
            ),
            None => self.unstarted.push(receiver),
        }
    }
}
