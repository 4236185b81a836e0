//! Why the daemon could not start or go on.

use std::io;

use soramode_protocol::http_client::kept::UnusableClient;
use soramode_protocol::sora_api::SoraApiError;

use crate::config::ConfigError;
use crate::http::HttpError;
use crate::socket_activation::InheritedSocketError;
use crate::socket_file::SocketError;
use crate::store::open::AlreadyLocked;

/// Why the daemon could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The control socket cannot be had.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Sockets that were passed to this process cannot be used.
    #[error(transparent)]
    InheritedSockets(#[from] InheritedSocketError),
    /// Opening an HTTP listener failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Creating the HTTP client for webhooks failed.
    #[error("cannot send webhooks: {0}")]
    Webhook(UnusableClient),
    /// Creating the client of Sora's API failed.
    #[error("cannot ask Sora's API: {0}")]
    SoraApi(SoraApiError),
    /// Creating the client of Janus's Admin API failed.
    #[error("cannot ask Janus's Admin API: {0}")]
    JanusApi(UnusableClient),
    /// The metrics cannot be counted: a bug.
    #[error("cannot count the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// Another daemon has the state.
    #[error(transparent)]
    State(#[from] AlreadyLocked),
    /// The cluster was not built in.
    #[error(transparent)]
    Cluster(#[from] ConfigError),
    /// The system gave no randomness.
    #[error("cannot get random bytes: {0}")]
    Random(#[from] getrandom::Error),
    /// The timer for deadlines failed.
    #[error("cannot set the timer")]
    Timer(#[from] io::Error),
    /// A bug: a step of the gate, or the committer, panicked. Nothing would be decided any more.
    #[error("internal error: the engine stopped after a panic, which is logged above")]
    Engine,
}

impl RunError {
    /// Returns the remedy for the operator, if there is one in addition to the message.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::State(_) => Some(AlreadyLocked::HINT.to_owned()),
            Self::Socket(error) => error.hint(),
            Self::Http(error) => error.hint(),
            Self::InheritedSockets(_)
            | Self::Webhook(_)
            | Self::SoraApi(_)
            | Self::JanusApi(_)
            | Self::Metrics(_)
            | Self::Cluster(_)
            | Self::Random(_)
            | Self::Timer(_)
            | Self::Engine => None,
        }
    }
}
