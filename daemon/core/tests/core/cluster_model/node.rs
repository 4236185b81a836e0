//! A node of the model: the daemon's own [`Ownership`] and [`KnownEtcd`], and the SFU beside it, which ends by itself what was not granted
//! anew. The node sends what their decisions ask for, and does nothing else.

use std::collections::VecDeque;
use std::time::Duration;

use soramode_core::cluster::claim::ClaimReply;
use soramode_core::cluster::claim_outcome::ClaimOutcome;
use soramode_core::cluster::departures::PresentMembers;
use soramode_core::cluster::history::{EtcdIdentity, KnownEtcd};
use soramode_core::cluster::previous::{PreviousIncarnation, PreviousSessions};
use soramode_core::cluster::{Incarnation, Token};
use soramode_core::fault::PlantedFault;
use soramode_core::member::member_key::OwnKey;
use soramode_core::member::ownership::Ownership;
use soramode_core::member::ownership_steps::OwnershipStep;
use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::Mode;

use super::TERMS;
use super::store::{Answer, Shown, Store, Txn, name};

/// Transactions in flight at a time at most: one of the claim, and one of the member key.
pub(super) const SLOTS: usize = 2;

/// A transaction in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Flight {
    Sent(Txn),
    Answered(Txn, Answer),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub(super) fault: PlantedFault,
    pub(super) ownership: Ownership,
    /// Stored: which incarnation it is or was last.
    stored_member: Option<Incarnation>,
    /// Stored: the etcd that it was in, as it was when it was stored.
    pub(super) stored_etcd: Option<EtcdIdentity>,
    pub(super) etcd: KnownEtcd,
    /// Writes a configuration where it finds none, which no node does by itself.
    pub(super) is_founder: bool,
    /// The member key that this start of the daemon wrote.
    pub(super) own_key: Option<Incarnation>,
    /// Until when the SFU serves the channel, if it does.
    pub(super) sfu: Option<Duration>,
    /// A read of the members without an answer so far, and when it was sent.
    pub(super) read: Option<(Duration, Shown)>,
    /// Transactions that are to be sent, one after the other.
    queue: VecDeque<Txn>,
    /// Transactions in flight: of the claim, and of the member key.
    pub(super) txns: [Option<Flight>; SLOTS],
    /// Both may be in flight at a time; else those of the member key take the first place.
    pub(super) is_parallel: bool,
    /// A transaction that the node has stopped waiting for.
    pub(super) late: Option<Txn>,
    /// An earlier start of the daemon sent that.
    is_late_of_earlier_start: bool,
}

fn previous(incarnation: Incarnation) -> PreviousIncarnation {
    PreviousIncarnation {
        incarnation,
        fence_after: TERMS.fence_after,
        sessions: PreviousSessions::Alive,
    }
}

pub(super) fn channel() -> ChannelId {
    ChannelId::new("spam").unwrap()
}

fn start(member: Option<Incarnation>, owned: Option<Token>, fault: PlantedFault) -> Ownership {
    let owned = owned.map(|token| (channel(), token));
    Ownership::new(TERMS, member.map(previous), owned, fault)
}

impl Node {
    /// Joined, and confirmed at the beginning of time.
    pub(super) fn new(
        incarnation: Incarnation,
        owned: Option<Token>,
        revision: u64,
        fault: PlantedFault,
    ) -> Self {
        let known = EtcdIdentity::of(&Store::new().etcd()).unwrap();
        let known = EtcdIdentity { revision, ..known };
        let mut etcd = KnownEtcd::new(None, fault);
        etcd.accept(known.clone());
        let mut node = Self {
            stored_member: Some(incarnation),
            stored_etcd: Some(known),
            etcd,
            own_key: Some(incarnation),
            ownership: start(Some(incarnation), owned, fault),
            ..Self::fresh(fault)
        };
        let read = OwnKey {
            revision: u64::MAX,
            sent: Duration::ZERO,
            received: Duration::ZERO,
            found: Some(incarnation),
            is_of_this_start: true,
            is_of_another_boot: false,
            unused: None,
            is_full: false,
        };
        node.ownership.on_own_key_read(&read, Duration::ZERO);
        node.take_steps();
        node
    }

    /// It was never in a cluster.
    pub(super) fn fresh(fault: PlantedFault) -> Self {
        Self {
            fault,
            ownership: start(None, None, fault),
            stored_member: None,
            stored_etcd: None,
            etcd: KnownEtcd::new(None, fault),
            is_founder: false,
            own_key: None,
            sfu: None,
            read: None,
            queue: VecDeque::new(),
            txns: [const { None }; SLOTS],
            is_parallel: false,
            late: None,
            is_late_of_earlier_start: false,
        }
    }

