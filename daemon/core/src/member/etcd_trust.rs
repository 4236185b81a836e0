//! Identity of the node's etcd: a read counts only if it is of the etcd that the node knows.

use std::time::Duration;

use soramode_protocol::id::{ClusterId, HistoryId};

use crate::cluster::history::{
    Accepted, AcceptedRisk, Configuration, EtcdIdentity, InitRefusal, KnownEtcd, ObservedEtcd,
    Refusal, plan_init,
};
use crate::ctx::Ctx;
use crate::effect::Record;
use crate::fault::PlantedFault;

use super::etcd::{EtcdRequest, MembersRead};

/// The highest revision that was seen is stored at most this often, beside each join, each claim, and each refusal.
const REVISION_PAUSE: Duration = Duration::from_mins(1);

/// Minimum time in a new history in which nodes claim only the channels that they serve.
pub(super) const RECLAIM_TIME: Duration = Duration::from_secs(10);

/// Reason of a node that refuses its etcd.
pub(super) const REFUSED: &str = "this etcd is refused";

/// Identity of the node's etcd.
#[derive(Default)]
pub(super) struct EtcdTrust {
    etcd: KnownEtcd,
    /// The last read, and the text of `/cfg` in it.
    shown: Option<(ObservedEtcd, Vec<u8>)>,
    /// The text of `/cfg` that transactions compare.
    trusted: Option<Vec<u8>>,
    /// Why the last read failed.
    unreadable: Option<String>,
    /// The highest revision that is to be stored: a claim's answer may come before that to a read that was sent earlier.
    highest: u64,
    /// When it was stored last.
    stored_at: Option<Duration>,
    /// Time before which no channel is claimed that the node does not serve.
    claims_from: Duration,
}

/// Plan of `nodes init`: the configuration to write, and the text that it replaces.
pub(super) struct PlannedInit {
    pub(super) found: Option<Vec<u8>>,
    pub(super) configuration: Configuration,
}

/// Reason why nothing is planned.
pub(super) enum CannotInit {
    /// etcd has not answered yet.
    NotRead,
    /// etcd cannot be read.
    Unreadable(String),
    Refused(InitRefusal),
}

impl EtcdTrust {
    pub(super) fn new(stored: Option<EtcdIdentity>, fault: PlantedFault) -> Self {
        Self {
            etcd: KnownEtcd::new(stored, fault),
            ..Self::default()
        }
    }

    pub(super) const fn refuses(&self) -> bool {
        self.etcd.refusal().is_some()
    }

    /// Notes that a read failed: the one before it does not describe etcd any more.
    pub(super) fn read_failed(&mut self, why: String) {
        self.unreadable = Some(why);
    }

    /// Evaluates the etcd of a read.
    pub(super) fn evaluate(&mut self, read: &mut MembersRead) -> Result<Accepted, Refusal> {
        let text = std::mem::take(&mut read.configuration_text);
        self.shown = Some((read.etcd.clone(), text));
        self.unreadable = None;
        self.etcd.evaluate(&read.etcd)
    }

    /// Accepts the etcd that was evaluated. Returns whether that must be stored; `None` if it has no cluster.
    pub(super) fn accept(&mut self, accepted: Accepted, now: Duration) -> Option<bool> {
        let (shown, _) = self.shown.as_ref()?;
        let seen = EtcdIdentity::of(shown)?;
        let is_due = self
            .stored_at
            .is_none_or(|at| now.saturating_sub(at) >= REVISION_PAUSE);
        let is_new = accepted != Accepted::Known || is_due && self.etcd.known() != Some(&seen);
        self.highest = if accepted == Accepted::Known {
            self.highest.max(seen.revision)
        } else {
            seen.revision
        };
        self.etcd.accept(seen);
        Some(is_new)
    }

    /// Has transactions compare the configuration that was read last.
    pub(super) fn compare_shown(&mut self, ctx: &mut Ctx) {
        let text = self.shown.as_ref().map(|(_, text)| text);
        if let Some(text) = text.filter(|text| self.trusted.as_ref() != Some(text)) {
            ctx.request_etcd(EtcdRequest::Trust {
                configuration_text: text.clone(),
            });
            self.trusted = Some(text.clone());
        }
    }

    /// Refuses the etcd that was evaluated. Returns whether that is new.
    pub(super) fn refuse(&mut self, ctx: &mut Ctx, refusal: &Refusal) -> bool {
        // No later request is carried out before an etcd is trusted again.
        self.trusted = None;
        let before = self.etcd.refuse(refusal.clone());
        let is_new = before.is_none_or(|before| {
            std::mem::discriminant(&before) != std::mem::discriminant(refusal)
        });
        let Some((shown, text)) = &self.shown else {
            ctx.bug("a refused etcd was not read");
            return is_new;
        };
        let configuration = shown.configuration.as_ref();
        let is_marked = configuration.is_some_and(|it| it.set_back.is_some());
        let seen = shown.revision_before;
        if refusal.is_proof() && !is_marked {
            ctx.request_etcd(EtcdRequest::NoteRollback {
                found: text.clone(),
                rollback: refusal.rollback(shown),
                why: refusal.to_string(),
            });
        }
        if is_new {
            ctx.request_etcd(EtcdRequest::Distrust(refusal.clone()));
            self.store(ctx, seen);
        }
        is_new
    }

    /// Stores which etcd is known, and that this revision of it was seen.
    pub(super) fn store(&mut self, ctx: &mut Ctx, revision: u64) {
        let Some(known) = self.etcd.known().cloned() else {
            return;
        };
        self.stored_at = Some(ctx.now.boot);
        self.highest = self.highest.max(known.revision).max(revision);
        ctx.record(Record::Etcd(EtcdIdentity {
            revision: self.highest,
            ..known
        }));
    }

    /// Plans the configuration of a new cluster, or of one that goes on in an etcd that was refused.
    pub(super) fn plan_init(
        &self,
        risk: AcceptedRisk,
        ids: (ClusterId, HistoryId),
    ) -> Result<PlannedInit, CannotInit> {
        let (shown, text) = self.shown.as_ref().ok_or(CannotInit::NotRead)?;
        let configuration = plan_init(self.etcd.known(), shown, risk, ids).map_err(|refusal| {
            let unreadable = self.unreadable.clone();
            unreadable.map_or(CannotInit::Refused(refusal), CannotInit::Unreadable)
        })?;
        let found = shown.configuration.is_some().then(|| text.clone());
        Ok(PlannedInit {
            found,
            configuration,
        })
    }

    /// Lets nodes reclaim their channels in a new history until this time.
    pub(super) const fn reclaim_until(&mut self, until: Duration) {
        self.claims_from = until;
    }

    /// Returns the time for which channels are still only reclaimed.
    pub(super) fn reclaims_for(&self, now: Duration) -> Option<Duration> {
        self.claims_from
            .checked_sub(now)
            .filter(|left| !left.is_zero())
    }

    /// Returns whether a read that was not evaluated yet is of the trusted etcd.
    pub(super) fn takes(&self, read: &MembersRead) -> bool {
        let is_known = self.etcd.evaluate(&read.etcd) == Ok(Accepted::Known);
        is_known && self.trusted.as_ref() == Some(&read.configuration_text)
    }
}
