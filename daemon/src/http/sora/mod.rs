//! A real Sora's webhooks: `POST /sora/auth`, `/sora/session`, `/sora/event`. soramode stands in front of the application's own.

mod applications;
mod auth;
mod guests;
mod poll;
mod told;
mod upstream;
pub mod webhook;

use std::sync::Arc;

use hyper::header::{ALLOW, HeaderValue, ORIGIN};
use hyper::{Method, Request, StatusCode};
use soramode_protocol::event::WebhookSource;
use soramode_protocol::http_client::Outgoing;

pub(crate) use applications::Applications;
pub use upstream::UPSTREAM_BYTES_MAX;

use super::House;
use super::answer::{Answered, error, error_because};
use super::body::RequestBody;
use super::listen::Caller;
use crate::config::SoraConfig;
use crate::health::Health;
use crate::metrics::WebhookOutcome;
use crate::rate_limit::log_limited;
use guests::Guests;
pub(crate) use poll::Poller;
use webhook::Unreadable;

/// The largest webhook, in bytes: `session.destroyed` lists every connection that there was.
pub const WEBHOOK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What the webhooks' doors share.
#[derive(Debug)]
pub(crate) struct Sora {
    applications: Arc<Applications>,
    guests: Guests,
}

impl Sora {
    pub(crate) fn new(
        config: &SoraConfig,
        outgoing: Outgoing,
        health: &Arc<Health>,
    ) -> Result<Self, reqwest::Error> {
        let applications = Arc::new(Applications::new(config, outgoing, health)?);
        Ok(Self {
            applications,
            guests: Guests::default(),
        })
    }

    pub(crate) fn applications(&self) -> Arc<Applications> {
        Arc::clone(&self.applications)
    }

    fn unreadable(house: &House, kind: &'static str, problem: &Unreadable) -> Answered {
        house.metrics.webhook(kind, WebhookOutcome::Unreadable);
        log_limited!(warn, kind, %problem, "cannot read a webhook; rejected");
        error_because(
            StatusCode::BAD_REQUEST,
            "InvalidWebhook",
            problem.to_string(),
        )
    }
}

/// Which webhook a path is for.
#[derive(Clone, Copy)]
enum Kind {
    Auth,
    Told(WebhookSource),
}

impl Kind {
    /// The webhook, and the token that the path ends in.
    fn of(path: &str) -> Option<(Self, Option<&str>)> {
        let rest = path.strip_prefix("/sora/")?;
        let (word, token) = rest
            .split_once('/')
            .map_or((rest, None), |(word, token)| (word, Some(token)));
        let kind = match word {
            "auth" => Self::Auth,
            "session" => Self::Told(WebhookSource::Session),
            "event" => Self::Told(WebhookSource::Event),
            _ => return None,
        };
        Some((kind, token))
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Told(source) => source.name(),
        }
    }
}

pub(super) async fn answer(
    house: &House,
    caller: &Caller,
    request: Request<RequestBody>,
) -> Answered {
    let Some((kind, token)) = Kind::of(request.uri().path()) else {
        return error(StatusCode::NOT_FOUND, "NotFound");
    };
    // A page in somebody's browser is on the loopback too, but cannot hide where it comes from.
    if !is_peer(house, caller) || request.headers().contains_key(ORIGIN) {
        house
            .metrics
            .webhook(kind.name(), WebhookOutcome::Forbidden);
        log_limited!(warn, peer = ?caller.ip, "rejected a webhook from an unexpected address or from a browser. If it is Sora's, set --sora-peer");
        return error(StatusCode::FORBIDDEN, "Forbidden");
    }
    let is_token_right = match (&house.config.sora.tokens, token) {
        (Some(tokens), token) => token.is_some_and(|token| tokens.find(token.as_bytes()).is_some()),
        (None, Some(_)) => return error(StatusCode::NOT_FOUND, "NotFound"),
        (None, None) => true,
    };
    if !is_token_right {
        house
            .metrics
            .webhook(kind.name(), WebhookOutcome::Forbidden);
        log_limited!(warn, peer = ?caller.ip, "rejected a webhook without a token of --sora-token-file in its URL. Check the webhook URLs in sora.conf");
        return error(StatusCode::UNAUTHORIZED, "Unauthorized");
    }
    if request.method() != Method::POST {
        let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed");
        answer
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("POST"));
        return answer;
    }
    let (head, body) = request.into_parts();
    house.engine.room().await;
    let body = match body.read(WEBHOOK_BYTES_MAX).await {
        Ok(body) => body,
        Err(problem) => {
            house
                .metrics
                .webhook(kind.name(), WebhookOutcome::Unreadable);
            return problem.answer();
        }
    };
    match kind {
        Kind::Auth => auth::answer(house, &house.sora, (head.headers, body)).await,
        Kind::Told(source) => told::answer(house, &house.sora, source, (head.headers, body)).await,
    }
}

fn is_peer(house: &House, caller: &Caller) -> bool {
    let is_listed = |ip| {
        house
            .config
            .sora
            .peers
            .iter()
            .any(|peer| peer.to_canonical() == ip)
    };
    caller
        .ip
        .is_some_and(|ip| ip.is_loopback() || is_listed(ip))
}
