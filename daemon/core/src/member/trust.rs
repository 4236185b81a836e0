//! Identity of the node's etcd: a read counts only if it is of the etcd that the node knows.

use std::time::Duration;

use crate::cluster::history::{Accepted, EtcdIdentity, KnownEtcd, ObservedEtcd};
use crate::fault::PlantedFault;

use super::etcd::MembershipView;

/// The highest revision that was seen is stored at most this often, beside each join, each claim, and each refusal.
pub const REVISION_PAUSE: Duration = Duration::from_mins(1);

/// Minimum time in a new history in which nodes claim only the channels that they serve.
pub const RECLAIM_TIME: Duration = Duration::from_secs(10);

/// Reason of a node that refuses its etcd.
pub(super) const REFUSED: &str = "this etcd is refused";

/// Identity of the node's etcd.
#[derive(Default)]
pub(super) struct Trust {
    pub(super) etcd: KnownEtcd,
    /// The last read, and the text of `/cfg` in it.
    pub(super) shown: Option<(ObservedEtcd, Vec<u8>)>,
    /// The text of `/cfg` that transactions compare.
    pub(super) trusted: Option<Vec<u8>>,
    /// Why the last read failed.
    pub(super) unreadable: Option<String>,
    /// The highest revision that is to be stored: a claim's answer may come before that to a read that was sent earlier.
    pub(super) highest: u64,
    /// When it was stored last.
    pub(super) stored_at: Option<Duration>,
    /// Time before which no channel is claimed that the node does not serve.
    pub(super) claims_from: Duration,
}

impl Trust {
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

    /// Returns the time for which channels are still only reclaimed.
    pub(super) fn reclaims_for(&self, now: Duration) -> Option<Duration> {
        self.claims_from
            .checked_sub(now)
            .filter(|left| !left.is_zero())
    }

    /// Returns whether a read that was not judged yet is of the trusted etcd.
    pub(super) fn takes(&self, view: &MembershipView) -> bool {
        let is_known = self.etcd.judge(&view.etcd) == Ok(Accepted::Known);
        is_known && self.trusted.as_ref() == Some(&view.configuration_text)
    }
}
