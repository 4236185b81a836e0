//! Ownership lease of a node, not an etcd lease: it runs from the *sending* of the last linearizable read that showed the node's incarnation.
//!
//! Compared with the clock at each use: a timer that comes late changes nothing. A lease that has expired stays expired.

use std::time::Duration;

use soramode_protocol::node::Membership;

use crate::cluster::{FenceAfter, Incarnation, LeaseTerms};

/// Ownership lease of one incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnershipLease {
    incarnation: Incarnation,
    terms: LeaseTerms,
    /// Time at which the newest read that showed the incarnation was sent.
    confirmed: Duration,
}

/// Result of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Renewal {
    /// The lease runs on.
    Renewed,
    /// It had expired when the answer came: the incarnation is given up, also if the answer shows it.
    Expired,
}

/// Time for which a lease still runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Remaining {
    /// It has expired.
    Expired,
    /// This long, if it is not renewed.
    For(Duration),
    /// It never expires.
    Unlimited,
}

impl OwnershipLease {
    /// Begins with a read, sent at `sent`, that showed the new incarnation.
    pub const fn begin(incarnation: Incarnation, terms: LeaseTerms, sent: Duration) -> Self {
        Self {
            incarnation,
            terms,
            confirmed: sent,
        }
    }

    /// The incarnation that holds it.
    pub const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Notes that the cluster goes on in another history of etcd, which has no such incarnation: the lease runs until it expires.
    pub const fn leave_history(&mut self) {
        self.incarnation = Incarnation::OF_ANOTHER_HISTORY;
    }

    /// Terms that the incarnation promised.
    pub const fn terms(&self) -> &LeaseTerms {
        &self.terms
    }

    /// Renews by a linearizable read that showed this incarnation: sent at `sent`, answered at `now`.
    pub fn renew(&mut self, sent: Duration, now: Duration) -> Renewal {
        if self.is_expired(now) {
            return Renewal::Expired;
        }
        self.confirmed = self.confirmed.max(sent.min(now));
        Renewal::Renewed
    }

    /// Returns the membership that it gives, which is never `standalone`.
    pub fn membership(&self, now: Duration) -> Membership {
        if self.is_expired(now) {
            Membership::Fenced
        } else if now >= self.isolated_at() {
            Membership::Isolated
        } else {
            Membership::Joined
        }
    }

    /// Returns when the membership changes next without a renewal; `None` if it has changed for the last time.
    pub fn next_deadline(&self, now: Duration) -> Option<Duration> {
        match self.membership(now) {
            Membership::Joined => Some(
                self.expires_at()
                    .map_or(self.isolated_at(), |expiry| expiry.min(self.isolated_at())),
            ),
            Membership::Isolated => self.expires_at(),
            Membership::Fenced | Membership::Standalone => None,
        }
    }

    /// Returns for how long it still runs, which may be promised to the SFU, counted from when the SFU *asked*.
    pub fn remaining(&self, now: Duration) -> Remaining {
        match self.expires_at() {
            None => Remaining::Unlimited,
            Some(expiry) if now < expiry => Remaining::For(expiry.saturating_sub(now)),
            Some(_) => Remaining::Expired,
        }
    }

    /// Returns whether new channels may be claimed, and a claim that was won may be used: not while isolated.
    pub fn may_claim(&self, now: Duration) -> bool {
        self.membership(now) == Membership::Joined
    }

    /// Returns whether it has expired.
    pub fn is_expired(&self, now: Duration) -> bool {
        self.expires_at().is_some_and(|expiry| now >= expiry)
    }

    const fn isolated_at(&self) -> Duration {
        self.confirmed.saturating_add(self.terms.isolated_after)
    }

    const fn expires_at(&self) -> Option<Duration> {
        match self.terms.fence_after {
            FenceAfter::After(time) => Some(self.confirmed.saturating_add(time)),
            FenceAfter::Never => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const TERMS: LeaseTerms = LeaseTerms {
        isolated_after: s(6),
        fence_after: FenceAfter::After(s(30)),
        fence_budget: s(5),
    };

    #[test]
    fn a_lease_runs_from_the_sending_of_the_read_and_not_from_its_answer() {
        let mut lease = OwnershipLease::begin(Incarnation(7), TERMS, s(100));
        assert_eq!(lease.renew(s(102), s(105)), Renewal::Renewed);
        assert_eq!(lease.membership(s(107)), Membership::Joined);
        assert_eq!(lease.membership(s(108)), Membership::Isolated);
        assert_eq!(lease.membership(s(131)), Membership::Isolated);
        assert_eq!(lease.membership(s(132)), Membership::Fenced);
    }

    #[test]
    fn an_older_read_that_is_answered_later_takes_nothing_back() {
        let mut lease = OwnershipLease::begin(Incarnation(7), TERMS, s(100));
        lease.renew(s(104), s(104));
        lease.renew(s(102), s(105));
        assert_eq!(lease.remaining(s(105)), Remaining::For(s(29)));
    }

    #[test]
    fn a_read_sent_in_the_future_counts_from_its_answer() {
        let mut lease = OwnershipLease::begin(Incarnation(7), TERMS, s(100));
        lease.renew(s(900), s(105));
        assert_eq!(lease.remaining(s(105)), Remaining::For(s(30)));
    }

    #[test]
    fn an_expired_lease_stays_expired() {
        let mut lease = OwnershipLease::begin(Incarnation(7), TERMS, s(100));
        assert_eq!(lease.renew(s(129), s(130)), Renewal::Expired);
        assert_eq!(lease.remaining(s(130)), Remaining::Expired);
        assert_eq!(lease.membership(s(130)), Membership::Fenced);
        assert_eq!(lease.next_deadline(s(130)), None);
    }

    #[test]
    fn a_renewal_ends_an_isolation() {
        let mut lease = OwnershipLease::begin(Incarnation(7), TERMS, s(100));
        assert!(!lease.may_claim(s(110)));
        assert_eq!(lease.renew(s(110), s(111)), Renewal::Renewed);
        assert!(lease.may_claim(s(111)));
    }

    #[test]
    fn its_deadlines_come_one_after_the_other() {
        let lease = OwnershipLease::begin(Incarnation(7), TERMS, s(100));
        assert_eq!(lease.next_deadline(s(100)), Some(s(106)));
        assert_eq!(lease.next_deadline(s(106)), Some(s(130)));
        let short = OwnershipLease::begin(
            Incarnation(7),
            LeaseTerms {
                isolated_after: s(60),
                ..TERMS
            },
            s(100),
        );
        assert_eq!(short.next_deadline(s(100)), Some(s(130)));
    }

    #[test]
    fn without_fencing_it_never_expires() {
        let lease = OwnershipLease::begin(
            Incarnation(7),
            LeaseTerms {
                fence_after: FenceAfter::Never,
                ..TERMS
            },
            s(100),
        );
        assert_eq!(lease.membership(s(1_000_000)), Membership::Isolated);
        assert_eq!(lease.remaining(s(1_000_000)), Remaining::Unlimited);
        assert_eq!(lease.next_deadline(s(106)), None);
        assert!(!lease.may_claim(s(106)));
    }
}
