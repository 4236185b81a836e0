//! Records folded into the state that a restart begins with. Every store must keep exactly this.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use soramode_core::cluster::Token;
use soramode_core::cluster::history::EtcdIdentity;
use soramode_core::effect::Record;
use soramode_core::handles::DeliveryId;
use soramode_core::plan::stored::{StoredAnnouncement, StoredEnd, StoredPlan};
use soramode_core::restore::start_change;
use soramode_core::stored::StoredReservation;
use soramode_core::stored::{
    Stored, StoredConnection, StoredDelivery, StoredMember, StoredSession,
};
use soramode_core::tables::rows::{SessionOwner, Source};
use soramode_protocol::event::{Event, EventKind};
use soramode_protocol::id::{ChannelId, ClientId, ConnectionId};
use soramode_protocol::mode::{DatedModeChange, MODE_CHANGES_KEPT, ModeState};
use soramode_protocol::session::ConnectionState;
use soramode_protocol::time::Time;

/// The records so far.
#[derive(Clone, Debug, Default)]
pub struct RecordStore {
    mode: Option<ModeState>,
    expires_at_boot: Option<Duration>,
    mode_changes: Vec<DatedModeChange>,
    last_seq: u64,
    sessions: BTreeMap<ChannelId, StoredSession>,
    live: BTreeMap<ChannelId, u64>,
    connections: BTreeMap<ConnectionId, StoredConnection>,
    vanished_pending: bool,
    deliveries: BTreeMap<DeliveryId, StoredDelivery>,
    member: Option<StoredMember>,
    etcd: Option<EtcdIdentity>,
    claims: BTreeMap<ChannelId, Token>,
    locked_rooms: BTreeSet<ChannelId>,
    plan: Option<StoredPlan>,
    announcements: Vec<StoredAnnouncement>,
    ends: Vec<StoredEnd>,
    reservation: Option<StoredReservation>,
}

impl RecordStore {
    /// Begins with what was stored.
    pub fn new(stored: Stored) -> Self {
        let Stored {
            mode,
            expires_at_boot,
            closed_by_storage: _,
            mode_changes,
            next_seq,
            sessions,
            connections,
            vanished_pending,
            deliveries,
            member,
            etcd,
            claims,
            locked_rooms,
            plan,
            announcements,
            ends,
            reservation,
        } = stored;
        let mut record_store = Self {
            mode,
            expires_at_boot,
            mode_changes,
            last_seq: next_seq.saturating_sub(1),
            vanished_pending,
            locked_rooms: locked_rooms.into_iter().collect(),
            plan,
            announcements,
            ends,
            reservation,
            ..Self::default()
        };
        record_store.deliveries = deliveries
            .into_iter()
            .map(|delivery| (delivery.id, delivery))
            .collect();
        (record_store.member, record_store.etcd, record_store.claims) =
            (member, etcd, claims.into_iter().collect());
        record_store.sessions = sessions
            .into_iter()
            .map(|session| (session.channel_id.clone(), session))
            .collect();
        for connection in connections {
            if connection.state == ConnectionState::Live {
                *record_store
                    .live
                    .entry(connection.channel_id.clone())
                    .or_default() += 1;
            }
            record_store.add(connection);
        }
        record_store
    }

