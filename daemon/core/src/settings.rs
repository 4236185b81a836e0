//! Parameters of a start: settings, and the stored state.

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
use crate::plan::stored::{StoredAnnouncement, StoredEnd, StoredPlan};
use crate::reservation::StoredReservation;
use crate::tables::rows::{SessionOwner, Source};

/// Connections that a node holds at most, by default.
pub const MAX_CONNECTIONS_DEFAULT: u64 = 1_000_000;

/// Time that a pending connection has to become live, by default.
pub const PENDING_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Time that a connection outlives its socket, by default.
pub const SOCKET_GRACE_DEFAULT: Duration = Duration::from_secs(30);

/// Time that an empty session of Sora lasts without its `session.destroyed`, by default.
pub const SESSION_MAX_LINGER_DEFAULT: Duration = Duration::from_mins(1);

/// Default time after the last end of a session from which a drain counts as stalled.
pub const STALL_AFTER_DEFAULT: Duration = Duration::from_mins(10);

/// Time between two polls of Sora's API while the node is open.
pub const POLL_PAUSE: Duration = Duration::from_mins(1);

/// Time between two polls of Sora's API while the node is closed, or the last poll failed.
pub const POLL_PAUSE_BLOCKED: Duration = Duration::from_secs(10);

/// A poll says nothing of connections and sessions that are less than this older than it.
pub const POLL_GRACE: Duration = Duration::from_secs(10);

/// Randomness for ids and for the tables' hashes, fresh at each start.
#[derive(Clone, Copy, Debug)]
pub struct Seed(pub [u8; 32]);

/// The gate's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node.
    pub node_name: NodeName,
    /// The cluster that it joins: it starts `initial` and fenced.
    pub cluster: Option<ClusterSettings>,
    /// The mode to start in, in place of the stored one.
    pub mode: Option<SettableMode>,
    /// Time for which a session outlives its last connection, so that its client can come back to a node that is closed to new sessions.
    pub reconnect_grace: Duration,
    /// Time after the last end of a session from which the drain of a closed node counts as stalled.
    pub stall_after: Duration,
    /// Connections that the node holds at most.
    pub max_connections: u64,
    /// Time that a pending connection has to become live.
    pub pending_timeout: Duration,
    /// Time that a connection outlives its socket.
    pub socket_grace: Duration,
    /// The gate knows every session on the node, or of Sora if one feeds it, from the start.
    pub assume_complete: bool,
    /// The real Sora, if one feeds the gate.
    pub sora: SoraSettings,
    /// Storage of the state.
    pub storage: Storage,
    /// Receivers of events.
    pub webhooks: Vec<Webhook>,
}

/// A receiver of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Its URL: a receiver is the same over restarts by this.
    pub url: String,
    /// The URL without secrets.
    pub endpoint: String,
    /// Types of the events that it receives, as far as these can be delivered. None: it was removed, and only keeps its index.
    pub types: Vec<EventType>,
}

impl Webhook {
    pub(crate) fn is_told(&self) -> bool {
        !self.types.is_empty()
    }
}

/// Settings of the Sora that feeds the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoraSettings {
    /// Sources of its reports.
    pub feed: SoraFeed,
    /// Admission of its clients.
    pub admission: SoraAdmission,
    /// Time that a session lasts which its API shows to be empty, without its `session.destroyed`.
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

/// Sources of Sora's reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoraFeed {
    /// There is none.
    None,
    /// Its webhooks alone.
    Webhooks,
    /// Its webhooks, and its API can be polled ([`Action::Poll`](crate::effect::Action::Poll)).
    WebhooksAndApi,
}

/// Admission of Sora's clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoraAdmission {
    /// Decisions are enforced.
    Enforced,
    /// Decisions are made and counted, and the client is admitted all the same.
    Shadow,
}

/// Settings of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSettings {
    /// Its name, for the status.
    pub name: String,
    /// Endpoints of etcd, for the status.
    pub endpoints: Vec<String>,
    /// Terms of the node's lease.
    pub terms: LeaseTerms,
    /// Why its lease never expires, if it does not.
    pub no_takeover_reason: Option<String>,
    /// Means to end sessions when the node is fenced.
    pub on_fence: FenceMeans,
    /// Means to end them when the daemon is dead, for the status.
    pub dead_man: String,
    /// URL that clients are redirected to.
    pub signaling_url: Option<String>,
    /// URL of the node's API.
    pub api_url: Option<String>,
    /// The mistake that a test has planted.
    pub fault: PlantedFault,
    /// Time for which the registration of an ended node stays in etcd.
    pub registration_ttl: Duration,
}

