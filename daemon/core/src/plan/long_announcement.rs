//! An announcement of a plan that takes long: the end that it names, and the time after which the plan is missed.

use std::time::Duration;

use soramode_protocol::plan::{PlanState, PlanStep};

use super::Plans;
use super::clock::shifted;
use super::context::{PlanEffects, PlanView};
use super::enqueue::with_minutes;
use super::missed::announcing_cause;
use super::renewal::Renewal;
use super::stored::StoredPlan;
use super::transitions::{PlanInput, Reaction, react};

impl Plans {
    /// Ends a plan if its announcement takes longer than the plan may be late: meanwhile the SFU did not answer, or the daemon was stopped.
    pub(super) fn miss_late_announcement(
        &mut self,
        view: &PlanView<'_>,
        out: &mut PlanEffects<'_>,
    ) -> bool {
        let is_late = self
            .announcement_limit()
            .is_some_and(|limit| view.state.now.boot > limit);
        if !is_late || view.state.is_storage_failed || view.is_opening {
            return false;
        }
        let state = self
            .running()
            .map_or(PlanState::Over, |plan| plan.state(view.mode.mode));
        if react(state, PlanInput::TooLate) != Reaction::Miss {
            return false;
        }
        let plan = self.running();
        let problem = plan.and_then(|plan| self.announcements.last_problem(&plan.id));
        let cause = announcing_cause(problem);
        self.miss(view, Some(cause), out);
        true
    }

    /// Returns the time by which the plan's announcement must have reached every channel, if one has not.
    pub(super) fn announcement_limit(&self) -> Option<Duration> {
        let plan = self.running()?;
        self.announcements.of_plan(&plan.id)?;
        plan.announcement_limit()
    }

    /// Returns what the plan's announcement names from now on, if the end that it named is past.
    pub(super) fn renewal(&self, view: &PlanView<'_>) -> Option<Renewal> {
        let plan = self.running().filter(|plan| !plan.is_ending())?;
        if !self
            .announcements
            .names_past_end(&plan.id, view.state.now.wall)
        {
            return None;
        }
        let (step, end) = (plan.done_steps().last()?, plan.steps.last()?);
        let PlanStep::Announce { text, .. } = step else {
            return None;
        };
        let gap = StoredPlan::offset_of(end).saturating_sub(StoredPlan::offset_of(step));
        let counted_from_now = shifted(view.state.now.wall, gap);
        let announced_end = plan.announced_end(view.state.now).map(|end| end.wall);
        let sessions_end_at =
            announced_end.map_or(counted_from_now, |end| end.max(counted_from_now));
        Some(Renewal {
            plan_id: plan.id.clone(),
            sessions_end_at,
            text: text
                .as_ref()
                .map(|text| with_minutes(text, Some(sessions_end_at), view.state.now)),
        })
    }
}
