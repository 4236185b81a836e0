//! `Explain`: etcd is read as for [`Connect`](soramode_protocol::decision::Connect), without a claim, and the same functions evaluate the reply.

use std::time::Duration;

use soramode_protocol::error::Error;
use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::Membership;

use crate::cluster::claim::{ClaimReply, Conflict};
use crate::cluster::claim_outcome::ClaimOutcome;
use crate::ctx::Ctx;
use crate::handles::ReplyHandle;

use super::claims::{CLAIMS_MAX, ClaimContext, ClaimStep, ISOLATED, JOINING, MEMBERSHIP_LOST};
use super::etcd::{ClaimOp, EtcdRequest};
use super::pending_claims::WaitingRequests;
use super::waiters::ClusterAnswer;
use super::{ClusterEvent, ClusterMember, NodeView};

/// Requests to explain that wait for etcd at most.
const EXPLAINING_MAX: usize = 64;

impl ClusterMember {
    /// Returns the cluster's answer about a channel if it is known now, for every mode; `None` if etcd is read first.
    pub(crate) fn explain(
        &mut self,
        ctx: &mut Ctx,
        reply_to: ReplyHandle,
        channel_id: &ChannelId,
    ) -> Result<Option<ClusterAnswer>, Error> {
        // A channel of the node's own is its own in every mode.
        if self.ownership.token(channel_id).is_some() {
            return Ok(Some(ClusterAnswer::Local));
        }
        if self.membership != Membership::Joined {
            return Ok(Some(ClusterAnswer::Unavailable(ISOLATED.to_owned())));
        }
        let Some(by) = self.incarnation() else {
            return Ok(Some(ClusterAnswer::Unavailable(JOINING.to_owned())));
        };
        if self.ownership.channel_count() >= CLAIMS_MAX {
            return Ok(Some(ClusterAnswer::Full));
        }
        if self.explain_requests.count() >= EXPLAINING_MAX {
            let why = "too many Explain requests are under way";
            return Err(Error::cluster_unavailable(why));
        }
        if self.explain_requests.add(channel_id, reply_to) {
            let channel_id = channel_id.clone();
            ctx.request_etcd(EtcdRequest::FindClaim { channel_id, by });
        }
        Ok(None)
    }

    /// Takes in etcd's reply about a channel that is explained.
    pub(super) fn on_claim_found(
        &mut self,
        ctx: &mut Ctx,
        node: NodeView,
        channel_id: &ChannelId,
        found: Result<Conflict, String>,
    ) {
        if let Ok(Conflict {
            claim: Some(claim), ..
        }) = &found
        {
            self.note_owner(claim.clone());
        }
        let cluster_answers = match found {
            Err(why) => Some(Mode::ALL.map(|mode| (mode, ClusterAnswer::Unavailable(why.clone())))),
            Ok(found) => self.cluster_answers(node, channel_id, &found, ctx.now.boot),
        };
        if !self.explain_requests.is_pending(channel_id) {
            return;
        }
        let cluster_answers = match cluster_answers {
            None if self.explain_requests.defer(channel_id) => {
                return ctx.request_etcd(EtcdRequest::ReadMembers);
            }
            None => {
                let why = "the channel's owner could not be read";
                Mode::ALL.map(|mode| (mode, ClusterAnswer::Unavailable(why.to_owned())))
            }
            Some(cluster_answers) => cluster_answers,
        };
        self.events.push_back(ClusterEvent::Explained {
            channel_id: channel_id.clone(),
            reply_handles: self.explain_requests.end(channel_id),
            cluster_answers,
        });
    }

    /// Answers all pending `Explain` requests: the cluster is unavailable.
    pub(super) fn stop_explaining(&mut self, ctx: &mut Ctx, node: NodeView, why: &str) {
        for channel_id in self.explain_requests.channels() {
            self.on_claim_found(ctx, node, &channel_id, Err(why.to_owned()));
        }
    }

    /// Returns the cluster's answer under each mode; `None` if the members must be read first.
    fn cluster_answers(
        &mut self,
        node: NodeView,
        channel_id: &ChannelId,
        found: &Conflict,
        now: Duration,
    ) -> Option<[(Mode, ClusterAnswer); Mode::ALL.len()]> {
        let mut unknown = false;
        let cluster_answers = Mode::ALL.map(|mode| {
            let cluster_answer = self.cluster_answer(node, channel_id, found, mode, now);
            unknown |= cluster_answer.is_none();
            (mode, cluster_answer.unwrap_or(ClusterAnswer::Local))
        });
        (!unknown).then_some(cluster_answers)
    }

    fn cluster_answer(
        &mut self,
        node: NodeView,
        channel_id: &ChannelId,
        found: &Conflict,
        mode: Mode,
        now: Duration,
    ) -> Option<ClusterAnswer> {
        // In another mode than the present one, the other nodes would know that mode.
        let published = if mode == node.mode {
            found.mode
        } else {
            Some(mode)
        };
        let context = ClaimContext {
            mode,
            published,
            now,
        };
        let reply = ClaimReply::Refused(Conflict {
            mode: published,
            ..found.clone()
        });
        let Some(outcome) = self
            .ownership
            .evaluate_reply(reply, context.mode, context.now)
        else {
            return Some(ClusterAnswer::Unavailable(MEMBERSHIP_LOST.to_owned()));
        };
        let waiting_requests = WaitingRequests {
            channel_id,
            hops: 0,
            has_session: false,
        };
        match self.decide_claim_step(node, outcome, &waiting_requests, context) {
            // The claim would be released, and then no node own the channel.
            ClaimStep::Request(ClaimOp::Release(_)) => {
                match self.decide_claim_step(node, ClaimOutcome::Retry, &waiting_requests, context)
                {
                    ClaimStep::Resolve(cluster_answer) => Some(cluster_answer),
                    ClaimStep::Own(_)
                    | ClaimStep::Relinquish(_)
                    | ClaimStep::Request(_)
                    | ClaimStep::ReadMembers
                    | ClaimStep::NotMember => Some(ClusterAnswer::Local),
                }
            }
            ClaimStep::Own(_) | ClaimStep::Relinquish(_) | ClaimStep::Request(_) => {
                Some(ClusterAnswer::Local)
            }
            ClaimStep::Resolve(cluster_answer) => Some(cluster_answer),
            ClaimStep::NotMember => Some(ClusterAnswer::Unavailable(MEMBERSHIP_LOST.to_owned())),
            ClaimStep::ReadMembers => None,
        }
    }

    /// Reads the channels again that waited for a read of the members, or answers for them if the node is no member any more.
    pub(super) fn retry_explaining(&mut self, ctx: &mut Ctx, node: NodeView) {
        let Some(by) = self.incarnation() else {
            return self.fail_deferred_explaining(ctx, node, MEMBERSHIP_LOST);
        };
        for channel_id in self.explain_requests.take_deferred() {
            ctx.request_etcd(EtcdRequest::FindClaim { channel_id, by });
        }
    }

    /// Answers the `Explain` requests that waited for a read of the members: the cluster is unavailable.
    pub(super) fn fail_deferred_explaining(&mut self, ctx: &mut Ctx, node: NodeView, why: &str) {
        for channel_id in self.explain_requests.take_deferred() {
            self.on_claim_found(ctx, node, &channel_id, Err(why.to_owned()));
        }
    }
}
