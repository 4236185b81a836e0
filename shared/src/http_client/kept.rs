//! Client of one server that keeps its connections between requests.
//!
//! A server may close a connection at any moment, also while a request is under way. A request that
//! a connection lost before its answer began is sent once more, over a fresh connection: so each
//! request must be one that may be executed twice. Those of Sora's API are: they read, set a mode,
//! disconnect a channel, send clients a notice with an id, or admit a connection with an id. Those
//! of Janus's Admin API set a state or read one. A webhook has an id, by which its receiver drops a
//! repetition.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue,
};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use percent_encoding::percent_decode_str;
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tower_service::Service;

use super::{MARK_HEADER, Outgoing, Url, root_cause};
use crate::crypto::install_crypto;

/// Time without a request after which a connection is closed. Shorter than the 5 s after which
/// Node.js and Apache close theirs, so that they seldom do it while a request is under way.
pub const KEPT_IDLE_MAX: Duration = Duration::from_secs(4);

/// Maximum number of connections that are kept: the number of calls that are made at a time.
pub const KEPT_CONNECTIONS_MAX: usize = 8;

type Sender = SendRequest<Full<Bytes>>;

/// Connections without a request that a client keeps.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Maximum number.
    pub connections_max: usize,
    /// Time after which each is closed; `None` if only the server closes them.
    pub idle_max: Option<Duration>,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            connections_max: KEPT_CONNECTIONS_MAX,
            idle_max: Some(KEPT_IDLE_MAX),
        }
    }
}

/// The client cannot be used: its URL or a certificate is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnusableClient(String);

/// Failure of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestFailure {
    /// Server cannot be reached, or broke the connection.
    Unreachable(String),
    /// Server did not answer in time.
    TimedOut,
    /// Answer is longer than it may be.
    TooLarge,
}

/// A `POST` request.
#[derive(Clone, Debug, Default)]
pub struct Post {
    /// Its path and query; those of the client's URL if absent.
    pub target: Option<Uri>,
    /// Its own headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Answer to a request.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, if it arrived whole.
    pub body: Result<Bytes, RequestFailure>,
}

/// Client of one server, for `POST` requests that may be executed twice. Its clones share its connections.
#[derive(Clone)]
pub struct KeptClient {
    shared: Arc<Shared>,
    timeout: Duration,
}

struct Shared {
    url: Url,
    connector: HttpsConnector<HttpConnector>,
    /// Scheme and authority, for the connector.
    origin: Uri,
    /// Path and query.
    target: Uri,
    /// Headers of every request.
    headers: HeaderMap,
    keep: Keep,
    /// Number of connections so far.
    connections: AtomicU64,
    /// A connection was closed.
    closed: Arc<Notify>,
    pool: Mutex<Pool>,
}

#[derive(Default)]
struct Pool {
    /// Connections without a request, the one that was used last at the end.
    idle: Vec<Idle>,
    /// Connections, and the task that closes those that are idle for too long.
    tasks: JoinSet<()>,
    has_closer: bool,
}

impl Pool {
    /// Spawns a task, and removes those that have ended.
    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn(task);
    }
}

struct Idle {
    sender: Sender,
    since: Instant,
}

impl KeptClient {
    /// Returns a client. A request fails if connecting, asking and receiving the whole answer take
    /// longer than `timeout`.
    pub fn new(
        url: Url,
        token: Option<&str>,
        timeout: Duration,
        keep: Keep,
        outgoing: &Outgoing,
    ) -> Result<Self, UnusableClient> {
        let unusable = |error: &dyn std::fmt::Display| UnusableClient(error.to_string());
        let authority = url.authority().rsplit('@').next().unwrap_or_default();
        let origin = format!("{}://{authority}", url.scheme());
        let target = url.query().map_or_else(
            || url.path().to_owned(),
            |query| format!("{}?{query}", url.path()),
        );
        let mut headers = HeaderMap::new();
        let host = HeaderValue::from_str(authority).map_err(|error| unusable(&error))?;
        headers.insert(HOST, host);
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        if let Some(authorization) = authorization(&url, token) {
            let mut value =
                HeaderValue::from_str(&authorization).map_err(|error| unusable(&error))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        if let Some(mark) = outgoing.mark.clone() {
            headers.insert(HeaderName::from_static(MARK_HEADER), mark);
        }
        let tls = tls_settings(&url, outgoing).map_err(|error| unusable(&error))?;
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        let shared = Shared {
            connector: (connector, tls).into(),
            origin: origin.parse().map_err(|error| unusable(&error))?,
            target: target.parse().map_err(|error| unusable(&error))?,
            url,
            headers,
            keep,
            connections: AtomicU64::new(0),
            closed: Arc::default(),
            pool: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            timeout,
        })
    }

    /// Returns a client with a timeout of at most this, over the same connections.
    #[must_use]
    pub fn within(&self, timeout: Duration) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            timeout: timeout.min(self.timeout),
        }
    }

    /// Returns the server's URL.
    pub fn url(&self) -> &Url {
        &self.shared.url
    }

    /// Returns the number of connections that were opened so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Waits until a connection is closed. Cancel safe, for one task.
    pub async fn closed(&self) {
        self.shared.closed.notified().await;
    }

    /// Sends a request, and reads at most `bytes_max` of the answer's body, by its status.
    pub async fn post(
        &self,
        post: Post,
        bytes_max: impl FnOnce(StatusCode) -> usize,
    ) -> Result<Answer, RequestFailure> {
        // One timer, set once, for both parts of the request.
        let mut timer = pin!(sleep(self.timeout));
        let (response, sender) = tokio::select! {
            biased;
            sent = self.shared.send(post) => sent?,
            () = &mut timer => return Err(RequestFailure::TimedOut),
        };
        let (head, body) = response.into_parts();
        let body = tokio::select! {
            biased;
            body = Limited::new(body, bytes_max(head.status)).collect() => body.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    RequestFailure::TooLarge
                } else {
                    RequestFailure::Unreachable(root_cause(&*error))
                }
            }),
            () = &mut timer => Err(RequestFailure::TimedOut),
        };
        if body.is_ok() {
            self.shared.keep(sender);
        }
        let body = body.map(Collected::to_bytes);
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    }
}

