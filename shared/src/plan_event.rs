//! Fields of the events of plans, announcements and ends.

use serde::{Deserialize, Serialize};

use crate::announce::NoticeData;
use crate::id::{AnnouncementId, ChannelId, EndId, PlanId};
use crate::number::is_zero;
use crate::plan::{PlanOutcome, PlanStep};
use crate::time::Time;

/// Fields of the event `plan.created`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PlanCreated {
    /// Identifier of the plan.
    pub plan_id: PlanId,
    /// Actor that started it.
    pub actor: String,
    /// Person that the actor acted for, as the caller said; not verified.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub on_behalf_of: Option<String>,
    /// Reason that the actor gave.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Time of the close.
    pub closes_at: Time,
    /// Time from which sessions are ended, if the plan ends any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sessions_end_at: Option<Time>,
    /// Steps of the plan.
    pub steps: Vec<PlanStep>,
    /// Plan that it replaces.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub replaces: Option<PlanId>,
}

/// Fields of the event `plan.step`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PlanStepDone {
    /// Identifier of the plan.
    pub plan_id: PlanId,
    /// Number of the step, from 1.
    pub step: u32,
    /// The step.
    #[serde(flatten)]
    pub done: PlanStep,
    /// Lateness of the step, by which all later ones are delayed as well.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub late_seconds: u64,
}

/// Fields of the event `plan.over`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PlanOver {
    /// Identifier of the plan.
    pub plan_id: PlanId,
    /// Outcome of the plan.
    pub outcome: PlanOutcome,
    /// Cause of the outcome.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
    /// Client that cancelled or replaced it, or the cause: `system:<cause>`.
    pub actor: String,
    /// Reason that the client gave.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Plan that replaces it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub replaced_by: Option<PlanId>,
}

/// Fields of the event `maintenance.announced`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MaintenanceAnnounced {
    /// Identifier of the announcement, as clients receive it.
    pub announcement_id: AnnouncementId,
    /// Plan that announces.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plan_id: Option<PlanId>,
    /// Client that announces, or that started the plan.
    pub actor: String,
    /// Time of the close, if the plan closes the node.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub closes_at: Option<Time>,
    /// Time before which no session is ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sessions_end_at: Option<Time>,
    /// Text for people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub text: Option<String>,
    /// Data for the application.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub data: Option<NoticeData>,
    /// Reason of the plan.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Channels that it goes to; all if absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub channel_ids: Option<Vec<ChannelId>>,
    /// Number of channels that it goes to.
    pub channels: u64,
    /// `true` if what was announced before does not happen.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub cancelled: bool,
}

/// Fields of the event `end.requested`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EndRequested {
    /// Identifier of the request.
    pub end_id: EndId,
    /// Plan that ends the sessions.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plan_id: Option<PlanId>,
    /// Client that requested it, or that started the plan.
    pub actor: String,
    /// Reason that the client gave.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Channel of the session to end; all if absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub channel_id: Option<ChannelId>,
    /// Number of sessions to end.
    pub sessions: u64,
}
