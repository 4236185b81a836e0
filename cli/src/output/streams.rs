//! The two streams of a command: stdout is the answer, stderr is all else.

use std::io::{self, BufWriter, ErrorKind, IsTerminal, Stdout, Write};

use serde::Serialize;
use soramode_protocol::mode::Mode;
use soramode_protocol::time::Time;

use crate::error::{Exit, Failure, Problem};

use super::cell::Cell;
use super::color::{self, Emphasis};
use super::flags::{Format, OutputFlags};
use super::stdout_closed::StdoutClosed;
use super::table::Shape;
use super::terminal::{self, can_move_cursor};
use super::{cells, escape, times};

/// Version of the JSON output. Fields are only ever added.
pub(super) const SCHEMA: u32 = 1;

/// The destination of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sink {
    Terminal,
    Elsewhere,
}

impl Sink {
    fn of(stream: &impl IsTerminal) -> Self {
        if stream.is_terminal() {
            Self::Terminal
        } else {
            Self::Elsewhere
        }
    }
}

/// An answer with its schema.
#[derive(Serialize)]
struct Versioned<'a, T> {
    schema: u32,
    #[serde(flatten)]
    value: &'a T,
}

/// The JSON object of a command that failed.
#[derive(Serialize)]
struct Failed {
    r#type: &'static str,
    exit_code: u8,
    error: Problem,
}

impl Failed {
    fn new(failure: &Failure) -> Self {
        Self {
            r#type: "error",
            exit_code: failure.exit.code(),
            error: failure.into(),
        }
    }
}

/// Returns the JSON object of a command that failed, in one line.
pub(crate) fn failure_json(failure: &Failure) -> serde_json::Result<String> {
    let versioned = Versioned {
        schema: SCHEMA,
        value: &Failed::new(failure),
    };
    serde_json::to_string(&versioned).map(escape::json)
}

/// Both streams and their format.
pub(crate) struct Output {
    stdout: BufWriter<Stdout>,
    format: Format,
    answers_to: Sink,
    notes_to: Sink,
    quiet: bool,
    uses_color: bool,
    /// Layout of tables.
    shape: Shape,
    answer: AnswerState,
    /// The change that this command made, for the case that the answer cannot be written.
    changed: Option<String>,
}

/// State of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AnswerState {
    /// No output yet.
    None,
    /// Some output.
    Begun,
    /// The reader of stdout is gone. That ends the writing silently, and changes no exit code.
    Closed,
}

impl Output {
    pub(crate) fn new(flags: &OutputFlags) -> Self {
        let answers_to = Sink::of(&io::stdout());
        let uses_color = color::is_used(flags.color, &io::stdout());
        let must_fit = answers_to == Sink::Terminal && !flags.is_wide();
        Self {
            stdout: BufWriter::new(io::stdout()),
            format: flags.format(),
            answers_to,
            notes_to: Sink::of(&io::stderr()),
            quiet: flags.quiet,
            uses_color,
            shape: Shape {
                width: must_fit.then(|| terminal::columns(io::stdout())),
                has_header: !flags.no_headers,
                uses_color,
            },
            answer: AnswerState::None,
            changed: None,
        }
    }

    /// Remembers what was changed, in case the answer cannot be written.
    pub(crate) fn changed(&mut self, what: &str) {
        self.changed = Some(what.to_owned());
    }

    pub(crate) const fn format(&self) -> Format {
        self.format
    }

    pub(crate) const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Returns whether the reader of stdout is gone.
    pub(crate) const fn is_closed(&self) -> bool {
        matches!(self.answer, AnswerState::Closed)
    }

    /// Watches the reader of stdout.
    #[expect(clippy::unused_self, reason = "stdout is asked for here alone")]
    pub(crate) fn stdout_closed(&self) -> StdoutClosed {
        StdoutClosed::of_stdout()
    }

