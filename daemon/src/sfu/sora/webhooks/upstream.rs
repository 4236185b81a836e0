//! The application's own webhooks: Sora's requests are forwarded unchanged, and the answers
//! returned.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::{HeaderMap, Response, StatusCode};
use reqwest::Client;
use soramode_protocol::http_client::{self, Outgoing, root_cause};

use crate::args::http::HttpUrl;
use crate::health::Health;
use crate::http::headers::{end_to_end, passed_on};
use crate::http::response::{HttpResponse, full};

/// The largest answer of an upstream, in bytes.
pub const UPSTREAM_BYTES_MAX: usize = 1024 * 1024;

/// One of the application's webhooks.
#[derive(Debug)]
pub(crate) struct Upstream {
    name: &'static str,
    pub(super) url: HttpUrl,
    client: Client,
    timeout: Duration,
    outgoing: Outgoing,
    health: Arc<Health>,
}

/// Response of an upstream.
#[derive(Debug)]
pub(crate) struct UpstreamResponse {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Failure of an upstream: no answer in time, or one that cannot be returned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Failed(pub(crate) String);

impl Upstream {
    pub(crate) fn new(
        (name, url): (&'static str, HttpUrl),
        timeout: Duration,
        outgoing: &Outgoing,
        health: Arc<Health>,
    ) -> Result<Self, reqwest::Error> {
        let client = http_client::client(&url.0, timeout, outgoing)?;
        Ok(Self {
            name,
            client,
            url,
            timeout,
            outgoing: outgoing.clone(),
            health,
        })
    }

    /// Forwards a body with its headers, and reads the whole response.
    pub(crate) async fn send_request(
        &self,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<UpstreamResponse, Failed> {
        let response = self.send(headers, body).await;
        self.health.note(
            self.name,
            match &response {
                Ok(response) if response.status.is_success() => Ok(()),
                Ok(response) => Err(response.problem()),
                Err(failed) => Err(failed.to_string()),
            },
        );
        response
    }

    /// Notes that the response was received and its contents are invalid.
    pub(crate) fn mark_invalid(&self, problem: &str) {
        self.health.note(self.name, Err(problem.to_owned()));
    }

    async fn send(&self, headers: &HeaderMap, body: Bytes) -> Result<UpstreamResponse, Failed> {
        let request = self
            .client
            .post(self.url.0.clone())
            .headers(passed_on(headers, &self.outgoing))
            .body(body);
        let mut response = request.send().await.map_err(|error| self.failed(&error))?;
        let (status, headers) = (response.status(), end_to_end(response.headers()));
        if status.is_informational() {
            return Err(Failed(format!(
                "answered {}: protocol upgrades are not supported",
                status.as_u16()
            )));
        }
        if status.is_redirection() {
            return Err(Failed(format!(
                "answered {}: redirects are not followed",
                status.as_u16()
            )));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.failed(&error))?
        {
            if body.len() + chunk.len() > UPSTREAM_BYTES_MAX {
                return Err(Failed(format!(
                    "answered more than {UPSTREAM_BYTES_MAX} bytes"
                )));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(UpstreamResponse {
            status,
            headers,
            body: body.into(),
        })
    }

    fn failed(&self, error: &reqwest::Error) -> Failed {
        if error.is_timeout() {
            return Failed(format!(
                "no answer within {}",
                humantime::format_duration(self.timeout)
            ));
        }
        Failed(root_cause(error))
    }
}

impl UpstreamResponse {
    /// Describes the problem with the status.
    pub(crate) fn problem(&self) -> String {
        let more = if self.status == StatusCode::LOOP_DETECTED {
            ": its URL leads back to this soramoded"
        } else {
            ""
        };
        format!("answered {}{more}", self.status.as_u16())
    }

    /// Converts to a response for Sora, byte for byte.
    pub(crate) fn into_response(self) -> HttpResponse {
        let mut answer = Response::new(full(self.body));
        *answer.status_mut() = self.status;
        *answer.headers_mut() = self.headers;
        answer
    }
}
