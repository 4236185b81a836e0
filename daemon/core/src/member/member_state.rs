//! State of the node's member key.

use crate::cluster::Incarnation;
use crate::cluster::migration::ClaimMigration;

/// State of the node's member key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum MemberState {
    /// There is none, or none that the node knows to be its own.
    Left,
    /// It is being written. If there is a lease, the key is to hold what that held.
    Joining,
    /// It is there, and claims are being written anew under it.
    Migrating(ClaimMigration),
    /// It is there; its lease begins with the next read that shows it.
    AwaitingConfirmation(Incarnation),
    /// The lease is that of the member key.
    Active,
}
