//! The node as a member of its cluster: what it holds of it, and how its right decides its membership.
//!
//! The decisions are those of [`cluster`](crate::cluster); here they meet the gate's mode, sessions and clients.

pub mod claims;
pub mod counts;
pub mod etcd;
pub mod explain;
pub mod fence;
pub mod join;
mod member_state;
pub mod ownership;
pub mod ownership_steps;
mod publish;
mod release;
mod steps;
pub mod trust;
mod untracked;
mod view;
mod waiters;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use soramode_protocol::cluster::Claim as OfferedClaim;
use soramode_protocol::id::{ChannelId, NodeName};
use soramode_protocol::node::Membership;
use soramode_protocol::time::Time;

use crate::cluster::join::{Past, PastSessions};
use crate::cluster::{Incarnation, Token};
use crate::ctx::Ctx;
use crate::effect::Record;
use crate::input::HostState;
use crate::node::Node;
use crate::snapshot::{ClusterSettings, Stored, StoredMember};
use counts::Counts;
use etcd::{EtcdRequest, EtcdResponse, Joined, Load, NodeRecord};
use explain::Explaining;
use fence::Fences;
use ownership::Ownership;
use publish::Publication;
use release::Releases;
use trust::Trust;
use waiters::Asking;
pub(crate) use waiters::{Ruling, Waiter, retry_after};

/// Nodes that are remembered as gone, for lists.
const LOST_MAX: usize = 1_024;

/// What the node holds of its cluster.
pub(crate) struct Member {
    pub(crate) settings: ClusterSettings,
    ownership: Ownership,
    /// Channels with a session that nobody claimed: the SFU told of it.
    unclaimed: BTreeSet<ChannelId>,
    asking: BTreeMap<ChannelId, Asking>,
    releases: Releases,
    fences: Fences,
    publication: Publication,
    nodes: BTreeMap<NodeName, NodeRecord>,
    /// Nodes that were seen, or that claims name, and that are not there.
    lost: BTreeMap<NodeName, Incarnation>,
    epoch: u64,
    trust: Trust,
    renewed_at: Option<Time>,
    pub(crate) membership_since: Option<Time>,
    /// When the others were told how full the node is, and what.
    told: Option<(Duration, Load)>,
    counts: Counts,
    explaining: Explaining,
    /// The incarnation that holds the node's name, and when it was first seen to.
    name_holder: Option<(Incarnation, Duration)>,
    problem: Option<String>,
}

impl Member {
    pub(crate) fn new(settings: ClusterSettings, stored: &mut Stored) -> Self {
        let past = stored.member.take().map(
            |StoredMember {
                 incarnation,
                 fence_after,
                 ..
             }| Past {
                incarnation,
                fence_after,
                sessions: PastSessions::Running,
            },
        );
        let owned = std::mem::take(&mut stored.claims);
        Self {
            ownership: Ownership::new(settings.terms, past, owned, settings.fault),
            unclaimed: BTreeSet::new(),
            asking: BTreeMap::new(),
            releases: Releases::default(),
            fences: Fences::default(),
            publication: Publication::default(),
            nodes: BTreeMap::new(),
            lost: BTreeMap::new(),
            epoch: 0,
            trust: Trust::new(stored.etcd.take(), settings.fault),
            settings,
            renewed_at: None,
            membership_since: None,
            told: None,
            counts: Counts::default(),
            explaining: Explaining::default(),
            name_holder: None,
            problem: None,
        }
    }

    /// As whom the node may write, if it may.
    fn incarnation(&self) -> Option<Incarnation> {
        self.ownership
            .incarnation()
            .filter(|_| !self.trust.refuses())
    }

    /// Remembers a node as gone; one that was purged is of no concern any more, whatever still names it.
    fn lose(&mut self, node: NodeName, incarnation: Incarnation) {
        if self.ownership.departures().is_purged(incarnation) {
            return;
        }
        self.lost.insert(node, incarnation);
        if self.lost.len() > LOST_MAX {
            self.lost.pop_first();
        }
    }
}

