//! A node of the model: a daemon that goes by the core's decisions, and the SFU beside it, which ends by itself what was not
//! granted anew. Mistakes are built in here, where the decisions are used.

use std::collections::BTreeSet;
use std::time::Duration;

use soramode_core::cluster::claim::{Claim, Found, Me, Outcome, Reply, judge};
use soramode_core::cluster::gone::{Gone, Roll};
use soramode_core::cluster::history::{
    Accepted, Known, Refusal, Writes, fall, judge as judge_etcd,
};
use soramode_core::cluster::join::{Join, Past, PastSessions, how_to_join};
use soramode_core::cluster::readopt::{Readopted, Readoption};
use soramode_core::cluster::right::{Renewal, Right, ValidFor};
use soramode_core::cluster::{FenceAfter, Incarnation, Token};
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
    pub(super) right: Option<Right>,
    /// Stored: which incarnation it is or was last, and what became of its sessions.
    past: Option<Past>,
    /// Stored: the etcd that it was in, as it was when it was stored.
    stored_etcd: Option<Known>,
    /// The same, as it is known.
    known: Option<Known>,
    /// The etcd is refused.
    refuses: bool,
    /// Stored: the channel's token.
    pub(super) owned: Option<Token>,
    /// Earlier incarnations whose sessions are over.
    over: BTreeSet<Incarnation>,
    gone: Gone,
    /// The member key was seen to be missing.
    lost: bool,
    pub(super) readoption: Option<Readoption>,
    /// It goes by any etcd: one of the mistakes.
    is_mistaken: bool,
    /// Until when the SFU serves the channel, if it does.
    pub(super) sfu: Option<Duration>,
    /// A read of the members whose answer has not come, and when it was sent.
    pub(super) read: Option<(Duration, Shown)>,
    pub(super) txn: Option<Flight>,
    /// A transaction whose answer nobody waits for any more.
    pub(super) late: Option<Txn>,
}

fn running(incarnation: Incarnation) -> Past {
    Past {
        incarnation,
        fence_after: TERMS.fence_after,
        sessions: PastSessions::Running,
    }
}

pub(super) fn channel() -> ChannelId {
    ChannelId::new("spam").unwrap()
}

impl Node {
    /// Joined, and confirmed at the beginning of time.
    pub(super) fn new(incarnation: Incarnation, owned: Option<Token>) -> Self {
        Self {
            right: Some(Right::begin(incarnation, TERMS, Duration::ZERO)),
            past: Some(running(incarnation)),
            stored_etcd: Known::of(&Store::new().etcd(0)),
            known: Known::of(&Store::new().etcd(0)),
            refuses: false,
            owned,
            over: BTreeSet::new(),
            gone: Gone::default(),
            lost: false,
            readoption: None,
            is_mistaken: false,
            sfu: None,
            read: None,
            txn: None,
            late: None,
        }
    }

    /// It was never in a cluster.
    pub(super) fn fresh() -> Self {
        Self {
            right: None,
            past: None,
            stored_etcd: None,
            known: None,
            ..Self::new(Incarnation(2), None)
        }
    }

    pub(super) fn highest(&self) -> u64 {
        self.known.as_ref().map_or(0, |known| known.revision)
    }

    /// The transaction that it would send now.
    pub(super) fn wants(&self, now: Duration) -> Option<Txn> {
        if self.txn.is_some() || self.refuses {
            return None;
        }
        let right = self.right.as_ref()?;
        if let Some(readoption) = &self.readoption {
            return readoption
                .left()
                .next()
                .map(|(_, token)| Txn::Renew(readoption.next(), token));
        }
        if self.lost {
            return Some(Txn::Join);
        }
        (self.owned.is_none() && right.may_claim(now)).then(|| Txn::Claim(right.incarnation()))
    }

    fn send(&mut self, txn: Txn) {
        self.txn = Some(Flight::Sent(txn));
    }

    /// What was sent is done; an answer that nothing follows from is not waited for.
    pub(super) fn execute(&mut self, node: usize, store: &mut Store) {
        let Some(Flight::Sent(txn)) = self.txn.take() else {
            return;
        };
        let answer = self.execute_trusted(node, store, &txn);
        self.txn = (answer != Answer::Nothing).then_some(Flight::Answered(txn, answer));
    }

