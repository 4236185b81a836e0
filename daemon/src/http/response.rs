//! Answers: their body's type, and how one is made of JSON.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::connection_limit::{IdleOnDrop, Permit};

/// Error while a body is sent: only forwarded bodies of another server can fail.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// Body of an answer.
pub(crate) enum Body {
    /// Complete body in memory.
    Whole(Full<Bytes>),
    /// Body that is streamed as it arrives.
    Coming(UnsyncBoxBody<Bytes, BodyError>, Option<IdleOnDrop>),
}

impl Body {
    /// Marks the client as idle once the answer is sent: at once for a complete body.
    pub(super) fn hold_until_sent(&mut self, permit: &Permit) {
        match self {
            Self::Whole(_) => permit.set_idle(),
            Self::Coming(_, over) => *over = Some(permit.idle_on_drop()),
        }
    }
}

/// HTTP response of the daemon.
pub(crate) type HttpResponse = Response<Body>;

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A body that is there as a whole.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Body::Whole(Full::new(bytes.into()))
}

/// A body that is sent as it comes.
pub(crate) fn streaming(
    body: impl HttpBody<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
) -> Body {
    Body::Coming(body.map_err(Into::into).boxed_unsync(), None)
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body)
                .poll_frame(context)
                .map_err(|never| match never {}),
            Self::Coming(body, _) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Coming(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Coming(body, _) => body.size_hint(),
        }
    }
}

/// A value as compact JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> HttpResponse {
    match serde_json::to_vec(value) {
        Ok(bytes) => typed(status, JSON, bytes),
        // Serializing an answer cannot fail.
        Err(error) => {
            tracing::error!(%error, "cannot write an answer");
            typed(
                StatusCode::INTERNAL_SERVER_ERROR,
                JSON,
                &b"{\"error_type\":\"HandlerException\"}"[..],
            )
        }
    }
}

/// Bytes of a type.
pub(crate) fn typed(
    status: StatusCode,
    content_type: HeaderValue,
    bytes: impl Into<Bytes>,
) -> HttpResponse {
    let mut answer = Response::new(full(bytes));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

/// The body of an error.
#[derive(Serialize)]
pub(crate) struct ErrorBody<'a, R> {
    pub(crate) error_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error_reason: Option<R>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

/// Returns the body `{"error_type":…}`.
pub(crate) fn error(status: StatusCode, error_type: &str) -> HttpResponse {
    let body = ErrorBody {
        error_type,
        error_reason: None::<()>,
        hint: None,
    };
    json(status, &body)
}

/// Returns the body `{"error_type":…,"error_reason":…}`.
pub(crate) fn error_because(
    status: StatusCode,
    error_type: &str,
    reason: impl Serialize,
) -> HttpResponse {
    let body = ErrorBody {
        error_type,
        error_reason: Some(reason),
        hint: None,
    };
    json(status, &body)
}
