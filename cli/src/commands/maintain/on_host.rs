//! The command of `maintain -H`: it runs on the node's host under `exec-stdio`, which waits for it also when the connection is lost.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::time::Duration;

use soramode_protocol::id::RollId;
use soramode_protocol::node::{GetInfo, GetStatus};
use soramode_protocol::reservation::{Release, Reserve, RollStep};
use soramode_roll::{RENEW_PAUSE, RESERVED_SECONDS, SEEK_PAUSE, SEEK_TIME_MAX};
use tokio::time::{Instant, sleep, timeout};

use crate::context::Context;
use crate::daemon::Daemon;
use crate::endpoint::Endpoint;
use crate::error::{Exit, Failure};
use crate::node::Node;
use crate::output::{Format, relay, times};
use crate::roll::id::new_roll;
use crate::signals::Signals;
use crate::ssh::command::{Exec, SSH_FAILED, Stream, take_ctrl_c};
use crate::ssh::exec_lines::BEGUN;
use crate::ssh::{self, SshHost};
use crate::wait::interrupted;

/// Limit of the time for a daemon that restarts to answer after the command.
const RECORD_TIME_MAX: Duration = Duration::from_secs(10);

/// Limit of the time for reading the end of the command before the operator is told.
const SILENCE_MAX: Duration = Duration::from_secs(1);

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
    let roll = new_roll();
    let endpoint = context.node.endpoint()?;
    let round = Cell::new(1);
    let reserved = async {
        let mut daemon = endpoint.connect().await?;
        let record = reservation(&roll, round.get(), Some(RollStep::Command));
        daemon.call(&record).await.map(|_| daemon)
    };
    let daemon = tokio::select! {
        biased;
        exit = signals.next() => {
            return Err(Failure::new(exit, "interrupted before the command was started"));
        }
        daemon = reserved => daemon?,
    };
    let line = host.exec_line(Exec::Command(&roll, command));
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
            biased;
            exit = second_signal(signals, is_on_terminal) => {
                return Err(goes_on_there(exit, began.elapsed(), context));
            }
            ended = running => ended?,
            () = renew((&roll, &round), daemon, endpoint, RENEW_PAUSE) => (true, None),
        }
    };
    let (has_begun, code) = ended;
    let running = Running {
        has_begun,
        code,
        is_on_terminal,
    };
    let recorded = tokio::select! {
        biased;
        exit = signals.next() => {
            return Err(if running.is_lost() {
                goes_on_there(exit, began.elapsed(), context)
            } else {
                interrupted(exit, began.elapsed()).and("The command has ended there")
            });
        }
        recorded = look_for_end(&roll, running, context) => recorded,
    };
    let end = running.end(recorded);
    if end != CommandState::Unknown {
        // A reservation that is not released expires by itself.
        let _ = finish((&roll, round.get() + 1), context).await;
    }
    match end {
        CommandState::Ended(code) => Ok(code),
        CommandState::Unknown => {
            let message = "the connection was lost, and the end of the command is unknown";
            Err(Failure::new(Exit::Unreachable, message))
        }
        CommandState::Interrupted => {
            let message = "interrupted: the end of the command is not recorded";
            Err(Failure::new(Exit::Interrupted, message))
        }
        CommandState::NotStarted => {
            let message = "the command was not started there";
            Err(Failure::new(Exit::Failed, message))
        }
    }
}

/// The command as its ssh has left it.
#[derive(Clone, Copy)]
struct Running {
    /// The first line of `exec-stdio` came; on a terminal nothing tells that.
    has_begun: bool,
    /// The exit code of ssh; `None` if a signal ended it.
    code: Option<u8>,
    is_on_terminal: bool,
}

/// Result of the command, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CommandState {
    Ended(u8),
    /// It may still run: no other roll takes the node before the reservation expires.
    Unknown,
    /// It has ended, and so has `exec-stdio`, by Ctrl-C: its end is not recorded.
    Interrupted,
    NotStarted,
}

impl Running {
    const fn is_lost(self) -> bool {
        matches!(self.code, Some(SSH_FAILED) | None)
    }

    /// Returns whether Ctrl-C has ended `exec-stdio`, which could not record the end of the command, or the command itself.
    fn is_interrupted(self) -> bool {
        self.is_on_terminal && self.code == Some(Exit::Interrupted.code())
    }

    /// Returns the state of the command, from the exit code in the node's record if there is one.
    fn end(self, recorded: Option<u8>) -> CommandState {
        match (recorded, self.code) {
            (Some(code), _) => CommandState::Ended(code),
            (None, _) if self.is_lost() => CommandState::Unknown,
            (None, _) if self.is_interrupted() => CommandState::Interrupted,
            // On a terminal nothing tells the command's exit code from that of exec-stdio, and both have ended.
            (None, Some(code)) if self.has_begun && !self.is_on_terminal => {
                CommandState::Ended(code)
            }
            (None, _) => CommandState::NotStarted,
        }
    }
}

