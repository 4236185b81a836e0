//! An announcement that is over.

use soramode_protocol::id::{ChannelId, PlanId};

use super::stored::AnnouncementProgress;

/// An announcement that has reached every channel that it can.
pub(crate) struct FinishedAnnouncement {
    pub(crate) plan_id: Option<PlanId>,
    pub(crate) channel_ids: Option<Vec<ChannelId>>,
    pub(crate) cancelled: bool,
    pub(crate) progress: AnnouncementProgress,
    /// Problem of the last call that failed.
    pub(crate) last_problem: Option<String>,
    /// False if there were clients, and none of them could be told.
    pub(crate) has_reached: bool,
}
