//! The way to the receivers of events: one task for each, so that none waits for another.

use std::sync::Arc;
use std::time::Duration;

use soramode_core::effect::Attempt;
use soramode_core::handles::ReceiverIndex;
use soramode_core::input::AttemptResult;
use soramode_core::settings::Webhook as WebhookSettings;
use soramode_protocol::certificates::Authorities;
use soramode_protocol::chat::WebhookFormat;
use soramode_protocol::http_client::kept::UnusableClient;
use soramode_protocol::http_client::{self, Outgoing, Url};
use soramode_protocol::webhook::{Sender, WebhookResponse};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::args::http::HttpUrl;
use crate::clock;
use crate::config::{WebhookConfig, WebhookReceiver};
use crate::engine::Engine;
use crate::health::Health;

/// A command to a receiver's task.
#[derive(Debug)]
pub(crate) enum ReceiverCommand {
    /// Sends this attempt.
    Send(Box<Attempt>),
    /// Send in this way from now on.
    Reload(Box<SendOptions>),
    /// The outcome of the last attempt was applied; a follow-up attempt was sent before this.
    OutcomeApplied,
}

/// Options of sending to a receiver.
#[derive(Debug)]
pub(crate) struct SendOptions {
    sender: Sender,
    format: WebhookFormat,
    label: String,
    page_url: Option<Url>,
}

impl SendOptions {
    fn of(
        receiver: &WebhookReceiver,
        config: &WebhookConfig,
        outgoing: &Outgoing,
    ) -> Result<Self, UnusableClient> {
        let sender = Sender::new(receiver.url.0.clone(), config.secrets.clone(), outgoing)?;
        Ok(Self {
            sender,
            format: receiver.format,
            label: config.label.clone(),
            page_url: config.page_url.clone().map(|HttpUrl(url)| url),
        })
    }
}

/// Senders to the receivers' tasks, each in its place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Webhooks(Vec<mpsc::UnboundedSender<ReceiverCommand>>);

impl Webhooks {
    /// Sends a command. A receiver that ended with the daemon gets its deliveries at the next
    /// start.
    pub(crate) fn send(&self, index: ReceiverIndex, command: ReceiverCommand) {
        if let Some(sender) = self.0.get(index.0) {
            sender.send(command).unwrap_or_default();
        }
    }
}

/// All receivers since the start, each with a fixed index: a removed one keeps its index, and gets
/// it back if it returns.
#[derive(Debug)]
pub(crate) struct Receivers {
    urls: Vec<HttpUrl>,
    senders: Webhooks,
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
            senders: Webhooks::default(),
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
    pub(crate) fn senders(&self) -> Webhooks {
        self.senders.clone()
    }

