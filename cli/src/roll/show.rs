//! The roll on the screen: a row for each host, which is redrawn, or a line a step.

use std::borrow::Cow;
use std::cell::{Ref, RefCell};
use std::time::Duration;

use soramode_protocol::reservation::RollStep;
use soramode_protocol::time::Time;
use soramode_roll::{HostIndex, Stage};

use super::request::RollRequest;
use crate::error::{Exit, Failure};
use crate::output::escape::{escape, neutralised};
use crate::output::{LiveLines, Output, cells, counted, size_of_stderr, times};
use crate::ssh::command::OUTPUT_LOST;

/// A host of the roll.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) typed: String,
    pub(super) node_name: Option<String>,
    pub(super) stage: Option<Stage>,
    /// Begin of the stage.
    since: Option<Time>,
    /// Begin of the first stage that this command showed.
    begun_at: Option<Time>,
    /// Time that this command took for the host, once it is done.
    took: Option<Duration>,
    sessions: Option<u64>,
    pub(super) sessions_at_close: Option<u64>,
    pub(super) closed_at: Option<Time>,
    pub(super) drained_at: Option<Time>,
    pub(super) opened_at: Option<Time>,
    pub(super) command_exit: Option<u8>,
    /// The obstacle that the present wait has seen last.
    waits_for: String,
}

impl Host {
    pub(super) const fn new(typed: String, node_name: Option<String>) -> Self {
        Self {
            typed,
            node_name,
            stage: None,
            since: None,
            begun_at: None,
            took: None,
            sessions: None,
            sessions_at_close: None,
            closed_at: None,
            drained_at: None,
            opened_at: None,
            command_exit: None,
            waits_for: String::new(),
        }
    }

    pub(super) const fn step(&self) -> Option<RollStep> {
        match self.stage {
            Some(Stage::At(step)) => Some(step),
            Some(Stage::Seeking | Stage::Rebooting) => Some(RollStep::Command),
            Some(Stage::Opening) => Some(RollStep::Ready),
            Some(Stage::Preparing | Stage::Skipped) | None => None,
        }
    }
}

/// Returns the word for a step.
const fn describe_step(step: RollStep) -> &'static str {
    match step {
        RollStep::Draining => "draining",
        RollStep::Command => "running the command",
        RollStep::CommandEnded => "command ended",
        RollStep::Ready => "waiting until ready",
        RollStep::Done => "done",
    }
}

/// Describes where the roll is on a host.
const fn describe_stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Preparing => "checking that enough others are open",
        Stage::At(step) => describe_step(step),
        Stage::Seeking => "connection lost while the command runs: looking for the host",
        Stage::Rebooting => "rebooting",
        Stage::Opening => "opening",
        Stage::Skipped => "skipped: another user has closed it",
    }
}

/// The screen of a roll.
pub(super) struct RollView {
    hosts: RefCell<Vec<Host>>,
    lines: RefCell<LiveLines>,
    /// Rows are redrawn.
    is_drawn: bool,
    quiet: bool,
}

impl RollView {
    pub(super) fn new(
        request: &RollRequest,
        hosts: Vec<Host>,
        output: &Output,
    ) -> Result<Self, Failure> {
        let lines = LiveLines::start()
            .map_err(|problem| Failure::new(Exit::Failed, format!("cannot start: {problem}")))?;
        let view = Self {
            hosts: RefCell::new(hosts),
            lines: RefCell::new(lines),
            is_drawn: output.can_draw(),
            quiet: output.is_quiet(),
        };
        view.line(&format!(
            "roll {}: {} of {}",
            request.settings.roll,
            request.settings.maintained.len(),
            counted(request.hosts.len() as u64, "host")
        ));
        view.draw();
        Ok(view)
    }

