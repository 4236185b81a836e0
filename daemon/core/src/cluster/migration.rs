//! Migration of claims: a node that lost its member key while its lease still runs rewrites each claim under its next incarnation.
//!
//! Until every channel is kept or ended, the earlier lease is not renewed: others may be waiting for its end.

use std::collections::{BTreeMap, BTreeSet};

use soramode_protocol::id::{ChannelId, NodeName};

use crate::cluster::claim::{Claim, ClaimReply};
use crate::cluster::{FenceAfter, Incarnation, Token};

/// Claims on their way from one incarnation to the next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimMigration {
    next: Incarnation,
    /// Claims to rewrite, each by a transaction that compares this token and that the next incarnation is there.
    pending: BTreeMap<ChannelId, Token>,
    /// Channels that another node took: their sessions are to end, and have not yet.
    ending: BTreeSet<ChannelId>,
}

/// Result for one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MigratedClaim {
    /// The claim is kept, under this token.
    Kept(Token),
    /// The claim is another node's, or gone: end the channel's sessions at once, and report that by [`ClaimMigration::end_channel`].
    Lost,
    /// The next incarnation is gone too: begin again with another.
    NotMember,
    /// An incarnation of the node wrote it that the node has no record of: it is to be rewritten by that token.
    Unrecorded,
    /// It is not pending: the channel's sessions have ended meanwhile.
    NotPending,
}

impl ClaimMigration {
    /// Begins with the claims that the node holds, and the incarnation that is to hold them.
    pub fn new(next: Incarnation, held: impl IntoIterator<Item = (ChannelId, Token)>) -> Self {
        Self {
            next,
            pending: held.into_iter().collect(),
            ending: BTreeSet::new(),
        }
    }

    /// The incarnation that is to hold the claims.
    pub const fn next(&self) -> Incarnation {
        self.next
    }

    /// Returns whether claims are still to be rewritten.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Claims that are still to be rewritten.
    pub fn pending(&self) -> impl Iterator<Item = (ChannelId, Token)> {
        self.pending.clone().into_iter()
    }

    /// Takes in the reply to a channel's transaction. `own` is the node's name, unless another machine may have it.
    ///
    /// A claim without an expiry is changed by its node alone. If it has another token, the node's daemon wrote it under a key that
    /// was lost, and ended before it stored that.
    pub fn on_reply(
        &mut self,
        channel: &ChannelId,
        reply: &ClaimReply,
        own: Option<&NodeName>,
    ) -> MigratedClaim {
        let Some(held) = self.pending.get(channel).copied() else {
            return MigratedClaim::NotPending;
        };
        let migrated = match reply {
            ClaimReply::Won(token) => MigratedClaim::Kept(*token),
            ClaimReply::Refused(found) => match &found.claim {
                // The answer to the first try was lost.
                Some(Claim {
                    incarnation, token, ..
                }) if *incarnation == self.next => MigratedClaim::Kept(*token),
                Some(Claim { token, .. }) if *token == held && found.member != Some(self.next) => {
                    return MigratedClaim::NotMember;
                }
                Some(claim)
                    if claim.fence_after == FenceAfter::Never
                        && own == Some(&claim.node)
                        && claim.token != held =>
                {
                    self.pending.insert(channel.clone(), claim.token);
                    return MigratedClaim::Unrecorded;
                }
                Some(_) | None => MigratedClaim::Lost,
            },
        };
        self.pending.remove(channel);
        if migrated == MigratedClaim::Lost {
            self.ending.insert(channel.clone());
        }
        migrated
    }

    /// Takes in that a channel's sessions have ended, for any reason.
    pub fn end_channel(&mut self, channel: &ChannelId) {
        self.pending.remove(channel);
        self.ending.remove(channel);
    }

