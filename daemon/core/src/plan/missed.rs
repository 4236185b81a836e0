//! The end of a plan that is too late, with the cause of the delay.

use soramode_protocol::plan::{PlanHold, PlanOutcome};

use super::context::{PlanEffects, PlanView};
use super::{Finish, Plans};

impl Plans {
    /// Ends the plan because it is too late; with the cause of the delay, if it is known.
    pub(super) fn miss(
        &mut self,
        view: &PlanView<'_>,
        cause: Option<String>,
        out: &mut PlanEffects<'_>,
    ) {
        let allowed = self
            .plan
            .as_ref()
            .map_or(0, |plan| plan.max_delay.as_secs());
        let why = match cause {
            Some(cause) => format!("late by more than {allowed} s in total: {cause}"),
            None => format!("late by more than {allowed} s in total"),
        };
        self.finish(view, Finish::by_system(PlanOutcome::Missed, Some(why)), out);
    }
}

/// Describes a plan's delay by its announcement, with the problem of the last call that failed.
pub(super) fn announcing_cause(problem: Option<&str>) -> String {
    problem.map_or_else(
        || "an announcement did not reach every channel in time".to_owned(),
        |problem| format!("an announcement did not reach every channel in time: {problem}"),
    )
}

/// Describes the delay of a step that was held for this reason.
pub(super) const fn held_cause(hold: PlanHold) -> &'static str {
    match hold {
        PlanHold::StorageFailed => "soramoded could not write its state",
        PlanHold::SessionsIncomplete => "the session list was incomplete",
        PlanHold::KeepOpen => "too few other nodes were open",
        PlanHold::Announcing => "an announcement did not reach every channel in time",
        PlanHold::Reservation => "its roll had not reserved the other nodes",
        PlanHold::AnnouncedEnd => "the clock was set back",
        PlanHold::NoMeans => "there were no means to announce or to end sessions",
        PlanHold::NotInForce => "rooms of Janus were not locked",
    }
}
