//! Fences in progress.

use std::collections::{BTreeMap, BTreeSet};

use crate::handles::{FenceId, SocketId};
use crate::settings::FenceMeans;

use super::etcd::FenceScope;

/// Fences in progress.
#[derive(Default)]
pub(super) struct Fences {
    pub(super) last_id: u64,
    pub(super) in_progress: BTreeMap<FenceId, Fence>,
}

pub(super) struct Fence {
    pub(super) of: FenceScope,
    /// Number of clients that were notified, once that is known.
    pub(super) notified: Option<u64>,
    pub(super) acknowledged: BTreeSet<SocketId>,
    /// Why it has not ended.
    pub(super) problem: Option<String>,
}

impl Fences {
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
        let scope = match &fence.of {
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
