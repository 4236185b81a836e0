//! Departed members, and since when: from that follows whether a channel can be taken over.
//!
//! An incarnation is the revision that created it. So a read at that revision or a later one that does not show it proves that
//! it has departed, for ever; an earlier read proves nothing. The time is that of the answer's arrival, never earlier. All of it
//! is forgotten at a restart: then the wait begins anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::cluster::Incarnation;
use crate::cluster::claim::Claim;
use crate::fault::{Fault, PlantedFault};

/// Departed incarnations that are remembered one by one, at most. For all older ones the latest of their times counts.
const DEPARTURES_MAX: usize = 1_024;

/// Members that a linearizable read shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PresentMembers {
    /// etcd's revision that it shows.
    pub revision: u64,
    /// Their incarnations.
    pub present: BTreeSet<Incarnation>,
    /// When the answer came.
    pub received: Duration,
}

/// Members that have departed, as far as this node has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DepartedMembers {
    /// The newest read.
    newest: PresentMembers,
    departed: BTreeMap<Incarnation, Duration>,
    /// The newest of those that are not remembered one by one, and the latest time of all of them.
    older: Option<(Incarnation, Duration)>,
    purged: BTreeSet<Incarnation>,
    fault: PlantedFault,
}

/// Answer to whether a channel that another incarnation claims can be taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Takeover {
    /// No read so far could have shown its owner: read the members.
    OwnerUnknown,
    /// Its owner is a present member.
    OwnerAlive,
    /// It can, after this time.
    Wait(Duration),
    /// It can, by a transaction that compares the claim and its owner's absence.
    Allowed,
    /// The owner has departed but has no fencing, so its sessions may still run. Only the owner or an operator (`PurgeClusterNode`) can
    /// free the channel.
    NeedsOperator,
}

impl DepartedMembers {
    /// Creates one that has seen no member, with a planted mistake.
    pub fn new(fault: PlantedFault) -> Self {
        Self {
            fault,
            ..Self::default()
        }
    }

    /// Takes in a read of all members. Answers may come in any order.
    pub fn observe(&mut self, newest: PresentMembers) {
        if newest.revision < self.newest.revision {
            return;
        }
        let seen_before = std::mem::replace(&mut self.newest, newest).present;
        for incarnation in seen_before {
            // It was present until now, also where an older incarnation is noted.
            self.record_departure(incarnation, Some(self.newest.received));
        }
    }

    /// Notes that an operator has purged an incarnation: once it has departed, its channels are free at once.
    pub fn purge(&mut self, incarnation: Incarnation) {
        self.purged.insert(incarnation);
        if self.purged.len() > DEPARTURES_MAX {
            self.purged.pop_first();
        }
    }

    /// Returns whether an operator has purged an incarnation.
    pub fn is_purged(&self, incarnation: Incarnation) -> bool {
        self.purged.contains(&incarnation)
    }

    /// Returns since when an incarnation is known to have departed.
    fn departed_at(&self, incarnation: Incarnation) -> Option<Duration> {
        let older = || {
            self.older.filter(|(newest, _)| {
                incarnation <= *newest && !self.newest.present.contains(&incarnation)
            })
        };
        self.departed
            .get(&incarnation)
            .copied()
            .or_else(|| older().map(|(_, since)| since))
    }

    /// Returns whether a claim's channel can be taken over.
    pub fn takeover(&mut self, claim: &Claim, now: Duration) -> Takeover {
        if self.newest.present.contains(&claim.incarnation) {
            return Takeover::OwnerAlive;
        }
        self.record_departure(claim.incarnation, self.departed_at(claim.incarnation));
        if self.fault.is(Fault::WaitForUnseenOwner) {
            self.departed.entry(claim.incarnation).or_insert(now);
        }
        let Some(since) = self.departed_at(claim.incarnation) else {
            return Takeover::OwnerUnknown;
        };
        let waits = !self.fault.is(Fault::TakeoverWithoutWait);
        if self.purged.contains(&claim.incarnation) || !waits {
            return Takeover::Allowed;
        }
        let part = if self.fault.is(Fault::TakeoverWaitTooShort) {
            2
        } else {
            1
        };
        let wait = claim.fence_after.takeover_wait(claim.fence_budget);
        match wait.map(|wait| wait / part) {
            None => Takeover::NeedsOperator,
            Some(wait) => match since.saturating_add(wait).checked_sub(now) {
                Some(left) if !left.is_zero() => Takeover::Wait(left),
                _ => Takeover::Allowed,
            },
        }
    }

