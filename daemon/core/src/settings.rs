//! Settings of the gate.

use std::time::Duration;

use soramode_protocol::end::EndMethod;
use soramode_protocol::event::EventType;
use soramode_protocol::id::NodeName;
use soramode_protocol::mode::SettableMode;
use soramode_protocol::node::Storage;

use crate::cluster::LeaseTerms;
use crate::fault::PlantedFault;

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

/// Time between two lists of Janus's rooms, if it sends no events, and before the first retry.
pub const LIST_PAUSE_WITHOUT_EVENTS: Duration = Duration::from_secs(1);

/// A pause between two lists of Janus's rooms is at least this many times the time that the last one took.
pub const LIST_PAUSE_FACTOR: u32 = 20;

/// Time between two polls of Sora's API while the node is closed, or the last poll failed.
pub const POLL_PAUSE_BLOCKED: Duration = Duration::from_secs(10);

/// Minimum age, at the begin of a poll, of connections and sessions that end if the poll does not show them.
pub const POLL_GRACE: Duration = Duration::from_secs(10);

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
    /// The gate knows every session on the node, or of the SFU if one feeds it, from the start.
    pub assume_complete: bool,
    /// The SFU, if one feeds the gate.
    pub sfu: SfuSettings,
    /// Storage of the state.
    pub storage: Storage,
    /// Receivers of events.
    pub receivers: Vec<EventReceiver>,
}

/// A receiver of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventReceiver {
    /// Its URL, which identifies a receiver over restarts.
    pub url: String,
    /// The URL without secrets.
    pub endpoint: String,
    /// Types of the events that it receives, as far as these can be delivered. None: it was removed, and only keeps its index.
    pub types: Vec<EventType>,
}

impl EventReceiver {
    /// Returns false if it was removed.
    pub(crate) fn is_configured(&self) -> bool {
        !self.types.is_empty()
    }
}

/// Settings of the SFU that feeds the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SfuSettings {
    /// Sources of its reports.
    pub feed: SfuFeed,
    /// URL of its API, without secrets, for messages.
    pub api_url: Option<String>,
    /// Admission of its clients.
    pub admission: SfuAdmission,
    /// Its own means to reach the clients of a session.
    pub means: SfuMeans,
    /// Time that a session lasts which its API shows to be empty, without its `session.destroyed`.
    pub session_max_linger: Duration,
}

impl Default for SfuSettings {
    /// None.
    fn default() -> Self {
        Self {
            feed: SfuFeed::None,
            api_url: None,
            admission: SfuAdmission::Enforced,
            means: SfuMeans::default(),
            session_max_linger: SESSION_MAX_LINGER_DEFAULT,
        }
    }
}

/// Means of the SFU itself to reach the clients of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SfuMeans {
    /// Means to end a session.
    pub end: Option<EndMethod>,
    /// The SFU can send a notice to the clients of a session.
    pub announces: bool,
}

impl SfuMeans {
    /// Sora's API.
    pub const SORA_API: Self = Self {
        end: Some(EndMethod::SoraApi),
        announces: true,
    };

    /// Janus's Admin API. `VideoRoom` has no message for all participants of a room.
    pub const JANUS_ADMIN: Self = Self {
        end: Some(EndMethod::JanusAdmin),
        announces: false,
    };
}

/// Sources of the SFU's reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SfuFeed {
    /// There is none.
    None,
    /// Sora's webhooks alone.
    Webhooks,
    /// Sora's webhooks, and its API can be polled ([`Action::Poll`](crate::effect::Action::Poll)).
    WebhooksAndApi,
    /// Sora's API alone.
    Api,
    /// The Admin API of Janus, which can be polled too.
    Janus {
        /// Janus also sends events.
        has_events: bool,
        /// The mode is applied by locks of its rooms.
        locks_rooms: bool,
        /// A mode that lets nobody in is also applied by the refusal of new sessions.
        refuses_sessions: bool,
    },
}

impl SfuFeed {
    /// Returns whether the SFU is a Janus.
    pub(crate) const fn is_janus(self) -> bool {
        matches!(self, Self::Janus { .. })
    }

    /// Returns whether the mode is applied by locks of rooms.
    pub(crate) const fn locks_rooms(self) -> bool {
        matches!(
            self,
            Self::Janus {
                locks_rooms: true,
                ..
            }
        )
    }
}

/// Admission of the SFU's clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SfuAdmission {
    /// Decisions are enforced.
    Enforced,
    /// Decisions are made and counted, and the client is admitted all the same.
    Shadow,
    /// The SFU applies the mode itself, and asks about no client.
    BySfu,
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
    /// URL of the node's status page.
    pub page_url: Option<String>,
    /// The mistake that a test has planted.
    pub fault: PlantedFault,
    /// Time for which the registration of an ended node stays in etcd.
    pub registration_ttl: Duration,
}

/// Means to end sessions after the lease has expired.
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
