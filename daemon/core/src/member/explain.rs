//! What a new connection would be answered: the cluster is asked as for [`Connect`](soramode_protocol::decision::Connect), by a read alone, and
//! what comes back is judged by the same functions.

use std::collections::BTreeMap;
use std::time::Duration;

use soramode_protocol::decision::Explain;
use soramode_protocol::error::Error;
use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::Membership;
use soramode_protocol::reply::{Answer, Reply as Told};

use crate::cluster::claim::{Found, Outcome, Reply};
use crate::ctx::Ctx;
use crate::effect::Action;
use crate::handles::{ReplyHandle, SocketId};
use crate::node::Node;

use super::claims::{CLAIMS_MAX, Here, ISOLATED, Newcomers, ON_ITS_WAY, PLACE_LOST, Step};
use super::etcd::{ClaimOp, EtcdRequest};
use super::waiters::Ruling;

/// Requests to explain that wait for etcd at most.
pub const EXPLAINING_MAX: usize = 64;

/// How often one channel is looked for, because its owner is not known yet, before that is given up.
const ROUNDS_MAX: u8 = 3;

/// The channels that are looked for, each with the requests that wait for it.
#[derive(Default)]
pub(super) struct Explaining(BTreeMap<ChannelId, Looking>);

#[derive(Default)]
struct Looking {
    reply_handles: Vec<ReplyHandle>,
    rounds: u8,
    /// The members are read first.
    is_parked: bool,
}

impl Explaining {
    /// The client on this socket is gone.
    pub(super) fn forget(&mut self, socket: SocketId) {
        for looking in self.0.values_mut() {
            looking
                .reply_handles
                .retain(|reply_to| reply_to.socket != socket);
        }
    }

    fn count(&self) -> usize {
        self.0
            .values()
            .map(|looking| looking.reply_handles.len())
            .sum()
    }
}

impl Node {
    /// Answers at once, or, where the cluster must be asked, later.
    pub(crate) fn explain(
        &mut self,
        ctx: &mut Ctx,
        reply_to: ReplyHandle,
        explain: Explain,
    ) -> Option<Answer> {
        let Explain { channel_id } = explain;
        let membership = self.membership;
        // A channel of the node's own is its own in every mode.
        let Some(member) = self
            .member()
            .filter(|member| member.ownership.token(&channel_id).is_none())
        else {
            return Some(Ok(self.explained(&channel_id, |_| Ruling::Here)));
        };
        let cannot = |why: &str| Ruling::Unavailable(why.to_owned());
        if membership != Membership::Joined {
            return Some(Ok(self.explained(&channel_id, |_| cannot(ISOLATED))));
        }
        let Some(by) = member.incarnation() else {
            return Some(Ok(self.explained(&channel_id, |_| cannot(ON_ITS_WAY))));
        };
        if member.ownership.channel_count() >= CLAIMS_MAX {
            return Some(Ok(self.explained(&channel_id, |_| Ruling::Full)));
        }
        if member.explaining.count() >= EXPLAINING_MAX {
            return Some(Err(Error::cluster_unavailable(
                "too many Explain requests are under way",
            )));
        }
        let is_new = !member.explaining.0.contains_key(&channel_id);
        member
            .explaining
            .0
            .entry(channel_id.clone())
            .or_default()
            .reply_handles
            .push(reply_to);
        if is_new {
            Self::order(ctx, EtcdRequest::FindClaim { channel_id, by });
        }
        None
    }

    fn explained(&self, channel_id: &ChannelId, ruling: impl Fn(Mode) -> Ruling) -> Told {
        Told::Explanation(Box::new(self.explanation(channel_id, ruling)))
    }

