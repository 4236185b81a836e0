//! A real Sora's webhooks: `POST /sora/auth`, `/sora/session`, `/sora/event`. soramode receives them in place of the application, and
//! forwards them to it.

mod auth;
mod pending_auth;
pub mod read;
mod report;
mod state;
mod upstream;
mod upstreams;

use hyper::header::{ALLOW, HeaderValue, ORIGIN};
use hyper::{Method, Request, StatusCode};
use soramode_protocol::event::WebhookSource;

pub(crate) use state::SoraWebhooks;
pub use upstream::UPSTREAM_BYTES_MAX;
pub(crate) use upstreams::UpstreamClients;

use crate::http::body::RequestBody;
use crate::http::listen::Caller;
use crate::http::response::{HttpResponse, error};
use crate::http::state::HttpState;
use crate::metrics::WebhookOutcome;
use crate::rate_limit::log_limited;

/// The largest webhook, in bytes: `session.destroyed` lists every connection that there was.
pub const WEBHOOK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Kind of webhook of a path.
#[derive(Clone, Copy)]
enum Kind {
    Auth,
    Report(WebhookSource),
}

impl Kind {
    /// Returns the kind of webhook of a path, and the token that the path ends in; `None` if it is the path of none.
    fn of(path: &str) -> Option<(Self, Option<&str>)> {
        let rest = path.strip_prefix("/sora/")?;
        let (word, token) = rest
            .split_once('/')
            .map_or((rest, None), |(word, token)| (word, Some(token)));
        let kind = match word {
            "auth" => Self::Auth,
            "session" => Self::Report(WebhookSource::Session),
            "event" => Self::Report(WebhookSource::Event),
            _ => return None,
        };
        Some((kind, token))
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Report(source) => source.name(),
        }
    }
}

/// Answers a request under `/sora/`: checks that it is from Sora, and reads it.
pub(crate) async fn answer(
    state: &HttpState,
    caller: &Caller,
    request: Request<RequestBody>,
) -> HttpResponse {
    let Some((kind, token)) = Kind::of(request.uri().path()) else {
        return error(StatusCode::NOT_FOUND, "NotFound");
    };
    // A page in a browser on this machine comes from the loopback too, but cannot hide its origin.
    if !is_peer(state, caller) || request.headers().contains_key(ORIGIN) {
        state
            .metrics
            .webhook(kind.name(), WebhookOutcome::Forbidden);
        log_limited!(warn, peer = ?caller.ip, "rejected a webhook from an unexpected address or from a browser. If it is Sora's, set --sora-peer");
        return error(StatusCode::FORBIDDEN, "Forbidden");
    }
    let is_token_valid = match (&state.config.sora.tokens, token) {
        (Some(tokens), token) => token.is_some_and(|token| tokens.find(token.as_bytes()).is_some()),
        (None, Some(_)) => return error(StatusCode::NOT_FOUND, "NotFound"),
        (None, None) => true,
    };
    if !is_token_valid {
        state
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
    state.engine.not_crowded().await;
    let body = match body.read(WEBHOOK_BYTES_MAX).await {
        Ok(body) => body,
        Err(problem) => {
            state
                .metrics
                .webhook(kind.name(), WebhookOutcome::Unreadable);
            return problem.answer();
        }
    };
    match kind {
        Kind::Auth => auth::answer(state, &state.webhooks, (head.headers, body)).await,
        Kind::Report(source) => {
            report::answer(state, &state.webhooks, source, (head.headers, body)).await
        }
    }
}

/// Returns whether the client is on this machine, or at an address of Sora's.
fn is_peer(state: &HttpState, caller: &Caller) -> bool {
    let is_listed = |ip| {
        state
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
