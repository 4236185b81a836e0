//! State of the node's member key.

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
