//! The cluster's decisions: how long a node may serve its channels, when another node may take one over, the outcome of a claim,
//! and the node that a new channel belongs to.
//!
//! All time is the boot clock of the node that decides. No two clocks are ever compared: their *rates* must differ by less
//! than 1 %. Nothing here trusts a lease of etcd; what counts are etcd's reads and transactions, and the revisions they show.

pub mod claim;
pub mod claim_outcome;
pub mod departures;
pub mod history;
pub mod lease;
pub mod migration;
pub mod placement;
pub mod previous;

use std::time::Duration;

/// One life of a node in its cluster: the revision that created its member key. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// An incarnation in an earlier history of etcd. Nothing is created at revision 0, so no read shows it.
    pub const OF_ANOTHER_HISTORY: Self = Self(0);
}

/// Number that grows with every change of a channel's owner: the revision that last wrote the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Allowed difference of two clocks' rates, as a part of the time waited: 1 %.
const RATE_PART: u32 = 100;

/// Additional wait of a takeover, for the time between reading a clock and acting by it.
const TAKEOVER_SLACK: Duration = Duration::from_millis(300);

/// Expiry of an incarnation's ownership lease after its last renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FenceAfter {
    /// After this time it ends its sessions by itself.
    After(Duration),
    /// It never expires: nothing would end its sessions, so its channels wait for it, or for an operator's purge.
    Never,
}

impl FenceAfter {
    /// Returns how long another node waits, after it saw the incarnation departed, before it takes a channel over; `None` is for ever.
    /// `fence_budget` is the time that ending all sessions may take.
    pub fn takeover_wait(self, fence_budget: Duration) -> Option<Duration> {
        match self {
            Self::After(fence_after) => {
                let promised = fence_after.saturating_add(fence_budget);
                Some(
                    promised
                        .saturating_add(promised / RATE_PART)
                        .saturating_add(TAKEOVER_SLACK),
                )
            }
            Self::Never => None,
        }
    }
}

/// Terms that an incarnation promised when it joined. They stay as they are for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseTerms {
    /// Time without a renewal after which the node is isolated.
    pub isolated_after: Duration,
    /// Time without a renewal after which it is fenced.
    pub fence_after: FenceAfter,
    /// Time that ending all sessions may take.
    pub fence_budget: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_takeover_waits_longer_than_the_promised_time() {
        let wait = FenceAfter::After(Duration::from_secs(30)).takeover_wait(Duration::from_secs(5));
        assert_eq!(wait, Some(Duration::from_millis(35_650)));
        assert_eq!(FenceAfter::Never.takeover_wait(Duration::ZERO), None);
    }

    #[test]
    fn a_wait_that_overflows_is_the_longest() {
        assert_eq!(
            FenceAfter::After(Duration::MAX).takeover_wait(Duration::MAX),
            Some(Duration::MAX)
        );
    }
}
