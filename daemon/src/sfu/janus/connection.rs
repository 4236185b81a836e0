//! The one connection to Janus's Admin API, over HTTP/1.1. It is kept open, and not pooled, because its break is a sign that Janus was
//! restarted. Each request may be repeated: it sets a state, or reads one.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HOST;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use reqwest::Url;
use soramode_protocol::http_client::PEER_TEXT_BYTES_MAX;
use soramode_protocol::text::shorten;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::admin::AdminError;
use crate::lock::lock;

/// The largest answer that is read, in bytes.
pub(super) const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

type Sender = SendRequest<Full<Bytes>>;

/// A connection that is opened again when it breaks. One request at a time.
#[derive(Debug, Default)]
pub(super) struct KeptConnection {
    /// Held during a request; lost if the request is given up.
    turn: tokio::sync::Mutex<()>,
    sender: Mutex<Option<Sender>>,
    has_connected: AtomicBool,
    has_reconnected: AtomicBool,
    /// It broke.
    broken: Arc<Notify>,
    tasks: TaskTracker,
}

impl KeptConnection {
    /// Returns whether a connection was opened after an earlier one, since the last call.
    pub(super) fn has_reconnected(&self) -> bool {
        self.has_reconnected.swap(false, Ordering::Relaxed)
    }

    /// Waits until the connection breaks. Cancel safe.
    pub(super) async fn broken(&self) {
        self.broken.notified().await;
    }

    /// Sends a `POST`, and returns the body of its answer.
    pub(super) async fn send(&self, url: &Url, body: Bytes) -> Result<Bytes, AdminError> {
        let _turn = self.turn.lock().await;
        let kept = mem::take(&mut *lock(&self.sender)).filter(|sender| !sender.is_closed());
        if let Some(sender) = kept
            && let Ok(answer) = self.send_over(sender, url, body.clone()).await
        {
            return Ok(answer);
        }
        let sender = self.connect(url).await?;
        self.send_over(sender, url, body).await
    }

    async fn connect(&self, url: &Url) -> Result<Sender, AdminError> {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let address = (host, url.port_or_known_default().unwrap_or_default());
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| AdminError::Unreachable(error.kind().to_string()))?;
        // Each request waits for the answer of the one before: a delay of each would add up.
        stream
            .set_nodelay(true)
            .map_err(|error| AdminError::Unreachable(error.kind().to_string()))?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(unreachable)?;
        let broken = Arc::clone(&self.broken);
        self.tasks.spawn(async move {
            // Its error is that of the request.
            connection.await.ok();
            broken.notify_one();
        });
        if self.has_connected.swap(true, Ordering::Relaxed) {
            self.has_reconnected.store(true, Ordering::Relaxed);
        }
        Ok(sender)
    }

    async fn send_over(
        &self,
        mut sender: Sender,
        url: &Url,
        body: Bytes,
    ) -> Result<Bytes, AdminError> {
        let host = url.authority().rsplit('@').next().unwrap_or_default();
        let request = Request::builder()
            .method(Method::POST)
            .uri(url.path())
            .header(HOST, host)
            .body(Full::new(body))
            .map_err(|error| AdminError::Unreadable(error.to_string()))?;
        sender.ready().await.map_err(unreachable)?;
        let response = sender.send_request(request).await.map_err(unreachable)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        let body = body.collect().await.map_err(|_| AdminError::TooLarge)?;
        *lock(&self.sender) = Some(sender);
        if status.is_success() {
            Ok(body.to_bytes())
        } else {
            Err(AdminError::Unreadable(format!("HTTP status {status}")))
        }
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that map_err takes"
)]
fn unreachable(error: hyper::Error) -> AdminError {
    AdminError::Unreachable(shorten(&error.to_string(), PEER_TEXT_BYTES_MAX))
}
