//! A channel's claim, and what the try to claim it came to.
//!
//! A node claims for itself alone, in one transaction: the channel's key absent, its own member key of this incarnation present,
//! its own published mode `normal`. Nothing is owned before the answer, and an answer may come late, twice or never.

use std::collections::BTreeSet;
use std::time::Duration;

use soramode_protocol::id::NodeName;
use soramode_protocol::mode::Mode;

use crate::cluster::gone::{Gone, Takeover};
use crate::cluster::right::Right;
use crate::cluster::{FenceAfter, Incarnation, Token};
use crate::fault::{Fault, PlantedFault};

/// Who owns a channel, as it stands in etcd.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The owner.
    pub node: NodeName,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// What that promised: its own terms count, not those of whoever takes over.
    pub fence_after: FenceAfter,
    /// The same.
    pub fence_budget: Duration,
    /// The revision that wrote the claim.
    pub token: Token,
}

/// What the transaction came back with: a claim or a takeover.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// It wrote the claim.
    Won(Token),
    /// A comparison failed.
    Refused(Found),
}

impl Reply {
    /// Returns the incarnation that holds the claim, if another claim was there.
    pub fn claimed_by(&self) -> Option<&Incarnation> {
        match self {
            Self::Won(_) => None,
            Self::Refused(found) => found.claim.as_ref().map(|claim| &claim.incarnation),
        }
    }
}

/// What stood there where a comparison failed: read in the same transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Found {
    /// The channel's claim.
    pub claim: Option<Claim>,
    /// The member key of the node that asked.
    pub member: Option<Incarnation>,
    /// Its published mode.
    pub mode: Option<Mode>,
}

/// The node that asked, as it is when the answer comes.
#[derive(Clone, Copy, Debug)]
pub struct Me<'a> {
    /// Its right; the transaction was sent under the same incarnation.
    pub right: &'a Right,
    /// Its mode.
    pub mode: Mode,
    /// Earlier incarnations of its own whose sessions are known to be over.
    pub over: &'a BTreeSet<Incarnation>,
    /// The mistake that a test has planted.
    pub fault: PlantedFault,
}

/// What follows from a reply.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The channel is this node's, under this token.
    Mine(Token),
    /// Won, but too late or in another mode: release it, and answer as if it had not been tried.
    GiveBack(Token),
    /// Its owner is there: redirect.
    Owned(NodeName),
    /// Take it over, by a transaction that compares this claim, and its owner's absence.
    TakeOver(Claim),
    /// It is the node's own: write it anew, by a transaction that compares it. What it was written by had no answer, or it is of
    /// an earlier life, or a release of it is under way: that may still come, and must not find the token that is used.
    Renew(Claim),
    /// Its owner is gone. It can be taken over in this time, or, where there is none, by its owner or after an operator's word.
    OwnerLost(Option<Duration>),
    /// Read the members and judge again: they are not known well enough.
    ReadMembers,
    /// This node's own member key is gone: adopt its channels anew, or fence.
    NotMember,
    /// Nobody's, but this node is not published as `normal`.
    NotNormal,
    /// Nobody's any more: try again.
    Again,
}

/// Judges a reply that came at `now`.
pub fn judge(reply: Reply, me: Me<'_>, gone: &mut Gone, now: Duration) -> Outcome {
    let found = match reply {
        Reply::Won(token) if may_use(me, now) => return Outcome::Mine(token),
        Reply::Won(token) => return Outcome::GiveBack(token),
        Reply::Refused(found) => found,
    };
    let mine = me.right.incarnation();
    match found.claim {
        _ if found.member != Some(mine) => Outcome::NotMember,
        Some(claim) if claim.incarnation == mine && me.fault.is(Fault::FoundClaimIsUsed) => {
            Outcome::Mine(claim.token)
        }
        Some(claim) if claim.incarnation == mine || me.over.contains(&claim.incarnation) => {
            Outcome::Renew(claim)
        }
        Some(claim) => judge_owner(claim, gone, now),
        None if found.mode != Some(Mode::Normal) => Outcome::NotNormal,
        None => Outcome::Again,
    }
}

fn judge_owner(claim: Claim, gone: &mut Gone, now: Duration) -> Outcome {
    match gone.takeover(&claim, now) {
        Takeover::Unseen => Outcome::ReadMembers,
        Takeover::Present => Outcome::Owned(claim.node),
        Takeover::Wait(left) => Outcome::OwnerLost(Some(left)),
        Takeover::Never => Outcome::OwnerLost(None),
        Takeover::Now => Outcome::TakeOver(claim),
    }
}

