//! Effects of a step: records to commit, and actions to perform.

use std::time::Duration;

use soramode_protocol::end::EndSession;
use soramode_protocol::event::{Event, EventKind};
use soramode_protocol::id::{AnnouncementId, ChannelId, ClientId, ConnectionId, EndId, SessionId};
use soramode_protocol::mode::{InForce, ModeState};
use soramode_protocol::plan::{Plan, Stalled};
use soramode_protocol::reply::Answer;
use soramode_protocol::request::RequestId;
use soramode_protocol::session::Session;
use soramode_protocol::time::Time;
use soramode_protocol::wait::Progress;

use crate::cluster::Token;
use crate::cluster::history::EtcdIdentity;
use crate::handles::{DeliveryId, FenceId, ReceiverIndex, ReplyHandle, SocketId};
use crate::locks::calls::LockCall;
use crate::member::etcd::{EtcdRequest, FenceScope};
use crate::plan::calls::SfuCall;
use crate::plan::stored::{
    AnnouncementProgress, EndProgress, PlanProgress, StoredAnnouncement, StoredEnd, StoredPlan,
};
use crate::stored::{StoredDelivery, StoredMember, StoredReservation};

/// Effects of a step: first every record is committed, then every action is performed, in order.
#[derive(Debug, Default, PartialEq)]
#[must_use = "effects are promises; the engine keeps them"]
pub struct Effects {
    /// To be committed before any action.
    pub records: Vec<Record>,
    /// To be performed once the records are committed.
    pub actions: Vec<Action>,
}

impl Effects {
    /// The events among the records, in order.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.records.iter().filter_map(Record::event)
    }

    /// The kinds of the events, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &EventKind> {
        self.events().map(|event| &event.kind)
    }
}

/// Something to store.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// One more event. The mode, sessions and live connections follow from the events alone.
    Event(Event),
    /// A pending connection, for which there is no event.
    #[expect(missing_docs, reason = "their types name them")]
    Pending {
        channel_id: ChannelId,
        connection_id: ConnectionId,
        client_id: Option<ClientId>,
        /// When it was admitted.
        created_at: Time,
        /// The session that its offer named.
        session_id: SessionId,
    },
    /// A pending connection that has ended.
    PendingEnded(ConnectionId),
    /// The socket that a connection ends with.
    BoundTo {
        /// The connection.
        connection_id: ConnectionId,
        /// Its socket; `None` if it lasts until it is disconnected.
        socket: Option<SocketId>,
    },
    /// The SFU has reported this connection. One that was pending is the SFU's in any case.
    ConnectionOfSfu(ConnectionId),
    /// The session on this channel is one of Sora, and ends when Sora reports that.
    SessionOfSora(ChannelId),
    /// Change of a session's owner: Sora has ended it, and it goes on until its clients have had time to come back.
    SessionOfGate(ChannelId),
    /// The mode that a start begins with: it makes no event.
    Mode(Box<ModeState>),
    /// When the mode ends by itself, by the boot clock, as far as that is known: what the event says of it is by the wall clock.
    ExpiresAtBoot(Option<Duration>),
    /// A delivery, new or as it is now.
    Delivery(Box<StoredDelivery>),
    /// A finished delivery is forgotten.
    DeliveryForgotten(DeliveryId),
    /// The node's incarnation; `None`: it has left the cluster.
    Member(Option<StoredMember>),
    /// The etcd that the node is in.
    Etcd(EtcdIdentity),
    /// A channel is this node's.
    #[expect(missing_docs, reason = "their types name them")]
    Claimed { channel_id: ChannelId, token: Token },
    /// A channel is not this node's any more.
    Unclaimed(ChannelId),
    /// A room may be locked from now on.
    RoomLocked(ChannelId),
    /// A room is not locked any more.
    RoomUnlocked(ChannelId),
    /// `session.vanished` is pending, or not any more: the last session left a closed node before all sessions were known.
    VanishedPending(bool),
    /// A new plan, in place of the one before.
    Plan(Box<StoredPlan>),
    /// Progress of the plan.
    PlanProgress(Box<PlanProgress>),
    /// Progress of the plan of which only the counts have changed: its loss does no harm.
    PlanCounts(Box<PlanProgress>),
    /// A new announcement.
    Announcement(Box<StoredAnnouncement>),
    /// Progress of an announcement.
    #[expect(missing_docs, reason = "their types name them")]
    AnnouncementProgress {
        id: AnnouncementId,
        progress: AnnouncementProgress,
    },
    /// An announcement is over.
    AnnouncementFinished(AnnouncementId),
    /// A new request to end sessions.
    End(Box<StoredEnd>),
    /// Progress of a request to end sessions.
    #[expect(missing_docs, reason = "their types name them")]
    EndProgress { id: EndId, progress: EndProgress },
    /// A request to end sessions is over.
    #[expect(missing_docs, reason = "their types name them")]
    EndFinished { id: EndId, outcome: EndOutcome },
    /// The node's reservation, new or as it is now.
    Reservation(Box<StoredReservation>),
}