    /// Returns whether the answer goes to a terminal.
    pub(crate) fn is_on_terminal(&self) -> bool {
        self.answers_to == Sink::Terminal
    }

    /// Returns whether the answer is coloured.
    pub(crate) const fn uses_color(&self) -> bool {
        self.uses_color
    }

    /// Returns the width of the answer's lines; `None` is any.
    pub(crate) const fn width(&self) -> Option<usize> {
        self.shape.width
    }

    /// Layout of tables.
    pub(super) const fn shape(&self) -> Shape {
        self.shape
    }

    /// Returns whether a bar can be drawn.
    pub(crate) fn can_draw(&self) -> bool {
        self.notes_to == Sink::Terminal && can_move_cursor() && !self.quiet
    }

    /// Prints the answer as JSON: indented on a terminal, else one line, and always one line as
    /// `jsonl`.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let versioned = Versioned {
            schema: SCHEMA,
            value,
        };
        let text = self.json_text(&versioned)?;
        self.text(&text)
    }

    pub(super) fn json_text(&self, value: &impl Serialize) -> Result<String, Failure> {
        let text = if self.is_pretty() {
            serde_json::to_string_pretty(value)
        } else {
            serde_json::to_string(value)
        };
        text.map(escape::json).map_err(|problem| {
            Failure::new(
                Exit::Failed,
                format!("cannot write the answer as JSON: {problem}"),
            )
        })
    }

    pub(super) fn is_pretty(&self) -> bool {
        self.format == Format::Json && self.answers_to == Sink::Terminal
    }

    /// Prints a failure as JSON, if that is the format and there was no other output.
    pub(crate) fn failure(&mut self, failure: &Failure) {
        if matches!(self.format, Format::Json | Format::Jsonl) && self.answer == AnswerState::None {
            // The failure takes precedence over a failed write.
            let _ = self.json(&Failed::new(failure)).and_then(|()| self.flush());
        }
    }

    /// Prints lines of the answer.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.write(text)?;
        self.write("\n")
    }

    /// Prints a sentence, wrapped to the terminal.
    pub(crate) fn sentence(&mut self, text: &str) -> Result<(), Failure> {
        match self.width() {
            Some(width) => cells::wrap(text, width)
                .iter()
                .try_for_each(|line| self.text(line)),
            None => self.text(text),
        }
    }

    /// Prints the result of a change; not with `-q`, since the exit code has it.
    pub(crate) fn confirm(&mut self, text: &str) -> Result<(), Failure> {
        if self.quiet {
            Ok(())
        } else {
            self.message(text)
        }
    }

    /// Prints a message, wrapped to the terminal; each command in it ends its line.
    pub(crate) fn message(&mut self, text: &str) -> Result<(), Failure> {
        match self.width() {
            Some(width) => cells::fit(text, width)
                .iter()
                .try_for_each(|line| self.text(line)),
            None => self.text(&unwrapped(text)),
        }
    }

    /// Prints a record of `plain`: the fields, escaped, between tabs.
    pub(crate) fn record(&mut self, fields: &[&str]) -> Result<(), Failure> {
        let fields: Vec<_> = fields.iter().map(|field| escape::escape(field)).collect();
        self.text(&fields.join("\t"))
    }

    pub(super) fn write(&mut self, text: &str) -> Result<(), Failure> {
        if self.is_closed() {
            return Ok(());
        }
        self.answer = AnswerState::Begun;
        let written = self.stdout.write_all(text.as_bytes());
        self.record_result(written)
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        if self.is_closed() {
            return Ok(());
        }
        let flushed = self.stdout.flush();
        self.record_result(flushed)
    }

    fn record_result(&mut self, written: io::Result<()>) -> Result<(), Failure> {
        match written {
            Err(problem) if problem.kind() == ErrorKind::BrokenPipe => {
                self.answer = AnswerState::Closed;
                Ok(())
            }
            Err(problem) => {
                self.answer = AnswerState::Closed;
                let unwritten = format!("cannot write the answer to stdout: {problem}");
                let message = match &self.changed {
                    Some(what) => format!(
                        "{what}: that is done. Only its answer was not printed: {unwritten}"
                    ),
                    None => unwritten,
                };
                Err(Failure::new(Exit::Failed, message))
            }
            Ok(()) => Ok(()),
        }
    }

    /// Prints a note on stderr; not with `-q`.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            print_line(text);
        }
    }

    /// Prints a warning, also with `-q`.
    #[expect(
        clippy::unused_self,
        reason = "stderr is written to by the one door alone"
    )]
    pub(crate) fn warn(&self, text: &str) {
        print_line(&format!("soramode: warning: {text}"));
    }

    fn is_for_people(&self) -> bool {
        self.answers_to == Sink::Terminal && self.format == Format::Table
    }

    /// Formats a time: local with its age on a terminal, RFC 3339 in UTC elsewhere.
    pub(crate) fn time(&self, time: Time) -> String {
        if !self.is_for_people() {
            return time.to_string();
        }
        format!("{} ({} ago)", times::local(time), times::age(time))
    }

    /// Returns a cell with a time; its age alone if there is no space.
    pub(crate) fn time_cell(&self, time: Time) -> Cell<'static> {
        Cell {
            text: self.time(time).into(),
            short: Some(format!("{} ago", times::age(time))),
            emphasis: None,
        }
    }

    /// Formats a time without its age.
    pub(crate) fn moment(&self, time: Time) -> String {
        if !self.is_for_people() {
            return time.to_string();
        }
        times::local(time)
    }

    /// Formats a time in the future.
    pub(crate) fn time_ahead(&self, time: Time) -> String {
        if !self.is_for_people() {
            return time.to_string();
        }
        format!("{} ({})", times::local(time), times::until(time))
    }

    /// Colours a text if stdout is coloured.
    pub(crate) fn colored(&self, emphasis: Emphasis, text: &str) -> String {
        if self.uses_color() {
            emphasis.on(text)
        } else {
            text.to_owned()
        }
    }

    /// Colours a mode if stdout is coloured.
    pub(crate) fn mode(&self, mode: Mode) -> String {
        self.colored(Emphasis::of(mode), mode.name())
    }
}

