//! The command that goes on with a roll that has stopped.

use soramode_protocol::id::RollId;
use soramode_protocol::time::Time;

use crate::command_line;
use crate::expected_end::typed_until;

/// Words of the command that goes on: those of the present one, with `--resume`.
pub(crate) struct ResumeCommand {
    words: Vec<String>,
    roll: RollId,
    expected_end: Option<Time>,
}

impl ResumeCommand {
    /// Takes in the words of the present command, and the time that its `--until` stands for.
    pub(crate) fn new(roll: RollId, expected_end: Option<Time>) -> Self {
        let words = std::env::args_os().skip(1).map(command_line::word);
        Self {
            words: words.collect(),
            roll,
            expected_end,
        }
    }

    /// Returns the line to type, with or without `--again`.
    pub(super) fn line(&self, is_again: bool) -> String {
        let end = self.words.iter().position(|word| word == "--");
        let (options, command) = self.words.split_at(end.unwrap_or(self.words.len()));
        let has = |flag: &str| {
            let value = format!("{flag}=");
            options
                .iter()
                .any(|word| word == flag || word.starts_with(&value))
        };
        let mut words = vec!["soramode".to_owned()];
        let mut is_time = false;
        for word in options {
            if word == "--until" || word.starts_with("--until=") {
                is_time = word == "--until";
                words.extend(self.expected_end.map(typed_until));
            } else if is_time {
                is_time = false;
            } else {
                words.push(word.clone());
            }
        }
        if !has("--resume") {
            words.push(format!("--resume {}", self.roll));
        }
        if is_again && !has("--again") {
            words.push("--again".to_owned());
        }
        words.extend_from_slice(command);
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &str, is_again: bool) -> String {
        let command = ResumeCommand {
            words: words.split(' ').map(str::to_owned).collect(),
            roll: RollId::new("7Q2K9XA0").unwrap(),
            expected_end: Some("2099-12-01T04:00:00Z".parse().unwrap()),
        };
        command.line(is_again)
    }

    #[test]
    fn the_command_that_goes_on_has_the_same_words() {
        assert_eq!(
            line("-H a,b roll --keep-open 1 -m X -- apt --resume", false),
            "soramode -H a,b roll --keep-open 1 -m X --resume 7Q2K9XA0 -- apt --resume"
        );
        assert_eq!(
            line("-H a roll --keep-open 0 --resume 7Q2K9XA0 -- x", true),
            "soramode -H a roll --keep-open 0 --resume 7Q2K9XA0 --again -- x"
        );
        assert_eq!(
            line("-H a roll --resume=7Q2K9XA0 --again --reboot", true),
            "soramode -H a roll --resume=7Q2K9XA0 --again --reboot"
        );
    }

    #[test]
    fn the_expected_end_stays_the_same_time() {
        for until in ["--until 2h", "--until=13:00"] {
            assert_eq!(
                line(
                    &format!("-H a roll {until} --keep-open 1 -- apt --until 2h"),
                    false
                ),
                "soramode -H a roll --until 2099-12-01T04:00:00Z --keep-open 1 --resume 7Q2K9XA0 -- apt --until 2h"
            );
        }
    }
}
