//! Exit codes and failures: the one table, and the one match that makes them.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use serde::Serialize;
use soramode_protocol::error::{Error, ErrorType};

use crate::output::command_lines::on_lines;

/// Exit code of a shell for an unknown command.
pub(crate) const NOT_FOUND: u8 = 127;

/// Exit code of a shell for a command that cannot be started.
pub(crate) const NOT_STARTED: u8 = 126;

/// Base of a shell's exit code for a command that a signal killed.
const SIGNALLED: i32 = 128;

/// The end of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Success, or a true condition.
    Done,
    /// A false condition.
    False,
    /// A wrong command line.
    Usage,
    /// No daemon answers on the socket.
    Unreachable,
    /// No permission.
    NotPermitted,
    /// A request that the node's state forbids.
    Refused,
    /// Another client changed the mode.
    Superseded,
    /// Client and daemon of different versions.
    Versions,
    /// An incomplete session list.
    SessionsIncomplete,
    /// The named session, connection, delivery or node was not found.
    NotFound,
    /// A mode that was set, and that the SFU does not hold yet.
    NotInForce,
    /// Any other failure.
    Failed,
    /// A condition that did not become true in time.
    TimedOut,
    /// SIGHUP while waiting.
    HungUp,
    /// SIGINT while waiting.
    Interrupted,
    /// SIGTERM while waiting.
    Terminated,
    /// The exit code of the command that `maintain` ran.
    Command(u8),
}

impl Exit {
    /// The table, without the codes of `maintain`'s command.
    const TABLE: [Self; 16] = [
        Self::Done,
        Self::False,
        Self::Usage,
        Self::Unreachable,
        Self::NotPermitted,
        Self::Refused,
        Self::Superseded,
        Self::Versions,
        Self::SessionsIncomplete,
        Self::NotFound,
        Self::NotInForce,
        Self::Failed,
        Self::TimedOut,
        Self::HungUp,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// Returns the exit code and its meaning.
    const fn entry(self) -> (u8, &'static str) {
        match self {
            Self::Done => (0, "done, or true"),
            Self::False => (1, "false; doctor found a fault; connect was rejected"),
            Self::Usage => (2, "wrong command line"),
            Self::Unreachable => (3, "soramoded cannot be reached"),
            Self::NotPermitted => (4, "permission denied"),
            Self::Refused => (5, "refused in this state"),
            Self::Superseded => (
                6,
                "superseded: another user changed the mode, or --if-* was false",
            ),
            Self::Versions => (7, "versions do not match"),
            Self::SessionsIncomplete => (8, "session list incomplete"),
            Self::NotFound => (9, "not found"),
            Self::NotInForce => (10, "mode set, but not in force on the SFU"),
            Self::Failed => (70, "failed for another reason"),
            Self::TimedOut => (124, "timed out"),
            Self::HungUp => (129, "hung up"),
            Self::Interrupted => (130, "interrupted"),
            Self::Terminated => (143, "terminated"),
            Self::Command(code) => (code, "the exit code of the command that maintain ran"),
        }
    }

    pub(crate) const fn code(self) -> u8 {
        self.entry().0
    }

    /// Returns the word for a failure in a table.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::NotPermitted => "not permitted",
            Self::Refused => "refused",
            Self::Superseded => "superseded",
            Self::Versions => "version differs",
            Self::NotFound => "not found",
            Self::NotInForce => "not in force",
            Self::SessionsIncomplete => "list incomplete",
            Self::TimedOut => "timed out",
            Self::HungUp | Self::Interrupted | Self::Terminated => "interrupted",
            Self::Done | Self::False | Self::Usage | Self::Failed | Self::Command(_) => "failed",
        }
    }

    /// Returns the `error_type` of a failure that is not the daemon's.
    const fn name(self) -> &'static str {
        match self {
            Self::Done | Self::False => "PredicateFalse",
            Self::Usage => "Usage",
            Self::Unreachable => "Unreachable",
            Self::NotPermitted => "PermissionDenied",
            Self::Refused => "Refused",
            Self::Superseded => "Superseded",
            Self::Versions => "VersionMismatch",
            Self::SessionsIncomplete => "SessionsIncomplete",
            Self::NotFound => "NotFound",
            Self::NotInForce => "NotInForce",
            Self::Failed => "Failed",
            Self::TimedOut => "TimedOut",
            Self::HungUp | Self::Interrupted | Self::Terminated => "Interrupted",
            Self::Command(_) => "CommandFailed",
        }
    }

    const fn of(error_type: ErrorType) -> Self {
        match error_type {
            ErrorType::InvalidParams => Self::Usage,
            ErrorType::TooManyClients => Self::Unreachable,
            ErrorType::PermissionDenied => Self::NotPermitted,
            ErrorType::NotJoined
            | ErrorType::ConditionImpossible
            | ErrorType::ConnectionIdInUse
            | ErrorType::CannotEndSessions
            | ErrorType::AlreadyExists
            | ErrorType::NodeStillJoined
            | ErrorType::PlanRefused
            | ErrorType::CannotAnnounce
            | ErrorType::Reserved => Self::Refused,
            ErrorType::Superseded => Self::Superseded,
            ErrorType::MethodNotFound => Self::Versions,
            ErrorType::SessionsIncomplete => Self::SessionsIncomplete,
            ErrorType::NotFound => Self::NotFound,
            ErrorType::ParseError
            | ErrorType::InvalidRequest
            | ErrorType::Internal
            | ErrorType::StorageUnavailable
            | ErrorType::ClusterUnavailable
            | ErrorType::Unknown => Self::Failed,
        }
    }
}

