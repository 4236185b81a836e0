//! What the rehearsal shows: for people while it goes on, for scripts a record a step or one object at the end.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::{Exit, Failure};
use crate::output::Format;
use crate::output::Output;
use crate::output::paint::Paint;

/// The first maintenance, in the commands that it takes.
pub(super) const NEXT: &str = "\
Your first maintenance:
  soramode status                            mode, sessions and health
  soramode drain --timeout 30m -m \"upgrade\"  close it, wait until it is empty
  soramode is drained && ...                 upgrade, restart the SFU
  soramode set normal                        open it again
All in one: soramode maintain -m \"upgrade\" -- systemctl restart sora";

/// A step in words.
pub(super) struct Words {
    pub(super) part: &'static str,
    pub(super) asked: String,
    pub(super) expected: String,
    pub(super) because: &'static str,
}

/// What there is to show beside the steps.
pub(super) struct Playbill {
    /// What runs.
    pub(super) what: &'static str,
    /// How many steps there are.
    pub(super) steps: usize,
    /// What to do next.
    pub(super) next: &'static str,
}

/// A step and how it went.
#[derive(Debug, Serialize)]
struct Told {
    step: usize,
    part: &'static str,
    asked: String,
    said: String,
    expected: String,
    because: &'static str,
    held: bool,
}

/// The whole, as one object.
#[derive(Serialize)]
struct Whole<'a> {
    held: bool,
    steps_held: usize,
    steps_total: usize,
    took_seconds: f64,
    exit_code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    steps: &'a [Told],
}

/// The rehearsal so far, and where it is shown.
pub(super) struct View<'a> {
    output: &'a mut Output,
    playbill: Playbill,
    began: Instant,
    told: Vec<Told>,
}

impl<'a> View<'a> {
    pub(super) fn new(output: &'a mut Output, playbill: Playbill) -> Self {
        Self {
            output,
            playbill,
            began: Instant::now(),
            told: Vec::new(),
        }
    }

    /// What is about to be done, and with what.
    pub(super) fn begin(&mut self, program: &str) -> Result<(), Failure> {
        self.talk(&[self.playbill.what.to_owned(), format!("Using {program}")])
    }

    pub(super) fn part(&mut self, heading: &str) -> Result<(), Failure> {
        let heading = self.output.painted(Paint::Heading, heading);
        self.talk(&[String::new(), heading])
    }

    /// One step: what came, or why nothing did.
    pub(super) fn step(
        &mut self,
        words: Words,
        said: Result<String, String>,
    ) -> Result<(), Failure> {
        let Words {
            part,
            asked,
            expected,
            because,
        } = words;
        let held = said.as_ref() == Ok(&expected);
        let told = Told {
            step: self.told.len() + 1,
            part,
            asked,
            held,
            said: said.unwrap_or_else(|nothing| nothing),
            expected,
            because,
        };
        match self.output.format() {
            Format::Table if told.held && self.output.is_quiet() => {}
            Format::Table => self.output.text(&lines(&told, self.output).join("\n"))?,
            Format::Plain => {
                let verdict = if told.held { "ok" } else { "failed" };
                let number = told.step.to_string();
                self.output.record(&[
                    &number,
                    verdict,
                    told.part,
                    &told.asked,
                    &told.said,
                    &told.expected,
                    told.because,
                ])?;
            }
            Format::Jsonl => self.output.json(&told)?,
            Format::Json => {}
        }
        self.told.push(told);
        // Each step is seen when it is done.
        self.output.flush()
    }

    /// How it ended: with a failure of its own, or with what was told.
    pub(super) fn finish(&mut self, ended: Result<(), Failure>) -> Result<Exit, Failure> {
        let (took, total) = (self.began.elapsed(), self.playbill.steps);
        let steps_held = self.told.iter().filter(|told| told.held).count();
        let ended = match ended {
            Ok(()) if steps_held < total => {
                Err(Failure::new(Exit::Failed, self.not_held(steps_held)))
            }
            Ok(()) => Ok(Exit::Done),
            Err(failure) => Err(failure),
        };
        match self.output.format() {
            Format::Table if ended.is_ok() => self.all_held(took)?,
            // Apart from what is said on stderr then.
            Format::Table if !self.told.is_empty() => self.talk(&[String::new()])?,
            Format::Json => {
                let whole = Whole {
                    held: ended.is_ok(),
                    steps_held,
                    steps_total: total,
                    took_seconds: took.as_secs_f64(),
                    exit_code: ended
                        .as_ref()
                        .map_or_else(|failure| failure.exit, |exit| *exit)
                        .code(),
                    error: ended.as_ref().err().map(|failure| failure.message.as_str()),
                    steps: &self.told,
                };
                // A failure that is known already weighs more than one to write it.
                self.output
                    .json(&whole)
                    .or_else(|problem| ended.as_ref().map_or(Ok(()), |_| Err(problem)))?;
            }
            Format::Table | Format::Plain | Format::Jsonl => {}
        }
        ended
    }

    /// How far it came: `7 of 20`.
    pub(super) fn so_far(&self) -> String {
        format!("{} of {}", self.told.len(), self.playbill.steps)
    }

    fn all_held(&mut self, took: Duration) -> Result<(), Failure> {
        let total = self.playbill.steps;
        let all = self
            .output
            .painted(Paint::Good, &format!("All {total} steps passed"));
        self.talk(&[
            String::new(),
            format!(
                "{all}, in {:.1} s. Nothing is left behind.",
                took.as_secs_f64()
            ),
            String::new(),
            self.playbill.next.to_owned(),
        ])
    }

    fn not_held(&self, steps_held: usize) -> String {
        let total = self.playbill.steps;
        let not_asked = total - self.told.len();
        let rest = if not_asked == 0 {
            String::new()
        } else {
            format!(", {not_asked} not asked")
        };
        format!(
            "not all held: {steps_held} of {total}{rest}. Do not rely on this soramoded: compare soramode --version and soramoded --version"
        )
    }

    /// Lines for people alone.
    fn talk(&mut self, lines: &[String]) -> Result<(), Failure> {
        match self.output.format() {
            Format::Table => self.output.confirm(&lines.join("\n")),
            Format::Plain | Format::Json | Format::Jsonl => Ok(()),
        }
    }
}

/// A step for people, each line short enough for a terminal of 80 columns.
fn lines(told: &Told, output: &Output) -> Vec<String> {
    let Told {
        step,
        asked,
        said,
        because,
        ..
    } = told;
    let because = output.painted(Paint::Aside, because);
    if told.held {
        let ok = output.painted(Paint::Good, "ok");
        return vec![
            format!("{step:>2}  {ok}  {asked:<33}  {said}"),
            format!("        {because}"),
        ];
    }
    let verdict = output.painted(Paint::Bad, "NOT AS EXPECTED");
    vec![
        format!("{step:>2}  {verdict}  {asked}"),
        format!("        said: {said}"),
        format!("    expected: {}", told.expected),
        format!("        {because}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::script::steps_total;
    use super::super::story::STORY;

    #[test]
    fn the_story_fits_a_terminal_and_an_operators_patience() {
        assert!(steps_total(STORY) <= 20);
        for step in STORY.iter().flat_map(|part| part.steps) {
            assert!(step.ask.to_string().len() <= 33, "{}", step.ask);
            assert!(step.expected.to_string().len() <= 37, "{}", step.expected);
            assert!(step.because.len() <= 72, "{}", step.because);
        }
        assert!(super::NEXT.lines().all(|line| line.len() <= 80));
    }
}
