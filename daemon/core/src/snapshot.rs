//! What the gate starts from: its settings, and what was stored.

use std::time::Duration;

use soramode_protocol::id::NodeName;
use soramode_protocol::mode::{DatedModeChange, ModeState, SettableMode};
use soramode_protocol::node::Storage;

use crate::input::Timestamp;

/// Connections a node holds if no setting says otherwise.
pub const MAX_CONNECTIONS_DEFAULT: u64 = 1_000_000;

/// How long a connection that was let in may take to come, if no setting says otherwise.
pub const PENDING_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// How long a connection outlives the socket it hangs on, if no setting says otherwise.
pub const SOCKET_GRACE_DEFAULT: Duration = Duration::from_secs(30);

/// How long an empty session of Sora's may go on without its `session.destroyed`, if no setting says otherwise.
pub const SESSION_MAX_LINGER_DEFAULT: Duration = Duration::from_mins(1);

/// How long after one poll of Sora's API the next begins, while the node is open.
pub const POLL_PAUSE: Duration = Duration::from_mins(1);

/// The same while the node is closed, or the last poll failed.
pub const POLL_PAUSE_BLOCKED: Duration = Duration::from_secs(10);

/// How much older than a poll something must be to go by what the poll does not show.
pub const POLL_GRACE: Duration = Duration::from_secs(10);

/// Randomness for ids and for the tables' hashes, fresh at each start.
#[derive(Clone, Copy, Debug)]
pub struct Seed(pub [u8; 32]);

/// The gate's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node.
    pub node_name: NodeName,
    /// Whether there is a cluster to join.
    pub clustering: Clustering,
    /// The mode to start in, whatever was stored.
    pub mode: Option<SettableMode>,
    /// How long a session outlives its last connection.
    pub session_linger: Duration,
    /// How many connections the node holds at most.
    pub max_connections: u64,
    /// How long a connection that was let in may take to come.
    pub pending_timeout: Duration,
    /// How long a connection outlives the socket it hangs on.
    pub socket_grace: Duration,
    /// Whether the gate knows of every session on the node from the start: where a Sora feeds it, whether that one's are known.
    pub sessions_known: bool,
    /// The real Sora, if one feeds the gate.
    pub sora: SoraSettings,
    /// Where the state is kept.
    pub storage: Storage,
}

/// What the gate must know of a real Sora.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoraSettings {
    /// How it feeds the gate.
    pub feed: SoraFeed,
    /// Whether its clients are kept out.
    pub admission: SoraAdmission,
    /// How long a session of its that its API shows to be empty may go on without its `session.destroyed`.
    pub session_max_linger: Duration,
}

impl Default for SoraSettings {
    /// None.
    fn default() -> Self {
        Self { feed: SoraFeed::None, admission: SoraAdmission::Enforced, session_max_linger: SESSION_MAX_LINGER_DEFAULT }
    }
}

/// How a real Sora feeds the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoraFeed {
    /// There is none.
    None,
    /// By its webhooks alone.
    Webhooks,
    /// And its API can be asked ([`Act::Poll`](crate::effect::Act::Poll)).
    WebhooksAndApi,
}

/// Whether decisions about a Sora's clients are kept to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoraAdmission {
    /// Yes.
    Enforced,
    /// They are made and counted, and the client is expected all the same.
    Shadow,
}

/// Whether there is a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clustering {
    /// No.
    Standalone,
    /// Yes: the node starts `initial` and `fenced`.
    Clustered,
}

/// What the gate starts from.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The gate's settings.
    pub settings: Settings,
    /// When it starts.
    pub started: Timestamp,
    /// The mode that was stored.
    pub mode: Option<ModeState>,
    /// The mode's history that was stored, oldest first.
    pub mode_changes: Vec<DatedModeChange>,
    /// The seq of the next event.
    pub next_seq: u64,
}

impl Snapshot {
    /// Of a node of which nothing was stored.
    pub const fn empty(settings: Settings, started: Timestamp) -> Self {
        Self { settings, started, mode: None, mode_changes: Vec::new(), next_seq: 1 }
    }
}
