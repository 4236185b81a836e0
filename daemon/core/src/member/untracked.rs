//! Incarnations of the node that it has no record of: it lost its state, and the SFU may still serve their sessions.
//!
//! Their claims in etcd show that they existed. Until these are gone, or every session was reported, the node is not drained.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::cluster::Incarnation;
use crate::ctx::Ctx;
use crate::effect::Record;
use crate::stored::StoredMember;
use crate::sync::UntrackedIncarnations;

use super::{ClusterEvent, ClusterMember, NodeView};

/// Time between two reads of the claims that show whether they still own channels: another node may have taken those over.
const RECOUNT_PAUSE: Duration = Duration::from_mins(1);

impl ClusterMember {
    /// Takes in which incarnations of the node own channels.
    pub(super) fn on_own_claims_read(
        &mut self,
        ctx: &Ctx,
        node: NodeView,
        mut owners: BTreeSet<Incarnation>,
    ) {
        if !node.has_untracked() {
            return;
        }
        owners.retain(|owner| {
            !self.ownership.was_incarnation(*owner)
                && !self.ownership.departures().is_purged(*owner)
        });
        let untracked = (!owners.is_empty()).then_some(UntrackedIncarnations::Own {
            incarnations: owners,
            read_at: ctx.now.boot,
        });
        self.events
            .push_back(ClusterEvent::UntrackedRead(untracked));
    }

    /// Has the claims counted where that is due, and notices a purge by an operator.
    pub(super) fn check_untracked(&mut self, ctx: &mut Ctx, node: NodeView) {
        let (is_purged, is_due) = match node.sync.untracked() {
            None => return,
            Some(UntrackedIncarnations::Unread) => (false, true),
            Some(UntrackedIncarnations::Own {
                incarnations,
                read_at,
            }) => (
                incarnations
                    .iter()
                    .all(|it| self.ownership.departures().is_purged(*it)),
                ctx.now.boot.saturating_sub(*read_at) >= RECOUNT_PAUSE,
            ),
        };
        if is_purged {
            self.events.push_back(ClusterEvent::UntrackedRead(None));
        } else if is_due && self.ownership.is_active() {
            self.counts.begin(ctx);
        }
    }

    /// Records that no incarnation without a record is left.
    pub(crate) fn store_all_tracked(&self, ctx: &mut Ctx) {
        if let Some(lease) = self.ownership.lease() {
            ctx.record(Record::Member(Some(StoredMember {
                incarnation: lease.incarnation(),
                fence_after: lease.terms().fence_after,
                has_untracked: false,
            })));
        }
    }
}