    /// Returns whether every channel is kept or has ended.
    pub fn is_done(&self) -> bool {
        self.pending.is_empty() && self.ending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cluster::claim::Conflict;

    fn channel(name: &str) -> ChannelId {
        ChannelId::new(name).unwrap()
    }

    fn found(incarnation: u64, token: u64) -> ClaimReply {
        let claim = Claim {
            node: NodeName::new("n1").unwrap(),
            incarnation: Incarnation(incarnation),
            fence_after: FenceAfter::Never,
            fence_budget: Duration::ZERO,
            token: Token(token),
        };
        ClaimReply::Refused(Conflict {
            claim: Some(claim),
            ..Conflict::default()
        })
    }

    fn migration() -> ClaimMigration {
        ClaimMigration::new(
            Incarnation(30),
            [(channel("spam"), Token(20)), (channel("eggs"), Token(21))],
        )
    }

    #[test]
    fn a_migration_is_done_when_every_claim_is_written() {
        let mut migration = migration();
        assert_eq!(
            migration
                .pending()
                .map(|(_, token)| token)
                .collect::<Vec<_>>(),
            [Token(21), Token(20)]
        );
        assert_eq!(
            migration.on_reply(&channel("spam"), &ClaimReply::Won(Token(31)), None),
            MigratedClaim::Kept(Token(31))
        );
        assert!(!migration.is_done());
        assert_eq!(
            migration.on_reply(&channel("eggs"), &found(30, 32), None),
            MigratedClaim::Kept(Token(32)),
            "the first answer was lost"
        );
        assert!(migration.is_done());
    }

    #[test]
    fn a_channel_that_another_node_took_ends_before_the_lease_runs_on() {
        let mut migration = migration();
        migration.on_reply(&channel("spam"), &ClaimReply::Won(Token(31)), None);
        assert_eq!(
            migration.on_reply(&channel("eggs"), &found(29, 31), None),
            MigratedClaim::Lost
        );
        assert!(
            !migration.is_done(),
            "others have it, and its sessions still run"
        );
        migration.end_channel(&channel("eggs"));
        assert!(migration.is_done());
    }

    #[test]
    fn a_claim_of_an_incarnation_without_a_record_is_written_anew() {
        let (mut migration, own) = (migration(), NodeName::new("n1").unwrap());
        let eggs = channel("eggs");
        assert_eq!(
            migration.on_reply(&eggs, &found(29, 31), Some(&own)),
            MigratedClaim::Unrecorded
        );
        assert_eq!(
            migration.pending().next(),
            Some((eggs.clone(), Token(31))),
            "by the token that is there"
        );
        let another = NodeName::new("n2").unwrap();
        for name in [None, Some(&another)] {
            assert_eq!(
                migration.on_reply(&channel("spam"), &found(29, 31), name),
                MigratedClaim::Lost
            );
            migration = self::migration();
        }
    }

    #[test]
    fn an_absent_claim_was_taken_and_released() {
        assert_eq!(
            migration().on_reply(
                &channel("eggs"),
                &ClaimReply::Refused(Conflict::default()),
                None
            ),
            MigratedClaim::Lost
        );
    }

    #[test]
    fn a_claim_as_it_was_means_that_the_next_incarnation_is_gone_too() {
        let mut migration = migration();
        assert_eq!(
            migration.on_reply(&channel("spam"), &found(10, 20), None),
            MigratedClaim::NotMember
        );
        assert_eq!(migration.pending().count(), 2);
    }

    #[test]
    fn an_equal_token_of_another_history_is_another_nodes() {
        let mut migration = migration();
        let ClaimReply::Refused(found) = found(10, 20) else {
            panic!("refused")
        };
        let found = Conflict {
            member: Some(Incarnation(30)),
            ..found
        };
        assert_eq!(
            migration.on_reply(&channel("spam"), &ClaimReply::Refused(found), None),
            MigratedClaim::Lost
        );
    }

    #[test]
    fn a_channel_that_ends_meanwhile_is_not_waited_for() {
        let mut migration = migration();
        migration.end_channel(&channel("spam"));
        migration.end_channel(&channel("eggs"));
        assert!(migration.is_done());
        assert_eq!(
            migration.on_reply(&channel("spam"), &ClaimReply::Won(Token(31)), None),
            MigratedClaim::NotPending
        );
    }
}
