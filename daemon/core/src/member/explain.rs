//! `Explain`: etcd is read as for [`Connect`](soramode_protocol::decision::Connect), without a claim, and the same functions evaluate the reply.

use std::time::Duration;

use soramode_protocol::error::Error;
use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::Membership;

use crate::cluster::claim::{Found, Outcome, Reply};
use crate::ctx::Ctx;
use crate::handles::ReplyHandle;

use super::claims::{CLAIMS_MAX, Here, ISOLATED, Newcomers, ON_ITS_WAY, PLACE_LOST, Step};
use super::etcd::{ClaimOp, EtcdRequest};
use super::waiters::Ruling;
use super::{ClusterEvent, ClusterMember, NodeView};

/// Requests to explain that wait for etcd at most.
pub const EXPLAINING_MAX: usize = 64;

/// Reads of one channel because its owner is not known yet, at most.
const ROUNDS_MAX: u8 = 3;

impl ClusterMember {
    /// Returns the ruling on a channel if it is known now, under every mode; `None` if etcd is read first.
    pub(crate) fn explain(
        &mut self,
        ctx: &mut Ctx,
        reply_to: ReplyHandle,
        channel_id: &ChannelId,
    ) -> Result<Option<Ruling>, Error> {
        // A channel of the node's own is its own in every mode.
        if self.ownership.token(channel_id).is_some() {
            return Ok(Some(Ruling::Here));
        }
        if self.membership != Membership::Joined {
            return Ok(Some(Ruling::Unavailable(ISOLATED.to_owned())));
        }
        let Some(by) = self.incarnation() else {
            return Ok(Some(Ruling::Unavailable(ON_ITS_WAY.to_owned())));
        };
        if self.ownership.channel_count() >= CLAIMS_MAX {
            return Ok(Some(Ruling::Full));
        }
        if self.explaining.count() >= EXPLAINING_MAX {
            let why = "too many Explain requests are under way";
            return Err(Error::cluster_unavailable(why));
        }
        let is_new = !self.explaining.0.contains_key(channel_id);
        let read = self.explaining.0.entry(channel_id.clone()).or_default();
        read.reply_handles.push(reply_to);
        if is_new {
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
        found: Result<Found, String>,
    ) {
        if let Ok(Found {
            claim: Some(claim), ..
        }) = &found
        {
            self.note_owner(claim.clone());
        }
        let rulings = match found {
            Err(why) => Some(Mode::ALL.map(|mode| (mode, Ruling::Unavailable(why.clone())))),
            Ok(found) => self.rulings(node, channel_id, &found, ctx.now.boot),
        };
        let Some(read) = self.explaining.0.get_mut(channel_id) else {
            return;
        };
        let rulings = match rulings {
            None if read.rounds < ROUNDS_MAX => {
                read.rounds += 1;
                read.is_deferred = true;
                return ctx.request_etcd(EtcdRequest::ReadMembers);
            }
            None => {
                let why = "the channel's owner could not be read";
                Mode::ALL.map(|mode| (mode, Ruling::Unavailable(why.to_owned())))
            }
            Some(rulings) => rulings,
        };
        let reply_handles = std::mem::take(&mut read.reply_handles);
        self.explaining.0.remove(channel_id);
        self.events.push_back(ClusterEvent::Explained {
            channel_id: channel_id.clone(),
            reply_handles,
            rulings,
        });
    }

    /// Answers all pending `Explain` requests: the cluster is unavailable.
    pub(super) fn stop_explaining(&mut self, ctx: &mut Ctx, node: NodeView, why: &str) {
        let channels: Vec<ChannelId> = self.explaining.0.keys().cloned().collect();
        for channel_id in channels {
            self.on_claim_found(ctx, node, &channel_id, Err(why.to_owned()));
        }
    }

    /// Returns the ruling under each mode; `None` where the members must be read first.
    fn rulings(
        &mut self,
        node: NodeView,
        channel_id: &ChannelId,
        found: &Found,
        now: Duration,
    ) -> Option<[(Mode, Ruling); Mode::ALL.len()]> {
        let mut unknown = false;
        let rulings = Mode::ALL.map(|mode| {
            let ruling = self.ruling(node, channel_id, found, mode, now);
            unknown |= ruling.is_none();
            (mode, ruling.unwrap_or(Ruling::Here))
        });
        (!unknown).then_some(rulings)
    }

    fn ruling(
        &mut self,
        node: NodeView,
        channel_id: &ChannelId,
        found: &Found,
        mode: Mode,
        now: Duration,
    ) -> Option<Ruling> {
        // In another mode than the present one, the other nodes would know that mode.
        let published = if mode == node.mode {
            found.mode
        } else {
            Some(mode)
        };
        let here = Here {
            mode,
            published,
            now,
        };
        let reply = Reply::Refused(Found {
            mode: published,
            ..found.clone()
        });
        let Some(outcome) = self.evaluate_reply(reply, here) else {
            return Some(Ruling::Unavailable(PLACE_LOST.to_owned()));
        };
        let newcomers = Newcomers {
            channel_id,
            hops: 0,
            is_session: false,
        };
        match self.next_step(node, outcome, &newcomers, here) {
            // The claim would be released, and then no node own the channel.
            Step::Ask(ClaimOp::Release(_)) => {
                match self.next_step(node, Outcome::Again, &newcomers, here) {
                    Step::Resolve(ruling) => Some(ruling),
                    Step::Own(_)
                    | Step::GiveBack(_)
                    | Step::Ask(_)
                    | Step::ReadMembers
                    | Step::Lost => Some(Ruling::Here),
                }
            }
            Step::Own(_) | Step::GiveBack(_) | Step::Ask(_) => Some(Ruling::Here),
            Step::Resolve(ruling) => Some(ruling),
            Step::Lost => Some(Ruling::Unavailable(PLACE_LOST.to_owned())),
            Step::ReadMembers => None,
        }
    }

    /// Reads the channels again that waited for a read of the members.
    pub(super) fn retry_explaining(&mut self, ctx: &mut Ctx) {
        let Some(by) = self.incarnation() else {
            return;
        };
        for (channel_id, read) in &mut self.explaining.0 {
            if std::mem::take(&mut read.is_deferred) {
                let channel_id = channel_id.clone();
                ctx.request_etcd(EtcdRequest::FindClaim { channel_id, by });
            }
        }
    }
}
