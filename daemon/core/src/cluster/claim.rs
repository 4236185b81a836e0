//! A channel's claim, and the reply to a transaction that writes it.

use std::time::Duration;

use soramode_protocol::id::NodeName;
use soramode_protocol::mode::Mode;

use crate::cluster::{FenceAfter, Incarnation, Token};

/// Owner of a channel, as it stands in etcd.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// Name of the owner.
    pub node: NodeName,
    /// Incarnation of the owner.
    pub incarnation: Incarnation,
    /// Expiry that the incarnation promised: its own terms count, not those of the node that takes over.
    pub fence_after: FenceAfter,
    /// Time that the incarnation may need to end its sessions, by the same terms.
    pub fence_budget: Duration,
    /// The revision that wrote the claim.
    pub token: Token,
}

/// Result of a transaction that claims or takes over a channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClaimReply {
    /// It wrote the claim.
    Won(Token),
    /// A comparison failed.
    Refused(Conflict),
}

impl ClaimReply {
    /// Returns the incarnation that holds the claim, if another claim was there.
    pub fn claimed_by(&self) -> Option<&Incarnation> {
        match self {
            Self::Won(_) => None,
            Self::Refused(found) => found.claim.as_ref().map(|claim| &claim.incarnation),
        }
    }
}

/// State that a transaction found when its comparison failed, or that a read shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Conflict {
    /// The channel's claim.
    pub claim: Option<Claim>,
    /// The claimant's member key.
    pub member: Option<Incarnation>,
    /// Its published mode.
    pub mode: Option<Mode>,
}
