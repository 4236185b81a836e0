//! Ownership, which safety rests on: the node's lease, its member key, and the channels that it owns under them.
//!
//! Decisions alone: the gate carries them out, and asks etcd. No channel may be served by two nodes, in any order of answers, late and lost
//! ones among them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::Mode;

use crate::cluster::claim::{Me, Outcome, Reply, judge};
use crate::cluster::gone::{Gone, Roll};
use crate::cluster::join::{Join, Past, PastSessions, how_to_join};
use crate::cluster::readopt::{Readopted, Readoption};
use crate::cluster::right::{Renewal, Right, ValidFor};
use crate::cluster::{FenceAfter, Incarnation, LeaseTerms, Token};

use super::ownership_steps::{KeyWritten, Migration, NextStep, OwnKey};

/// Lease and member key of the node, and the channels that it owns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ownership {
    terms: LeaseTerms,
    state: MemberState,
    lease: Option<Right>,
    /// Its previous incarnation, while it is no member.
    previous: Option<Past>,
    /// Its incarnations since the start, the previous one first.
    incarnations: Vec<Incarnation>,
    /// Those of them without a session that could still be served.
    ended_incarnations: BTreeSet<Incarnation>,
    owned: BTreeMap<ChannelId, Token>,
    /// Claims are being written anew; nothing more is requested before that has come back.
    is_migrating: bool,
    departures: Gone,
}

/// State of the node's member key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum MemberState {
    /// There is none, or none that the node knows to be its own.
    Left,
    /// It is being written. If there is a lease, the key is to hold what that held.
    Joining,
    /// It is there, and claims are being written anew under it.
    Migrating(Readoption),
    /// It is there; its lease begins with the next read that shows it.
    AwaitingConfirmation(Incarnation),
    /// The lease is that of the member key.
    Active,
}

impl Ownership {
    /// At the start, with what was stored.
    pub fn new(
        terms: LeaseTerms,
        previous: Option<Past>,
        owned: impl IntoIterator<Item = (ChannelId, Token)>,
    ) -> Self {
        Self {
            terms,
            state: MemberState::Left,
            lease: None,
            incarnations: previous.iter().map(|past| past.incarnation).collect(),
            previous,
            ended_incarnations: BTreeSet::new(),
            owned: owned.into_iter().collect(),
            is_migrating: false,
            departures: Gone::default(),
        }
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

    /// Returns whether the member key is being written.
    pub const fn is_joining(&self) -> bool {
        matches!(self.state, MemberState::Joining)
    }

    /// Returns whether the member key was written, and its lease has not begun.
    pub const fn is_key_written(&self) -> bool {
        matches!(
            self.state,
            MemberState::Migrating(_) | MemberState::AwaitingConfirmation(_)
        )
    }

    /// The lease, if there is one.
    pub const fn lease(&self) -> Option<&Right> {
        self.lease.as_ref()
    }

    /// Returns whether this is the incarnation of the newest member key.
    pub fn is_key(&self, incarnation: Incarnation) -> bool {
        self.key() == Some(incarnation)
    }

    /// Returns whether this was one of the node's incarnations since the start.
    pub fn was(&self, incarnation: Incarnation) -> bool {
        self.incarnations.contains(&incarnation)
    }

    /// The claim on a channel.
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
    pub const fn departures(&self) -> &Gone {
        &self.departures
    }

    /// Notes an operator's word that an incarnation is over.
    pub fn purge(&mut self, incarnation: Incarnation) {
        self.departures.purge(incarnation);
    }

    /// Takes in which members a linearizable read shows.
    pub fn observe(&mut self, members: Roll) {
        self.departures.saw(members);
    }

    /// Time that the lease still runs; `None` is without end.
    pub fn valid_for(&self, now: Duration) -> Option<Duration> {
        match self.lease.as_ref().map(|lease| lease.valid_for(now)) {
            None | Some(ValidFor::Over) => Some(Duration::ZERO),
            Some(ValidFor::For(time)) => Some(time),
            Some(ValidFor::Always) => None,
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
                self.lease.as_ref().map(Right::incarnation)
            }
        }
    }

    /// Returns whether a read shows the key of the lease.
    pub fn is_confirmed_by(&self, found: Option<Incarnation>) -> bool {
        self.is_active() && found.is_some() && found == self.key()
    }

