//! `soramode maintain -- CMD`

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Instant;

use clap_complete::engine::ArgValueCompleter;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{AccessFlags, Pid, access};
use soramode_protocol::mode::{ChangeMode, DatedModeChange, ListModeChanges, Mode, ModeChanged, ModeState, SettableMode};
use soramode_protocol::node::{GetInfo, GetStatus};
use tokio::process::{Child, Command};

use super::drain::{DrainFlags, drain, reached_words};
use crate::Context;
use crate::args::Format;
use crate::closing::{self, Back, Owner};
use crate::completion;
use crate::error::{Exit, Failure};
use crate::gate::{Closed, connect_again, on_behalf_of};
use crate::output::escape::{escape, quoted};
use crate::output::times;
use crate::report::Report;
use crate::signals::Signals;
use crate::watch::mode_words;

/// What a shell ends with where it finds no such command.
const NOT_FOUND: u8 = 127;

/// What a shell ends with where a command cannot be started.
const NOT_STARTED: u8 = 126;

/// Folders that are searched for a command without `PATH`.
const DEFAULT_PATH: &str = "/usr/bin:/bin";

/// Number of mode changes to read to find the owner of the closing.
const HISTORY_MAX: u32 = 100;

/// What a shell adds to the number of the signal that killed a command.
const SIGNALLED: i32 = 128;

/// Drain the node, run a command, and open the node again
///
/// Exit code 0 means that the command succeeded and the node is open. A command that cannot be found changes nothing. If the drain times out,
/// or the command fails, the node stays closed: run the same again, as the same user and with the same --message, to finish and open the node.
/// A node that another user closed, or that was closed for another reason, is drained but not opened: exit code 6.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    flags: DrainFlags,
    /// Command to run, with its arguments
    ///
    /// With -o json its standard output goes to standard error.
    #[arg(last = true, required = true, value_name = "COMMAND", add = ArgValueCompleter::new(completion::programs))]
    command: Vec<OsString>,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let mut report = Report::new();
    report.ran = Some(false);
    let ended = maintain(&args, context, &mut report).await;
    report.finish(&mut context.output, ended)
}

async fn maintain(args: &Args, context: &mut Context<'_>, report: &mut Report) -> Result<Exit, Failure> {
    check_command(&args.command)?;
    let mut signals = Signals::listen()?;
    let (mut closed, reached) = drain(&args.flags, context, &mut signals, report).await?;
    let command = shown(&args.command);
    context.output.note(&format!("{}. Running {command}", reached_words(&reached)));
    let began = Instant::now();
    let code = match run_command(&args.command, context.output.format(), &mut signals).await {
        Ok(status) => exit_code(status),
        Err(problem) => {
            let code = if problem.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_STARTED };
            let why = format!("{command} could not be started: {problem}");
            return Err(stays_closed(Exit::Command(code), &why, &closed, context));
        }
    };
    report.ran = Some(true);
    report.command_exit = Some(code);
    if code != 0 {
        return Err(stays_closed(Exit::Command(code), &format!("{command} ended with {code}"), &closed, context));
    }
    // A maintenance closes no tighter than it was told to: what is tighter is somebody's emergency stop.
    let is_a_stop = !closed.changed && closed.mode == Mode::BlockNewConnection && !args.flags.connections;
    let left = reopen(&closed, (args.flags.message.as_deref(), began, is_a_stop), context).await;
    report.restored = Some(matches!(left, Ok(Left::Opened(_))));
    if let Ok(seen) = context.see().await {
        closed.status = seen.status().cloned().unwrap_or(closed.status);
        report.status = Some(seen);
    }
    tell(left, &closed, context)
}

/// Done means that the command succeeded and the node is open.
fn tell(left: Result<Left, Failure>, closed: &Closed, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let (words, word) = match left {
        Ok(Left::Opened(words)) => (words, "restored"),
        Ok(Left::OpenedByAnother(words)) => {
            context.output.warn(&format!("{words}. Clients may have come in while the command ran"));
            (format!("{}: open again, not by this run", escape(closed.status.node_name.as_str())), "left")
        }
        Ok(Left::StillClosed(words)) => {
            let failure = Failure::new(Exit::Superseded, format!("the command succeeded, but {words}"));
            return Err(failure.with_hint(format!("Open it with: {}", context.socket.command("set normal"))));
        }
        Err(problem) => {
            let why = format!("the command succeeded, but the mode could not be set back: {problem}");
            let failure = stays_closed(problem.exit, &why, closed, context);
            return Err(Failure { error_type: problem.error_type, ..failure });
        }
    };
    match context.output.format() {
        Format::Json | Format::Jsonl => {}
        Format::Plain => context.output.record(&["done", closed.status.node_name.as_str(), word])?,
        Format::Table => context.output.confirm(&words)?,
    }
    Ok(Exit::Done)
}

/// Checks that the command can be started, as far as its file shows that: a node is not drained for a typing error.
fn check_command(command: &[OsString]) -> Result<(), Failure> {
    let Some(program) = command.first() else { return Ok(()) };
    let candidates: Vec<PathBuf> = if program.as_bytes().contains(&b'/') {
        vec![program.into()]
    } else {
        let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
        std::env::split_paths(&path).map(|folder| folder.join(program)).collect()
    };
    let starts = |path: &&PathBuf| path.is_file() && access(path.as_path(), AccessFlags::X_OK).is_ok();
    if candidates.iter().any(|path| starts(&path)) {
        return Ok(());
    }
    let (code, why) = match candidates.iter().find(|path| path.exists()) {
        Some(path) if path.is_dir() => (NOT_STARTED, "it is a directory"),
        Some(_) => (NOT_STARTED, "it is not executable"),
        None => (NOT_FOUND, "there is no such command"),
    };
    let message = format!("{} could not be started: {why}. Nothing was changed", shown(command));
    Err(Failure::new(Exit::Command(code), message))
}

