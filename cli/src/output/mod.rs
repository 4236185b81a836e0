//! The one door for output: stdout is the answer, stderr is all else.

pub(crate) mod cells;
pub(crate) mod escape;
pub(crate) mod event;
mod flags;
mod list;
mod meter;
mod pace;
pub(crate) mod paint;
mod reader;
pub(crate) mod table;
mod terminal;
pub(crate) mod times;

use std::ffi::OsString;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Stdout, Write};

use serde::Serialize;
use soramode_protocol::mode::Mode;
use soramode_protocol::time::Time;

use crate::args::Args;
use crate::error::{Exit, Failure, Problem};

pub(crate) use flags::{Color, Format, OutputFlags};
pub(crate) use list::{List, Row, painted_groups, pairs};
pub(crate) use meter::{Going, Meter, counted};
use paint::Paint;
pub(crate) use reader::Reader;
use table::Shape;
pub(crate) use table::{Cell, Column};
pub(crate) use terminal::can_move_cursor;

/// The version of the JSON output. Fields are only ever added.
const SCHEMA: u32 = 1;

/// What a stream is connected to.
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

/// Both streams, and how to write on them.
pub(crate) struct Output {
    stdout: BufWriter<Stdout>,
    format: Format,
    answers_to: Sink,
    notes_to: Sink,
    quiet: bool,
    paints: bool,
    /// Layout of tables.
    shape: Shape,
    answer: Answer,
    /// What this command has changed: said where the answer itself cannot be written.
    changed: Option<String>,
}

/// State of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Nothing was written yet.
    None,
    /// Something was written.
    Begun,
    /// Nobody reads stdout any more. That ends the writing, quietly, and changes no exit code.
    Closed,
}

impl Output {
    pub(crate) fn new(flags: &OutputFlags) -> Self {
        let answers_to = Sink::of(&io::stdout());
        let paints = paint::paints(flags.color, &io::stdout());
        let must_fit = answers_to == Sink::Terminal && !flags.is_wide();
        Self {
            stdout: BufWriter::new(io::stdout()),
            format: flags.format(),
            answers_to,
            notes_to: Sink::of(&io::stderr()),
            quiet: flags.quiet,
            paints,
            shape: Shape {
                width: must_fit.then(|| terminal::columns(io::stdout())),
                has_header: !flags.no_headers,
                paints,
            },
            answer: Answer::None,
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

    /// Whether nobody reads stdout any more.
    pub(crate) const fn is_closed(&self) -> bool {
        matches!(self.answer, Answer::Closed)
    }

    /// Whoever reads stdout.
    #[expect(clippy::unused_self, reason = "stdout is asked for here alone")]
    pub(crate) fn reader(&self) -> Reader {
        Reader::of_stdout()
    }

    /// Whether the answer goes to a terminal.
    pub(crate) fn is_on_terminal(&self) -> bool {
        self.answers_to == Sink::Terminal
    }

    /// Whether the answer is painted.
    pub(crate) const fn paints(&self) -> bool {
        self.paints
    }

    /// The cells that a line of the answer may take; `None` is any number.
    pub(crate) const fn width(&self) -> Option<usize> {
        self.shape.width
    }

    /// Layout of tables.
    const fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether progress can be drawn rather than told line by line.
    pub(crate) fn can_draw(&self) -> bool {
        self.notes_to == Sink::Terminal && can_move_cursor() && !self.quiet
    }

    /// The answer as JSON: pretty on a terminal, one line elsewhere and always as `jsonl`.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let versioned = Versioned {
            schema: SCHEMA,
            value,
        };
        let text = self.json_text(&versioned)?;
        self.text(&text)
    }

    fn json_text(&self, value: &impl Serialize) -> Result<String, Failure> {
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

    fn is_pretty(&self) -> bool {
        self.format == Format::Json && self.answers_to == Sink::Terminal
    }

    /// A failure as JSON, where JSON is asked for and nothing else was answered.
    pub(crate) fn failure(&mut self, failure: &Failure) {
        if matches!(self.format, Format::Json | Format::Jsonl) && self.answer == Answer::None {
            let failed = Failed {
                r#type: "error",
                exit_code: failure.exit.code(),
                error: failure.into(),
            };
            // The failure itself weighs more than one to write it.
            drop(self.json(&failed).and_then(|()| self.flush()));
        }
    }

    /// Lines of the answer.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.write(text)?;
        self.write("\n")
    }

    /// A sentence of the answer, in as many lines as it takes on the terminal.
    pub(crate) fn sentence(&mut self, text: &str) -> Result<(), Failure> {
        match self.width() {
            Some(width) => cells::wrap(text, width)
                .iter()
                .try_for_each(|line| self.text(line)),
            None => self.text(text),
        }
    }

    /// What a change did; left out with `-q`, since the exit code says it too.
    pub(crate) fn confirm(&mut self, text: &str) -> Result<(), Failure> {
        if self.quiet {
            Ok(())
        } else {
            self.message(text)
        }
    }

    /// A line of the answer, in as many lines as it takes on the terminal; commands in it stay whole.
    pub(crate) fn message(&mut self, text: &str) -> Result<(), Failure> {
        match self.width() {
            Some(width) => cells::fit(text, width)
                .iter()
                .try_for_each(|line| self.text(line)),
            None => self.text(text),
        }
    }

