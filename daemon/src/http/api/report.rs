//! `GetStatsReport` without a Sora: soramode's own counters, under Sora's names. Values that only a
//! Sora knows are omitted, so that no viewer takes them for zero.

use serde::Serialize;
use soramode_protocol::event::EventType;
use soramode_protocol::node::Status;

use crate::http::state::HttpState;
use crate::metrics::WebhookOutcome;

/// The counts since the daemon's start.
#[derive(Debug, Serialize)]
pub(super) struct StatsReport {
    total_connection_created: u64,
    total_connection_destroyed: u64,
    /// Each connection that was created is one that was seen connected.
    total_successful_connections: u64,
    total_ongoing_connections: u64,
    total_session_created: u64,
    total_session_destroyed: u64,
    /// Present if a Sora sends its webhooks here.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    auth_webhooks: Option<AuthWebhooks>,
}

#[derive(Debug, Serialize)]
struct AuthWebhooks {
    total_auth_webhook_allowed: u64,
    total_auth_webhook_denied: u64,
}

impl StatsReport {
    pub(super) fn of(state: &HttpState, status: &Status) -> Self {
        let events = |event_type| state.metrics.events(event_type);
        let auth = |outcome| state.metrics.webhooks("auth", outcome);
        let auth_webhooks = state.config.sora.listen.map(|_| AuthWebhooks {
            total_auth_webhook_allowed: auth(WebhookOutcome::Taken),
            total_auth_webhook_denied: auth(WebhookOutcome::Rejected)
                + auth(WebhookOutcome::Denied)
                + auth(WebhookOutcome::UpstreamFailed),
        });
        Self {
            total_connection_created: events(EventType::ConnectionCreated),
            total_connection_destroyed: events(EventType::ConnectionDestroyed),
            total_successful_connections: events(EventType::ConnectionCreated),
            total_ongoing_connections: status.connections.saturating_sub(status.pending),
            total_session_created: events(EventType::SessionCreated),
            total_session_destroyed: events(EventType::SessionDestroyed),
            auth_webhooks,
        }
    }
}
