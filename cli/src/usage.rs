//! clap's messages: help on stdout, errors of the command line on stderr.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, IsTerminal, Write as _};

use crate::error::{Exit, Failure};
use crate::output::{Color, cells, color, failure_json, report_failure, size_of_stderr};

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
    if error.use_stderr() {
        // A failed write is ignored.
        if asks_for_json(words) {
            let _ = print_json(error);
        }
        let text = shown(color::is_used(wanted, &io::stderr()));
        let text = if io::stderr().is_terminal() {
            fitted(&text, size_of_stderr().0)
        } else {
            text
        };
        let _ = io::stderr().write_all(text.as_bytes());
        return Exit::Usage;
    }
    let text = shown(color::is_used(wanted, &io::stdout()));
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(problem) if problem.kind() != ErrorKind::BrokenPipe => {
            let message = format!("cannot write the answer to stdout: {problem}");
            report_failure(&Failure::new(Exit::Failed, message));
            Exit::Failed
        }
        Ok(()) | Err(_) => Exit::Done,
    }
}

/// Wraps clap's lines at spaces, which may be coloured: a terminal would break them within a word.
fn fitted(text: &str, width: usize) -> String {
    let mut fitted = String::new();
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start_matches(' ').len();
        let mut taken = 0;
        for word in line.split_inclusive(' ') {
            let cells = cells_of(word.trim_end());
            if taken > indent && taken + cells > width {
                fitted.truncate(fitted.trim_end_matches(' ').len());
                let _ = write!(fitted, "\n{:indent$}", "");
                taken = indent;
            }
            fitted.push_str(word);
            taken += cells_of(word);
        }
    }
    fitted
}

/// Returns the cells of a word, of which colours take none.
fn cells_of(word: &str) -> usize {
    let mut parts = word.split('\x1b');
    let first = parts.next().map_or(0, cells::width);
    let painted = parts.map(|part| {
        part.split_once('m')
            .map_or(0, |(_, rest)| cells::width(rest))
    });
    first + painted.sum::<usize>()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_broken_at_spaces_and_its_colours_take_no_space() {
        let text = "error: one two three\n\n  \x1b[1mtip:\x1b[0m four five\n";
        assert_eq!(
            fitted(text, 12),
            "error: one\ntwo three\n\n  \x1b[1mtip:\x1b[0m four\n  five\n"
        );
        assert_eq!(fitted(text, 80), text);
        assert_eq!(fitted("longerword\n", 4), "longerword\n");
    }
}
