//! The command of `maintain -H`: it runs on the node's host under `exec-stdio`, which waits for it also when the connection is lost.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::time::Duration;

use soramode_protocol::id::RollId;
use soramode_protocol::node::{GetInfo, GetStatus};
use soramode_protocol::reservation::{Release, Reserve, RollStep};
use soramode_roll::{RENEW_PAUSE, RESERVED_SECONDS, SEEK_PAUSE, SEEK_TIME_MAX};
use tokio::time::{Instant, sleep};

use crate::commands::exec_stdio::BEGUN;
use crate::commands::roll::new_roll;
use crate::context::Context;
use crate::daemon::Daemon;
use crate::error::{Exit, Failure};
use crate::output::{Format, relay};
use crate::signals::Signals;
use crate::ssh::command::{SSH_FAILED, Stream};
use crate::ssh::{self, SshHost};
use crate::wait::interrupted;

/// Limit of the time for a daemon that restarts to answer after the command.
const RECORD_TIME_MAX: Duration = Duration::from_secs(10);

/// Refuses a daemon that cannot keep the record of the command.
pub(super) async fn check_supported(context: &Context<'_>) -> Result<(), Failure> {
    let info = context.node.connect().await?.call(&GetInfo {}).await?;
    if info.methods.iter().any(|method| method == "Reserve") {
        return Ok(());
    }
    let message = format!(
        "soramoded {} cannot record the end of a command on another host. Nothing was changed",
        info.version
    );
    Err(Failure::new(Exit::Versions, message).with_hint("Install the same version of both"))
}

/// Runs the command on the host; returns its exit code.
pub(super) async fn run(
    host: &SshHost,
    command: &[OsString],
    context: &mut Context<'_>,
    signals: &mut Signals,
) -> Result<u8, Failure> {
    let roll = new_roll();
    let mut daemon = tokio::select! {
        biased;
        exit = signals.next() => {
            return Err(Failure::new(exit, "interrupted before the command was started"));
        }
        daemon = context.node.connect() => daemon?,
    };
    daemon
        .call(&reservation(&roll, 1, Some(RollStep::Command)))
        .await?;
    let line = host.exec_command(roll.as_str(), command);
    let began = Instant::now();
    let is_on_terminal = context.output.format() == Format::Table
        && io::stdin().is_terminal()
        && context.output.is_on_terminal();
    let format = context.output.format();
    let ended = {
        let running = async {
            if is_on_terminal {
                host.run_on_terminal(&line).await.map(|code| (true, code))
            } else {
                run_in_pipes(host, &line, format).await
            }
        };
        tokio::select! {
            ended = running => ended?,
            () = renew(&roll, daemon, context) => (true, None),
            exit = second_signal(signals) => {
                return Err(interrupted(exit, began.elapsed()).and("The command goes on there"));
            }
        }
    };
    let (has_begun, code) = ended;
    let is_lost = matches!(code, Some(SSH_FAILED) | None);
    let recorded = match recorded_exit(&roll, context).await {
        Some(recorded) => Some(recorded),
        None if has_begun && is_lost => {
            relay("connection lost while the command runs: looking for its end for 10 min");
            seek(&roll, SEEK_TIME_MAX, context).await
        }
        // The command may have restarted soramoded.
        None if has_begun => seek(&roll, RECORD_TIME_MAX, context).await,
        None => None,
    };
    // On a terminal nothing tells the command's exit code from that of exec-stdio.
    let end = recorded.or_else(|| code.filter(|_| has_begun && !is_lost && !is_on_terminal));
    // Without an end, the command may still run: no other one takes the node before the reservation expires.
    if end.is_some() || !has_begun && !is_lost {
        // A reservation that is not released expires by itself.
        let _ = finish(&roll, context).await;
    }
    end.ok_or_else(|| {
        if is_lost {
            let message = "the connection was lost, and the end of the command is unknown";
            Failure::new(Exit::Unreachable, message)
        } else {
            Failure::new(Exit::Failed, "the command was not started there")
        }
    })
}

/// Runs it without a terminal; returns whether it has begun, and the exit code.
async fn run_in_pipes(
    host: &SshHost,
    line: &OsStr,
    format: Format,
) -> Result<(bool, Option<u8>), Failure> {
    let mut has_begun = false;
    let end = host
        .run_command(line, |stream, text| match stream {
            Stream::Stdout if !has_begun && text == BEGUN => has_begun = true,
            Stream::Stdout if matches!(format, Format::Table | Format::Plain) => {
                use io::Write;
                // A reader that is gone does not end the command.
                let _ = writeln!(io::stdout(), "{text}");
            }
            Stream::Stdout | Stream::Stderr => relay(text),
        })
        .await?;
    Ok((has_begun, end.code))
}

/// Waits for the second signal: the first one is left to the command.
async fn second_signal(signals: &mut Signals) -> Exit {
    signals.next().await;
    relay("interrupted: the command is waited for. Ctrl-C again leaves at once");
    signals.next().await
}

fn reservation(roll: &RollId, round: u64, step: Option<RollStep>) -> Reserve {
    Reserve {
        roll: roll.clone(),
        by: Some(ssh::local_operator().unwrap_or_else(|| "unknown".to_owned())),
        seconds: Some(RESERVED_SECONDS),
        round: Some(round),
        step,
        command_exit: None,
    }
}

/// Renews the reservation as long as the command runs, so that no roll takes the node.
/// Keeps the connection, since ssh may ask for a password for another one.
async fn renew<'a>(roll: &RollId, daemon: Daemon<'a>, context: &'a Context<'_>) {
    let mut round = 1;
    let mut kept = Some(daemon);
    loop {
        sleep(RENEW_PAUSE).await;
        round += 1;
        let mut daemon = match kept.take() {
            Some(daemon) => daemon,
            None => match context.node.connect().await {
                Ok(daemon) => daemon,
                // A node that does not answer is tried again.
                Err(_) => continue,
            },
        };
        let renewed = daemon.call(&reservation(roll, round, None)).await;
        let is_lost = renewed.is_err_and(|failure| failure.exit == Exit::Unreachable);
        kept = (!is_lost).then_some(daemon);
    }
}

/// Reads the exit code of the command from the node's record.
async fn recorded_exit(roll: &RollId, context: &Context<'_>) -> Option<u8> {
    let read = async { context.node.connect().await?.call(&GetStatus {}).await };
    let record = read.await.ok()?.reservation?;
    record.command_exit.filter(|_| record.roll == *roll)
}

async fn seek(roll: &RollId, limit: Duration, context: &Context<'_>) -> Option<u8> {
    let began = Instant::now();
    while began.elapsed() < limit {
        if let Some(code) = recorded_exit(roll, context).await {
            return Some(code);
        }
        sleep(SEEK_PAUSE).await;
    }
    None
}

async fn finish(roll: &RollId, context: &Context<'_>) -> Result<(), Failure> {
    let mut daemon = context.node.connect().await?;
    daemon
        .call(&Reserve::step(roll.clone(), RollStep::Done))
        .await?;
    let release = Release {
        roll: roll.clone(),
        round: None,
    };
    daemon.call(&release).await.map(drop)
}
