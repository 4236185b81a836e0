//! Incarnations of the node whose sessions it has no record of: it lost its state, and the SFU may still serve them.
//!
//! Their claims in etcd show that they existed. Until these are gone, or every session was reported, the node is not drained.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::cluster::Incarnation;
use crate::ctx::Ctx;
use crate::effect::Record;
use crate::node::Node;
use crate::snapshot::StoredMember;
use crate::sync::UntrackedIncarnations;

/// Between two reads of the claims that show whether they still own channels: another node may have taken those over.
const RECOUNT_PAUSE: Duration = Duration::from_mins(1);

impl Node {
    /// Takes in which incarnations of the node own channels.
    pub(super) fn on_own_claims_read(&mut self, ctx: &mut Ctx, mut owners: BTreeSet<Incarnation>) {
        if self.sync.untracked().is_none() {
            return;
        }
        let Some(member) = self.member() else { return };
        owners.retain(|owner| {
            !member.ownership.was(*owner) && !member.ownership.departures().is_purged(*owner)
        });
        if owners.is_empty() {
            self.clear_untracked(ctx);
        } else {
            self.sync.set_untracked(Some(UntrackedIncarnations::Own {
                incarnations: owners,
                read_at: ctx.now.boot,
            }));
        }
    }

    /// Has the claims counted where that is due, and notices a purge by an operator.
    pub(super) fn check_untracked(&mut self, ctx: &mut Ctx) {
        let Some(member) = self.member.as_deref() else {
            return;
        };
        let (is_purged, is_due) = match self.sync.untracked() {
            None => return,
            Some(UntrackedIncarnations::Unread) => (false, true),
            Some(UntrackedIncarnations::Own {
                incarnations,
                read_at,
            }) => (
                incarnations
                    .iter()
                    .all(|it| member.ownership.departures().is_purged(*it)),
                ctx.now.boot.saturating_sub(*read_at) >= RECOUNT_PAUSE,
            ),
        };
        if is_purged {
            self.clear_untracked(ctx);
        } else if is_due && member.ownership.is_active() {
            self.begin_count(ctx);
        }
    }

    /// Drops the incarnations: their sessions are known, or have ended.
    pub(crate) fn clear_untracked(&mut self, ctx: &mut Ctx) {
        if self.sync.untracked().is_none() {
            return;
        }
        self.sync.set_untracked(None);
        if let Some(right) = self.member().and_then(|member| member.ownership.lease()) {
            let stored = StoredMember {
                incarnation: right.incarnation(),
                fence_after: right.terms().fence_after,
                has_untracked: false,
            };
            ctx.effects.records.push(Record::Member(Some(stored)));
        }
        self.emit_vanished_if_synced(ctx);
    }
}