    /// Takes in what a read of the members shows of the node's own key.
    pub fn on_own_key_read(&mut self, read: &OwnKey, now: Duration) -> NextStep {
        // A key is created at the revision that is its incarnation: an earlier read, answered late, says nothing of it.
        if self
            .key()
            .is_some_and(|Incarnation(created)| read.revision < created)
        {
            return NextStep::Wait;
        }
        match &self.state {
            MemberState::Joining => NextStep::Wait,
            MemberState::Left => self.join(read),
            MemberState::Active if read.found == self.key() => self.renew(read, now),
            MemberState::Active => {
                self.state = MemberState::Joining;
                NextStep::Join {
                    give_up: read.unused,
                }
            }
            MemberState::Migrating(migration) if read.found == Some(migration.next()) => {
                NextStep::Migrate
            }
            MemberState::AwaitingConfirmation(incarnation) if read.found == Some(*incarnation) => {
                self.activate(*incarnation, read.sent)
            }
            MemberState::Migrating(_) | MemberState::AwaitingConfirmation(_) => {
                self.abort_join();
                self.on_own_key_read(read, now)
            }
        }
    }

    /// Renews the lease by a read that showed its key.
    pub fn renew(&mut self, read: &OwnKey, now: Duration) -> NextStep {
        let Some(lease) = &mut self.lease else {
            return NextStep::Wait;
        };
        match lease.confirm(read.sent, read.received.min(now)) {
            Renewal::Prolonged => NextStep::Renewed,
            Renewal::Over => NextStep::Fence,
        }
    }

    fn join(&mut self, read: &OwnKey) -> NextStep {
        let give_up = match (how_to_join(self.previous, read.found), read.found) {
            (Join::EndSessions, _) => return NextStep::Fence,
            (Join::NameInUse, _) if read.unused.is_some() => read.unused,
            (Join::NameInUse, Some(holder)) => return NextStep::NameInUse(holder),
            (Join::Adopt(incarnation), _) => return self.activate(incarnation, read.sent),
            (Join::Create | Join::Readopt, _) if read.is_full => return NextStep::ClusterFull,
            (Join::GiveUp(incarnation), _) => Some(incarnation),
            (Join::Create | Join::Readopt | Join::NameInUse, _) => None,
        };
        self.state = MemberState::Joining;
        NextStep::Join { give_up }
    }

    /// Begins the lease of a key that a read showed which was sent then.
    fn activate(&mut self, incarnation: Incarnation, sent: Duration) -> NextStep {
        let lease = Right::begin(incarnation, self.terms, sent);
        let before = self.lease.replace(lease);
        self.state = MemberState::Active;
        self.previous = None;
        if !self.was(incarnation) {
            self.incarnations.push(incarnation);
        }
        NextStep::Activated {
            incarnation,
            is_first: before.is_none(),
        }
    }

