//! Claims are rewritten under the next incarnation, and those that other nodes have taken are given up.

use soramode_protocol::id::{ChannelId, NodeName};

use crate::cluster::Incarnation;
use crate::cluster::claim::ClaimReply;
use crate::cluster::migration::MigratedClaim;
use crate::cluster::previous::{PreviousIncarnation, PreviousSessions};
use crate::member::member_key::MemberState;
use crate::member::ownership_steps::OwnershipStep;

use super::Ownership;

impl Ownership {
    /// Returns whether the next member key is followed by a migration: until that has ended, the node takes no new channel.
    pub fn has_claims_to_migrate(&self) -> bool {
        self.may_serve() && !self.owned.is_empty()
    }

    /// Returns whether sessions may run under a lease, or under the previous incarnation.
    pub(super) fn may_serve(&self) -> bool {
        self.lease.is_some() || self.previous.is_some_and(|it| it.has_sessions())
    }

    /// Requests the rewrite of the pending claims, or ends the migration if there is none.
    pub(super) fn migrate(&mut self) {
        let MemberState::Migrating(migration) = &self.state else {
            return;
        };
        if !migration.has_pending() {
            return self.finish_migration();
        }
        let claims: Vec<_> = migration.pending().collect();
        let by = migration.next();
        if !std::mem::replace(&mut self.is_migrating, true) {
            self.steps.push_back(OwnershipStep::Migrate { by, claims });
        }
    }

    /// Takes in the result of rewriting one claim.
    pub fn on_claim_migrated(
        &mut self,
        by: Incarnation,
        channel: &ChannelId,
        reply: &ClaimReply,
        node: &NodeName,
    ) {
        let own = Some(node).filter(|_| self.is_named_for_itself(reply.claimed_by()));
        let migrated = match &mut self.state {
            MemberState::Migrating(migration) if migration.next() == by => {
                migration.on_reply(channel, reply, own)
            }
            MemberState::Migrating(_)
            | MemberState::Left
            | MemberState::Joining
            | MemberState::AwaitingConfirmation(_)
            | MemberState::Active => MigratedClaim::NotPending,
        };
        let channel = channel.clone();
        match (migrated, reply) {
            (MigratedClaim::Kept(token), _) => {
                self.owned.insert(channel.clone(), token);
                self.steps
                    .push_back(OwnershipStep::StoreClaim(channel, token));
            }
            (MigratedClaim::Lost, _) => {
                self.owned.remove(&channel);
                let unclaimed = OwnershipStep::StoreUnclaimed(channel.clone());
                self.steps
                    .extend([unclaimed, OwnershipStep::EndSession(channel)]);
            }
            (MigratedClaim::NotMember, _) => self.abort_join(),
            // Its session has ended meanwhile: its claim is released as well.
            (MigratedClaim::NotPending, ClaimReply::Won(token))
                if self.token(&channel).is_none() =>
            {
                self.steps
                    .push_back(OwnershipStep::Release(channel, *token));
            }
            (MigratedClaim::NotPending | MigratedClaim::Unrecorded, _) => {}
        }
    }

    /// Returns whether a claim with this node's name, by this incarnation, is this node's.
    ///
    /// The claim of an incarnation that the node knows, the previous one or one since its start, is its own unless an operator has purged that
    /// incarnation. Another one may be that of a machine which was given the name, if an operator has purged any that the node knows.
    fn is_named_for_itself(&self, claimed_by: Option<&Incarnation>) -> bool {
        let is_purged = |it: &Incarnation| self.departures.is_purged(*it);
        match claimed_by {
            Some(it) if self.incarnations.contains(*it) => !is_purged(it),
            Some(it) => !is_purged(it) && !self.incarnations.all().any(is_purged),
            None => true,
        }
    }

    /// Takes in that every reply of the request has come.
    pub fn end_migration_request(&mut self) {
        self.is_migrating = false;
        self.finish_migration();
    }

    /// Ends the migration once every claim names the next incarnation: its lease begins with the next read that shows it.
    ///
    /// If a lease still runs, each session that lost its claim must have ended before: that lease bounds it. Without a lease nothing would
    /// be gained by waiting, and the node's other channels would wait as well.
    pub(super) fn finish_migration(&mut self) {
        let MemberState::Migrating(migration) = &self.state else {
            return;
        };
        if migration.has_pending() || (self.lease.is_some() && !migration.is_done()) {
            return;
        }
        let incarnation = migration.next();
        if self.lease.is_none() {
            self.previous = Some(PreviousIncarnation {
                incarnation,
                fence_after: self.terms.fence_after,
                sessions: PreviousSessions::Alive,
            });
        }
        self.state = MemberState::AwaitingConfirmation(incarnation);
        self.steps
            .push_back(OwnershipStep::StoreMember(incarnation));
        self.steps.push_back(OwnershipStep::ReadMembers);
    }
}
