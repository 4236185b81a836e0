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
    /// Whether the gate knows of every session on the node from the start.
    pub sessions_known: bool,
    /// Where the state is kept.
    pub storage: Storage,
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
