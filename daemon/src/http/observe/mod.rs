//! Endpoints for load balancers and monitoring (`/live`, `/ready`, `/ready/new-session`,
//! `/metrics`), and the status page for people.
//!
//! Callers use any name or address of the node, and the answers hold no secrets, so no host name is
//! refused here, but for the page, which shows names of channels.

mod load_history;
mod page;
pub(super) mod page_state;
mod peers;
mod state;

use std::time::Duration;

use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use prometheus::{Encoder, TextEncoder};
use serde::Serialize;
use soramode_protocol::chat::PAGE_URL_BYTES_MAX;
use soramode_protocol::http_client::{Url, read_url};
use soramode_protocol::mode::{Mode, SettableMode};
use soramode_protocol::node::{ClusterNode, ListClusterNodes, Membership, Status, StorageState};
use soramode_protocol::plan::Plan;
use soramode_protocol::reply::Reply;
use soramode_protocol::request::GateRequest;
use soramode_protocol::session::{ListRequest, ListSessions, Page};
use tokio::time::timeout;

use super::api::access::check_host;
use super::body::RequestBody;
use super::listen::Caller;
use super::response::{HttpResponse, error, json, typed};
use super::state::HttpState;
use crate::clock;
use page::{Refresh, Snapshot};
use page_state::StatusPageState;

/// Time that `/live` waits for the gate.
const LIVE_PATIENCE: Duration = Duration::from_millis(500);

/// Version of the format of `/status.json`.
const STATUS_SCHEMA: u32 = 1;

/// Part of the status page.
#[derive(Clone, Copy)]
enum PagePart {
    Html,
    Style,
    Json,
    /// A browser asks for an icon by itself; there is none.
    Icon,
}

/// Body of `/status.json`.
#[derive(Serialize)]
struct StatusDocument {
    schema: u32,
    status: Box<Status>,
    /// The plan that runs, or the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Plan>,
    members: Vec<ClusterNode>,
}

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

impl PagePart {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/" => Some(Self::Html),
            "/status.css" => Some(Self::Style),
            "/status.json" => Some(Self::Json),
            "/favicon.ico" => Some(Self::Icon),
            _ => None,
        }
    }
}

/// Returns true if one of the endpoints takes this request. The path `/` is also that of Sora's API, which may share the listener and takes
/// no `GET`.
pub(super) fn is_route(state: &HttpState, request: &Request<RequestBody>) -> bool {
    let path = request.uri().path();
    let is_of_page = || {
        state.page.is_some()
            && PagePart::of(path).is_some()
            && (path != "/" || is_read(request.method()))
    };
    Question::of(path).is_some() || is_of_page()
}

const fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