/// Whole milliseconds, rounded down: what is promised is never more than there is.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Node {
    /// The node as a member, where it is one: everything in this module begins with it.
    pub(crate) fn member(&mut self) -> Option<&mut Member> {
        self.member.as_deref_mut()
    }

    /// Sessions without a claim, and claims without a session, of before the start.
    pub(crate) fn begin_member(&mut self, ctx: &mut Ctx, host: HostState) {
        let channels: BTreeSet<ChannelId> = self.channels();
        let Some(member) = self.member() else { return };
        member.unclaimed = channels
            .iter()
            .filter(|channel| member.ownership.token(channel).is_none())
            .cloned()
            .collect();
        if host == HostState::Rebooted && member.ownership.end_previous() {
            self.sync.set_untracked(None);
        }
        let Some(member) = self.member() else { return };
        let left: Vec<ChannelId> = member
            .ownership
            .channels()
            .filter(|channel| !channels.contains(*channel))
            .cloned()
            .collect();
        for channel in left {
            self.release(ctx, &channel);
        }
    }

    fn channels(&self) -> BTreeSet<ChannelId> {
        let rows = self
            .sessions
            .by_age(None)
            .filter_map(|slot| self.sessions.session(slot));
        rows.map(|row| row.channel_id.clone()).collect()
    }

    /// The right as it is now. A timer that comes late changes nothing: this is compared at each step.
    pub(crate) fn watch_right(&mut self, ctx: &mut Ctx) {
        let now = ctx.now.boot;
        let Some(right) = self
            .member
            .as_deref()
            .and_then(|member| member.ownership.lease())
        else {
            return;
        };
        let membership = self.membership_of(right, now);
        if membership == self.membership {
            return;
        }
        match membership {
            // A right that was confirmed in time goes on; one that has begun says so where it begins.
            Membership::Joined => self.set_membership(ctx, Membership::Joined),
            Membership::Isolated => self.set_membership(ctx, Membership::Isolated),
            Membership::Fenced | Membership::Standalone => {
                if let Some(member) = self.member() {
                    member.ownership.give_up();
                }
                self.take_steps(ctx);
            }
        }
        self.set_membership_timer(ctx);
    }

    fn set_membership_timer(&mut self, ctx: &mut Ctx) {
        let now = ctx.now.boot;
        let right = self.member().and_then(|member| member.ownership.lease());
        match right.and_then(|right| right.next_deadline(now)) {
            Some(at) => ctx.timers.set(crate::timers::Timer::Membership, at),
            None => ctx.timers.cancel(crate::timers::Timer::Membership),
        }
    }

    /// What was heard of etcd.
    pub(crate) fn heard(&mut self, ctx: &mut Ctx, heard: EtcdResponse) {
        if self.member.is_none() {
            return;
        }
        match heard {
            EtcdResponse::MembersRead(looked) => self.looked(ctx, *looked),
            EtcdResponse::MembersReadFailed(why) => {
                if let Some(member) = self.member() {
                    member.trust.read_failed(why.clone());
                }
                self.note_problem(why);
            }
            EtcdResponse::Joined(Err(why)) => self.joined(ctx, Err(why)),
            EtcdResponse::Joined(Ok(Joined {
                incarnation,
                owners,
            })) => {
                self.on_own_claims_read(ctx, owners);
                self.joined(ctx, Ok(incarnation));
            }
            EtcdResponse::ClaimReplied {
                channel_id,
                by,
                reply,
            } => self.asked(ctx, channel_id, (by, reply)),
            EtcdResponse::ClaimFound { channel_id, found } => self.found(ctx, &channel_id, found),
            EtcdResponse::Released(channel_id, token, outcome) => {
                self.released(ctx, (channel_id, token), &outcome);
            }
            EtcdResponse::ClaimsMigrated { by, replies, more } => {
                self.claims_migrated(ctx, by, (replies, more));
            }
            EtcdResponse::Published(mode, outcome) => self.published(ctx, mode, outcome),
            EtcdResponse::Purged {
                reply_to,
                node_name,
                written_off,
            } => self.purged(ctx, reply_to, (node_name, written_off)),
            EtcdResponse::Initialized { reply_to, outcome } => {
                Self::initialized(ctx, reply_to, outcome);
            }
            EtcdResponse::Counted(owned) => self.counted(ctx, owned),
        }
    }

    fn note_problem(&mut self, why: String) {
        if let Some(member) = self.member() {
            member.problem = Some(why);
        }
    }

    fn order(ctx: &mut Ctx, order: EtcdRequest) {
        ctx.request_etcd(order);
    }

    /// A node that has nothing leaves when its daemon stops; one that has sessions means to go on with them.
    pub(crate) fn leave(&mut self, ctx: &mut Ctx) {
        if self.member.is_none() {
            return;
        }
        self.store_known(ctx, 0);
        let is_empty = self.sessions.session_count() == 0;
        let Some(member) = self.member() else { return };
        let leaves = is_empty && member.ownership.channel_count() == 0 && member.asking.is_empty();
        let incarnation = member.incarnation().filter(|_| leaves);
        if incarnation.is_some() {
            ctx.effects.records.push(Record::Member(None));
        }
        Self::order(
            ctx,
            incarnation.map_or(EtcdRequest::KeepMember, EtcdRequest::DeleteMember),
        );
    }

    /// The claim that goes out with an offer.
    pub(crate) fn claim_of(&self, channel_id: &ChannelId, now: Duration) -> Option<OfferedClaim> {
        let member = self.member.as_deref()?;
        let Token(token) = member.ownership.token(channel_id)?;
        Some(OfferedClaim {
            token,
            epoch: member.epoch,
            valid_for_ms: member.ownership.valid_for(now).map(millis),
        })
    }

    /// The token that goes out with a session's events.
    pub(crate) fn token_of(&self, channel_id: &ChannelId) -> Option<u64> {
        self.member
            .as_deref()?
            .ownership
            .token(channel_id)
            .map(|Token(token)| token)
    }
}
