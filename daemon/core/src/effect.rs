//! What the gate wants done.

use std::sync::Arc;
use std::time::Duration;

use soramode_protocol::end::EndSession;
use soramode_protocol::event::{Event, EventKind};
use soramode_protocol::id::{ChannelId, ClientId, ConnectionId};
use soramode_protocol::mode::ModeState;
use soramode_protocol::reply::Answer;
use soramode_protocol::session::Session;
use soramode_protocol::time::Time;

use crate::cluster::Token;
use crate::cluster::history::Known;
use crate::handles::{ReplyHandle, SocketId};
use crate::member::etcd::{EtcdRequest, FenceScope};
use crate::snapshot::{StoredDelivery, StoredMember};

/// What one step wants done: first every record is committed, then every act is performed, in order.
#[derive(Debug, Default, PartialEq)]
#[must_use = "effects are promises; the engine keeps them"]
pub struct Effects {
    /// To be committed before any act.
    pub records: Vec<Record>,
    /// To be performed once the records are committed.
    pub actions: Vec<Action>,
}

impl Effects {
    /// The events among the records, in order.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.records.iter().filter_map(Record::event)
    }

    /// What the events say happened, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &EventKind> {
        self.events().map(|event| &event.kind)
    }
}

/// Something to be kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// One more event. The mode, sessions and live connections follow from the events alone.
    Event(Event),
    /// What no event says: a connection that was let in and has not been seen.
    Pending {
        /// Its channel.
        channel_id: ChannelId,
        /// The connection.
        connection_id: ConnectionId,
        /// Whose it is.
        client_id: Option<ClientId>,
        /// When it was let in.
        created_at: Time,
    },
    /// What no event says: it will not come any more.
    PendingOver(ConnectionId),
    /// What no event says: the socket that a connection hangs on.
    BoundTo {
        /// The connection.
        connection_id: ConnectionId,
        /// Its socket; `None` if it lasts until it is disconnected.
        socket: Option<SocketId>,
    },
    /// What no event says: a connection is a real Sora's. One that was pending is in any case.
    OfSora(ConnectionId),
    /// What no event says: the session on this channel is a real Sora's, and ends when that says so.
    SessionOfSora(ChannelId),
    /// The mode that a start begins with: it makes no event.
    Mode(Box<ModeState>),
    /// When the mode ends by itself, by the boot clock, as far as that is known: what the event says of it is by the wall clock.
    ExpiresAtBoot(Option<Duration>),
    /// A delivery, new or as it is now.
    Delivery(Box<StoredDelivery>),
    /// A delivery that is over is not kept any longer.
    DeliveryForgotten(u64),
    /// The node's life in its cluster, or that it left in order.
    Member(Option<StoredMember>),
    /// The etcd that the node is in.
    Etcd(Known),
    /// A channel is this node's.
    Claimed {
        /// Which.
        channel_id: ChannelId,
        /// The token of its claim.
        token: Token,
    },
    /// A channel is not this node's any more.
    Unclaimed(ChannelId),
    /// Whether `session.vanished` is owed: the last session left a closed node before the sessions were known.
    VanishedPending(bool),
}

impl Record {
    /// The event, if it is one.
    pub const fn event(&self) -> Option<&Event> {
        match self {
            Self::Event(event) => Some(event),
            Self::Pending { .. }
            | Self::PendingOver(_)
            | Self::BoundTo { .. }
            | Self::OfSora(_)
            | Self::SessionOfSora(_)
            | Self::Mode(_)
            | Self::ExpiresAtBoot(_)
            | Self::Delivery(_)
            | Self::DeliveryForgotten(_)
            | Self::Member(_)
            | Self::Etcd(_)
            | Self::Claimed { .. }
            | Self::Unclaimed(_)
            | Self::VanishedPending(_) => None,
        }
    }

    /// The same of one that is not needed any more.
    pub fn into_event(self) -> Option<Event> {
        if let Self::Event(event) = self {
            Some(event)
        } else {
            None
        }
    }
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Answer a request.
    Answer(ReplyHandle, Answer),
    /// Tell how a wait is going.
    Progress(ReplyHandle, Box<WaitProgress>),
    /// Have the SFU end these sessions, and answer [`End`](soramode_protocol::end::End) with what came of it.
    End {
        /// Whom to answer.
        reply_to: ReplyHandle,
        /// Who asks.
        actor: Arc<str>,
        /// The sessions, the oldest first.
        sessions: Vec<EndSession>,
    },
    /// A request is answered later than those behind it may be.
    Deferred(ReplyHandle),
    /// Do this in etcd; what came of it comes back as [`Input::Etcd`](crate::input::Input::Etcd).
    Etcd(Box<EtcdRequest>),
    /// Have the SFU end what is served without a right to it; what came of it comes back as
    /// [`Input::FenceNotified`](crate::input::Input::FenceNotified) or
    /// [`Input::FenceFinished`](crate::input::Input::FenceFinished), one of them always and in a bounded time.
    Fence {
        /// Which fence.
        id: u64,
        /// What it names.
        of: FenceScope,
        /// The sessions that are known, the oldest first.
        sessions: Vec<EndSession>,
    },
    /// Ask Sora's API for its connections; the answer comes back as [`SoraInput::Polled`](crate::input::SoraInput::Polled) or
    /// [`SoraInput::PollFailed`](crate::input::SoraInput::PollFailed), one of them always and in a bounded time.
    Poll,
    /// Send an event to a receiver; the outcome comes back as [`Input::DeliveryAttempted`](crate::input::Input::DeliveryAttempted), always and in a bounded time.
    Deliver(Box<Attempt>),
    /// A receiver's outcome was taken in, and all that followed from it is before this. The engine adds it to the step.
    OutcomeApplied {
        /// The receiver, by its place in the settings.
        place: usize,
    },
}

/// One try of a delivery.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Which delivery.
    pub id: u64,
    /// Which of the settings' webhooks.
    pub place: usize,
    /// The how-many-th try it is, from 1.
    pub attempt: u32,
    /// What is to be delivered.
    pub event: Event,
    /// The mode's generation when that happened.
    pub generation: u64,
}

/// How a wait is going.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitProgress {
    /// Sessions left.
    pub sessions: u64,
    /// Connections left.
    pub connections: u64,
    /// The oldest session left.
    pub oldest_session: Option<Session>,
    /// Sessions that ended since the wait began.
    pub ended: u64,
}
