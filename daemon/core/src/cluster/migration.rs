//! A node whose member key was lost while its right still runs writes each of its claims anew, under its next incarnation.
//!
//! Until every channel is kept or ended, the earlier right is not prolonged: others may be waiting for its end.

use std::collections::{BTreeMap, BTreeSet};

use soramode_protocol::id::{ChannelId, NodeName};

use crate::cluster::claim::{Claim, Reply};
use crate::cluster::{FenceAfter, Incarnation, Token};

/// Claims on their way from one incarnation to the next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Readoption {
    next: Incarnation,
    /// Still to be written, each by a transaction that compares this token and that the next incarnation is there.
    left: BTreeMap<ChannelId, Token>,
    /// Taken by another: their sessions are to end, and have not yet.
    ending: BTreeSet<ChannelId>,
}

/// What became of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Readopted {
    /// It is kept, under this token.
    Kept(Token),
    /// It is another's, or nobody's: end its sessions at once, and say so by [`Readoption::ended`].
    End,
    /// The next incarnation is gone too: begin again with another.
    NotMember,
    /// An incarnation of the node wrote it that the node has no record of: it is to be written anew by that token.
    Unrecorded,
    /// It is not asked for: it has ended meanwhile.
    Unasked,
}

impl Readoption {
    /// The claims that the node holds, and the incarnation that is to hold them.
    pub fn new(next: Incarnation, held: impl IntoIterator<Item = (ChannelId, Token)>) -> Self {
        Self {
            next,
            left: held.into_iter().collect(),
            ending: BTreeSet::new(),
        }
    }

    /// The incarnation that is to hold the claims.
    pub const fn next(&self) -> Incarnation {
        self.next
    }

    /// What is still to be written.
    pub fn left(&self) -> impl Iterator<Item = (&ChannelId, Token)> {
        self.left.iter().map(|(channel, token)| (channel, *token))
    }

    /// The transaction for a channel was answered. `own` is the node's name, unless an operator has purged an incarnation of
    /// it, or the one that the claim is of.
    ///
    /// A claim that nobody may take over changes by its node alone. Where it has another token, the node's daemon wrote it under a key that
    /// was lost, and ended before it stored that.
    pub fn answered(
        &mut self,
        channel: &ChannelId,
        reply: &Reply,
        own: Option<&NodeName>,
    ) -> Readopted {
        let Some(held) = self.left.get(channel).copied() else {
            return Readopted::Unasked;
        };
        let readopted = match reply {
            Reply::Won(token) => Readopted::Kept(*token),
            Reply::Refused(found) => match &found.claim {
                // The answer to the first try was lost.
                Some(Claim {
                    incarnation, token, ..
                }) if *incarnation == self.next => Readopted::Kept(*token),
                Some(Claim { token, .. }) if *token == held && found.member != Some(self.next) => {
                    return Readopted::NotMember;
                }
                Some(claim)
                    if claim.fence_after == FenceAfter::Never
                        && own == Some(&claim.node)
                        && claim.token != held =>
                {
                    self.left.insert(channel.clone(), claim.token);
                    return Readopted::Unrecorded;
                }
                Some(_) | None => Readopted::End,
            },
        };
        self.left.remove(channel);
        if readopted == Readopted::End {
            self.ending.insert(channel.clone());
        }
        readopted
    }

    /// A channel's sessions have ended, for whatever reason.
    pub fn ended(&mut self, channel: &ChannelId) {
        self.left.remove(channel);
        self.ending.remove(channel);
    }

    /// Whether every channel is kept or has ended: only then does the right of the next incarnation begin.
    pub fn is_done(&self) -> bool {
        self.left.is_empty() && self.ending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cluster::claim::Found;

    fn channel(name: &str) -> ChannelId {
        ChannelId::new(name).unwrap()
    }

    fn found(incarnation: u64, token: u64) -> Reply {
        let claim = Claim {
            node: NodeName::new("n1").unwrap(),
            incarnation: Incarnation(incarnation),
            fence_after: FenceAfter::Never,
            fence_budget: Duration::ZERO,
            token: Token(token),
        };
        Reply::Refused(Found {
            claim: Some(claim),
            ..Found::default()
        })
    }

    fn readoption() -> Readoption {
        Readoption::new(
            Incarnation(30),
            [(channel("spam"), Token(20)), (channel("eggs"), Token(21))],
        )
    }

    #[test]
    fn it_is_done_when_every_claim_is_written() {
        let mut readoption = readoption();
        assert_eq!(
            readoption
                .left()
                .map(|(_, token)| token)
                .collect::<Vec<_>>(),
            [Token(21), Token(20)]
        );
        assert_eq!(
            readoption.answered(&channel("spam"), &Reply::Won(Token(31)), None),
            Readopted::Kept(Token(31))
        );
        assert!(!readoption.is_done());
        assert_eq!(
            readoption.answered(&channel("eggs"), &found(30, 32), None),
            Readopted::Kept(Token(32)),
            "the first answer was lost"
        );
        assert!(readoption.is_done());
    }

    #[test]
    fn what_another_took_is_ended_before_the_right_runs_on() {
        let mut readoption = readoption();
        readoption.answered(&channel("spam"), &Reply::Won(Token(31)), None);
        assert_eq!(
            readoption.answered(&channel("eggs"), &found(29, 31), None),
            Readopted::End
        );
        assert!(
            !readoption.is_done(),
            "others have it, and its sessions still run"
        );
        readoption.ended(&channel("eggs"));
        assert!(readoption.is_done());
    }

    #[test]
    fn a_claim_of_an_incarnation_without_a_record_is_written_anew() {
        let (mut readoption, own) = (readoption(), NodeName::new("n1").unwrap());
        let eggs = channel("eggs");
        assert_eq!(
            readoption.answered(&eggs, &found(29, 31), Some(&own)),
            Readopted::Unrecorded
        );
        assert_eq!(
            readoption.left().next(),
            Some((&eggs, Token(31))),
            "by the token that is there"
        );
        let another = NodeName::new("n2").unwrap();
        for name in [None, Some(&another)] {
            assert_eq!(
                readoption.answered(&channel("spam"), &found(29, 31), name),
                Readopted::End
            );
            readoption = self::readoption();
        }
    }

    #[test]
    fn what_is_nobodys_was_taken_and_released() {
        assert_eq!(
            readoption().answered(&channel("eggs"), &Reply::Refused(Found::default()), None),
            Readopted::End
        );
    }

    #[test]
    fn a_claim_as_it_was_means_that_the_next_incarnation_is_gone_too() {
        let mut readoption = readoption();
        assert_eq!(
            readoption.answered(&channel("spam"), &found(10, 20), None),
            Readopted::NotMember
        );
        assert_eq!(readoption.left().count(), 2);
    }

    #[test]
    fn a_token_of_another_history_that_happens_to_be_the_same_is_anothers() {
        let mut readoption = readoption();
        let Reply::Refused(found) = found(10, 20) else {
            panic!("refused")
        };
        let found = Found {
            member: Some(Incarnation(30)),
            ..found
        };
        assert_eq!(
            readoption.answered(&channel("spam"), &Reply::Refused(found), None),
            Readopted::End
        );
    }

    #[test]
    fn what_ends_meanwhile_is_not_waited_for() {
        let mut readoption = readoption();
        readoption.ended(&channel("spam"));
        readoption.ended(&channel("eggs"));
        assert!(readoption.is_done());
        assert_eq!(
            readoption.answered(&channel("spam"), &Reply::Won(Token(31)), None),
            Readopted::Unasked
        );
    }
}
