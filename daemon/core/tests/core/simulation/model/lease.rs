//! The node in its cluster: its lease by the clock alone, and the channels that it has claimed.

use std::collections::BTreeSet;
use std::time::Duration;

use soramode_core::cluster::{FenceAfter, LeaseTerms};
use soramode_protocol::error::Error;
use soramode_protocol::event::EndReason;
use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::Membership;

use super::Model;

/// The node's lease and claims in its cluster.
#[expect(clippy::struct_excessive_bools, reason = "each fact has a name")]
pub(super) struct Lease {
    /// When the lease was renewed last, while it runs.
    pub(super) renewed_at: Option<Duration>,
    /// The SFU is to end everything before the node joins again.
    pub(super) is_fencing: bool,
    /// The node joins at the end of this step.
    pub(super) joins: bool,
    /// Claims of an earlier run may be in etcd: nobody has looked.
    pub(super) untracked: bool,
    /// That, as it is stored.
    pub(super) untracked_stored: bool,
    /// The mode that the other nodes know of.
    pub(super) published: Mode,
    /// It goes on with its member key of before it started.
    pub(super) adopts: bool,
    /// It gave its member key up, as it was fenced.
    pub(super) has_left: bool,
    /// Its sessions outlive their lease, and end before it joins.
    pub(super) must_end: bool,
    /// Channels that the node has claimed.
    pub(super) claims: BTreeSet<ChannelId>,
}

impl Lease {
    pub(super) fn new(clustered: bool) -> Self {
        Self {
            renewed_at: None,
            is_fencing: false,
            joins: false,
            untracked: clustered,
            untracked_stored: clustered,
            published: Mode::Initial,
            adopts: false,
            has_left: false,
            must_end: false,
            claims: BTreeSet::new(),
        }
    }
}

impl Model {
    fn terms(&self) -> Option<LeaseTerms> {
        self.settings.cluster.as_ref().map(|cluster| cluster.terms)
    }

    /// The membership that the lease gives at this moment.
    fn membership_now(&self) -> Option<Membership> {
        let (terms, age) = (
            self.terms()?,
            self.now.boot.saturating_sub(self.lease.renewed_at?),
        );
        Some(match terms.fence_after {
            FenceAfter::After(time) if age >= time => Membership::Fenced,
            _ if age >= terms.isolated_after => Membership::Isolated,
            _ => Membership::Joined,
        })
    }

    /// A lease that is over stays over.
    pub(super) fn renew(&mut self) {
        if self
            .membership_now()
            .is_some_and(|it| it != Membership::Fenced)
        {
            self.lease.renewed_at = Some(self.now.boot);
        }
    }

    pub(super) fn look_at_lease(&mut self) {
        let Some(membership) = self.membership_now() else {
            return;
        };
        self.set_membership(membership);
        if membership == Membership::Fenced {
            self.lease.renewed_at = None;
            self.lease.is_fencing = true;
            if self.sessions.is_empty() && self.is_known() {
                self.sessions_ended();
            }
        }
    }

    /// The members are read.
    pub(super) fn heartbeat(&mut self) {
        if self.lease.renewed_at.is_some() {
            self.claim_sessions();
        } else if self.lease.is_fencing {
            self.lease.has_left = true;
        } else if std::mem::take(&mut self.lease.must_end) {
            self.lease.is_fencing = true;
            if self.sessions.is_empty() && self.is_known() {
                self.sessions_ended();
            }
        } else {
            self.lease.joins = true;
        }
    }

    fn join(&mut self) {
        self.lease.has_left = false;
        if !std::mem::take(&mut self.lease.adopts) {
            self.lease.published = self.mode_to_publish();
        }
        self.end_untracked();
        self.look_at_waits();
        self.lease.untracked_stored = false;
        self.lease.renewed_at = Some(self.now.boot);
        self.set_membership(Membership::Joined);
        self.claim_sessions();
    }

    /// A node that is open claims the channels of sessions that were reported to it.
    fn claim_sessions(&mut self) {
        if self.may_claim() {
            let channels = self.sessions.iter().map(|it| it.channel_id.clone());
            self.lease.claims.extend(channels);
        }
    }

    fn may_claim(&self) -> bool {
        self.membership == Membership::Joined
            && self.mode.mode == Mode::Normal
            && self.lease.published == Mode::Normal
    }

    /// A node that was only cut off becomes normal again.
    fn mode_to_publish(&self) -> Mode {
        match self.mode.mode {
            Mode::Initial => Mode::Normal,
            mode => mode,
        }
    }

    /// After all else in a step the node joins, if it can, and the others are told of its mode.
    pub(super) fn end_step(&mut self) {
        if std::mem::take(&mut self.lease.joins) {
            self.join();
            self.look_at_waits();
        }
        if self.lease.renewed_at.is_some() {
            self.lease.published = self.mode_to_publish();
        }
    }

    /// The SFU serves nobody any more.
    pub(super) fn sessions_ended(&mut self) {
        self.lease.is_fencing = false;
        for id in self.ids(|_| true) {
            self.end(&id, EndReason::SessionDestroyed);
        }
        while let Some(session) = self.sessions.first() {
            let number = session.number;
            self.destroy(number);
        }
        self.lease.claims.clear();
        self.lease.adopts = false;
        self.lease.joins = true;
    }

    /// The channel has no session any more.
    pub(super) fn release(&mut self, channel: &ChannelId) {
        if self.session_on(channel).is_none() {
            self.lease.claims.remove(channel);
        }
    }

    /// A new connection that this node would let in needs a claim on the channel.
    pub(super) fn claim(&mut self, channel: &ChannelId) -> Result<(), Error> {
        if self.settings.cluster.is_none() || self.lease.claims.contains(channel) {
            return Ok(());
        }
        if !self.may_claim() {
            return Err(Error::cluster_unavailable(""));
        }
        self.lease.claims.insert(channel.clone());
        Ok(())
    }

    /// Returns whether the node cannot claim the channel as things are, though this mode lets somebody in.
    pub(super) fn is_cut_off(&self, mode: Mode, channel: &ChannelId) -> bool {
        let is_unheard = self.membership == Membership::Joined
            && (mode, self.mode.mode) == (Mode::Normal, Mode::Normal)
            && self.lease.published != Mode::Normal;
        (self.membership == Membership::Isolated || is_unheard)
            && !self.lease.claims.contains(channel)
    }

    pub(super) fn is_known(&self) -> bool {
        self.known && !self.lease.untracked
    }

    /// No session of an earlier run is served any more, or all of them are known.
    pub(super) fn end_untracked(&mut self) {
        if std::mem::take(&mut self.lease.untracked) {
            self.emit_vanished();
        }
    }
}