/// Runs it without a terminal; returns whether it has begun, and the exit code.
async fn run_in_pipes(
    host: &SshHost,
    line: &OsStr,
    format: Format,
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
            Stream::Stdout | Stream::Stderr => relay(text),
        })
        .await?;
    Ok((has_begun, end.code))
}

/// Waits for the second signal: the first one is left to the command.
async fn second_signal(signals: &mut Signals, is_on_terminal: bool) -> Exit {
    signals.next().await;
    if is_on_terminal {
        // Until now Ctrl-C went to the command.
        take_ctrl_c();
    }
    relay("interrupted: the command is waited for. Ctrl-C again leaves at once");
    signals.next().await
}

/// Describes a signal that ended the wait for the command, but not the command.
fn goes_on_there(exit: Exit, waited: Duration, context: &Context<'_>) -> Failure {
    let look = context.node.command("status");
    interrupted(exit, waited)
        .and("The command goes on there, and its end is recorded")
        .with_hint(format!("See first whether it has ended: {look}"))
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
/// The command may have the terminal: over another connection than the first, ssh asks for nothing.
async fn renew<'a>(
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

/// Reads the exit code of the command from the node's record.
async fn recorded_exit(roll: &RollId, context: &Context<'_>) -> Result<Option<u8>, Failure> {
    let status = context.node.connect().await?.call(&GetStatus {}).await?;
    let record = status.reservation.filter(|record| record.roll == *roll);
    Ok(record.and_then(|record| record.command_exit))
}

/// Reads the exit code of the command from the node's record, and says so if it has to wait for that.
async fn look_for_end(roll: &RollId, running: Running, context: &Context<'_>) -> Option<u8> {
    let first = recorded_exit(roll, context);
    if !running.has_begun {
        return first.await.ok().flatten();
    }
    match timeout(SILENCE_MAX, first).await {
        Ok(Ok(Some(code))) => return Some(code),
        // The command was not recorded before its ssh ended.
        Ok(Ok(None)) if !running.is_lost() => return None,
        _ if running.is_interrupted() => return None,
        Ok(_) | Err(_) => {}
    }
    let place = context.node.host().map(SshHost::shown).unwrap_or_default();
    let (fact, limit) = if running.is_lost() {
        let fact =
            format!("connection lost while the command runs: looking for its end on {place}");
        (fact, SEEK_TIME_MAX)
    } else {
        // The command may have restarted soramoded.
        let fact = format!("soramoded on {place} does not answer: looking for the command's end");
        (fact, RECORD_TIME_MAX)
    };
    relay(&format!(
        "{fact} for {}. Ctrl-C leaves at once",
        times::span(limit)
    ));
    let began = Instant::now();
    while began.elapsed() < limit {
        match recorded_exit(roll, context).await {
            Ok(Some(code)) => return Some(code),
            Ok(None) if !running.is_lost() => return None,
            Ok(None) | Err(_) => sleep(SEEK_PAUSE).await,
        }
    }
    None
}

async fn finish((roll, round): (&RollId, u64), context: &Context<'_>) -> Result<(), Failure> {
    let mut daemon = context.node.connect().await?;
    daemon
        .call(&Reserve::step(roll.clone(), RollStep::Done))
        .await?;
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
    fn the_node_is_released_only_where_nothing_runs_any_more() {
        let end = |has_begun, code, is_on_terminal, recorded| {
            let running = Running {
                has_begun,
                code,
                is_on_terminal,
            };
            running.end(recorded)
        };
        for code in [Some(SSH_FAILED), None] {
            for has_begun in [true, false] {
                assert_eq!(end(has_begun, code, false, None), CommandState::Unknown);
                let recorded = end(has_begun, code, false, Some(3));
                assert_eq!(recorded, CommandState::Ended(3));
            }
            assert_eq!(end(true, code, true, None), CommandState::Unknown);
        }
        // The record cannot be read for a while: the command has restarted soramoded.
        assert_eq!(end(true, Some(0), false, None), CommandState::Ended(0));
        assert_eq!(end(false, Some(5), false, None), CommandState::NotStarted);
        assert_eq!(end(true, Some(5), true, None), CommandState::NotStarted);
        assert_eq!(end(true, Some(130), true, None), CommandState::Interrupted);
        assert_eq!(end(true, Some(130), false, None), CommandState::Ended(130));
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
