//! Plans, announcements and requests to end sessions as a store keeps them.

use std::time::Duration;

use soramode_protocol::announce::NoticeData;
use soramode_protocol::id::{AnnouncementId, ChannelId, EndId, PlanId, RollId};
use soramode_protocol::plan::{EndRate, PlanAnnounced, PlanOutcome, PlanStep};
use soramode_protocol::time::Time;

/// A moment by both clocks. The boot clock counts while the machine runs; after a reboot the wall clock is all that is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Time by the wall clock.
    pub wall: Time,
    /// Time by the boot clock, in microseconds; negative before the boot.
    pub boot_micros: i64,
}

/// A plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPlan {
    /// Its id.
    pub id: PlanId,
    /// Actor that started it.
    pub owner: String,
    /// Person that the owner acted for.
    pub on_behalf_of: Option<String>,
    /// Reason that the owner gave.
    pub reason: Option<String>,
    /// Roll that started it.
    pub roll: Option<RollId>,
    /// Time at which it was started.
    pub created_at: Time,
    /// Time of the close, as it was requested.
    pub requested_at: Option<Time>,
    /// Time at which the maintenance is expected to be over.
    pub expected_end_at: Option<Time>,
    /// Its steps.
    pub steps: Vec<PlanStep>,
    /// Total lateness up to which steps still run.
    pub max_delay: Duration,
    /// Number of other nodes that must be open at the close.
    pub keep_open: Option<u64>,
    /// Its progress.
    pub progress: PlanProgress,
}

/// The part of a plan that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanProgress {
    /// When the close is due, delays included.
    pub closes: Moment,
    /// Round of the roll in which it may close the node.
    pub round: Option<u64>,
    /// When each of the first steps was done.
    pub done: Vec<Time>,
    /// Total time by which steps were moved.
    pub delay: Duration,
    /// The part of it that counts as lateness.
    pub late: Duration,
    /// Its latest announcement.
    pub announced: Option<PlanAnnounced>,
    /// Latest time that was announced for its end: no session is ended before it.
    pub announced_end: Option<Moment>,
    /// Number of sessions that the SFU was asked to end.
    pub asked: u64,
    /// Number of these that have ended.
    pub ended: u64,
    /// Set once it is over.
    pub over: Option<StoredOutcome>,
}

impl PlanProgress {
    /// Returns whether it differs from another in the number of channels and sessions alone.
    pub(crate) fn is_same_but_for_counts(&self, other: &Self) -> bool {
        let with_its_counts = Self {
            announced: other.announced,
            asked: other.asked,
            ended: other.ended,
            ..self.clone()
        };
        with_its_counts == *other
    }
}

/// End of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredOutcome {
    /// The outcome.
    pub outcome: PlanOutcome,
    /// Cause of it.
    pub why: Option<String>,
    /// Actor that ended the plan.
    pub by: Option<String>,
    /// Reason that the actor gave.
    pub reason: Option<String>,
    /// Time of the end.
    pub at: Time,
    /// Generation of the mode at the end; `None` in the state of an older daemon.
    pub generation: Option<u64>,
}

/// An announcement that has not reached every channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAnnouncement {
    /// Its id, which clients receive.
    pub id: AnnouncementId,
    /// Plan that announces.
    pub plan_id: Option<PlanId>,
    /// Text for people, complete.
    pub text: Option<String>,
    /// Time before which no session is ended.
    pub sessions_end_at: Option<Time>,
    /// Data for the application.
    pub data: Option<NoticeData>,
    /// True if it takes back earlier announcements.
    pub cancelled: bool,
    /// Channels that it goes to; all if absent.
    pub channel_ids: Option<Vec<ChannelId>>,
    /// Number of receivers of webhooks to which it goes, too.
    pub webhooks: u64,
    /// When it began: it goes to the sessions that there were.
    pub began: Moment,
    /// Its progress.
    pub progress: AnnouncementProgress,
}

impl StoredAnnouncement {
    /// Returns whether this plan announces, and takes nothing back.
    pub(crate) fn is_of(&self, plan_id: &PlanId) -> bool {
        self.plan_id.as_ref() == Some(plan_id) && !self.cancelled
    }
}

/// The part of an announcement that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnouncementProgress {
    /// Sessions that were created before this have been told. Those from it on may have been.
    pub cursor: Time,
    /// Number of channels that it goes to.
    pub channels: u64,
    /// Number of channels that Sora's API has told.
    pub told: u64,
    /// Number of channels that it was refused for.
    pub failed: u64,
    /// Number of channels for which there was neither an API nor a subscriber.
    pub unreached: u64,
    /// True if a channel had it before a restart, after which it goes to some channels once more.
    pub had_told: bool,
    /// Most subscribers that any channel's notice went to.
    pub subscribers: u64,
}

/// A request to end sessions, as long as some of them are left. It names the sessions by their age, not one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEnd {
    /// Its id.
    pub id: EndId,
    /// Plan that ends them.
    pub plan_id: Option<PlanId>,
    /// Client that requested it, or that started the plan.
    pub actor: String,
    /// Reason that the client gave.
    pub reason: Option<String>,
    /// Channel of the session to end; all if absent.
    pub channel_id: Option<ChannelId>,
    /// Rate.
    pub rate: EndRate,
    /// Its progress.
    pub progress: EndProgress,
}

/// The part of a request to end sessions that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndProgress {
    /// Sessions that were created later are not meant.
    pub cutoff: Time,
    /// When the SFU is to be asked next.
    pub next: Moment,
}
