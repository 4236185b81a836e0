//! Reports a plan that does not progress: its drain has stalled, or it has no means for its steps.

use soramode_protocol::error::Error;
use soramode_protocol::event::EventKind;
use soramode_protocol::id::PlanId;
use soramode_protocol::plan::StallCause;

use super::Plans;
use super::context::{PlanCommand, PlanEffects, PlanView};
use super::means::Means;
use super::stored::StoredPlan;

impl Plans {
    /// Reports a plan that does not progress: its drain has stalled, or it has no means for its steps.
    pub(super) fn report_stall(&mut self, view: &PlanView<'_>, out: &mut PlanEffects<'_>) {
        let mut stalled = |plan_id, cause| {
            let event = EventKind::PlanStalled { plan_id, cause };
            out.commands.push(PlanCommand::Emit(event));
        };
        if let Some(plan_id) = self.watch_means(view) {
            stalled(plan_id, StallCause::NoMeans);
        }
        let obstacle = self.end_obstacle(view);
        if let Some(cause) = self.stall.check(&view.state, obstacle)
            && let Some(plan) = self.running()
            && cause != StallCause::NoMeans
        {
            stalled(plan.id.clone(), cause);
        }
    }

    /// Returns why sessions are not ended that are to be.
    fn end_obstacle(&self, view: &PlanView<'_>) -> Option<StallCause> {
        if !view.state.can_end && self.running().is_some_and(StoredPlan::is_ending) {
            Some(StallCause::NoMeans)
        } else {
            self.end_queue
                .is_failing()
                .then_some(StallCause::EndFailing)
        }
    }

    /// Returns why the plan that runs cannot take one of the steps that are left, or cannot go on ending sessions, if it has no means to.
    pub(crate) fn missing_means(&self, means: &Means) -> Option<(&PlanId, Error)> {
        let plan = self.running()?;
        let left = plan.steps.iter().skip(plan.progress.done.len());
        let ending = plan.steps.last().filter(|_| plan.is_ending());
        let is_announcing = self.announcements.of_plan(&plan.id).is_some();
        let current = plan.done_steps().last().filter(|_| is_announcing);
        let mut needed = current.into_iter().chain(left).chain(ending);
        let problem = needed.find_map(|step| means.check(step).err())?;
        Some((&plan.id, problem))
    }

    /// Returns the plan to report because it has had no means for a while.
    pub(super) fn watch_means(&mut self, view: &PlanView<'_>) -> Option<PlanId> {
        let missing = self.missing_means(&view.means).map(|(id, _)| id.clone());
        let is_due = self
            .means_watch
            .is_due(view.state.now.boot, missing.as_ref());
        missing.filter(|_| is_due)
    }
}
