//! The flags that set the format and the colours of the output.

#![expect(clippy::doc_markdown, reason = "what clap shows as help is plain text")]

use std::ffi::OsString;

use clap::ValueEnum;

/// Flags for the output.
#[derive(Debug, clap::Args)]
pub(crate) struct OutputFlags {
    /// Set the format: table, wide, plain, json or jsonl
    #[arg(short, long = "output", value_enum, value_name = "FORMAT", default_value_t = Layout::Table, global = true)]
    output: Layout,
    /// Print JSON (the same as -o json)
    #[arg(long, conflicts_with = "output", global = true)]
    json: bool,
    /// Print tables without their header line
    #[arg(long, global = true)]
    pub(crate) no_headers: bool,
    /// Print no progress, notes or confirmations
    ///
    /// The answer, warnings and errors are printed.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Use colours: auto, always or never
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto, global = true)]
    pub(crate) color: Color,
}

impl OutputFlags {
    pub(crate) const fn format(&self) -> Format {
        match self.output {
            _ if self.json => Format::Json,
            Layout::Table | Layout::Wide => Format::Table,
            Layout::Plain => Format::Plain,
            Layout::Json => Format::Json,
            Layout::Jsonl => Format::Jsonl,
        }
    }

    /// Returns whether lines may be wider than the terminal.
    pub(crate) fn is_wide(&self) -> bool {
        self.output == Layout::Wide
    }
}

/// The values of `-o`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Layout {
    /// A table; on a terminal, columns are left out and ids shortened so that each line fits
    Table,
    /// A table with every column and every value in full, however narrow the terminal
    Wide,
    /// One record per line, separated by tabs, without a header
    Plain,
    /// One JSON document, indented on a terminal
    Json,
    /// One JSON object per line
    Jsonl,
}

/// The formats of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A table, for people.
    Table,
    /// Records, separated by tabs.
    Plain,
    /// One JSON document.
    Json,
    /// One JSON object a line.
    Jsonl,
}

/// Modes of colouring the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless $NO_COLOR is set or $TERM is dumb
    Auto,
    /// Always, also in a pipe
    Always,
    /// Never
    Never,
}

impl Color {
    /// Reads `--color` from a command line that clap refuses or answers with its help.
    pub(crate) fn typed(words: &[OsString]) -> Self {
        let words: Vec<&str> = words
            .iter()
            .filter_map(|word| word.to_str())
            .take_while(|word| *word != "--")
            .collect();
        let joined = words
            .iter()
            .filter_map(|word| word.strip_prefix("--color="));
        let apart = words
            .windows(2)
            .filter_map(|pair| pair.strip_prefix(&["--color"])?.first().copied());
        let named = joined
            .chain(apart)
            .find_map(|value| Self::from_str(value, false).ok());
        named.unwrap_or(Self::Auto)
    }
}
