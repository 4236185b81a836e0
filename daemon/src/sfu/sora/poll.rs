//! Asks Sora's API for its connections whenever the gate wants to know.

use std::sync::Arc;

use soramode_core::input::{Input, PolledConnection, SoraInput};
use soramode_protocol::sora::SoraConnection;
use soramode_protocol::sora_api::{SoraApi, SoraApiError};
use soramode_protocol::time::Time;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::engine::Engine;
use crate::health::{Health, SORA_API};
use crate::metrics::Metrics;
use crate::rate_limit::log_limited;

/// Polls Sora's API for the gate.
#[derive(Debug)]
pub(crate) struct Poller {
    pub(crate) api: SoraApi,
    pub(crate) engine: Engine,
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Arc<Metrics>,
    /// Notified when the gate requests a list.
    pub(crate) wanted: Arc<Notify>,
}

impl Poller {
    /// Polls one after the other until the daemon stops.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = self.wanted.notified() => {}
                () = stop.cancelled() => return,
            }
            let began = clock::now().boot;
            let polled = tokio::select! {
                polled = self.api.list_connections() => polled,
                () = stop.cancelled() => return,
            };
            let input = self.take(began, polled);
            // After the stop nothing waits for it.
            self.engine.apply(Input::Sora(input)).unwrap_or_default();
        }
    }

    fn take(
        &self,
        began: std::time::Duration,
        polled: Result<Vec<SoraConnection>, SoraApiError>,
    ) -> SoraInput {
        self.health.note(
            SORA_API,
            polled.as_ref().map(|_| ()).map_err(ToString::to_string),
        );
        self.metrics.poll(polled.is_ok().then(|| clock::now().wall));
        match polled {
            Ok(connections) => SoraInput::Polled {
                began,
                connections: connections.into_iter().map(polled_connection).collect(),
            },
            Err(error) => {
                let why = error.to_string();
                log_limited!(warn, url = %self.api.url(), why, "cannot poll Sora's connections; retrying");
                SoraInput::PollFailed { why }
            }
        }
    }
}

fn polled_connection(connection: SoraConnection) -> PolledConnection {
    let SoraConnection {
        channel_id,
        session_id,
        client_id,
        connection_id,
        created_time,
        created_timestamp,
    } = connection;
    let created_at = created_timestamp.or(created_time.map(Time::from_micros));
    PolledConnection {
        channel_id,
        session_id,
        connection_id,
        client_id,
        created_at,
    }
}
