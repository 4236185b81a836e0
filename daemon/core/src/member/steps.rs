//! Steps that follow from the decisions of [`Ownership`](super::ownership::Ownership), taken one after the other.

use soramode_protocol::id::ChannelId;

use crate::cluster::Incarnation;
use crate::cluster::claim::Reply;
use crate::ctx::Ctx;
use crate::effect::Record;
use crate::node::Node;
use crate::snapshot::StoredMember;

use super::etcd::{EtcdRequest, FenceScope};
use super::join::NODES_MAX;
use super::ownership_steps::NextStep;

impl Node {
    /// Takes each step that follows from the node's decisions.
    pub(super) fn take_steps(&mut self, ctx: &mut Ctx) {
        while let Some(step) = self
            .member()
            .and_then(|member| member.ownership.next_step())
        {
            self.take_one(ctx, step);
        }
    }

    fn take_one(&mut self, ctx: &mut Ctx, step: NextStep) {
        match step {
            NextStep::Renewed => {
                if let Some(member) = self.member() {
                    member.renewed_at = Some(ctx.now.wall);
                }
                self.watch_right(ctx);
                self.set_membership_timer(ctx);
            }
            NextStep::EndAllSessions => self.fence_all(ctx),
            NextStep::Activated { is_first } => self.activated(ctx, is_first),
            NextStep::StoreMember(incarnation) => self.store_member(ctx, incarnation),
            NextStep::Join { give_up } => self.order_join(ctx, give_up),
            NextStep::NameInUse(holder) => {
                let now = ctx.now.boot;
                if let Some(member) = self.member() {
                    member.problem = Some(member.name_in_use(holder, now));
                }
            }
            NextStep::ClusterFull => self.note_problem(format!(
                "the cluster already has {NODES_MAX} nodes, the maximum"
            )),
            NextStep::KeyWritten => self.key_written(ctx),
            NextStep::ReadMembers => Self::order(ctx, EtcdRequest::ReadMembers),
            NextStep::Migrate { by, claims } => {
                Self::order(ctx, EtcdRequest::MigrateClaims { by, claims });
            }
            NextStep::StoreClaim(channel_id, token) => {
                ctx.effects
                    .records
                    .push(Record::Claimed { channel_id, token });
            }
            NextStep::StoreUnclaimed(channel_id) => {
                ctx.effects.records.push(Record::Unclaimed(channel_id));
            }
            NextStep::EndSession(channel_id) => self.fence(ctx, FenceScope::Channel(channel_id)),
            NextStep::Release(channel_id, token) => self.release_token(ctx, channel_id, token),
        }
    }

    fn store_member(&mut self, ctx: &mut Ctx, incarnation: Incarnation) {
        let has_untracked = self.sync.untracked().is_some();
        let Some(member) = self.member() else { return };
        ctx.effects.records.push(Record::Member(Some(StoredMember {
            incarnation,
            fence_after: member.settings.terms.fence_after,
            has_untracked,
        })));
    }

    /// Takes in which claims were written anew.
    pub(super) fn claims_migrated(
        &mut self,
        ctx: &mut Ctx,
        by: Incarnation,
        (replies, more): (Vec<(ChannelId, Reply)>, bool),
    ) {
        // Of an etcd that is refused nothing counts: they are requested again.
        let counts = self.member().is_some_and(|member| !member.trust.refuses());
        for (channel, reply) in replies.into_iter().filter(|_| counts) {
            if let Some(member) = self.member() {
                member.ownership.on_claim_migrated(by, &channel, &reply);
            }
            self.take_steps(ctx);
        }
        let Some(member) = self.member() else { return };
        if !more {
            member.ownership.end_migration_request();
            self.take_steps(ctx);
        }
    }
}
