//! Proxy to Sora's own API for all other operations; its answers are returned unchanged.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::header::HeaderName;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, TRANSFER_ENCODING, VARY};
use hyper::{HeaderMap, Response, StatusCode};
use reqwest::{Client, Url};
use soramode_protocol::http_client::{self, Outgoing, root_cause};
use soramode_protocol::mode::Mode;
use soramode_protocol::sora::Target;
use tokio::time::timeout;

use super::nodes::with_mode;
use crate::health::{Health, SORA_API};
use crate::http::headers::{end_to_end, passed_on};
use crate::http::response::{Body, HttpResponse, error_because, full, streaming};

/// The largest answer that is changed on its way, in bytes: a cluster has few nodes.
const NODES_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The way to Sora's API.
#[derive(Debug)]
pub(crate) struct SoraProxy {
    client: Client,
    url: Url,
    outgoing: Outgoing,
    timeout: Duration,
    health: Arc<Health>,
}

impl SoraProxy {
    /// Each step of a call may take that long; the whole answer may take longer.
    pub(crate) fn new(
        url: Url,
        timeout: Duration,
        outgoing: &Outgoing,
        health: Arc<Health>,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self {
            client: http_client::streaming(&url, timeout, outgoing)?,
            url,
            outgoing: outgoing.clone(),
            timeout,
            health,
        })
    }

    pub(super) async fn answer(&self, headers: &HeaderMap, body: Bytes) -> HttpResponse {
        let mut headers = passed_on(headers, &self.outgoing);
        // It is for us, and Sora has no use for it.
        headers.remove(AUTHORIZATION);
        match self
            .client
            .post(self.url.clone())
            .headers(headers)
            .body(body)
            .send()
            .await
        {
            // Protocol upgrades are not offered to clients.
            Ok(response) if response.status().is_informational() => {
                let problem = format!(
                    "answered {}: protocol upgrades are not supported",
                    response.status().as_u16()
                );
                self.health.note(SORA_API, Err(problem.clone()));
                error_because(StatusCode::BAD_GATEWAY, "BadGateway", &problem)
            }
            Ok(response) => {
                self.health.note(SORA_API, Ok(()));
                back(response.into())
            }
            Err(error) => {
                let (status, error_type) = if error.is_timeout() {
                    (StatusCode::GATEWAY_TIMEOUT, "GatewayTimeout")
                } else {
                    (StatusCode::BAD_GATEWAY, "BadGateway")
                };
                let problem = if error.is_timeout() {
                    "no answer in time".to_owned()
                } else {
                    root_cause(&error)
                };
                self.health.note(SORA_API, Err(problem.clone()));
                error_because(status, error_type, &problem)
            }
        }
    }

    /// Passes a list of nodes on, with our own mode in it: its body must be there in a bounded time, however it comes.
    pub(super) async fn answer_nodes(
        &self,
        request_target: (&HeaderMap, Bytes),
        node_name: &str,
        mode: Mode,
    ) -> HttpResponse {
        let (headers, body) = request_target;
        let answer = self.answer(headers, body).await;
        if answer.status() != StatusCode::OK {
            return answer;
        }
        let (mut head, body) = answer.into_parts();
        let read = timeout(self.timeout, whole(body)).await;
        match read.unwrap_or_else(|_| {
            Err((
                StatusCode::GATEWAY_TIMEOUT,
                "the answer was not complete in time".to_owned(),
            ))
        }) {
            Ok(whole) => {
                head.headers.remove(CONTENT_LENGTH);
                Response::from_parts(
                    head,
                    full(with_mode(&whole, node_name, mode).map_or(whole, Bytes::from)),
                )
            }
            Err((status, problem)) => {
                let error_type = if status == StatusCode::GATEWAY_TIMEOUT {
                    "GatewayTimeout"
                } else {
                    "BadGateway"
                };
                error_because(status, error_type, &problem)
            }
        }
    }
}

async fn whole(mut body: Body) -> Result<Bytes, (StatusCode, String)> {
    let bad = |problem: String| (StatusCode::BAD_GATEWAY, problem);
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let data = frame
            .map_err(|error| bad(error.to_string()))?
            .into_data()
            .unwrap_or_default();
        if bytes.len() + data.len() > NODES_BYTES_MAX {
            return Err(bad(format!("answered more than {NODES_BYTES_MAX} bytes")));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.into())
}

/// Target of Sora for the list of nodes.
pub(super) const NODES: Target = Target::ListClusterNodes;

/// An answer of Sora's as ours: if it breaks off, so does this.
fn back(response: Response<reqwest::Body>) -> HttpResponse {
    let (head, body) = response.into_parts();
    let mut headers = end_to_end(&head.headers);
    // An announced length is checked, except for chunked answers, which ignore it (RFC 9112, 6.3).
    if let Some(length) = head
        .headers
        .get(CONTENT_LENGTH)
        .filter(|_| !head.headers.contains_key(TRANSFER_ENCODING))
    {
        headers.insert(CONTENT_LENGTH, length.clone());
    }
    // CORS headers are soramoded's own.
    let of_cors: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("access-control-"))
        .cloned()
        .collect();
    for name in of_cors {
        headers.remove(name);
    }
    headers.remove(VARY);
    let mut answer = Response::new(streaming(body));
    *answer.status_mut() = head.status;
    *answer.headers_mut() = headers;
    answer
}
