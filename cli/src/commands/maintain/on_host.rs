//! The command of `maintain -H`: it runs on the node's host under `exec-stdio`, which waits for it also when the connection is lost.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::time::Duration;

use soramode_protocol::id::RollId;
use soramode_protocol::node::GetInfo;
use soramode_protocol::reservation::{Release, Reserve, RollStep};
use soramode_roll::{RENEW_PAUSE, RESERVED_SECONDS, SEEK_PAUSE};
use tokio::time::{Instant, sleep, timeout};

use super::command_state::{CommandState, Running, look_for_end};
use crate::context::Context;
use crate::daemon::Daemon;
use crate::endpoint::Endpoint;
use crate::error::{Exit, Failure};
use crate::node::Node;
use crate::output::{Format, begin_line, relay};
use crate::roll::id::new_maintenance;
use crate::signals::Signals;
use crate::ssh::command::{Exec, Stream, take_ctrl_c};
use crate::ssh::exec_lines::{BEGUN, ENDED};
use crate::ssh::{self, SshHost};
use crate::wait::interrupted;

/// Refuses a daemon that cannot keep the record of the command, and a host on which this command cannot be run.
pub(super) async fn check_supported(
    host: &SshHost,
    command: &[OsString],
    node: Node<'_>,
) -> Result<(), Failure> {
    let info = node.connect().await?.call(&GetInfo {}).await?;
    if !info.methods.iter().any(|method| method == "Reserve") {
        let message = format!(
            "soramoded {} cannot record the end of a command on another host. Nothing was changed",
            info.version
        );
        let failure = Failure::new(Exit::Versions, message);
        return Err(failure.with_hint("Install the same version of both"));
    }
    host.check_exec(command).await.map_err(|failure| Failure {
        message: format!("{}: {}. Nothing was changed", host.shown(), failure.message),
        ..failure
    })
}

/// Runs the command on the host; returns its exit code.
pub(super) async fn run(
    host: &SshHost,
    command: &[OsString],
    context: &mut Context<'_>,
    signals: &mut Signals,
) -> Result<u8, Failure> {
    let roll = new_maintenance();
    let round = Cell::new(1);
    let (daemon, endpoint) = reserve(&roll, context, signals).await?;
    let line = host.exec_line(Exec::Command(&roll, command));
    let began = Instant::now();
    let format = context.output.format();
    let is_on_terminal =
        format == Format::Table && io::stdin().is_terminal() && context.output.is_on_terminal();
    let unrecorded = Cell::new(None);
    let (has_begun, code) = {
        let running = async {
            if is_on_terminal {
                host.run_on_terminal(&line).await.map(|code| (true, code))
            } else {
                run_in_pipes(host, &line, format, &unrecorded).await
            }
        };
        tokio::select! {
            biased;
            exit = second_signal(signals, is_on_terminal) => {
                let waited = began.elapsed();
                return Err(goes_on_there(exit, waited, unrecorded.get(), context));
            }
            ended = running => ended?,
            () = renew((&roll, &round), daemon, endpoint, RENEW_PAUSE) => (true, None),
        }
    };
    if is_on_terminal {
        begin_line();
    }
    let running = Running {
        has_begun,
        code,
        is_on_terminal,
    };
    let found = tokio::select! {
        biased;
        exit = signals.next() => {
            return Err(if running.is_lost() {
                goes_on_there(exit, began.elapsed(), unrecorded.get(), context)
            } else {
                interrupted(exit, began.elapsed()).and("The command has ended there")
            });
        }
        found = look_for_end(&roll, running, context) => found,
    };
    let end = running.end(found);
    if end != CommandState::Unknown {
        // A reservation that is not released expires by itself.
        let _ = finish((&roll, round.get() + 1), end, context).await;
    }
    end.exit_code()
}

/// Runs it without a terminal; returns whether it has begun, and the exit code. One that is not recorded yet is put into `unrecorded`.
async fn run_in_pipes(
    host: &SshHost,
    line: &OsStr,
    format: Format,
    unrecorded: &Cell<Option<u8>>,
) -> Result<(bool, Option<u8>), Failure> {
    let mut has_begun = false;
    let end = host
        .run_command(line, async |stream, text: &str| match stream {
            Stream::Stdout if !has_begun && text == BEGUN => has_begun = true,
            Stream::Stdout if matches!(format, Format::Table | Format::Plain) => {
                use io::Write;
                // A reader that is gone does not end the command.
                let _ = writeln!(io::stdout(), "{text}");
            }
            Stream::Stdout => relay(text),
            Stream::Stderr => {
                unrecorded.set(unrecorded_exit(text).or(unrecorded.get()));
                relay(text);
            }
        })
        .await?;
    Ok((has_begun, end.code))
}

/// Reads the exit code from the sentence of an `exec-stdio` that cannot record it yet.
fn unrecorded_exit(line: &str) -> Option<u8> {
    let (code, _) = line.strip_prefix(ENDED)?.split_once(')')?;
    code.parse().ok()
}

/// Waits for the second signal: the first one is left to the command.
async fn second_signal(signals: &mut Signals, is_on_terminal: bool) -> Exit {
    signals.next().await;
    if is_on_terminal {
        // Until now Ctrl-C went to the command.
        take_ctrl_c();
        begin_line();
    }
    relay("interrupted: the command is waited for. Ctrl-C again leaves at once");
    signals.next().await
}

