//! Whose is a channel? Clients wait while the cluster is asked; what comes back is judged, and each of them answered.

use std::time::Duration;

use soramode_protocol::decision::{Decision, RejectReason};
use soramode_protocol::error::Error;
use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::Membership;

use crate::cluster::claim::{Claim, Found, Outcome, Reply};
use crate::cluster::placement::{Candidate, Place as Belongs, place};
use crate::cluster::{Incarnation, Token};
use crate::ctx::Ctx;
use crate::effect::{Action, Record};
use crate::node::Node;

use super::etcd::{ClaimOp, EtcdRequest};
use super::trust::REFUSED;
use super::waiters::{Asking, Ruling, Waiter};
use super::{Member, millis};

/// Claims under way at most; whoever asks for one more channel is told to come again.
pub const CLAIMS_IN_FLIGHT_MAX: usize = 64;

/// When that may be worth it.
pub const CLAIM_RETRY_AFTER: Duration = Duration::from_millis(100);

/// Channels that one node owns at most.
pub const CLAIMS_MAX: usize = 100_000;

/// How often one question is put anew, because the channel changed hands meanwhile, before that is given up.
const ROUNDS_MAX: u8 = 8;

/// Why a node that is not joined cannot ask.
pub(super) const ISOLATED: &str = "the node is isolated";

/// Why a node that has no place in the cluster yet cannot ask.
pub(super) const ON_ITS_WAY: &str = "the node is joining the cluster";

/// Why a node that was joined cannot ask.
pub(super) const PLACE_LOST: &str = "the node has lost its membership in the cluster";

/// Why a node cannot claim that was `normal` a moment ago, or is to be.
const NOT_PUBLISHED: &str = "the other nodes have not yet been notified that this node is normal";

/// The node as a question about a channel is judged.
#[derive(Clone, Copy)]
pub(super) struct Here {
    pub(super) mode: Mode,
    /// The mode that the other nodes know of.
    pub(super) published: Option<Mode>,
    /// By the boot clock.
    pub(super) now: Duration,
}

/// The new connections that a channel is asked for.
pub(super) struct Newcomers<'a> {
    pub(super) channel_id: &'a ChannelId,
    /// The most redirects that one of them followed.
    pub(super) hops: u8,
    /// There is a session already, which nobody claimed.
    pub(super) is_session: bool,
}

/// Next step for a channel after the cluster's answer.
pub(super) enum Step {
    Own(Token),
    GiveBack(Token),
    Ask(ClaimOp),
    Settle(Ruling),
    /// Read the members, and then ask again.
    Park,
    /// The node's own key is gone.
    Lost,
}

impl Member {
    pub(super) fn asking_count(&self) -> u64 {
        u64::try_from(self.asking.len()).unwrap_or(u64::MAX)
    }

    /// A claim names its owner: it may be one that is gone.
    pub(super) fn note_owner(&mut self, claim: Claim) {
        if !self.nodes.contains_key(&claim.node) {
            self.lose(claim.node, claim.incarnation);
        }
    }

    fn may_claim(&self, now: Duration) -> bool {
        let is_free = !self.trust.refuses() && self.trust.reclaims_for(now).is_none();
        is_free && self.ownership.may_claim(now)
    }
}

impl Node {
    /// Asks the cluster about a channel; `None` if whoever waits is answered later.
    pub(crate) fn ask_cluster(
        &mut self,
        ctx: &mut Ctx,
        channel_id: &ChannelId,
        waiter: Waiter,
    ) -> Option<Result<Decision, Error>> {
        if self.membership != Membership::Joined {
            return Some(Err(Error::cluster_unavailable(ISOLATED)));
        }
        let mode = self.mode.mode();
        let reply_to = waiter.reply_to();
        let is_deferrable = waiter.is_deferrable();
        let hops = waiter.hops();
        let member = self.member()?;
        if let Some(asking) = member.asking.get_mut(channel_id) {
            asking.waiters.push(waiter);
        } else {
            if member.asking.len() >= CLAIMS_IN_FLIGHT_MAX
                || member.ownership.channel_count() >= CLAIMS_MAX
            {
                let retry = (member.ownership.channel_count() < CLAIMS_MAX)
                    .then(|| millis(CLAIM_RETRY_AFTER));
                self.count_rejected(RejectReason::AtCapacity);
                return Some(Ok(Decision::Reject {
                    reason: RejectReason::AtCapacity,
                    mode,
                    retry_after_ms: retry,
                }));
            }
            member.asking.insert(channel_id.clone(), Asking::of(waiter));
            let op = self.first_wish(ctx, channel_id, hops);
            self.order_ask(ctx, channel_id, op);
        }
        let waits = self
            .member()
            .is_some_and(|member| member.asking.contains_key(channel_id));
        if let (Some(reply_to), true) = (reply_to, is_deferrable && waits) {
            ctx.effects.actions.push(Action::Deferred(reply_to));
        }
        None
    }

