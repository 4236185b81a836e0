//! A plan as clients see it.

use soramode_protocol::id::PlanId;
use soramode_protocol::plan::{Plan, PlanAnnounced, PlanHold, PlanOutcome, PlanStepState};

use super::Plans;
use super::context::NodeState;
use super::stored::{StoredOutcome, StoredPlan};

impl Plans {
    /// Returns the plan that runs.
    pub(crate) fn shown_running(&self, node: &NodeState) -> Option<Plan> {
        self.running().map(|plan| self.shown(node, plan))
    }

    /// Returns the plan that runs, or the last one.
    pub(crate) fn shown_last(&self, node: &NodeState) -> Option<Plan> {
        self.plan.as_ref().map(|plan| self.shown(node, plan))
    }

    /// Returns the last plan, if it was missed or has failed.
    pub(crate) fn unfinished(&self) -> Option<(&PlanId, &StoredOutcome)> {
        let plan = self.plan.as_ref()?;
        let over = plan.progress.over.as_ref()?;
        let is_unfinished = matches!(over.outcome, PlanOutcome::Missed | PlanOutcome::Failed);
        is_unfinished.then_some((&plan.id, over))
    }

    /// Returns the plan with this id.
    pub(crate) fn shown_with_id(&self, node: &NodeState, id: &PlanId) -> Option<Plan> {
        self.find(id).map(|plan| self.shown(node, plan))
    }

    fn shown(&self, node: &NodeState, plan: &StoredPlan) -> Plan {
        let now = node.now;
        let progress = &plan.progress;
        let over = progress.over.as_ref();
        let steps = plan.steps.iter().enumerate().map(|(index, step)| {
            let done_at = progress.done.get(index).copied();
            PlanStepState {
                step: step.clone(),
                due_at: done_at.unwrap_or_else(|| plan.due(step, now).wall),
                done_at,
            }
        });
        Plan {
            id: plan.id.clone(),
            state: plan.state(node.mode),
            outcome: over.map(|over| over.outcome),
            why: over.and_then(|over| over.why.clone()),
            over_by: over.and_then(|over| over.by.clone()),
            over_reason: over.and_then(|over| over.reason.clone()),
            over_at: over.map(|over| over.at),
            owner: plan.owner.clone(),
            on_behalf_of: plan.on_behalf_of.clone(),
            reason: plan.reason.clone(),
            roll: plan.roll.clone(),
            created_at: plan.created_at,
            at: plan.due_close(now),
            expected_end_at: plan.expected_end_at,
            steps: steps.collect(),
            delay_seconds: progress.delay.as_secs(),
            max_delay_seconds: plan.max_delay.as_secs(),
            held: self
                .step_hold
                .or_else(|| hold_of_ending(node, plan))
                .or_else(|| hold_by_locks(node, plan)),
            announced: progress.announced.map(|announced| PlanAnnounced {
                left: self.announcements.left(&plan.id),
                ..announced
            }),
            asked: progress.asked,
            ended: progress.ended,
            failed: self.end_queue.failed(&plan.id),
            problem: self
                .end_queue
                .problem()
                .filter(|_| over.is_none() && plan.is_ending())
                .cloned(),
        }
    }
}

/// Returns the reason why a plan asks for no session although it has begun to end them.
fn hold_of_ending(node: &NodeState, plan: &StoredPlan) -> Option<PlanHold> {
    if !plan.is_ending() {
        None
    } else if node.is_storage_failed {
        Some(PlanHold::StorageFailed)
    } else if !node.is_complete {
        Some(PlanHold::SessionsIncomplete)
    } else if !node.can_end {
        Some(PlanHold::NoMeans)
    } else if plan.time_to_announced_end(node.now).is_zero() {
        None
    } else {
        Some(PlanHold::AnnouncedEnd)
    }
}

/// Returns the hold of a plan without further steps that waits for nothing but locks of rooms: to end sessions, or to be done.
fn hold_by_locks(node: &NodeState, plan: &StoredPlan) -> Option<PlanHold> {
    let is_empty = node.session_count == 0;
    let waits = (is_empty && !node.is_in_force) || node.has_postponed;
    let has_run = plan.has_closed() && plan.next_step().is_none() && !plan.is_over();
    (waits && has_run && node.mode.is_block()).then_some(PlanHold::NotInForce)
}
