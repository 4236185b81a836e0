//! Ownership, which safety rests on: the node's lease, its member key, and the channels that it owns under them.
//!
//! Decisions alone: the gate takes the [steps](OwnershipStep) that follow. No channel may be served twice, in any order of answers, late or lost.

mod migrate;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::Mode;

use crate::cluster::claim::ClaimReply;
use crate::cluster::claim_outcome::{ClaimOutcome, Claimant, evaluate_reply};
use crate::cluster::departures::{DepartedMembers, PresentMembers};
use crate::cluster::lease::{OwnershipLease, Remaining, Renewal};
use crate::cluster::migration::ClaimMigration;
use crate::cluster::previous::{Join, PreviousIncarnation, PreviousSessions, how_to_join};
use crate::cluster::{FenceAfter, Incarnation, LeaseTerms, Token};
use crate::fault::{Fault, PlantedFault};

use super::incarnations::OwnIncarnations;
use super::member_key::{MemberState, OwnKey};
use super::ownership_steps::OwnershipStep;

/// Lease and member key of the node, and the channels that it owns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ownership {
    terms: LeaseTerms,
    state: MemberState,
    lease: Option<OwnershipLease>,
    /// Its previous incarnation, while it is no member.
    previous: Option<PreviousIncarnation>,
    incarnations: OwnIncarnations,
    owned: BTreeMap<ChannelId, Token>,
    /// Claims are being rewritten: the next request waits for the reply.
    is_migrating: bool,
    departures: DepartedMembers,
    /// Steps that the gate has not taken yet.
    steps: VecDeque<OwnershipStep>,
    fault: PlantedFault,
}

impl Ownership {
    /// Restores the stored ownership at a start.
    pub fn new(
        terms: LeaseTerms,
        previous: Option<PreviousIncarnation>,
        owned: impl IntoIterator<Item = (ChannelId, Token)>,
        fault: PlantedFault,
    ) -> Self {
        Self {
            terms,
            state: MemberState::Left,
            lease: None,
            incarnations: OwnIncarnations::of(previous.map(|previous| previous.incarnation)),
            previous,
            owned: owned.into_iter().collect(),
            is_migrating: false,
            departures: DepartedMembers::new(fault),
            steps: VecDeque::new(),
            fault,
        }
    }

    /// Takes out the next step.
    pub fn next_step(&mut self) -> Option<OwnershipStep> {
        self.steps.pop_front()
    }

    /// Returns the incarnation that the node may write as.
    pub fn incarnation(&self) -> Option<Incarnation> {
        let lease = self.lease.as_ref().filter(|_| self.is_active())?;
        Some(lease.incarnation()).filter(|it| *it != Incarnation::OF_ANOTHER_HISTORY)
    }

    /// Returns whether the lease is that of the member key.
    pub const fn is_active(&self) -> bool {
        matches!(self.state, MemberState::Active)
    }

    /// Returns the incarnation that the mode is published as: that of the lease, or the one that is about to have it.
    pub fn published_as(&self) -> Option<Incarnation> {
        match self.state {
            MemberState::AwaitingConfirmation(incarnation) => Some(incarnation),
            MemberState::Left
            | MemberState::Joining
            | MemberState::Migrating(_)
            | MemberState::Active => self.incarnation(),
        }
    }

    /// Returns whether the member key is being written.
    const fn is_joining(&self) -> bool {
        matches!(self.state, MemberState::Joining)
    }

    /// Returns whether the member key was written, and its lease has not begun.
    const fn is_key_written(&self) -> bool {
        matches!(
            self.state,
            MemberState::Migrating(_) | MemberState::AwaitingConfirmation(_)
        )
    }

    /// Returns the lease, if there is one.
    pub const fn lease(&self) -> Option<&OwnershipLease> {
        self.lease.as_ref()
    }

    /// Returns whether this is the incarnation of the newest member key.
    pub fn is_key(&self, incarnation: Incarnation) -> bool {
        self.key() == Some(incarnation) || self.fault.is(Fault::ClaimUnderLostKey)
    }

