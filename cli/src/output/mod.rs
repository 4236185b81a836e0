//! The one door for output: stdout is the answer, stderr is all else.

pub(crate) mod escape;
mod list;
mod meter;
mod pace;
pub(crate) mod paint;
mod reader;
pub(crate) mod times;

use std::io::{self, BufWriter, ErrorKind, IsTerminal, Stdout, Write};

use serde::Serialize;
use soramode_protocol::mode::Mode;
use soramode_protocol::time::Time;

use crate::args::{Args, Color, Format, OutputFlags};
use crate::error::{Exit, Failure, Problem};

pub(crate) use list::{List, Row, pairs};
pub(crate) use meter::{Going, Lasting, Meter, counted};
pub(crate) use reader::Reader;

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
        if stream.is_terminal() { Self::Terminal } else { Self::Elsewhere }
    }
}

/// An answer with its schema.
#[derive(Serialize)]
struct Versioned<'a, T> {
    schema: u32,
    #[serde(flatten)]
    value: &'a T,
}

/// What a command that failed leaves behind as JSON.
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
    answer: Answer,
}

/// What has become of the answer.
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
        let variable = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let paints = match flags.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => answers_to == Sink::Terminal && !variable("NO_COLOR") && !dumb(),
        };
        Self {
            stdout: BufWriter::new(io::stdout()),
            format: flags.format(),
            answers_to,
            notes_to: Sink::of(&io::stderr()),
            quiet: flags.quiet,
            paints,
            answer: Answer::None,
        }
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

    /// Whether progress can be drawn rather than told line by line.
    pub(crate) fn can_draw(&self) -> bool {
        self.notes_to == Sink::Terminal && !self.quiet
    }

    /// The answer as JSON: pretty on a terminal, one line elsewhere and always as `jsonl`.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let versioned = Versioned { schema: SCHEMA, value };
        let text = if self.is_pretty() { serde_json::to_string_pretty(&versioned) } else { serde_json::to_string(&versioned) };
        self.text(&text.map_err(|problem| Failure::new(Exit::Failed, format!("cannot write the answer as JSON: {problem}")))?)
    }

    fn is_pretty(&self) -> bool {
        self.format == Format::Json && self.answers_to == Sink::Terminal
    }

    /// A failure as JSON, where JSON is asked for and nothing else was answered.
    pub(crate) fn failure(&mut self, failure: &Failure) {
        if matches!(self.format, Format::Json | Format::Jsonl) && self.answer == Answer::None {
            let failed = Failed { r#type: "error", exit_code: failure.exit.code(), error: failure.into() };
            // The failure itself weighs more than one to write it.
            drop(self.json(&failed).and_then(|()| self.flush()));
        }
    }

    /// Lines of the answer.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.write(text)?;
        self.write("\n")
    }

    /// What a change did; left out with `-q`, since the exit code says it too.
    pub(crate) fn confirm(&mut self, text: &str) -> Result<(), Failure> {
        if self.quiet { Ok(()) } else { self.text(text) }
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
                Err(Failure::new(Exit::Failed, format!("cannot write the answer to stdout: {problem}")))
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
    #[expect(clippy::unused_self, reason = "stderr is written to by the one door alone")]
    pub(crate) fn warn(&self, text: &str) {
        say(&format!("soramode: warning: {text}"));
    }

    /// A time: local with its age on a terminal, RFC 3339 in UTC elsewhere.
    pub(crate) fn time(&self, time: Time) -> String {
        match (self.answers_to, self.format) {
            (Sink::Terminal, Format::Table) => format!("{} ({} ago)", times::local(time), times::age(time)),
            (Sink::Terminal | Sink::Elsewhere, Format::Table | Format::Plain | Format::Json | Format::Jsonl) => time.to_string(),
        }
    }

    /// The same without the age.
    pub(crate) fn moment(&self, time: Time) -> String {
        match (self.answers_to, self.format) {
            (Sink::Terminal, Format::Table) => times::local(time),
            (Sink::Terminal | Sink::Elsewhere, Format::Table | Format::Plain | Format::Json | Format::Jsonl) => time.to_string(),
        }
    }

    /// A time that lies ahead.
    pub(crate) fn time_ahead(&self, time: Time) -> String {
        match (self.answers_to, self.format) {
            (Sink::Terminal, Format::Table) => format!("{} (in {})", times::local(time), times::ahead(time)),
            (Sink::Terminal | Sink::Elsewhere, Format::Table | Format::Plain | Format::Json | Format::Jsonl) => time.to_string(),
        }
    }

    /// A mode, in its colour where stdout is painted.
    pub(crate) fn mode(&self, mode: Mode) -> String {
        if !self.paints {
            return mode.name().to_owned();
        }
        let colour = match mode {
            Mode::Normal => 32,
            Mode::BlockNewSession | Mode::BlockNewConnection => 33,
            Mode::Initial => 31,
        };
        format!("\u{1b}[{colour}m{mode}\u{1b}[0m")
    }
}

/// Why the command failed, what is listed with that, and what to do. `-q` does not silence it.
pub(crate) fn say_failure(failure: &Failure) {
    say(&format!("soramode: {}", failure.message));
    failure.details.iter().for_each(|detail| say(&format!("  {detail}")));
    failure.hint.iter().for_each(|hint| say(&format!("hint: {hint}")));
}

/// One line on stderr, whatever is in it: what came from outside begins no line of its own. Nothing can be done where that cannot be
/// written.
fn say(text: &str) {
    drop(writeln!(io::stderr(), "{}", escape::neutralised(text)));
}

/// The same on stdout where JSON is asked for.
fn say_usage_as_json(error: &clap::Error) {
    if !Args::asks_for_json() {
        return;
    }
    let text = error.to_string();
    let message = text.lines().next().unwrap_or_default();
    let failure = Failure::new(Exit::Usage, message.strip_prefix("error: ").unwrap_or(message));
    let failed = Failed { r#type: "error", exit_code: Exit::Usage.code(), error: (&failure).into() };
    if let Ok(line) = serde_json::to_string(&Versioned { schema: SCHEMA, value: &failed }) {
        // The failure itself weighs more than one to write it.
        drop(writeln!(io::stdout(), "{line}"));
    }
}

/// What clap has to say: help to stdout, a wrong command line to stderr.
pub(crate) fn say_usage(error: &clap::Error) -> Exit {
    let text = error.render();
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let painted = |sink: Sink| sink == Sink::Terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if error.use_stderr() {
        say_usage_as_json(error);
        let text = if painted(Sink::of(&stderr)) { text.ansi().to_string() } else { text.to_string() };
        drop(write!(&stderr, "{text}"));
        return Exit::Usage;
    }
    let text = if painted(Sink::of(&stdout)) { text.ansi().to_string() } else { text.to_string() };
    drop(write!(&stdout, "{text}"));
    Exit::Done
}