    /// A claim, where the channel belongs here if it is nobody's; else it is looked for first.
    fn first_wish(&mut self, ctx: &Ctx, channel_id: &ChannelId, hops: u8) -> ClaimOp {
        let is_here = matches!(
            self.belongs(self.mode.mode(), channel_id, hops),
            Belongs::Here
        );
        if is_here && self.can_claim(ctx.now.boot) {
            ClaimOp::Acquire
        } else {
            ClaimOp::Get
        }
    }

    fn can_claim(&self, now: Duration) -> bool {
        self.can_claim_in(self.mode.mode(), now)
    }

    fn can_claim_in(&self, mode: Mode, now: Duration) -> bool {
        mode == Mode::Normal
            && self
                .member
                .as_deref()
                .is_some_and(|member| member.may_claim(now))
    }

    fn order_ask(&mut self, ctx: &mut Ctx, channel_id: &ChannelId, op: ClaimOp) {
        let Some(by) = self.member().and_then(|member| member.incarnation()) else {
            return self.settle(ctx, channel_id, &Ruling::Unavailable(ON_ITS_WAY.to_owned()));
        };
        Self::order(
            ctx,
            EtcdRequest::Claim {
                channel_id: channel_id.clone(),
                by,
                op,
            },
        );
    }

    /// What etcd said of a channel.
    pub(super) fn asked(
        &mut self,
        ctx: &mut Ctx,
        channel_id: ChannelId,
        (by, reply): (Incarnation, Result<Reply, String>),
    ) {
        let now = ctx.now.boot;
        let mode = self.mode.mode();
        let Some(member) = self.member() else { return };
        if !member.asking.contains_key(&channel_id) {
            return self.drop_stray(ctx, channel_id, by, reply);
        }
        if member.trust.refuses() {
            return self.settle(ctx, &channel_id, &Ruling::Unavailable(REFUSED.to_owned()));
        }
        if !member.ownership.is_key(by) {
            // A claim won under an earlier incarnation is of no use. While the earlier lease still
            // runs, it would not be among those that are migrated, and others could take it over.
            self.drop_stray(ctx, channel_id.clone(), by, reply);
            return self.again(ctx, &channel_id, None);
        }
        let reply = match reply {
            Ok(reply) => reply,
            Err(why) => return self.settle(ctx, &channel_id, &Ruling::Unavailable(why)),
        };
        if let Reply::Refused(Found {
            claim: Some(claim), ..
        }) = &reply
        {
            member.note_owner(claim.clone());
        }
        let published = if let Reply::Refused(found) = &reply {
            found.mode
        } else {
            Some(Mode::Normal)
        };
        let here = Here {
            mode,
            published,
            now,
        };
        let Some(outcome) = self.judge_reply(reply, here) else {
            return;
        };
        let step = self.next_step(outcome, &self.newcomers(&channel_id), here);
        self.take_step(ctx, &channel_id, step);
    }

    /// What etcd's reply means under a mode. A claim of the node's own that it does not hold may be on its way out: it is written anew before
    /// it counts.
    pub(super) fn judge_reply(&mut self, reply: Reply, here: Here) -> Option<Outcome> {
        let member = self.member()?;
        member.ownership.on_claim_reply(reply, here.mode, here.now)
    }