    /// A transaction compares the configuration, and is believed if its answer can have come after those before it.
    pub(super) fn execute_trusted(&mut self, node: usize, store: &mut Store, txn: &Txn) -> Answer {
        let is_same = |known: &Known| {
            store
                .configuration
                .as_ref()
                .is_some_and(|it| it.history_id == known.history_id && it.set_back.is_none())
        };
        if *txn != Txn::Init && !self.known.as_ref().is_some_and(is_same) && !self.is_mistaken {
            return Answer::Nothing;
        }
        let before = store.revision;
        let answer = store.execute(node, txn);
        let writes = if store.revision > before {
            Writes::Something
        } else {
            Writes::Nothing
        };
        if fall(self.highest(), store.revision, writes).is_none() || self.is_mistaken {
            return answer;
        }
        self.refuses = true;
        store.note_set_back();
        Answer::Nothing
    }

    /// Before the beginning of the world.
    pub(super) fn has_seen(&mut self, revision: u64) {
        for known in self.known.iter_mut().chain(&mut self.stored_etcd) {
            known.revision = revision;
        }
    }

    /// The channel's session ends; then its claim is released.
    pub(super) fn end_session(&mut self) {
        if let Some(token) = self.owned.take() {
            self.sfu = None;
            if let Some(readoption) = &mut self.readoption {
                readoption.ended(&channel());
            }
            self.send(Txn::Release(token));
        }
    }

    /// Nobody waits any more for what is under way; it may still be executed.
    pub(super) fn give_up_waiting(&mut self) {
        if let Some(Flight::Sent(txn)) = self.txn.take() {
            self.late = Some(txn);
        }
    }

    /// The daemon dies and starts anew; the SFU goes on.
    pub(super) fn crash(&mut self, mistake: Mistake) {
        self.give_up_waiting();
        self.right = None;
        self.gone = Gone::default();
        self.lost = false;
        self.readoption = None;
        self.read = None;
        self.over.clear();
        self.known = self
            .stored_etcd
            .clone()
            .filter(|_| mistake != Mistake::EtcdIsForgotten);
        self.refuses = false;
        if let Some(Past {
            incarnation,
            sessions: PastSessions::Over,
            ..
        }) = self.past
        {
            self.over.insert(incarnation);
        }
    }

    pub(super) fn is_fence_due(&self, now: Duration) -> bool {
        self.right.as_ref().is_some_and(|right| right.is_over(now))
    }

    /// The right is over: the sessions are ended, and the incarnation is given up.
    pub(super) fn fence(&mut self) {
        let Some(right) = self.right.take() else {
            return;
        };
        self.owned = None;
        self.sfu = None;
        self.lost = false;
        self.over.insert(right.incarnation());
        let incarnation = self
            .readoption
            .take()
            .map_or(right.incarnation(), |readoption| readoption.next());
        self.over.insert(incarnation);
        self.past = Some(Past {
            sessions: PastSessions::Over,
            ..running(incarnation)
        });
    }

    pub(super) fn read_came(&mut self, mistake: Mistake, now: Duration) {
        let Some((sent, shown)) = self.read.take() else {
            return;
        };
        if !self.trusts(mistake, &shown) {
            return;
        }
        let sent = if mistake == Mistake::RightFromTheAnswer {
            now
        } else {
            sent
        };
        let revision = if mistake == Mistake::AnyReadProves {
            u64::MAX
        } else {
            shown.revision
        };
        if revision >= shown.revision {
            self.gone.saw(Roll {
                revision,
                present: shown.present,
                received: now,
            });
        }
        let Some(right) = &mut self.right else {
            return self.join(mistake, shown.own, sent);
        };
        let is_own = shown.own == Some(right.incarnation());
        let is_over = if is_own {
            right.confirm(sent, now) == Renewal::Over
        } else {
            right.is_over(now)
        };
        let next = self
            .readoption
            .as_ref()
            .filter(|it| Some(it.next()) == shown.own);
        match next.map(|it| (it.next(), it.is_done())) {
            _ if is_over => self.fence(),
            Some((next, true)) => self.begin(next, sent),
            Some((_, false)) => {}
            None if is_own => {}
            None => {
                self.lost = true;
                self.readoption = None;
            }
        }
    }

    /// As the daemon judges the etcd that it has read.
    fn trusts(&mut self, mistake: Mistake, shown: &Shown) -> bool {
        self.is_mistaken = mistake == Mistake::AnyEtcdIsTaken;
        let judged = judge_etcd(self.known.as_ref(), &shown.etcd);
        self.refuses = judged.is_err() && !self.is_mistaken;
        if mistake == Mistake::FreshNodeInits
            && judged == Err(Refusal::NotInitialized)
            && self.txn.is_none()
        {
            self.send(Txn::Init);
        }
        if judged == Ok(Accepted::First) {
            self.known = Known::of(&shown.etcd);
            self.stored_etcd = self.known.clone();
        }
        !self.refuses
    }

