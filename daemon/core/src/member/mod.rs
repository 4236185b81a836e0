//! The node as a member of its cluster, a state machine of its own: inputs and a view of the node go in, effects and events come out.
//!
//! The decisions are those of [`cluster`](crate::cluster) and of [`Ownership`].
//!
//! `ClusterMember` has parts, each with private fields and a file of its own: `ownership`, `unclaimed`, `pending_claims`, `releases`,
//! `fence_tracker`, `publication`, `etcd_trust`, `count_cache`, `explain_requests`. The other files connect them, one subject each: they
//! are `impl ClusterMember`. `events` is the interface to the rest of the node, `etcd` that to etcd.

mod claims;
mod count_cache;
pub mod etcd;
mod etcd_trust;
mod evaluate_etcd;
mod events;
mod explain;
mod explain_requests;
mod fence;
mod fence_tracker;
mod incarnations;
mod join;
mod list_nodes;
pub mod member_key;
pub mod ownership;
pub mod ownership_steps;
mod pending_claims;
mod publication;
mod publish;
mod releases;
mod resolve;
mod take_steps;
mod unclaimed;
mod untracked;
mod view;
mod waiters;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use soramode_protocol::cluster::OfferedClaim;
use soramode_protocol::id::{ChannelId, NodeName};
use soramode_protocol::mode::Mode;
use soramode_protocol::node::Membership;
use soramode_protocol::time::Time;

use crate::cluster::previous::{PreviousIncarnation, PreviousSessions};
use crate::cluster::{Incarnation, Token};
use crate::ctx::Ctx;
use crate::effect::Record;
use crate::input::HostState;
use crate::settings::{ClusterSettings, Settings};
use crate::stored::{Stored, StoredMember};
use crate::timers::Timer;
use count_cache::CountCache;
use etcd::{EtcdRequest, EtcdResponse, Joined, Load, NodeRecord};
use etcd_trust::EtcdTrust;
pub(crate) use events::{ClusterEvent, NodeView};
use explain_requests::ExplainRequests;
use fence_tracker::FenceTracker;
use ownership::Ownership;
use pending_claims::PendingClaims;
use publication::Publication;
pub(crate) use publication::{Opening, with_published};
use releases::Releases;
use unclaimed::Unclaimed;
use waiters::millis;
pub(crate) use waiters::{CannotClaim, ClusterAnswer, Waiter, retry_after};

/// Nodes that are remembered as gone, for lists.
const ABSENT_NODES_MAX: usize = 1_024;

/// The node as a member of its cluster.
pub(crate) struct ClusterMember {
    node_name: NodeName,
    max_connections: u64,
    settings: ClusterSettings,
    membership: Membership,
    membership_since: Option<Time>,
    /// Events that the rest of the node has not followed yet.
    events: VecDeque<ClusterEvent>,
    ownership: Ownership,
    unclaimed: Unclaimed,
    pending_claims: PendingClaims,
    releases: Releases,
    fences: FenceTracker,
    publication: Publication,
    nodes: BTreeMap<NodeName, NodeRecord>,
    /// Absent nodes that were present once, or that claims name.
    absent_nodes: BTreeMap<NodeName, Incarnation>,
    epoch: u64,
    trust: EtcdTrust,
    renewed_at: Option<Time>,
    /// The load that was published last, and when.
    published_load: Option<(Duration, Load)>,
    counts: CountCache,
    explain_requests: ExplainRequests,
    /// The incarnation that holds the node's name, and when a read first showed it.
    name_holder: Option<(Incarnation, Duration)>,
    problem: Option<String>,
}