    /// A claim was won that nobody waits for any more.
    fn drop_stray(
        &mut self,
        ctx: &mut Ctx,
        channel_id: ChannelId,
        by: Incarnation,
        reply: Result<Reply, String>,
    ) {
        if let (Ok(Reply::Won(token)), Some(member)) = (reply, self.member()) {
            member.ownership.on_stray_claim(by, channel_id, token);
            self.take_steps(ctx);
        }
    }

    /// The caller of a question about a channel.
    fn newcomers<'a>(&self, channel_id: &'a ChannelId) -> Newcomers<'a> {
        let asking = self
            .member
            .as_deref()
            .and_then(|member| member.asking.get(channel_id));
        let waiters = || asking.into_iter().flat_map(|asking| &asking.waiters);
        let hops = waiters().map(Waiter::hops).max().unwrap_or(0);
        Newcomers {
            channel_id,
            hops,
            is_session: waiters().any(|waiter| matches!(waiter, Waiter::Session)),
        }
    }

    /// The one decision of what follows from the cluster's answer: `Connect` takes this step, `Explain` says where it leads.
    pub(super) fn next_step(
        &self,
        outcome: Outcome,
        newcomers: &Newcomers<'_>,
        here: Here,
    ) -> Step {
        let can_claim = self.can_claim_in(here.mode, here.now);
        let is_published = here.published == Some(Mode::Normal);
        let unavailable = |why: &str| Step::Settle(Ruling::Unavailable(why.to_owned()));
        match outcome {
            Outcome::Mine(token) => Step::Own(token),
            Outcome::GiveBack(token) => Step::GiveBack(token),
            Outcome::Owned(node) if node == self.settings.node_name => {
                unavailable("the channel belongs to another registration of this node's name")
            }
            Outcome::Owned(node) => Step::Settle(Ruling::Redirect(node)),
            Outcome::TakeOver(_) | Outcome::Renew(_) | Outcome::NotNormal
                if can_claim && !is_published =>
            {
                unavailable(NOT_PUBLISHED)
            }
            Outcome::TakeOver(claim) if can_claim => Step::Ask(ClaimOp::TakeOver(claim)),
            Outcome::Renew(claim) if can_claim => Step::Ask(ClaimOp::Rewrite(claim)),
            Outcome::Renew(claim) => Step::Ask(ClaimOp::Release(claim)),
            Outcome::OwnerLost(left) => Step::Settle(Ruling::OwnerLost(left)),
            Outcome::ReadMembers => Step::Park,
            Outcome::NotMember => Step::Lost,
            Outcome::NotNormal if here.mode == Mode::Normal => unavailable(NOT_PUBLISHED),
            // A node that may have new channels takes it over when the client comes there.
            Outcome::TakeOver(_) | Outcome::NotNormal | Outcome::Again => {
                self.find_place(newcomers, here)
            }
        }
    }

    /// The channel is nobody's, or may be had: where does it belong?
    fn find_place(&self, newcomers: &Newcomers<'_>, here: Here) -> Step {
        let can_claim = self.can_claim_in(here.mode, here.now);
        let reclaims = self
            .member
            .as_deref()
            .and_then(|member| member.trust.reclaims_for(here.now));
        match self.belongs(here.mode, newcomers.channel_id, newcomers.hops) {
            Belongs::Here if let Some(left) = reclaims => {
                let why = format!(
                    "nodes are reclaiming the channels that they serve; other channels can be claimed in {} s",
                    left.as_secs() + 1
                );
                Step::Settle(Ruling::Unavailable(why))
            }
            _ if newcomers.is_session && can_claim => Step::Ask(ClaimOp::Acquire),
            Belongs::Here if can_claim => Step::Ask(ClaimOp::Acquire),
            Belongs::There(node) => Step::Settle(Ruling::Redirect(node)),
            Belongs::Here | Belongs::Nowhere => Step::Settle(Ruling::Nowhere),
        }
    }

    fn take_step(&mut self, ctx: &mut Ctx, channel_id: &ChannelId, step: Step) {
        match step {
            Step::Own(token) => self.own(ctx, channel_id, token),
            Step::GiveBack(token) => {
                self.release_token(ctx, channel_id.clone(), token);
                self.again(ctx, channel_id, None);
            }
            Step::Ask(op) => self.again(ctx, channel_id, Some(op)),
            Step::Settle(ruling) => self.settle(ctx, channel_id, &ruling),
            Step::Park => {
                if let Some(asking) = self
                    .member()
                    .and_then(|member| member.asking.get_mut(channel_id))
                {
                    asking.parked = Some(ClaimOp::Get);
                    Self::order(ctx, EtcdRequest::ReadMembers);
                }
            }
            Step::Lost => {
                Self::order(ctx, EtcdRequest::ReadMembers);
                self.settle(ctx, channel_id, &Ruling::Unavailable(PLACE_LOST.to_owned()));
            }
        }
    }

    fn belongs(&self, mode: Mode, channel_id: &ChannelId, hops: u8) -> Belongs {
        let here = Candidate {
            node: self.settings.node_name.clone(),
            mode,
            connections: self.sessions.connection_count(),
            limit: self.settings.max_connections,
        };
        let nodes = self
            .member
            .as_deref()
            .map(|member| member.nodes.values())
            .into_iter()
            .flatten();
        let all: Vec<Candidate> = nodes
            .filter_map(|node| {
                Some(Candidate {
                    node: node.node_name.clone(),
                    mode: node.mode?,
                    connections: node.load.connections,
                    limit: node.load.limit,
                })
            })
            .collect();
        place(&here, &all, channel_id, hops)
    }

    /// The question is put anew.
    fn again(&mut self, ctx: &mut Ctx, channel_id: &ChannelId, op: Option<ClaimOp>) {
        let Some(asking) = self
            .member()
            .and_then(|member| member.asking.get_mut(channel_id))
        else {
            return;
        };
        asking.rounds += 1;
        if asking.rounds > ROUNDS_MAX {
            return self.settle(
                ctx,
                channel_id,
                &Ruling::Unavailable("the channel's owner keeps changing".to_owned()),
            );
        }
        if self.membership == Membership::Fenced {
            return self.settle(ctx, channel_id, &Ruling::Nowhere);
        }
        self.order_ask(ctx, channel_id, op.unwrap_or(ClaimOp::Get));
    }

    /// The members have been read: what waited for that is asked.
    pub(super) fn ask_again(&mut self, ctx: &mut Ctx) {
        let Some(member) = self.member() else { return };
        let parked = member
            .asking
            .iter_mut()
            .filter_map(|(channel, asking)| Some((channel.clone(), asking.parked.take()?)));
        let parked: Vec<(ChannelId, ClaimOp)> = parked.collect();
        for (channel_id, op) in parked {
            self.again(ctx, &channel_id, Some(op));
        }
    }

    fn own(&mut self, ctx: &mut Ctx, channel_id: &ChannelId, token: Token) {
        let Some(member) = self.member() else { return };
        member.ownership.own(channel_id.clone(), token);
        member.unclaimed.remove(channel_id);
        ctx.effects.records.push(Record::Claimed {
            channel_id: channel_id.clone(),
            token,
        });
        self.store_known(ctx, token.0);
        self.settle(ctx, channel_id, &Ruling::Here);
        if self.sessions.find_session(channel_id).is_none() {
            self.release(ctx, channel_id);
        }
    }

    /// Sessions that nobody claimed are claimed, as far as there is room.
    pub(super) fn claim_unclaimed(&mut self, ctx: &mut Ctx) {
        if !self.can_claim(ctx.now.boot) {
            return;
        }
        let Some(member) = self.member() else { return };
        let room = CLAIMS_IN_FLIGHT_MAX.saturating_sub(member.asking.len());
        let wanted = member
            .unclaimed
            .iter()
            .filter(|channel| !member.asking.contains_key(*channel))
            .take(room);
        let wanted: Vec<ChannelId> = wanted.cloned().collect();
        for channel_id in wanted {
            if let Some(member) = self.member() {
                member
                    .asking
                    .insert(channel_id.clone(), Asking::of(Waiter::Session));
            }
            self.order_ask(ctx, &channel_id, ClaimOp::Acquire);
        }
    }

    /// A session was opened without a question: the SFU has told of it.
    pub(crate) fn note_unclaimed(&mut self, channel_id: &ChannelId) {
        if let Some(member) = self.member()
            && member.ownership.token(channel_id).is_none()
        {
            member.unclaimed.insert(channel_id.clone());
        }
    }
}