impl Record {
    /// The event, if it is one.
    pub const fn event(&self) -> Option<&Event> {
        match self {
            Self::Event(event) => Some(event),
            Self::Pending { .. }
            | Self::PendingEnded(_)
            | Self::BoundTo { .. }
            | Self::ConnectionOfSfu(_)
            | Self::SessionOfSora(_)
            | Self::SessionOfGate(_)
            | Self::Mode(_)
            | Self::ExpiresAtBoot(_)
            | Self::Delivery(_)
            | Self::DeliveryForgotten(_)
            | Self::Member(_)
            | Self::Etcd(_)
            | Self::Claimed { .. }
            | Self::Unclaimed(_)
            | Self::RoomLocked(_)
            | Self::RoomUnlocked(_)
            | Self::VanishedPending(_)
            | Self::Plan(_)
            | Self::PlanProgress(_)
            | Self::PlanCounts(_)
            | Self::Announcement(_)
            | Self::AnnouncementProgress { .. }
            | Self::AnnouncementFinished(_)
            | Self::End(_)
            | Self::EndProgress { .. }
            | Self::EndFinished { .. }
            | Self::Reservation(_) => None,
        }
    }

    /// Converts a record to its event, if it is one.
    pub fn into_event(self) -> Option<Event> {
        if let Self::Event(event) = self {
            Some(event)
        } else {
            None
        }
    }
}

/// Outcome of a request to end sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndOutcome {
    /// Each of its sessions has ended.
    Ended,
    /// It was stopped, or not resumed after a restart.
    Stopped,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Answer a request.
    Answer(ReplyHandle, Answer),
    /// Report the progress of a wait.
    Progress(ReplyHandle, Box<WaitProgress>),
    /// Call the SFU about one session; the outcome comes back as [`Input::SfuAnswered`](crate::input::Input::SfuAnswered), always and
    /// in a bounded time.
    Sfu(Box<SfuCall>),
    /// Log and count a state that must not occur, which this step found. The gate goes on.
    Bug(&'static str),
    /// A request is answered later than those behind it may be.
    Deferred(ReplyHandle),
    /// Do this in etcd; the outcome comes back as [`Input::Etcd`](crate::input::Input::Etcd).
    Etcd(Box<EtcdRequest>),
    /// Have the SFU end sessions that the node may not serve; the outcome comes back as
    /// [`Input::FenceNotified`](crate::input::Input::FenceNotified) or
    /// [`Input::FenceFinished`](crate::input::Input::FenceFinished), one of them always and in a bounded time.
    Fence {
        /// The fence.
        id: FenceId,
        /// The sessions that it names.
        scope: FenceScope,
        /// The sessions that are known, the oldest first.
        sessions: Vec<EndSession>,
    },
    /// Ask the SFU about a room's lock; the outcome comes back as [`JanusInput::LockAnswered`](crate::input::JanusInput::LockAnswered), always
    /// and in a bounded time.
    Lock(LockCall),
    /// Have the SFU accept new sessions of its clients, or refuse them; the outcome comes back as
    /// [`JanusInput::SessionsAnswered`](crate::input::JanusInput::SessionsAnswered), always and in a bounded time.
    AcceptSessions(bool),
    /// Request the connections from Sora's API; the answer comes back as [`SoraInput::Polled`](crate::input::SoraInput::Polled) or
    /// [`SoraInput::PollFailed`](crate::input::SoraInput::PollFailed), one of them always and in a bounded time.
    Poll,
    /// Send an event to a receiver; the outcome comes back as [`Input::DeliveryAttempted`](crate::input::Input::DeliveryAttempted), always and in a bounded time.
    Deliver(Box<Attempt>),
    /// The outcome of a delivery was taken in, and its effects stand before this. The engine adds it to the step.
    OutcomeApplied(ReceiverIndex),
}

/// One attempt of a delivery.
#[expect(missing_docs, reason = "their types name them")]
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    pub id: DeliveryId,
    pub receiver: ReceiverIndex,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    pub event: Event,
    /// The mode's generation when that happened.
    pub generation: u64,
}

/// Progress of a wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitProgress {
    /// Sessions left.
    pub sessions: u64,
    /// Connections left.
    pub connections: u64,
    /// Pending ones of these.
    pub pending: u64,
    /// The oldest session left.
    pub oldest_session: Option<Session>,
    /// Sessions that ended since the wait began.
    pub ended: u64,
    /// Sessions left of the requests that a wait for `ended` is about.
    pub awaited: Option<u64>,
    /// Plan that runs.
    pub plan: Option<Box<Plan>>,
    /// Set if the drain does not progress.
    pub stalled: Option<Stalled>,
    /// State of the mode on an SFU that holds it.
    pub in_force: Option<InForce>,
}

impl WaitProgress {
    /// Returns the notification of the client that waits by the request with this id.
    pub fn notification(self, id: RequestId) -> Progress {
        let Self {
            sessions,
            connections,
            pending,
            oldest_session,
            ended,
            awaited,
            plan,
            stalled,
            in_force,
        } = self;
        Progress {
            id,
            sessions,
            connections,
            pending,
            oldest_session,
            ended,
            awaited,
            plan,
            stalled,
            in_force,
        }
    }
}
