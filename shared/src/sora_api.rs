//! An async client of Sora's HTTP API.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::announce::Notice;
use crate::decision::{Connect, Decision};
use crate::http_client::kept::{Answer, Keep, KeptClient, Post, RequestFailure};
use crate::http_client::{self, Outgoing, PEER_TEXT_BYTES_MAX, Url};
use crate::id::ChannelId;
use crate::mode::{Mode, SettableMode};
use crate::node::{ClusterNode, Status};
use crate::sora::{
    ChangeModeBody, DisconnectBody, DisconnectReason, LocalBody, ModeBody, PUBLISHED_HEADER,
    PushBody, SoraConnection, SoraProblem, SoraSession, TARGET_HEADER, Target, WARNING_HEADER,
};
use crate::text::shorten;

/// The largest answer that is read, in bytes.
pub const SORA_API_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Error type of a soramoded that received its own request.
pub const LOOP_DETECTED: &str = "LoopDetected";

/// The most that is read of the body of an error, in bytes.
pub const SORA_ERROR_BYTES_MAX: usize = 64 * 1024;

/// A Sora, or another server that speaks its API.
#[derive(Clone, Debug)]
pub struct SoraApi(KeptClient);

/// A mode that was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeSet {
    /// Mode after the change.
    pub mode: Mode,
    /// Warning about a partial failure, if soramode answered.
    pub warning: Option<String>,
    /// `true` if the other nodes of soramode's cluster know the mode, if there is a cluster.
    pub published: Option<bool>,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum SoraApiError {
    /// Server cannot be reached, or broke the connection.
    #[error("{0}")]
    Unreachable(String),
    /// Server did not answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// Server answered with an error.
    #[error("answered {status}{}", refusal_words(error_type.as_deref()))]
    Refused {
        /// HTTP status of the answer.
        status: u16,
        /// Error type in the body, if any.
        error_type: Option<String>,
    },
    /// Answer is not as the API specifies.
    #[error("sent an unreadable answer: {0}")]
    Unreadable(String),
    /// Answer is longer than [`SORA_API_BYTES_MAX`] bytes.
    #[error("answered more than {SORA_API_BYTES_MAX} bytes")]
    TooLarge,
}

fn refusal_words(error_type: Option<&str>) -> String {
    match error_type {
        Some(LOOP_DETECTED) => format!(" {LOOP_DETECTED}: its URL leads back to this soramoded"),
        Some(error_type) => format!(" {error_type}"),
        None => String::new(),
    }
}

impl SoraApiError {
    /// Returns true if the server does not know the operation.
    pub fn is_unknown_target(&self) -> bool {
        let unknown = [
            "MissingTarget",
            "SchemaNotFound",
            "MissingTargetFunction",
            "MissingService",
            "InvalidTarget",
        ];
        matches!(self, Self::Refused { error_type: Some(error_type), .. } if unknown.contains(&error_type.as_str()))
    }
}

impl SoraApi {
    /// Returns a client. A call fails after `timeout`.
    pub fn new(
        url: Url,
        token: Option<&str>,
        timeout: Duration,
        outgoing: &Outgoing,
    ) -> Result<Self, SoraApiError> {
        let client = KeptClient::new(url, token, timeout, Keep::default(), outgoing);
        client
            .map(Self)
            .map_err(|error| SoraApiError::Unreachable(error.to_string()))
    }

    /// Returns a client with a timeout of at most this, over the same connections.
    #[must_use]
    pub fn within(&self, timeout: Duration) -> Self {
        Self(self.0.within(timeout))
    }

    /// Returns where it is, without secrets that the URL may have.
    pub fn url(&self) -> String {
        http_client::redacted(self.0.url())
    }

    /// Calls the operation `GetMode`.
    pub async fn get_mode(&self) -> Result<Mode, SoraApiError> {
        self.call::<ModeBody>(Target::GetMode, None::<&()>)
            .await
            .map(|body| body.mode)
    }

    /// Calls the operation `ChangeMode`. A reason is for a soramoded: no Sora takes one.
    pub async fn change_mode(
        &self,
        mode: SettableMode,
        reason: Option<&str>,
    ) -> Result<ModeSet, SoraApiError> {
        let mode = mode.into();
        let body = ChangeModeBody { mode, reason };
        let answer = self.send(Target::ChangeMode, Some(&body)).await?;
        let header = |name: &str| {
            answer
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(|value| shorten(value, PEER_TEXT_BYTES_MAX))
        };
        let (warning, published) = (
            header(WARNING_HEADER),
            header(PUBLISHED_HEADER).and_then(|word| word.parse().ok()),
        );
        let ModeBody { mode } = read_answer(answer)?;
        Ok(ModeSet {
            mode,
            warning,
            published,
        })
    }

    /// soramode's own `Connect`; `None` where the server does not know it, as no Sora does.
    pub async fn connect(&self, connect: &Connect) -> Result<Option<Decision>, SoraApiError> {
        match self.call(Target::Connect, Some(connect)).await {
            Err(error) if error.is_unknown_target() => Ok(None),
            answered => answered.map(Some),
        }
    }

