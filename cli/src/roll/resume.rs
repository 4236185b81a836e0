//! The command that goes on with a roll that has stopped.

use soramode_protocol::id::RollId;

use crate::command_line;

/// Words of the command that goes on: those of the present one, with `--resume`.
pub(crate) struct ResumeCommand {
    words: Vec<String>,
    roll: RollId,
}

impl ResumeCommand {
    /// Takes in the words of the present command.
    pub(crate) fn new(roll: RollId) -> Self {
        let words = std::env::args_os().skip(1).map(command_line::word);
        Self {
            words: words.collect(),
            roll,
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
        words.extend_from_slice(options);
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
}
