//! Who was seen gone, and since when: from that, whether a channel can be taken over.
//!
//! An incarnation is the revision that created it. So a read at that revision or a later one that does not show it proves that
//! it is gone, for ever; an earlier read says nothing of it. The time is that of the answer's arrival, never earlier. All of it
//! is forgotten at a restart: then the wait begins anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::cluster::Incarnation;
use crate::cluster::claim::Claim;
use crate::fault::{Fault, PlantedFault};

/// How many incarnations are remembered as gone, each with its time. Of older ones the latest of their times counts for all.
pub const GONE_MAX: usize = 1_024;

/// A linearizable read of all members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Roll {
    /// etcd's revision that it shows.
    pub revision: u64,
    /// Who is there.
    pub present: BTreeSet<Incarnation>,
    /// When the answer came.
    pub received: Duration,
}

/// What this node saw of who is there and who is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Gone {
    roll: Roll,
    since: BTreeMap<Incarnation, Duration>,
    /// The newest of those that are not remembered one by one, and when the last of them was known to be gone.
    older: Option<(Incarnation, Duration)>,
    purged: BTreeSet<Incarnation>,
    fault: PlantedFault,
}

/// Whether a channel that another incarnation claims can be taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Takeover {
    /// No read has come yet that could show its owner: read the members.
    Unseen,
    /// Its owner is there.
    Present,
    /// In this time.
    Wait(Duration),
    /// By a transaction that compares the claim and its owner's absence.
    Now,
    /// Its owner is gone, and would have nothing that ends its sessions: only it, or an operator's word, gives the channel free.
    Never,
}

impl Gone {
    /// Creates one that has seen no member, with a planted mistake.
    pub fn new(fault: PlantedFault) -> Self {
        Self {
            fault,
            ..Self::default()
        }
    }

    /// A read of all members was answered. Answers may come in any order.
    pub fn saw(&mut self, roll: Roll) {
        if roll.revision < self.roll.revision {
            return;
        }
        let seen_before = std::mem::replace(&mut self.roll, roll).present;
        for incarnation in seen_before {
            // It was present until now, regardless of older incarnations.
            self.note(incarnation, Some(self.roll.received));
        }
    }

    /// An operator says that this incarnation is off: once it is gone, nobody waits for it.
    pub fn purge(&mut self, incarnation: Incarnation) {
        self.purged.insert(incarnation);
        if self.purged.len() > GONE_MAX {
            self.purged.pop_first();
        }
    }

    /// Whether an operator has said that it is off.
    pub fn is_purged(&self, incarnation: Incarnation) -> bool {
        self.purged.contains(&incarnation)
    }

    /// Since when an incarnation is known to be gone.
    pub fn since(&self, incarnation: Incarnation) -> Option<Duration> {
        let older = || {
            self.older.filter(|(newest, _)| {
                incarnation <= *newest && !self.roll.present.contains(&incarnation)
            })
        };
        self.since
            .get(&incarnation)
            .copied()
            .or_else(|| older().map(|(_, since)| since))
    }

    /// Whether a claim's channel can be taken over.
    pub fn takeover(&mut self, claim: &Claim, now: Duration) -> Takeover {
        if self.roll.present.contains(&claim.incarnation) {
            return Takeover::Present;
        }
        self.note(claim.incarnation, self.since(claim.incarnation));
        if self.fault.is(Fault::WaitForUnseenOwner) {
            self.since.entry(claim.incarnation).or_insert(now);
        }
        let Some(since) = self.since(claim.incarnation) else {
            return Takeover::Unseen;
        };
        let waits = !self.fault.is(Fault::TakeoverWithoutWait);
        if self.purged.contains(&claim.incarnation) || !waits {
            return Takeover::Now;
        }
        let part = if self.fault.is(Fault::TakeoverWaitTooShort) {
            2
        } else {
            1
        };
        let wait = claim.fence_after.takeover_wait(claim.fence_budget);
        match wait.map(|wait| wait / part) {
            None => Takeover::Never,
            Some(wait) => match since.saturating_add(wait).checked_sub(now) {
                Some(left) if !left.is_zero() => Takeover::Wait(left),
                _ => Takeover::Now,
            },
        }
    }

    /// Notes an incarnation that the newest roll could show and does not.
    fn note(&mut self, incarnation: Incarnation, since: Option<Duration>) {
        let is_old =
            self.roll.revision < incarnation.0 && !self.fault.is(Fault::OldReadProvesDeparture);
        if self.roll.present.contains(&incarnation) || is_old {
            return;
        }
        self.since
            .entry(incarnation)
            .or_insert(since.unwrap_or(self.roll.received));
        if self.since.len() > GONE_MAX
            && let Some((oldest, since)) = self.since.pop_first()
        {
            // One that was seen after that is noted when it is gone, so nothing up to this one is gone later than the latest of them.
            let before = self.older.unwrap_or((oldest, since));
            self.older = Some((before.0.max(oldest), before.1.max(since)));
        }
    }
}

#[cfg(test)]
mod tests {
    use soramode_protocol::id::NodeName;

    use super::*;
    use crate::cluster::{FenceAfter, Token};

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn claim(incarnation: u64) -> Claim {
        Claim {
            node: NodeName::new("node-02").unwrap(),
            incarnation: Incarnation(incarnation),
            fence_after: FenceAfter::After(ms(4_000)),
            fence_budget: ms(1_000),
            token: Token(incarnation + 1),
        }
    }

