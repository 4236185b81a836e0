//! Outcome of an attempt to claim a channel, or of a read of its claim.
//!
//! A node claims for itself alone, in one transaction: the channel's key absent, its own member key of this incarnation present,
//! its own published mode `normal`. Nothing is owned before the answer, and an answer may come late, twice or never.

use std::collections::BTreeSet;
use std::time::Duration;

use soramode_protocol::id::NodeName;
use soramode_protocol::mode::Mode;

use crate::cluster::claim::{Claim, ClaimReply};
use crate::cluster::departures::{DepartedMembers, Takeover};
use crate::cluster::lease::OwnershipLease;
use crate::cluster::{Incarnation, Token};
use crate::fault::{Fault, PlantedFault};

/// The node that claims a channel, as it is when the reply comes.
#[derive(Clone, Copy, Debug)]
pub struct Claimant<'a> {
    /// Its lease; the transaction was sent under the same incarnation.
    pub lease: &'a OwnershipLease,
    /// Its mode.
    pub mode: Mode,
    /// Earlier incarnations of its own that are known to serve no session any more.
    pub ended_incarnations: &'a BTreeSet<Incarnation>,
    /// The mistake that a test has planted.
    pub fault: PlantedFault,
}

/// Outcome of a claim, or of a read of one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClaimOutcome {
    /// The node owns the channel, under this token.
    Acquired(Token),
    /// Won, but too late or in another mode: release it, and answer as if there had been no attempt.
    Relinquish(Token),
    /// Its owner is a present member: redirect.
    OwnedByPeer(NodeName),
    /// Take it over, by a transaction that compares this claim, and its owner's absence.
    TakeOver(Claim),
    /// Our own claim, but not one that we hold: its write was never acknowledged, it belongs to an earlier incarnation, or its release is
    /// in flight. Rewrite it with a compare-and-swap, so that a late release cannot match the new token.
    Rewrite(Claim),
    /// Its owner has departed. It can be taken over after this time; `None`: only its owner or an operator can free it.
    OwnerLost(Option<Duration>),
    /// Read the members and evaluate again: no read could have shown the owner yet.
    RefreshMembers,
    /// The node's own member key is gone: migrate its claims, or fence.
    NotMember,
    /// Unclaimed, but the node is not published as `normal`.
    NotNormal,
    /// Released in the meantime: try again.
    Retry,
}

/// Evaluates a reply that came at `now`.
pub fn evaluate_reply(
    reply: ClaimReply,
    claimant: Claimant<'_>,
    departed: &mut DepartedMembers,
    now: Duration,
) -> ClaimOutcome {
    let found = match reply {
        ClaimReply::Won(token) if may_use(claimant, now) => return ClaimOutcome::Acquired(token),
        ClaimReply::Won(token) => return ClaimOutcome::Relinquish(token),
        ClaimReply::Refused(found) => found,
    };
    let mine = claimant.lease.incarnation();
    match found.claim {
        _ if found.member != Some(mine) => ClaimOutcome::NotMember,
        Some(claim) if claim.incarnation == mine && claimant.fault.is(Fault::FoundClaimIsUsed) => {
            ClaimOutcome::Acquired(claim.token)
        }
        Some(claim)
            if claim.incarnation == mine
                || claimant.ended_incarnations.contains(&claim.incarnation) =>
        {
            ClaimOutcome::Rewrite(claim)
        }
        Some(claim) => evaluate_owner(claim, departed, now),
        None if found.mode != Some(Mode::Normal) => ClaimOutcome::NotNormal,
        None => ClaimOutcome::Retry,
    }
}

fn evaluate_owner(claim: Claim, departed: &mut DepartedMembers, now: Duration) -> ClaimOutcome {
    match departed.takeover(&claim, now) {
        Takeover::OwnerUnknown => ClaimOutcome::RefreshMembers,
        Takeover::OwnerAlive => ClaimOutcome::OwnedByPeer(claim.node),
        Takeover::Wait(left) => ClaimOutcome::OwnerLost(Some(left)),
        Takeover::NeedsOperator => ClaimOutcome::OwnerLost(None),
        Takeover::Allowed => ClaimOutcome::TakeOver(claim),
    }
}

