//! Each read is judged before anything follows from it, and an etcd that is refused counts as one that does not answer.

use std::time::Duration;

use soramode_protocol::cluster::{InitCluster, Initialized};
use soramode_protocol::error::Error;
use soramode_protocol::id::{ClusterId, HistoryId};
use soramode_protocol::node::Membership;
use soramode_protocol::reply::Reply;

use crate::cluster::history::{
    Accepted, AcceptedRisk, EtcdIdentity, InitRefusal, Refusal, plan_init,
};
use crate::cluster::lease::OwnershipLease;
use crate::cluster::{FenceAfter, Incarnation};
use crate::ctx::Ctx;
use crate::effect::Record;
use crate::handles::ReplyHandle;
use crate::stored::StoredMember;

use super::etcd::{EtcdRequest, Init, MembershipView};
use super::releases::Releases;
use super::trust::{RECLAIM_TIME, REFUSED, REVISION_PAUSE};
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
        self.trust.claims_from = now + wait.unwrap_or_default().max(RECLAIM_TIME);
        promised
    }

    /// Returns whether a read counts: it is of the etcd that the node knows, or of the first one.
    pub(super) fn judge_etcd(
        &mut self,
        ctx: &mut Ctx,
        node: NodeView,
        view: &mut MembershipView,
    ) -> bool {
        let verdict = self.trust.etcd.judge(&view.etcd);
        let text = std::mem::take(&mut view.configuration_text);
        self.trust.shown = Some((view.etcd.clone(), text));
        self.trust.unreadable = None;
        match verdict {
            Ok(accepted) => {
                self.accept_etcd(ctx, node, accepted);
                true
            }
            Err(refusal) => {
                self.refuse_etcd(ctx, node, refusal);
                false
            }
        }
    }

    fn accept_etcd(&mut self, ctx: &mut Ctx, node: NodeView, accepted: Accepted) {
        let now = ctx.now.boot;
        let Some((shown, text)) = &self.trust.shown else {
            return ctx.bug("an accepted etcd was not read");
        };
        let Some(seen) = EtcdIdentity::of(shown) else {
            return;
        };
        let text = text.clone();
        let is_due = self
            .trust
            .stored_at
            .is_none_or(|at| now.saturating_sub(at) >= REVISION_PAUSE);
        let is_news =
            accepted != Accepted::Known || is_due && self.trust.etcd.known() != Some(&seen);
        self.trust.highest = if accepted == Accepted::Known {
            self.trust.highest.max(seen.revision)
        } else {
            seen.revision
        };
        self.trust.etcd.accept(seen);
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
        if is_news {
            self.store_etcd(ctx, 0);
        }
        if self.trust.trusted.as_ref() != Some(&text) {
            self.trust.trusted = Some(text.clone());
            ctx.request_etcd(EtcdRequest::Trust {
                configuration_text: text,
            });
        }
    }

    /// Refuses an etcd: the node is isolated until an operator has repaired it.
    fn refuse_etcd(&mut self, ctx: &mut Ctx, node: NodeView, refusal: Refusal) {
        // No later request is carried out before an etcd is trusted again.
        self.trust.trusted = None;
        self.problem = Some(format!("{refusal}. {}", refusal.remedy()));
        let before = self.trust.etcd.refuse(refusal.clone());
        let is_new = before.is_none_or(|before| {
            std::mem::discriminant(&before) != std::mem::discriminant(&refusal)
        });
        let Some((shown, text)) = &self.trust.shown else {
            return ctx.bug("a refused etcd was not read");
        };
        let is_marked = shown
            .configuration
            .as_ref()
            .is_some_and(|it| it.set_back.is_some());
        let seen = shown.revision_before;
        if refusal.is_proof() && !is_marked {
            ctx.request_etcd(EtcdRequest::NoteRollback {
                found: text.clone(),
                rollback: refusal.rollback(shown),
                why: refusal.to_string(),
            });
        }
        if is_new {
            ctx.request_etcd(EtcdRequest::Distrust(refusal));
            self.store_etcd(ctx, seen);
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

    /// Stores which etcd is known, and that this revision of it was seen.
    pub(super) fn store_etcd(&mut self, ctx: &mut Ctx, revision: u64) {
        let now = ctx.now.boot;
        let trust = &mut self.trust;
        let Some(known) = trust.etcd.known().cloned() else {
            return;
        };
        trust.stored_at = Some(now);
        trust.highest = trust.highest.max(known.revision).max(revision);
        ctx.record(Record::Etcd(EtcdIdentity {
            revision: trust.highest,
            ..known
        }));
    }

    /// Creates the cluster, or has it go on in an etcd that was refused; the request is answered when that is done.
    pub(crate) fn init_cluster(
        &mut self,
        ctx: &mut Ctx,
        reply_to: ReplyHandle,
        init: &InitCluster,
    ) -> Result<(), Error> {
        let (cluster_id, history_id) = (
            ClusterId::generate(ctx.random.bytes()),
            HistoryId::generate(ctx.random.bytes()),
        );
        let Some((shown, text)) = &self.trust.shown else {
            let problem = self.problem.as_deref();
            return Err(Error::cluster_unavailable(
                problem.unwrap_or("etcd has not answered yet"),
            ));
        };
        let risk = if init.accept_risk.is_some() {
            AcceptedRisk::LostClaims
        } else {
            AcceptedRisk::None
        };
        let plan = plan_init(
            self.trust.etcd.known(),
            shown,
            risk,
            (cluster_id, history_id),
        );
        if let (Err(_), Some(why)) = (&plan, &self.trust.unreadable) {
            return Err(Error::cluster_unavailable(why));
        }
        match plan {
            Ok(configuration) => {
                let found = shown.configuration.is_some().then(|| text.clone());
                ctx.request_etcd(EtcdRequest::Init {
                    reply_to,
                    found,
                    configuration,
                });
                Ok(())
            }
            Err(InitRefusal::Exists { epoch }) => Err(Error::cluster_exists(epoch)),
            Err(InitRefusal::NeedsRisk(refusal)) => Err(Error::needs_risk_of_init(refusal)),
            Err(InitRefusal::OtherCluster(refusal)) => {
                Err(Error::other_cluster(&refusal, refusal.remedy()))
            }
        }
    }

    pub(super) fn on_initialized(
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
