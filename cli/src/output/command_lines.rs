//! Commands in messages: each ends its line, without punctuation after it, so that a line can be copied to a shell.

/// Beginnings of commands for the reader to run.
const PROGRAMS: [&str; 8] = [
    "soramode ",
    "systemctl ",
    "journalctl ",
    "sudo ",
    "ssh -v ",
    "curl ",
    "man ",
    "SORAMODE_REMOTE=",
];

/// Text before a command.
const LABEL_END: &str = ": ";

/// Text between two sentences.
pub(super) const SENTENCE_END: &str = ". ";

/// Divides a message after each of its commands. The full stop after a command is left out.
pub(crate) fn lines(message: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = message;
    while let Some(at) = command_at(rest) {
        let (_, command) = rest.split_at(at);
        let (line, after) = rest.split_at(at + end_of_command(command));
        lines.push(line);
        rest = after.strip_prefix('.').unwrap_or(after).trim_start();
        if rest.is_empty() {
            return lines;
        }
    }
    lines.push(rest);
    lines
}

/// Returns the message with a line feed after each of its commands, except at its end.
pub(crate) fn on_lines(message: &str) -> String {
    lines(message).join("\n")
}

/// Returns the place of the first command after a label.
pub(super) fn command_at(text: &str) -> Option<usize> {
    text.match_indices(LABEL_END)
        .map(|(at, label_end)| at + label_end.len())
        .find(|at| {
            let (_, command) = text.split_at(*at);
            PROGRAMS.iter().any(|program| command.starts_with(program))
        })
}

/// Returns the length of the command at the beginning of a text: up to the end of its sentence. A shell's quotes are skipped.
fn end_of_command(text: &str) -> usize {
    let mut quote = None;
    let mut has_escapes = false;
    let mut letters = text.char_indices();
    let mut before = ' ';
    while let Some((at, letter)) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (_, '\\') if quote.is_none() || has_escapes => {
                letters.next();
            }
            (None, '\'' | '"') => {
                quote = Some(letter);
                has_escapes = letter == '"' || before == '$';
            }
            (None, '.') => {
                let (_, rest) = text.split_at(at);
                if rest == "." || rest.starts_with(SENTENCE_END) {
                    return at;
                }
            }
            (Some(_) | None, _) => {}
        }
        before = letter;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line;

    #[test]
    fn each_command_ends_its_line() {
        for (message, wanted) in [
            (
                "Watch again: soramode wait drained. Undo: soramode set normal",
                &[
                    "Watch again: soramode wait drained",
                    "Undo: soramode set normal",
                ][..],
            ),
            (
                "Run it: soramode roll -- true. Or open the node",
                &["Run it: soramode roll -- true", "Or open the node"],
            ),
            (
                "Start it: systemctl start soramoded.",
                &["Start it: systemctl start soramoded"],
            ),
            (
                "Closed. Undo: soramode set block_new_session -m 'A. B' --for 1.5s. Bye.",
                &[
                    "Closed. Undo: soramode set block_new_session -m 'A. B' --for 1.5s",
                    "Bye.",
                ],
            ),
            (
                r#"Go on: soramode roll -- sh -c "it's. \". " $'it\'s. \x1b. '. To stop: soramode plan"#,
                &[
                    r#"Go on: soramode roll -- sh -c "it's. \". " $'it\'s. \x1b. '"#,
                    "To stop: soramode plan",
                ],
            ),
            (
                "soramode is older. It's so. No command",
                &["soramode is older. It's so. No command"],
            ),
            ("", &[""]),
        ] {
            assert_eq!(lines(message), wanted);
        }
    }

    #[test]
    fn a_word_of_a_command_is_never_taken_for_the_end_of_a_sentence() {
        for text in [
            ".", "..", "a.", "a. b", "it's. ", "\". ", "a\n. b", "\\. ", "$'. ",
        ] {
            let command = format!("soramode roll -- echo {}", command_line::word(text));
            let message = format!("Go on: {command}. Open it: {command}. Bye");
            let line = format!("Go on: {command}");
            assert_eq!(
                lines(&message),
                [&line, &format!("Open it: {command}"), "Bye"]
            );
            assert_eq!(lines(&line), [&line]);
        }
    }

    #[test]
    fn lines_are_joined_with_line_feeds() {
        assert_eq!(
            on_lines("Undo: soramode set normal. Bye"),
            "Undo: soramode set normal\nBye"
        );
    }
}
