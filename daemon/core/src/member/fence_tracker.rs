//! Fences in progress.

use std::collections::{BTreeMap, BTreeSet};

use crate::count::count;
use crate::handles::{FenceId, SocketId};
use crate::settings::FenceMeans;

use super::etcd::FenceScope;

/// Fences in progress.
#[derive(Default)]
pub(super) struct FenceTracker {
    last_id: u64,
    in_progress: BTreeMap<FenceId, Fence>,
}

struct Fence {
    scope: FenceScope,
    /// Number of clients that were notified, once that is known.
    notified: Option<u64>,
    acknowledged: BTreeSet<SocketId>,
    /// Reason why it has not ended.
    problem: Option<String>,
}

impl FenceTracker {
    /// Begins a fence, unless one of these sessions is in progress.
    pub(super) fn begin(&mut self, scope: FenceScope) -> Option<FenceId> {
        if self.in_progress.values().any(|fence| fence.scope == scope) {
            return None;
        }
        self.last_id += 1;
        let id = FenceId(self.last_id);
        let fence = Fence {
            scope,
            notified: None,
            acknowledged: BTreeSet::new(),
            problem: None,
        };
        self.in_progress.insert(id, fence);
        Some(id)
    }

    pub(super) fn scope(&self, id: FenceId) -> Option<&FenceScope> {
        self.in_progress.get(&id).map(|fence| &fence.scope)
    }

    /// Notes how many clients were notified. Returns false if the fence has ended.
    pub(super) fn on_notified(&mut self, id: FenceId, clients: u64) -> bool {
        let fence = self.in_progress.get_mut(&id);
        fence.map(|fence| fence.notified = Some(clients)).is_some()
    }

    /// Notes a client's confirmation. Returns false if the fence has ended.
    pub(super) fn on_acknowledged(&mut self, id: FenceId, by: SocketId) -> bool {
        let fence = self.in_progress.get_mut(&id);
        fence.map(|fence| fence.acknowledged.insert(by)).is_some()
    }

    /// Notes why a fence has not ended yet. Returns false if it has.
    pub(super) fn on_failed(&mut self, id: FenceId, why: String) -> bool {
        let fence = self.in_progress.get_mut(&id);
        fence.map(|fence| fence.problem = Some(why)).is_some()
    }

    /// Returns whether every notified client has confirmed a fence.
    pub(super) fn is_acknowledged(&self, id: FenceId) -> bool {
        self.in_progress.get(&id).is_some_and(|fence| {
            let acknowledged = count(fence.acknowledged.len());
            fence
                .notified
                .is_some_and(|notified| notified > 0 && acknowledged >= notified)
        })
    }

    /// Ends a fence. Returns its scope, unless it had ended before.
    pub(super) fn end(&mut self, id: FenceId) -> Option<FenceScope> {
        self.in_progress.remove(&id).map(|fence| fence.scope)
    }

    /// Describes, for an operator, sessions that are served without a lease.
    pub(super) fn problem(&self, means: FenceMeans) -> Option<String> {
        let fence = self.in_progress.values().next()?;
        let unfenced = match means {
            FenceMeans::None => {
                ". Neither --on-fence nor a client ends them: end them on the SFU, then send a Report"
            }
            FenceMeans::Socket if fence.notified == Some(0) => {
                ": no client has subscribed with ends: true"
            }
            FenceMeans::SoraApi | FenceMeans::Exec | FenceMeans::Socket => "",
        };
        let scope = match &fence.scope {
            FenceScope::All => "the sessions on this node must end before it can join".to_owned(),
            FenceScope::Channel(channel) => format!(
                "the session on channel {:?}, which another node owns, must end",
                channel.as_str()
            ),
        };
        let why = fence
            .problem
            .as_ref()
            .map(|why| format!(" ({why})"))
            .unwrap_or_default();
        Some(format!("{scope}{unfenced}{why}"))
    }
}
