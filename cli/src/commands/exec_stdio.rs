//! `soramode exec-stdio`: runs the command of a roll on this host, and records its end, for `soramode roll` on another one.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use soramode_protocol::id::RollId;
use soramode_protocol::node::GetStatus;
use soramode_protocol::reservation::{Reserve, RollStep};
use tokio::time::sleep;

use super::maintain::exit_code;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::signals::Signals;

/// First line on stdout: from here on, the output is the command's.
pub(crate) const BEGUN: &str = "soramode-exec begun";

/// Number of attempts to record the end of the command, which may have restarted soramoded.
const ATTEMPTS_MAX: u32 = 600;

/// Pause between two attempts.
const ATTEMPT_PAUSE: Duration = Duration::from_secs(1);

/// Runs a command that ignores the loss of the connection (SIGHUP).
const WITHOUT_HANGUP: &str = "trap '' HUP; exec \"$@\"";

/// Bytes to copy per system call.
const COPY_BYTES: usize = 16 * 1024;

/// Limit of the time for the rest of the output of a command that has ended: a process that it left behind may hold the pipe open.
const REST_MAX: Duration = Duration::from_secs(2);

/// Run the command of a roll, and record its end
///
/// soramode roll runs it on each host, over ssh. It does nothing if the node is not reserved for this roll, and waits for the command also when
/// the connection is lost.
#[derive(Debug, clap::Args)]
#[command(name = "exec-stdio", hide = true)]
pub(crate) struct Args {
    /// Roll that the node is reserved for
    #[arg(long, value_name = "ID")]
    roll: RollId,
    /// Command to run, with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    // From here on no signal ends this process before the command.
    let _signals = Signals::listen()?;
    check_record(&args.roll, context).await?;
    let cannot_run = |problem: io::Error| {
        Failure::new(
            Exit::Failed,
            format!("the command cannot be run: {problem}"),
        )
    };
    let code = if io::stdout().is_terminal() {
        let status = command(&args.command).status().map_err(cannot_run)?;
        exit_code(status)
    } else {
        let mut stdout = io::stdout();
        // A lost connection does not keep the command from being run.
        let _ = writeln!(stdout, "{BEGUN}").and_then(|()| stdout.flush());
        let child = command(&args.command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(cannot_run)?;
        exit_code(wait(child).map_err(cannot_run)?)
    };
    record_end(args.roll, code, context).await?;
    Ok(Exit::Command(code))
}

/// Refuses to run the command where the record is another roll's or does not say that the command is next, and where the node is open
/// or closed by another roll.
async fn check_record(roll: &RollId, context: &Context<'_>) -> Result<(), Failure> {
    let status = context.node.connect().await?.call(&GetStatus {}).await?;
    let record = status.reservation.as_deref();
    let is_next = record.is_some_and(|it| it.roll == *roll && it.step == Some(RollStep::Command));
    if !is_next {
        let message =
            format!("the command was not run: the node is not at this step of roll {roll}");
        return Err(Failure::new(Exit::Refused, message));
    }
    let mode = &status.mode;
    if mode.mode.is_block() && mode.roll.as_ref().is_none_or(|it| it == roll) {
        return Ok(());
    }
    let message = "the command was not run: another user changed the mode meanwhile";
    Err(Failure::new(Exit::Superseded, message))
}

fn command(words: &[OsString]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", WITHOUT_HANGUP, "sh"]).args(words);
    command
}

/// Waits for the command, and passes its output on as long as there is a reader.
fn wait(mut child: Child) -> io::Result<ExitStatus> {
    let streams = [
        child.stdout.take().map(|it| (pipe(it), own(io::stdout()))),
        child.stderr.take().map(|it| (pipe(it), own(io::stderr()))),
    ];
    let (end, ends) = mpsc::channel();
    let streams = streams.into_iter().flatten();
    for (from, to) in streams.filter_map(|(from, to)| Some((from.ok()?, to.ok()?))) {
        let end = end.clone();
        thread::spawn(move || {
            copy(from, to);
            // The receiver may be gone by then.
            let _ = end.send(());
        });
    }
    drop(end);
    let status = child.wait()?;
    while ends.recv_timeout(REST_MAX).is_ok() {}
    Ok(status)
}

fn pipe(stream: impl AsFd) -> io::Result<File> {
    own(stream)
}

fn own(stream: impl AsFd) -> io::Result<File> {
    stream.as_fd().try_clone_to_owned().map(File::from)
}

/// Copies to the end; without a reader the rest is dropped, so that the command never waits for one.
fn copy(mut from: File, mut to: File) {
    let mut buffer = vec![0; COPY_BYTES];
    let mut has_reader = true;
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        let bytes = buffer.get(..bytes).unwrap_or_default();
        has_reader = has_reader && to.write_all(bytes).is_ok();
    }
}

/// Records the end of the command. soramoded may be restarting.
async fn record_end(roll: RollId, code: u8, context: &Context<'_>) -> Result<(), Failure> {
    let record = Reserve {
        command_exit: Some(code),
        ..Reserve::step(roll, RollStep::CommandEnded)
    };
    let mut attempts = 1;
    loop {
        let recorded = async { context.node.connect().await?.call(&record).await };
        match recorded.await {
            Err(failure) if failure.exit == Exit::Unreachable && attempts < ATTEMPTS_MAX => {
                attempts += 1;
                sleep(ATTEMPT_PAUSE).await;
            }
            Err(failure) => return Err(failure),
            Ok(_) => return Ok(()),
        }
    }
}
