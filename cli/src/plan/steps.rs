//! The steps of a plan, as rows and lines: their times, what they do, and what has failed.

use std::borrow::Cow;

use soramode_protocol::mode::{Mode, SettableMode};
use soramode_protocol::plan::{
    END_PER_MINUTE_DEFAULT, EndRate, Plan, PlanOutcome, PlanState, PlanStep, PlanStepState,
};

use crate::output::escape::escape;
use crate::output::{Output, Row, counted, times};

/// Returns the name of a step, as the rows of a plan have it.
pub(crate) fn step_name(step: &PlanStep) -> &'static str {
    match step {
        PlanStep::Mode { at_seconds: 0, .. } => "close",
        PlanStep::Mode { .. } => "tighten",
        PlanStep::Unready { .. } | PlanStep::Announce { .. } | PlanStep::End { .. } => {
            step.action()
        }
        PlanStep::Unknown => "?",
    }
}

/// Returns the details of a step: its mode, text or rate.
fn step_details(step: &PlanStep) -> Option<Cow<'_, str>> {
    match step {
        PlanStep::Mode { mode, .. } => Some(Mode::from(*mode).name().into()),
        PlanStep::Announce { text, .. } => text.as_deref().map(Cow::Borrowed),
        PlanStep::End { per_minute, .. } => Some(describe_rate(*per_minute).into()),
        PlanStep::Unready { .. } => None,
        PlanStep::Unknown => Some("a step of a newer soramoded".into()),
    }
}

/// `60/min`
fn describe_rate(rate: Option<EndRate>) -> String {
    rate.unwrap_or(EndRate::PerMinute(END_PER_MINUTE_DEFAULT))
        .to_string()
}

/// Returns a row for each step: done, due or not run.
pub(crate) fn step_rows(plan: &Plan, output: &Output) -> Vec<Row> {
    let blocks = step_that_blocks(plan);
    let row = |(number, it): (usize, &PlanStepState)| {
        let when = match it.done_at {
            Some(done_at) => {
                let (word, problem) = describe_done(plan, number);
                format!("{word} {}{problem}", output.time(done_at))
            }
            None if plan.state == PlanState::Over => "not run".to_owned(),
            None => output.time_ahead(it.due_at),
        };
        let blocks = blocked(blocks == Some(number));
        let details = step_details(&it.step).map(|details| format!(": {details}"));
        (
            step_name(&it.step),
            Some(format!("{when}{blocks}{}", details.unwrap_or_default())),
        )
    };
    plan.steps.iter().enumerate().map(row).collect()
}

/// Returns the number of the step that blocks new connections, if that is not a step of its own: the last announcement before an end, else the end.
pub(super) fn step_that_blocks(plan: &Plan) -> Option<usize> {
    let blocks_alone = |it: &PlanStepState| matches!(it.step, PlanStep::Mode { mode, .. } if mode == SettableMode::BlockNewConnection);
    if plan.sessions_end_at().is_none() || plan.steps.iter().any(blocks_alone) {
        return None;
    }
    let is_announcement = |it: &PlanStepState| matches!(it.step, PlanStep::Announce { .. });
    let end = plan.steps.len().checked_sub(1);
    plan.steps.iter().rposition(is_announcement).or(end)
}

const fn blocked(blocks: bool) -> &'static str {
    if blocks {
        ", blocks new connections"
    } else {
        ""
    }
}