impl std::fmt::Debug for KeptClient {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("KeptClient").finish_non_exhaustive()
    }
}

impl Shared {
    /// Sends a request, over a kept connection if there is one; once more if a connection loses it.
    async fn send(&self, post: Post) -> Result<(Response<Incoming>, Sender), RequestFailure> {
        let sender = match self.take_kept() {
            Some(kept) => kept,
            None => self.connect().await?,
        };
        match exchange(sender, self.request(post.clone())).await {
            // Some servers announce with this status that they close an idle connection.
            Ok(answered) if answered.0.status() != StatusCode::REQUEST_TIMEOUT => Ok(answered),
            Ok(_) | Err(_) => {
                let sender = self.connect().await?;
                let answered = exchange(sender, self.request(post)).await;
                answered.map_err(unreachable)
            }
        }
    }

    fn request(&self, post: Post) -> Request<Full<Bytes>> {
        let length = HeaderValue::from(post.body.len());
        let mut request = Request::new(Full::new(post.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = post.target.unwrap_or_else(|| self.target.clone());
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().extend(post.headers);
        request.headers_mut().insert(CONTENT_LENGTH, length);
        request
    }

    async fn connect(&self) -> Result<Sender, RequestFailure> {
        let stream = self.connector.clone().call(self.origin.clone()).await;
        let stream = stream.map_err(|error| RequestFailure::Unreachable(root_cause(&*error)))?;
        let (sender, connection) = handshake(stream).await.map_err(unreachable)?;
        self.connections.fetch_add(1, Ordering::Relaxed);
        let closed = Arc::clone(&self.closed);
        self.pool().spawn(async move {
            // Its error is that of the request.
            drop(connection.await);
            closed.notify_one();
        });
        Ok(sender)
    }

    /// Takes the connection that was used last.
    fn take_kept(&self) -> Option<Sender> {
        let mut pool = self.pool();
        while let Some(Idle { sender, since }) = pool.idle.pop() {
            if !sender.is_closed() && !self.is_expired(since) {
                return Some(sender);
            }
        }
        None
    }

    /// Keeps a connection for the next request.
    fn keep(self: &Arc<Self>, sender: Sender) {
        let mut pool = self.pool();
        if pool.idle.len() >= self.keep.connections_max {
            return;
        }
        let since = Instant::now();
        pool.idle.push(Idle { sender, since });
        if let Some(idle_max) = self.keep.idle_max
            && !pool.has_closer
        {
            pool.has_closer = true;
            pool.spawn(close_idle(Arc::downgrade(self), idle_max));
        }
    }

    fn is_expired(&self, since: Instant) -> bool {
        let idle_max = self.keep.idle_max;
        idle_max.is_some_and(|idle_max| since.elapsed() >= idle_max)
    }

    /// Closes the connections that were idle for too long. Returns since when the first of the
    /// others is idle.
    fn close_expired(&self) -> Option<Instant> {
        let mut pool = self.pool();
        pool.idle
            .retain(|idle| !self.is_expired(idle.since) && !idle.sender.is_closed());
        let first = pool.idle.first().map(|idle| idle.since);
        pool.has_closer = first.is_some();
        first
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a request over a connection.
async fn exchange(
    mut sender: Sender,
    request: Request<Full<Bytes>>,
) -> Result<(Response<Incoming>, Sender), hyper::Error> {
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    Ok((response, sender))
}

/// Closes idle connections until there is none.
async fn close_idle(shared: Weak<Shared>, idle_max: Duration) {
    while let Some(since) = shared.upgrade().and_then(|shared| shared.close_expired()) {
        sleep_until(since + idle_max).await;
    }
}

/// Returns the header's value for a token, or for the user that a URL names.
fn authorization(url: &Url, token: Option<&str>) -> Option<String> {
    if let Some(token) = token {
        return Some(format!("Bearer {token}"));
    }
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let user = percent_decode_str(url.username());
    let password = percent_decode_str(url.password().unwrap_or_default());
    let pair: Vec<u8> = user.chain([b':']).chain(password).collect();
    Some(format!("Basic {}", data_encoding::BASE64.encode(&pair)))
}

fn tls_settings(url: &Url, outgoing: &Outgoing) -> Result<ClientConfig, rustls::Error> {
    install_crypto();
    let settings = ClientConfig::builder();
    // Without TLS no certificate of the system's is needed, and none may be there.
    let mut settings = if url.scheme() == "https" {
        let verifier = Verifier::new_with_extra_roots(
            outgoing.authorities.roots().iter().cloned(),
            Arc::new(default_provider()),
        )?;
        settings
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth()
    } else {
        settings
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth()
    };
    settings.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(settings)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that map_err takes"
)]
fn unreachable(error: hyper::Error) -> RequestFailure {
    RequestFailure::Unreachable(root_cause(&error))
}

#[cfg(test)]
mod tests;
