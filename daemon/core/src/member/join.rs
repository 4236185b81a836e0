//! Joining the cluster and staying in it: what a read of all members means for the node's own key.

use std::time::Duration;

use soramode_protocol::mode::Mode;
use soramode_protocol::node::Membership;

use crate::cluster::Incarnation;
use crate::cluster::departures::PresentMembers;
use crate::ctx::Ctx;
use crate::sync::UntrackedIncarnations;

use super::etcd::{EtcdRequest, Load, MembersRead, NodeRecord};
use super::member_key::OwnKey;
use super::publication::mode_to_publish;
use super::{ClusterEvent, ClusterMember, NodeView};

/// Nodes in one cluster at most.
pub(super) const NODES_MAX: usize = 100;

/// Time between two publications of the load, at least.
const LOAD_PAUSE: Duration = Duration::from_secs(5);

impl ClusterMember {
    /// Takes in which nodes are present and which are not.
    fn observe(&mut self, read: &mut MembersRead, received: Duration) {
        let nodes = std::mem::take(&mut read.nodes);
        let present = nodes.iter().map(|node| node.incarnation).collect();
        self.ownership.observe(PresentMembers {
            revision: read.etcd.revision,
            present,
            received,
        });
        for incarnation in read.purged.drain(..) {
            self.ownership.purge(incarnation);
        }
        let before = std::mem::take(&mut self.nodes);
        self.nodes = nodes
            .into_iter()
            .map(|node: NodeRecord| (node.node_name.clone(), node))
            .collect();
        if !before
            .values()
            .map(|node| node.incarnation)
            .eq(self.nodes.values().map(|node| node.incarnation))
        {
            self.counts.outdate();
        }
        for (name, node) in before {
            if !self.nodes.contains_key(&name) {
                self.note_absent(name, node.incarnation);
            }
        }
        self.absent_nodes.retain(|name, incarnation| {
            !self.nodes.contains_key(name) && !self.ownership.departures().is_purged(*incarnation)
        });
        self.epoch = read.etcd.configuration.as_ref().map_or(0, |it| it.epoch);
        self.problem = None;
    }

    /// Describes why the node's name is in use. A registration that is not renewed expires with its lease, so one that outlasts that belongs
    /// to a node that runs.
    pub(super) fn name_in_use(&mut self, holder: Incarnation, now: Duration) -> String {
        let since = match self.name_holder {
            Some((known, since)) if known == holder => since,
            Some(_) | None => now,
        };
        self.name_holder = Some((holder, since));
        match self.settings.registration_ttl.checked_sub(now.saturating_sub(since)).filter(|left| !left.is_zero()) {
            Some(left) => format!(
                "this node's name is still registered, probably by an earlier run of it: wait, that registration expires within {} s",
                left.as_secs().saturating_add(1)
            ),
            None => "another running node has this node's name: give one of them another with --node-name".to_owned(),
        }
    }
}

/// Returns the node's key if the node ordered it itself, and serves nothing under it: an earlier start of the daemon, which ended before it
/// knew of it, or an order that was carried out late.
fn unused_key(read: &MembersRead) -> Option<Incarnation> {
    read.own.filter(|own| read.own_of_this_boot == Some(*own))
}

/// Returns what a read shows of the node's own key.
fn own_key(read: &MembersRead) -> OwnKey {
    OwnKey {
        revision: read.etcd.revision,
        sent: read.sent,
        received: read.received,
        found: read.own,
        is_of_this_start: read.own == read.own_of_this_start,
        is_of_another_boot: read.own_of_another_boot,
        unused: unused_key(read),
        is_full: false,
    }
}

impl ClusterMember {
    /// Takes in a linearizable read of all members.
    pub(super) fn on_members_read(&mut self, ctx: &mut Ctx, node: NodeView, mut read: MembersRead) {
        if !self.evaluate_etcd(ctx, node, &mut read) {
            return;
        }
        self.observe(&mut read, ctx.now.boot);
        let own_key = OwnKey {
            is_full: self.nodes.len() >= NODES_MAX,
            ..own_key(&read)
        };
        self.ownership.on_own_key_read(&own_key, ctx.now.boot);
        self.take_steps(ctx, node);
        self.events.push_back(ClusterEvent::MembersRead);
    }