/// Returns a word for a step that has run, and what failed of it. An end, and an announcement to many channels, go on after they have begun.
fn describe_done(plan: &Plan, number: usize) -> (&'static str, String) {
    let is_done_announcement =
        |it: &PlanStepState| it.done_at.is_some() && matches!(it.step, PlanStep::Announce { .. });
    let is_latest = plan.steps.iter().rposition(is_done_announcement) == Some(number);
    let failed = |failed: u64, of: String| match failed {
        0 => String::new(),
        failed => format!(", failed for {failed} of {of}"),
    };
    match plan.steps.get(number).map(|it| &it.step) {
        Some(PlanStep::End { .. }) => {
            let word = if plan.outcome == Some(PlanOutcome::Done) {
                "done"
            } else {
                "begun"
            };
            (word, failed(plan.failed, counted(plan.asked, "session")))
        }
        // The counts are those of the latest announcement.
        Some(PlanStep::Announce { .. }) if is_latest => plan.announced.map_or_else(
            || ("done", String::new()),
            |it| {
                let word = match it.left {
                    1.. => "begun",
                    0 if it.told == 0 && it.failed > 0 => "tried",
                    0 => "done",
                };
                (word, failed(it.failed, counted(it.channels, "channel")))
            },
        ),
        Some(_) | None => ("done", String::new()),
    }
}

/// Returns a line for each step to come, with its local time.
pub(crate) fn step_lines(plan: &Plan) -> Vec<String> {
    let blocks = step_that_blocks(plan);
    let line = |(number, it): (usize, &PlanStepState)| {
        let details = step_details(&it.step)
            .map(|details| format!(": {}", escape(&details)))
            .unwrap_or_default();
        format!(
            "  {}  {}{}{details}",
            times::local(it.due_at),
            step_name(&it.step),
            blocked(blocks == Some(number))
        )
    };
    plan.steps
        .iter()
        .enumerate()
        .filter(|(_, it)| it.done_at.is_none())
        .map(line)
        .collect()
}

#[cfg(test)]
mod tests {
    use soramode_protocol::plan::PlanAnnounced;

    use super::super::describe::tests::plan;
    use super::*;

    #[test]
    fn the_step_that_blocks_new_connections_says_so() {
        let lines = step_lines(&plan());
        assert!(
            lines
                .iter()
                .any(|line| line.contains("announce, blocks new connections: 会議室"))
                && lines.iter().any(|line| line.ends_with("end: 60/min")),
            "{lines:?}"
        );
        let mut silent = plan();
        silent.steps.remove(2);
        let lines = step_lines(&silent);
        assert!(
            lines
                .iter()
                .any(|line| line.ends_with("end, blocks new connections: 60/min")),
            "{lines:?}"
        );
        let mut endless = plan();
        endless.steps.pop();
        assert_eq!(step_that_blocks(&endless), None);
    }

    #[test]
    fn a_step_that_goes_on_or_failed_is_not_done() {
        let mut plan = plan();
        for step in &mut plan.steps {
            step.done_at = Some(step.due_at);
        }
        let done = |plan: &Plan, number| {
            let (word, problem) = describe_done(plan, number);
            format!("{word}{problem}")
        };
        (plan.state, plan.asked, plan.failed) = (PlanState::Ending, 2, 0);
        assert_eq!(done(&plan, 1), "done");
        assert_eq!(done(&plan, 3), "begun");
        plan.failed = 2;
        assert_eq!(done(&plan, 3), "begun, failed for 2 of 2 sessions");
        plan.outcome = Some(PlanOutcome::Done);
        assert_eq!(done(&plan, 3), "done, failed for 2 of 2 sessions");
        plan.outcome = None;
        plan.steps[3].done_at = None;
        for ((told, failed, left), wanted) in [
            ((0, 0, 2), "begun"),
            ((1, 0, 1), "begun"),
            ((2, 0, 0), "done"),
            ((1, 1, 0), "done, failed for 1 of 2 channels"),
            ((0, 2, 0), "tried, failed for 2 of 2 channels"),
            // The last session has ended before it was told.
            ((1, 0, 0), "done"),
        ] {
            plan.announced = Some(PlanAnnounced {
                at: plan.at,
                channels: 2,
                told,
                failed,
                left,
            });
            assert_eq!(done(&plan, 2), wanted);
        }
        plan.announced = plan.announced.map(|it| PlanAnnounced { left: 1, ..it });
        plan.steps.insert(3, plan.steps[2].clone());
        assert_eq!(done(&plan, 2), "done", "the counts are those of the latest");
        assert_eq!(done(&plan, 3), "begun");
    }
}
