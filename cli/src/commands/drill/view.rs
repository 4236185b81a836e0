//! The output of a rehearsal: steps as they are done for people, records or one object for scripts.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::scenario::{Scenario, Step};
use crate::error::{Exit, Failure};
use crate::output::color::Emphasis;
use crate::output::{Format, Output};

/// The JSON of a step.
#[derive(Debug, Serialize)]
struct StepResult {
    step: usize,
    part: &'static str,
    asked: String,
    said: String,
    expected: &'static str,
    because: &'static str,
    held: bool,
}

/// The JSON of a rehearsal.
#[derive(Serialize)]
struct Report<'a> {
    held: bool,
    steps_held: usize,
    steps_total: usize,
    took_seconds: f64,
    exit_code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    steps: &'a [StepResult],
}

/// The results so far, and the output.
pub(super) struct View<'a> {
    output: &'a mut Output,
    scenario: &'a Scenario,
    began: Instant,
    results: Vec<StepResult>,
}

impl<'a> View<'a> {
    pub(super) fn new(output: &'a mut Output, scenario: &'a Scenario) -> Self {
        Self {
            output,
            scenario,
            began: Instant::now(),
            results: Vec::new(),
        }
    }

    /// Prints the scenario and the program.
    pub(super) fn begin(&mut self, program: &str) -> Result<(), Failure> {
        self.print(&[self.scenario.about.to_owned(), format!("Using {program}")])
    }

    pub(super) fn part(&mut self, heading: &str) -> Result<(), Failure> {
        let heading = self.output.colored(Emphasis::Heading, heading);
        self.print(&[String::new(), heading])
    }

    /// Prints a step with its answer, or the reason why there is none.
    pub(super) fn step(
        &mut self,
        part: &'static str,
        step: &Step,
        answer: Result<String, String>,
    ) -> Result<(), Failure> {
        let result = StepResult {
            step: self.results.len() + 1,
            part,
            asked: step.to_string(),
            held: answer.as_deref() == Ok(step.expected),
            said: answer.unwrap_or_else(|reason| reason),
            expected: step.expected,
            because: step.because,
        };
        match self.output.format() {
            Format::Table if result.held && self.output.is_quiet() => {}
            Format::Table => {
                let colored = |emphasis, text: &str| self.output.colored(emphasis, text);
                let lines = lines(&result, colored);
                self.output.text(&lines.join("\n"))?;
            }
            Format::Plain => {
                let verdict = if result.held { "ok" } else { "failed" };
                let number = result.step.to_string();
                self.output.record(&[
                    &number,
                    verdict,
                    result.part,
                    &result.asked,
                    &result.said,
                    result.expected,
                    result.because,
                ])?;
            }
            Format::Jsonl => self.output.json(&result)?,
            Format::Json => {}
        }
        self.results.push(result);
        // Each step is printed when it is done.
        self.output.flush()
    }

    /// Prints the end: a failure, or the results.
    pub(super) fn finish(&mut self, ended: Result<(), Failure>) -> Result<Exit, Failure> {
        let took = self.began.elapsed();
        let total = self.scenario.steps_total();
        let steps_held = self.results.iter().filter(|result| result.held).count();
        let ended = match ended {
            Ok(()) if steps_held < total => Err(Failure::new(
                Exit::Failed,
                self.describe_failed(steps_held),
            )
            .with_hint(
                "Do not rely on this soramoded: compare soramode --version and soramoded --version",
            )),
            Ok(()) => Ok(Exit::Done),
            Err(failure) => Err(failure),
        };
        match self.output.format() {
            Format::Table if ended.is_ok() => self.print_passed(took)?,
            // Separates the steps from stderr.
            Format::Table if !self.results.is_empty() => self.print(&[String::new()])?,
            Format::Json => {
                let failure = ended.as_ref().err();
                let whole = Report {
                    held: ended.is_ok(),
                    steps_held,
                    steps_total: total,
                    took_seconds: took.as_secs_f64(),
                    exit_code: ended
                        .as_ref()
                        .map_or_else(|failure| failure.exit, |exit| *exit)
                        .code(),
                    error: failure.map(|failure| failure.message.as_str()),
                    hint: failure.and_then(|failure| failure.hint.as_deref()),
                    steps: &self.results,
                };
                // The command's failure takes precedence over a failed write.
                self.output
                    .json(&whole)
                    .or_else(|problem| ended.as_ref().map_or(Ok(()), |_| Err(problem)))?;
            }
            Format::Table | Format::Plain | Format::Jsonl => {}
        }
        ended
    }

    /// `7 of 20`
    pub(super) fn progress(&self) -> String {
        format!("{} of {}", self.results.len(), self.scenario.steps_total())
    }

    fn print_passed(&mut self, took: Duration) -> Result<(), Failure> {
        let total = self.scenario.steps_total();
        let all = self
            .output
            .colored(Emphasis::Good, &format!("All {total} steps passed"));
        self.print(&[
            String::new(),
            format!(
                "{all}, in {:.1} s. Nothing is left behind.",
                took.as_secs_f64()
            ),
            String::new(),
            self.scenario.next.to_owned(),
        ])
    }

    fn describe_failed(&self, steps_held: usize) -> String {
        let total = self.scenario.steps_total();
        let not_asked = total - self.results.len();
        let rest = if not_asked == 0 {
            String::new()
        } else {
            format!(", {not_asked} not asked")
        };
        format!("not all held: {steps_held} of {total}{rest}")
    }

    /// Prints lines in the table format only.
    fn print(&mut self, lines: &[String]) -> Result<(), Failure> {
        match self.output.format() {
            Format::Table => self.output.confirm(&lines.join("\n")),
            Format::Plain | Format::Json | Format::Jsonl => Ok(()),
        }
    }
}

/// Formats a step in lines of at most 80 columns.
fn lines(result: &StepResult, colored: impl Fn(Emphasis, &str) -> String) -> Vec<String> {
    let StepResult {
        step,
        asked,
        said,
        because,
        ..
    } = result;
    let because = colored(Emphasis::Aside, because);
    if result.held {
        let ok = colored(Emphasis::Good, "ok");
        return vec![
            format!("{step:>2}  {ok}  {asked:<33}  {said}"),
            format!("        {because}"),
        ];
    }
    let verdict = colored(Emphasis::Bad, "NOT AS EXPECTED");
    vec![
        format!("{step:>2}  {verdict}  {asked}"),
        format!("        said: {said}"),
        format!("    expected: {}", result.expected),
        format!("        {because}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::{cluster, janus, one_node, plan};
    use super::*;

    const COLUMNS: usize = 80;
    const STEPS_MAX: usize = 20;

    #[test]
    fn each_scenario_fits_a_terminal_and_takes_at_most_20_steps() {
        for scenario in [
            &one_node::SCENARIO,
            &plan::SCENARIO,
            &janus::SCENARIO,
            &cluster::SCENARIO,
        ] {
            assert!(scenario.steps_total() <= STEPS_MAX, "{}", scenario.about);
            let mut shown = format!("{}\n{}\n", scenario.about, scenario.next);
            for part in scenario.parts {
                shown.push_str(part.heading);
                shown.push('\n');
                for step in part.steps {
                    let result = StepResult {
                        step: STEPS_MAX,
                        part: part.name,
                        asked: step.to_string(),
                        said: step.expected.to_owned(),
                        expected: step.expected,
                        because: step.because,
                        held: true,
                    };
                    shown += &lines(&result, |_, text| text.to_owned()).join("\n");
                    shown += "\n";
                }
            }
            for line in shown.lines() {
                assert!(line.len() <= COLUMNS, "{line}");
            }
        }
    }
}
