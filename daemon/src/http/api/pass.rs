//! What is not ours goes on to Sora's own API, and its answer comes back as it is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, VARY};
use hyper::{HeaderMap, Response, StatusCode};
use reqwest::{Client, Url};
use serde::Serialize;
use soramode_protocol::http_client;
use soramode_protocol::mode::Mode;
use soramode_protocol::sora::Target;
use soramode_protocol::sora_api::innermost;

use super::guard::CORS_HEADERS;
use super::nodes::with_mode;
use crate::health::{Health, SORA_API};
use crate::http::answer::{Answered, Body, coming, full, json};
use crate::http::headers::end_to_end;

/// The largest answer that is changed on its way, in bytes: a cluster has few nodes.
const NODES_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The way to Sora's API.
#[derive(Debug)]
pub(crate) struct Pass {
    client: Client,
    url: Url,
    health: Arc<Health>,
}

#[derive(Serialize)]
struct Failed<'a> {
    error_type: &'static str,
    error_reason: &'a str,
}

impl Pass {
    /// Each step of a call may take that long; the whole answer may take longer.
    pub(crate) fn new(url: Url, timeout: Duration, health: Arc<Health>) -> Result<Self, reqwest::Error> {
        Ok(Self { client: http_client::streaming(&url, timeout)?, url, health })
    }

    pub(super) async fn answer(&self, headers: &HeaderMap, body: Bytes) -> Answered {
        let mut headers = end_to_end(headers);
        // It is for us, and Sora has no use for it.
        headers.remove(AUTHORIZATION);
        match self.client.post(self.url.clone()).headers(headers).body(body).send().await {
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
                let problem = if error.is_timeout() { "no answer in time".to_owned() } else { innermost(&error) };
                self.health.note(SORA_API, Err(problem.clone()));
                json(status, &Failed { error_type, error_reason: &problem })
            }
        }
    }

    /// The same, with our own mode in a list of nodes.
    pub(super) async fn answer_nodes(&self, asked: (&HeaderMap, Bytes), node_name: &str, mode: Mode) -> Answered {
        let (headers, body) = asked;
        let answer = self.answer(headers, body).await;
        if answer.status() != StatusCode::OK {
            return answer;
        }
        let (mut head, body) = answer.into_parts();
        match whole(body).await {
            Ok(whole) => {
                head.headers.remove(CONTENT_LENGTH);
                Response::from_parts(head, full(with_mode(&whole, node_name, mode).map_or(whole, Bytes::from)))
            }
            Err(problem) => json(StatusCode::BAD_GATEWAY, &Failed { error_type: "BadGateway", error_reason: &problem }),
        }
    }
}

async fn whole(mut body: Body) -> Result<Bytes, String> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let data = frame.map_err(|error| error.to_string())?.into_data().unwrap_or_default();
        if bytes.len() + data.len() > NODES_BYTES_MAX {
            return Err(format!("answered more than {NODES_BYTES_MAX} bytes"));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.into())
}

/// Sora's target for what a list of nodes is asked with.
pub(super) const NODES: Target = Target::ListClusterNodes;

/// An answer of Sora's as ours: if it breaks off, so does this.
fn back(response: Response<reqwest::Body>) -> Answered {
    let (head, body) = response.into_parts();
    let mut headers = end_to_end(&head.headers);
    // A length that was said is kept to.
    if let Some(length) = head.headers.get(CONTENT_LENGTH) {
        headers.insert(CONTENT_LENGTH, length.clone());
    }
    for name in CORS_HEADERS {
        headers.remove(name);
    }
    headers.remove(VARY);
    let mut answer = Response::new(coming(body));
    *answer.status_mut() = head.status;
    *answer.headers_mut() = headers;
    answer
}