fn shown(command: &[OsString]) -> String {
    quoted(&command.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "))
}

/// A node that is blocked with nobody at work on it is something to say loudly.
fn stays_closed(exit: Exit, why: &str, closed: &Closed, context: &Context<'_>) -> Failure {
    let node = escape(closed.status.node_name.as_str());
    Failure::new(exit, format!("{why}. {node} stays {}", closed.mode)).with_hint(closed.undo_words(context.socket))
}

/// Runs it with our own stdin, stdout and stderr. What signals do meanwhile is its business.
async fn run_command(command: &[OsString], format: Format, signals: &mut Signals) -> io::Result<ExitStatus> {
    let Some((program, arguments)) = command.split_first() else { return Err(ErrorKind::NotFound.into()) };
    let stdout = match format {
        Format::Table | Format::Plain => Stdio::inherit(),
        // Our stdout is for the one object at the end.
        Format::Json | Format::Jsonl => Stdio::from(io::stderr()),
    };
    let mut child = Command::new(program).args(arguments).stdout(stdout).spawn()?;
    loop {
        tokio::select! {
            status = child.wait() => return status,
            exit = signals.next() => pass_on(exit, &child),
        }
    }
}

/// A terminal sends Ctrl-C and the hang-up to the command by itself; whoever asks us alone to stop means the command too.
fn pass_on(exit: Exit, child: &Child) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    if let (Exit::Terminated, Some(pid)) = (exit, pid) {
        // It may have ended just now: then there is nobody to tell.
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap_or_default();
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| SIGNALLED + status.signal().unwrap_or_default());
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// Describes the node's mode after a command that succeeded.
enum Left {
    /// This run opened it.
    Opened(String),
    /// It was open already.
    OpenedByAnother(String),
    /// The closing is another owner's.
    StillClosed(String),
}

/// Opens the node again where this run, or an earlier one of the same user and reason, closed it.
async fn reopen(
    closed: &Closed,
    (reason, began, is_a_stop): (Option<&str>, Instant, bool),
    context: &Context<'_>,
) -> Result<Left, Failure> {
    let node = escape(closed.status.node_name.as_str());
    let mut daemon = connect_again(context.socket).await?;
    let (now, history) = daemon.call_both(&GetStatus {}, &ListModeChanges { limit: Some(HISTORY_MAX) }).await?;
    let now = now.mode;
    if now.mode == Mode::Normal {
        let words = format!("the mode was not restored, because another client changed it: {node} is {}", mode_words(&now));
        return Ok(Left::OpenedByAnother(words));
    }
    let owner = Owner {
        actor: daemon.call(&GetInfo {}).await?.actor.unwrap_or_default(),
        on_behalf_of: on_behalf_of(),
        reason: reason.map(str::to_owned),
    };
    let back = if now.generation == closed.generation && !is_a_stop {
        closing::back(&history.changes, &owner, closed.changed.then_some(closed.generation))
    } else {
        Back::Stays
    };
    let change = match back {
        Back::Open => {
            let reason = reason.unwrap_or("maintenance done").to_owned();
            ChangeMode { reason: Some(reason), ..ChangeMode::to(SettableMode::Normal) }
        }
        Back::ClosedBy(theirs) if theirs.mode != now.mode => {
            ChangeMode { reason: theirs.reason, ..ChangeMode::to(SettableMode::try_from(theirs.mode).unwrap_or(SettableMode::Normal)) }
        }
        // A time that ran then was taken away by the closing.
        Back::ClosedBy(theirs) => return Ok(still_closed(&node, ModeState { expires_at: now.expires_at, ..*theirs }, &history.changes)),
        Back::Stays => return Ok(still_closed(&node, now, &history.changes)),
    };
    let change = ChangeMode { if_generation: Some(closed.generation), on_behalf_of: on_behalf_of(), ..change };
    match daemon.call(&change).await {
        Ok(ModeChanged { mode, .. }) if mode == Mode::Normal => {
            let words = format!("{node}: {} -> {mode} after {} of maintenance", closed.mode, times::span(began.elapsed()));
            Ok(Left::Opened(words))
        }
        Ok(ModeChanged { mode, .. }) => {
            let theirs = ModeState { mode, expires_at: None, ..closed.before.clone() };
            Ok(still_closed(&node, theirs, &history.changes))
        }
        Err(failure) if failure.exit == Exit::Superseded => {
            let (status, history) = daemon.call_both(&GetStatus {}, &ListModeChanges { limit: Some(HISTORY_MAX) }).await?;
            Ok(still_closed(&node, status.mode, &history.changes))
        }
        Err(failure) => Err(failure),
    }
}

/// The closing of another owner is theirs to end.
fn still_closed(node: &str, theirs: ModeState, changes: &[DatedModeChange]) -> Left {
    let theirs = closing::with_operator(theirs, changes);
    Left::StillClosed(format!("{node} is STILL CLOSED, by another user or for another reason: {}", mode_words(&theirs)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_the_one_a_shell_would_give() {
        assert_eq!(exit_code(ExitStatus::from_raw(0)), 0);
        assert_eq!(exit_code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
    }
}
