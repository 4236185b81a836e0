//! What the gate starts from: its settings, and what was stored.

use std::time::Duration;

use soramode_protocol::delivery::DeliveryState;
use soramode_protocol::event::{Event, EventType};
use soramode_protocol::id::{ChannelId, ClientId, ConnectionId, NodeName, SessionId};
use soramode_protocol::mode::{DatedModeChange, ModeState, SettableMode};
use soramode_protocol::node::Storage;
use soramode_protocol::session::ConnectionState;
use soramode_protocol::time::Time;

use crate::cluster::history::Known;
use crate::cluster::{FenceAfter, Incarnation, LeaseTerms, Token};
use crate::fault::PlantedFault;
use crate::handles::Timestamp;
use crate::tables::rows::{SessionOwner, Source};

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
    /// The cluster that it joins, if it is to be in one: it starts `initial` and fenced.
    pub cluster: Option<ClusterSettings>,
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
    pub assume_complete: bool,
    /// The real Sora, if one feeds the gate.
    pub sora: SoraSettings,
    /// Where the state is kept.
    pub storage: Storage,
    /// Whoever is told of events.
    pub webhooks: Vec<Webhook>,
}

/// A receiver of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Its URL: a receiver is the same over restarts by this.
    pub url: String,
    /// The URL as it may be shown.
    pub endpoint: String,
    /// What it is told of; of these, what can be delivered at all. Nothing: it is no receiver any more, and only keeps its place.
    pub types: Vec<EventType>,
}

impl Webhook {
    pub(crate) fn is_told(&self) -> bool {
        !self.types.is_empty()
    }
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
        Self {
            feed: SoraFeed::None,
            admission: SoraAdmission::Enforced,
            session_max_linger: SESSION_MAX_LINGER_DEFAULT,
        }
    }
}

/// How a real Sora feeds the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoraFeed {
    /// There is none.
    None,
    /// By its webhooks alone.
    Webhooks,
    /// And its API can be asked ([`Action::Poll`](crate::effect::Action::Poll)).
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

/// The cluster, as far as the gate must know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSettings {
    /// Its name, for the status.
    pub name: String,
    /// Where etcd is, for the status.
    pub endpoints: Vec<String>,
    /// What the node promises.
    pub terms: LeaseTerms,
    /// Why its right is without end, if it is.
    pub no_takeover_reason: Option<String>,
    /// What ends sessions at the fence.
    pub on_fence: FenceMeans,
    /// What ends them when the daemon is dead, for the status.
    pub dead_man: String,
    /// Where clients are redirected to.
    pub signaling_url: Option<String>,
    /// Where the node's API is.
    pub api_url: Option<String>,
    /// The mistake that a test has planted.
    pub fault: PlantedFault,
    /// How long the registration of a node that has ended stays in etcd.
    pub registration_ttl: Duration,
}

/// What ends sessions when the right to their channels is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceMeans {
    /// Nothing.
    None,
    /// Sora's API.
    SoraApi,
    /// A command.
    Exec,
    /// Clients that are told so.
    Socket,
}

impl FenceMeans {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SoraApi => "sora-api",
            Self::Exec => "exec",
            Self::Socket => "socket",
        }
    }
}

/// The node's last life in its cluster, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredMember {
    /// Which.
    pub incarnation: Incarnation,
    /// What it promised.
    pub fence_after: FenceAfter,
    /// Whether earlier incarnations, without a record, may still have sessions.
    pub has_untracked: bool,
}

/// What the gate starts from.
#[derive(Clone, Debug)]
pub struct StartParams {
    /// The gate's settings.
    pub settings: Settings,
    /// When it starts.
    pub started: Timestamp,
    /// What was stored.
    pub stored: Stored,
}

/// What was stored of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its mode; `None` of a node of which nothing was stored.
    pub mode: Option<ModeState>,
    /// When it ends by itself, by the boot clock; `None` also where the machine has been restarted since that was written.
    pub expires_at_boot: Option<Duration>,
    /// The mode's history, oldest first.
    pub mode_changes: Vec<DatedModeChange>,
    /// The seq of the next event.
    pub next_seq: u64,
    /// The sessions that were told of.
    pub sessions: Vec<StoredSession>,
    /// The connections.
    pub connections: Vec<StoredConnection>,
    /// The last session left a closed node, and `session.vanished` was not told yet.
    pub vanished_pending: bool,
    /// Deliveries by webhook, in the order of their numbers.
    pub deliveries: Vec<StoredDelivery>,
    /// The node's last life in its cluster.
    pub member: Option<StoredMember>,
    /// The etcd that it was in.
    pub etcd: Option<Known>,
    /// The channels that it owned.
    pub claims: Vec<(ChannelId, Token)>,
}

/// A delivery, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDelivery {
    /// Its number.
    pub id: u64,
    /// The receiver's whole URL.
    pub url: String,
    /// As it may be shown.
    pub endpoint: String,
    /// What is to be delivered.
    pub event: Event,
    /// The mode's generation when that happened.
    pub generation: u64,
    /// What became of it.
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: u32,
    /// Since when it is owed.
    pub created_at: Time,
    /// When it is tried again, while it waits for that.
    pub next_attempt_at: Option<Time>,
    /// When it ended.
    pub finished_at: Option<Time>,
    /// The HTTP status of the last answer.
    pub status: Option<u16>,
    /// Why the last try failed, or why it was given up.
    pub problem: Option<String>,
}

impl Default for Stored {
    /// Nothing.
    fn default() -> Self {
        Self {
            mode: None,
            expires_at_boot: None,
            mode_changes: Vec::new(),
            next_seq: 1,
            sessions: Vec::new(),
            connections: Vec::new(),
            vanished_pending: false,
            deliveries: Vec::new(),
            member: None,
            etcd: None,
            claims: Vec::new(),
        }
    }
}

/// A session that was told of, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSession {
    /// Its channel.
    pub channel_id: ChannelId,
    /// The session.
    pub session_id: SessionId,
    /// When it began.
    pub created_at: Time,
    /// The most live connections it had at one time.
    pub max_connections: u64,
    /// Live connections it had in all.
    pub total_connections: u64,
    /// Who made its id, and so ends it.
    pub owner: SessionOwner,
}

/// A connection, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredConnection {
    /// The connection.
    pub connection_id: ConnectionId,
    /// Its channel.
    pub channel_id: ChannelId,
    /// Whose it is.
    pub client_id: Option<ClientId>,
    /// When it was let in; once it is live, when it was seen.
    pub created_at: Time,
    /// Pending or live.
    pub state: ConnectionState,
    /// Who told of it.
    pub source: Source,
    /// Whether it hangs on a socket.
    pub is_bound: bool,
}