    pub(super) fn owned(&self) -> Option<Token> {
        self.ownership.token(&channel())
    }

    fn slot_of(&self, txn: &Txn) -> usize {
        let is_of_key = matches!(txn, Txn::Join(_) | Txn::Migrate(..) | Txn::Init);
        usize::from(self.is_parallel && is_of_key)
    }

    /// The transaction that it would send now.
    pub(super) fn wants(&self, now: Duration) -> Option<Txn> {
        if self.etcd.refusal().is_some() {
            return None;
        }
        let is_free = |txn: &&Txn| self.txns[self.slot_of(txn)].is_none();
        if let Some(txn) = self.queue.iter().find(is_free) {
            return Some(txn.clone());
        }
        let by = self.ownership.incarnation()?;
        let claims = self.owned().is_none() && self.ownership.may_claim(now);
        Some(Txn::Claim(by)).filter(|txn| claims && is_free(&txn))
    }

    /// Sends the transaction that it wants; returns its place.
    pub(super) fn send_wanted(&mut self, now: Duration) -> Option<usize> {
        let txn = self.wants(now)?;
        if let Some(at) = self.queue.iter().position(|queued| *queued == txn) {
            self.queue.remove(at);
        }
        let slot = self.slot_of(&txn);
        self.txns[slot] = Some(Flight::Sent(txn));
        Some(slot)
    }

    /// Sends what follows from an answer.
    pub(super) fn send(&mut self, txn: Txn) {
        let slot = self.slot_of(&txn);
        if self.txns[slot].is_none() {
            self.txns[slot] = Some(Flight::Sent(txn));
        } else {
            self.queue.push_back(txn);
        }
    }

    /// A request comes back, and nothing is known of it.
    fn fail(&mut self, txn: &Txn) {
        match txn {
            Txn::Join(_) => {
                self.ownership.on_join_failed();
            }
            Txn::Migrate(..) => self.ownership.end_migration_request(),
            _ => {}
        }
        self.take_steps();
    }

    /// Carries out what was sent; an answer that nothing follows from is not waited for.
    pub(super) fn execute(&mut self, slot: usize, node: usize, store: &mut Store) {
        let Some(Flight::Sent(txn)) = self.txns[slot].take() else {
            return;
        };
        let answer = self.execute_trusted(node, store, &txn);
        if answer == Answer::Nothing {
            self.fail(&txn);
        } else {
            self.txns[slot] = Some(Flight::Answered(txn, answer));
        }
    }

    /// Executes the transaction that the node has stopped waiting for.
    pub(super) fn execute_late(&mut self, node: usize, store: &mut Store) {
        if let Some(txn) = self.late.take() {
            let own_key = self.own_key;
            self.execute_trusted(node, store, &txn);
            if self.is_late_of_earlier_start {
                self.own_key = own_key;
            }
        }
    }

    /// The channel's session ends; then its claim is released.
    pub(super) fn end_session(&mut self) {
        self.sfu = None;
        self.ownership.end_session(&channel());
        self.take_steps();
    }

    /// Stops waiting for a transaction in flight; it may still be executed.
    pub(super) fn give_up_waiting(&mut self, slot: usize) {
        let Some(flight) = self.txns[slot].take() else {
            return;
        };
        let (Flight::Sent(txn) | Flight::Answered(txn, _)) = &flight;
        self.fail(txn);
        if let Flight::Sent(txn) = flight {
            self.late = Some(txn);
            self.is_late_of_earlier_start = false;
        }
    }

    /// The daemon dies and starts anew; the SFU goes on. Of two transactions in flight the claim's may still be executed.
    pub(super) fn crash(&mut self) {
        for slot in (0..SLOTS).rev() {
            self.give_up_waiting(slot);
        }
        self.is_late_of_earlier_start = self.late.is_some();
        self.ownership = start(self.stored_member, self.owned(), self.fault);
        self.etcd = KnownEtcd::new(self.stored_etcd.clone(), self.fault);
        self.own_key = None;
        self.read = None;
        self.queue.clear();
    }

    pub(super) fn is_fence_due(&self, now: Duration) -> bool {
        self.ownership
            .lease()
            .is_some_and(|lease| lease.is_expired(now))
    }

    /// The lease has expired.
    pub(super) fn fence(&mut self) {
        self.ownership.give_up();
        self.take_steps();
    }

