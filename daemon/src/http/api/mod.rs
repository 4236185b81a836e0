//! Sora's API: `POST /` with an `x-sora-target`, answered byte for byte as a Sora with the mode feature does.

mod guard;
mod lists;
mod nodes;
mod pass;
pub mod problem;
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
use soramode_protocol::mode::{ChangeMode, Mode, ModeChanged, SettableMode};
use soramode_protocol::node::ListClusterNodes;
use soramode_protocol::reply::Reply;
use soramode_protocol::request::GateRequest;
use soramode_protocol::sora::{ModeBody, PUBLISHED_HEADER, Target, WARNING_HEADER};

use super::House;
use super::answer::{Answered, full, json};
use super::body::{BODY_BYTES_MAX, Held, RequestBody};
use super::listen::Caller;
use lists::List;
pub(crate) use pass::Pass;
use problem::Problem;
use report::StatsReport;
use target::{Asked, Call};

/// What a head came to.
pub(super) struct Head {
    /// Headers of every answer.
    cors: HeaderMap,
    /// What is asked for; or the answer, where that does not hang on the body.
    wanted: Result<Wanted, Box<Answered>>,
}

/// What is asked for, but for the body.
struct Wanted {
    actor: Arc<str>,
    asked: Asked,
    /// Those that a Sora is to have: none, where there is no Sora behind us.
    headers: HeaderMap,
}

/// Reads a head, and keeps of it only what is wanted of it later.
pub(super) fn read_head(house: &House, caller: &Caller, head: Parts) -> Head {
    let config = &house.config.api;
    let checked = guard::check_host(config, caller, &head.headers)
        .and_then(|()| guard::check_origin(config, &head.headers));
    match checked {
        Ok(cors) => Head {
            cors,
            wanted: wanted(house, caller, head),
        },
        Err(refusal) => Head {
            cors: HeaderMap::new(),
            wanted: Err(Box::new(refusal.answer())),
        },
    }
}

fn wanted(house: &House, caller: &Caller, head: Parts) -> Result<Wanted, Box<Answered>> {
    let config = &house.config.api;
    if head.method == Method::OPTIONS && !config.cors_origins.is_empty() {
        return Err(Box::new(Answered::new(full(Bytes::new()))));
    }
    let asked = if head.method == Method::POST {
        Asked::read(&head.headers)
    } else {
        Err(Problem::Method)
    };
    let needed = asked.as_ref().map_or(Access::View, Asked::access);
    let actor = guard::check_caller(house, caller, &head.headers, needed)
        .map_err(|refusal| Box::new(refusal.answer()))?;
    let asked = asked.map_err(|problem| Box::new(problem.answer()))?;
    let headers = if house.pass.is_some() {
        head.headers
    } else {
        HeaderMap::new()
    };
    Ok(Wanted {
        actor,
        asked,
        headers,
    })
}

pub(super) async fn answer(house: &House, head: Head, body: RequestBody) -> Answered {
    let mut answer = match head.wanted {
        Ok(wanted) => answer_wanted(house, &wanted, body).await,
        Err(answer) => *answer,
    };
    if !head.cors.is_empty() {
        answer.headers_mut().extend(head.cors);
    }
    answer
}

async fn answer_wanted(house: &House, wanted: &Wanted, body: RequestBody) -> Answered {
    let operation = wanted.asked.target().map_or("other", Target::operation);
    let read = if pass_for(house, &wanted.asked).is_some() {
        body.read_passed(&house.room).await
    } else {
        house.engine.room().await;
        let read = body.read(BODY_BYTES_MAX).await;
        read.map(|body| (body, Held::default()))
    };
    // What a large body holds of the memory for such bodies is given back with the answer.
    let (body, _held) = match read {
        Ok(read) => read,
        Err(problem) => return problem.answer(),
    };
    let answer = dispatch(house, wanted, body).await;
    house.metrics.api_call(operation, answer.status());
    answer
}

