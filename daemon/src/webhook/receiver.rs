//! Task of one receiver of events.

use std::sync::Arc;
use std::time::Duration;

use soramode_core::effect::Attempt;
use soramode_core::handles::ReceiverIndex;
use soramode_core::input::AttemptResult;
use soramode_protocol::webhook::WebhookResponse;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::senders::{ReceiverCommand, SendOptions};
use crate::clock;
use crate::engine::Engine;
use crate::health::Health;

/// Task of a receiver.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) index: ReceiverIndex,
    pub(super) options: SendOptions,
    /// Time to keep sending on shutdown.
    pub(super) grace: Duration,
    pub(super) commands: mpsc::UnboundedReceiver<ReceiverCommand>,
    pub(super) health: Arc<Health>,
    pub(super) failure_log: FailureLog,
}

impl Receiver {
    /// Sends until the daemon stops, and then for the grace time.
    pub(super) async fn run(mut self, engine: Engine, stop: CancellationToken) {
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

/// The shortest time between two log lines on a receiver that fails and succeeds by turns.
const FIRST_FAILURE_PAUSE: Duration = Duration::from_mins(1);

/// Minimum time between two log lines about a receiver that keeps failing.
const FAILURE_PAUSE: Duration = Duration::from_hours(1);

/// A receiver's failures, as far as the log is concerned: the first is logged, and then one an hour.
#[derive(Debug, Default)]
pub(super) struct FailureLog {
    /// Tries since the last that succeeded.
    failed: u64,
    /// Set once one of these was logged.
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
