//! Into the cluster, and on in it: what a read of all members means for the node's own place.

use std::time::Duration;

use soramode_protocol::mode::Mode;
use soramode_protocol::node::Membership;

use crate::cluster::gone::Roll;
use crate::cluster::join::{Join, Past, PastSessions, how_to_join};
use crate::cluster::readopt::Readoption;
use crate::cluster::right::{Renewal, Right};
use crate::cluster::{FenceAfter, Incarnation};
use crate::effect::Record;
use crate::gate::{Ctx, Gate};
use crate::known::UntrackedIncarnations;
use crate::snapshot::StoredMember;

use super::etcd::{EtcdRequest, Load, MembershipView, NodeRecord};
use super::{Member, Place};

/// Nodes in one cluster at most.
pub const NODES_MAX: usize = 100;

/// The others are told at most this often how full the node is.
pub const TELL_PAUSE: Duration = Duration::from_secs(5);

impl Member {
    /// Takes in who is there and who is not.
    fn see(&mut self, looked: &mut MembershipView, received: Duration) {
        let nodes = std::mem::take(&mut looked.nodes);
        let present = nodes.iter().map(|node| node.incarnation).collect();
        self.gone.saw(Roll {
            revision: looked.etcd.revision,
            present,
            received,
        });
        for incarnation in looked.purged.drain(..) {
            self.gone.purge(incarnation);
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
            !self.nodes.contains_key(name) && !self.gone.is_purged(*incarnation)
        });
        self.epoch = looked.etcd.configuration.as_ref().map_or(0, |it| it.epoch);
        self.problem = None;
    }

    /// Whether the node's key is to hold what an earlier one held.
    fn holds(&self) -> bool {
        self.right.is_some()
            || self
                .past
                .is_some_and(|past| past.sessions == PastSessions::Running)
    }

    /// The key is not there, or was not written: the next look decides anew.
    pub(super) fn step_back(&mut self) {
        if !matches!(self.place, Place::In | Place::Out) {
            self.place = if self.right.is_some() {
                Place::In
            } else {
                Place::Out
            };
        }
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

    /// Its newest member key, as far as it knows.
    fn key(&self) -> Option<Incarnation> {
        match &self.place {
            Place::Readopting(readoption) => Some(readoption.next()),
            Place::Begun(incarnation) => Some(*incarnation),
            Place::In | Place::Joining | Place::Out => self.right.as_ref().map(Right::incarnation),
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

impl Gate {
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
            is_lost_reply && !member.lives.contains(own) && !matches!(member.place, Place::Joining)
        }) {
            self.joined(ctx, Ok(own));
        }
        self.go_on(ctx, &looked);
        self.follow_look(ctx);
    }

    /// What the read means for the node's place.
    fn go_on(&mut self, ctx: &mut Ctx, looked: &MembershipView) {
        let Some(member) = self.member() else { return };
        // A key is created at the revision that is its incarnation: an earlier read, answered late, says nothing of it.
        if member
            .key()
            .is_some_and(|Incarnation(created)| looked.etcd.revision < created)
        {
            return;
        }
        match &member.place {
            Place::Joining => {}
            Place::Out => self.join(ctx, looked),
            Place::In if looked.own == member.key() => self.renew(ctx, looked),
            Place::In => self.join_again(ctx, looked),
            Place::Readopting(readoption) if looked.own == Some(readoption.next()) => {
                self.readopt_rest(ctx);
            }
            Place::Begun(incarnation) if looked.own == Some(*incarnation) => {
                let incarnation = *incarnation;
                self.enter(ctx, incarnation, looked.sent);
            }
            Place::Readopting(_) | Place::Begun(_) => {
                member.step_back();
                self.go_on(ctx, looked);
            }
        }
    }

    /// Before a deadline is looked at: the daemon may have been held up, and the right have been renewed meanwhile.
    pub(crate) fn renew_first(&mut self, ctx: &mut Ctx, looked: &MembershipView) {
        let Some(member) = self.member() else { return };
        if matches!(member.place, Place::In)
            && looked.own == member.key()
            && looked.own.is_some()
            && member.trust.takes(looked)
        {
            self.renew(ctx, looked);
        }
    }

    fn renew(&mut self, ctx: &mut Ctx, looked: &MembershipView) {
        let (now, wall) = (ctx.now.boot, ctx.now.wall);
        let Some(member) = self.member() else { return };
        let Some(right) = &mut member.right else {
            return;
        };
        match right.confirm(looked.sent, looked.received.min(now)) {
            Renewal::Prolonged => {
                member.renewed_at = Some(wall);
                self.watch_right(ctx);
                self.set_membership_timer(now);
            }
            Renewal::Over => self.fence_all(ctx),
        }
    }

    /// The member key is lost and the right still runs.
    fn join_again(&mut self, ctx: &mut Ctx, looked: &MembershipView) {
        let mode = self.mode_to_publish();
        let give_up = unused_key(looked);
        let Some(member) = self.member() else { return };
        member.place = Place::Joining;
        member.publication.joining(mode);
        self.order_join(ctx, mode, give_up);
    }

    fn join(&mut self, ctx: &mut Ctx, looked: &MembershipView) {
        let mode = self.mode_to_publish();
        let Some(member) = self.member() else { return };
        let give_up = match how_to_join(member.past, looked.own) {
            Join::EndSessions => return self.fence_all(ctx),
            Join::NameInUse if unused_key(looked).is_some() => unused_key(looked),
            Join::NameInUse => {
                let now = ctx.now.boot;
                let why = looked
                    .own
                    .map(|holder| member.name_in_use(holder, now))
                    .unwrap_or_default();
                return self.note_problem(why);
            }
            Join::Adopt(incarnation) => return self.enter(ctx, incarnation, looked.sent),
            Join::Create | Join::Readopt if member.nodes.len() >= NODES_MAX => {
                return self.note_problem(format!(
                    "the cluster already has {NODES_MAX} nodes, the maximum"
                ));
            }
            Join::GiveUp(incarnation) => Some(incarnation),
            Join::Create | Join::Readopt => None,
        };
        member.place = Place::Joining;
        member.publication.joining(mode);
        self.order_join(ctx, mode, give_up);
    }

    fn order_join(&self, ctx: &mut Ctx, mode: Mode, give_up: Option<Incarnation>) {
        let reads_claims = self.known.untracked() == Some(&UntrackedIncarnations::Unread);
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
            Err(_) if matches!(member.place, Place::Readopting(_) | Place::Begun(_)) => return,
            Err(why) => {
                member.problem = Some(why);
                member.publication.not_joined();
                return member.step_back();
            }
        };
        member.lives.push(incarnation);
        if matches!(member.place, Place::Readopting(_) | Place::Begun(_)) {
            return;
        }
        if let (Place::Out, Some(past)) = (&member.place, &mut member.past) {
            // The right ended meanwhile: this key is given up with it.
            past.incarnation = incarnation;
            return;
        }
        let published = member.publication.joined();
        member.told = None;
        if let Some(mode) = published {
            self.answer_published(ctx, mode);
        }
        let Some(member) = self.member() else { return };
        if member.holds() {
            let held = member
                .owned
                .iter()
                .map(|(channel, token)| (channel.clone(), *token));
            member.place = Place::Readopting(Readoption::new(incarnation, held));
            self.readopt_rest(ctx);
        } else {
            member.place = Place::Begun(incarnation);
            Self::order(ctx, EtcdRequest::ReadMembers);
        }
    }

    /// A read that was sent then shows the node's own key: its right begins.
    fn enter(&mut self, ctx: &mut Ctx, incarnation: Incarnation, sent: Duration) {
        let (now, wall) = (ctx.now.boot, ctx.now.wall);
        let Some(member) = self.member() else { return };
        let terms = member.settings.terms;
        let before = member.right.replace(Right::begin(incarnation, terms, sent));
        member.place = Place::In;
        member.past = None;
        member.renewed_at = Some(wall);
        if !member.lives.contains(&incarnation) {
            member.lives.push(incarnation);
        }
        let has_untracked = self.known.untracked().is_some();
        let stored = StoredMember {
            incarnation,
            fence_after: terms.fence_after,
            has_untracked,
        };
        ctx.effects.records.push(Record::Member(Some(stored)));
        self.store_known(ctx, 0);
        if before.is_none() {
            self.set_membership(ctx, Membership::Joined);
        }
        self.watch_right(ctx);
        self.set_membership_timer(now);
    }

    /// The incarnation is given up: what it served must end, and be known to have ended, before the node joins anew.
    pub(super) fn give_up(&mut self) {
        let Some(member) = self.member() else { return };
        let fence_after: FenceAfter = member.settings.terms.fence_after;
        let key = member
            .key()
            .or_else(|| member.past.map(|past| past.incarnation));
        member.right = None;
        member.place = Place::Out;
        member.past = key.map(|incarnation| Past {
            incarnation,
            fence_after,
            sessions: PastSessions::Ending,
        });
    }

    /// What is done after each read, since etcd answers.
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

    /// What the other nodes are to know: a node that is `initial` because it was isolated goes back to `normal`.
    pub(super) fn mode_to_publish(&self) -> Mode {
        match self.mode.mode {
            Mode::Initial => Mode::Normal,
            mode @ (Mode::Normal | Mode::BlockNewSession | Mode::BlockNewConnection) => mode,
        }
    }
}
