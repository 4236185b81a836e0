//! Whose is a channel? Clients wait while the cluster is asked; what comes back is judged, and each of them answered.

use std::time::Duration;

use soramode_protocol::decision::{Decision, RejectReason};
use soramode_protocol::error::Error;
use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::Standing;

use crate::admission::Row;
use crate::cluster::claim::{Claim, Found, Me, Outcome, Reply, judge};
use crate::cluster::placement::{Candidate, Place as Belongs, place};
use crate::cluster::{Incarnation, Token};
use crate::effect::{Act, Record};
use crate::gate::{Gate, Refusable, Turn};
use crate::snapshot::TakeoverWait;

use super::order::{Order, Wish};
use super::waiters::{Asking, Verdict, Waiter};
use super::{Member, Place, millis};

/// Claims under way at most; whoever asks for one more channel is told to come again.
pub const CLAIMS_IN_FLIGHT_MAX: usize = 64;

/// When that may be worth it.
pub const CLAIM_RETRY_AFTER: Duration = Duration::from_millis(100);

/// Channels that one node owns at most.
pub const CLAIMS_MAX: usize = 100_000;

/// How often one question is put anew, because the channel changed hands meanwhile, before that is given up.
const ROUNDS_MAX: u8 = 8;

impl Member {
    pub(super) fn asking_count(&self) -> u64 {
        u64::try_from(self.asking.len()).unwrap_or(u64::MAX)
    }

    /// A claim names its owner: it may be one that is gone.
    fn note_owner(&mut self, claim: Claim) {
        if self.settings.takeover_wait == TakeoverWait::None {
            self.gone.purge(claim.incarnation);
        }
        if !self.nodes.contains_key(&claim.node) {
            self.lose(claim.node, claim.incarnation);
        }
    }

    fn may_claim(&self, now: Duration) -> bool {
        matches!(self.place, Place::In) && self.right.as_ref().is_some_and(|right| right.may_claim(now))
    }
}

impl Gate {
    /// Whether the cluster must be asked before somebody new is answered as this row says.
    pub(crate) fn must_ask(&self, row: Row, channel_id: &ChannelId) -> bool {
        let Some(member) = self.member.as_deref() else { return false };
        if member.owned.contains_key(channel_id) {
            return false;
        }
        let is_joined = self.standing == Standing::Joined;
        match row {
            Row::Offer => true,
            // Perhaps another node takes it.
            Row::BlockNewConnection | Row::BlockNewSession => is_joined && self.sessions.find_session(channel_id).is_none(),
            Row::Initial | Row::AtCapacity => false,
        }
    }

    /// Asks the cluster about a channel; `None` if whoever waits is answered later.
    pub(crate) fn ask_cluster(&mut self, turn: &mut Turn, channel_id: &ChannelId, waiter: Waiter) -> Option<Refusable<Decision>> {
        if self.standing != Standing::Joined {
            return Some(Err(Error::cluster_unavailable("the node is isolated")));
        }
        let mode = self.mode.mode;
        let ticket = waiter.ticket();
        let is_connect = matches!(waiter, Waiter::Connect(..));
        let hops = waiter.hops();
        let member = self.member()?;
        if let Some(asking) = member.asking.get_mut(channel_id) {
            asking.waiters.push(waiter);
        } else {
            if member.asking.len() >= CLAIMS_IN_FLIGHT_MAX || member.owned.len() >= CLAIMS_MAX {
                let retry = (member.owned.len() < CLAIMS_MAX).then(|| millis(CLAIM_RETRY_AFTER));
                self.count_rejected(RejectReason::AtCapacity);
                return Some(Ok(Decision::Reject { reason: RejectReason::AtCapacity, mode, retry_after_ms: retry }));
            }
            member.asking.insert(channel_id.clone(), Asking::of(waiter));
            let wish = self.first_wish(turn, channel_id, hops);
            self.order_ask(turn, channel_id, wish);
        }
        let waits = self.member().is_some_and(|member| member.asking.contains_key(channel_id));
        if let (Some(ticket), true) = (ticket, is_connect && waits) {
            turn.effects.acts.push(Act::Deferred(ticket));
        }
        None
    }

