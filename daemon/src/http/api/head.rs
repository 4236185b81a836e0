//! Head of a request of the API, checked before the body is read.

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::http::request::Parts;

use super::access;
use crate::http::body::{BODY_BYTES_MAX, BodyProblem, Held, RequestBody};
use crate::http::listen::Caller;
use crate::http::response::HttpResponse;
use crate::http::state::HttpState;

/// Checked head of a request.
pub(in crate::http) struct Head<T> {
    /// Headers of every answer.
    pub(super) cors: Option<Box<HeaderMap>>,
    /// Parsed request; or the answer, if that does not depend on the body.
    pub(super) parsed: Result<T, Box<HttpResponse>>,
}

/// Checks host and origin, before anything else is parsed.
pub(super) fn check_head<T>(
    state: &HttpState,
    caller: &Caller,
    head: Parts,
    parse: impl FnOnce(Parts) -> Result<T, Box<HttpResponse>>,
) -> Head<T> {
    let config = &state.config.api;
    let checked = access::check_host(config, caller, &head.headers)
        .and_then(|()| access::check_origin(config, &head.headers));
    match checked {
        Ok(cors) => Head {
            cors,
            parsed: parse(head),
        },
        Err(refusal) => Head {
            cors: None,
            parsed: Err(Box::new(refusal.answer())),
        },
    }
}

pub(super) fn with_headers(
    mut answer: HttpResponse,
    headers: Option<Box<HeaderMap>>,
) -> HttpResponse {
    if let Some(headers) = headers {
        answer.headers_mut().extend(*headers);
    }
    answer
}

/// Reads a body that the engine takes, once there is room for its request.
pub(super) async fn read_small(
    state: &HttpState,
    body: RequestBody,
) -> Result<(Bytes, Held), BodyProblem> {
    state.engine.not_crowded().await;
    let read = body.read(BODY_BYTES_MAX).await;
    read.map(|body| (body, Held::default()))
}