    /// Returns whether this was one of the node's incarnations since the start.
    pub fn was_incarnation(&self, incarnation: Incarnation) -> bool {
        self.incarnations.contains(incarnation)
    }

    /// Returns the token of the claim on a channel.
    pub fn token(&self, channel_id: &ChannelId) -> Option<Token> {
        self.owned.get(channel_id).copied()
    }

    /// The channels that the node owns.
    pub fn channels(&self) -> impl Iterator<Item = &ChannelId> {
        self.owned.keys()
    }

    /// Number of these channels.
    pub fn channel_count(&self) -> usize {
        self.owned.len()
    }

    /// Members that were seen to be gone.
    pub const fn departures(&self) -> &DepartedMembers {
        &self.departures
    }

    /// Notes that an operator has purged an incarnation.
    pub fn purge(&mut self, incarnation: Incarnation) {
        self.departures.purge(incarnation);
    }

    /// Takes in which members a linearizable read shows.
    pub fn observe(&mut self, members: PresentMembers) {
        self.departures.observe(members);
    }

    /// Time that the lease still runs; `None` is without end.
    pub fn valid_for(&self, now: Duration) -> Option<Duration> {
        match self.lease.as_ref().map(|lease| lease.remaining(now)) {
            None | Some(Remaining::Expired) => Some(Duration::ZERO),
            Some(Remaining::For(_)) if self.fault.is(Fault::LeaseWithoutEnd) => None,
            Some(Remaining::For(time)) => Some(time),
            Some(Remaining::Unlimited) => None,
        }
    }

    /// Returns whether new channels may be claimed.
    pub fn may_claim(&self, now: Duration) -> bool {
        self.is_active()
            && self
                .lease
                .as_ref()
                .is_some_and(|lease| lease.may_claim(now))
    }

    /// Returns the newest member key, as far as the node knows.
    fn key(&self) -> Option<Incarnation> {
        match &self.state {
            MemberState::Migrating(migration) => Some(migration.next()),
            MemberState::AwaitingConfirmation(incarnation) => Some(*incarnation),
            MemberState::Active | MemberState::Joining | MemberState::Left => {
                self.lease.as_ref().map(OwnershipLease::incarnation)
            }
        }
    }

    /// Takes in what a read of the members shows of the node's own key.
    pub fn on_own_key_read(&mut self, read: &OwnKey, now: Duration) {
        // The answer to a request to join was lost: no other node wrote this key.
        if let Some(own) = read.found.filter(|_| read.is_of_this_start)
            && !self.was_incarnation(own)
            && !self.is_joining()
        {
            self.on_key_written(own);
        }
        // A key is created at the revision that is its incarnation: an earlier read, answered late, says nothing of it.
        if self
            .key()
            .is_some_and(|Incarnation(created)| read.revision < created)
        {
            return;
        }
        match &self.state {
            MemberState::Joining => {}
            MemberState::Left => self.join(read),
            MemberState::Active if read.found == self.key() => self.renew(read, now),
            MemberState::Active => self.order_join(read.unused),
            MemberState::Migrating(migration) if read.found == Some(migration.next()) => {
                self.migrate();
            }
            MemberState::AwaitingConfirmation(incarnation) if read.found == Some(*incarnation) => {
                self.activate(*incarnation, read.sent);
            }
            MemberState::Migrating(_) | MemberState::AwaitingConfirmation(_) => {
                self.abort_join();
                self.on_own_key_read(read, now);
            }
        }
    }

    /// Renews the lease by a read that shows its key; any other changes nothing.
    pub fn renew(&mut self, read: &OwnKey, now: Duration) {
        let is_shown = self.is_active() && read.found == self.key();
        let Some(lease) = self.lease.as_mut().filter(|_| is_shown) else {
            return;
        };
        let received = read.received.min(now);
        let sent = if self.fault.is(Fault::LeaseFromAnswer) {
            received
        } else {
            read.sent
        };
        match lease.renew(sent, received) {
            Renewal::Renewed => self.steps.push_back(OwnershipStep::Renewed),
            Renewal::Expired => self.give_up(),
        }
    }

