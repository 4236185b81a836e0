//! Modes and conditions, as they are typed.

use std::str::FromStr;

use soramode_protocol::mode::Mode;

/// Least similarity of a typed word to a suggested mode: that of clap's own suggestions.
const SIMILARITY_MIN: f64 = 0.7;

/// Reads a mode; `-` is the same as `_`. The error suggests a similar mode.
pub(crate) fn read_mode(word: &str) -> Result<Mode, String> {
    read_mode_of(word, &Mode::ALL)
}

/// Reads a mode to set. `initial` is read, to be refused with a reason, but not suggested.
pub(crate) fn read_mode_to_set(word: &str) -> Result<Mode, String> {
    read_mode_of(
        word,
        &[
            Mode::Normal,
            Mode::BlockNewSession,
            Mode::BlockNewConnection,
        ],
    )
}

fn read_mode_of(word: &str, offered: &[Mode]) -> Result<Mode, String> {
    let word = word.replace('-', "_");
    word.parse().map_err(
        |_| match nearest_mode(&word).filter(|mode| offered.contains(mode)) {
            Some(mode) => format!("no such mode; did you mean {mode}?"),
            None => format!(
                "no such mode; there are {}",
                offered
                    .iter()
                    .map(|mode| mode.name())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        },
    )
}

fn nearest_mode(word: &str) -> Option<Mode> {
    let word = word.to_lowercase();
    let likeness = |mode: &Mode| strsim::jaro(&word, mode.name());
    let nearest = Mode::ALL
        .into_iter()
        .max_by(|one, other| likeness(one).total_cmp(&likeness(other)))?;
    (likeness(&nearest) >= SIMILARITY_MIN).then_some(nearest)
}

/// A condition of `soramode wait`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// `drained`
    Drained,
    /// `joined`
    Joined,
    /// `mode=M`
    Mode(Mode),
}

impl FromStr for Goal {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match (word, word.strip_prefix("mode=")) {
            ("drained", _) => Ok(Self::Drained),
            ("joined", _) => Ok(Self::Joined),
            (_, Some(mode)) => read_mode(mode).map(Self::Mode),
            (mode, None) => read_mode(mode)
                .map(Self::Mode)
                .map_err(|_| "takes drained, joined or mode=MODE".to_owned()),
        }
    }
}

/// A condition of `soramode is`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Predicate {
    /// `drained`
    Drained,
    /// `joined`
    Joined,
    /// A mode's name.
    Mode(Mode),
}

impl FromStr for Predicate {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "drained" => Ok(Self::Drained),
            "joined" => Ok(Self::Joined),
            mode => read_mode(mode.strip_prefix("mode=").unwrap_or(mode))
                .map(Self::Mode)
                .map_err(|problem| format!("neither drained nor joined, and {problem}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_with_either_separator() {
        assert_eq!(read_mode("block-new-session"), Ok(Mode::BlockNewSession));
        assert_eq!(
            read_mode("block_new_connection"),
            Ok(Mode::BlockNewConnection)
        );
    }

    #[test]
    fn a_near_miss_is_suggested_and_a_far_one_is_not() {
        assert_eq!(
            read_mode("nromal"),
            Err("no such mode; did you mean normal?".to_owned())
        );
        assert_eq!(
            read_mode("Block-New-Sessions"),
            Err("no such mode; did you mean block_new_session?".to_owned())
        );
        assert!(
            read_mode("maintenance")
                .unwrap_err()
                .contains("there are normal, block_new_session")
        );
        assert_eq!(
            read_mode_to_set("foo"),
            Err(
                "no such mode; there are normal, block_new_session, block_new_connection"
                    .to_owned()
            )
        );
        assert_eq!(
            read_mode_to_set("initial"),
            Ok(Mode::Initial),
            "it is refused with a reason"
        );
    }

    #[test]
    fn goals_and_predicates_are_read() {
        assert_eq!(
            "mode=block-new-session".parse(),
            Ok(Goal::Mode(Mode::BlockNewSession))
        );
        assert_eq!("drained".parse(), Ok(Goal::Drained));
        assert_eq!(
            "normal".parse(),
            Ok(Goal::Mode(Mode::Normal)),
            "as is takes it"
        );
        assert_eq!(
            "mode=normal".parse(),
            Ok(Predicate::Mode(Mode::Normal)),
            "as wait takes it"
        );
        assert_eq!("initial".parse(), Ok(Predicate::Mode(Mode::Initial)));
        assert!("drianed".parse::<Predicate>().is_err());
    }
}