    /// etcd's answer for a channel that is explained.
    pub(super) fn found(
        &mut self,
        ctx: &mut Ctx,
        channel_id: &ChannelId,
        found: Result<Found, String>,
    ) {
        let now = ctx.now.boot;
        let Some(member) = self.member() else { return };
        if let Ok(Found {
            claim: Some(claim), ..
        }) = &found
        {
            member.note_owner(claim.clone());
        }
        let rulings = match found {
            Err(why) => Some(Mode::ALL.map(|mode| (mode, Ruling::Unavailable(why.clone())))),
            Ok(found) => self.rulings(channel_id, &found, now),
        };
        let Some(looking) = self
            .member()
            .and_then(|member| member.explaining.0.get_mut(channel_id))
        else {
            return;
        };
        let rulings = match rulings {
            None if looking.rounds < ROUNDS_MAX => {
                (looking.rounds, looking.is_parked) = (looking.rounds.saturating_add(1), true);
                return Self::order(ctx, EtcdRequest::ReadMembers);
            }
            None => Mode::ALL.map(|mode| {
                (
                    mode,
                    Ruling::Unavailable("the channel's owner could not be read".to_owned()),
                )
            }),
            Some(rulings) => rulings,
        };
        let reply_handles = std::mem::take(&mut looking.reply_handles);
        if let Some(member) = self.member() {
            member.explaining.0.remove(channel_id);
        }
        let ruling = |wanted| {
            rulings
                .iter()
                .find(|(mode, _)| *mode == wanted)
                .map_or(Ruling::Here, |(_, ruling)| ruling.clone())
        };
        let answers = reply_handles
            .into_iter()
            .map(|reply_to| Action::Answer(reply_to, Ok(self.explained(channel_id, ruling))));
        ctx.effects.actions.extend(answers);
    }

    /// Answers all pending `Explain` calls: the cluster is unavailable.
    pub(super) fn stop_explaining(&mut self, ctx: &mut Ctx, why: &str) {
        let channels: Vec<ChannelId> = self
            .member()
            .map(|member| member.explaining.0.keys().cloned().collect())
            .unwrap_or_default();
        for channel_id in channels {
            self.found(ctx, &channel_id, Err(why.to_owned()));
        }
    }

    /// The cluster's word under each mode; nothing where the members must be read first.
    fn rulings(
        &mut self,
        channel_id: &ChannelId,
        found: &Found,
        now: Duration,
    ) -> Option<[(Mode, Ruling); Mode::ALL.len()]> {
        let mut unknown = false;
        let rulings = Mode::ALL.map(|mode| {
            let ruling = self.ruling(channel_id, found, (mode, now));
            unknown |= ruling.is_none();
            (mode, ruling.unwrap_or(Ruling::Here))
        });
        (!unknown).then_some(rulings)
    }

    fn ruling(
        &mut self,
        channel_id: &ChannelId,
        found: &Found,
        (mode, now): (Mode, Duration),
    ) -> Option<Ruling> {
        // In another mode than the present one the others would know of that.
        let published = if mode == self.mode.mode() {
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
        let Some(outcome) = self.judge_reply(reply, here) else {
            return Some(Ruling::Unavailable(PLACE_LOST.to_owned()));
        };
        let newcomers = Newcomers {
            channel_id,
            hops: 0,
            is_session: false,
        };
        match self.next_step(outcome, &newcomers, here) {
            // The claim would be dropped, and then the channel be nobody's.
            Step::Ask(ClaimOp::Release(_)) => {
                match self.next_step(Outcome::Again, &newcomers, here) {
                    Step::Settle(ruling) => Some(ruling),
                    Step::Own(_) | Step::GiveBack(_) | Step::Ask(_) | Step::Park | Step::Lost => {
                        Some(Ruling::Here)
                    }
                }
            }
            Step::Own(_) | Step::GiveBack(_) | Step::Ask(_) => Some(Ruling::Here),
            Step::Settle(ruling) => Some(ruling),
            Step::Lost => Some(Ruling::Unavailable(PLACE_LOST.to_owned())),
            Step::Park => None,
        }
    }

    /// The members have been read: the channels that waited for that are looked for again.
    pub(super) fn explain_again(&mut self, ctx: &mut Ctx) {
        let Some(member) = self.member() else { return };
        let Some(by) = member.incarnation() else {
            return;
        };
        let take_parked = |(channel, looking): (&ChannelId, &mut Looking)| {
            std::mem::take(&mut looking.is_parked).then(|| channel.clone())
        };
        let parked: Vec<ChannelId> = member
            .explaining
            .0
            .iter_mut()
            .filter_map(take_parked)
            .collect();
        for channel_id in parked {
            Self::order(ctx, EtcdRequest::FindClaim { channel_id, by });
        }
    }
}
