//! Inputs of the gate.

use std::sync::Arc;
use std::time::Duration;

use soramode_protocol::event::WebhookSource;
use soramode_protocol::id::{ChannelId, ClientId, ConnectionId, SessionId};
use soramode_protocol::request::GateRequest;
use soramode_protocol::time::Time;

use crate::commit_failure::Refused;
use crate::handles::{DeliveryId, FenceId, ReplyHandle, SocketId};
use crate::locks::calls::LockOutcome;
use crate::member::etcd::EtcdResponse;
use crate::plan::calls::{CallId, SfuOutcome};
use crate::settings::EventReceiver;

/// An input.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The gate was restored: the first input.
    Started(HostState),
    /// A client's request. It has been checked ([`GateRequest::check`]), and so has the client's access.
    Request {
        /// The request to answer.
        reply_to: ReplyHandle,
        /// The client, as a change of the mode records it.
        actor: Arc<str>,
        /// The request.
        request: GateRequest,
    },
    /// A socket was closed: its waits end, and its connections after the grace time.
    SocketClosed(SocketId),
    /// A deadline has come ([`Gate::next_deadline`](crate::gate::Gate::next_deadline)).
    Tick,
    /// A response of etcd ([`Action::Etcd`](crate::effect::Action::Etcd)).
    Etcd(EtcdResponse),
    /// Clients have been notified that sessions must end: how many of them must confirm it.
    FenceNotified {
        /// The fence.
        id: FenceId,
        /// Number of clients.
        clients: u64,
    },
    /// The sessions that a fence named have ended, or why that is not known.
    FenceFinished {
        /// The fence.
        id: FenceId,
        /// An error if that is not known.
        outcome: Result<(), String>,
    },
    /// The daemon stops: answered by [`EtcdRequest::DeleteMember`](crate::member::etcd::EtcdRequest::DeleteMember) or
    /// [`EtcdRequest::KeepMember`](crate::member::etcd::EtcdRequest::KeepMember).
    Shutdown,
    /// The state can no longer be written: what was refused because of that must be taken back.
    StorageFailed(Refused),
    /// The state can be written again.
    StorageRestored,
    /// A real Sora's webhook came.
    Sora(SoraInput),
    /// A report of Janus.
    Janus(JanusInput),
    /// New settings of the receivers of events: each at the index that it had, new ones behind them.
    Receivers(Vec<EventReceiver>),
    /// The SFU answered a call, or did not ([`Action::Sfu`](crate::effect::Action::Sfu)).
    SfuAnswered {
        /// Identifier of the call.
        id: CallId,
        /// Its outcome.
        outcome: SfuOutcome,
    },
    /// Numbers of the clients that end sessions and that announce, as they are from now on. None at the start.
    Subscribers(Subscribers),
    /// The wall clock was set. A plan that no step of was done goes by it.
    WallClockSet,
    /// An attempt of a delivery has ended ([`Action::Deliver`](crate::effect::Action::Deliver)).
    DeliveryAttempted {
        /// Its number.
        id: DeliveryId,
        /// Its result.
        result: AttemptResult,
    },
}

/// Numbers of clients that subscribed to requests of the gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscribers {
    /// Clients that end sessions.
    pub ends: u64,
    /// Clients that pass announcements on.
    pub announcements: u64,
}

/// Result of an attempt of a delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttemptResult {
    /// The answer's HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// Pause that the receiver requests.
    pub retry_after: Option<Duration>,
    /// Why it failed, if it did.
    pub problem: Option<String>,
}

/// State of the machine since the state was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostState {
    /// It has been up all the time, and the SFU with it, as far as is known.
    Running,
    /// It was restarted: no connection is left.
    Rebooted,
}

/// Reports of Sora, by webhooks and by its API.
#[derive(Clone, Debug, PartialEq)]
pub enum SoraInput {
    /// Request of the auth webhook to admit a client. An offer makes the connection pending.
    Admit {
        /// The request to answer.
        reply_to: ReplyHandle,
        /// The channel.
        channel_id: ChannelId,
        /// Sora's id for the connection.
        connection_id: ConnectionId,
        /// The client's id.
        client_id: Option<ClientId>,
    },
    /// The application denied a client that the gate admitted, or did not answer.
    Denied {
        /// The connection.
        connection_id: ConnectionId,
    },
    /// `connection.created`
    ConnectionCreated {
        /// Its channel.
        channel_id: ChannelId,
        /// Sora's id for the session; Soras before 2021.2 know no sessions.
        session_id: Option<SessionId>,
        /// The connection.
        connection_id: ConnectionId,
        /// The client's id.
        client_id: Option<ClientId>,
    },
    /// `connection.destroyed` or `connection.failed`
    ConnectionDestroyed {
        /// The connection.
        connection_id: ConnectionId,
    },
    /// `session.created`
    SessionCreated {
        /// The channel.
        channel_id: ChannelId,
        /// Sora's id for the session.
        session_id: SessionId,
        /// Sora's time for it.
        created_time: Time,
    },
    /// `session.destroyed`
    SessionDestroyed {
        /// The channel.
        channel_id: ChannelId,
        /// Sora's id for the session.
        session_id: SessionId,
    },
    /// A webhook that is not about sessions or connections, and only passed through.
    PassedThrough {
        /// The webhook.
        source: WebhookSource,
        /// Sora's type for it.
        sora_type: String,
    },
    /// A poll of Sora's API: all its connections.
    Polled {
        /// When the poll began, by the boot clock: its result is no newer.
        began: Duration,
        /// All of them.
        connections: Vec<PolledConnection>,
    },
    /// Sora's API did not answer, or its answer cannot be read.
    PollFailed {
        /// The reason.
        why: String,
    },
}

/// Reports of Janus, from its Admin API.
#[derive(Clone, Debug, PartialEq)]
pub enum JanusInput {
    /// The participants of rooms.
    Listed {
        /// The rooms.
        scope: ListScope,
        /// When the list began, by the boot clock: it is no newer.
        began: Duration,
        /// The rooms themselves, in a list of all.
        rooms: Vec<ChannelId>,
        /// All participants of these rooms.
        participants: Vec<Participant>,
    },
    /// Janus may have been restarted: it then has no participant and no lock.
    Restarted,
    /// The outcome of a request about a room's lock ([`Action::Lock`](crate::effect::Action::Lock)).
    LockAnswered {
        /// The room.
        channel_id: ChannelId,
        /// The outcome.
        outcome: LockOutcome,
    },
    /// The outcome of a request about new sessions ([`Action::AcceptSessions`](crate::effect::Action::AcceptSessions)).
    SessionsAnswered {
        /// It was done.
        is_done: bool,
    },
    /// The secrets of rooms have changed: rooms that could not be locked or unlocked are tried again.
    SecretsChanged,
    /// The Admin API did not answer a request for all rooms, or its answer is of no use.
    Failed {
        /// The reason.
        why: String,
    },
}

/// Scope of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListScope {
    /// All channels.
    All,
    /// One channel.
    Channel(ChannelId),
}

/// A participant of a room of Janus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// The room.
    pub channel_id: ChannelId,
    /// The room and the participant's id, which is unique in its room only.
    pub connection_id: ConnectionId,
}

/// A connection as Sora's API lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct PolledConnection {
    /// Its channel.
    pub channel_id: ChannelId,
    /// Its session; older Soras do not say.
    pub session_id: Option<SessionId>,
    /// The connection.
    pub connection_id: ConnectionId,
    /// The client's id.
    pub client_id: Option<ClientId>,
    /// When it was created.
    pub created_at: Option<Time>,
}
