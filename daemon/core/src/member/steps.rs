//! Steps that follow from the decisions of [`Ownership`](super::ownership::Ownership), taken one after the other.

use soramode_protocol::id::ChannelId;

use crate::cluster::Incarnation;
use crate::cluster::claim::Reply;
use crate::ctx::Ctx;
use crate::effect::Record;
use crate::stored::StoredMember;

use super::etcd::{EtcdRequest, FenceScope};
use super::join::NODES_MAX;
use super::ownership_steps::NextStep;
use super::{ClusterMember, NodeView};

impl ClusterMember {
    /// Takes each step that follows from the node's decisions.
    pub(super) fn take_steps(&mut self, ctx: &mut Ctx, node: NodeView) {
        while let Some(step) = self.ownership.next_step() {
            self.take_step(ctx, node, step);
        }
    }

    fn take_step(&mut self, ctx: &mut Ctx, node: NodeView, step: NextStep) {
        match step {
            NextStep::Renewed => {
                self.renewed_at = Some(ctx.now.wall);
                self.check_lease(ctx, node);
                self.set_membership_timer(ctx);
            }
            NextStep::EndAllSessions => self.fence_all(ctx, node),
            NextStep::Activated { is_first } => self.on_activated(ctx, node, is_first),
            NextStep::StoreMember(incarnation) => self.store_member(ctx, node, incarnation),
            NextStep::Join { give_up } => self.request_join(ctx, node, give_up),
            NextStep::NameInUse(holder) => {
                self.problem = Some(self.name_in_use(holder, ctx.now.boot));
            }
            NextStep::ClusterFull => {
                self.problem = Some(format!(
                    "the cluster already has {NODES_MAX} nodes, the maximum"
                ));
            }
            NextStep::KeyWritten => self.on_key_written(ctx, node),
            NextStep::ReadMembers => ctx.request_etcd(EtcdRequest::ReadMembers),
            NextStep::Migrate { by, claims } => {
                ctx.request_etcd(EtcdRequest::MigrateClaims { by, claims });
            }
            NextStep::StoreClaim(channel_id, token) => {
                ctx.record(Record::Claimed { channel_id, token });
            }
            NextStep::StoreUnclaimed(channel_id) => ctx.record(Record::Unclaimed(channel_id)),
            NextStep::EndSession(channel_id) => {
                self.fence(ctx, node, FenceScope::Channel(channel_id));
            }
            NextStep::Release(channel_id, token) => self.releases.add(ctx, channel_id, token),
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
        replies: Vec<(ChannelId, Reply)>,
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
