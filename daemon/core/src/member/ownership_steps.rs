//! Steps that follow from the decisions of [`Ownership`](super::ownership::Ownership): the gate takes them.

use std::time::Duration;

use soramode_protocol::id::ChannelId;

use crate::cluster::{Incarnation, Token};

/// The node's own member key, as a linearizable read shows it.
#[derive(Clone, Copy, Debug)]
pub struct OwnKey {
    /// etcd's revision that the read shows.
    pub revision: u64,
    /// When it was sent.
    pub sent: Duration,
    /// When its answer came.
    pub received: Duration,
    /// The key under the node's name.
    pub found: Option<Incarnation>,
    /// The found key, if the node ordered it itself and serves nothing under it.
    pub unused: Option<Incarnation>,
    /// The cluster takes no more nodes.
    pub is_full: bool,
}

/// Step that follows from a read of the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// None.
    Wait,
    /// The lease runs on.
    Renewed,
    /// The lease is over, or sessions of the previous incarnation cannot be adopted: end everything.
    Fence,
    /// The lease begins.
    Activated {
        /// Its incarnation.
        incarnation: Incarnation,
        /// There was no lease before.
        is_first: bool,
    },
    /// Write the member key; first delete this one.
    Join {
        /// The key to delete.
        give_up: Option<Incarnation>,
    },
    /// Another has the node's name.
    NameInUse(Incarnation),
    /// The cluster takes no more nodes.
    ClusterFull,
    /// Go on writing claims anew.
    Migrate,
}

/// Step that follows from a written member key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyWritten {
    /// None: another answer came before, or the key is given up with what there was before.
    Ignored,
    /// Write the claims anew.
    Migrate,
    /// Read the members: the lease begins with a read that shows the key.
    ReadMembers,
}

/// Claims that are left to write anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Migration {
    /// None can be written at the moment.
    Wait,
    /// Write these anew.
    Write {
        /// Incarnation that owns them.
        by: Incarnation,
        /// The claims.
        claims: Vec<(ChannelId, Token)>,
    },
    /// Every claim is kept, or its session has ended.
    Done,
}