/// The way to Sora, for a call that is passed on.
fn pass_for<'a>(house: &'a House, asked: &Asked) -> Option<&'a Pass> {
    match asked.target() {
        Some(Target::GetMode | Target::ChangeMode | Target::Connect | Target::GetStatus) => None,
        Some(
            Target::ListClusterNodes
            | Target::ListConnections
            | Target::ListChannelConnections
            | Target::ListSessions
            | Target::GetStatsAllConnections
            | Target::GetStatsReport
            | Target::DisconnectChannel,
        )
        | None => house.pass.as_ref(),
    }
}

/// The mode and what soramode alone knows are answered here; everything else is passed on to Sora, where there is one.
async fn dispatch(house: &House, wanted: &Wanted, body: Bytes) -> Answered {
    let Wanted {
        actor,
        asked,
        headers,
    } = wanted;
    match (pass_for(house, asked), asked.target()) {
        (None, _) => {}
        (Some(pass), Some(target)) if target == pass::NODES => {
            return match get_mode(house, actor).await {
                Ok(mode) => {
                    Box::pin(pass.answer_nodes((headers, body), house.node_name.as_str(), mode))
                        .await
                }
                Err(problem) => problem.answer(),
            };
        }
        (Some(pass), _) => return Box::pin(pass.answer(headers, body)).await,
    }
    let answered = match asked.with(&body) {
        Ok(call) => answer_call(house, actor, call).await,
        Err(problem) => Err(problem),
    };
    answered.unwrap_or_else(Problem::answer)
}

async fn answer_call(house: &House, actor: &Arc<str>, call: Call) -> Result<Answered, Problem> {
    match call {
        Call::GetMode => get_mode(house, actor)
            .await
            .map(|mode| ok(&ModeBody { mode })),
        Call::ChangeMode(mode) => change_mode(house, actor, mode).await,
        Call::GetStatus => match house
            .engine
            .ask_one(Arc::clone(actor), GateRequest::GetStatus)
            .await
        {
            Ok(Reply::Status(status)) => Ok(ok(&status)),
            other => Err(unexpected(other)),
        },
        Call::ListClusterNodes => {
            match house
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
        Call::ListConnections => lists::answer(house, List::Connections(None)).await,
        Call::ListChannelConnections(channel_id) => {
            lists::answer(house, List::Connections(Some(channel_id))).await
        }
        Call::ListSessions => lists::answer(house, List::Sessions).await,
        Call::Connect(connect) => match house
            .engine
            .ask_one(Arc::clone(actor), GateRequest::Connect(*connect))
            .await
        {
            Ok(Reply::Decision(decision)) => Ok(ok(&decision)),
            other => Err(unexpected(other)),
        },
        Call::GetStatsAllConnections => lists::answer(house, List::Stats).await,
        Call::GetStatsReport => match house
            .engine
            .ask_one(Arc::clone(actor), GateRequest::GetStatus)
            .await
        {
            Ok(Reply::Status(status)) => Ok(ok(&StatsReport::of(house, &status))),
            other => Err(unexpected(other)),
        },
    }
}

async fn get_mode(house: &House, actor: &Arc<str>) -> Result<Mode, Problem> {
    match house
        .engine
        .ask_one(Arc::clone(actor), GateRequest::GetMode)
        .await
    {
        Ok(Reply::Mode(state)) => Ok(state.mode),
        other => Err(unexpected(other)),
    }
}

async fn change_mode(
    house: &House,
    actor: &Arc<str>,
    mode: SettableMode,
) -> Result<Answered, Problem> {
    let ModeChanged {
        mode,
        warning,
        published,
        ..
    } = match house
        .engine
        .ask_one(
            Arc::clone(actor),
            GateRequest::ChangeMode(Box::new(ChangeMode::to(mode))),
        )
        .await
    {
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
        Err(error) if error.data.error_type != ErrorType::Internal => {
            Problem::Gate(format!("{:?}", error.data.error_type))
        }
        Ok(_) | Err(_) => Problem::Bug,
    }
}

fn ok(value: &impl Serialize) -> Answered {
    json(StatusCode::OK, value)
}