    /// Notes an incarnation that the newest read could show and does not.
    fn record_departure(&mut self, incarnation: Incarnation, since: Option<Duration>) {
        let is_old =
            self.newest.revision < incarnation.0 && !self.fault.is(Fault::OldReadProvesDeparture);
        if self.newest.present.contains(&incarnation) || is_old {
            return;
        }
        self.departed
            .entry(incarnation)
            .or_insert(since.unwrap_or(self.newest.received));
        if self.departed.len() > DEPARTURES_MAX
            && let Some((oldest, since)) = self.departed.pop_first()
        {
            // One that is seen after that is noted when it departs, so none up to this one departs later than the latest of them.
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

    fn read(revision: u64, present: &[u64], received: Duration) -> PresentMembers {
        PresentMembers {
            revision,
            present: present.iter().map(|it| Incarnation(*it)).collect(),
            received,
        }
    }

    #[test]
    fn the_wait_begins_when_the_answer_that_lacks_it_comes() {
        let mut departed = DepartedMembers::default();
        departed.observe(read(20, &[10], ms(1_000)));
        assert_eq!(
            departed.takeover(&claim(10), ms(9_000)),
            Takeover::OwnerAlive
        );
        departed.observe(read(21, &[], ms(9_000)));
        departed.observe(read(22, &[], ms(9_500)));
        assert_eq!(
            departed.takeover(&claim(10), ms(9_500)),
            Takeover::Wait(ms(4_850))
        );
        assert_eq!(
            departed.takeover(&claim(10), ms(14_349)),
            Takeover::Wait(ms(1))
        );
        assert_eq!(departed.takeover(&claim(10), ms(14_350)), Takeover::Allowed);
    }

    #[test]
    fn an_unknown_owner_is_not_departed() {
        let mut departed = DepartedMembers::default();
        assert_eq!(
            departed.takeover(&claim(10), ms(90_000)),
            Takeover::OwnerUnknown
        );
        departed.observe(read(9, &[3], ms(91_000)));
        assert_eq!(
            departed.takeover(&claim(10), ms(99_000)),
            Takeover::OwnerUnknown
        );
        assert_eq!(departed.departed_at(Incarnation(10)), None);
    }

    #[test]
    fn an_owner_named_late_departed_at_the_newest_read_that_could_show_it() {
        let mut departed = DepartedMembers::default();
        departed.observe(read(10, &[], ms(1_000)));
        departed.observe(read(11, &[], ms(2_000)));
        assert_eq!(
            departed.takeover(&claim(10), ms(2_500)),
            Takeover::Wait(ms(4_850))
        );
        assert_eq!(departed.departed_at(Incarnation(10)), Some(ms(2_000)));
    }

    #[test]
    fn an_older_read_that_is_answered_later_changes_nothing() {
        let mut departed = DepartedMembers::default();
        departed.observe(read(20, &[], ms(1_000)));
        departed.observe(read(15, &[10], ms(2_000)));
        assert_eq!(departed.takeover(&claim(10), ms(6_350)), Takeover::Allowed);
    }

    #[test]
    fn channels_without_fencing_wait_for_their_owner_or_a_purge() {
        let mut departed = DepartedMembers::default();
        let sticky = Claim {
            fence_after: FenceAfter::Never,
            ..claim(10)
        };
        departed.observe(read(20, &[], ms(1_000)));
        assert_eq!(
            departed.takeover(&sticky, ms(u64::MAX)),
            Takeover::NeedsOperator
        );
        departed.purge(Incarnation(10));
        assert_eq!(departed.takeover(&sticky, ms(1_000)), Takeover::Allowed);
    }

    #[test]
    fn a_purge_takes_nothing_from_a_present_owner() {
        let mut departed = DepartedMembers::default();
        departed.purge(Incarnation(10));
        departed.observe(read(20, &[10], ms(1_000)));
        assert_eq!(
            departed.takeover(&claim(10), ms(2_000)),
            Takeover::OwnerAlive
        );
        assert_eq!(
            departed.takeover(&claim(11), ms(2_000)),
            Takeover::Wait(ms(4_350))
        );
    }

    #[test]
    fn departures_are_bounded() {
        let mut departed = DepartedMembers::default();
        departed.observe(read(u64::MAX, &[], ms(1_000)));
        for incarnation in 0..=DEPARTURES_MAX as u64 {
            departed.takeover(&claim(incarnation), ms(2_000));
            departed.purge(Incarnation(incarnation));
        }
        assert_eq!(
            (departed.departed.len(), departed.purged.len()),
            (DEPARTURES_MAX, DEPARTURES_MAX)
        );
        assert_eq!(departed.departed_at(Incarnation(1)), Some(ms(1_000)));
    }

    #[test]
    fn a_wait_ends_however_many_have_departed() {
        let mut departed = DepartedMembers::default();
        for round in 0..3 {
            departed.observe(read(u64::MAX - 3 + round, &[], ms(1_000 + round)));
            for incarnation in 0..3 * DEPARTURES_MAX as u64 {
                assert_eq!(
                    departed.takeover(&claim(incarnation), ms(2_000)),
                    Takeover::Wait(ms(4_350)),
                    "{incarnation}"
                );
            }
        }
        assert_eq!(departed.departed.len(), DEPARTURES_MAX);
        assert_eq!(departed.takeover(&claim(0), ms(6_350)), Takeover::Allowed);
    }

    #[test]
    fn the_wait_for_a_present_member_begins_when_it_departs_also_after_older_ones_were_forgotten() {
        let mut departed = DepartedMembers::default();
        departed.observe(read(10_000, &[5], ms(1_000)));
        for incarnation in 10..20 + DEPARTURES_MAX as u64 {
            departed.takeover(&claim(incarnation), ms(1_000));
        }
        assert_eq!(
            departed.takeover(&claim(5), ms(8_000)),
            Takeover::OwnerAlive
        );
        departed.observe(read(10_001, &[], ms(9_000)));
        assert_eq!(
            departed.takeover(&claim(5), ms(9_000)),
            Takeover::Wait(ms(5_350))
        );
    }
}
