//! The API listener. Sora's API: `POST /` with an `x-sora-target`, answered byte for byte as a Sora with the mode feature does; and methods of
//! the control socket under `/v1/`.

pub(super) mod access;
pub mod call;
mod head;
mod lists;
pub(super) mod methods;
mod nodes;
pub mod problem;
pub(super) mod proxy;
mod report;
pub mod target;

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, StatusCode};
use serde::Serialize;
use soramode_protocol::access::Access;
use soramode_protocol::error::ErrorType;
use soramode_protocol::mode::{ChangeMode, Mode, ModeChanged};
use soramode_protocol::node::ListClusterNodes;
use soramode_protocol::reply::Reply;
use soramode_protocol::request::GateRequest;
use soramode_protocol::sora::{ModeBody, PUBLISHED_HEADER, Target, WARNING_HEADER};

use super::body::RequestBody;
use super::listen::Caller;
use super::response::{HttpResponse, full, json};
use super::state::HttpState;
use call::Call;
pub(super) use head::Head;
use head::{check_head, read_small, with_headers};
use lists::List;
use problem::Problem;
use proxy::SoraProxy;
use report::StatsReport;
use target::RequestTarget;

/// Request of Sora's API without its body.
pub(super) struct ParsedHead {
    actor: Arc<str>,
    target: RequestTarget,
    /// Headers to forward to Sora, if there is one.
    headers: Option<Box<HeaderMap>>,
}

/// Checks a head of Sora's API, and keeps only the parts that later steps need.
pub(super) fn read_head(state: &HttpState, caller: &Caller, head: Parts) -> Head<ParsedHead> {
    check_head(state, caller, head, |head| parsed(state, caller, head))
}

fn parsed(
    state: &HttpState,
    caller: &Caller,
    head: Parts,
) -> Result<ParsedHead, Box<HttpResponse>> {
    let config = &state.config.api;
    if head.method == Method::OPTIONS && !config.cors_origins.is_empty() {
        return Err(Box::new(HttpResponse::new(full(Bytes::new()))));
    }
    let target = if head.method == Method::POST {
        RequestTarget::read(&head.headers).map_err(Problem::Target)
    } else {
        Err(Problem::Method)
    };
    let needed = target.as_ref().map_or(Access::View, RequestTarget::access);
    let actor = access::check_caller(state, caller, &head.headers, needed)
        .map_err(|refusal| Box::new(refusal.answer()))?;
    let target = target.map_err(|problem| Box::new(problem.answer()))?;
    let headers = state.proxy.is_some().then(|| Box::new(head.headers));
    Ok(ParsedHead {
        actor,
        target,
        headers,
    })
}

pub(super) async fn answer(
    state: &HttpState,
    head: Head<ParsedHead>,
    body: RequestBody,
) -> HttpResponse {
    let answer = match head.parsed {
        Ok(parsed) => answer_parsed(state, &parsed, body).await,
        Err(answer) => *answer,
    };
    with_headers(answer, head.cors)
}

async fn answer_parsed(state: &HttpState, parsed: &ParsedHead, body: RequestBody) -> HttpResponse {
    let operation = parsed.target.target().map_or("other", Target::operation);
    let read = if proxy_for(state, &parsed.target).is_some() {
        body.read_large(&state.body_memory).await
    } else {
        read_small(state, body).await
    };
    // Memory held for a large body is released with the answer.
    let (body, _held) = match read {
        Ok(read) => read,
        Err(problem) => return problem.answer(),
    };
    let answer = dispatch(state, parsed, body).await;
    state.metrics.api_call(operation, answer.status());
    answer
}

/// The way to Sora, for a call that is passed on.
fn proxy_for<'a>(state: &'a HttpState, target: &RequestTarget) -> Option<&'a SoraProxy> {
    match target.target() {
        Some(Target::GetMode | Target::ChangeMode | Target::Connect | Target::GetStatus) => None,
        Some(
            Target::ListClusterNodes
            | Target::ListConnections
            | Target::ListChannelConnections
            | Target::ListSessions
            | Target::GetStatsAllConnections
            | Target::GetStatsReport
            | Target::DisconnectChannel
            | Target::PushChannel,
        )
        | None => state.proxy.as_ref(),
    }
}

