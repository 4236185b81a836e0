//! `POST /sora/session` and `/sora/event`: the gate takes them in, then they are forwarded to the
//! application, and its answer is returned.

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};
use soramode_protocol::event::WebhookSource;

use super::read::read_report;
use super::state::SoraWebhooks;
use crate::clock;
use crate::engine::Refusal;
use crate::http::response::{HttpResponse, JSON, error, typed};
use crate::http::state::HttpState;
use crate::metrics::WebhookOutcome;
use crate::rate_limit::log_limited;

pub(super) async fn answer(
    state: &HttpState,
    webhooks: &SoraWebhooks,
    source: WebhookSource,
    request: (HeaderMap, Bytes),
) -> HttpResponse {
    let (headers, body) = request;
    let upstream = match source {
        WebhookSource::Session => webhooks.upstreams.session(),
        WebhookSource::Event => webhooks.upstreams.event(),
    };
    let outcome = match (read_report(source, &body, clock::now().wall), &upstream) {
        // No await between the body and this: Sora may close the connection, and its report is recorded
        // nevertheless.
        (Ok(input), _) => match state.engine.apply_sora(input) {
            Ok(()) => WebhookOutcome::Taken,
            Err(Refusal::Stopped) => return error(StatusCode::SERVICE_UNAVAILABLE, "Stopping"),
            Err(Refusal::Full) => {
                log_limited!(
                    warn,
                    kind = source.name(),
                    "a webhook was refused: too many changes wait for the disk"
                );
                return error(StatusCode::SERVICE_UNAVAILABLE, "StorageUnavailable");
            }
        },
        (Err(problem), None) => {
            return SoraWebhooks::refuse_unreadable(&state.metrics, source.name(), &problem);
        }
        // The application may make more of it.
        (Err(problem), Some(_)) => {
            log_limited!(warn, kind = source.name(), %problem, "cannot read a webhook; forwarded to the application, but not recorded");
            WebhookOutcome::Unreadable
        }
    };
    let Some(upstream) = upstream else {
        state.metrics.webhook(source.name(), outcome);
        return typed(StatusCode::OK, JSON, &b"{}"[..]);
    };
    match upstream.send_request(&headers, body).await {
        Ok(response) => {
            state.metrics.webhook(source.name(), outcome);
            response.into_response()
        }
        Err(failed) => {
            state
                .metrics
                .webhook(source.name(), WebhookOutcome::UpstreamFailed);
            let recorded = match outcome {
                WebhookOutcome::Unreadable => "the event is not recorded either",
                _ => "the event is recorded",
            };
            match source {
                WebhookSource::Session => {
                    log_limited!(warn, url = %upstream.url, %failed, "the session upstream failed: the application has missed an event; {recorded}");
                }
                WebhookSource::Event => {
                    log_limited!(warn, url = %upstream.url, %failed, "the event upstream failed: the application has missed an event; {recorded}");
                }
            }
            error(StatusCode::BAD_GATEWAY, "BadGateway")
        }
    }
}
