//! The end of a command on a host: from that of its ssh, and from its output.

use soramode_roll::{HostIndex, Stop, StopKind, TaskEnd};

use crate::error::Exit;
use crate::ssh::command::{CommandEnd, SSH_FAILED};

/// Continues a sentence with the last line of a command, if it has printed any.
pub(super) fn with_last_line(line: Option<&str>) -> String {
    line.map(|line| format!(": {line}")).unwrap_or_default()
}

/// Work that was carried out under `exec-stdio`.
pub(super) struct Executed {
    pub(super) end: TaskEnd,
    /// The last line of its output, of either stream.
    pub(super) last_line: Option<String>,
}

/// Returns the end of work under `exec-stdio`, from that of its ssh and whether the first line of `exec-stdio` came.
pub(super) fn end_of_command(host: HostIndex, has_begun: bool, end: &CommandEnd) -> TaskEnd {
    match (has_begun, end.code) {
        // Without the first line too: it may have been lost with the connection.
        (_, Some(SSH_FAILED) | None) => TaskEnd::Lost("the connection was lost".to_owned()),
        (true, Some(code)) => TaskEnd::CommandEnded(code),
        (false, Some(code)) => {
            let kind = match code {
                code if code == Exit::Refused.code() => StopKind::Refused,
                code if code == Exit::Superseded.code() => StopKind::Superseded,
                _ => StopKind::Failed,
            };
            let why = end.last_line.as_deref().unwrap_or("ssh has ended");
            // The words of exec-stdio are those of a command that was typed.
            let why = why.strip_prefix("soramode: ").unwrap_or(why);
            TaskEnd::Failed(Stop::on(host, kind, format!("not started: {why}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_may_run_although_its_first_line_was_lost_with_the_connection() {
        let end = |has_begun, code| {
            let last_line = Some("not at this step".to_owned());
            end_of_command(0, has_begun, &CommandEnd { code, last_line })
        };
        for has_begun in [true, false] {
            assert!(matches!(end(has_begun, Some(SSH_FAILED)), TaskEnd::Lost(_)));
            assert!(matches!(end(has_begun, None), TaskEnd::Lost(_)));
        }
        assert!(matches!(end(true, Some(5)), TaskEnd::CommandEnded(5)));
        for (code, kind) in [
            (5, StopKind::Refused),
            (6, StopKind::Superseded),
            (127, StopKind::Failed),
        ] {
            let TaskEnd::Failed(stop) = end(false, Some(code)) else {
                panic!("{code}")
            };
            let problem = "not started: not at this step";
            assert_eq!(stop, Stop::on(0, kind, problem));
        }
    }
}