    /// The key is not there, or was not written: the next read decides anew.
    pub fn abort_join(&mut self) {
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

    /// Takes in that the member key was written.
    pub fn on_key_written(&mut self, incarnation: Incarnation) -> KeyWritten {
        self.incarnations.push(incarnation);
        if self.is_key_written() {
            return KeyWritten::Ignored;
        }
        if let (MemberState::Left, Some(previous)) = (&self.state, &mut self.previous) {
            // The lease ended meanwhile: this key is given up with it.
            previous.incarnation = incarnation;
            return KeyWritten::Ignored;
        }
        let is_previous_alive = self
            .previous
            .is_some_and(|past| past.sessions == PastSessions::Running);
        if self.lease.is_none() && !is_previous_alive {
            self.state = MemberState::AwaitingConfirmation(incarnation);
            return KeyWritten::ReadMembers;
        }
        let owned = self
            .owned
            .iter()
            .map(|(channel, token)| (channel.clone(), *token));
        self.state = MemberState::Migrating(Readoption::new(incarnation, owned));
        KeyWritten::Migrate
    }

    /// Returns what is left to write anew.
    pub fn next_migration(&mut self) -> Migration {
        let MemberState::Migrating(migration) = &self.state else {
            return Migration::Wait;
        };
        if migration.is_done() {
            return Migration::Done;
        }
        let claims: Vec<_> = migration
            .left()
            .map(|(channel, token)| (channel.clone(), token))
            .collect();
        if claims.is_empty() || std::mem::replace(&mut self.is_migrating, true) {
            return Migration::Wait;
        }
        let by = migration.next();
        Migration::Write { by, claims }
    }

    /// Takes in that all replies have come that are to come.
    pub fn end_migration_request(&mut self) {
        self.is_migrating = false;
    }

    /// Takes in what came of writing one claim anew.
    pub fn on_migrated(
        &mut self,
        by: Incarnation,
        channel: &ChannelId,
        reply: &Reply,
    ) -> Readopted {
        let migrated = match &mut self.state {
            MemberState::Migrating(migration) if migration.next() == by => {
                migration.answered(channel, reply)
            }
            MemberState::Migrating(_)
            | MemberState::Left
            | MemberState::Joining
            | MemberState::AwaitingConfirmation(_)
            | MemberState::Active => Readopted::Unasked,
        };
        match migrated {
            Readopted::Kept(token) => {
                self.owned.insert(channel.clone(), token);
            }
            Readopted::End => {
                self.owned.remove(channel);
            }
            Readopted::NotMember => self.abort_join(),
            Readopted::Unasked => {}
        }
        migrated
    }

    /// Returns whether nothing is left to be written anew, or to end.
    pub fn is_migration_done(&self) -> bool {
        matches!(&self.state, MemberState::Migrating(migration) if migration.is_done())
    }

    /// Every claim names the next incarnation: its lease begins with the next read that shows it.
    pub fn finish_migration(&mut self) -> Option<Incarnation> {
        let MemberState::Migrating(migration) = &self.state else {
            return None;
        };
        let incarnation = migration.next();
        if self.lease.is_none() {
            self.previous = Some(Past {
                incarnation,
                fence_after: self.terms.fence_after,
                sessions: PastSessions::Running,
            });
        }
        self.state = MemberState::AwaitingConfirmation(incarnation);
        Some(incarnation)
    }

    /// Judges what etcd replied about a channel, under a mode.
    pub fn on_claim_reply(&mut self, reply: Reply, mode: Mode, now: Duration) -> Option<Outcome> {
        let me = Me {
            right: self.lease.as_ref()?,
            mode,
            over: &self.ended_incarnations,
        };
        Some(judge(reply, me, &mut self.departures, now))
    }

    /// Takes in that the node owns a channel.
    pub fn own(&mut self, channel_id: ChannelId, token: Token) {
        self.owned.insert(channel_id, token);
    }

    /// The channel is not this node's any more; returns the claim to release.
    pub fn disown(&mut self, channel: &ChannelId) -> Option<Token> {
        self.owned.remove(channel)
    }

    /// The channel's session has ended: its claim needs not be written anew.
    pub fn end_session(&mut self, channel: &ChannelId) {
        if let MemberState::Migrating(migration) = &mut self.state {
            migration.ended(channel);
        }
    }

    /// The lease is over: what was served under it must end, and be known to have ended, before the node joins anew.
    pub fn give_up(&mut self) {
        let key = self
            .key()
            .or_else(|| self.previous.map(|past| past.incarnation));
        self.lease = None;
        self.state = MemberState::Left;
        self.previous = key.map(|incarnation| Past {
            incarnation,
            fence_after: self.terms.fence_after,
            sessions: PastSessions::Ending,
        });
    }

    /// Notes that no session of the node's incarnations so far is served any more.
    pub fn end_incarnations(&mut self) {
        if let Some(past) = &mut self.previous {
            past.sessions = PastSessions::Over;
        }
        self.ended_incarnations
            .extend(self.incarnations.iter().copied());
    }

    /// The machine was started anew, and nothing outlives that; returns whether there was a previous incarnation.
    pub fn end_previous(&mut self) -> bool {
        let Some(past) = &mut self.previous else {
            return false;
        };
        past.sessions = PastSessions::Over;
        self.ended_incarnations.insert(past.incarnation);
        true
    }

    /// Forgets a history of etcd that is over: its numbers say nothing of the next one. Returns what the node promised in it.
    pub fn leave_history(&mut self) -> Option<FenceAfter> {
        self.departures = Gone::default();
        self.ended_incarnations.clear();
        self.incarnations.clear();
        if let Some(lease) = &mut self.lease {
            lease.leave_history();
        }
        if let Some(past) = &mut self.previous {
            past.incarnation = Incarnation::OF_ANOTHER_HISTORY;
        }
        if !self.is_joining() {
            self.leave_key();
        }
        self.lease
            .as_ref()
            .map(|lease| lease.terms().fence_after)
            .or(self.previous.map(|past| past.fence_after))
    }
}