    /// Applies another configuration: all of it or nothing.
    pub(crate) fn reload(
        &mut self,
        config: &WebhookConfig,
        authorities: Authorities,
    ) -> Result<Webhooks, UnusableClient> {
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
    pub(crate) fn settings(&self, config: &WebhookConfig) -> Vec<WebhookSettings> {
        let setting = |url: &HttpUrl| WebhookSettings {
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

/// The shortest time between two log lines on a receiver that fails and succeeds by turns.
const FIRST_FAILURE_PAUSE: Duration = Duration::from_mins(1);

/// Minimum time between two log lines about a receiver that keeps failing.
const FAILURE_PAUSE: Duration = Duration::from_hours(1);

/// A receiver's failures, as far as the log is concerned: the first is logged, and then one an hour.
#[derive(Debug, Default)]
struct FailureLog {
    /// Tries since the last that succeeded.
    failed: u64,
    /// Returns whether one of these was logged.
    is_logged: bool,
    last_logged: Option<Instant>,
}

impl FailureLog {
    /// Notes how a try ended; returns the number of failed tries if there is something to log.
    fn note(&mut self, problem: Option<&str>, now: Instant) -> Option<u64> {
        if problem.is_none() {
            let failed = std::mem::take(&mut self.failed);
            return std::mem::take(&mut self.is_logged).then_some(failed);
        }
        self.failed += 1;
        let pause = if self.is_logged {
            FAILURE_PAUSE
        } else {
            FIRST_FAILURE_PAUSE
        };
        if self
            .last_logged
            .is_some_and(|logged| now.duration_since(logged) < pause)
        {
            return None;
        }
        (self.is_logged, self.last_logged) = (true, Some(now));
        Some(self.failed)
    }
}

/// Task of a receiver.
#[derive(Debug)]
struct Receiver {
    index: ReceiverIndex,
    options: SendOptions,
    /// Time to keep sending on shutdown.
    grace: Duration,
    commands: mpsc::UnboundedReceiver<ReceiverCommand>,
    health: Arc<Health>,
    failure_log: FailureLog,
}

impl Receiver {
    /// Sends until the daemon stops, and then for the grace time.
    async fn run(mut self, engine: Engine, stop: CancellationToken) {
        let grace = self.grace;
        let mut grace_over = std::pin::pin!(async {
            stop.cancelled().await;
            tokio::time::sleep(grace).await;
        });
        // `true` while the outcome of the last attempt is not applied.
        let mut awaits_outcome = false;
        loop {
            let command = tokio::select! {
                biased;
                command = self.commands.recv() => command,
                () = stop.cancelled(), if !awaits_outcome => return,
                () = &mut grace_over => return,
            };
            let (id, result) = match command {
                None => return,
                Some(ReceiverCommand::Reload(options)) => {
                    self.options = *options;
                    continue;
                }
                Some(ReceiverCommand::OutcomeApplied) => {
                    awaits_outcome = false;
                    continue;
                }
                Some(ReceiverCommand::Send(attempt)) => tokio::select! {
                    result = self.send(&attempt) => (attempt.id, result),
                    () = &mut grace_over => return,
                },
            };
            awaits_outcome = true;
            if engine.apply_delivery(self.index, id, result).is_err() {
                return;
            }
        }
    }

    async fn send(&mut self, attempt: &Attempt) -> AttemptResult {
        let result = match self.try_send(attempt).await {
            Ok(answered) => AttemptResult {
                status: Some(answered.status.as_u16()),
                retry_after: answered.retry_after,
                problem: answered.problem(),
            },
            Err(problem) => AttemptResult {
                status: None,
                retry_after: None,
                problem: Some(problem),
            },
        };
        self.health
            .note_receiver(self.index.0, result.problem.clone().map_or(Ok(()), Err));
        let endpoint = self.options.sender.endpoint();
        match (
            self.failure_log
                .note(result.problem.as_deref(), Instant::now()),
            &result.problem,
        ) {
            (Some(failed), Some(problem)) => {
                let (delivery, attempt) = (attempt.id.0, attempt.attempt);
                tracing::warn!(
                    endpoint,
                    delivery,
                    attempt,
                    failed,
                    problem,
                    "a webhook receiver failed; its deliveries will be retried"
                );
            }
            (Some(failed), None) => tracing::info!(
                endpoint,
                failed,
                "a webhook receiver accepts deliveries again"
            ),
            (None, _) => {}
        }
        result
    }

    async fn try_send(&self, attempt: &Attempt) -> Result<WebhookResponse, String> {
        let SendOptions {
            sender,
            format,
            label,
            page_url,
        } = &self.options;
        let stated = (label.as_str(), attempt.generation);
        let body = format
            .body(&attempt.event, stated, page_url.as_ref())
            .map_err(|error| error.to_string())?;
        sender
            .send(&attempt.event.id.to_string(), clock::now().wall, body)
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_fails_is_logged_at_first_and_then_seldom() {
        let (mut failure_log, mut now) = (FailureLog::default(), Instant::now());
        let mut logged = Vec::new();
        for (seconds, is_delivered) in [
            (0, true),
            (1, false),
            (5, false),
            (3_500, false),
            (100, false),
            (1, true),
            (1, false),
            (60, false),
            (1, true),
        ] {
            now += Duration::from_secs(seconds);
            logged.push(failure_log.note((!is_delivered).then_some("500"), now));
        }
        assert_eq!(
            logged,
            [
                None,
                Some(1),
                None,
                None,
                Some(4),
                Some(4),
                None,
                Some(2),
                Some(2)
            ]
        );
    }
}