    pub(super) fn hosts(&self) -> Ref<'_, Vec<Host>> {
        self.hosts.borrow()
    }

    /// Returns the host that the roll has closed and not opened.
    pub(super) fn left_closed(&self) -> Option<HostIndex> {
        let is_left = |host: &Host| host.step().is_some_and(|step| step != RollStep::Done);
        self.hosts().iter().position(is_left)
    }

    /// Shows that the roll is here on this host.
    pub(super) fn show(&self, number: HostIndex, stage: Stage) {
        let now = times::now();
        let line = self.change(number, |host| {
            let is_new = host.stage != Some(stage);
            host.stage = Some(stage);
            if is_new {
                host.enter(stage, now);
            }
            match stage {
                Stage::At(RollStep::Draining) => host.closed_at = host.closed_at.or(Some(now)),
                Stage::At(RollStep::Command | RollStep::Ready) if host.closed_at.is_some() => {
                    host.drained_at = host.drained_at.or(Some(now));
                }
                Stage::At(RollStep::Done) if host.closed_at.is_some() => {
                    host.opened_at = Some(now);
                }
                _ => {}
            }
            is_new.then(|| format!("{}: {}", escape(&host.typed), host.describe_present(stage)))
        });
        if let Some(line) = line.filter(|_| !self.is_drawn) {
            self.line(&line);
        }
    }

    /// Shows how many sessions are left, and another obstacle of the drain.
    pub(super) fn sessions(&self, number: HostIndex, sessions: u64, obstacle: Option<String>) {
        self.change(number, |host| {
            host.sessions = Some(sessions);
            host.waits_for = obstacle.unwrap_or_default();
            host.sessions_at_close.get_or_insert(sessions);
            None
        });
    }

    /// Shows a line of the command's output. Waits while the terminal does not take it.
    pub(super) async fn output(&self, number: HostIndex, text: &str) {
        let line = match self.hosts().get(number) {
            Some(host) => format!("{}: {text}", host.typed),
            None => text.to_owned(),
        };
        let adder = self.lines.borrow().adder();
        adder.add_output(&line).await;
    }

    /// Says that the rest of the command's output will not come.
    pub(super) fn output_lost(&self, number: HostIndex) {
        let host = self
            .hosts()
            .get(number)
            .map(|host| escape(&host.typed).into_owned());
        if let Some(host) = host {
            self.line(&format!("{host}: {OUTPUT_LOST}"));
        }
    }

    pub(super) fn command_exit(&self, number: HostIndex, code: u8) {
        self.change(number, |host| {
            host.command_exit = Some(code);
            None
        });
    }

    /// Shows the obstacle of the present wait on the host.
    pub(super) fn waits_for(&self, number: HostIndex, why: &str) {
        self.change(number, |host| {
            why.clone_into(&mut host.waits_for);
            None
        });
    }

    pub(super) fn last_wait(&self, number: HostIndex) -> String {
        let hosts = self.hosts();
        hosts
            .get(number)
            .map(|host| host.waits_for.clone())
            .unwrap_or_default()
    }

    /// Prints a note on an interrupt, if a command runs.
    pub(super) fn interrupted(&self, note: &str) {
        let runs = |host: &Host| host.stage.is_some() && host.step() == Some(RollStep::Command);
        if self.hosts().iter().any(runs) {
            self.line(note);
        }
    }

    fn change(
        &self,
        number: HostIndex,
        change: impl FnOnce(&mut Host) -> Option<String>,
    ) -> Option<String> {
        let line = self.hosts.borrow_mut().get_mut(number).and_then(change);
        self.draw();
        line
    }

    /// Prints a note.
    fn line(&self, text: &str) {
        if !self.quiet {
            self.lines.borrow().add(text);
        }
    }

    /// Redraws the rows.
    pub(super) fn draw(&self) {
        if !self.is_drawn {
            return;
        }
        let (columns, lines) = size_of_stderr();
        // The last cell stays free: some terminals wrap when it is written to.
        let rows = rows(&self.hosts(), columns - 1, lines);
        self.lines.borrow().draw(rows);
    }

    /// Ends the drawing. The rows stay on the screen.
    pub(super) fn end(&self) {
        self.draw();
        self.lines.borrow_mut().finish();
    }
}

/// Returns a row for each host. Where the terminal has too few lines they are those around the present host, and the last one counts the others.
fn rows(hosts: &[Host], width: usize, lines: usize) -> Vec<String> {
    let names: Vec<String> = hosts
        .iter()
        .map(|host| cells::cut_middle(&escape(&host.typed), width / 2).into_owned())
        .collect();
    let name_width = names.iter().map(|name| cells::width(name)).max();
    let row = |(name, host): (&String, &Host)| {
        let name = cells::padded(name, name_width.unwrap_or_default());
        let row = format!("{name}  {}", host.describe());
        cells::cut_middle(row.trim_end(), width).into_owned()
    };
    // The cursor stands below the rows.
    let room = lines.saturating_sub(1).max(2);
    if hosts.len() <= room {
        return names.iter().zip(hosts).map(row).collect();
    }
    let is_over =
        |host: &Host| matches!(host.stage, Some(Stage::At(RollStep::Done) | Stage::Skipped));
    let is_present = |host: &Host| host.stage.is_some() && !is_over(host);
    let present = hosts.iter().position(is_present).unwrap_or_default();
    let shown = room - 1;
    let first = present.saturating_sub(shown / 2).min(hosts.len() - shown);
    let window = names.iter().zip(hosts).skip(first).take(shown);
    let over = hosts.iter().filter(|host| is_over(host)).count();
    let others = hosts.len() - shown;
    let count = format!("and {others} other hosts; {over} of {} over", hosts.len());
    let count = cells::cut(&count, width).into_owned();
    window.map(row).chain(std::iter::once(count)).collect()
}

