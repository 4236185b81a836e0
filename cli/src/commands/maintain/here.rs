//! The command of a `maintain` on this host: the node is reserved while it runs, so that no second maintenance runs its own beside it.

use std::cell::Cell;
use std::ffi::OsString;
use std::future::pending;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{AccessFlags, Pid, access};
use soramode_protocol::error::ErrorType;
use soramode_roll::RENEW_PAUSE;
use tokio::process::{Child, Command};

use super::command_state::CommandState;
use super::on_host::{finish, renew, reserve};
use crate::command_line;
use crate::command_lock::{self, socket};
use crate::context::Context;
use crate::error::{Exit, Failure, NOT_FOUND, NOT_STARTED, shell_code};
use crate::output::escape::quoted;
use crate::output::{Format, begin_line};
use crate::roll::id::new_maintenance;
use crate::signals::Signals;

/// Default of `PATH`.
const DEFAULT_PATH: &str = "/usr/bin:/bin";

/// Runs the command with the node reserved; returns its exit code.
pub(super) async fn run(
    command: &[OsString],
    context: &Context<'_>,
    signals: &mut Signals,
) -> Result<u8, Failure> {
    let roll = new_maintenance();
    let round = Cell::new(1);
    // A look over ssh finds the command by it.
    let _lock = command_lock::take(&roll, socket(context.node)).await;
    let reserved = match reserve(&roll, context, signals).await {
        Ok(reserved) => Some(reserved),
        Err(refused) if cannot_reserve(&refused) => {
            context.output.warn(&format!(
                "the node is not reserved while the command runs: {}",
                refused.message
            ));
            None
        }
        Err(refused) => return Err(refused),
    };
    let is_reserved = reserved.is_some();
    let renewing = async {
        if let Some((daemon, endpoint)) = reserved {
            renew((&roll, &round), daemon, endpoint, RENEW_PAUSE).await;
        }
        pending().await
    };
    let ended = tokio::select! {
        biased;
        ended = run_command(command, context.output.format(), signals) => ended.map(shell_code),
        ended = renewing => ended,
    };
    let end = ended
        .as_ref()
        .map_or(CommandState::NotStarted, |code| CommandState::Ended(*code));
    if is_reserved {
        // A reservation that is not released expires by itself.
        let _ = finish((&roll, round.get() + 1), end, context).await;
    }
    ended.map_err(|problem| not_started(command, &problem))
}

/// Returns whether the node keeps no reservation: its state cannot be written, or its soramoded is too old. The node is drained, so the command
/// runs all the same.
fn cannot_reserve(refused: &Failure) -> bool {
    refused.error_type == Some(ErrorType::StorageUnavailable) || refused.exit == Exit::Versions
}

/// Runs the command with the same stdin, stdout and stderr. It handles signals itself.
async fn run_command(
    command: &[OsString],
    format: Format,
    signals: &mut Signals,
) -> io::Result<ExitStatus> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(ErrorKind::NotFound.into());
    };
    let stdout = match format {
        Format::Table | Format::Plain => Stdio::inherit(),
        // stdout is for the JSON object at the end.
        Format::Json | Format::Jsonl => Stdio::from(io::stderr()),
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdout(stdout)
        .spawn()?;
    loop {
        tokio::select! {
            status = child.wait() => {
                begin_line();
                return status;
            }
            exit = signals.next() => forward_signal(exit, &child),
        }
    }
}

/// Forwards SIGTERM, which is sent to this process alone; a terminal sends Ctrl-C and the hang-up
/// to the command itself.
fn forward_signal(exit: Exit, child: &Child) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    if let (Exit::Terminated, Some(pid)) = (exit, pid) {
        // It may have ended just now.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
}

/// The failure for a command that cannot be started.
pub(in crate::commands) fn not_started(command: &[OsString], problem: &io::Error) -> Failure {
    let code = if problem.kind() == ErrorKind::NotFound {
        NOT_FOUND
    } else {
        NOT_STARTED
    };
    let message = format!(
        "{} could not be started: {problem}",
        quoted_command(command)
    );
    Failure::new(Exit::Command(code), message)
}

/// Checks that the command can be started, as far as its file shows that: a node is not drained for a typing error.
pub(in crate::commands) fn check_command(command: &[OsString]) -> Result<(), Failure> {
    let Some(program) = command.first() else {
        return Ok(());
    };
    let candidates: Vec<PathBuf> = if program.as_bytes().contains(&b'/') {
        vec![program.into()]
    } else {
        let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
        std::env::split_paths(&path)
            .map(|folder| folder.join(program))
            .collect()
    };
    let starts =
        |path: &&PathBuf| path.is_file() && access(path.as_path(), AccessFlags::X_OK).is_ok();
    if candidates.iter().any(|path| starts(&path)) {
        return Ok(());
    }
    let (code, why) = match candidates.iter().find(|path| path.exists()) {
        Some(path) if path.is_dir() => (NOT_STARTED, "it is a directory"),
        Some(_) => (NOT_STARTED, "it is not executable"),
        None => (NOT_FOUND, "no such command"),
    };
    let message = format!("{} could not be started: {why}", quoted_command(command));
    Err(Failure::new(Exit::Command(code), message))
}

/// Names a command as it is typed in a shell; between quotes, unless it has some of its own.
pub(super) fn quoted_command(command: &[OsString]) -> String {
    let words: Vec<String> = command.iter().map(command_line::word).collect();
    let typed = words.join(" ");
    if typed.contains('"') {
        return typed;
    }
    quoted(&typed)
}

#[cfg(test)]
mod tests {
    use soramode_protocol::error::Error;

    use super::*;

    #[test]
    fn a_command_runs_without_a_reservation_where_the_state_cannot_be_written() {
        let full = Failure::from(Error::storage_unavailable("No space left on device"));
        assert!(cannot_reserve(&full));
        assert!(cannot_reserve(&Failure::new(Exit::Versions, "too old")));
        assert!(!cannot_reserve(&Failure::new(Exit::Refused, "is reserved")));
    }
}