pub(super) async fn answer(
    state: &HttpState,
    caller: &Caller,
    request: Request<RequestBody>,
) -> HttpResponse {
    let path = request.uri().path();
    let mut answer = if !is_read(request.method()) {
        let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed");
        answer
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        answer
    } else if let Some(question) = Question::of(path) {
        drop(request);
        answer_question(state, question).await
    } else if let (Some(page), Some(part)) = (&state.page, PagePart::of(path)) {
        let head = request.into_parts().0;
        answer_page(state, page, part, (caller, head)).await
    } else {
        error(StatusCode::NOT_FOUND, "NotFound")
    };
    answer
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

async fn answer_page(
    state: &HttpState,
    page: &StatusPageState,
    part: PagePart,
    (caller, head): (&Caller, Parts),
) -> HttpResponse {
    // A browser on this machine may have been led here by a page under a name of its own.
    let is_local = caller.ip.is_some_and(|ip| ip.is_loopback());
    if is_local && let Err(refusal) = check_host(&state.config.api, caller, &head.headers) {
        return refusal.answer();
    }
    let mut answer = match part {
        PagePart::Icon => typed(
            StatusCode::NO_CONTENT,
            HeaderValue::from_static("image/x-icon"),
            "",
        ),
        PagePart::Style => typed(
            StatusCode::OK,
            HeaderValue::from_static("text/css; charset=utf-8"),
            page::STYLE,
        ),
        PagePart::Json => match read_status(state).await {
            Some(document) => json(StatusCode::OK, &document),
            None => error(StatusCode::SERVICE_UNAVAILABLE, "Stopping"),
        },
        PagePart::Html => match read_snapshot(state, page).await {
            Some(snapshot) => typed(
                StatusCode::OK,
                HeaderValue::from_static("text/html; charset=utf-8"),
                page::render(&snapshot, &head.headers, Refresh::of(head.uri.query())),
            ),
            None => error(StatusCode::SERVICE_UNAVAILABLE, "Stopping"),
        },
    };
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, page::SECURITY_POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        answer
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// Reads what `/status.json` shows; `None` while the daemon stops.
async fn read_status(state: &HttpState) -> Option<StatusDocument> {
    let ask = |request| state.engine.ask_one("http".into(), request);
    let Ok(Reply::Status(status)) = ask(GateRequest::GetStatus).await else {
        return None;
    };
    let plan = match ask(GateRequest::GetPlan).await {
        Ok(Reply::PlanFound(found)) => found.plan,
        _ => None,
    };
    let members = match ask(GateRequest::ListClusterNodes(ListClusterNodes::default())).await {
        Ok(Reply::ClusterNodes(nodes)) => nodes.nodes,
        _ => Vec::new(),
    };
    Some(StatusDocument {
        schema: STATUS_SCHEMA,
        status,
        plan,
        members,
    })
}

/// Reads everything that the page shows; `None` while the daemon stops.
async fn read_snapshot(state: &HttpState, page: &StatusPageState) -> Option<Snapshot> {
    let StatusDocument {
        status,
        plan,
        members,
        ..
    } = read_status(state).await?;
    let oldest = ListSessions {
        limit: Some(page::SESSIONS_SHOWN),
        ..ListSessions::default()
    };
    let listed = state.engine.ask_one(
        "http".into(),
        GateRequest::List(ListRequest::Sessions(oldest)),
    );
    let sessions = match listed.await {
        Ok(Reply::Page(Page::Sessions(listed))) => listed.sessions,
        _ => Vec::new(),
    };
    let peers = page.peers.states(&pages_of_others(&status, &members)).await;
    Some(Snapshot {
        now: clock::now().wall,
        status,
        plan,
        members,
        sessions,
        peers,
        chart: page.history.chart(),
    })
}

/// Returns the status pages that the other members of the cluster have published.
fn pages_of_others(status: &Status, members: &[ClusterNode]) -> Vec<Url> {
    members
        .iter()
        .filter(|node| node.connected && node.node_name != status.node_name)
        .filter_map(|node| node.cluster_page_url.as_deref())
        .filter(|url| url.len() <= PAGE_URL_BYTES_MAX)
        .filter_map(|url| read_url(url).ok())
        .collect()
}

async fn answer_question(state: &HttpState, question: Question) -> HttpResponse {
    let asked = state.engine.ask_one("http".into(), GateRequest::GetStatus);
    let answered = match question {
        // A slow disk delays the gate's answers; that is no reason to restart the daemon.
        Question::Live => timeout(LIVE_PATIENCE, asked).await.ok(),
        Question::Ready | Question::ReadyForSessions | Question::Metrics => Some(asked.await),
    };
    match (question, answered) {
        (_, Some(Ok(Reply::Status(status)))) => respond(state, question, &status),
        // A daemon that answers is alive; nothing more is reported.
        (Question::Live, _) => typed(StatusCode::OK, super::response::JSON, &b"{}"[..]),
        (Question::Ready | Question::ReadyForSessions | Question::Metrics, _) => {
            error(StatusCode::SERVICE_UNAVAILABLE, "Stopping")
        }
    }
}

fn respond(state: &HttpState, question: Question, status: &Status) -> HttpResponse {
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
    let written = state::gather(status, state.event_log.followers()).and_then(|gauges| {
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
