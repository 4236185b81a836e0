//! Which etcd the node goes by: each read is judged before anything follows from it, and an etcd that is refused counts as one that does
//! not answer.

use std::time::Duration;

use soramode_protocol::cluster::{InitCluster, Initialized};
use soramode_protocol::error::Error;
use soramode_protocol::id::{ClusterId, HistoryId};
use soramode_protocol::node::Membership;
use soramode_protocol::reply::{Answer, Reply};

use crate::cluster::history::{
    Accepted, AcceptedRisk, InitRefusal, Known, KnownEtcd, Refusal, Shown, plan_init,
};
use crate::cluster::right::Right;
use crate::cluster::{FenceAfter, Incarnation};
use crate::ctx::Ctx;
use crate::effect::{Action, Record};
use crate::fault::PlantedFault;
use crate::handles::ReplyHandle;
use crate::node::Node;
use crate::snapshot::StoredMember;

use super::Member;
use super::etcd::{EtcdRequest, Init, MembershipView};
use super::release::Releases;
use super::waiters::Ruling;

/// The highest revision that was seen is stored at most this often, beside each join, each claim, and each refusal.
pub const REVISION_PAUSE: Duration = Duration::from_mins(1);

/// In a new history nodes claim the channels that they serve anew, and for so long at least nobody claims another.
pub const RECLAIM_TIME: Duration = Duration::from_secs(10);

/// Why nothing is asked of an etcd that is refused.
pub(super) const REFUSED: &str = "this etcd is refused";

/// Identity of the node's etcd.
#[derive(Default)]
pub(super) struct Trust {
    etcd: KnownEtcd,
    /// The last read, and the text of `/cfg` in it.
    shown: Option<(Shown, Vec<u8>)>,
    /// The text of `/cfg` that transactions compare.
    trusted: Option<Vec<u8>>,
    /// Why the last read failed.
    unreadable: Option<String>,
    /// The highest revision that is to be stored: a claim's answer may come before that to a read that was sent earlier.
    highest: u64,
    /// When it was stored last.
    stored_at: Option<Duration>,
    /// Before this no channel is claimed that is nobody's.
    claims_from: Duration,
}

impl Trust {
    pub(super) fn new(stored: Option<Known>, fault: PlantedFault) -> Self {
        Self {
            etcd: KnownEtcd::new(stored, fault),
            ..Self::default()
        }
    }

    pub(super) const fn refuses(&self) -> bool {
        self.etcd.refusal().is_some()
    }

    /// Notes that a read failed: the one before it no longer says how etcd is.
    pub(super) fn read_failed(&mut self, why: String) {
        self.unreadable = Some(why);
    }

    /// How long channels are still only claimed anew.
    pub(super) fn reclaims_for(&self, now: Duration) -> Option<Duration> {
        self.claims_from
            .checked_sub(now)
            .filter(|left| !left.is_zero())
    }

    /// Whether a read that was not judged yet is of the etcd that is trusted.
    pub(super) fn takes(&self, looked: &MembershipView) -> bool {
        let is_known = self.etcd.judge(&looked.etcd) == Ok(Accepted::Known);
        is_known && self.trusted.as_ref() == Some(&looked.configuration_text)
    }
}

impl Member {
    /// What is remembered of a history says nothing of the next one, whose numbers begin again further back.
    fn leave_history(&mut self, now: Duration) -> Option<FenceAfter> {
        let promised = self.ownership.leave_history();
        self.nodes.clear();
        self.lost.clear();
        self.releases = Releases::default();
        self.told = None;
        // Nodes that do not hear of the new history lose their right within this time, where it has an end.
        let wait = self
            .settings
            .terms
            .fence_after
            .takeover_wait(self.settings.terms.fence_budget);
        self.trust.claims_from = now + wait.unwrap_or_default().max(RECLAIM_TIME);
        promised
    }
}

impl Node {
    /// Whether a read counts: it is of the etcd that the node knows, or of the first one.
    pub(super) fn trusts(&mut self, ctx: &mut Ctx, looked: &mut MembershipView) -> bool {
        let Some(member) = self.member() else {
            return false;
        };
        let verdict = member.trust.etcd.judge(&looked.etcd);
        let text = std::mem::take(&mut looked.configuration_text);
        member.trust.shown = Some((looked.etcd.clone(), text));
        member.trust.unreadable = None;
        match verdict {
            Ok(accepted) => {
                self.trust(ctx, accepted);
                true
            }
            Err(refusal) => {
                self.distrust(ctx, refusal);
                false
            }
        }
    }

    fn trust(&mut self, ctx: &mut Ctx, accepted: Accepted) {
        let now = ctx.now.boot;
        let Some(member) = self.member() else { return };
        let Some((shown, text)) = &member.trust.shown else {
            return;
        };
        let Some(seen) = Known::of(shown) else { return };
        let text = text.clone();
        let is_due = member
            .trust
            .stored_at
            .is_none_or(|at| now.saturating_sub(at) >= REVISION_PAUSE);
        let is_news =
            accepted != Accepted::Known || is_due && member.trust.etcd.known() != Some(&seen);
        member.trust.highest = if accepted == Accepted::Known {
            member.trust.highest.max(seen.revision)
        } else {
            seen.revision
        };
        member.trust.etcd.accept(seen);
        if accepted == Accepted::NewHistory {
            if let Some(fence_after) = member.leave_history(now) {
                let (incarnation, has_untracked) = (
                    Incarnation::OF_ANOTHER_HISTORY,
                    self.sync.untracked().is_some(),
                );
                ctx.effects.records.push(Record::Member(Some(StoredMember {
                    incarnation,
                    fence_after,
                    has_untracked,
                })));
            }
            self.put_off(ctx, "the cluster starts a new history in etcd");
        }
        if is_news {
            self.store_known(ctx, 0);
        }
        let Some(member) = self.member() else { return };
        if member.trust.trusted.as_ref() != Some(&text) {
            member.trust.trusted = Some(text.clone());
            Self::order(
                ctx,
                EtcdRequest::Trust {
                    configuration_text: text,
                },
            );
        }
    }

