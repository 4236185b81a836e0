//! How a command ends: the one table of exit codes, and the failures that lead to them.

use std::fmt;

use soramode_protocol::error::{Error, ErrorType};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// What was asked for is so.
    Done,
    /// A predicate is false.
    No,
    /// The command line is wrong.
    Usage,
    /// Nobody answers on the socket.
    Unreachable,
    /// This user may not.
    NotPermitted,
    /// The node's state forbids it.
    Refused,
    /// Somebody else changed the mode.
    Superseded,
    /// Client and daemon do not fit.
    Versions,
    /// Nobody has told the whole truth about the sessions.
    SessionsUnknown,
    /// Anything else.
    Failed,
    /// It did not come true in time.
    TimedOut,
    /// SIGHUP while waiting.
    HungUp,
    /// SIGINT while waiting.
    Interrupted,
    /// SIGTERM while waiting.
    Terminated,
    /// What the command that `maintain` ran ended with.
    Command(u8),
}

impl Exit {
    /// The table, without what `maintain`'s command decides.
    const TABLE: [Self; 14] = [
        Self::Done,
        Self::No,
        Self::Usage,
        Self::Unreachable,
        Self::NotPermitted,
        Self::Refused,
        Self::Superseded,
        Self::Versions,
        Self::SessionsUnknown,
        Self::Failed,
        Self::TimedOut,
        Self::HungUp,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// The exit code, and what it means.
    const fn entry(self) -> (u8, &'static str) {
        match self {
            Self::Done => (0, "done; the wait was reached; the predicate is true; connect was offered"),
            Self::No => (1, "the predicate is false; connect was rejected or redirected"),
            Self::Usage => (2, "the command line is wrong"),
            Self::Unreachable => (3, "the daemon cannot be reached"),
            Self::NotPermitted => (4, "not permitted, or the socket may not be opened"),
            Self::Refused => (5, "refused by the state: initial, not joined, cannot become true, no means to end a session"),
            Self::Superseded => (6, "superseded: somebody else opened the gate, or --if-... did not hold"),
            Self::Versions => (7, "the versions of soramode and soramoded do not fit"),
            Self::SessionsUnknown => (8, "the sessions are not known: no source has spoken"),
            Self::Failed => (70, "failed for another reason"),
            Self::TimedOut => (124, "timed out"),
            Self::HungUp => (129, "hung up (SIGHUP) while waiting"),
            Self::Interrupted => (130, "interrupted (SIGINT) while waiting"),
            Self::Terminated => (143, "terminated (SIGTERM) while waiting"),
            Self::Command(code) => (code, "what the command of maintain ended with"),
        }
    }

    /// The exit code.
    pub(crate) const fn code(self) -> u8 {
        self.entry().0
    }

    const fn of(error_type: ErrorType) -> Self {
        match error_type {
            ErrorType::InvalidParams => Self::Usage,
            ErrorType::TooManyClients => Self::Unreachable,
            ErrorType::PermissionDenied => Self::NotPermitted,
            ErrorType::NotJoined | ErrorType::CannotBecomeTrue | ErrorType::ConnectionIdInUse | ErrorType::NoMeans => Self::Refused,
            ErrorType::Superseded => Self::Superseded,
            ErrorType::MethodNotFound => Self::Versions,
            ErrorType::SessionsUnknown => Self::SessionsUnknown,
            ErrorType::ParseError
            | ErrorType::InvalidRequest
            | ErrorType::Internal
            | ErrorType::NotFound
            | ErrorType::StorageUnavailable
            | ErrorType::ClusterUnavailable
            | ErrorType::Unknown => Self::Failed,
        }
    }
}

/// The table as `--help` and the man page show it.
pub(crate) fn exit_codes() -> String {
    let lines = Exit::TABLE.map(|exit| format!("  {:>3}  {}", exit.entry().0, exit.entry().1));
    format!("Exit codes:\n{}", lines.join("\n"))
}

/// Why a command did not reach its goal, in one sentence: what, with which value, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// How the command ends.
    pub(crate) exit: Exit,
    /// The sentence.
    pub(crate) message: String,
    /// What is listed below it.
    pub(crate) details: Vec<String>,
    /// What the daemon called it.
    pub(crate) error_type: Option<ErrorType>,
}

impl Failure {
    /// Ends so, with this sentence.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), details: Vec::new(), error_type: None }
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
        Self { error_type: Some(error_type), ..Self::new(Exit::of(error_type), error.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_codes_are_those_that_scripts_rely_on() {
        let codes = Exit::TABLE.map(Exit::code);
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 70, 124, 129, 130, 143]);
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
    fn the_help_lists_each_code() {
        let help = exit_codes();
        for exit in Exit::TABLE {
            assert!(help.lines().any(|line| line.trim_start().starts_with(&format!("{}  ", exit.code()))), "{exit:?}");
        }
    }

    #[test]
    fn the_daemons_hint_is_part_of_the_sentence() {
        let failure = Failure::from(Error::sessions_unknown("no Report yet"));
        assert_eq!(failure.exit, Exit::SessionsUnknown);
        assert!(failure.message.contains("no Report yet") && failure.message.contains("--assume-known"), "{failure}");
    }
}
