//! Clients that wait for the owner of a channel, and how they may be answered.

use std::time::Duration;

use soramode_protocol::decision::HOPS_MAX;
use soramode_protocol::error::Error;
use soramode_protocol::id::{ConnectionId, NodeName};

use crate::admission_request::AdmissionRequest;
use crate::handles::ReplyHandle;
use crate::tables::rows::Source;

/// Request or session that waits until the owner of a channel is known.
pub(crate) enum Waiter {
    /// A request to admit a connection.
    Client(AdmissionRequest),
    /// No client: the SFU reported a session that no node has claimed.
    Session,
}

impl Waiter {
    pub(super) const fn reply_to(&self) -> Option<ReplyHandle> {
        match self {
            Self::Client(request) => Some(request.reply_to),
            Self::Session => None,
        }
    }

    pub(super) fn connection_id(&self) -> Option<&ConnectionId> {
        match self {
            Self::Client(request) => request.connection_id.as_ref(),
            Self::Session => None,
        }
    }

    pub(super) const fn hops(&self) -> u8 {
        match self {
            Self::Client(request) => request.hops,
            Self::Session => HOPS_MAX,
        }
    }

    /// Returns whether later requests of the same client may be answered before it.
    pub(super) fn is_deferrable(&self) -> bool {
        matches!(self, Self::Client(request) if request.source == Source::ControlSocket)
    }
}

/// Answer of the cluster about a new connection to a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClusterAnswer {
    /// It is this node's: the node's own table has the answer.
    Local,
    Redirect(NodeName),
    OwnerLost(Option<Duration>),
    /// No node takes it: the node's own mode has the answer.
    NoNode,
    Unavailable(String),
    /// The node owns as many channels as it may.
    Full,
}

/// Why a claim cannot be made.
pub(crate) enum CannotClaim {
    /// With the error for the client.
    Unavailable(Error),
    /// The node has too many claims.
    Full { retry_after_ms: Option<u64> },
}

/// Returns whole milliseconds, rounded down: what is promised is never more than there is.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Returns when to retry, in whole milliseconds: never before the time is over.
pub(crate) fn retry_after(left: Duration) -> u64 {
    millis(left).saturating_add(1)
}