    /// Takes a record in.
    pub fn read(&mut self, record: &Record) {
        match record {
            Record::Event(event) => self.read_event(event),
            Record::Mode(state) => {
                let before = self.mode.replace(state.as_ref().clone());
                keep_change(
                    &mut self.mode_changes,
                    before.and_then(|before| start_change(&before, state)),
                );
            }
            Record::ExpiresAtBoot(at) => self.expires_at_boot = *at,
            Record::Delivery(delivery) => {
                self.deliveries
                    .insert(delivery.id, delivery.as_ref().clone());
            }
            Record::DeliveryForgotten(id) => {
                self.deliveries.remove(id);
            }
            Record::Member(member) => self.member = *member,
            Record::Etcd(known) => self.etcd = Some(known.clone()),
            Record::Claimed { channel_id, token } => {
                self.claims.insert(channel_id.clone(), *token);
            }
            Record::Unclaimed(channel_id) => {
                self.claims.remove(channel_id);
            }
            Record::RoomLocked(room) => {
                self.locked_rooms.insert(room.clone());
            }
            Record::RoomUnlocked(room) => {
                self.locked_rooms.remove(room);
            }
            Record::VanishedPending(held) => self.vanished_pending = *held,
            Record::Plan(plan) => self.plan = Some(plan.as_ref().clone()),
            Record::PlanProgress(progress) | Record::PlanCounts(progress) => {
                if let Some(plan) = &mut self.plan {
                    plan.progress = progress.as_ref().clone();
                }
            }
            Record::Announcement(it) => self.announcements.push(it.as_ref().clone()),
            Record::AnnouncementProgress { id, progress } => {
                let found = self.announcements.iter_mut().find(|it| it.id == *id);
                if let Some(announcement) = found {
                    announcement.progress = *progress;
                }
            }
            Record::AnnouncementFinished(id) => self.announcements.retain(|it| it.id != *id),
            Record::End(it) => self.ends.push(it.as_ref().clone()),
            Record::EndProgress { id, progress } => {
                if let Some(end) = self.ends.iter_mut().find(|it| it.id == *id) {
                    end.progress = *progress;
                }
            }
            Record::EndFinished { id, .. } => self.ends.retain(|it| it.id != *id),
            Record::Reservation(reservation) => {
                self.reservation = Some(reservation.as_ref().clone());
            }
            Record::Pending {
                channel_id,
                connection_id,
                client_id,
                created_at,
                session_id,
            } => {
                self.add(StoredConnection {
                    connection_id: connection_id.clone(),
                    channel_id: channel_id.clone(),
                    client_id: client_id.clone(),
                    created_at: *created_at,
                    state: ConnectionState::Pending,
                    source: Source::Sfu,
                    is_bound: false,
                    session_id: Some(session_id.clone()),
                });
            }
            Record::PendingEnded(connection_id) => self.remove(connection_id),
            Record::BoundTo {
                connection_id,
                socket,
            } => {
                if let Some(connection) = self.connections.get_mut(connection_id) {
                    connection.is_bound = socket.is_some();
                }
            }
            Record::ConnectionOfSfu(connection_id) => {
                if let Some(connection) = self.connections.get_mut(connection_id) {
                    connection.source = Source::Sfu;
                }
            }
            Record::SessionOfGate(channel_id) => {
                if let Some(session) = self.sessions.get_mut(channel_id) {
                    session.owner = SessionOwner::Gate;
                }
            }
            Record::SessionOfSora(channel_id) => {
                if let Some(session) = self.sessions.get_mut(channel_id) {
                    session.owner = SessionOwner::Sora;
                }
            }
        }
    }

