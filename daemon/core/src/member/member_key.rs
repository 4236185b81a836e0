//! The node's member key: its state, as far as the node knows, and how a read of etcd shows it.

use std::time::Duration;

use crate::cluster::Incarnation;
use crate::cluster::migration::ClaimMigration;

/// State of the node's member key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum MemberState {
    /// No member key, or none that the node knows to be its own.
    Left,
    /// The key is being written. If there is a lease, the key takes over its claims.
    Joining,
    /// The key is written, and claims are being rewritten under it.
    Migrating(ClaimMigration),
    /// The key is written; its lease begins with the next read that shows it.
    AwaitingConfirmation(Incarnation),
    /// The lease is that of the member key.
    Active,
}

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
    /// This start of the daemon wrote the found key.
    pub is_of_this_start: bool,
    /// The found key was written on another boot of this machine, or on another machine.
    pub is_of_another_boot: bool,
    /// The found key, if the node ordered it itself and serves nothing under it.
    pub unused: Option<Incarnation>,
    /// The cluster takes no more nodes.
    pub is_full: bool,
}