    /// The SFU asks how long it may go on, as often as it can.
    pub(super) fn poll(&mut self, mistake: Mistake, now: Duration) {
        let Some(right) = self.right.as_ref().filter(|_| self.owned.is_some()) else {
            return;
        };
        let until = match right.valid_for(now) {
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

    fn begin(&mut self, incarnation: Incarnation, sent: Duration) {
        self.right = Some(Right::begin(incarnation, TERMS, sent));
        self.past = Some(running(incarnation));
        self.readoption = None;
        self.lost = false;
    }

    fn join(&mut self, mistake: Mistake, found: Option<Incarnation>, sent: Duration) {
        match (how_to_join(self.past, found), &mut self.past) {
            (Join::EndSessions, Some(past)) => {
                if mistake != Mistake::JoinProlongs {
                    self.sfu = None;
                    self.owned = None;
                    self.over.insert(past.incarnation);
                }
                past.sessions = PastSessions::Over;
            }
            (Join::GiveUp(incarnation), _) if self.txn.is_none() => {
                self.send(Txn::GiveUp(incarnation));
            }
            (Join::Create, _) if self.txn.is_none() => self.send(Txn::Join),
            (Join::Adopt(incarnation), _) => self.begin(incarnation, sent),
            (
                Join::GiveUp(_)
                | Join::Create
                | Join::NameInUse
                | Join::Readopt
                | Join::EndSessions,
                _,
            ) => {}
        }
    }

    pub(super) fn txn_came(&mut self, mistake: Mistake, now: Duration) {
        let Some(Flight::Answered(txn, answer)) = self.txn.take() else {
            return;
        };
        match (txn, answer) {
            (Txn::Join, Answer::Joined(incarnation)) => self.joined(mistake, incarnation),
            (Txn::Renew(mine, _), Answer::Replied(reply))
                if self.readoption.as_ref().is_some_and(|it| it.next() == mine) =>
            {
                self.readopted(&reply);
            }
            (
                Txn::Claim(mine) | Txn::TakeOver(mine, _) | Txn::Renew(mine, _),
                Answer::Replied(reply),
            ) => {
                if self
                    .right
                    .as_ref()
                    .is_some_and(|right| right.incarnation() == mine)
                {
                    self.claimed(mistake, reply, now);
                }
            }
            (_, _) => {}
        }
    }

    fn joined(&mut self, mistake: Mistake, incarnation: Incarnation) {
        if self.right.is_none() {
            self.past = Some(running(incarnation));
            return;
        }
        let held = self
            .owned
            .map(|token| (channel(), token))
            .filter(|_| mistake != Mistake::ReadoptionProlongs);
        self.readoption = Some(Readoption::new(incarnation, held));
        self.lost = false;
        if mistake == Mistake::NextStoredEarly {
            self.past = Some(running(incarnation));
        }
    }

    fn readopted(&mut self, reply: &Reply) {
        let Some(readoption) = &mut self.readoption else {
            return;
        };
        match readoption.answered(&channel(), reply) {
            Readopted::Kept(token) => self.owned = Some(token),
            Readopted::End => {
                self.sfu = None;
                self.owned = None;
                readoption.ended(&channel());
            }
            Readopted::NotMember => {
                self.readoption = None;
                self.lost = true;
            }
            Readopted::Unasked => {}
        }
    }

    fn claimed(&mut self, mistake: Mistake, reply: Reply, now: Duration) {
        let Some(right) = &self.right else { return };
        let mine = right.incarnation();
        let reply = mistaken(mistake, reply);
        if let (Mistake::WaitUnseen, Some(claim)) = (mistake, held(&reply)) {
            self.gone.saw(Roll {
                revision: u64::MAX,
                present: BTreeSet::from([mine]),
                received: self.gone.since(claim.incarnation).unwrap_or(now),
            });
        }
        let me = Me {
            right,
            mode: Mode::Normal,
            over: &self.over,
        };
        let found = held(&reply).cloned();
        match judge(reply, me, &mut self.gone, now) {
            Outcome::Mine(token) => self.owned = Some(token),
            Outcome::GiveBack(token) => self.send(Txn::Release(token)),
            Outcome::TakeOver(claim) => self.send(Txn::TakeOver(mine, claim)),
            Outcome::Renew(claim)
                if mistake == Mistake::FoundIsMine && claim.incarnation == mine =>
            {
                self.owned = Some(claim.token);
            }
            Outcome::Renew(claim) => self.send(Txn::Renew(mine, claim.token)),
            Outcome::OwnerLost(_) if mistake == Mistake::TakeoverAtOnce => {
                self.send(Txn::TakeOver(mine, found.unwrap()));
            }
            Outcome::NotMember => self.lost = true,
            Outcome::Owned(_)
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