    /// soramode's own `GetStatus`; `None` where the server does not know it, as no Sora does.
    pub async fn get_status(&self) -> Result<Option<Box<Status>>, SoraApiError> {
        match self.call(Target::GetStatus, None::<&()>).await {
            Err(error) if error.is_unknown_target() => Ok(None),
            answered => answered.map(Some),
        }
    }

    /// `ListConnections` of this node. An older Sora that refuses the body which asks for this node's alone is asked again with none.
    pub async fn list_connections(&self) -> Result<Vec<SoraConnection>, SoraApiError> {
        match self
            .call(Target::ListConnections, Some(&LocalBody { local: true }))
            .await
        {
            Err(SoraApiError::Refused { status: 400, .. }) => {
                self.call(Target::ListConnections, None::<&()>).await
            }
            answered => answered,
        }
    }

    /// `ListSessions` of this node; `None` where the server does not know it, as older Soras do not.
    pub async fn list_sessions(&self) -> Result<Option<Vec<SoraSession>>, SoraApiError> {
        match self.call(Target::ListSessions, None::<&()>).await {
            Err(error) if error.is_unknown_target() => Ok(None),
            answered => answered.map(Some),
        }
    }

    /// Calls the operation `ListClusterNodes`.
    pub async fn list_cluster_nodes(&self) -> Result<Vec<ClusterNode>, SoraApiError> {
        self.call(Target::ListClusterNodes, None::<&()>).await
    }

    /// Calls the operation `DisconnectChannel`. Returns `false` if Sora knows no such channel.
    pub async fn disconnect_channel(
        &self,
        channel_id: &ChannelId,
        reason: Option<DisconnectReason<'_>>,
    ) -> Result<bool, SoraApiError> {
        let body = DisconnectBody { channel_id, reason };
        self.call_for_channel(Target::DisconnectChannel, &body)
            .await
    }

    /// Calls the operation `PushChannel`. Returns `false` if Sora knows no such channel.
    pub async fn push_channel(
        &self,
        channel_id: &ChannelId,
        data: &Notice,
    ) -> Result<bool, SoraApiError> {
        let body = PushBody { channel_id, data };
        self.call_for_channel(Target::PushChannel, &body).await
    }

    async fn call_for_channel(
        &self,
        target: Target,
        body: &impl Serialize,
    ) -> Result<bool, SoraApiError> {
        match self.call::<IgnoredAny>(target, Some(body)).await {
            Ok(_) => Ok(true),
            Err(SoraApiError::Refused {
                error_type: Some(error_type),
                ..
            }) if error_type.contains("NOT-FOUND") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Asks, and reads the answer.
    pub async fn call<R: DeserializeOwned>(
        &self,
        target: Target,
        body: Option<&impl Serialize>,
    ) -> Result<R, SoraApiError> {
        read_answer(self.send(target, body).await?)
    }

    async fn send(
        &self,
        target: Target,
        body: Option<&impl Serialize>,
    ) -> Result<Answer, SoraApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(
            HeaderName::from_static(TARGET_HEADER),
            HeaderValue::from_static(target.name()),
        );
        let body = match body {
            Some(body) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                serde_json::to_vec(body)
                    .map_err(|error| SoraApiError::Unreadable(error.to_string()))?
            }
            None => Vec::new(),
        };
        let bytes_max = |status| match status {
            StatusCode::OK => SORA_API_BYTES_MAX,
            _ => SORA_ERROR_BYTES_MAX,
        };
        let post = Post {
            target: None,
            headers,
            body: body.into(),
        };
        Ok(self.0.post(post, bytes_max).await?)
    }
}

fn read_answer<R: DeserializeOwned>(answer: Answer) -> Result<R, SoraApiError> {
    if answer.status != StatusCode::OK {
        return Err(refusal(answer));
    }
    let bytes = answer.body?;
    // An empty body stands for an empty result.
    let bytes = if bytes.is_empty() { b"{}" } else { &*bytes };
    serde_json::from_slice(bytes)
        .map_err(|error| SoraApiError::Unreadable(shorten(&error.to_string(), PEER_TEXT_BYTES_MAX)))
}

/// An error is kept, logged and shown, so that no more of it is taken than its type's beginning.
fn refusal(answer: Answer) -> SoraApiError {
    let bytes = match answer.body {
        Ok(bytes) => bytes,
        Err(RequestFailure::TooLarge) => Bytes::new(),
        Err(failure) => return failure.into(),
    };
    let problem: Option<SoraProblem> = serde_json::from_slice(&bytes).ok();
    let error_type = problem
        .and_then(|problem| problem.error_type)
        .map(|error_type| shorten(&error_type, PEER_TEXT_BYTES_MAX));
    SoraApiError::Refused {
        status: answer.status.as_u16(),
        error_type,
    }
}

impl From<RequestFailure> for SoraApiError {
    fn from(failure: RequestFailure) -> Self {
        match failure {
            RequestFailure::Unreachable(why) => Self::Unreachable(why),
            RequestFailure::TimedOut => Self::TimedOut,
            RequestFailure::TooLarge => Self::TooLarge,
        }
    }
}