impl ClusterMember {
    /// Creates the member of a node that starts, if its settings have a cluster.
    pub(crate) fn new(settings: &Settings, stored: &mut Stored) -> Option<Self> {
        let cluster = settings.cluster.clone()?;
        let previous = stored.member.take().map(
            |StoredMember {
                 incarnation,
                 fence_after,
                 ..
             }| PreviousIncarnation {
                incarnation,
                fence_after,
                sessions: PreviousSessions::Alive,
            },
        );
        let owned = std::mem::take(&mut stored.claims);
        Some(Self {
            node_name: settings.node_name.clone(),
            max_connections: settings.max_connections,
            membership: Membership::Fenced,
            membership_since: None,
            events: VecDeque::new(),
            ownership: Ownership::new(cluster.terms, previous, owned, cluster.fault),
            unclaimed: Unclaimed::default(),
            pending_claims: PendingClaims::default(),
            releases: Releases::default(),
            fences: FenceTracker::default(),
            publication: Publication::default(),
            nodes: BTreeMap::new(),
            absent_nodes: BTreeMap::new(),
            epoch: 0,
            trust: EtcdTrust::new(stored.etcd.take(), cluster.fault),
            settings: cluster,
            renewed_at: None,
            published_load: None,
            counts: CountCache::default(),
            explain_requests: ExplainRequests::default(),
            name_holder: None,
            problem: None,
        })
    }

    /// Takes in the start. Returns whether the sessions of earlier incarnations have ended with the machine.
    pub(crate) fn begin(&mut self, ctx: &mut Ctx, node: NodeView, host: HostState) -> bool {
        let channels: BTreeSet<ChannelId> = node.sessions.channels().cloned().collect();
        for channel in &channels {
            self.track_unclaimed(channel);
        }
        let are_previous_ended = host == HostState::Rebooted && self.ownership.end_previous();
        let left: Vec<ChannelId> = self
            .ownership
            .channels()
            .filter(|channel| !channels.contains(*channel))
            .cloned()
            .collect();
        for channel in left {
            self.release_channel(ctx, node, &channel);
        }
        are_previous_ended
    }

    /// Returns the next event that the rest of the node has to follow.
    pub(crate) fn poll_event(&mut self) -> Option<ClusterEvent> {
        self.events.pop_front()
    }

    pub(crate) const fn membership(&self) -> Membership {
        self.membership
    }

    /// Number of other nodes that are present and open. A node that is about to close is not counted. None is while this node is
    /// not joined: its list may be out of date.
    pub(crate) fn open_others(&self) -> usize {
        if self.membership != Membership::Joined {
            return 0;
        }
        let is_open = |node: &&NodeRecord| {
            node.node_name != self.node_name
                && node.mode == Some(Mode::Normal)
                && !node.load.is_leaving
        };
        self.nodes.values().filter(is_open).count()
    }

    /// Returns whether no other node of this cluster is open, as far as a joined node knows; false if it has not seen another one.
    pub(crate) fn is_none_open(&self) -> bool {
        let is_other = |node: &&NodeRecord| node.node_name != self.node_name;
        let mut others = self.nodes.values().filter(is_other).peekable();
        let has_others = others.peek().is_some() || !self.absent_nodes.is_empty();
        self.membership == Membership::Joined
            && has_others
            && others.all(|node| node.mode != Some(Mode::Normal))
    }

    fn set_membership(&mut self, ctx: &Ctx, membership: Membership) {
        // A fenced node has no lease left that could still run: it becomes joined, not isolated.
        let is_past = self.membership == Membership::Fenced && membership == Membership::Isolated;
        if self.membership == membership || is_past {
            return;
        }
        self.membership = membership;
        self.membership_since = Some(ctx.now.wall);
        self.events
            .push_back(ClusterEvent::MembershipChanged(membership));
    }

    /// Compares the membership with the lease as it is now. This happens at each step, so a timer that comes late changes nothing.
    pub(crate) fn check_lease(&mut self, ctx: &mut Ctx, node: NodeView) {
        let Some(lease) = self.ownership.lease() else {
            return;
        };
        let membership = self.membership_of(lease, ctx.now.boot);
        if membership == self.membership {
            return;
        }
        match membership {
            // A lease that was renewed in time goes on.
            Membership::Joined | Membership::Isolated => self.set_membership(ctx, membership),
            Membership::Fenced | Membership::Standalone => {
                self.ownership.give_up();
                self.take_steps(ctx, node);
            }
        }
        self.set_membership_timer(ctx);
    }

