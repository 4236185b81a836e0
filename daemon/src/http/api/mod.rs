//! Sora's API: `POST /` with an `x-sora-target`, answered byte for byte as a Sora with the mode feature does.

mod guard;
mod lists;
mod nodes;
mod pass;
pub mod problem;
pub mod target;

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, StatusCode};
use serde::Serialize;
use soramode_protocol::error::ErrorType;
use soramode_protocol::mode::{ChangeMode, Mode, ModeChanged, SettableMode};
use soramode_protocol::node::ListClusterNodes;
use soramode_protocol::reply::Reply;
use soramode_protocol::request::GateRequest;
use soramode_protocol::sora::{ModeBody, PUBLISHED_HEADER, Target, WARNING_HEADER};

use super::House;
use super::answer::{Answered, full, json};
use super::body::{self, BODY_BYTES_MAX};
use super::listen::Caller;
use lists::List;
pub(crate) use pass::Pass;
use problem::Problem;
use target::{Asked, Call};

pub(super) async fn answer(house: &House, caller: Caller, request: Request<Incoming>) -> Answered {
    let (head, body) = request.into_parts();
    let config = &house.config.api;
    if let Err(refusal) = guard::check_host(config, caller, &head.headers) {
        return refusal.answer();
    }
    let cors = match guard::check_origin(config, &head.headers) {
        Ok(cors) => cors,
        Err(refusal) => return refusal.answer(),
    };
    let mut answer = answer_ours(house, caller, head, body).await;
    answer.headers_mut().extend(cors);
    answer
}

async fn answer_ours(house: &House, caller: Caller, head: Parts, body: Incoming) -> Answered {
    if head.method == Method::OPTIONS && !house.config.api.cors_origins.is_empty() {
        let mut answer = Answered::new(full(Bytes::new()));
        *answer.status_mut() = StatusCode::OK;
        return answer;
    }
    let actor = match guard::check_token(&house.config.api, caller, &head.headers) {
        Ok(actor) => actor,
        Err(refusal) => return refusal.answer(),
    };
    let asked = match check_head(&head) {
        Ok(asked) => asked,
        Err(problem) => return problem.answer(),
    };
    let operation = asked.target().map_or("other", Target::operation);
    let body = match body::read(body, BODY_BYTES_MAX).await {
        Ok(body) => body,
        Err(problem) => return problem.answer(),
    };
    let answer = dispatch(house, actor, (asked, &head.headers, body)).await;
    house.metrics.api_call(operation, answer.status().as_u16());
    answer
}

fn check_head(head: &Parts) -> Result<Asked, Problem> {
    if head.method == Method::POST { Asked::read(&head.headers) } else { Err(Problem::Method) }
}

/// The mode is ours; everything else is Sora's, where there is one.
async fn dispatch(house: &House, actor: Arc<str>, (asked, headers, body): (Asked, &HeaderMap, Bytes)) -> Answered {
    match (&house.pass, asked.target()) {
        (Some(_), Some(Target::GetMode | Target::ChangeMode | Target::Connect)) | (None, _) => {}
        (Some(pass), Some(target)) if target == pass::NODES => {
            return match get_mode(house, &actor).await {
                Ok(mode) => pass.answer_nodes((headers, body), house.node_name.as_str(), mode).await,
                Err(problem) => problem.answer(),
            };
        }
        (Some(pass), _) => return pass.answer(headers, body).await,
    }
    let answered = match asked.with(&body) {
        Ok(call) => answer_call(house, actor, call).await,
        Err(problem) => Err(problem),
    };
    answered.unwrap_or_else(Problem::answer)
}

async fn answer_call(house: &House, actor: Arc<str>, call: Call) -> Result<Answered, Problem> {
    match call {
        Call::GetMode => get_mode(house, &actor).await.map(|mode| ok(&ModeBody { mode })),
        Call::ChangeMode(mode) => change_mode(house, actor, mode).await,
        Call::ListClusterNodes => match house.asker.ask(actor, GateRequest::ListClusterNodes(ListClusterNodes { owed: false })).await {
            Ok(Reply::ClusterNodes(nodes)) => Ok(ok(&nodes.nodes)),
            other => Err(unexpected(other)),
        },
        Call::ListConnections => lists::answer(house, List::Connections(None)).await,
        Call::ListChannelConnections(channel_id) => lists::answer(house, List::Connections(Some(channel_id))).await,
        Call::ListSessions => lists::answer(house, List::Sessions).await,
        Call::Connect(connect) => match house.asker.ask(actor, GateRequest::Connect(connect)).await {
            Ok(Reply::Decision(decision)) => Ok(ok(&decision)),
            other => Err(unexpected(other)),
        },
        Call::GetStatsAllConnections => lists::answer(house, List::Stats).await,
    }
}

async fn get_mode(house: &House, actor: &Arc<str>) -> Result<Mode, Problem> {
    match house.asker.ask(Arc::clone(actor), GateRequest::GetMode).await {
        Ok(Reply::Mode(state)) => Ok(state.mode),
        other => Err(unexpected(other)),
    }
}

async fn change_mode(house: &House, actor: Arc<str>, mode: SettableMode) -> Result<Answered, Problem> {
    let ModeChanged { mode, warning, published, .. } =
        match house.asker.ask(actor, GateRequest::ChangeMode(Box::new(ChangeMode::to(mode)))).await {
            Ok(Reply::ModeChanged(changed)) => changed,
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

/// A refusal of the gate, in its own word; anything else is a bug.
fn unexpected(answer: soramode_protocol::reply::Answer) -> Problem {
    match answer {
        Err(error) if error.data.error_type != ErrorType::Internal => Problem::Gate(format!("{:?}", error.data.error_type)),
        Ok(_) | Err(_) => Problem::Bug,
    }
}

fn ok(value: &impl Serialize) -> Answered {
    json(StatusCode::OK, value)
}
