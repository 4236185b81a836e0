//! `POST /sora/session` and `/sora/event`: the gate notes what it needs, then the application hears it, and its answer goes back.

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};
use soramode_protocol::event::WebhookSource;

use super::Sora;
use super::webhook::read_told;
use crate::clock;
use crate::engine::Refusal;
use crate::http::House;
use crate::http::answer::{Answered, JSON, error, typed};
use crate::metrics::WebhookOutcome;
use crate::rate_limit::log_limited;

pub(super) async fn answer(
    house: &House,
    sora: &Sora,
    source: WebhookSource,
    said: (HeaderMap, Bytes),
) -> Answered {
    let (headers, body) = said;
    let upstream = match source {
        WebhookSource::Session => sora.applications.session(),
        WebhookSource::Event => sora.applications.event(),
    };
    let outcome = match (read_told(source, &body, clock::now().wall), &upstream) {
        // Nothing is awaited between the body and this: Sora may hang up, and what it reported is taken in all the same.
        (Ok(input), _) => match house.engine.tell_sora(input) {
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
        (Err(problem), None) => return Sora::unreadable(house, source.name(), &problem),
        // The application may make more of it.
        (Err(problem), Some(_)) => {
            log_limited!(warn, kind = source.name(), %problem, "cannot read a webhook; forwarded to the application, but not recorded");
            WebhookOutcome::Unreadable
        }
    };
    let Some(upstream) = upstream else {
        house.metrics.webhook(source.name(), outcome);
        return typed(StatusCode::OK, JSON, &b"{}"[..]);
    };
    match upstream.ask(&headers, body).await {
        Ok(heard) => {
            house.metrics.webhook(source.name(), outcome);
            heard.into_answer()
        }
        Err(failed) => {
            house
                .metrics
                .webhook(source.name(), WebhookOutcome::UpstreamFailed);
            match source {
                WebhookSource::Session => {
                    log_limited!(warn, %failed, "the session upstream failed; the event is recorded, but the application has missed it");
                }
                WebhookSource::Event => {
                    log_limited!(warn, %failed, "the event upstream failed; the event is recorded, but the application has missed it");
                }
            }
            error(StatusCode::BAD_GATEWAY, "BadGateway")
        }
    }
}
