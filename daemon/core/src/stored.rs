//! The stored state of a node, which a start reads.

use std::time::Duration;

use soramode_protocol::delivery::DeliveryState;
use soramode_protocol::event::Event;
use soramode_protocol::id::{ChannelId, ClientId, ConnectionId, RollId, SessionId};
use soramode_protocol::mode::{DatedModeChange, ModeState};
use soramode_protocol::reservation::RollStep;
use soramode_protocol::session::ConnectionState;
use soramode_protocol::time::Time;

use crate::cluster::history::EtcdIdentity;
use crate::cluster::{FenceAfter, Incarnation, Token};
use crate::handles::DeliveryId;
use crate::plan::stored::{StoredAnnouncement, StoredEnd, StoredPlan};
use crate::tables::rows::{SessionOwner, Source};

/// The stored state of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its mode; `None` if nothing was stored.
    pub mode: Option<ModeState>,
    /// When the mode ends by itself, by the boot clock; `None` also where the machine has been restarted since that was written.
    pub expires_at_boot: Option<Duration>,
    /// The node closed itself because its state could not be written, which the stored mode does not say.
    pub closed_by_storage: bool,
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
    pub etcd: Option<EtcdIdentity>,
    /// The channels that it owned.
    pub claims: Vec<(ChannelId, Token)>,
    /// Rooms that may be locked.
    pub locked_rooms: Vec<ChannelId>,
    /// The plan that runs, or the last one.
    pub plan: Option<StoredPlan>,
    /// Announcements that have not reached every channel, in the order in which they began.
    pub announcements: Vec<StoredAnnouncement>,
    /// Requests to end sessions of which some are left, in the order in which they were made.
    pub ends: Vec<StoredEnd>,
    /// The node's reservation, or the last one.
    pub reservation: Option<StoredReservation>,
}

impl Default for Stored {
    /// An empty state.
    fn default() -> Self {
        Self {
            mode: None,
            expires_at_boot: None,
            closed_by_storage: false,
            mode_changes: Vec::new(),
            next_seq: 1,
            sessions: Vec::new(),
            connections: Vec::new(),
            vanished_pending: false,
            deliveries: Vec::new(),
            member: None,
            etcd: None,
            claims: Vec::new(),
            locked_rooms: Vec::new(),
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
    /// While it is pending: the session that its offer named. Older versions did not store it.
    pub session_id: Option<SessionId>,
}

/// A delivery, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDelivery {
    /// Its number.
    pub id: DeliveryId,
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

/// The node's reservation, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReservation {
    /// Roll that has reserved the node.
    pub roll: RollId,
    /// Person that runs the roll.
    pub by: String,
    /// Actor of the last renewal.
    pub actor: String,
    /// When the roll first reserved the node.
    pub since: Time,
    /// Round of the last renewal.
    pub round: u64,
    /// Progress of the roll on this node.
    pub step: Option<RollStep>,
    /// Exit code of the operator's command.
    pub command_exit: Option<u8>,
    /// The host has rebooted since the step was recorded.
    pub rebooted: bool,
    /// Time for which it was renewed.
    pub time: Duration,
    /// When it expires, by the boot clock; `None` once it has been released, or has expired.
    pub expires: Option<Duration>,
}
