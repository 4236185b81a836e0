//! Into the cluster, and on in it: what a read of all members means for the node's own place.

use std::time::Duration;

use soramode_protocol::mode::Mode;
use soramode_protocol::node::Membership;

use crate::cluster::Incarnation;
use crate::cluster::gone::Roll;
use crate::ctx::Ctx;
use crate::node::Node;
use crate::sync::UntrackedIncarnations;

use super::Member;
use super::etcd::{EtcdRequest, Load, MembershipView, NodeRecord};
use super::ownership_steps::OwnKey;

/// Nodes in one cluster at most.
pub const NODES_MAX: usize = 100;

/// The others are told at most this often how full the node is.
pub const TELL_PAUSE: Duration = Duration::from_secs(5);

impl Member {
    /// Takes in who is there and who is not.
    fn see(&mut self, looked: &mut MembershipView, received: Duration) {
        let nodes = std::mem::take(&mut looked.nodes);
        let present = nodes.iter().map(|node| node.incarnation).collect();
        self.ownership.observe(Roll {
            revision: looked.etcd.revision,
            present,
            received,
        });
        for incarnation in looked.purged.drain(..) {
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
                self.lose(name, node.incarnation);
            }
        }
        self.lost.retain(|name, incarnation| {
            !self.nodes.contains_key(name) && !self.ownership.departures().is_purged(*incarnation)
        });
        self.epoch = looked.etcd.configuration.as_ref().map_or(0, |it| it.epoch);
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
fn unused_key(looked: &MembershipView) -> Option<Incarnation> {
    looked
        .own
        .filter(|own| looked.own_of_this_boot == Some(*own))
}

/// Returns what a read shows of the node's own key.
fn own_key(looked: &MembershipView) -> OwnKey {
    OwnKey {
        revision: looked.etcd.revision,
        sent: looked.sent,
        received: looked.received,
        found: looked.own,
        is_of_this_start: looked.own == looked.own_of_this_start,
        unused: unused_key(looked),
        is_full: false,
    }
}

impl Node {
    /// A linearizable read of all members was answered.
    pub(super) fn looked(&mut self, ctx: &mut Ctx, mut looked: MembershipView) {
        if !self.trusts(ctx, &mut looked) {
            return;
        }
        let Some(member) = self.member() else { return };
        member.see(&mut looked, ctx.now.boot);
        self.go_on(ctx, &looked);
        self.follow_look(ctx);
    }

    /// Takes in what the read shows of the node's own key.
    fn go_on(&mut self, ctx: &mut Ctx, looked: &MembershipView) {
        let now = ctx.now.boot;
        let Some(member) = self.member() else { return };
        let read = OwnKey {
            is_full: member.nodes.len() >= NODES_MAX,
            ..own_key(looked)
        };
        member.ownership.on_own_key_read(&read, now);
        self.take_steps(ctx);
    }

    /// Before a deadline is looked at: the daemon may have been held up, and the right have been renewed meanwhile.
    pub(crate) fn renew_first(&mut self, ctx: &mut Ctx, looked: &MembershipView) {
        let now = ctx.now.boot;
        let Some(member) = self.member() else { return };
        if member.trust.takes(looked) {
            member.ownership.renew(&own_key(looked), now);
            self.take_steps(ctx);
        }
    }

    pub(super) fn order_join(&mut self, ctx: &mut Ctx, give_up: Option<Incarnation>) {
        let mode = self.mode_to_publish();
        if let Some(member) = self.member() {
            member.publication.joining(mode);
        }
        let reads_claims = self.sync.untracked() == Some(&UntrackedIncarnations::Unread);
        Self::order(
            ctx,
            EtcdRequest::Join {
                mode,
                give_up,
                reads_claims,
            },
        );
    }

    /// The member key was written, or not.
    pub(super) fn joined(&mut self, ctx: &mut Ctx, joined: Result<Incarnation, String>) {
        let Some(member) = self.member() else { return };
        match joined {
            Ok(incarnation) => {
                member.ownership.on_key_written(incarnation);
                self.take_steps(ctx);
            }
            // An earlier order's answer, that came late.
            Err(_) if !member.ownership.on_join_failed() => {}
            Err(why) => {
                member.problem = Some(why);
                member.publication.not_joined();
            }
        }
    }

    /// The member key holds the node's mode.
    pub(super) fn key_written(&mut self, ctx: &mut Ctx) {
        let Some(member) = self.member() else { return };
        let published = member.publication.joined();
        member.told = None;
        if let Some(mode) = published {
            self.answer_published(ctx, mode);
        }
    }

    /// A read that was sent then shows the node's own key: its right begins.
    pub(super) fn activated(&mut self, ctx: &mut Ctx, is_first: bool) {
        if let Some(member) = self.member() {
            member.renewed_at = Some(ctx.now.wall);
        }
        self.store_known(ctx, 0);
        if is_first {
            self.set_membership(ctx, Membership::Joined);
        }
        self.watch_right(ctx);
        self.set_membership_timer(ctx);
    }

    /// Does what waited for a read, since etcd answers.
    fn follow_look(&mut self, ctx: &mut Ctx) {
        self.check_untracked(ctx);
        self.retry_releases(ctx);
        self.ask_again(ctx);
        self.explain_again(ctx);
        self.claim_unclaimed(ctx);
        self.tell(ctx);
        if let Some(member) = self.member() {
            member.publication.try_again();
        }
        self.publish(ctx);
    }

    fn tell(&mut self, ctx: &mut Ctx) {
        let now = ctx.now.boot;
        let load = Load {
            connections: self.sessions.connection_count(),
            sessions: self.sessions.session_count(),
            limit: self.settings.max_connections,
        };
        let Some(member) = self.member() else { return };
        let Some(by) = member.incarnation() else {
            return;
        };
        let is_new = member
            .told
            .is_none_or(|(at, told)| told != load && now.saturating_sub(at) >= TELL_PAUSE);
        if is_new {
            member.told = Some((now, load));
            Self::order(ctx, EtcdRequest::PublishLoad { by, load });
        }
    }

    /// Returns the mode that the other nodes are to know: a node that is `initial` because it was isolated goes back to `normal`.
    pub(super) fn mode_to_publish(&self) -> Mode {
        match self.mode.mode() {
            Mode::Initial => Mode::Normal,
            mode @ (Mode::Normal | Mode::BlockNewSession | Mode::BlockNewConnection) => mode,
        }
    }
}