impl Host {
    fn enter(&mut self, stage: Stage, now: Time) {
        if stage == Stage::At(RollStep::Done) {
            let begun_at = self.begun_at;
            self.took = begun_at.map(|begun_at| now.since(begun_at));
        }
        self.begun_at = self.begun_at.or(Some(now));
        self.since = Some(now);
        self.waits_for.clear();
    }

    /// `draining`, `done, took 8 s`, `was done before`
    fn describe_present(&self, stage: Stage) -> Cow<'static, str> {
        match (stage, self.took) {
            (Stage::At(RollStep::Done), Some(took)) => {
                format!("done, took {}", times::span(took)).into()
            }
            (Stage::At(RollStep::Done), None) => "was done before".into(),
            (stage, _) => describe_stage(stage).into(),
        }
    }

    /// `draining, 3 sessions left (12 s)`
    fn describe(&self) -> String {
        let Some(stage) = self.stage else {
            return String::new();
        };
        let left = match (self.step(), self.sessions) {
            (Some(RollStep::Draining), Some(sessions)) => {
                format!(", {} left", counted(sessions, "session"))
            }
            _ => String::new(),
        };
        let obstacle = if self.waits_for.is_empty() {
            String::new()
        } else {
            format!("; {}", neutralised(&self.waits_for))
        };
        let is_over = matches!(stage, Stage::At(RollStep::Done) | Stage::Skipped);
        let since = self.since.filter(|_| !is_over);
        let since = since.map(|since| format!(" ({})", times::age(since)));
        let since = since.unwrap_or_default();
        format!("{}{left}{obstacle}{since}", self.describe_present(stage))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(count: usize) -> Vec<Host> {
        let host = |number| Host::new(format!("東京-{number:02}"), None);
        (0..count).map(host).collect()
    }

    #[test]
    fn each_row_fits_and_says_for_how_long_the_step_has_lasted() {
        let mut hosts = hosts(2);
        hosts[1].stage = Some(Stage::Seeking);
        hosts[1].since = Some(times::now());
        hosts[0].stage = Some(Stage::At(RollStep::Draining));
        hosts[0].sessions = Some(2);
        let wide = rows(&hosts, 79, 24);
        assert_eq!(wide[0], "東京-00  draining, 2 sessions left");
        assert!(wide[1].ends_with("looking for the host (0 s)"), "{wide:?}");
        let narrow = rows(&hosts, 39, 24);
        assert!(
            narrow.iter().all(|row| cells::width(row) <= 39),
            "{narrow:?}"
        );
        assert!(narrow[1].ends_with("(0 s)"), "{narrow:?}");
        hosts[0].typed = "x".repeat(300);
        let long = rows(&hosts, 39, 24);
        assert!(long[0].ends_with("sessions left"), "{long:?}");
        assert!(long.iter().all(|row| cells::width(row) <= 39), "{long:?}");
    }

    #[test]
    fn a_host_that_is_over_says_how_long_it_took_and_not_how_long_ago_that_was() {
        let long_ago = "2026-11-22T20:00:00Z".parse::<Time>().unwrap();
        let later = "2026-11-22T20:00:08Z".parse::<Time>().unwrap();
        let mut hosts = hosts(3);
        hosts[0].stage = Some(Stage::At(RollStep::Done));
        hosts[0].enter(Stage::Preparing, long_ago);
        hosts[0].enter(Stage::At(RollStep::Draining), long_ago);
        hosts[0].enter(Stage::At(RollStep::Done), later);
        hosts[1].stage = Some(Stage::At(RollStep::Done));
        hosts[1].enter(Stage::At(RollStep::Done), long_ago);
        hosts[2].stage = Some(Stage::Skipped);
        hosts[2].enter(Stage::Skipped, long_ago);
        let expected = [
            "東京-00  done, took 8 s",
            "東京-01  was done before",
            "東京-02  skipped: another user has closed it",
        ];
        assert_eq!(rows(&hosts, 79, 24), expected);
    }

    #[test]
    fn a_terminal_with_fewer_lines_than_hosts_shows_those_around_the_present_one() {
        let mut hosts = hosts(50);
        for host in &mut hosts[..30] {
            host.stage = Some(Stage::At(RollStep::Done));
        }
        hosts[30].stage = Some(Stage::At(RollStep::Command));
        for lines in [1, 2, 3, 24, 50] {
            let rows = rows(&hosts, 79, lines);
            assert!(rows.len() < lines.max(3), "{lines}: {rows:?}");
            assert!(rows.iter().any(|row| row.contains("running the command")));
            let others = 50 - (rows.len() - 1);
            let last = format!("and {others} other hosts; 30 of 50 over");
            assert_eq!(rows.last(), Some(&last));
        }
        assert_eq!(rows(&hosts, 79, 51).len(), 50);
    }
}