/// Whether a claim that was won may be used: the right still runs, and no mode was set that gives this node no new channel.
fn may_use(me: Me<'_>, now: Duration) -> bool {
    me.right.may_claim(now) && me.mode == Mode::Normal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::LeaseTerms;
    use crate::cluster::gone::Roll;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const TERMS: LeaseTerms = LeaseTerms {
        isolated_after: s(6),
        fence_after: FenceAfter::After(s(30)),
        fence_budget: s(5),
    };

    struct World {
        right: Right,
        mode: Mode,
        over: BTreeSet<Incarnation>,
        gone: Gone,
    }

    impl World {
        fn new() -> Self {
            let right = Right::begin(Incarnation(10), TERMS, s(100));
            Self {
                right,
                mode: Mode::Normal,
                over: BTreeSet::new(),
                gone: Gone::default(),
            }
        }

        fn judge(&mut self, reply: Reply, now: u64) -> Outcome {
            let me = Me {
                right: &self.right,
                mode: self.mode,
                over: &self.over,
                fault: PlantedFault::NONE,
            };
            judge(reply, me, &mut self.gone, s(now))
        }

        fn sees(&mut self, revision: u64, present: &[u64]) {
            let present = present.iter().map(|it| Incarnation(*it)).collect();
            self.gone.saw(Roll {
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

    fn held(claim: &Claim) -> Reply {
        Reply::Refused(Found {
            claim: Some(claim.clone()),
            member: Some(Incarnation(10)),
            mode: Some(Mode::Normal),
        })
    }

    #[test]
    fn what_was_won_is_used_within_the_right_and_the_mode_alone() {
        let mut world = World::new();
        assert_eq!(
            world.judge(Reply::Won(Token(20)), 105),
            Outcome::Mine(Token(20))
        );
        assert_eq!(
            world.judge(Reply::Won(Token(20)), 106),
            Outcome::GiveBack(Token(20))
        );
        for mode in [
            Mode::BlockNewSession,
            Mode::BlockNewConnection,
            Mode::Initial,
        ] {
            world.mode = mode;
            assert_eq!(
                world.judge(Reply::Won(Token(20)), 105),
                Outcome::GiveBack(Token(20)),
                "{mode}"
            );
        }
    }

    #[test]
    fn its_own_claim_that_it_does_not_know_of_is_written_anew() {
        assert_eq!(
            World::new().judge(held(&claim("n1", 10, 20)), 101),
            Outcome::Renew(claim("n1", 10, 20))
        );
    }

    #[test]
    fn an_owner_that_is_there_is_redirected_to() {
        let mut world = World::new();
        assert_eq!(
            world.judge(held(&claim("n2", 11, 20)), 101),
            Outcome::ReadMembers
        );
        world.sees(21, &[10, 11]);
        assert_eq!(
            world.judge(held(&claim("n2", 11, 20)), 101),
            Outcome::Owned(NodeName::new("n2").unwrap())
        );
    }

    #[test]
    fn an_owner_that_is_gone_is_waited_for_and_then_followed() {
        let mut world = World::new();
        world.sees(21, &[10]);
        let wait = Duration::from_millis(35_650);
        assert_eq!(
            world.judge(held(&claim("n2", 9, 20)), 100),
            Outcome::OwnerLost(Some(wait))
        );
        assert_eq!(
            world.judge(held(&claim("n2", 9, 20)), 136),
            Outcome::TakeOver(claim("n2", 9, 20))
        );
        let sticky = Claim {
            fence_after: FenceAfter::Never,
            ..claim("n2", 9, 20)
        };
        assert_eq!(world.judge(held(&sticky), 136), Outcome::OwnerLost(None));
    }

    #[test]
    fn an_earlier_life_whose_sessions_are_over_is_not_waited_for() {
        let mut world = World::new();
        world.sees(21, &[10]);
        let earlier = claim("n1", 9, 20);
        assert!(
            matches!(
                world.judge(held(&earlier), 101),
                Outcome::OwnerLost(Some(_))
            ),
            "nobody knows of its sessions"
        );
        world.over.insert(Incarnation(9));
        assert_eq!(world.judge(held(&earlier), 101), Outcome::Renew(earlier));
    }

    #[test]
    fn without_its_own_member_key_a_node_claims_nothing() {
        let mut world = World::new();
        for member in [None, Some(Incarnation(11))] {
            for claim in [None, Some(claim("n2", 9, 20)), Some(claim("n1", 10, 20))] {
                let found = Found {
                    claim,
                    member,
                    mode: None,
                };
                assert_eq!(world.judge(Reply::Refused(found), 101), Outcome::NotMember);
            }
        }
    }

    #[test]
    fn nobodys_channel_is_not_for_a_node_that_is_not_normal() {
        let mut world = World::new();
        let found = |mode| {
            Reply::Refused(Found {
                claim: None,
                member: Some(Incarnation(10)),
                mode,
            })
        };
        assert_eq!(
            world.judge(found(Some(Mode::BlockNewSession)), 101),
            Outcome::NotNormal
        );
        assert_eq!(world.judge(found(None), 101), Outcome::NotNormal);
        assert_eq!(
            world.judge(found(Some(Mode::Normal)), 101),
            Outcome::Again,
            "released in between"
        );
    }
}