/// Returns whether a claim that was won may be used: the lease runs, and the mode still lets the node have new channels.
fn may_use(claimant: Claimant<'_>, now: Duration) -> bool {
    claimant.lease.may_claim(now) && claimant.mode == Mode::Normal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::claim::Conflict;
    use crate::cluster::departures::PresentMembers;
    use crate::cluster::{FenceAfter, LeaseTerms};

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const TERMS: LeaseTerms = LeaseTerms {
        isolated_after: s(6),
        fence_after: FenceAfter::After(s(30)),
        fence_budget: s(5),
    };

    struct World {
        lease: OwnershipLease,
        mode: Mode,
        ended: BTreeSet<Incarnation>,
        departed: DepartedMembers,
    }

    impl World {
        fn new() -> Self {
            let lease = OwnershipLease::begin(Incarnation(10), TERMS, s(100));
            Self {
                lease,
                mode: Mode::Normal,
                ended: BTreeSet::new(),
                departed: DepartedMembers::default(),
            }
        }

        fn evaluate_reply(&mut self, reply: ClaimReply, now: u64) -> ClaimOutcome {
            let claimant = Claimant {
                lease: &self.lease,
                mode: self.mode,
                ended_incarnations: &self.ended,
                fault: PlantedFault::NONE,
            };
            evaluate_reply(reply, claimant, &mut self.departed, s(now))
        }

        fn sees(&mut self, revision: u64, present: &[u64]) {
            let present = present.iter().map(|it| Incarnation(*it)).collect();
            self.departed.observe(PresentMembers {
                revision,
                present,
                received: s(100),
            });
        }
    }

    fn claim(node: &str, incarnation: u64, token: u64) -> Claim {
        Claim {
            node: NodeName::new(node).unwrap(),
            incarnation: Incarnation(incarnation),
            fence_after: TERMS.fence_after,
            fence_budget: TERMS.fence_budget,
            token: Token(token),
        }
    }

    fn held(claim: &Claim) -> ClaimReply {
        ClaimReply::Refused(Conflict {
            claim: Some(claim.clone()),
            member: Some(Incarnation(10)),
            mode: Some(Mode::Normal),
        })
    }

    #[test]
    fn a_won_claim_is_used_only_within_the_lease_and_in_mode_normal() {
        let mut world = World::new();
        assert_eq!(
            world.evaluate_reply(ClaimReply::Won(Token(20)), 105),
            ClaimOutcome::Acquired(Token(20))
        );
        assert_eq!(
            world.evaluate_reply(ClaimReply::Won(Token(20)), 106),
            ClaimOutcome::Relinquish(Token(20))
        );
        for mode in [
            Mode::BlockNewSession,
            Mode::BlockNewConnection,
            Mode::Initial,
        ] {
            world.mode = mode;
            assert_eq!(
                world.evaluate_reply(ClaimReply::Won(Token(20)), 105),
                ClaimOutcome::Relinquish(Token(20)),
                "{mode}"
            );
        }
    }

    #[test]
    fn an_own_claim_that_is_not_held_is_rewritten() {
        assert_eq!(
            World::new().evaluate_reply(held(&claim("n1", 10, 20)), 101),
            ClaimOutcome::Rewrite(claim("n1", 10, 20))
        );
    }

    #[test]
    fn a_present_owner_is_redirected_to() {
        let mut world = World::new();
        assert_eq!(
            world.evaluate_reply(held(&claim("n2", 11, 20)), 101),
            ClaimOutcome::RefreshMembers
        );
        world.sees(21, &[10, 11]);
        assert_eq!(
            world.evaluate_reply(held(&claim("n2", 11, 20)), 101),
            ClaimOutcome::OwnedByPeer(NodeName::new("n2").unwrap())
        );
    }

    #[test]
    fn a_departed_owners_channel_is_taken_over_after_a_wait() {
        let mut world = World::new();
        world.sees(21, &[10]);
        let wait = Duration::from_millis(35_650);
        assert_eq!(
            world.evaluate_reply(held(&claim("n2", 9, 20)), 100),
            ClaimOutcome::OwnerLost(Some(wait))
        );
        assert_eq!(
            world.evaluate_reply(held(&claim("n2", 9, 20)), 136),
            ClaimOutcome::TakeOver(claim("n2", 9, 20))
        );
        let sticky = Claim {
            fence_after: FenceAfter::Never,
            ..claim("n2", 9, 20)
        };
        assert_eq!(
            world.evaluate_reply(held(&sticky), 136),
            ClaimOutcome::OwnerLost(None)
        );
    }

    #[test]
    fn an_ended_incarnation_of_its_own_is_not_waited_for() {
        let mut world = World::new();
        world.sees(21, &[10]);
        let earlier = claim("n1", 9, 20);
        assert!(
            matches!(
                world.evaluate_reply(held(&earlier), 101),
                ClaimOutcome::OwnerLost(Some(_))
            ),
            "its sessions may still run"
        );
        world.ended.insert(Incarnation(9));
        assert_eq!(
            world.evaluate_reply(held(&earlier), 101),
            ClaimOutcome::Rewrite(earlier)
        );
    }

    #[test]
    fn without_its_own_member_key_a_node_claims_nothing() {
        let mut world = World::new();
        for member in [None, Some(Incarnation(11))] {
            for claim in [None, Some(claim("n2", 9, 20)), Some(claim("n1", 10, 20))] {
                let found = Conflict {
                    claim,
                    member,
                    mode: None,
                };
                assert_eq!(
                    world.evaluate_reply(ClaimReply::Refused(found), 101),
                    ClaimOutcome::NotMember
                );
            }
        }
    }

    #[test]
    fn a_node_that_is_not_normal_claims_nothing() {
        let mut world = World::new();
        let found = |mode| {
            ClaimReply::Refused(Conflict {
                claim: None,
                member: Some(Incarnation(10)),
                mode,
            })
        };
        assert_eq!(
            world.evaluate_reply(found(Some(Mode::BlockNewSession)), 101),
            ClaimOutcome::NotNormal
        );
        assert_eq!(
            world.evaluate_reply(found(None), 101),
            ClaimOutcome::NotNormal
        );
        assert_eq!(
            world.evaluate_reply(found(Some(Mode::Normal)), 101),
            ClaimOutcome::Retry,
            "released in between"
        );
    }
}
