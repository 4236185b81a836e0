//! What the gate wants done.

use std::sync::Arc;

use soramode_protocol::end::EndSession;
use soramode_protocol::event::{Event, EventKind};
use soramode_protocol::id::{ChannelId, ClientId, ConnectionId};
use soramode_protocol::reply::Answer;
use soramode_protocol::session::Session;
use soramode_protocol::time::Time;

use crate::input::{SocketId, Ticket};

/// What one step wants done: first every record is committed, then every act is performed, in order.
#[derive(Debug, Default, PartialEq)]
#[must_use = "effects are promises; the driver keeps them"]
pub struct Effects {
    /// To be committed before any act.
    pub records: Vec<Record>,
    /// To be performed once the records are committed.
    pub acts: Vec<Act>,
}

impl Effects {
    /// The events among the records, in order.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.records.iter().filter_map(|record| match record {
            Record::Event(event) => Some(event),
            Record::Pending { .. } | Record::PendingOver(_) | Record::BoundTo { .. } => None,
        })
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
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Answer a request.
    Answer(Ticket, Answer),
    /// Tell how a wait is going.
    Progress(Ticket, Box<WaitProgress>),
    /// Have the SFU end these sessions, and answer [`End`](soramode_protocol::end::End) with what came of it.
    End {
        /// Whom to answer.
        ticket: Ticket,
        /// Who asks.
        actor: Arc<str>,
        /// The sessions, the oldest first.
        sessions: Vec<EndSession>,
    },
    /// Ask Sora's API for its connections; the answer comes back as [`SoraInput::Polled`](crate::input::SoraInput::Polled) or
    /// [`SoraInput::PollFailed`](crate::input::SoraInput::PollFailed), one of them always and in a bounded time.
    Poll,
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