    /// A claim, where the channel belongs here if it is nobody's; else it is looked for first.
    fn first_wish(&mut self, turn: &Turn, channel_id: &ChannelId, hops: u8) -> Wish {
        let is_here = matches!(self.belongs(channel_id, hops), Belongs::Here);
        if is_here && self.can_claim(turn.now.boot) { Wish::Claim } else { Wish::Find }
    }

    fn can_claim(&self, now: Duration) -> bool {
        self.mode.mode == Mode::Normal && self.member.as_deref().is_some_and(|member| member.may_claim(now))
    }

    fn order_ask(&mut self, turn: &mut Turn, channel_id: &ChannelId, wish: Wish) {
        let Some(by) = self.member().and_then(|member| member.incarnation()) else {
            return self.settle(turn, channel_id, &Verdict::Unavailable("the node is on its way into the cluster".to_owned()));
        };
        Self::order(turn, Order::Ask { channel_id: channel_id.clone(), by, wish });
    }

    /// What etcd said of a channel.
    pub(super) fn asked(&mut self, turn: &mut Turn, channel_id: ChannelId, (by, reply): (Incarnation, Result<Reply, String>)) {
        let now = turn.now.boot;
        let mode = self.mode.mode;
        let Some(member) = self.member() else { return };
        if !member.asking.contains_key(&channel_id) {
            return self.drop_stray(turn, channel_id, reply);
        }
        if member.right.as_ref().is_none_or(|right| right.incarnation() != by) {
            // What was won under an earlier incarnation is of no use.
            self.drop_stray(turn, channel_id.clone(), reply);
            return self.again(turn, &channel_id, None);
        }
        let reply = match reply {
            Ok(reply) => reply,
            Err(why) => return self.settle(turn, &channel_id, &Verdict::Unavailable(why)),
        };
        if let Reply::Refused(Found { claim: Some(claim), .. }) = &reply {
            member.note_owner(claim.clone());
        }
        let Some(right) = &member.right else { return };
        // A claim of its own that it does not hold may be on its way out: it is written anew before it counts.
        let me = Me { right, mode, over: &member.over };
        let outcome = judge(reply, me, &mut member.gone, now);
        self.act_on(turn, &channel_id, outcome);
    }

    /// A claim was won that nobody waits for any more.
    fn drop_stray(&mut self, turn: &mut Turn, channel_id: ChannelId, reply: Result<Reply, String>) {
        if let (Ok(Reply::Won(token)), None) = (reply, self.member().and_then(|member| member.token(&channel_id))) {
            self.release_token(turn, channel_id, token);
        }
    }

    fn act_on(&mut self, turn: &mut Turn, channel_id: &ChannelId, outcome: Outcome) {
        match outcome {
            Outcome::Mine(token) => self.own(turn, channel_id, token),
            Outcome::GiveBack(token) => {
                self.release_token(turn, channel_id.clone(), token);
                self.again(turn, channel_id, None);
            }
            Outcome::Owned(node) => {
                let is_this_node = node == self.settings.node_name;
                let stranger = || Verdict::Unavailable("another node has this node's name".to_owned());
                self.settle(turn, channel_id, &if is_this_node { stranger() } else { Verdict::Redirect(node) });
            }
            Outcome::TakeOver(claim) => self.take_over(turn, channel_id, claim),
            Outcome::Renew(claim) if self.can_claim(turn.now.boot) => self.again(turn, channel_id, Some(Wish::Renew(claim))),
            Outcome::Renew(claim) => self.again(turn, channel_id, Some(Wish::Drop(claim))),
            Outcome::OwnerLost(left) => self.settle(turn, channel_id, &Verdict::OwnerLost(left)),
            Outcome::ReadMembers => {
                if let Some(asking) = self.member().and_then(|member| member.asking.get_mut(channel_id)) {
                    asking.parked = Some(Wish::Find);
                    Self::order(turn, Order::Look);
                }
            }
            Outcome::NotMember => {
                Self::order(turn, Order::Look);
                self.settle(turn, channel_id, &Verdict::Unavailable("the node's place in the cluster is lost".to_owned()));
            }
            Outcome::NotNormal if self.mode.mode == Mode::Normal => {
                self.settle(turn, channel_id, &Verdict::Unavailable("the other nodes do not know yet that this one is normal".to_owned()));
            }
            Outcome::NotNormal | Outcome::Again => self.find_place(turn, channel_id),
        }
    }

