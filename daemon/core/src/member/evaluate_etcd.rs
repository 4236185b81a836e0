//! Each read is evaluated before anything follows from it, and an etcd that is refused counts as one that does not answer.

use std::time::Duration;

use soramode_protocol::cluster::{InitCluster, Initialized, RISK_OF_INIT, RISK_OF_SECOND};
use soramode_protocol::error::Error;
use soramode_protocol::id::{ClusterId, HistoryId};
use soramode_protocol::node::Membership;
use soramode_protocol::reply::Reply;

use crate::cluster::history::{Accepted, AcceptedRisk, InitRefusal, Refusal};
use crate::cluster::lease::OwnershipLease;
use crate::cluster::{FenceAfter, Incarnation};
use crate::ctx::Ctx;
use crate::effect::Record;
use crate::handles::ReplyHandle;
use crate::stored::StoredMember;

use super::etcd::{EtcdRequest, Init, MembersRead};
use super::etcd_trust::{CannotInit, PlannedInit, RECLAIM_TIME, REFUSED};
use super::releases::Releases;
use super::waiters::ClusterAnswer;
use super::{ClusterMember, NodeView};

impl ClusterMember {
    /// Forgets the history of etcd: it says nothing of the next one, which begins again with lower revisions.
    fn leave_history(&mut self, now: Duration) -> Option<FenceAfter> {
        let promised = self.ownership.leave_history();
        self.nodes.clear();
        self.absent_nodes.clear();
        self.releases = Releases::default();
        self.published_load = None;
        // Nodes that do not learn of the new history lose their lease within this time, unless it has no end.
        let wait = self
            .settings
            .terms
            .fence_after
            .takeover_wait(self.settings.terms.fence_budget);
        self.trust
            .reclaim_until(now + wait.unwrap_or_default().max(RECLAIM_TIME));
        promised
    }

    /// Returns whether a read counts: it is of the etcd that the node knows, or of the first one.
    pub(super) fn evaluate_etcd(
        &mut self,
        ctx: &mut Ctx,
        node: NodeView,
        read: &mut MembersRead,
    ) -> bool {
        match self.trust.evaluate(read) {
            Ok(accepted) => {
                self.accept_etcd(ctx, node, accepted);
                true
            }
            Err(refusal) => {
                self.refuse_etcd(ctx, node, &refusal);
                false
            }
        }
    }

    fn accept_etcd(&mut self, ctx: &mut Ctx, node: NodeView, accepted: Accepted) {
        let now = ctx.now.boot;
        // Only a planted fault accepts an etcd without a cluster.
        let Some(is_new) = self.trust.accept(accepted, now) else {
            return;
        };
        if accepted == Accepted::NewHistory {
            if let Some(fence_after) = self.leave_history(now) {
                ctx.record(Record::Member(Some(StoredMember {
                    incarnation: Incarnation::OF_ANOTHER_HISTORY,
                    fence_after,
                    has_untracked: node.has_untracked(),
                })));
            }
            self.answer_unavailable(ctx, node, "the cluster starts a new history in etcd");
        }
        if is_new {
            self.trust.store(ctx, 0);
        }
        self.trust.compare_shown(ctx);
    }

    /// Refuses an etcd: the node is isolated until an operator has repaired it.
    fn refuse_etcd(&mut self, ctx: &mut Ctx, node: NodeView, refusal: &Refusal) {
        self.problem = Some(format!("{refusal}. {}", refusal.remedy()));
        if self.trust.refuse(ctx, refusal) {
            self.answer_unavailable(ctx, node, REFUSED);
        }
        if self.membership == Membership::Joined {
            self.set_membership(ctx, Membership::Isolated);
        }
    }

    /// Answers all requests that wait for the cluster.
    fn answer_unavailable(&mut self, ctx: &mut Ctx, node: NodeView, why: &str) {
        self.resolve_all(&ClusterAnswer::Unavailable(why.to_owned()));
        self.stop_explaining(ctx, node, why);
    }

    /// Creates the cluster, or has it go on in an etcd that was refused; the request is answered when that is done.
    pub(crate) fn init_cluster(
        &mut self,
        ctx: &mut Ctx,
        reply_to: ReplyHandle,
        init: &InitCluster,
    ) -> Result<(), Error> {
        let ids = (
            ClusterId::generate(ctx.random.bytes()),
            HistoryId::generate(ctx.random.bytes()),
        );
        let accepted = init.accept_risk.as_deref();
        let risk = if accepted == Some(RISK_OF_INIT) {
            AcceptedRisk::LostClaims
        } else {
            AcceptedRisk::None
        };
        match self.trust.plan_init(risk, ids) {
            Ok(PlannedInit {
                found,
                configuration,
            }) => {
                ctx.request_etcd(EtcdRequest::Init {
                    reply_to,
                    found,
                    configuration,
                    may_be_second: accepted == Some(RISK_OF_SECOND),
                });
                Ok(())
            }
            Err(CannotInit::NotRead) => {
                let problem = self.problem.as_deref();
                Err(Error::cluster_unavailable(
                    problem.unwrap_or("etcd has not answered yet"),
                ))
            }
            Err(CannotInit::Unreadable(why)) => Err(Error::cluster_unavailable(&why)),
            Err(CannotInit::Refused(InitRefusal::Exists { epoch })) => {
                Err(Error::cluster_exists(epoch))
            }
            Err(CannotInit::Refused(InitRefusal::NeedsRisk(refusal))) => {
                Err(Error::needs_risk_of_init(refusal))
            }
            Err(CannotInit::Refused(InitRefusal::OtherCluster(refusal))) => {
                Err(Error::other_cluster(&refusal, refusal.remedy()))
            }
        }
    }

    pub(super) fn on_initialized(
        &self,
        ctx: &mut Ctx,
        reply_to: ReplyHandle,
        outcome: Result<Init, String>,
    ) {
        let answer = match outcome {
            Ok(Init::Made(it)) => Ok(Reply::Initialized(Initialized {
                cluster_id: it.cluster_id,
                epoch: it.epoch,
                history_id: it.history_id,
                etcd_cluster_id: it.etcd_cluster_id.to_string(),
            })),
            Ok(Init::Exists { epoch }) => Err(Error::cluster_exists(epoch)),
            Ok(Init::OtherNames(others)) => Err(Error::other_names(&self.settings.name, &others)),
            Err(why) => Err(Error::cluster_unavailable(why)),
        };
        ctx.answer(reply_to, answer);
        ctx.request_etcd(EtcdRequest::ReadMembers);
    }

    /// Returns the membership that a lease gives: none gives more than isolation in an etcd that is refused.
    pub(super) fn membership_of(&self, lease: &OwnershipLease, now: Duration) -> Membership {
        let is_refused = self.trust.refuses();
        match lease.membership(now) {
            Membership::Joined if is_refused => Membership::Isolated,
            membership @ (Membership::Joined
            | Membership::Isolated
            | Membership::Fenced
            | Membership::Standalone) => membership,
        }
    }
}
