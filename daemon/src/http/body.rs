//! A request's body: read as a whole, within a size and a time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::StatusCode;
use hyper::body::{Body as _, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connection_limit::Permit;
use super::response::{HttpResponse, error};

/// The largest body of a request, in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Timeout of a request body.
pub const BODY_TIME: Duration = Duration::from_secs(10);

/// The largest body of a call that is forwarded to Sora, which takes no more, or of a report, in bytes.
pub const LARGE_BODY_BYTES_MAX: usize = 8_000_000;

/// Memory for all such bodies, in addition to [`BODY_BYTES_MAX`] for each, in KiB.
pub const LARGE_BODIES_KIB_MAX: u32 = 64 * 1024;

/// Timeout of a body with more than [`BODY_BYTES_MAX`].
const LARGE_BODY_TIME: Duration = Duration::from_mins(1);

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyProblem {
    /// Body is longer than allowed.
    TooLarge,
    /// Body did not arrive within [`BODY_TIME`].
    TooSlow,
    /// Body broke off, or is not valid HTTP.
    Broken,
    /// Other bodies have all the memory that there is for large ones.
    NoMemory,
}

impl BodyProblem {
    pub(crate) fn answer(self) -> HttpResponse {
        let mut answer = match self {
            Self::TooLarge => error(StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLarge"),
            Self::TooSlow => error(StatusCode::REQUEST_TIMEOUT, "RequestTimeout"),
            Self::Broken => error(StatusCode::BAD_REQUEST, "InvalidBody"),
            Self::NoMemory => error(StatusCode::SERVICE_UNAVAILABLE, "TooManyLargeRequests"),
        };
        // The rest of the body must not be parsed as the next request.
        answer.headers_mut().insert(
            hyper::header::CONNECTION,
            hyper::header::HeaderValue::from_static("close"),
        );
        answer
    }
}

/// A request's body, still to be read.
#[derive(Debug)]
pub(crate) struct RequestBody {
    incoming: Incoming,
    /// Permit of the client, which can be evicted until the body has arrived.
    permit: Permit,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, permit: &Permit) -> Self {
        if incoming.is_end_stream() {
            permit.set_active();
        } else {
            permit.set_reading_request();
        }
        Self {
            incoming,
            permit: permit.clone(),
        }
    }

    /// Reads a body of at most this many bytes.
    pub(crate) async fn read(self, bytes_max: usize) -> Result<Bytes, BodyProblem> {
        let Self { incoming, permit } = self;
        if incoming.is_end_stream() {
            return Ok(Bytes::new());
        }
        let read = read(incoming, bytes_max).await;
        permit.set_active();
        read
    }

    /// Reads a body of at most [`LARGE_BODY_BYTES_MAX`], while there is memory for it.
    pub(crate) async fn read_large(
        self,
        memory: &BodyMemory,
    ) -> Result<(Bytes, Held), BodyProblem> {
        let Self { incoming, permit } = self;
        let is_large = incoming
            .size_hint()
            .upper()
            .is_none_or(|bytes| bytes > BODY_BYTES_MAX as u64);
        let time = if is_large { LARGE_BODY_TIME } else { BODY_TIME };
        let read = tokio::time::timeout(time, collect_large(incoming, memory))
            .await
            .unwrap_or(Err(BodyProblem::TooSlow));
        permit.set_active();
        read
    }
}

/// Memory for large bodies; each holds its part until it is dropped.
#[derive(Debug)]
pub(crate) struct BodyMemory(Arc<Semaphore>);

#[derive(Debug, Default)]
pub(crate) struct Held(Option<OwnedSemaphorePermit>);

impl BodyMemory {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_BODIES_KIB_MAX as usize)))
    }

    /// Has a body hold as much as one of this length needs.
    fn hold(&self, held: &mut Held, bytes: usize) -> Result<(), BodyProblem> {
        let needed = bytes.saturating_sub(BODY_BYTES_MAX).div_ceil(1024);
        let missing =
            needed.saturating_sub(held.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        let missing = u32::try_from(missing).map_err(|_| BodyProblem::TooLarge)?;
        if missing == 0 {
            return Ok(());
        }
        let more = Arc::clone(&self.0)
            .try_acquire_many_owned(missing)
            .map_err(|_| BodyProblem::NoMemory)?;
        match &mut held.0 {
            Some(there) => there.merge(more),
            None => held.0 = Some(more),
        }
        Ok(())
    }
}

async fn collect_large(
    mut body: Incoming,
    memory: &BodyMemory,
) -> Result<(Bytes, Held), BodyProblem> {
    let said = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if said > LARGE_BODY_BYTES_MAX {
        return Err(BodyProblem::TooLarge);
    }
    let (mut bytes, mut held) = (Vec::new(), Held::default());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyProblem::Broken)?.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > LARGE_BODY_BYTES_MAX {
            return Err(BodyProblem::TooLarge);
        }
        memory.hold(&mut held, bytes.len() + data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok((bytes.into(), held))
}

async fn read(body: Incoming, bytes_max: usize) -> Result<Bytes, BodyProblem> {
    // A body that is announced as too large need not be read.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(BodyProblem::TooLarge);
    }
    match tokio::time::timeout(BODY_TIME, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(problem)) if problem.is::<http_body_util::LengthLimitError>() => {
            Err(BodyProblem::TooLarge)
        }
        Ok(Err(_)) => Err(BodyProblem::Broken),
        Err(_) => Err(BodyProblem::TooSlow),
    }
}
