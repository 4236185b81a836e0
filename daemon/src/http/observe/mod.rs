//! Endpoints for load balancers and monitoring: `/live`, `/ready`, `/ready/new-session`,
//! `/metrics`.
//!
//! Callers use any name or address of the node, and the answers hold no secrets, so no host name is
//! refused here.

mod state;

use std::time::Duration;

use hyper::header::{ALLOW, CACHE_CONTROL, HeaderValue};
use hyper::{Method, Request, StatusCode};
use prometheus::{Encoder, TextEncoder};
use serde::Serialize;
use soramode_protocol::mode::{Mode, SettableMode};
use soramode_protocol::node::{Membership, Status, StorageState};
use soramode_protocol::plan::Plan;
use soramode_protocol::reply::Reply;
use soramode_protocol::request::GateRequest;
use tokio::time::timeout;

use super::HttpState;
use super::body::RequestBody;
use super::response::{HttpResponse, error, json, typed};

/// Time that `/live` waits for the gate.
const LIVE_PATIENCE: Duration = Duration::from_millis(500);

/// Endpoint of a request.
#[derive(Clone, Copy)]
enum Question {
    Live,
    Ready,
    ReadyForSessions,
    Metrics,
}

#[derive(Serialize)]
struct Readiness {
    mode: Mode,
    /// Present only if a plan makes the node unready for the mode to come.
    #[serde(skip_serializing_if = "Option::is_none")]
    unready_for: Option<SettableMode>,
    membership: Membership,
    /// Present only if the storage is the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    storage: Option<StorageState>,
}

impl Question {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/live" => Some(Self::Live),
            "/ready" => Some(Self::Ready),
            "/ready/new-session" => Some(Self::ReadyForSessions),
            "/metrics" => Some(Self::Metrics),
            _ => None,
        }
    }
}

/// Returns true if one of the endpoints has this path.
pub(super) fn is_path(path: &str) -> bool {
    Question::of(path).is_some()
}

pub(super) async fn answer(state: &HttpState, request: &Request<RequestBody>) -> HttpResponse {
    let Some(question) = Question::of(request.uri().path()) else {
        return error(StatusCode::NOT_FOUND, "NotFound");
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed");
        answer
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    let asked = state.engine.ask_one("http".into(), GateRequest::GetStatus);
    let answered = match question {
        // A slow disk delays the gate's answers; that is no reason to restart the daemon.
        Question::Live => timeout(LIVE_PATIENCE, asked).await.ok(),
        Question::Ready | Question::ReadyForSessions | Question::Metrics => Some(asked.await),
    };
    let mut answer = match (question, answered) {
        (_, Some(Ok(Reply::Status(status)))) => tell(state, question, &status),
        // A daemon that answers is alive; nothing more is reported.
        (Question::Live, _) => typed(StatusCode::OK, super::response::JSON, &b"{}"[..]),
        (Question::Ready | Question::ReadyForSessions | Question::Metrics, _) => {
            error(StatusCode::SERVICE_UNAVAILABLE, "Stopping")
        }
    };
    answer
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn tell(state: &HttpState, question: Question, status: &Status) -> HttpResponse {
    let mode = status.mode.mode;
    // A plan makes the node unready before it closes it.
    let unready_for = status.plan.as_deref().and_then(Plan::unready_for);
    let lets_in = match (question, unready_for.map_or(mode, Mode::from)) {
        (Question::Metrics, _) => return metrics(state, status),
        (Question::Live, _)
        | (Question::Ready | Question::ReadyForSessions, Mode::Normal)
        | (Question::Ready, Mode::BlockNewSession) => true,
        (Question::ReadyForSessions, Mode::BlockNewSession)
        | (
            Question::Ready | Question::ReadyForSessions,
            Mode::BlockNewConnection | Mode::Initial,
        ) => false,
    };
    let code = if lets_in {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let storage = Some(status.storage.state).filter(|state| *state == StorageState::Failed);
    json(
        code,
        &Readiness {
            mode,
            unready_for,
            membership: status.membership,
            storage,
        },
    )
}

fn metrics(state: &HttpState, status: &Status) -> HttpResponse {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    let written = state::gather(status, state.log.followers()).and_then(|gauges| {
        encoder.encode(&gauges, &mut text)?;
        encoder.encode(&state.metrics.gather(), &mut text)
    });
    match (written, HeaderValue::from_str(encoder.format_type())) {
        (Ok(()), Ok(content_type)) => typed(StatusCode::OK, content_type, text),
        (written, _) => {
            tracing::error!(?written, "cannot write the metrics");
            error(StatusCode::INTERNAL_SERVER_ERROR, "HandlerException")
        }
    }
}