    fn roll(revision: u64, present: &[u64], received: Duration) -> Roll {
        Roll {
            revision,
            present: present.iter().map(|it| Incarnation(*it)).collect(),
            received,
        }
    }

    #[test]
    fn the_wait_begins_when_the_answer_that_lacks_it_comes() {
        let mut gone = Gone::default();
        gone.saw(roll(20, &[10], ms(1_000)));
        assert_eq!(gone.takeover(&claim(10), ms(9_000)), Takeover::Present);
        gone.saw(roll(21, &[], ms(9_000)));
        gone.saw(roll(22, &[], ms(9_500)));
        assert_eq!(
            gone.takeover(&claim(10), ms(9_500)),
            Takeover::Wait(ms(4_850))
        );
        assert_eq!(gone.takeover(&claim(10), ms(14_349)), Takeover::Wait(ms(1)));
        assert_eq!(gone.takeover(&claim(10), ms(14_350)), Takeover::Now);
    }

    #[test]
    fn to_be_unknown_is_not_to_be_gone() {
        let mut gone = Gone::default();
        assert_eq!(gone.takeover(&claim(10), ms(90_000)), Takeover::Unseen);
        gone.saw(roll(9, &[3], ms(91_000)));
        assert_eq!(gone.takeover(&claim(10), ms(99_000)), Takeover::Unseen);
        assert_eq!(gone.since(Incarnation(10)), None);
    }

    #[test]
    fn who_was_named_late_is_gone_since_the_newest_roll_that_could_show_it() {
        let mut gone = Gone::default();
        gone.saw(roll(10, &[], ms(1_000)));
        gone.saw(roll(11, &[], ms(2_000)));
        assert_eq!(
            gone.takeover(&claim(10), ms(2_500)),
            Takeover::Wait(ms(4_850))
        );
        assert_eq!(gone.since(Incarnation(10)), Some(ms(2_000)));
    }

    #[test]
    fn an_answer_from_before_that_comes_after_changes_nothing() {
        let mut gone = Gone::default();
        gone.saw(roll(20, &[], ms(1_000)));
        gone.saw(roll(15, &[10], ms(2_000)));
        assert_eq!(gone.takeover(&claim(10), ms(6_350)), Takeover::Now);
    }

    #[test]
    fn sticky_channels_wait_for_their_owner_or_a_word() {
        let mut gone = Gone::default();
        let sticky = Claim {
            fence_after: FenceAfter::Never,
            ..claim(10)
        };
        gone.saw(roll(20, &[], ms(1_000)));
        assert_eq!(gone.takeover(&sticky, ms(u64::MAX)), Takeover::Never);
        gone.purge(Incarnation(10));
        assert_eq!(gone.takeover(&sticky, ms(1_000)), Takeover::Now);
    }

    #[test]
    fn who_is_there_is_not_taken_from_whatever_an_operator_says() {
        let mut gone = Gone::default();
        gone.purge(Incarnation(10));
        gone.saw(roll(20, &[10], ms(1_000)));
        assert_eq!(gone.takeover(&claim(10), ms(2_000)), Takeover::Present);
        assert_eq!(
            gone.takeover(&claim(11), ms(2_000)),
            Takeover::Wait(ms(4_350))
        );
    }

    #[test]
    fn what_it_remembers_is_bounded() {
        let mut gone = Gone::default();
        gone.saw(roll(u64::MAX, &[], ms(1_000)));
        for incarnation in 0..=GONE_MAX as u64 {
            gone.takeover(&claim(incarnation), ms(2_000));
            gone.purge(Incarnation(incarnation));
        }
        assert_eq!((gone.since.len(), gone.purged.len()), (GONE_MAX, GONE_MAX));
        assert_eq!(gone.since(Incarnation(1)), Some(ms(1_000)));
    }

    #[test]
    fn a_wait_ends_however_many_are_gone() {
        let mut gone = Gone::default();
        for round in 0..3 {
            gone.saw(roll(u64::MAX - 3 + round, &[], ms(1_000 + round)));
            for incarnation in 0..3 * GONE_MAX as u64 {
                assert_eq!(
                    gone.takeover(&claim(incarnation), ms(2_000)),
                    Takeover::Wait(ms(4_350)),
                    "{incarnation}"
                );
            }
        }
        assert_eq!(gone.since.len(), GONE_MAX);
        assert_eq!(gone.takeover(&claim(0), ms(6_350)), Takeover::Now);
    }

    #[test]
    fn one_that_was_there_when_older_ones_were_forgotten_is_waited_for_from_its_own_end_on() {
        let mut gone = Gone::default();
        gone.saw(roll(10_000, &[5], ms(1_000)));
        for incarnation in 10..20 + GONE_MAX as u64 {
            gone.takeover(&claim(incarnation), ms(1_000));
        }
        assert_eq!(gone.takeover(&claim(5), ms(8_000)), Takeover::Present);
        gone.saw(roll(10_001, &[], ms(9_000)));
        assert_eq!(
            gone.takeover(&claim(5), ms(9_000)),
            Takeover::Wait(ms(5_350))
        );
    }
}
