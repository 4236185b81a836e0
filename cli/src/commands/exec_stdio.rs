//! `soramode exec-stdio`: runs the command of a roll on this host, and records its end, or reboots the host; for `soramode roll` on another one.

mod child;
mod terminal;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use soramode_protocol::id::RollId;
use soramode_protocol::node::GetStatus;
use soramode_protocol::or_pending::or_pending;
use soramode_protocol::reservation::{Reserve, RollStep, roll_words};
use soramode_roll::SEEK_TIME_MAX;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};

use child::{REST_MAX, copy, own, without_hangup};

use super::maintain::here::{check_command, not_started};
use crate::command_lock::{self, Lock, socket};
use crate::context::Context;
use crate::error::{Exit, Failure, shell_code};
use crate::output::{begin_line, relay};
use crate::signals::Signals;
use crate::ssh::exec_lines::{BEGUN, ENDED, GONE, READY, REBOOT, RUNS};

/// Limit of the time for recording the end of the command, which may have restarted soramoded.
const RECORD_TIME_MAX: Duration = SEEK_TIME_MAX;

/// Pause between two attempts.
const ATTEMPT_PAUSE: Duration = Duration::from_secs(1);

/// Run the command of a roll, and record its end
///
/// soramode roll runs it on each host, over ssh. It does nothing if the node is not reserved for this roll, and waits for the command also when
/// the connection is lost.
#[derive(Debug, clap::Args)]
#[command(name = "exec-stdio", hide = true)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub(crate) struct Args {
    /// Do nothing: soramode roll sees that commands can be run here, and that this one can be started
    #[arg(long, conflicts_with_all = ["roll", "reboot"])]
    check: bool,
    /// Become the command in a new session, with standard input as its terminal
    #[arg(long, conflicts_with_all = ["check", "roll", "reboot"])]
    new_session: bool,
    /// Roll that the node is reserved for
    #[arg(long, value_name = "ID", required_unless_present_any = ["check", "new_session"])]
    roll: Option<RollId>,
    /// Reboot this machine, and record nothing
    #[arg(long, conflicts_with = "command")]
    reboot: bool,
    /// Run nothing: say whether the command of the roll runs here, and record it if none will record its end
    #[arg(long, conflicts_with_all = ["check", "new_session", "reboot", "command"])]
    look: bool,
    /// Command to run, with its arguments
    #[arg(last = true, value_name = "COMMAND", required_unless_present_any = ["check", "reboot", "look"])]
    command: Vec<OsString>,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    if args.new_session {
        let problem = terminal::become_command(&args.command);
        return Err(not_started(&args.command, &problem));
    }
    let Some(roll) = args.roll.filter(|_| !args.check) else {
        context.output.text(READY)?;
        context.output.flush()?;
        check_command(&args.command)?;
        return Ok(Exit::Done);
    };
    if args.look {
        return look(roll, context).await;
    }
    // From here on no signal ends this process before the command.
    let _signals = Signals::listen()?;
    let work = if args.reboot {
        Work::Reboot
    } else {
        Work::Command
    };
    // Taken before the record is looked at: from then on a look finds it.
    let lock = match work {
        Work::Command => Some(command_lock::take(&roll, socket(context.node)).await),
        Work::Reboot => None,
    };
    check_record(&roll, work, context).await?;
    if let Some(Lock::HeldByAnother) = lock {
        let words = roll_words(&roll);
        let message = format!("the command was not run: that of {words} still runs here");
        return Err(Failure::new(Exit::Refused, message));
    }
    let words = match work {
        Work::Command => args.command,
        Work::Reboot => REBOOT.split(' ').map(OsString::from).collect(),
    };
    let executed = if io::stdin().is_terminal() && io::stdout().is_terminal() {
        terminal::execute(&words).await
    } else {
        execute(&words)
    };
    let code = executed.map_err(|problem| {
        let message = format!("the command cannot be run: {problem}");
        Failure::new(Exit::Failed, message)
    })?;
    if work == Work::Command {
        record_end(roll, code, context).await?;
    }
    Ok(Exit::Command(code))
}

/// Work of a roll on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Command,
    Reboot,
}

