//! Commands in the output: each ends its line, without punctuation after it, so that the line can be copied to a shell. `support` checks this
//! for each program that a test runs.

use std::sync::LazyLock;

use crate::support::Ended;

const PROGRAM: &str = "soramode ";

/// Verbs of the commands that are suggested. "soramode is" begins a sentence more often than a command.
static VERBS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let verbs = soramode::verbs().into_iter();
    verbs.filter(|verb| verb != "is").collect()
});

/// Checks each line that is no JSON, no row for a script, no help and no step of a rehearsal.
pub(crate) fn check_command_lines(ended: &Ended) {
    let is_help = |text: &str| {
        let words = ["Usage:", "soramode help", "A rehearsal with a private"];
        words.iter().any(|word| text.contains(word))
    };
    let texts = [&ended.stdout, &ended.stderr];
    let lines = texts
        .iter()
        .filter(|text| !is_help(text))
        .flat_map(|text| text.lines())
        .filter(|line| !line.starts_with(['{', '#']) && !line.contains('\t'))
        // Ansible writes the output of a command as JSON in one line.
        .filter(|line| !line.contains("=> {"));
    for line in lines {
        let problem = problem_of(line);
        assert_eq!(problem, None, "{line}: {ended:?}");
    }
}

/// Returns the first reason why a command in a line cannot be copied.
fn problem_of(line: &str) -> Option<&'static str> {
    let commands = line
        .match_indices(PROGRAM)
        .map(|(at, program)| (line.split_at(at).0, line.split_at(at + program.len()).1))
        // Between quotes stands a command or a reason of the operator.
        .filter(|(before, _)| before.matches('"').count().is_multiple_of(2))
        .map(|(before, words)| (before, without_quoted(words)));
    commands
        .filter(|(before, words)| has_verb(words) && !before.ends_with(['/', '-', '_', '.']))
        .find_map(|(before, words)| {
            // A row has its command after a gap.
            let begins = before.trim().is_empty() || before.ends_with("  ");
            // Before the program there may be a variable, or the right to run it.
            let before = before.split(" SORAMODE_REMOTE=").next().unwrap_or_default();
            let before = before.trim_end_matches("sudo ").trim_end();
            if !(begins || before.ends_with(':')) {
                Some("text before the command has no colon")
            } else if words.ends_with(['.', ',', ';', ':', ')']) {
                Some("the command ends with punctuation")
            } else if [". ", ", ", "; "].iter().any(|end| words.contains(end)) {
                Some("text follows the command")
            } else {
                None
            }
        })
}

/// Returns whether the words, without the flags at their beginning, begin with a verb.
fn has_verb(words: &str) -> bool {
    let mut words = words.split(' ');
    let mut word = words.next();
    while word.is_some_and(|word| word.starts_with('-')) {
        word = words.nth(1);
    }
    let verb = word.unwrap_or_default();
    let verb = verb.split(|letter: char| !letter.is_ascii_lowercase());
    verb.take(1).any(|verb| VERBS.iter().any(|it| it == verb))
}

/// Leaves out what stands between quotes.
fn without_quoted(words: &str) -> String {
    let mut open = None;
    let mut kept = String::new();
    for letter in words.chars() {
        match open {
            Some(quote) if letter == quote => open = None,
            None if matches!(letter, '\'' | '"') => {
                open = Some(letter);
                kept.push('_');
            }
            Some(_) => {}
            None => kept.push(letter),
        }
    }
    kept
}

#[test]
fn a_command_that_cannot_be_copied_is_found() {
    for line in [
        "hint: Watch again: soramode wait drained. Undo: soramode set normal",
        "hint: Run it: soramode -H sfu-02 roll -- true.",
        "hint: In an emergency: soramode drain --replace, or soramode set",
        "Free disk space (soramode doctor names the problem)",
        "vm is set, and soramode status shows it",
    ] {
        assert!(problem_of(line).is_some(), "{line}");
    }
    for line in [
        "hint: Watch again: soramode --socket '/a b' wait drained",
        "  soramode set block_new_session -m 'A. B; C.' --for 1.5s",
        "sfu-01 is empty after 0 s. Running \"sh -c 'soramode get; true'\"",
        "soramode: the node is closed. soramode is older. /opt/soramode get, it is",
    ] {
        assert_eq!(problem_of(line), None, "{line}");
    }
}