/// Answers requests about the mode and soramode itself; forwards all others to Sora, if there is
/// one.
async fn dispatch(state: &HttpState, parsed: &ParsedHead, body: Bytes) -> HttpResponse {
    let ParsedHead {
        actor,
        target,
        headers,
    } = parsed;
    let proxied = proxy_for(state, target).zip(headers.as_deref());
    match (proxied, target.target()) {
        (None, _) => {}
        (Some((proxy, headers)), Some(target)) if target == proxy::NODES => {
            return match get_mode(state, actor).await {
                Ok(mode) => {
                    Box::pin(proxy.answer_nodes((headers, body), state.node_name.as_str(), mode))
                        .await
                }
                Err(problem) => problem.answer(),
            };
        }
        (Some((proxy, headers)), _) => return Box::pin(proxy.answer(headers, body)).await,
    }
    let answered = match Call::read(target, &body) {
        Ok(call) => answer_call(state, actor, call).await,
        Err(problem) => Err(problem),
    };
    answered.unwrap_or_else(Problem::answer)
}

async fn answer_call(
    state: &HttpState,
    actor: &Arc<str>,
    call: Call,
) -> Result<HttpResponse, Problem> {
    match call {
        Call::GetMode => get_mode(state, actor)
            .await
            .map(|mode| ok(&ModeBody { mode })),
        Call::ChangeMode(change) => change_mode(state, actor, change).await,
        Call::GetStatus => match state
            .engine
            .ask_one(Arc::clone(actor), GateRequest::GetStatus)
            .await
        {
            Ok(Reply::Status(status)) => Ok(ok(&status)),
            other => Err(unexpected(other)),
        },
        Call::ListClusterNodes => {
            match state
                .engine
                .ask_one(
                    Arc::clone(actor),
                    GateRequest::ListClusterNodes(ListClusterNodes {
                        count_orphaned: false,
                    }),
                )
                .await
            {
                Ok(Reply::ClusterNodes(nodes)) => Ok(ok(&nodes.nodes)),
                other => Err(unexpected(other)),
            }
        }
        Call::ListConnections => lists::answer(state, List::Connections(None)).await,
        Call::ListChannelConnections(channel_id) => {
            lists::answer(state, List::Connections(Some(channel_id))).await
        }
        Call::ListSessions => lists::answer(state, List::Sessions).await,
        Call::Connect(connect) => match state
            .engine
            .ask_one(Arc::clone(actor), GateRequest::Connect(*connect))
            .await
        {
            Ok(Reply::Decision(decision)) => Ok(ok(&decision)),
            other => Err(unexpected(other)),
        },
        Call::GetStatsAllConnections => lists::answer(state, List::Stats).await,
        Call::GetStatsReport => match state
            .engine
            .ask_one(Arc::clone(actor), GateRequest::GetStatus)
            .await
        {
            Ok(Reply::Status(status)) => Ok(ok(&StatsReport::of(state, &status))),
            other => Err(unexpected(other)),
        },
    }
}

async fn get_mode(state: &HttpState, actor: &Arc<str>) -> Result<Mode, Problem> {
    match state
        .engine
        .ask_one(Arc::clone(actor), GateRequest::GetMode)
        .await
    {
        Ok(Reply::Mode(state)) => Ok(state.mode),
        other => Err(unexpected(other)),
    }
}

async fn change_mode(
    state: &HttpState,
    actor: &Arc<str>,
    change: Box<ChangeMode>,
) -> Result<HttpResponse, Problem> {
    let ModeChanged {
        mode,
        warning,
        published,
        ..
    } = match state
        .engine
        .ask_one(Arc::clone(actor), GateRequest::ChangeMode(change))
        .await
    {
        Ok(Reply::ModeChanged(changed)) => *changed,
        other => return Err(unexpected(other)),
    };
    let mut answer = ok(&ModeBody { mode });
    if let Some(warning) = warning.and_then(|warning| HeaderValue::from_str(&warning).ok()) {
        answer.headers_mut().insert(WARNING_HEADER, warning);
    }
    if let Some(published) = published {
        let word = HeaderValue::from_static(if published { "true" } else { "false" });
        answer.headers_mut().insert(PUBLISHED_HEADER, word);
    }
    Ok(answer)
}

/// Maps a refusal of the gate to its error type; anything else is a bug.
fn unexpected(answer: soramode_protocol::reply::Answer) -> Problem {
    match answer {
        Err(error) if error.data.error_type != ErrorType::Internal => {
            Problem::Gate(format!("{:?}", error.data.error_type))
        }
        Ok(_) | Err(_) => Problem::Bug,
    }
}

fn ok(value: &impl Serialize) -> HttpResponse {
    json(StatusCode::OK, value)
}
