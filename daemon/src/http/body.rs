//! A request's body: read as a whole, within a size and a time.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::StatusCode;
use hyper::body::{Body as _, Incoming};

use super::answer::{Answered, error};
use super::places::Place;

/// The largest body of a request, in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// How long a body may take.
pub const BODY_TIME: Duration = Duration::from_secs(10);

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyProblem {
    /// It has more than the bytes that are taken.
    TooLarge,
    /// It did not come in [`BODY_TIME`].
    TooSlow,
    /// It broke off, or is not HTTP.
    Broken,
}

impl BodyProblem {
    pub(crate) fn answer(self) -> Answered {
        let mut answer = match self {
            Self::TooLarge => error(StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLarge"),
            Self::TooSlow => error(StatusCode::REQUEST_TIMEOUT, "RequestTimeout"),
            Self::Broken => error(StatusCode::BAD_REQUEST, "InvalidBody"),
        };
        // What is left of the body is nothing that could be read as the next request.
        answer.headers_mut().insert(hyper::header::CONNECTION, hyper::header::HeaderValue::from_static("close"));
        answer
    }
}

/// A request's body, still to be read.
#[derive(Debug)]
pub(crate) struct RequestBody {
    incoming: Incoming,
    /// The client may lose it until the body has come.
    place: Place,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, place: &Place) -> Self {
        if incoming.is_end_stream() {
            place.answered();
        } else {
            place.asking();
        }
        Self { incoming, place: place.clone() }
    }

    /// Reads a body of at most this many bytes.
    pub(crate) async fn read(self, bytes_max: usize) -> Result<Bytes, BodyProblem> {
        let Self { incoming, place } = self;
        if incoming.is_end_stream() {
            return Ok(Bytes::new());
        }
        let read = read(incoming, bytes_max).await;
        place.answered();
        read
    }
}

async fn read(body: Incoming, bytes_max: usize) -> Result<Bytes, BodyProblem> {
    // Said to be too large, it need not come first.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(BodyProblem::TooLarge);
    }
    match tokio::time::timeout(BODY_TIME, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(problem)) if problem.is::<http_body_util::LengthLimitError>() => Err(BodyProblem::TooLarge),
        Ok(Err(_)) => Err(BodyProblem::Broken),
        Err(_) => Err(BodyProblem::TooSlow),
    }
}