    pub(super) fn read_came(&mut self, now: Duration) {
        let Some((sent, shown)) = self.read.take() else {
            return;
        };
        let read = OwnKey {
            revision: shown.revision,
            sent,
            received: now,
            found: shown.own,
            is_of_this_start: shown.own == self.own_key,
            // No machine is started anew here.
            is_of_another_boot: false,
            unused: shown.own,
            is_full: false,
        };
        if self.is_known(&shown) {
            self.ownership.renew(&read, now);
            self.take_steps();
        }
        if self.is_fence_due(now) {
            self.fence();
        }
        if !self.trusts(&shown) {
            return;
        }
        self.ownership.observe(PresentMembers {
            revision: shown.revision,
            present: shown.present,
            received: now,
        });
        self.ownership.on_own_key_read(&read, now);
        self.take_steps();
    }

    /// Takes each step that follows from the node's decisions. All sessions end at once.
    fn take_steps(&mut self) {
        while let Some(step) = self.ownership.next_step() {
            match step {
                OwnershipStep::EndAllSessions => {
                    self.sfu = None;
                    self.ownership.end_incarnations();
                }
                OwnershipStep::EndSession(channel) => {
                    self.sfu = None;
                    self.ownership.end_session(&channel);
                }
                OwnershipStep::StoreMember(incarnation) => self.stored_member = Some(incarnation),
                OwnershipStep::Join { give_up } => self.queue.push_back(Txn::Join(give_up)),
                OwnershipStep::Migrate { by, claims } => {
                    let writes = claims.into_iter().map(|(_, token)| Txn::Migrate(by, token));
                    self.queue.extend(writes);
                }
                OwnershipStep::Release(_, token) => self.send(Txn::Release(token)),
                // It reads the members at any time, and its claims are stored as they are known. Its key vanishes at any time.
                OwnershipStep::ReadMembers
                | OwnershipStep::StoreClaim(..)
                | OwnershipStep::StoreUnclaimed(_)
                | OwnershipStep::KeyWritten
                | OwnershipStep::Leave(_)
                | OwnershipStep::Activated { .. }
                | OwnershipStep::Renewed
                | OwnershipStep::NameInUse(_)
                | OwnershipStep::ClusterFull => {}
            }
        }
    }

    /// The SFU asks how long it may go on, as often as it can.
    pub(super) fn poll(&mut self, now: Duration) {
        if self.owned().is_none() || self.ownership.lease().is_none() {
            return;
        }
        let until = match self.ownership.valid_for(now) {
            Some(Duration::ZERO) => return,
            Some(left) => now + left,
            None => Duration::MAX,
        };
        self.sfu = self.sfu.max(Some(until));
    }

    pub(super) fn is_serving(&self, now: Duration) -> bool {
        self.sfu.is_some_and(|until| now < until)
    }

    pub(super) fn txn_came(&mut self, node: usize, slot: usize, now: Duration) {
        if self.is_fence_due(now) {
            self.fence();
        }
        let Some(Flight::Answered(txn, answer)) = self.txns[slot].take() else {
            return;
        };
        match (txn, answer) {
            (Txn::Join(_), Answer::Joined(incarnation)) => {
                self.ownership.on_key_written(incarnation);
            }
            (Txn::Migrate(by, _), Answer::Replied(reply)) => {
                self.ownership
                    .on_claim_migrated(by, &channel(), &reply, &name(node));
                self.ownership.end_migration_request();
            }
            (Txn::Claim(by) | Txn::TakeOver(by, _) | Txn::Renew(by, _), Answer::Replied(reply)) => {
                self.claimed(by, reply, now);
            }
            (_, _) => {}
        }
        self.take_steps();
    }

    fn claimed(&mut self, by: Incarnation, reply: ClaimReply, now: Duration) {
        if !self.ownership.is_key(by) {
            if let ClaimReply::Won(token) = reply {
                self.ownership.on_stale_claim(by, channel(), token);
            }
            return;
        }
        let can_claim = self.ownership.may_claim(now);
        let Some(outcome) = self.ownership.evaluate_reply(reply, Mode::Normal, now) else {
            return;
        };
        match outcome {
            ClaimOutcome::Acquired(token) => self.ownership.on_acquired(channel(), token),
            ClaimOutcome::Relinquish(token) => self.send(Txn::Release(token)),
            ClaimOutcome::TakeOver(claim) if can_claim => self.send(Txn::TakeOver(by, claim)),
            ClaimOutcome::Rewrite(claim) if can_claim => self.send(Txn::Renew(by, claim.token)),
            ClaimOutcome::Rewrite(claim) => self.send(Txn::Release(claim.token)),
            ClaimOutcome::TakeOver(_)
            | ClaimOutcome::NotMember
            | ClaimOutcome::OwnedByPeer(_)
            | ClaimOutcome::OwnerLost(_)
            | ClaimOutcome::RefreshMembers
            | ClaimOutcome::NotNormal
            | ClaimOutcome::Retry => {}
        }
    }
}
