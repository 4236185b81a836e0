//! The cluster's decisions: how long a node's right to its channels runs, when another node may take one over, what a claim
//! came to, and where a new channel belongs.
//!
//! All time is the boot clock of the node that decides. No two clocks are ever compared: their *rates* must differ by less
//! than 1 %. Nothing here trusts a lease; what counts are etcd's reads and transactions, and the revisions they show.

pub mod claim;
pub mod gone;
pub mod history;
pub mod join;
pub mod placement;
pub mod readopt;
pub mod right;

use std::time::Duration;

/// One life of a node's member key: the revision that created it. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// A life in a history of etcd that is over. Nothing is created at revision 0, so no read shows it.
    pub const OF_ANOTHER_HISTORY: Self = Self(0);
}

/// Who owns a channel, as a number that grows with every change of owner: the revision that last wrote the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// How far apart the rates of two clocks may be, as a part of the time waited: 1 %.
const RATE_PART: u32 = 100;

/// What a takeover waits beyond that, for what comes between a clock and a deed.
pub const TAKEOVER_SLACK: Duration = Duration::from_millis(300);

/// How long after its last renewal an incarnation's right to its channels is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FenceAfter {
    /// After this long: then its sessions are ended, by itself.
    After(Duration),
    /// Never: nothing would end its sessions, so its channels wait for it, or for an operator's word.
    Never,
}

impl FenceAfter {
    /// How long another node waits, after it saw the incarnation gone, before it takes a channel over; `None` is for ever.
    /// `fence_budget` is how long ending all sessions may take.
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

/// What an incarnation promised when it joined. It stays as it is for as long as the incarnation lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseTerms {
    /// Without a renewal for so long the node is isolated.
    pub isolated_after: Duration,
    /// And for so long: fenced.
    pub fence_after: FenceAfter,
    /// How long ending all sessions may take.
    pub fence_budget: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_takeover_waits_for_all_that_was_promised_and_more() {
        let wait = FenceAfter::After(Duration::from_secs(30)).takeover_wait(Duration::from_secs(5));
        assert_eq!(wait, Some(Duration::from_millis(35_650)));
        assert_eq!(FenceAfter::Never.takeover_wait(Duration::ZERO), None);
    }

    #[test]
    fn a_promise_that_cannot_be_counted_is_kept_for_ever() {
        assert_eq!(
            FenceAfter::After(Duration::MAX).takeover_wait(Duration::MAX),
            Some(Duration::MAX)
        );
    }
}