    /// One record of `plain`: its fields, escaped, between tabs.
    pub(crate) fn record(&mut self, fields: &[&str]) -> Result<(), Failure> {
        let fields: Vec<_> = fields.iter().map(|field| escape::escape(field)).collect();
        self.text(&fields.join("\t"))
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        if self.is_closed() {
            return Ok(());
        }
        self.answer = Answer::Begun;
        let written = self.stdout.write_all(text.as_bytes());
        self.settle(written)
    }

    /// Sends what was written.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        if self.is_closed() {
            return Ok(());
        }
        let flushed = self.stdout.flush();
        self.settle(flushed)
    }

    fn settle(&mut self, written: io::Result<()>) -> Result<(), Failure> {
        match written {
            Err(problem) if problem.kind() == ErrorKind::BrokenPipe => {
                self.answer = Answer::Closed;
                Ok(())
            }
            Err(problem) => {
                self.answer = Answer::Closed;
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

    /// A word beside the answer; left out with `-q`.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            say(text);
        }
    }

    /// A word that `-q` does not silence: something is not as it should be.
    #[expect(
        clippy::unused_self,
        reason = "stderr is written to by the one door alone"
    )]
    pub(crate) fn warn(&self, text: &str) {
        say(&format!("soramode: warning: {text}"));
    }

    /// A time: local with its age on a terminal, RFC 3339 in UTC elsewhere.
    pub(crate) fn time(&self, time: Time) -> String {
        match (self.answers_to, self.format) {
            (Sink::Terminal, Format::Table) => {
                format!("{} ({} ago)", times::local(time), times::age(time))
            }
            (
                Sink::Terminal | Sink::Elsewhere,
                Format::Table | Format::Plain | Format::Json | Format::Jsonl,
            ) => time.to_string(),
        }
    }

    /// The same without the age.
    pub(crate) fn moment(&self, time: Time) -> String {
        match (self.answers_to, self.format) {
            (Sink::Terminal, Format::Table) => times::local(time),
            (
                Sink::Terminal | Sink::Elsewhere,
                Format::Table | Format::Plain | Format::Json | Format::Jsonl,
            ) => time.to_string(),
        }
    }

    /// A time that lies ahead.
    pub(crate) fn time_ahead(&self, time: Time) -> String {
        match (self.answers_to, self.format) {
            (Sink::Terminal, Format::Table) => {
                format!("{} ({})", times::local(time), times::until(time))
            }
            (
                Sink::Terminal | Sink::Elsewhere,
                Format::Table | Format::Plain | Format::Json | Format::Jsonl,
            ) => time.to_string(),
        }
    }

    /// A mode, in its colour where stdout is painted.
    pub(crate) fn mode(&self, mode: Mode) -> String {
        self.painted(Paint::of(mode), mode.name())
    }
}

/// Why the command failed, what is listed with that, and what to do. `-q` does not silence it.
pub(crate) fn say_failure(failure: &Failure) {
    say(&format!("soramode: {}", failure.message));
    failure
        .details
        .iter()
        .for_each(|detail| say(&format!("  {detail}")));
    failure
        .hint
        .iter()
        .for_each(|hint| say(&format!("hint: {hint}")));
}

/// One line on stderr, or on a terminal as many as it takes: what came from outside begins no line of its own. Nothing can be done where
/// that cannot be written.
fn say(text: &str) {
    let text = escape::neutralised(text);
    let lines = match Sink::of(&io::stderr()) {
        Sink::Terminal => cells::fit(&text, terminal::columns(io::stderr())),
        Sink::Elsewhere => vec![text],
    };
    drop(writeln!(io::stderr(), "{}", lines.join("\n")));
}

/// The same on stdout where JSON is asked for.
fn say_usage_as_json(error: &clap::Error) {
    if !Args::asks_for_json() {
        return;
    }
    let text = error.to_string();
    let message = text.lines().next().unwrap_or_default();
    let failure = Failure::new(
        Exit::Usage,
        message.strip_prefix("error: ").unwrap_or(message),
    );
    let failed = Failed {
        r#type: "error",
        exit_code: Exit::Usage.code(),
        error: (&failure).into(),
    };
    if let Ok(line) = serde_json::to_string(&Versioned {
        schema: SCHEMA,
        value: &failed,
    }) {
        // The failure itself weighs more than one to write it.
        drop(writeln!(io::stdout(), "{}", escape::json(line)));
    }
}

/// What clap has to say: help to stdout, a wrong command line to stderr. `words` is that command line: `--color` counts in it.
pub(crate) fn say_usage(error: &clap::Error, words: &[OsString]) -> Exit {
    let (text, color) = (error.render(), Color::typed(words));
    let shown = |paints: bool| {
        if paints {
            text.ansi().to_string()
        } else {
            text.to_string()
        }
    };
    if error.use_stderr() {
        say_usage_as_json(error);
        drop(write!(
            io::stderr(),
            "{}",
            shown(paint::paints(color, &io::stderr()))
        ));
        return Exit::Usage;
    }
    drop(write!(
        io::stdout(),
        "{}",
        shown(paint::paints(color, &io::stdout()))
    ));
    Exit::Done
}