    fn read_event(&mut self, event: &Event) {
        self.last_seq = event.seq;
        match &event.kind {
            EventKind::SessionCreated {
                channel_id,
                session_id,
                created_time,
                ..
            } => {
                let session = StoredSession {
                    channel_id: channel_id.clone(),
                    session_id: session_id.clone(),
                    created_at: *created_time,
                    max_connections: 0,
                    total_connections: 0,
                    owner: SessionOwner::Gate,
                };
                self.sessions.insert(channel_id.clone(), session);
                self.live.insert(channel_id.clone(), 0);
            }
            EventKind::SessionDestroyed {
                channel_id,
                session_id,
                ..
            } => {
                // The channel may have its next session already.
                if self
                    .sessions
                    .get(channel_id)
                    .is_some_and(|session| session.session_id == *session_id)
                {
                    self.sessions.remove(channel_id);
                    self.live.remove(channel_id);
                }
            }
            EventKind::ConnectionCreated {
                channel_id,
                connection_id,
                client_id,
                ..
            } => {
                self.connection_created(
                    event.timestamp,
                    (channel_id, connection_id, client_id.as_ref()),
                );
            }
            EventKind::ConnectionDestroyed { connection_id, .. } => self.remove(connection_id),
            EventKind::ModeChanged(change) => {
                let change = DatedModeChange {
                    timestamp: event.timestamp,
                    change: change.as_ref().clone(),
                };
                self.mode = Some(change.state());
                keep_change(&mut self.mode_changes, Some(change));
            }
            EventKind::SessionVanished
            | EventKind::NodeJoined { .. }
            | EventKind::NodeIsolated { .. }
            | EventKind::NodeFenced { .. }
            | EventKind::WebhookReceived { .. }
            | EventKind::DeliverySucceeded(_)
            | EventKind::DeliveryFailed(_)
            | EventKind::PlanCreated(_)
            | EventKind::PlanStep(_)
            | EventKind::PlanStalled { .. }
            | EventKind::PlanOver(_)
            | EventKind::MaintenanceAnnounced(_)
            | EventKind::EndRequested(_)
            | EventKind::Unknown => {}
        }
    }

    fn connection_created(
        &mut self,
        now: Time,
        (channel_id, connection_id, client_id): (&ChannelId, &ConnectionId, Option<&ClientId>),
    ) {
        let live = self.live.entry(channel_id.clone()).or_default();
        *live += 1;
        if let Some(session) = self.sessions.get_mut(channel_id) {
            session.total_connections += 1;
            session.max_connections = session.max_connections.max(*live);
        }
        if let Some(connection) = self.connections.get_mut(connection_id) {
            (connection.state, connection.created_at) = (ConnectionState::Live, now);
            connection.session_id = None;
            return;
        }
        self.add(StoredConnection {
            connection_id: connection_id.clone(),
            channel_id: channel_id.clone(),
            client_id: client_id.cloned(),
            created_at: now,
            state: ConnectionState::Live,
            source: Source::ControlSocket,
            is_bound: false,
            session_id: None,
        });
    }

    fn add(&mut self, connection: StoredConnection) {
        self.connections
            .insert(connection.connection_id.clone(), connection);
    }

    /// Takes a connection away, if it is there: of one that never came there may be two words.
    fn remove(&mut self, connection_id: &ConnectionId) {
        let Some(connection) = self.connections.remove(connection_id) else {
            return;
        };
        if connection.state == ConnectionState::Live
            && let Some(live) = self.live.get_mut(&connection.channel_id)
        {
            *live = live.saturating_sub(1);
        }
    }

    /// The channels that have a session or a pending connection.
    pub fn channels(&self) -> BTreeSet<ChannelId> {
        let pending = self.connections.values().map(|it| it.channel_id.clone());
        self.sessions.keys().cloned().chain(pending).collect()
    }

    /// Returns the state that a restart begins with.
    pub fn stored(&self) -> Stored {
        Stored {
            mode: self.mode.clone(),
            expires_at_boot: self.expires_at_boot,
            closed_by_storage: false,
            mode_changes: self.mode_changes.clone(),
            next_seq: self.last_seq + 1,
            sessions: self.sessions.values().cloned().collect(),
            connections: self.connections.values().cloned().collect(),
            vanished_pending: self.vanished_pending,
            deliveries: self.deliveries.values().cloned().collect(),
            member: self.member,
            etcd: self.etcd.clone(),
            claims: self.claims.clone().into_iter().collect(),
            locked_rooms: self.locked_rooms.iter().cloned().collect(),
            plan: self.plan.clone(),
            announcements: self.announcements.clone(),
            ends: self.ends.clone(),
            reservation: self.reservation.clone(),
        }
    }
}

/// Adds to the history, of which so much is kept.
fn keep_change(changes: &mut Vec<DatedModeChange>, change: Option<DatedModeChange>) {
    changes.extend(change);
    let surplus = changes.len().saturating_sub(MODE_CHANGES_KEPT);
    changes.drain(..surplus);
}
