//! Into the cluster, and on in it: what a read of all members means for the node's own place.

use std::time::Duration;

use soramode_protocol::mode::Mode;
use soramode_protocol::node::Membership;

use crate::cluster::Incarnation;
use crate::cluster::gone::Roll;
use crate::ctx::Ctx;
use crate::effect::Record;
use crate::node::Node;
use crate::snapshot::StoredMember;
use crate::sync::UntrackedIncarnations;

use super::Member;
use super::etcd::{EtcdRequest, Load, MembershipView, NodeRecord};
use super::ownership_steps::{KeyWritten, NextStep, OwnKey};

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
    fn name_in_use(&mut self, holder: Incarnation, now: Duration) -> String {
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
        // The answer to an order to join was lost: nobody else wrote this key.
        let is_lost_reply = looked.own.is_some() && looked.own == looked.own_of_this_start;
        if let Some(own) = looked.own.filter(|own| {
            is_lost_reply && !member.ownership.was(*own) && !member.ownership.is_joining()
        }) {
            self.joined(ctx, Ok(own));
        }
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
        let next = member.ownership.on_own_key_read(&read, now);
        self.follow_own_key(ctx, next);
    }

    fn follow_own_key(&mut self, ctx: &mut Ctx, next: NextStep) {
        let now = ctx.now;
        match next {
            NextStep::Wait => {}
            NextStep::Renewed => {
                if let Some(member) = self.member() {
                    member.renewed_at = Some(now.wall);
                }
                self.watch_right(ctx);
                self.set_membership_timer(ctx);
            }
            NextStep::Fence => self.fence_all(ctx),
            NextStep::Activated {
                incarnation,
                is_first,
            } => self.enter(ctx, incarnation, is_first),
            NextStep::Join { give_up } => self.order_join(ctx, give_up),
            NextStep::NameInUse(holder) => {
                if let Some(member) = self.member() {
                    let why = member.name_in_use(holder, now.boot);
                    member.problem = Some(why);
                }
            }
            NextStep::ClusterFull => self.note_problem(format!(
                "the cluster already has {NODES_MAX} nodes, the maximum"
            )),
            NextStep::Migrate => self.readopt_rest(ctx),
        }
    }

    /// Before a deadline is looked at: the daemon may have been held up, and the right have been renewed meanwhile.
    pub(crate) fn renew_first(&mut self, ctx: &mut Ctx, looked: &MembershipView) {
        let now = ctx.now.boot;
        let Some(member) = self.member() else { return };
        if member.ownership.is_confirmed_by(looked.own) && member.trust.takes(looked) {
            let next = member.ownership.renew(&own_key(looked), now);
            self.follow_own_key(ctx, next);
        }
    }

    fn order_join(&mut self, ctx: &mut Ctx, give_up: Option<Incarnation>) {
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
        let incarnation = match joined {
            Ok(incarnation) => incarnation,
            // An earlier order's answer, that came late.
            Err(_) if member.ownership.is_key_written() => return,
            Err(why) => {
                member.problem = Some(why);
                member.publication.not_joined();
                return member.ownership.abort_join();
            }
        };
        let next = member.ownership.on_key_written(incarnation);
        if next == KeyWritten::Ignored {
            return;
        }
        let published = member.publication.joined();
        member.told = None;
        if let Some(mode) = published {
            self.answer_published(ctx, mode);
        }
        match next {
            KeyWritten::Ignored => {}
            KeyWritten::Migrate => self.readopt_rest(ctx),
            KeyWritten::ReadMembers => Self::order(ctx, EtcdRequest::ReadMembers),
        }
    }

    /// A read that was sent then shows the node's own key: its right begins.
    fn enter(&mut self, ctx: &mut Ctx, incarnation: Incarnation, is_first: bool) {
        let wall = ctx.now.wall;
        let Some(member) = self.member() else { return };
        let terms = member.settings.terms;
        member.renewed_at = Some(wall);
        let has_untracked = self.sync.untracked().is_some();
        let stored = StoredMember {
            incarnation,
            fence_after: terms.fence_after,
            has_untracked,
        };
        ctx.effects.records.push(Record::Member(Some(stored)));
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
