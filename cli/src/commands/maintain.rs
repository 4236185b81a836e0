//! `soramode maintain -- CMD`

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::drain::{DrainFlags, drain, reached_words};
use crate::Context;
use crate::args::Format;
use crate::error::{Exit, Failure};
use crate::gate::{Closed, PutBack, put_back};
use crate::output::escape::{escape, quoted};
use crate::output::times;
use crate::report::Report;
use crate::signals::Signals;

/// What a shell ends with where it finds no such command.
const NOT_FOUND: u8 = 127;

/// What a shell ends with where a command cannot be started.
const NOT_STARTED: u8 = 126;

/// What a shell adds to the number of the signal that killed a command.
const SIGNALLED: i32 = 128;

/// Drain the node, run a command, and go back to the mode from before
///
/// Where the drain is not reached or the command fails, the node stays closed. The command's exit code is soramode's. The mode from
/// before is set only if nobody else changed it meanwhile.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    flags: DrainFlags,
    /// The command and its arguments; with JSON, its stdout goes to stderr
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let mut report = Report::new();
    report.ran = Some(false);
    let ended = maintain(&args, context, &mut report).await;
    report.finish(&mut context.output, ended)
}

async fn maintain(args: &Args, context: &mut Context<'_>, report: &mut Report) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let (closed, reached) = drain(&args.flags, context, &mut signals, report).await?;
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
    reopen(&closed, began, context, report).await?;
    Ok(Exit::Done)
}

fn shown(command: &[OsString]) -> String {
    quoted(&command.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "))
}

/// A node that is blocked with nobody at work on it is something to say loudly.
fn stays_closed(exit: Exit, why: &str, closed: &Closed, context: &Context<'_>) -> Failure {
    let node = escape(closed.status.node_name.as_str());
    Failure::new(exit, format!("{why}. {node} stays {}. {}", closed.mode, closed.undo_words(context.socket)))
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

async fn reopen(closed: &Closed, began: Instant, context: &mut Context<'_>, report: &mut Report) -> Result<(), Failure> {
    let node = escape(closed.status.node_name.as_str()).into_owned();
    let what = match put_back(context, closed, "maintenance done").await {
        Ok(PutBack::Done(mode)) => {
            report.restored = Some(true);
            format!("{node}: {} -> {mode} after {} of maintenance", closed.mode, times::span(began.elapsed()))
        }
        Ok(PutBack::Same) => {
            report.restored = Some(true);
            format!("{node}: was {} before and stays so", closed.mode)
        }
        Ok(PutBack::ChangedMeanwhile(now)) => {
            report.restored = Some(false);
            context.output.note(&format!("somebody else changed the mode meanwhile, so it was left: {}", escape(&now.actor)));
            format!("{node}: {}", now.mode)
        }
        Err(problem) => {
            report.restored = Some(false);
            let why = format!("the command succeeded, but the mode could not be set back: {problem}");
            let failure = stays_closed(problem.exit, &why, closed, context);
            return Err(Failure { error_type: problem.error_type, ..failure });
        }
    };
    match context.output.format() {
        Format::Json | Format::Jsonl => Ok(()),
        Format::Plain => context.output.record(&["done", &node, if report.restored == Some(true) { "restored" } else { "left" }]),
        Format::Table => context.output.confirm(&what),
    }
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