    /// Renews the lease by a read, before deadlines are checked: the step may be late, and the lease have been renewed in time.
    pub(crate) fn renew_first(&mut self, ctx: &mut Ctx, node: NodeView, read: &MembersRead) {
        if self.trust.takes(read) {
            self.ownership.renew(&own_key(read), ctx.now.boot);
            self.take_steps(ctx, node);
        }
    }

    pub(super) fn request_join(
        &mut self,
        ctx: &mut Ctx,
        node: NodeView,
        give_up: Option<Incarnation>,
    ) {
        let mut mode = mode_to_publish(node.mode);
        if mode == Mode::Normal && self.ownership.has_claims_to_migrate() {
            // Normal is published as soon as its claims are written anew.
            mode = Mode::Initial;
        }
        self.publication.joining(mode);
        let reads_claims = node.sync.untracked() == Some(&UntrackedIncarnations::Unread);
        ctx.request_etcd(EtcdRequest::Join {
            mode,
            give_up,
            reads_claims,
        });
    }

    /// Takes in that the member key was written.
    pub(crate) fn on_joined(&mut self, ctx: &mut Ctx, node: NodeView, incarnation: Incarnation) {
        self.ownership.on_key_written(incarnation);
        self.take_steps(ctx, node);
    }

    /// Takes in that the member key was not written.
    pub(super) fn on_join_failed(&mut self, why: String) {
        // If not, this is the late response to an earlier request.
        if self.ownership.on_join_failed() {
            self.problem = Some(why);
            self.publication.not_joined();
        }
    }

    /// Follows the new member key, which was written together with the node's mode.
    pub(super) fn published_with_key(&mut self, ctx: &mut Ctx, node: NodeView) {
        let published = self.publication.joined();
        self.published_load = None;
        if let Some(mode) = published {
            self.answer_published(ctx, node, mode);
        }
    }

    /// The lease begins: a read that was sent after the key was written shows it.
    pub(super) fn on_activated(&mut self, ctx: &mut Ctx, node: NodeView, is_first: bool) {
        self.renewed_at = Some(ctx.now.wall);
        self.trust.store(ctx, 0);
        if is_first {
            self.set_membership(ctx, Membership::Joined);
        }
        self.check_lease(ctx, node);
        self.set_membership_timer(ctx);
    }

    /// Does everything that waited for a read, since etcd answers.
    pub(crate) fn after_members_read(&mut self, ctx: &mut Ctx, node: NodeView) {
        self.check_untracked(ctx, node);
        // If its name is in use, this node may be a copy: the claims are those of the node that has the name.
        if self.incarnation().is_some() || !self.nodes.contains_key(&self.node_name) {
            self.releases.retry(ctx);
        }
        self.retry_deferred_claims(ctx);
        self.retry_explaining(ctx, node);
        self.claim_unclaimed(ctx, node);
        self.publish_load(ctx, node);
        self.publication.try_again();
        self.publish_mode(ctx, node.mode);
    }

    fn publish_load(&mut self, ctx: &mut Ctx, node: NodeView) {
        let now = ctx.now.boot;
        let load = Load {
            connections: node.sessions.connection_count(),
            sessions: node.sessions.session_count(),
            limit: self.max_connections,
            is_leaving: node.is_leaving,
        };
        let Some(by) = self.incarnation() else {
            return;
        };
        let is_due = self.published_load.is_none_or(|(at, before)| {
            before.is_leaving != load.is_leaving
                || before != load && now.saturating_sub(at) >= LOAD_PAUSE
        });
        if is_due {
            self.published_load = Some((now, load));
            ctx.request_etcd(EtcdRequest::PublishLoad { by, load });
        }
    }
}
