//! Steps that follow from the decisions of [`Ownership`](super::ownership::Ownership), taken one after the other.

use soramode_protocol::id::ChannelId;

use crate::cluster::Incarnation;
use crate::cluster::claim::ClaimReply;
use crate::ctx::Ctx;
use crate::effect::Record;
use crate::stored::StoredMember;

use super::etcd::{EtcdRequest, FenceScope};
use super::join::NODES_MAX;
use super::ownership_steps::OwnershipStep;
use super::{ClusterMember, NodeView};

impl ClusterMember {
    /// Takes each step that follows from the node's decisions.
    pub(super) fn take_steps(&mut self, ctx: &mut Ctx, node: NodeView) {
        while let Some(step) = self.ownership.next_step() {
            self.take_step(ctx, node, step);
        }
    }

    fn take_step(&mut self, ctx: &mut Ctx, node: NodeView, step: OwnershipStep) {
        match step {
            OwnershipStep::Renewed => {
                self.renewed_at = Some(ctx.now.wall);
                self.check_lease(ctx, node);
                self.set_membership_timer(ctx);
            }
            OwnershipStep::EndAllSessions => self.fence_all(ctx, node),
            OwnershipStep::Activated { is_first } => self.on_activated(ctx, node, is_first),
            OwnershipStep::StoreMember(incarnation) => self.store_member(ctx, node, incarnation),
            OwnershipStep::Join { give_up } => self.request_join(ctx, node, give_up),
            OwnershipStep::Leave(incarnation) => {
                ctx.request_etcd(EtcdRequest::DeleteMember(incarnation));
            }
            OwnershipStep::NameInUse(holder) => {
                self.problem = Some(self.name_in_use(holder, ctx.now.boot));
            }
            OwnershipStep::ClusterFull => {
                self.problem = Some(format!(
                    "the cluster already has {NODES_MAX} nodes, the maximum"
                ));
            }
            OwnershipStep::KeyWritten => self.published_with_key(ctx, node),
            OwnershipStep::ReadMembers => ctx.request_etcd(EtcdRequest::ReadMembers),
            OwnershipStep::Migrate { by, claims } => {
                ctx.request_etcd(EtcdRequest::MigrateClaims { by, claims });
            }
            OwnershipStep::StoreClaim(channel_id, token) => {
                ctx.record(Record::Claimed { channel_id, token });
            }
            OwnershipStep::StoreUnclaimed(channel_id) => ctx.record(Record::Unclaimed(channel_id)),
            OwnershipStep::EndSession(channel_id) => {
                self.fence(ctx, node, FenceScope::Channel(channel_id));
            }
            OwnershipStep::Release(channel_id, token) => self.releases.add(ctx, channel_id, token),
        }
    }

    fn store_member(&self, ctx: &mut Ctx, node: NodeView, incarnation: Incarnation) {
        ctx.record(Record::Member(Some(StoredMember {
            incarnation,
            fence_after: self.settings.terms.fence_after,
            has_untracked: node.has_untracked(),
        })));
    }

    /// Takes in which claims were written anew.
    pub(super) fn on_claims_migrated(
        &mut self,
        ctx: &mut Ctx,
        node: NodeView,
        by: Incarnation,
        replies: Vec<(ChannelId, ClaimReply)>,
    ) {
        // Replies of an etcd that is refused do not count: they are requested again.
        if self.trust.refuses() {
            return;
        }
        for (channel, reply) in replies {
            self.ownership
                .on_claim_migrated(by, &channel, &reply, &self.node_name);
            self.take_steps(ctx, node);
        }
    }

    /// Takes in that every reply of a migration has come.
    pub(super) fn on_migration_answered(&mut self, ctx: &mut Ctx, node: NodeView) {
        self.ownership.end_migration_request();
        self.take_steps(ctx, node);
    }
}
