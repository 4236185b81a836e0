//! A node of the model: the daemon's own [`Ownership`], with what the gate does about its decisions, and the SFU beside it, which ends by
//! itself what was not granted anew. Mistakes are built in here, where the decisions are used.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use soramode_core::cluster::claim::{Claim, Found, Outcome, Reply};
use soramode_core::cluster::gone::Roll;
use soramode_core::cluster::history::{Known, judge as judge_etcd};
use soramode_core::cluster::join::{Past, PastSessions};
use soramode_core::cluster::readopt::Readopted;
use soramode_core::cluster::right::ValidFor;
use soramode_core::cluster::{FenceAfter, Incarnation, Token};
use soramode_core::member::ownership::Ownership;
use soramode_core::member::ownership_steps::{KeyWritten, Migration, NextStep, OwnKey};
use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::Mode;

use super::store::{Answer, Shown, Store, Txn};
use super::{Mistake, TERMS, TICK};

/// A transaction under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Flight {
    Sent(Txn),
    Answered(Txn, Answer),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub(super) ownership: Ownership,
    /// Stored: which incarnation it is or was last.
    stored_member: Option<Incarnation>,
    /// Stored: the etcd that it was in, as it was when it was stored.
    pub(super) stored_etcd: Option<Known>,
    /// The same, as it is known.
    pub(super) known: Option<Known>,
    /// The etcd is refused.
    pub(super) refuses: bool,
    /// It goes by any etcd: one of the mistakes.
    pub(super) is_mistaken: bool,
    /// The member key that this start of the daemon wrote.
    pub(super) own_key: Option<Incarnation>,
    /// Until when the SFU serves the channel, if it does.
    pub(super) sfu: Option<Duration>,
    /// A read of the members without an answer so far, and when it was sent.
    pub(super) read: Option<(Duration, Shown)>,
    /// Transactions that are to be sent, one after the other.
    queue: VecDeque<Txn>,
    pub(super) txn: Option<Flight>,
    /// A transaction that nobody waits for any more.
    pub(super) late: Option<Txn>,
    /// An earlier start of the daemon sent that.
    is_late_of_earlier_start: bool,
}

fn previous(incarnation: Incarnation) -> Past {
    Past {
        incarnation,
        fence_after: TERMS.fence_after,
        sessions: PastSessions::Running,
    }
}

pub(super) fn channel() -> ChannelId {
    ChannelId::new("spam").unwrap()
}

fn start(member: Option<Incarnation>, owned: Option<Token>) -> Ownership {
    Ownership::new(
        TERMS,
        member.map(previous),
        owned.map(|token| (channel(), token)),
    )
}

impl Node {
    /// Joined, and confirmed at the beginning of time.
    pub(super) fn new(incarnation: Incarnation, owned: Option<Token>) -> Self {
        let mut ownership = start(Some(incarnation), owned);
        let read = OwnKey {
            revision: u64::MAX,
            sent: Duration::ZERO,
            received: Duration::ZERO,
            found: Some(incarnation),
            unused: None,
            is_full: false,
        };
        ownership.on_own_key_read(&read, Duration::ZERO);
        Self {
            ownership,
            stored_member: Some(incarnation),
            stored_etcd: Known::of(&Store::new().etcd(0)),
            known: Known::of(&Store::new().etcd(0)),
            refuses: false,
            is_mistaken: false,
            own_key: Some(incarnation),
            sfu: None,
            read: None,
            queue: VecDeque::new(),
            txn: None,
            late: None,
            is_late_of_earlier_start: false,
        }
    }

    /// It was never in a cluster.
    pub(super) fn fresh() -> Self {
        Self {
            ownership: start(None, None),
            stored_member: None,
            stored_etcd: None,
            known: None,
            own_key: None,
            ..Self::new(Incarnation(2), None)
        }
    }

    pub(super) fn owned(&self) -> Option<Token> {
        self.ownership.token(&channel())
    }

    pub(super) fn highest(&self) -> u64 {
        self.known.as_ref().map_or(0, |known| known.revision)
    }

    /// The transaction that it would send now.
    pub(super) fn wants(&self, now: Duration) -> Option<Txn> {
        if self.txn.is_some() || self.refuses {
            return None;
        }
        if let Some(txn) = self.queue.front() {
            return Some(txn.clone());
        }
        let by = self.ownership.incarnation()?;
        let claims = self.owned().is_none() && self.ownership.may_claim(now);
        claims.then_some(Txn::Claim(by))
    }

    /// Takes the transaction that it sends now.
    pub(super) fn take_wanted(&mut self, now: Duration) -> Option<Txn> {
        let txn = self.wants(now);
        if txn.is_some() {
            self.queue.pop_front();
        }
        txn
    }

    /// Sends what follows from an answer.
    pub(super) fn send(&mut self, txn: Txn) {
        if self.txn.is_none() {
            self.txn = Some(Flight::Sent(txn));
        } else {
            self.queue.push_back(txn);
        }
    }