/// Lists the exit codes and their meanings.
pub(crate) fn exit_status() -> impl Iterator<Item = (u8, &'static str)> {
    Exit::TABLE.into_iter().map(Exit::entry)
}

/// Returns the exit code that a shell gives for a command that has ended.
pub(crate) fn shell_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .unwrap_or_else(|| SIGNALLED + status.signal().unwrap_or_default());
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// Returns the table for `--help` and the man page.
pub(crate) fn exit_codes() -> String {
    let lines = Exit::TABLE.map(|exit| format!("  {:>3}  {}", exit.entry().0, exit.entry().1));
    format!("Exit codes:\n{}", lines.join("\n"))
}

/// The reason why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// The fact, one sentence.
    pub(crate) message: String,
    /// The remedy.
    pub(crate) hint: Option<String>,
    /// Lines below the message.
    pub(crate) details: Vec<String>,
    /// The daemon's type of the error.
    pub(crate) error_type: Option<ErrorType>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hint: None,
            details: Vec::new(),
            error_type: None,
        }
    }

    /// Adds a hint after the present ones.
    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl AsRef<str>) -> Self {
        let hint = hint.as_ref();
        if !hint.is_empty() {
            let before = self.hint.map(|before| before + ". ").unwrap_or_default();
            self.hint = Some(before + hint);
        }
        self
    }

    /// Adds the command that lists the existing ones, if the failure is that one was not found.
    #[must_use]
    pub(crate) fn if_not_found(self, list: &str) -> Self {
        if self.exit == Exit::NotFound {
            self.with_hint(format!("List those that are there: {list}"))
        } else {
            self
        }
    }

    /// Adds another fact after the first.
    #[must_use]
    pub(crate) fn and(mut self, fact: impl fmt::Display) -> Self {
        self.message = format!("{}. {fact}", self.message);
        self
    }
}