    fn join(&mut self, read: &OwnKey) {
        match (how_to_join(self.previous, read.found), read.found) {
            // The key of a restarted machine expires. One that does not is of a node that runs, and this state is a copy of that node's.
            (Join::Adopt(holder) | Join::GiveUp(holder), _) if read.is_of_another_boot => {
                self.steps.push_back(OwnershipStep::NameInUse(holder));
            }
            (Join::EndSessions, _) if self.fault.is(Fault::JoinWithoutEnding) => {
                self.previous = self.previous.map(|previous| PreviousIncarnation {
                    sessions: PreviousSessions::Ended,
                    ..previous
                });
                self.incarnations.end_all();
            }
            (Join::EndSessions, found) => {
                self.give_up();
                let earlier = self.previous.map(|previous| previous.incarnation);
                if let Some(own) = found.filter(|it| earlier == Some(*it) || read.unused == found) {
                    self.steps.push_back(OwnershipStep::Leave(own));
                }
            }
            (Join::NameInUse, _) if read.unused.is_some() => self.order_join(read.unused),
            (Join::NameInUse, Some(holder)) => {
                self.steps.push_back(OwnershipStep::NameInUse(holder));
            }
            (Join::Adopt(incarnation), _) => self.activate(incarnation, read.sent),
            (Join::Create | Join::Migrate, _) if read.is_full => {
                self.steps.push_back(OwnershipStep::ClusterFull);
            }
            (Join::GiveUp(incarnation), _) => self.order_join(Some(incarnation)),
            (Join::Create | Join::Migrate | Join::NameInUse, _) => self.order_join(None),
        }
    }

    fn order_join(&mut self, give_up: Option<Incarnation>) {
        self.state = MemberState::Joining;
        self.steps.push_back(OwnershipStep::Join { give_up });
    }

    /// Begins the lease of a key that a read showed which was sent then.
    fn activate(&mut self, incarnation: Incarnation, sent: Duration) {
        let lease = OwnershipLease::begin(incarnation, self.terms, sent);
        let before = self.lease.replace(lease);
        self.state = MemberState::Active;
        self.previous = None;
        self.incarnations.add(incarnation);
        let is_first = before.is_none();
        self.steps
            .push_back(OwnershipStep::StoreMember(incarnation));
        self.steps.push_back(OwnershipStep::Activated { is_first });
    }

    /// Takes in that the member key was not written; returns false if another answer came before.
    pub fn on_join_failed(&mut self) -> bool {
        if self.is_key_written() {
            return false;
        }
        self.abort_join();
        true
    }

    /// Takes in that the key is not there, or was not written: the next read decides again.
    fn abort_join(&mut self) {
        if !matches!(self.state, MemberState::Active | MemberState::Left) {
            self.leave_key();
        }
    }

    fn leave_key(&mut self) {
        self.state = if self.lease.is_some() {
            MemberState::Active
        } else {
            MemberState::Left
        };
    }

    /// Takes in that the member key was written; the late answer to an earlier order changes nothing.
    pub fn on_key_written(&mut self, incarnation: Incarnation) {
        if !self.incarnations.add(incarnation) || self.is_key_written() {
            return;
        }
        if let (MemberState::Left, Some(previous)) = (&self.state, &mut self.previous)
            && !previous.has_sessions()
        {
            // The lease ended meanwhile: this key is given up with it.
            previous.incarnation = previous.incarnation.max(incarnation);
            return;
        }
        self.steps.push_back(OwnershipStep::KeyWritten);
        if !self.may_serve() || self.fault.is(Fault::LeaseBeforeMigration) {
            self.state = MemberState::AwaitingConfirmation(incarnation);
            return self.steps.push_back(OwnershipStep::ReadMembers);
        }
        let migration = ClaimMigration::new(incarnation, self.owned.clone());
        self.state = MemberState::Migrating(migration);
        if self.fault.is(Fault::StoredBeforeMigration) {
            self.steps
                .push_back(OwnershipStep::StoreMember(incarnation));
        }
        self.migrate();
    }

