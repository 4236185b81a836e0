//! What the gate is told: the time, and what happened.

use std::sync::Arc;
use std::time::Duration;

use soramode_protocol::event::WebhookSource;
use soramode_protocol::id::{ChannelId, ClientId, ConnectionId, SessionId};
use soramode_protocol::request::GateRequest;
use soramode_protocol::time::Time;

use crate::handles::{ReplyHandle, SocketId};
use crate::member::etcd::EtcdResponse;
use crate::snapshot::Webhook;

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The gate was restored: the first that happens.
    Started(HostState),
    /// Somebody asks. The request has been checked ([`GateRequest::check`]), and so has the asker's access.
    Request {
        /// Whom to answer.
        reply_to: ReplyHandle,
        /// Who asks, as a mode change records it.
        actor: Arc<str>,
        /// What.
        request: GateRequest,
    },
    /// A socket is gone: its waits are over, and connections that hang on it have the grace time left.
    SocketClosed(SocketId),
    /// A deadline has come ([`Gate::next_deadline`](crate::gate::Gate::next_deadline)).
    Tick,
    /// What came of something in etcd ([`Action::Etcd`](crate::effect::Action::Etcd)).
    Etcd(EtcdResponse),
    /// Clients have been notified that sessions must end: how many of them must confirm it.
    FenceNotified {
        /// The fence.
        id: u64,
        /// Number of clients.
        clients: u64,
    },
    /// The sessions that a fence named have ended, or why that is not known.
    FenceFinished {
        /// The fence.
        id: u64,
        /// Whether they ended.
        outcome: Result<(), String>,
    },
    /// The daemon stops: answered by [`EtcdRequest::DeleteMember`](crate::member::etcd::EtcdRequest::DeleteMember) or
    /// [`EtcdRequest::KeepMember`](crate::member::etcd::EtcdRequest::KeepMember).
    Shutdown,
    /// The state can no longer be written.
    StorageFailed {
        /// Connections whose offer could not be kept, and so was not given.
        refused: Vec<ConnectionId>,
        /// Changes of the mode that could not be kept, and so were refused.
        generations: Vec<u64>,
    },
    /// The state can be written again.
    StorageRestored,
    /// A real Sora's webhook came.
    Sora(SoraInput),
    /// There are other receivers of events: each in the place that it had, new ones behind them.
    Webhooks(Vec<Webhook>),
    /// A delivery was tried ([`Action::Deliver`](crate::effect::Action::Deliver)).
    DeliveryAttempted {
        /// Which.
        id: u64,
        /// How it went.
        result: AttemptResult,
    },
}

/// How a try of a delivery went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttemptResult {
    /// The answer's HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// How long the receiver asks to be left alone.
    pub retry_after: Option<Duration>,
    /// Why it failed, if it did.
    pub problem: Option<String>,
}

/// What became of the machine since the state was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostState {
    /// It has been up all the time, and with it the SFU, as far as anybody knows.
    Running,
    /// It was started anew: whoever was connected is gone.
    Rebooted,
}

/// What a real Sora's webhooks say.
#[derive(Clone, Debug, PartialEq)]
pub enum SoraInput {
    /// The auth webhook asks: may this client come in? An offer makes the connection pending.
    Admit {
        /// Whom to answer.
        reply_to: ReplyHandle,
        /// The channel it asks for.
        channel_id: ChannelId,
        /// Sora's id for the connection.
        connection_id: ConnectionId,
        /// Whose it is.
        client_id: Option<ClientId>,
    },
    /// The application refused whom the gate let in, or did not answer.
    Denied {
        /// The connection that will not come.
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
        /// Whose it is.
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
        /// By which door.
        source: WebhookSource,
        /// Sora's type for it.
        sora_type: String,
    },
    /// Sora's API told of all its connections.
    Polled {
        /// When it was asked, by the boot clock: what it says is no newer.
        began: Duration,
        /// All of them.
        connections: Vec<PolledConnection>,
    },
    /// Sora's API did not answer, or not with what can be read.
    PollFailed {
        /// Why.
        why: String,
    },
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
    /// Whose it is.
    pub client_id: Option<ClientId>,
    /// When it came.
    pub created_at: Option<Time>,
}
