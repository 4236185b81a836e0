//! Maintenance plans: `StartPlan`, `GetPlan`, `CancelPlan`. A plan is a list of timed steps that
//! the daemon runs by itself.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::id::{PlanId, RollId};
use crate::mode::{REASON_BYTES_MAX, SettableMode, check_length};
use crate::number::is_zero;
pub use crate::plan_steps::*;
use crate::time::Time;
use crate::wire_enum::wire_enum;

wire_enum! {
    /// State of a plan.
    pub enum PlanState {
        /// No step has run.
        Scheduled = "scheduled",
        /// A step has run, and the node is not closed yet.
        Lead = "lead",
        /// Node is closed.
        Closed = "closed",
        /// Sessions are being ended.
        Ending = "ending",
        /// Plan is over; it has an outcome.
        Over = "over",
    }
}

wire_enum! {
    /// Outcome of a plan that is over.
    pub enum PlanOutcome {
        /// Node is drained.
        Done = "done",
        /// Cancelled by an operator, or by opening the node.
        Cancelled = "cancelled",
        /// Replaced by another plan.
        Replaced = "replaced",
        /// A step was late by more than the plan allows.
        Missed = "missed",
        /// A step could not be carried out.
        Failed = "failed",
    }
}

wire_enum! {
    /// Reason why a step that is due does not run yet.
    pub enum PlanHold {
        /// The state cannot be written.
        StorageFailed = "storage_failed",
        /// Session list may lack sessions of the SFU.
        SessionsIncomplete = "sessions_incomplete",
        /// Fewer other nodes are open than `keep_open` asks for.
        KeepOpen = "keep_open",
        /// The announcement before it has not reached every channel yet.
        Announcing = "announcing",
        /// Reservation of the plan's roll was renewed, and the plan was not started again in that
        /// round.
        Reservation = "reservation",
        /// The time that was announced for the end has not come, because the clock was set back.
        AnnouncedEnd = "announced_end",
        /// The step announces or ends sessions, and there are no means to.
        NoMeans = "no_means",
        /// Each step has run, and rooms of the SFU are still to be locked.
        NotInForce = "not_in_force",
    }
}

/// Step as it stands: the step, its time, and when it was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PlanStepState {
    /// The step.
    #[serde(flatten)]
    pub step: PlanStep,
    /// Time at which it is due, delays included.
    pub due_at: Time,
    /// Time at which it was done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub done_at: Option<Time>,
}

/// Progress of a plan's latest announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PlanAnnounced {
    /// Time at which it began.
    pub at: Time,
    /// Channels that it goes to.
    pub channels: u64,
    /// Channels that have it.
    pub told: u64,
    /// Channels that do not get it: the SFU refused it three times.
    pub failed: u64,
    /// Channels that it still goes to, those without a session any more left out; absent once it is
    /// over.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub left: u64,
}

/// A plan, as `GetPlan`, `GetStatus` and `Progress` show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Plan {
    /// Identifier of the plan.
    pub id: PlanId,
    /// State of the plan.
    pub state: PlanState,
    /// Outcome, if it is over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub outcome: Option<PlanOutcome>,
    /// Cause of the outcome.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
    /// Actor that ended it: a person, or `system:` and a part of soramoded.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub over_by: Option<String>,
    /// Reason that this actor gave.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub over_reason: Option<String>,
    /// Time at which it was over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub over_at: Option<Time>,
    /// Actor that started it.
    pub owner: String,
    /// Person that the owner acted for, as the caller said; not verified.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub on_behalf_of: Option<String>,
    /// Reason that the owner gave.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Roll that started it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub roll: Option<RollId>,
    /// Time at which it was started.
    pub created_at: Time,
    /// Time of the close, delays included.
    pub at: Time,
    /// Time at which the maintenance is expected to be over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expected_end_at: Option<Time>,
    /// Steps in their order.
    pub steps: Vec<PlanStepState>,
    /// Total lateness of its steps so far.
    pub delay_seconds: u64,
    /// Total lateness at which it is missed.
    pub max_delay_seconds: u64,
    /// Reason why the step that is due does not run yet.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held: Option<PlanHold>,
    /// Its latest announcement.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub announced: Option<PlanAnnounced>,
    /// Sessions that the SFU was asked to end.
    pub asked: u64,
    /// Sessions of these that have ended.
    pub ended: u64,
    /// Sessions of these that are still there although the SFU was asked, or refused to.
    pub failed: u64,
    /// Latest problem with the SFU, until it answers again.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
}