    /// Sets the timer to the lease's next deadline. A timer that has fired is set anew, also if the membership is as it was: a node
    /// that refuses its etcd is isolated before its lease is.
    pub(crate) fn set_membership_timer(&self, ctx: &mut Ctx) {
        let lease = self.ownership.lease();
        match lease.and_then(|lease| lease.next_deadline(ctx.now.boot)) {
            Some(at) => ctx.timers.set(Timer::Membership, at),
            None => ctx.timers.cancel(Timer::Membership),
        }
    }

    /// Takes in a response of etcd.
    pub(crate) fn on_etcd(&mut self, ctx: &mut Ctx, node: NodeView, response: EtcdResponse) {
        match response {
            EtcdResponse::MembersRead(read) => self.on_members_read(ctx, node, *read),
            EtcdResponse::MembersReadFailed(why) => {
                self.trust.read_failed(why.clone());
                self.fail_deferred(ctx, node, &why);
                self.problem = Some(why);
            }
            EtcdResponse::Joined(Ok(Joined {
                incarnation,
                owners,
            })) => {
                self.on_own_claims_read(ctx, node, owners);
                // The record of the new incarnation depends on the claims.
                self.events.push_back(ClusterEvent::Joined(incarnation));
            }
            EtcdResponse::Joined(Err(why)) => self.on_join_failed(why),
            EtcdResponse::ClaimReplied {
                channel_id,
                by,
                reply,
            } => self.on_claim_replied(ctx, node, channel_id, by, reply),
            EtcdResponse::ClaimFound { channel_id, found } => {
                self.on_claim_found(ctx, node, &channel_id, found);
            }
            EtcdResponse::Released(channel_id, token, outcome) => {
                self.releases
                    .on_answered(ctx, (channel_id, token), &outcome);
            }
            EtcdResponse::ClaimsMigrated { by, replies, more } => {
                self.on_claims_migrated(ctx, node, by, replies);
                if !more {
                    self.on_migration_answered(ctx, node);
                }
            }
            EtcdResponse::Published(mode, outcome) => self.on_published(ctx, mode, outcome),
            EtcdResponse::Purged {
                reply_to,
                node_name,
                outcome,
            } => self.on_purged(ctx, reply_to, node_name, outcome),
            EtcdResponse::Initialized { reply_to, outcome } => {
                self.on_initialized(ctx, reply_to, outcome);
            }
            EtcdResponse::Counted(owned) => self.on_counted(ctx, node, owned),
        }
    }

    /// Takes in that the daemon stops: a node that has nothing leaves; one that has sessions means to go on with them.
    pub(crate) fn shut_down(&mut self, ctx: &mut Ctx, node: NodeView) {
        self.trust.store(ctx, 0);
        let is_empty = node.sessions.session_count() == 0;
        let leaves =
            is_empty && self.ownership.channel_count() == 0 && self.pending_claims.count() == 0;
        let incarnation = self.incarnation().filter(|_| leaves);
        if incarnation.is_some() {
            ctx.record(Record::Member(None));
        }
        ctx.request_etcd(incarnation.map_or(EtcdRequest::KeepMember, EtcdRequest::DeleteMember));
    }

    /// Returns the incarnation that the node may write as, if it may.
    fn incarnation(&self) -> Option<Incarnation> {
        self.ownership
            .incarnation()
            .filter(|_| !self.trust.refuses())
    }

    /// Remembers an absent node, unless it was purged.
    fn note_absent(&mut self, node: NodeName, incarnation: Incarnation) {
        if self.ownership.departures().is_purged(incarnation) {
            return;
        }
        self.absent_nodes.insert(node, incarnation);
        if self.absent_nodes.len() > ABSENT_NODES_MAX {
            self.absent_nodes.pop_first();
        }
    }

    /// Returns the claim that an offer carries.
    pub(crate) fn claim_of(&self, channel_id: &ChannelId, now: Duration) -> Option<OfferedClaim> {
        let Token(token) = self.ownership.token(channel_id)?;
        Some(OfferedClaim {
            token,
            epoch: self.epoch,
            valid_for_ms: self.ownership.valid_for(now).map(millis),
        })
    }

    /// Returns the token that a session's events carry.
    pub(crate) fn claim_token(&self, channel_id: &ChannelId) -> Option<u64> {
        self.ownership.token(channel_id).map(|Token(token)| token)
    }
}
