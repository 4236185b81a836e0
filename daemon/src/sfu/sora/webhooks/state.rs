//! State that Sora's webhooks share: the application's own webhooks, to which they are forwarded, and the auth webhooks in progress.

use std::sync::Arc;

use hyper::StatusCode;
use soramode_protocol::http_client::Outgoing;

use super::pending_auth::PendingAuths;
use super::read::Unreadable;
use super::upstreams::UpstreamClients;
use crate::config::SoraConfig;
use crate::health::Health;
use crate::http::response::{HttpResponse, error_because};
use crate::metrics::{Metrics, WebhookOutcome};
use crate::rate_limit::log_limited;

/// State that Sora's webhooks share.
#[derive(Debug)]
pub(crate) struct SoraWebhooks {
    pub(super) upstreams: Arc<UpstreamClients>,
    pub(super) pending_auths: PendingAuths,
}

impl SoraWebhooks {
    pub(crate) fn new(
        config: &SoraConfig,
        outgoing: Outgoing,
        health: &Arc<Health>,
    ) -> Result<Self, reqwest::Error> {
        let upstreams = Arc::new(UpstreamClients::new(config, outgoing, health)?);
        Ok(Self {
            upstreams,
            pending_auths: PendingAuths::default(),
        })
    }

    pub(crate) fn upstream_clients(&self) -> Arc<UpstreamClients> {
        Arc::clone(&self.upstreams)
    }

    /// Counts, logs and refuses a webhook that cannot be read.
    pub(super) fn refuse_unreadable(
        metrics: &Metrics,
        kind: &'static str,
        problem: &Unreadable,
    ) -> HttpResponse {
        metrics.webhook(kind, WebhookOutcome::Unreadable);
        log_limited!(warn, kind, %problem, "cannot read a webhook; rejected");
        error_because(
            StatusCode::BAD_REQUEST,
            "InvalidWebhook",
            problem.to_string(),
        )
    }
}