/// Means to end sessions whose lease has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceMeans {
    /// None.
    None,
    /// Sora's API.
    SoraApi,
    /// A command.
    Exec,
    /// Clients that are notified.
    Socket,
}

impl FenceMeans {
    /// Its name in settings and in the status.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SoraApi => "sora-api",
            Self::Exec => "exec",
            Self::Socket => "socket",
        }
    }
}

/// The node's last incarnation, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredMember {
    /// The incarnation.
    pub incarnation: Incarnation,
    /// Expiry of its lease.
    pub fence_after: FenceAfter,
    /// Earlier incarnations, without a record, may still have sessions.
    pub has_untracked: bool,
}

/// Parameters of a start.
#[derive(Clone, Debug)]
pub struct StartParams {
    /// The gate's settings.
    pub settings: Settings,
    /// When it starts.
    pub started: Timestamp,
    /// The stored state.
    pub stored: Stored,
}

/// The stored state of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its mode; `None` if nothing was stored.
    pub mode: Option<ModeState>,
    /// When the mode ends by itself, by the boot clock; `None` also where the machine has been restarted since that was written.
    pub expires_at_boot: Option<Duration>,
    /// The mode's history, oldest first.
    pub mode_changes: Vec<DatedModeChange>,
    /// The seq of the next event.
    pub next_seq: u64,
    /// The sessions with an event.
    pub sessions: Vec<StoredSession>,
    /// The connections.
    pub connections: Vec<StoredConnection>,
    /// The last session left a closed node, and `session.vanished` is pending.
    pub vanished_pending: bool,
    /// Deliveries by webhook, in the order of their numbers.
    pub deliveries: Vec<StoredDelivery>,
    /// The node's last incarnation.
    pub member: Option<StoredMember>,
    /// The etcd that it was in.
    pub etcd: Option<Known>,
    /// The channels that it owned.
    pub claims: Vec<(ChannelId, Token)>,
    /// The plan that runs, or the last one.
    pub plan: Option<StoredPlan>,
    /// Announcements that have not reached every channel, in the order in which they began.
    pub announcements: Vec<StoredAnnouncement>,
    /// Requests to end sessions of which some are left, in the order in which they were made.
    pub ends: Vec<StoredEnd>,
    /// The node's reservation, or the last one.
    pub reservation: Option<StoredReservation>,
}

/// A delivery, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDelivery {
    /// Its number.
    pub id: u64,
    /// The receiver's whole URL.
    pub url: String,
    /// The URL without secrets.
    pub endpoint: String,
    /// The event.
    pub event: Event,
    /// The mode's generation at the event.
    pub generation: u64,
    /// Its state.
    pub state: DeliveryState,
    /// Number of attempts.
    pub attempts: u32,
    /// When it was created.
    pub created_at: Time,
    /// When the next attempt is due, while it waits.
    pub next_attempt_at: Option<Time>,
    /// When it ended.
    pub finished_at: Option<Time>,
    /// The HTTP status of the last answer.
    pub status: Option<u16>,
    /// Why the last attempt failed, or the delivery.
    pub problem: Option<String>,
}

impl Default for Stored {
    /// An empty state.
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
            plan: None,
            announcements: Vec::new(),
            ends: Vec::new(),
            reservation: None,
        }
    }
}

/// A session with an event, as it is stored.
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
    /// The maker of its id, which ends it.
    pub owner: SessionOwner,
}

/// A connection, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredConnection {
    /// The connection.
    pub connection_id: ConnectionId,
    /// Its channel.
    pub channel_id: ChannelId,
    /// The client's id.
    pub client_id: Option<ClientId>,
    /// When it was admitted; once it is live, when it became so.
    pub created_at: Time,
    /// Pending or live.
    pub state: ConnectionState,
    /// Source that reported it.
    pub source: Source,
    /// It ends with its socket.
    pub is_bound: bool,
}
