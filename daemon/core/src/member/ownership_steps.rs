//! Steps that follow from the decisions of [`Ownership`](super::ownership::Ownership), in order: the gate takes them.

use soramode_protocol::id::ChannelId;

use crate::cluster::{Incarnation, Token};

/// Step for the gate to take.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OwnershipStep {
    /// The lease runs on.
    Renewed,
    /// The lease has expired, or sessions of the previous incarnation cannot be adopted: end every session.
    EndAllSessions,
    /// The lease begins.
    Activated {
        /// There was no lease before.
        is_first: bool,
    },
    /// Store the node's incarnation.
    StoreMember(Incarnation),
    /// Write the member key; first delete this one.
    Join {
        /// The key to delete.
        give_up: Option<Incarnation>,
    },
    /// Delete this member key: others must not redirect clients to a node that serves nothing.
    Leave(Incarnation),
    /// Another has the node's name.
    NameInUse(Incarnation),
    /// The cluster takes no more nodes.
    ClusterFull,
    /// The member key was written, and the node's mode with it.
    KeyWritten,
    /// Read the members: the lease begins with a read that shows the key.
    ReadMembers,
    /// Write these claims anew.
    Migrate {
        /// Incarnation that is to own them.
        by: Incarnation,
        /// The claims.
        claims: Vec<(ChannelId, Token)>,
    },
    /// Store a claim.
    StoreClaim(ChannelId, Token),
    /// Store that a claim is not the node's any more.
    StoreUnclaimed(ChannelId),
    /// End the session on this channel, which another node owns.
    EndSession(ChannelId),
    /// Delete this claim.
    Release(ChannelId, Token),
}