    /// A request comes back, and nothing is known of it.
    pub(super) fn fail(&mut self, txn: &Txn) {
        match txn {
            Txn::Join(_) => self.ownership.abort_join(),
            Txn::Migrate(..) => self.ownership.end_migration_request(),
            _ => {}
        }
    }

    /// Carries out what was sent; an answer that nothing follows from is not waited for.
    pub(super) fn execute(&mut self, node: usize, store: &mut Store) {
        let Some(Flight::Sent(txn)) = self.txn.take() else {
            return;
        };
        let answer = self.execute_trusted(node, store, &txn);
        if answer == Answer::Nothing {
            self.fail(&txn);
        } else {
            self.txn = Some(Flight::Answered(txn, answer));
        }
    }

    /// Before the beginning of the world.
    pub(super) fn has_seen(&mut self, revision: u64) {
        for known in self.known.iter_mut().chain(&mut self.stored_etcd) {
            known.revision = revision;
        }
    }

    /// Executes what nobody waits for any more.
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
        if let Some(token) = self.ownership.disown(&channel()) {
            self.sfu = None;
            self.send(Txn::Release(token));
            self.session_ended();
        }
    }

    fn session_ended(&mut self) {
        self.ownership.end_session(&channel());
        if self.ownership.is_migration_done() {
            self.finish_migration();
        }
    }

    /// Nobody waits any more for what is under way; it may still be executed.
    pub(super) fn give_up_waiting(&mut self) {
        if let Some(Flight::Sent(txn) | Flight::Answered(txn, _)) = &self.txn {
            self.fail(&txn.clone());
        }
        if let Some(Flight::Sent(txn)) = self.txn.take() {
            self.late = Some(txn);
            self.is_late_of_earlier_start = false;
        }
    }

    /// The daemon dies and starts anew; the SFU goes on.
    pub(super) fn crash(&mut self, mistake: Mistake) {
        self.give_up_waiting();
        self.is_late_of_earlier_start = self.late.is_some();
        self.ownership = start(self.stored_member, self.owned());
        self.own_key = None;
        self.read = None;
        self.queue.clear();
        self.known = self
            .stored_etcd
            .clone()
            .filter(|_| mistake != Mistake::EtcdIsForgotten);
        self.refuses = false;
    }

    pub(super) fn is_fence_due(&self, now: Duration) -> bool {
        self.ownership
            .lease()
            .is_some_and(|lease| lease.is_over(now))
    }

    /// The lease is over: the sessions are ended, and the incarnation is given up.
    pub(super) fn fence(&mut self) {
        self.ownership.give_up();
        self.ownership.end_incarnations();
        self.ownership.disown(&channel());
        self.sfu = None;
    }

    pub(super) fn read_came(&mut self, mistake: Mistake, now: Duration) {
        let Some((sent, shown)) = self.read.take() else {
            return;
        };
        let sent = if mistake == Mistake::RightFromTheAnswer {
            now
        } else {
            sent
        };
        let read = OwnKey {
            revision: shown.revision,
            sent,
            received: now,
            found: shown.own,
            // No machine is started anew here.
            unused: shown.own,
            is_full: false,
        };
        let renews = self
            .known
            .as_ref()
            .is_some_and(|known| judge_etcd(Some(known), &shown.etcd).is_ok() || self.is_mistaken);
        if renews && self.ownership.is_confirmed_by(shown.own) {
            let next = self.ownership.renew(&read, now);
            self.follow(mistake, next);
        }
        if self.is_fence_due(now) {
            self.fence();
        }
        if !self.trusts(mistake, &shown) {
            return;
        }
        let revision = if mistake == Mistake::AnyReadProves {
            u64::MAX
        } else {
            shown.revision
        };
        self.ownership.observe(Roll {
            revision,
            present: shown.present,
            received: now,
        });
        if let Some(own) = shown.own.filter(|own| {
            self.own_key == Some(*own) && !self.ownership.was(*own) && !self.ownership.is_joining()
        }) {
            self.key_written(mistake, own);
        }
        let next = self.ownership.on_own_key_read(&read, now);
        self.follow(mistake, next);
    }

    fn follow(&mut self, mistake: Mistake, next: NextStep) {
        match next {
            NextStep::Fence if mistake == Mistake::JoinProlongs => {
                self.ownership.give_up();
                self.ownership.end_incarnations();
            }
            NextStep::Fence => self.fence(),
            NextStep::Activated { incarnation, .. } => self.stored_member = Some(incarnation),
            NextStep::Join { give_up } => self.queue.push_back(Txn::Join(give_up)),
            NextStep::Migrate => self.migrate(),
            NextStep::Wait | NextStep::Renewed | NextStep::NameInUse(_) | NextStep::ClusterFull => {
            }
        }
    }

    fn migrate(&mut self) {
        match self.ownership.next_migration() {
            Migration::Wait => {}
            Migration::Write { by, claims } => {
                let writes = claims.into_iter().map(|(_, token)| Txn::Migrate(by, token));
                self.queue.extend(writes);
            }
            Migration::Done => self.finish_migration(),
        }
    }

    fn finish_migration(&mut self) {
        if let Some(incarnation) = self.ownership.finish_migration() {
            self.stored_member = Some(incarnation);
        }
    }

    /// The SFU asks how long it may go on, as often as it can.
    pub(super) fn poll(&mut self, mistake: Mistake, now: Duration) {
        let Some(lease) = self.ownership.lease().filter(|_| self.owned().is_some()) else {
            return;
        };
        let until = match lease.valid_for(now) {
            ValidFor::Over => return,
            ValidFor::For(_) if mistake == Mistake::NoEnd => Duration::MAX,
            ValidFor::For(left) => now + left,
            ValidFor::Always => Duration::MAX,
        };
        self.sfu = self.sfu.max(Some(until));
    }

    pub(super) fn is_serving(&self, now: Duration) -> bool {
        self.sfu.is_some_and(|until| now < until)
    }

    pub(super) fn txn_came(&mut self, mistake: Mistake, now: Duration) {
        if self.is_fence_due(now) {
            self.fence();
        }
        let Some(Flight::Answered(txn, answer)) = self.txn.take() else {
            return;
        };
        match (txn, answer) {
            (Txn::Join(_), Answer::Joined(incarnation)) => self.key_written(mistake, incarnation),
            (Txn::Migrate(by, _), Answer::Replied(reply)) => self.migrated(by, &reply),
            (Txn::Claim(by) | Txn::TakeOver(by, _) | Txn::Renew(by, _), Answer::Replied(reply)) => {
                if self.ownership.is_key(by) {
                    self.claimed(mistake, by, reply, now);
                } else {
                    self.release_stray(by, &reply);
                }
            }
            (_, _) => {}
        }
    }

    fn key_written(&mut self, mistake: Mistake, incarnation: Incarnation) {
        let next = self.ownership.on_key_written(incarnation);
        if next != KeyWritten::Migrate {
            return;
        }
        if mistake == Mistake::NextStoredEarly {
            self.stored_member = Some(incarnation);
        }
        if mistake == Mistake::ReadoptionProlongs {
            self.ownership.end_session(&channel());
        }
        self.migrate();
    }

    fn migrated(&mut self, by: Incarnation, reply: &Reply) {
        match self.ownership.on_migrated(by, &channel(), reply) {
            Readopted::End => {
                self.sfu = None;
                self.session_ended();
            }
            Readopted::Unasked => self.release_stray(by, reply),
            Readopted::Kept(_) | Readopted::NotMember => {}
        }
        self.ownership.end_migration_request();
        if self.ownership.is_migration_done() {
            self.finish_migration();
        }
    }

    /// A claim was won that nobody waits for any more.
    fn release_stray(&mut self, by: Incarnation, reply: &Reply) {
        if let Reply::Won(token) = reply
            && self.ownership.was(by)
            && self.owned().is_none()
        {
            self.send(Txn::Release(*token));
        }
    }

    fn claimed(&mut self, mistake: Mistake, mine: Incarnation, reply: Reply, now: Duration) {
        let reply = mistaken(mistake, reply);
        if let (Mistake::WaitUnseen, Some(claim)) = (mistake, held(&reply)) {
            let since = self.ownership.departures().since(claim.incarnation);
            self.ownership.observe(Roll {
                revision: u64::MAX,
                present: BTreeSet::from([mine]),
                received: since.unwrap_or(now),
            });
        }
        let found = held(&reply).cloned();
        let can_claim = self.ownership.may_claim(now);
        let Some(outcome) = self.ownership.on_claim_reply(reply, Mode::Normal, now) else {
            return;
        };
        match outcome {
            Outcome::Mine(token) => self.ownership.own(channel(), token),
            Outcome::GiveBack(token) => self.send(Txn::Release(token)),
            Outcome::TakeOver(claim) if can_claim => self.send(Txn::TakeOver(mine, claim)),
            Outcome::Renew(claim)
                if mistake == Mistake::FoundIsMine && claim.incarnation == mine =>
            {
                self.ownership.own(channel(), claim.token);
            }
            Outcome::Renew(claim) if can_claim => self.send(Txn::Renew(mine, claim.token)),
            Outcome::Renew(claim) => self.send(Txn::Release(claim.token)),
            Outcome::OwnerLost(_) if mistake == Mistake::TakeoverAtOnce => {
                self.send(Txn::TakeOver(mine, found.unwrap()));
            }
            Outcome::TakeOver(_)
            | Outcome::NotMember
            | Outcome::Owned(_)
            | Outcome::OwnerLost(_)
            | Outcome::ReadMembers
            | Outcome::NotNormal
            | Outcome::Again => {}
        }
    }
}

fn held(reply: &Reply) -> Option<&Claim> {
    match reply {
        Reply::Refused(Found { claim, .. }) => claim.as_ref(),
        Reply::Won(_) => None,
    }
}

/// A taker that waits for a tick, where the owner's right lasts for two.
fn mistaken(mistake: Mistake, mut reply: Reply) -> Reply {
    if let (
        Mistake::ShortWait,
        Reply::Refused(Found {
            claim: Some(claim), ..
        }),
    ) = (mistake, &mut reply)
    {
        claim.fence_after = FenceAfter::After(TICK / 2);
    }
    reply
}