/// Describes a signal that ended the wait for the command, but not the command, or not the record of its end.
fn goes_on_there(
    exit: Exit,
    waited: Duration,
    unrecorded: Option<u8>,
    context: &Context<'_>,
) -> Failure {
    let fact = match unrecorded {
        None => "The command goes on there, and its end is recorded".to_owned(),
        Some(code) => format!(
            "The command has ended there (exit code {code}), and that is recorded once soramoded answers"
        ),
    };
    let look = context.node.command("status");
    interrupted(exit, waited)
        .and(fact)
        .with_hint(format!("See first whether it has ended: {look}"))
}

/// Returns the person that runs the maintenance, for others to read.
fn operator() -> String {
    ssh::local_operator().unwrap_or_else(|| "unknown".to_owned())
}

fn reservation(roll: &RollId, round: u64, step: Option<RollStep>) -> Reserve {
    Reserve {
        roll: roll.clone(),
        by: Some(operator()),
        seconds: Some(RESERVED_SECONDS),
        round: Some(round),
        step,
        command_exit: None,
    }
}

/// Reserves the node for the command, unless a signal comes first.
pub(super) async fn reserve<'a>(
    roll: &RollId,
    context: &Context<'a>,
    signals: &mut Signals,
) -> Result<(Daemon<'a>, &'a Endpoint), Failure> {
    let endpoint = context.node.endpoint()?;
    let reserved = async {
        let mut daemon = endpoint.connect().await?;
        let record = reservation(roll, 1, Some(RollStep::Command));
        daemon.call(&record).await.map(|_| (daemon, endpoint))
    };
    tokio::select! {
        biased;
        exit = signals.next() => {
            Err(Failure::new(exit, "interrupted before the command was started"))
        }
        reserved = reserved => reserved,
    }
}

/// Renews the reservation as long as the command runs, so that no roll takes the node.
/// The command may have the terminal: over another connection than the first, ssh asks for nothing.
pub(super) async fn renew<'a>(
    (roll, round): (&RollId, &Cell<u64>),
    daemon: Daemon<'a>,
    endpoint: &'a Endpoint,
    pause: Duration,
) {
    let mut kept = Some(daemon);
    loop {
        let mut daemon = if let Some(mut daemon) = kept.take() {
            // Only the end of the connection can come.
            if timeout(pause, daemon.receive()).await.is_ok() {
                continue;
            }
            daemon
        } else {
            sleep(pause.min(SEEK_PAUSE)).await;
            match endpoint.connect_without_prompts().await {
                Ok(daemon) => daemon,
                // A node that does not answer is tried again.
                Err(_) => continue,
            }
        };
        round.set(round.get() + 1);
        let renewed = daemon.call(&reservation(roll, round.get(), None)).await;
        let is_lost = renewed.is_err_and(|failure| failure.exit == Exit::Unreachable);
        kept = (!is_lost).then_some(daemon);
    }
}

/// Records the end of the command, and ends the reservation. A command that failed stays on record, and one that may still run.
pub(super) async fn finish(
    (roll, round): (&RollId, u64),
    end: CommandState,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let step = match end {
        CommandState::Ended(code @ 1..) => Some(Reserve {
            command_exit: Some(code),
            ..Reserve::step(roll.clone(), RollStep::CommandEnded)
        }),
        CommandState::NotRunning | CommandState::Unknown => None,
        CommandState::Ended(0) | CommandState::Interrupted | CommandState::NotStarted => {
            Some(Reserve::step(roll.clone(), RollStep::Done))
        }
    };
    let mut daemon = context.node.connect_again().await?;
    if let Some(step) = step {
        daemon.call(&step).await?;
    }
    let release = Release {
        roll: roll.clone(),
        // A renewal that is still on its way comes too late.
        round: Some(round),
    };
    daemon.call(&release).await.map(drop)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::UnixListener;
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

    use super::*;

    #[test]
    fn the_exit_code_that_is_not_recorded_is_read_from_the_sentence() {
        let line = format!("{ENDED}3), but soramoded does not answer");
        assert_eq!(unrecorded_exit(&line), Some(3));
        assert_eq!(unrecorded_exit("the command has ended"), None);
    }

    /// Answers renewals, and says over which connection each came. The first connection is lost after three.
    async fn answer_renewals(listener: UnixListener, seen: UnboundedSender<usize>) {
        for connection in 1.. {
            let (stream, _) = listener.accept().await.unwrap();
            let (from, mut to) = stream.into_split();
            let mut lines = BufReader::new(from).lines();
            for number in 1.. {
                let Ok(Some(line)) = lines.next_line().await else {
                    break;
                };
                let request: serde_json::Value = serde_json::from_str(&line).unwrap();
                assert_eq!(request["method"], "Reserve");
                seen.send(connection).unwrap();
                if connection == 1 && number == 3 {
                    break;
                }
                let result = serde_json::json!({"expires_in_seconds": 60});
                let answer =
                    serde_json::json!({"jsonrpc": "2.0", "id": request["id"], "result": result});
                to.write_all(format!("{answer}\n").as_bytes())
                    .await
                    .unwrap();
            }
        }
    }

    #[tokio::test]
    async fn renewals_keep_their_connection_until_it_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("soramode.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (seen, mut renewals) = unbounded_channel();
        let endpoint = Endpoint::local(Some(path));
        let roll = "R1".parse().unwrap();
        let renewing = async {
            let daemon = endpoint.connect().await.unwrap();
            let round = Cell::new(1);
            renew((&roll, &round), daemon, &endpoint, Duration::from_millis(1)).await;
        };
        let six = async {
            let mut connections = Vec::new();
            while connections.len() < 6 {
                connections.extend(renewals.recv().await);
            }
            connections
        };
        tokio::select! {
            () = renewing => panic!("renewals do not end"),
            () = answer_renewals(listener, seen) => panic!("neither do their answers"),
            connections = six => assert_eq!(connections, [1, 1, 1, 2, 2, 2]),
        }
    }
}
