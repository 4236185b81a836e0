//! A listener's clients: a task each, with HTTP/1.1 by hyper, and an end to everything that could last for ever.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::Answered;
use super::listen::{Caller, Listener};
use super::places::{Place, Places};
use crate::rate_limit::log_limited;

/// Clients of one listener at one time.
pub const HTTP_CLIENTS_MAX: usize = 1_024;

/// How long a request's head may take, and a client may ask for nothing.
pub const HEAD_TIME: Duration = Duration::from_secs(30);

/// The largest head of a request, in bytes.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How long a client that is turned away may take to hear it.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// How long no client is taken after the system could not give one, for want of descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 31\r\nconnection: close\r\n\r\n{\"error_type\":\"TooManyClients\"}";

const TOO_SLOW: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\ncontent-length: 31\r\nconnection: close\r\n\r\n{\"error_type\":\"RequestTimeout\"}";

/// What answers requests.
pub(super) trait Service: Send + Sync + 'static {
    /// Looks at the head at once, and then answers. A head that is kept longer keeps what the client sends next from being read into the
    /// memory that it lies in.
    fn answer(&self, caller: Caller, request: Request<Incoming>) -> impl Future<Output = Answered> + Send;
}

/// A client that has just come and not asked yet when the daemon stops still may, until then.
async fn heard_out(asked: &CancellationToken, first_word_due: Instant) {
    tokio::select! {
        () = asked.cancelled() => {}
        () = sleep_until(first_word_due) => {}
    }
}

/// Takes clients until the daemon stops; returns when the last is answered.
pub(super) async fn serve<S: Service>(listener: Listener, service: Arc<S>, stop: CancellationToken) {
    let tracker = TaskTracker::new();
    let places = Places::new(HTTP_CLIENTS_MAX, stop.clone());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, caller)) => {
                let first_word_due = listener.lasting().first_word_due();
                let client = Client { caller, service: Arc::clone(&service), stop: stop.clone(), first_word_due };
                let place = places.take();
                tracker.spawn(async move {
                    match place {
                        Some(place) => client.converse(stream, place).await,
                        None => turn_away(stream, FULL).await,
                    }
                });
            }
            Err(error) => pause(&error, &stop).await,
        }
    }
    tracker.close();
    tracker.wait().await;
}

async fn pause(error: &io::Error, stop: &CancellationToken) {
    log_limited!(warn, %error, "cannot accept an HTTP client");
    tokio::select! {
        () = tokio::time::sleep(ACCEPT_PAUSE) => {}
        () = stop.cancelled() => {}
    }
}

/// Says something to a client that is not let in, or not any longer. One that does not want to hear it is not waited for.
async fn turn_away(mut stream: impl AsyncWrite + Unpin, words: &[u8]) {
    let saying = async {
        stream.write_all(words).await?;
        stream.shutdown().await
    };
    if let Ok(Err(error)) = tokio::time::timeout(REFUSAL_TIME, saying).await {
        tracing::debug!(%error, "an HTTP client went before it was turned away");
    }
}

pub(super) struct Client<S> {
    pub(super) caller: Caller,
    pub(super) service: Arc<S>,
    pub(super) stop: CancellationToken,
    pub(super) first_word_due: Instant,
}

impl<S: Service> Client<S> {
    pub(super) async fn converse(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, place: Place) {
        let Self { caller, service, stop, first_word_due } = self;
        let (place, asked) = (&place, &CancellationToken::new());
        let answer = service_fn(|request: Request<Incoming>| {
            asked.cancel();
            place.work();
            let answered = service.answer(caller, request);
            async move {
                let answer = answered.await;
                place.rest();
                Ok::<_, Infallible>(answer)
            }
        });
        let mut builder = Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_BYTES_MAX);
        let mut connection = builder.serve_connection(TokioIo::new(stream), answer);
        let leave = async {
            place.to_leave.cancelled().await;
            if stop.is_cancelled() {
                heard_out(asked, first_word_due).await;
            }
        };
        // What was sent before the stop is read first.
        let ended = tokio::select! {
            biased;
            ended = &mut connection => Some(ended),
            () = leave => None,
        };
        let ended = if let Some(ended) = ended {
            ended
        } else {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        };
        match ended {
            Err(error) if error.is_timeout() => {
                let parts = connection.into_parts();
                if !parts.read_buf.is_empty() {
                    turn_away(parts.io.into_inner(), TOO_SLOW).await;
                }
            }
            Err(error) => tracing::debug!(%error, "an HTTP client's connection broke"),
            Ok(()) => {}
        }
    }
}