    /// Evaluates etcd's reply about a channel under a mode.
    pub fn evaluate_reply(
        &mut self,
        reply: ClaimReply,
        mode: Mode,
        now: Duration,
    ) -> Option<ClaimOutcome> {
        let claimant = Claimant {
            lease: self.lease.as_ref()?,
            mode,
            ended_incarnations: self.incarnations.ended(),
            fault: self.fault,
        };
        Some(evaluate_reply(reply, claimant, &mut self.departures, now))
    }

    /// Takes in that the node owns a channel.
    pub fn on_acquired(&mut self, channel_id: ChannelId, token: Token) {
        self.owned.insert(channel_id, token);
    }

    /// Takes in a claim that was won after the client had stopped waiting.
    pub fn on_stale_claim(&mut self, by: Incarnation, channel: ChannelId, token: Token) {
        // One that was won in another history is not there any more.
        if self.was_incarnation(by) && self.token(&channel).is_none() {
            self.steps.push_back(OwnershipStep::Release(channel, token));
        }
    }

    /// Takes in that a channel's session has ended: its claim is released.
    pub fn end_session(&mut self, channel: &ChannelId) {
        if let Some(token) = self.owned.remove(channel) {
            let unclaimed = OwnershipStep::StoreUnclaimed(channel.clone());
            let release = OwnershipStep::Release(channel.clone(), token);
            self.steps.extend([unclaimed, release]);
        }
        if let MemberState::Migrating(migration) = &mut self.state {
            migration.end_channel(channel);
        }
        self.finish_migration();
    }

    /// Gives up the lease: sessions served under it must end, and be known to have ended, before the node joins again.
    pub fn give_up(&mut self) {
        let key = self
            .key()
            .or_else(|| self.previous.map(|previous| previous.incarnation));
        self.lease = None;
        self.state = MemberState::Left;
        self.previous = key.map(|incarnation| PreviousIncarnation {
            incarnation,
            fence_after: self.terms.fence_after,
            sessions: PreviousSessions::Ending,
        });
        self.steps.push_back(OwnershipStep::EndAllSessions);
    }

    /// Takes in that every session of the node has ended: it may join anew, and releases what is left of its claims.
    pub fn end_incarnations(&mut self) {
        if let Some(previous) = &mut self.previous {
            previous.sessions = PreviousSessions::Ended;
        }
        self.incarnations.end_all();
        let owned: Vec<ChannelId> = self.owned.keys().cloned().collect();
        for channel in &owned {
            self.end_session(channel);
        }
        self.steps.push_back(OwnershipStep::ReadMembers);
    }

    /// Ends the previous incarnation after a restart of the machine. Returns whether there was one.
    pub fn end_previous(&mut self) -> bool {
        let Some(previous) = &mut self.previous else {
            return false;
        };
        previous.sessions = PreviousSessions::Ended;
        self.incarnations.end_all();
        true
    }

    /// Forgets an ended history of etcd: its revisions mean nothing in the next one. Returns the expiry that the node promised in it.
    pub fn leave_history(&mut self) -> Option<FenceAfter> {
        self.departures = DepartedMembers::new(self.fault);
        self.incarnations.clear();
        if let Some(lease) = &mut self.lease {
            lease.leave_history();
        }
        if let Some(previous) = &mut self.previous {
            previous.incarnation = Incarnation::OF_ANOTHER_HISTORY;
        }
        if !self.is_joining() {
            self.leave_key();
        }
        self.lease
            .as_ref()
            .map(|lease| lease.terms().fence_after)
            .or(self.previous.map(|previous| previous.fence_after))
    }
}
