//! A listener's clients: a task each, with HTTP/1.1 by hyper, and an end to everything that could last for ever.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::body::RequestBody;
use super::connection_limit::{ConnectionLimit, Permit};
use super::listen::{Caller, Listener, Stream};
use super::response::HttpResponse;
use super::stall::StallLimited;
use crate::control::Operators;
use crate::rate_limit::log_limited;

/// Maximum number of clients per listener, if the daemon may open enough descriptors.
pub const HTTP_CLIENTS_MAX: usize = 1_024;

/// Timeout of a request's head, and of an idle client.
pub const HEAD_TIME: Duration = Duration::from_secs(30);

/// The largest head of a request, in bytes.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Time in which a rejected client must read the response.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// Maximum number of clients of one listener that are being rejected; more are dropped without a
/// response.
pub const REFUSALS_MAX: usize = 32;

/// Pause after a failed `accept`, for example without free descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Time that a client has, during a shutdown, to read its answer or to complete a request.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Time that a request in progress has during a shutdown.
pub const STOP_TIME: Duration = Duration::from_secs(30);

const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 31\r\nconnection: close\r\n\r\n{\"error_type\":\"TooManyClients\"}";

const TOO_SLOW: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\ncontent-length: 31\r\nconnection: close\r\n\r\n{\"error_type\":\"RequestTimeout\"}";

/// Handler of requests.
pub(super) trait Service: Send + Sync + 'static {
    /// Checks the head at once, then answers. The head must be dropped before the first wait: while
    /// it is held, hyper allocates another 8 KiB for the client's next input.
    fn answer(
        &self,
        caller: &Caller,
        request: Request<RequestBody>,
    ) -> impl Future<Output = HttpResponse> + Send;
}

/// Waits for the first request of a client that had just connected when the shutdown began, until
/// its deadline.
async fn first_request_or_deadline(
    has_request: &CancellationToken,
    first_request_deadline: Instant,
) {
    tokio::select! {
        () = has_request.cancelled() => {}
        () = sleep_until(first_request_deadline) => {}
    }
}

/// Serves at most `clients_max` clients until the daemon stops; returns when the last has
/// disconnected.
pub(super) async fn serve<S: Service>(
    listener: Listener,
    clients_max: usize,
    service: Arc<S>,
    common: ListenerContext,
) {
    let ListenerContext { operators, stop } = common;
    let tracker = TaskTracker::new();
    let (limit, refusals) = (
        ConnectionLimit::new(clients_max),
        Arc::new(Semaphore::new(REFUSALS_MAX)),
    );
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, caller)) => {
                let first_request_deadline = listener.owner().first_request_deadline();
                if let Some(permit) = limit.take(caller.ip).await {
                    let operators = operators.borrow().clone();
                    let client = Client {
                        caller,
                        operators,
                        service: Arc::clone(&service),
                        stop: stop.clone(),
                        first_request_deadline,
                    };
                    let task = tracker.spawn(client.serve(stream, permit.clone()));
                    permit.set_task(task.abort_handle());
                } else if let Ok(refusal) = Arc::clone(&refusals).try_acquire_owned() {
                    tracker.spawn(refuse(stream, refusal));
                }
            }
            Err(error) => pause(&error, &stop).await,
        }
    }
    drop(listener);
    tracker.close();
    tracker.wait().await;
}

async fn pause(error: &io::Error, stop: &CancellationToken) {
    // The client has disconnected already.
    if error.kind() == io::ErrorKind::ConnectionAborted {
        return;
    }
    log_limited!(warn, %error, "cannot accept an HTTP client");
    tokio::select! {
        () = sleep(ACCEPT_PAUSE) => {}
        () = stop.cancelled() => {}
    }
}

/// Rejects a client because no slot is free.
async fn refuse(stream: impl AsyncWrite + Unpin, _refusal: OwnedSemaphorePermit) {
    reject(stream, FULL).await;
}

/// Sends a response to a client that is rejected. A client that does not read is not waited for.
async fn reject(mut stream: impl AsyncWrite + Unpin, response: &[u8]) {
    let sending = async {
        stream.write_all(response).await?;
        stream.shutdown().await
    };
    if let Ok(Err(error)) = timeout(REFUSAL_TIME, sending).await {
        tracing::debug!(%error, "an HTTP client disconnected before it was rejected");
    }
}

/// State that the clients of all listeners share.
#[derive(Clone, Debug)]
pub(super) struct ListenerContext {
    pub(super) operators: watch::Receiver<Operators>,
    pub(super) stop: CancellationToken,
}

struct Client<S> {
    caller: Caller,
    operators: Operators,
    service: Arc<S>,
    stop: CancellationToken,
    first_request_deadline: Instant,
}

impl<S: Service> Client<S> {
    /// Serves a client until it disconnects or the daemon stops. The task is aborted when the client is evicted.
    async fn serve(mut self, stream: Stream, permit: Permit) {
        self.caller = self.caller.identified(&stream, &self.operators).await;
        self.serve_requests(StallLimited::new(stream, permit.clone()), &permit)
            .await;
    }

    async fn serve_requests(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        permit: &Permit,
    ) {
        let Self {
            caller,
            service,
            stop,
            first_request_deadline,
            ..
        } = self;
        let caller = &caller;
        let has_request = &CancellationToken::new();
        let answer = service_fn(|request: Request<Incoming>| {
            if !has_request.is_cancelled() {
                has_request.cancel();
            }
            let answered =
                service.answer(caller, request.map(|body| RequestBody::new(body, permit)));
            async move {
                let mut answer = answered.await;
                answer.body_mut().hold_until_sent(permit);
                Ok::<_, Infallible>(answer)
            }
        });
        let mut builder = Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(HEAD_BYTES_MAX);
        let mut connection = builder.serve_connection(TokioIo::new(stream), answer);
        let leave = async {
            stop.cancelled().await;
            first_request_or_deadline(has_request, first_request_deadline).await;
        };
        // Input from before the shutdown is read first.
        let ended = tokio::select! {
            biased;
            ended = &mut connection => ended,
            () = leave => {
                Pin::new(&mut connection).graceful_shutdown();
                tokio::select! {
                    biased;
                    ended = &mut connection => ended,
                    () = shutdown_grace_over(permit) => return tracing::debug!("closed an HTTP client that delayed the shutdown"),
                }
            }
        };
        match ended {
            Err(error) if error.is_timeout() => {
                let parts = connection.into_parts();
                if !parts.read_buf.is_empty() {
                    reject(parts.io.into_inner(), TOO_SLOW).await;
                }
            }
            Err(error) => tracing::debug!(%error, "an HTTP client's connection broke"),
            Ok(()) => {}
        }
    }
}

/// Returns when a stop has waited long enough for a client: one that keeps us waiting has less time than one that we do.
async fn shutdown_grace_over(permit: &Permit) {
    let due = Instant::now() + STOP_TIME;
    loop {
        sleep(DRAIN_TIMEOUT).await;
        if !permit.is_busy() || Instant::now() >= due {
            return;
        }
    }
}
