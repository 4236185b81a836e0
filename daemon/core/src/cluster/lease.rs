//! A node's right to its channels: from the *sending* of the last linearizable read that showed its own incarnation.
//!
//! Compared with the clock at each use: a timer that comes late changes nothing. A right that is over stays over.

use std::time::Duration;

use soramode_protocol::node::Membership;

use crate::cluster::{FenceAfter, Incarnation, LeaseTerms};

/// The right of one incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Right {
    incarnation: Incarnation,
    terms: LeaseTerms,
    /// When the newest read that showed the incarnation was sent.
    confirmed: Duration,
}

/// What a renewal came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Renewal {
    /// The right runs on.
    Prolonged,
    /// It was over when the answer came: the incarnation is given up, whatever the answer says.
    Over,
}

/// How long a right still runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValidFor {
    /// It is over.
    Over,
    /// This long, if it is not renewed.
    For(Duration),
    /// It has no end.
    Always,
}

impl Right {
    /// The right begins with a read, sent at `sent`, that showed the new incarnation.
    pub const fn begin(incarnation: Incarnation, terms: LeaseTerms, sent: Duration) -> Self {
        Self {
            incarnation,
            terms,
            confirmed: sent,
        }
    }

    /// Whose right it is.
    pub const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The cluster goes on in another history of etcd, which has no such incarnation: the right runs on until it is over.
    pub const fn leave_history(&mut self) {
        self.incarnation = Incarnation::OF_ANOTHER_HISTORY;
    }

    /// What the incarnation promised.
    pub const fn terms(&self) -> &LeaseTerms {
        &self.terms
    }

    /// A linearizable read that was sent at `sent` showed this incarnation; its answer came at `now`.
    pub fn confirm(&mut self, sent: Duration, now: Duration) -> Renewal {
        if self.is_over(now) {
            return Renewal::Over;
        }
        self.confirmed = self.confirmed.max(sent.min(now));
        Renewal::Prolonged
    }

    /// Never `standalone`.
    pub fn membership(&self, now: Duration) -> Membership {
        if self.is_over(now) {
            Membership::Fenced
        } else if now >= self.isolated_at() {
            Membership::Isolated
        } else {
            Membership::Joined
        }
    }

    /// When the membership changes next, if no renewal comes; `None` if it has changed for the last time.
    pub fn next_deadline(&self, now: Duration) -> Option<Duration> {
        match self.membership(now) {
            Membership::Joined => Some(
                self.over_at()
                    .map_or(self.isolated_at(), |over| over.min(self.isolated_at())),
            ),
            Membership::Isolated => self.over_at(),
            Membership::Fenced | Membership::Standalone => None,
        }
    }

    /// How long it still runs: what may be promised to the SFU, counted from when the SFU *asked*.
    pub fn valid_for(&self, now: Duration) -> ValidFor {
        match self.over_at() {
            None => ValidFor::Always,
            Some(over) if now < over => ValidFor::For(over.saturating_sub(now)),
            Some(_) => ValidFor::Over,
        }
    }

    /// Whether new channels may be claimed, and a claim that was won may be used: not while isolated.
    pub fn may_claim(&self, now: Duration) -> bool {
        self.membership(now) == Membership::Joined
    }

    /// Whether it is over.
    pub fn is_over(&self, now: Duration) -> bool {
        self.over_at().is_some_and(|over| now >= over)
    }

    const fn isolated_at(&self) -> Duration {
        self.confirmed.saturating_add(self.terms.isolated_after)
    }

    const fn over_at(&self) -> Option<Duration> {
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
    fn it_runs_from_the_sending_and_not_from_the_answer() {
        let mut right = Right::begin(Incarnation(7), TERMS, s(100));
        assert_eq!(right.confirm(s(102), s(105)), Renewal::Prolonged);
        assert_eq!(right.membership(s(107)), Membership::Joined);
        assert_eq!(right.membership(s(108)), Membership::Isolated);
        assert_eq!(right.membership(s(131)), Membership::Isolated);
        assert_eq!(right.membership(s(132)), Membership::Fenced);
    }

    #[test]
    fn an_older_read_that_is_answered_later_takes_nothing_back() {
        let mut right = Right::begin(Incarnation(7), TERMS, s(100));
        right.confirm(s(104), s(104));
        right.confirm(s(102), s(105));
        assert_eq!(right.valid_for(s(105)), ValidFor::For(s(29)));
    }

    #[test]
    fn a_read_from_the_future_is_not_believed() {
        let mut right = Right::begin(Incarnation(7), TERMS, s(100));
        right.confirm(s(900), s(105));
        assert_eq!(right.valid_for(s(105)), ValidFor::For(s(30)));
    }

    #[test]
    fn what_is_over_stays_over() {
        let mut right = Right::begin(Incarnation(7), TERMS, s(100));
        assert_eq!(right.confirm(s(129), s(130)), Renewal::Over);
        assert_eq!(right.valid_for(s(130)), ValidFor::Over);
        assert_eq!(right.membership(s(130)), Membership::Fenced);
        assert_eq!(right.next_deadline(s(130)), None);
    }

    #[test]
    fn a_renewal_ends_an_isolation() {
        let mut right = Right::begin(Incarnation(7), TERMS, s(100));
        assert!(!right.may_claim(s(110)));
        assert_eq!(right.confirm(s(110), s(111)), Renewal::Prolonged);
        assert!(right.may_claim(s(111)));
    }

    #[test]
    fn its_deadlines_come_one_after_the_other() {
        let right = Right::begin(Incarnation(7), TERMS, s(100));
        assert_eq!(right.next_deadline(s(100)), Some(s(106)));
        assert_eq!(right.next_deadline(s(106)), Some(s(130)));
        let short = Right::begin(
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
    fn without_a_dead_man_it_has_no_end() {
        let right = Right::begin(
            Incarnation(7),
            LeaseTerms {
                fence_after: FenceAfter::Never,
                ..TERMS
            },
            s(100),
        );
        assert_eq!(right.membership(s(1_000_000)), Membership::Isolated);
        assert_eq!(right.valid_for(s(1_000_000)), ValidFor::Always);
        assert_eq!(right.next_deadline(s(106)), None);
        assert!(!right.may_claim(s(106)));
    }
}