/// Says whether the command of a roll runs here. If not, it records under the lock that it has ended, so that one that starts late is refused.
async fn look(roll: RollId, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let lock = command_lock::take(&roll, socket(context.node)).await;
    let line = match lock {
        Lock::Held { .. } => {
            let mut daemon = context.node.connect().await?;
            let record = daemon.call(&GetStatus {}).await?.reservation;
            // A reboot has ended it already.
            let is_at_command = record.is_some_and(|it| {
                it.roll == roll && it.step == Some(RollStep::Command) && !it.rebooted
            });
            if is_at_command {
                let ended = Reserve::step(roll, RollStep::CommandEnded);
                daemon.call(&ended).await?;
            }
            GONE
        }
        Lock::HeldByAnother => RUNS,
        Lock::Unknown => {
            let message = "it cannot be seen whether the command runs here";
            return Err(Failure::new(Exit::Failed, message));
        }
    };
    context.output.text(line)?;
    Ok(Exit::Done)
}

/// Runs a command to its end without a terminal; returns its exit code.
fn execute(words: &[OsString]) -> io::Result<u8> {
    let mut stdout = io::stdout();
    // A lost connection does not keep the command from being run.
    let _ = writeln!(stdout, "{BEGUN}").and_then(|()| stdout.flush());
    let child = without_hangup(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    wait(child).map(shell_code)
}

/// Refuses the work where the record is another roll's or is not at the step of the work, and where the node is open or closed by another
/// roll. A machine that has rebooted since is not rebooted again.
async fn check_record(roll: &RollId, work: Work, context: &Context<'_>) -> Result<(), Failure> {
    let status = context.node.connect().await?.call(&GetStatus {}).await?;
    let not_done = match work {
        Work::Command => "the command was not run",
        Work::Reboot => "the machine was not rebooted",
    };
    let own = status.reservation.filter(|record| record.roll == *roll);
    let is_next = own.is_some_and(|record| match (work, record.step) {
        (Work::Command, Some(RollStep::Command)) => true,
        (Work::Reboot, Some(RollStep::Command | RollStep::CommandEnded)) => !record.rebooted,
        (_, _) => false,
    });
    if !is_next {
        let words = roll_words(roll);
        let message = format!("{not_done}: the node is not at this step of {words}");
        return Err(Failure::new(Exit::Refused, message));
    }
    let mode = &status.mode;
    if mode.mode.is_block() && mode.roll.as_ref().is_none_or(|it| it == roll) {
        return Ok(());
    }
    let message = format!("{not_done}: another user changed the mode meanwhile");
    Err(Failure::new(Exit::Superseded, message))
}

/// Waits for the command, and passes its output on as long as there is a reader.
fn wait(mut child: Child) -> io::Result<ExitStatus> {
    let streams = [
        child.stdout.take().map(|it| (own(it), own(io::stdout()))),
        child.stderr.take().map(|it| (own(it), own(io::stderr()))),
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

/// Records the end of the command. soramoded may be restarting: on a terminal Ctrl-C leaves that alone.
async fn record_end(roll: RollId, code: u8, context: &Context<'_>) -> Result<(), Failure> {
    let record = Reserve {
        command_exit: Some(code),
        ..Reserve::step(roll, RollStep::CommandEnded)
    };
    let began = Instant::now();
    let mut interrupts = signal(SignalKind::interrupt()).ok();
    let mut is_said = false;
    loop {
        let recorded = async { context.node.connect().await?.call(&record).await };
        match recorded.await {
            Err(failure)
                if failure.exit == Exit::Unreachable && began.elapsed() < RECORD_TIME_MAX =>
            {
                if !is_said {
                    is_said = true;
                    begin_line();
                    relay(&format!(
                        "{ENDED}{code}), but soramoded does not answer: looking for it to record that"
                    ));
                }
                tokio::select! {
                    biased;
                    _ = or_pending(interrupts.as_mut().map(Signal::recv)), if io::stdin().is_terminal() => {
                        let message = format!("interrupted: exit code {code} of the command is not recorded");
                        return Err(Failure::new(Exit::Interrupted, message));
                    }
                    () = sleep(ATTEMPT_PAUSE) => {}
                }
            }
            Err(failure) => return Err(failure),
            Ok(_) => return Ok(()),
        }
    }
}