/// Prints a failure, its details and its hint, also with `-q`.
pub(crate) fn report_failure(failure: &Failure) {
    print_line(&format!("soramode: {}", failure.message));
    failure
        .details
        .iter()
        .for_each(|detail| print_line(&format!("  {detail}")));
    failure
        .hint
        .iter()
        .for_each(|hint| print_line(&format!("hint: {hint}")));
}

/// Prints a line of another program on stderr, also with `-q`.
pub(crate) fn relay(line: &str) {
    print_line(line);
}

/// Begins a line of its own on the terminal at stderr, where another program may have left the cursor within one. As many spaces as a line is
/// wide take it to the next line, except from the beginning of a line.
pub(crate) fn begin_line() {
    let stderr = io::stderr();
    let width = terminal::reported_columns(&stderr).filter(|_| can_move_cursor());
    if let Some(width) = width {
        let _ = write!(&stderr, "{:width$}\r", "");
    }
}

/// Prints a line on stderr, wrapped to a terminal: text from outside begins no line of its own. A
/// failed write is ignored.
fn print_line(text: &str) {
    let text = escape::neutralised(text);
    let lines = match Sink::of(&io::stderr()) {
        Sink::Terminal => cells::fit(&text, terminal::columns(io::stderr())),
        Sink::Elsewhere => vec![unwrapped(&text)],
    };
    let _ = writeln!(io::stderr(), "{}", lines.join("\n"));
}

/// Returns the lines of a message that is not wrapped: each command ends its line.
fn unwrapped(text: &str) -> String {
    cells::fit(text, usize::MAX).join("\n")
}