    /// The node is isolated until an operator has done something.
    fn distrust(&mut self, ctx: &mut Ctx, refusal: Refusal) {
        let Some(member) = self.member() else { return };
        // What is ordered from now on is not carried out before an etcd is trusted again.
        member.trust.trusted = None;
        member.problem = Some(format!("{refusal}. {}", refusal.remedy()));
        let before = member.trust.etcd.refuse(refusal.clone());
        let is_new = before.is_none_or(|before| {
            std::mem::discriminant(&before) != std::mem::discriminant(&refusal)
        });
        let Some((shown, text)) = &member.trust.shown else {
            return;
        };
        let is_marked = shown
            .configuration
            .as_ref()
            .is_some_and(|it| it.set_back.is_some());
        let seen = shown.revision_before;
        if refusal.is_proof() && !is_marked {
            Self::order(
                ctx,
                EtcdRequest::NoteSetBack {
                    found: text.clone(),
                    fall: refusal.fall(shown),
                    why: refusal.to_string(),
                },
            );
        }
        if is_new {
            Self::order(ctx, EtcdRequest::Distrust(refusal));
            self.store_known(ctx, seen);
            self.put_off(ctx, REFUSED);
        }
        if self.membership == Membership::Joined {
            self.set_membership(ctx, Membership::Isolated);
        }
    }

    /// Answers all calls that wait for the cluster.
    fn put_off(&mut self, ctx: &mut Ctx, why: &str) {
        self.answer_asking(ctx, &Ruling::Unavailable(why.to_owned()));
        self.stop_explaining(ctx, why);
    }

    /// Stores which etcd is known, and that this revision of it was seen.
    pub(super) fn store_known(&mut self, ctx: &mut Ctx, revision: u64) {
        let now = ctx.now.boot;
        let Some(trust) = self.member().map(|member| &mut member.trust) else {
            return;
        };
        let Some(known) = trust.etcd.known().cloned() else {
            return;
        };
        trust.stored_at = Some(now);
        trust.highest = trust.highest.max(known.revision).max(revision);
        ctx.effects.records.push(Record::Etcd(Known {
            revision: trust.highest,
            ..known
        }));
    }

    /// Makes the cluster, or has it go on in an etcd that was refused; it is answered when that is done.
    pub(crate) fn init_cluster(
        &mut self,
        ctx: &mut Ctx,
        reply_to: ReplyHandle,
        init: &InitCluster,
    ) -> Option<Answer> {
        let (cluster_id, history_id) = (
            ClusterId::generate(ctx.random.bytes()),
            HistoryId::generate(ctx.random.bytes()),
        );
        let Some(member) = self.member() else {
            return Some(Err(Error::no_cluster()));
        };
        let Some((shown, text)) = &member.trust.shown else {
            return Some(Err(Error::cluster_unavailable(
                member
                    .problem
                    .as_deref()
                    .unwrap_or("etcd has not answered yet"),
            )));
        };
        let risk = if init.accept_risk.is_some() {
            AcceptedRisk::LostClaims
        } else {
            AcceptedRisk::None
        };
        let plan = plan_init(
            member.trust.etcd.known(),
            shown,
            risk,
            (cluster_id, history_id),
        );
        if let (Err(_), Some(why)) = (&plan, &member.trust.unreadable) {
            return Some(Err(Error::cluster_unavailable(why)));
        }
        match plan {
            Ok(configuration) => {
                let found = shown.configuration.is_some().then(|| text.clone());
                Self::order(
                    ctx,
                    EtcdRequest::Init {
                        reply_to,
                        found,
                        configuration,
                    },
                );
                None
            }
            Err(InitRefusal::Exists { epoch }) => Some(Err(Error::cluster_exists(epoch))),
            Err(InitRefusal::NeedsRisk(refusal)) => Some(Err(Error::needs_risk_of_init(refusal))),
            Err(InitRefusal::OtherCluster(refusal)) => {
                Some(Err(Error::other_cluster(&refusal, refusal.remedy())))
            }
        }
    }

    pub(super) fn initialized(ctx: &mut Ctx, reply_to: ReplyHandle, outcome: Result<Init, String>) {
        let answer = match outcome {
            Ok(Init::Made(it)) => Ok(Reply::Initialized(Initialized {
                cluster_id: it.cluster_id,
                epoch: it.epoch,
                history_id: it.history_id,
                etcd_cluster_id: it.etcd_cluster_id.to_string(),
            })),
            Ok(Init::Exists { epoch }) => Err(Error::cluster_exists(epoch)),
            Err(why) => Err(Error::cluster_unavailable(why)),
        };
        ctx.effects.actions.push(Action::Answer(reply_to, answer));
        Self::order(ctx, EtcdRequest::ReadMembers);
    }

    /// The membership that a right gives: none gives more than isolation in an etcd that is refused.
    pub(super) fn membership_of(&self, right: &Right, now: Duration) -> Membership {
        let is_refused = self
            .member
            .as_deref()
            .is_some_and(|member| member.trust.refuses());
        match right.membership(now) {
            Membership::Joined if is_refused => Membership::Isolated,
            membership @ (Membership::Joined
            | Membership::Isolated
            | Membership::Fenced
            | Membership::Standalone) => membership,
        }
    }
}