impl Plan {
    /// Returns the step that runs next.
    pub fn next_step(&self) -> Option<&PlanStepState> {
        let is_over = self.outcome.is_some();
        self.steps
            .iter()
            .find(|step| step.done_at.is_none() && !is_over)
    }

    /// Returns the mode that readiness answers as although the node is still open: a step has made
    /// it unready for the close.
    pub fn unready_for(&self) -> Option<SettableMode> {
        let is_unready = |it: &PlanStepState| {
            it.done_at.is_some() && matches!(it.step, PlanStep::Unready { .. })
        };
        if self.state != PlanState::Lead || !self.steps.iter().any(is_unready) {
            return None;
        }
        self.steps.iter().find_map(|it| match it.step {
            PlanStep::Mode { mode, .. } => Some(mode),
            PlanStep::Unready { .. }
            | PlanStep::Announce { .. }
            | PlanStep::End { .. }
            | PlanStep::Unknown => None,
        })
    }

    /// Returns the time from which sessions are ended.
    pub fn sessions_end_at(&self) -> Option<Time> {
        let last = self.steps.last()?;
        matches!(last.step, PlanStep::End { .. }).then_some(last.due_at)
    }
}

/// Operator that closed a node before the plan did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClosedBefore {
    /// Actor of the change.
    pub actor: String,
    /// Reason that the actor gave.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Time of the change.
    pub since: Time,
}

/// Result of the method `StartPlan`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PlanStarted {
    /// The plan.
    pub plan: Plan,
    /// `false` if the same plan was there already.
    pub created: bool,
    /// Generation of the mode, with the close if that is done.
    pub generation: u64,
    /// Operator that had closed the node before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub closed_before_by: Option<ClosedBefore>,
    /// Warning, such as an end that takes hours at its rate.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub warning: Option<String>,
}

/// Parameters of `GetPlan`; there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GetPlan {}

/// Result of the method `GetPlan`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PlanFound {
    /// The plan that runs; if none does, the last one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plan: Option<Plan>,
}

/// Parameters of the method `CancelPlan`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CancelPlan {
    /// Plan to cancel. Without it the plan that runs, and every session that waits to be ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<PlanId>,
    /// Reason, recorded with the event. At most [`REASON_BYTES_MAX`] bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(length(max = REASON_BYTES_MAX)))]
    pub reason: Option<String>,
}

impl CancelPlan {
    /// Checks the limits of the parameters.
    pub fn check(&self) -> Result<(), Error> {
        check_length("reason", self.reason.as_deref(), REASON_BYTES_MAX)
    }
}

/// Result of the method `CancelPlan`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PlanCancelled {
    /// `true` if something was cancelled: a plan, or sessions that waited to be ended.
    pub found: bool,
    /// Plan that was cancelled; with `found: false` the plan with this id, which is over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plan: Option<Plan>,
    /// Sessions that waited to be ended and are not asked any more.
    #[serde(default)]
    pub sessions: u64,
    /// Sessions that the SFU is being asked to end at this moment: these may still end.
    pub in_flight: u64,
    /// `false` if a restart may bring the plan back, because the state cannot be written.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub durable: Option<bool>,
}

/// Why `StartPlan` was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PlanRefusal {
    /// Another plan runs.
    Exists,
    /// Daemon is in shadow mode: it would end sessions of a node that is not closed.
    Shadow,
    /// Fewer other nodes are open than `keep_open` asks for.
    KeepOpen,
    /// A newer daemon's. Never made here.
    #[cfg_attr(feature = "schema", schemars(skip))]
    #[serde(other)]
    Unknown,
}

wire_enum! {
    /// Cause of a plan, or of a drain, that does not progress.
    pub enum StallCause {
        /// No session has ended by itself.
        NoDepartures = "no_departures",
        /// Session list may lack sessions of the SFU.
        SessionsIncomplete = "sessions_incomplete",
        /// SFU does not end the sessions that it was asked to.
        EndFailing = "end_failing",
        /// Sessions are to be announced to or ended, and there are no means to.
        NoMeans = "no_means",
        /// The state cannot be written.
        StorageFailed = "storage_failed",
    }
}

/// A drain that does not progress: the node is closed, and no session has ended for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Stalled {
    /// Cause, as far as it is known.
    pub cause: StallCause,
    /// Time of the last progress: the last end of a session, or the close.
    pub since: Time,
}