/// A failure as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Problem {
    error_type: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl From<&Failure> for Problem {
    fn from(failure: &Failure) -> Self {
        let error_type = failure.error_type.map_or_else(
            || failure.exit.name().to_owned(),
            |error_type| format!("{error_type:?}"),
        );
        Self {
            error_type,
            message: failure.message.clone(),
            hint: failure.hint.as_deref().map(on_lines),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let error_type = error.data.error_type;
        let message = error.data.field.as_deref().map_or_else(
            || error.message.clone(),
            |field| in_flags(&error.message, field),
        );
        let hint = error
            .data
            .hint
            .map(|hint| hint.replace("assume_complete (--assume-complete)", "--assume-complete"));
        let hint = hint.or_else(|| {
            (error_type == ErrorType::StorageUnavailable).then(|| MAKE_ROOM.to_owned())
        });
        Self {
            error_type: Some(error_type),
            hint,
            ..Self::new(Exit::of(error_type), message)
        }
    }
}

/// Hint if soramoded cannot write its state.
const MAKE_ROOM: &str =
    "Free disk space for soramoded's state, then try again. To see the problem: soramode doctor";

/// Params that have a flag of another name.
const FLAGS: [(&str, &str); 15] = [
    ("expires_in_seconds", "--for"),
    ("expected_end_at", "--until"),
    ("reason", "--message"),
    ("settle_seconds", "--settle"),
    ("timeout_seconds", "--timeout"),
    ("mode", "MODE"),
    ("channel_id", "CHANNEL"),
    ("node_name", "NAME"),
    ("max_delay_seconds", "--max-delay"),
    ("id", "ID"),
    ("text", "TEXT"),
    ("data", "--data"),
    ("per_minute", "--rate"),
    ("for: drained", "drained"),
    ("for: mode", "mode=MODE"),
];

/// Params of a plan's steps, and the flags that stand for them.
const STEP_FLAGS: [(&str, &str); 4] = [
    ("text", "--announce-text"),
    ("data", "--announce-data"),
    ("per_minute", "--end-rate"),
    (
        "at_seconds",
        "the time of a step, in seconds from the close",
    ),
];

/// Describes a wrong param in terms of the command line.
fn in_flags(message: &str, field: &str) -> String {
    let of_step = field
        .strip_prefix("steps[")
        .and_then(|rest| rest.split_once("]."));
    let flag = match of_step {
        Some((_, param)) => STEP_FLAGS.iter().find(|(name, _)| *name == param),
        None => FLAGS.iter().find(|(param, _)| *param == field),
    };
    let flag = flag.map_or_else(
        || format!("--{}", field.replace('_', "-")),
        |(_, flag)| (*flag).to_owned(),
    );
    let problem = message
        .strip_prefix(field)
        .and_then(|rest| rest.strip_prefix(": "))
        .unwrap_or(message);
    let problem = FLAGS
        .iter()
        .fold(problem.to_owned(), |problem, (param, flag)| {
            if param.contains(": ") {
                problem.replace(param, flag)
            } else {
                problem
            }
        });
    format!("{flag}: {problem}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_the_one_a_shell_would_give() {
        assert_eq!(shell_code(ExitStatus::from_raw(0)), 0);
        assert_eq!(shell_code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(shell_code(ExitStatus::from_raw(9)), 137);
    }

    #[test]
    fn the_exit_codes_are_those_that_scripts_rely_on() {
        let codes = Exit::TABLE.map(Exit::code);
        assert_eq!(
            codes,
            [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 70, 124, 129, 130, 143]
        );
        assert_eq!(Exit::Command(42).code(), 42);
    }

    #[test]
    fn no_error_of_the_daemon_ends_as_success_or_as_a_false_predicate() {
        for error_type in ErrorType::ALL {
            let code = Exit::of(error_type).code();
            assert!(code > 1, "{error_type:?} ends with {code}");
        }
    }

    #[test]
    fn the_readmes_have_the_same_table() {
        let table: Vec<(String, String)> = exit_status()
            .map(|(code, meaning)| (code.to_string(), meaning.to_owned()))
            .collect();
        let codes: Vec<String> = table.iter().map(|(code, _)| code.clone()).collect();
        assert_eq!(documented("README.md"), table);
        assert_eq!(
            documented("README.ja.md")
                .into_iter()
                .map(|(code, _)| code)
                .collect::<Vec<_>>(),
            codes
        );
    }

    /// Reads the codes and meanings of a README, by the code. A row has one or two pairs of cells;
    /// codes that share a cell share its meanings in turn.
    fn documented(readme: &str) -> Vec<(String, String)> {
        let text =
            std::fs::read_to_string(format!("{}/../{readme}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let section = text
            .split("\n## ")
            .find(|section| section.starts_with("Exit codes") || section.starts_with("終了コード"));
        let rows = section
            .unwrap()
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
        let mut documented = Vec::new();
        for pair in rows.flat_map(|row| {
            row.split(" | ")
                .collect::<Vec<_>>()
                .chunks(2)
                .map(<[&str]>::to_vec)
                .collect::<Vec<_>>()
        }) {
            let [codes, meaning] = pair.try_into().unwrap_or_default();
            let codes: Vec<&str> = codes
                .split([',', '、'])
                .map(str::trim)
                .filter(|code| code.parse::<u8>().is_ok())
                .collect();
            let meanings: Vec<&str> = if codes.len() > 1 {
                meaning.split([',', '、']).map(str::trim).collect()
            } else {
                vec![meaning]
            };
            documented.extend(
                codes
                    .iter()
                    .zip(meanings)
                    .map(|(code, meaning)| ((*code).to_owned(), meaning.replace('`', ""))),
            );
        }
        documented.sort_by_key(|(code, _)| code.parse::<u8>().unwrap());
        documented
    }

    #[test]
    fn the_help_lists_each_code() {
        let help = exit_codes();
        for exit in Exit::TABLE {
            assert!(
                help.lines()
                    .any(|line| line.trim_start().starts_with(&format!("{}  ", exit.code()))),
                "{exit:?}"
            );
        }
    }

    #[test]
    fn params_are_named_as_they_are_typed() {
        let failure = |field, problem| Failure::from(Error::invalid_params(field, problem)).message;
        assert_eq!(
            failure("expires_in_seconds", "normal does not end by itself"),
            "--for: normal does not end by itself"
        );
        assert_eq!(
            failure("max_sessions", "is only for `for: drained`"),
            "--max-sessions: is only for `drained`"
        );
        assert_eq!(failure("channel_id", "is empty"), "CHANNEL: is empty");
        assert_eq!(
            failure("steps[2].text", "got 1025 bytes"),
            "--announce-text: got 1025 bytes"
        );
    }

    #[test]
    fn the_daemons_hint_is_a_hint() {
        let failure = Failure::from(Error::sessions_incomplete(
            "no Report yet",
            Some("Send one"),
        ));
        assert_eq!(failure.exit, Exit::SessionsIncomplete);
        assert_eq!(failure.message, "session list incomplete: no Report yet");
        assert_eq!(
            failure.hint.as_deref(),
            Some(
                "Send one. If you have checked on the SFU that no client is connected, add --assume-complete"
            )
        );
        let more = failure.with_hint("Watch again: soramode wait drained");
        assert!(more.hint.is_some_and(|hint| {
            hint.ends_with("--assume-complete. Watch again: soramode wait drained")
        }));
    }
}
