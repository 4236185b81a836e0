//! clap's messages: help on stdout, errors of the command line on stderr.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{self, Write as _};

use crate::error::{Exit, Failure};
use crate::output::{Color, color, failure_json};

/// Prints clap's message about this command line, of which `--color` counts.
pub(crate) fn report(error: &clap::Error, words: &[OsString]) -> Exit {
    let text = error.render();
    let wanted = Color::typed(words);
    let shown = |paints: bool| {
        if paints {
            text.ansi().to_string()
        } else {
            text.to_string()
        }
    };
    // A failed write is ignored.
    if error.use_stderr() {
        if asks_for_json(words) {
            let _ = print_json(error);
        }
        let text = shown(color::is_used(wanted, &io::stderr()));
        let _ = io::stderr().write_all(text.as_bytes());
        return Exit::Usage;
    }
    let text = shown(color::is_used(wanted, &io::stdout()));
    let _ = io::stdout().write_all(text.as_bytes());
    Exit::Done
}

/// Prints an error of the command line on stdout.
fn print_json(error: &clap::Error) -> io::Result<()> {
    let text = error.to_string();
    let message = text.lines().next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let json = failure_json(&Failure::new(Exit::Usage, message))?;
    writeln!(io::stdout(), "{json}")
}

/// Returns whether the command line asks for JSON, as far as one that cannot be read shows that.
fn asks_for_json(words: &[OsString]) -> bool {
    let words: Vec<Cow<'_, str>> = words.iter().map(|word| word.to_string_lossy()).collect();
    let words: Vec<&str> = words
        .iter()
        .map(AsRef::as_ref)
        .take_while(|word| *word != "--")
        .collect();
    let is_json = |word: &str| matches!(word, "json" | "jsonl");
    let is_glued = |word: &&str| {
        *word == "--json"
            || ["-o=", "-o", "--output="]
                .iter()
                .any(|flag| word.strip_prefix(flag).is_some_and(is_json))
    };
    let is_apart = |pair: &[&str]| matches!(pair, ["-o" | "--output", format] if is_json(format));
    words.iter().any(is_glued) || words.windows(2).any(is_apart)
}
