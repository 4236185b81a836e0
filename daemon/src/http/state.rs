//! State that all routes of the HTTP listeners share.

use std::sync::Arc;

use soramode_protocol::http_client::Outgoing;
use soramode_protocol::id::NodeName;
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

use super::api::proxy::SoraProxy;
use super::body::BodyMemory;
use super::observe::page_state::StatusPageState;
use crate::config::HttpConfig;
use crate::engine::Engine;
use crate::event_log::EventLog;
use crate::metrics::Metrics;
use crate::sfu::janus::DueLists;
use crate::sfu::sora::webhooks::SoraWebhooks;

/// State that all routes share.
#[derive(Debug)]
pub(crate) struct HttpState {
    pub(crate) engine: Engine,
    /// Tasks that go on whether or not the client waits for them.
    pub(crate) tracker: TaskTracker,
    pub(crate) config: HttpConfig,
    pub(crate) node_name: NodeName,
    pub(crate) event_log: Arc<EventLog>,
    pub(crate) metrics: Arc<Metrics>,
    /// State of Sora's webhooks.
    pub(crate) webhooks: Arc<SoraWebhooks>,
    /// Rooms of Janus to list.
    pub(crate) due_lists: Arc<DueLists>,
    /// The way to Sora's own API.
    pub(super) proxy: Option<SoraProxy>,
    pub(super) outgoing: Outgoing,
    /// The status page; `None` if it is off.
    pub(super) page: Option<StatusPageState>,
    /// Memory for large bodies.
    pub(super) body_memory: BodyMemory,
    /// Held by the report in progress.
    pub(super) report_turn: Arc<Mutex<()>>,
    /// Actor of requests without a named token.
    pub(super) nameless: Arc<str>,
}
