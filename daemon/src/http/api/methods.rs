//! Methods of the control socket over HTTP: `POST /v1/connect`, `/v1/disconnect` and `/v1/report`, with the socket's params, results and
//! errors.
//!
//! No socket shows that an HTTP client has left. So its connections last until `Disconnect`, or until a complete report lacks them; and one
//! request is a whole report, of which nothing is kept for the next one.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{ALLOW, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method as HttpMethod, StatusCode};
use serde_json::value::RawValue;
use soramode_core::handles::SocketId;
use soramode_core::input::Input;
use soramode_protocol::decision::{Lifetime, Report, Reported};
use soramode_protocol::error::{Error, ErrorType};
use soramode_protocol::reply::{Answer, Reply};
use soramode_protocol::request::{GateRequest, Method, Request};
use tokio::sync::Mutex;
use tokio::task::{spawn_blocking, yield_now};

use super::access;
use super::head::{Head, check_head, read_small, with_headers};
use crate::engine::Engine;
use crate::http::body::{BODY_BYTES_MAX, Held, RequestBody};
use crate::http::listen::Caller;
use crate::http::response::{HttpResponse, error, json};
use crate::http::state::HttpState;

/// Connections that one request to the gate reports, as on the control socket: a larger report delays no other client.
const PART_ROWS: usize = 512;

/// Request without its params.
pub(in crate::http) struct MethodCall {
    actor: Arc<str>,
    method: Method,
}

/// Returns the method of a path.
pub(in crate::http) fn of(path: &str) -> Option<Method> {
    match path {
        "/v1/connect" => Some(Method::Connect),
        "/v1/disconnect" => Some(Method::Disconnect),
        "/v1/report" => Some(Method::Report),
        _ => None,
    }
}

/// Checks the head of a method's request.
pub(in crate::http) fn read_head(
    state: &HttpState,
    caller: &Caller,
    method: Method,
    head: Parts,
) -> Head<MethodCall> {
    check_head(state, caller, head, |head| {
        let actor = access::check_caller(state, caller, &head.headers, method.access())
            .map_err(|refusal| Box::new(refusal.answer()))?;
        if head.method == HttpMethod::POST {
            Ok(MethodCall { actor, method })
        } else {
            Err(Box::new(not_post()))
        }
    })
}

fn not_post() -> HttpResponse {
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "UnexpectedMethod");
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("POST"));
    answer
}

pub(in crate::http) async fn answer(
    state: &HttpState,
    head: Head<MethodCall>,
    body: RequestBody,
) -> HttpResponse {
    let answer = match head.parsed {
        Ok(call) => answer_call(state, call, body).await,
        Err(answer) => *answer,
    };
    with_headers(answer, head.cors)
}

async fn answer_call(state: &HttpState, call: MethodCall, body: RequestBody) -> HttpResponse {
    let MethodCall { actor, method } = call;
    let read = if method == Method::Report {
        body.read_large(&state.body_memory).await
    } else {
        read_small(state, body).await
    };
    let (body, held) = match read {
        Ok(read) => read,
        Err(problem) => return problem.answer(),
    };
    let answered = if method == Method::Report {
        let turn = Arc::clone(&state.report_turn);
        let report = report(state.engine.clone(), actor, turn, (body, held));
        // A report that was begun is ended, also if its client hangs up.
        let reported = state.tracker.spawn(report).await;
        reported.unwrap_or_else(|_| Err(unexpected()))
    } else {
        match read_params(method, &body) {
            Ok(request) => state.engine.ask_one(actor, request).await,
            Err(error) => Err(error),
        }
    };
    let answer = match answered {
        Ok(reply) => json(StatusCode::OK, &reply),
        Err(error) => json(status(error.data.error_type), &error),
    };
    state.metrics.api_call(method.name(), answer.status());
    answer
}

/// Reads a method's params as the control socket does. A connection cannot end with a socket that there is not.
fn read_params(method: Method, body: &[u8]) -> Result<GateRequest, Error> {
    let params = if body.is_empty() {
        None
    } else {
        let params: Option<&RawValue> = serde_json::from_slice(body)
            .map_err(|error| Error::new(ErrorType::ParseError, format!("not JSON: {error}")))?;
        params.map(RawValue::get)
    };
    match Request::read(method, params)? {
        Request::Gate(GateRequest::Connect(connect)) if connect.lifetime == Lifetime::Socket => {
            let problem = "takes \"explicit\" over HTTP: no socket shows that the client left";
            Err(Error::invalid_params("lifetime", problem))
        }
        Request::Gate(request) => Ok(request),
        Request::Subscribe(_) | Request::Unsubscribe | Request::GetInfo | Request::Discover => {
            Err(unexpected())
        }
    }
}

/// Takes a whole report. One at a time: the parts of two would mix.
async fn report(
    engine: Engine,
    actor: Arc<str>,
    turn: Arc<Mutex<()>>,
    (body, held): (Bytes, Held),
) -> Answer {
    let _turn = turn.lock().await;
    let report = read_report(body).await?;
    drop(held);
    let answer = report_in_parts(&engine, &actor, report).await;
    let ended = Input::SocketClosed(SocketId::HTTP_REPORT);
    // After the stop there is no report in progress.
    engine.apply(ended).unwrap_or_default();
    answer
}

/// Parses a report; a large one on another thread.
async fn read_report(body: Bytes) -> Result<Report, Error> {
    let bytes = body.len();
    let read = move || match read_params(Method::Report, &body)? {
        GateRequest::Report(report) => Ok(report),
        _ => Err(unexpected()),
    };
    if bytes <= BODY_BYTES_MAX {
        return read();
    }
    spawn_blocking(read)
        .await
        .unwrap_or_else(|_| Err(unexpected()))
}

async fn report_in_parts(engine: &Engine, actor: &Arc<str>, report: Report) -> Answer {
    let mut rows = report.connections.into_iter();
    let mut sum = Reported {
        added: 0,
        removed: 0,
    };
    loop {
        let connections = rows.by_ref().take(PART_ROWS).collect();
        let is_last = rows.len() == 0;
        let part = GateRequest::Report(Report {
            connections,
            complete: report.complete && is_last,
        });
        match engine.ask_one(Arc::clone(actor), part).await? {
            Reply::Reported(Reported { added, removed }) => {
                sum.added += added;
                sum.removed += removed;
            }
            _ => return Err(unexpected()),
        }
        if is_last {
            return Ok(Reply::Reported(sum));
        }
        // Clients that wait at a socket are served before the next part.
        yield_now().await;
    }
}

/// Returns the HTTP status of an error. 404 is left for paths that do not exist, as in an older soramoded.
const fn status(error_type: ErrorType) -> StatusCode {
    match error_type {
        ErrorType::ParseError | ErrorType::InvalidParams => StatusCode::BAD_REQUEST,
        ErrorType::ConnectionIdInUse | ErrorType::NotFound => StatusCode::CONFLICT,
        ErrorType::StorageUnavailable | ErrorType::ClusterUnavailable => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn unexpected() -> Error {
    Error::new(ErrorType::Internal, "a bug in soramoded")
}