    fn take_over(&mut self, turn: &mut Turn, channel_id: &ChannelId, claim: Claim) {
        if self.can_claim(turn.now.boot) {
            return self.again(turn, channel_id, Some(Wish::TakeOver(claim)));
        }
        // Whoever may have new channels takes it over when the client comes.
        self.find_place(turn, channel_id);
    }

    /// The channel is nobody's, or may be had: where does it belong?
    fn find_place(&mut self, turn: &mut Turn, channel_id: &ChannelId) {
        let asking = self.member().and_then(|member| member.asking.get(channel_id));
        let hops = asking.map_or(0, |asking| asking.waiters.iter().map(Waiter::hops).max().unwrap_or(0));
        let is_session = asking.is_some_and(|asking| asking.waiters.iter().any(|waiter| matches!(waiter, Waiter::Session)));
        match self.belongs(channel_id, hops) {
            _ if is_session && self.can_claim(turn.now.boot) => self.again(turn, channel_id, Some(Wish::Claim)),
            Belongs::Here if self.can_claim(turn.now.boot) => self.again(turn, channel_id, Some(Wish::Claim)),
            Belongs::There(node) => self.settle(turn, channel_id, &Verdict::Redirect(node)),
            Belongs::Here | Belongs::Nowhere => self.settle(turn, channel_id, &Verdict::Nowhere),
        }
    }

    fn belongs(&self, channel_id: &ChannelId, hops: u8) -> Belongs {
        let here = Candidate {
            node: self.settings.node_name.clone(),
            mode: self.mode.mode,
            connections: self.sessions.connection_count(),
            limit: self.settings.max_connections,
        };
        let nodes = self.member.as_deref().map(|member| member.nodes.values()).into_iter().flatten();
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
    fn again(&mut self, turn: &mut Turn, channel_id: &ChannelId, wish: Option<Wish>) {
        let Some(asking) = self.member().and_then(|member| member.asking.get_mut(channel_id)) else { return };
        asking.rounds += 1;
        if asking.rounds > ROUNDS_MAX {
            return self.settle(turn, channel_id, &Verdict::Unavailable("the channel changes hands too often".to_owned()));
        }
        if self.standing == Standing::Fenced {
            return self.settle(turn, channel_id, &Verdict::Nowhere);
        }
        self.order_ask(turn, channel_id, wish.unwrap_or(Wish::Find));
    }

    /// The members have been read: what waited for that is asked.
    pub(super) fn ask_again(&mut self, turn: &mut Turn) {
        let Some(member) = self.member() else { return };
        let parked = member.asking.iter_mut().filter_map(|(channel, asking)| Some((channel.clone(), asking.parked.take()?)));
        let parked: Vec<(ChannelId, Wish)> = parked.collect();
        for (channel_id, wish) in parked {
            self.again(turn, &channel_id, Some(wish));
        }
    }

    fn own(&mut self, turn: &mut Turn, channel_id: &ChannelId, token: Token) {
        let Some(member) = self.member() else { return };
        member.owned.insert(channel_id.clone(), token);
        member.unclaimed.remove(channel_id);
        turn.effects.records.push(Record::Claimed { channel_id: channel_id.clone(), token });
        self.settle(turn, channel_id, &Verdict::Here);
        if self.sessions.find_session(channel_id).is_none() {
            self.release(turn, channel_id);
        }
    }

    /// Sessions that nobody claimed are claimed, as far as there is room.
    pub(super) fn claim_unclaimed(&mut self, turn: &mut Turn) {
        if !self.can_claim(turn.now.boot) {
            return;
        }
        let Some(member) = self.member() else { return };
        let room = CLAIMS_IN_FLIGHT_MAX.saturating_sub(member.asking.len());
        let wanted = member.unclaimed.iter().filter(|channel| !member.asking.contains_key(*channel)).take(room);
        let wanted: Vec<ChannelId> = wanted.cloned().collect();
        for channel_id in wanted {
            if let Some(member) = self.member() {
                member.asking.insert(channel_id.clone(), Asking::of(Waiter::Session));
            }
            self.order_ask(turn, &channel_id, Wish::Claim);
        }
    }

    /// A session was opened without a question: the SFU has told of it.
    pub(crate) fn note_unclaimed(&mut self, channel_id: &ChannelId) {
        if let Some(member) = self.member()
            && !member.owned.contains_key(channel_id)
        {
            member.unclaimed.insert(channel_id.clone());
        }
    }
}
