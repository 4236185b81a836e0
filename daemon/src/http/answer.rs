//! Answers: their body's type, and how one is made of JSON.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

/// What an answer's body may fail with while it is sent: only what is passed through from another server can.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// An answer's body.
pub(crate) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// An answer.
pub(crate) type Answered = Response<Body>;

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A body that is there as a whole.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A value as compact JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Answered {
    match serde_json::to_vec(value) {
        Ok(bytes) => typed(status, JSON, bytes),
        // Nothing that is answered can fail to be written.
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written");
            typed(StatusCode::INTERNAL_SERVER_ERROR, JSON, &b"{\"error_type\":\"HandlerException\"}"[..])
        }
    }
}

/// Bytes of a type.
pub(crate) fn typed(status: StatusCode, content_type: HeaderValue, bytes: impl Into<Bytes>) -> Answered {
    let mut answer = Response::new(full(bytes));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

/// `{"error_type":…}`
pub(crate) fn error(status: StatusCode, error_type: &str) -> Answered {
    #[derive(Serialize)]
    struct Problem<'a> {
        error_type: &'a str,
    }
    json(status, &Problem { error_type })
}
