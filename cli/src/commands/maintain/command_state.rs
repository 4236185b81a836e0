//! The state of a command on another host after its ssh has ended: what the node's record and the host say of it.

use std::time::Duration;

use soramode_protocol::id::RollId;
use soramode_protocol::node::GetStatus;
use soramode_roll::{COMMAND_GONE, LOOK_FOR_COMMAND, RESERVED_SECONDS, SEEK_PAUSE, SEEK_TIME_MAX};
use tokio::time::{Instant, sleep, timeout};

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::output::{relay, times};
use crate::ssh::SshHost;
use crate::ssh::command::{CommandThere, OUTPUT_LOST, SSH_FAILED};

/// Limit of the time for a daemon that restarts to answer after the command.
const RECORD_TIME_MAX: Duration = Duration::from_secs(10);

/// Limit of the time for reading the end of the command before the operator is told.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// The command as its ssh has left it.
#[derive(Clone, Copy)]
pub(super) struct Running {
    /// The first line of `exec-stdio` came; on a terminal nothing tells that.
    pub(super) has_begun: bool,
    /// The exit code of ssh; `None` if a signal ended it.
    pub(super) code: Option<u8>,
    pub(super) is_on_terminal: bool,
}

/// Result of the command, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommandState {
    Ended(u8),
    /// It may still run: no other roll takes the node before the reservation expires.
    Unknown,
    /// It has ended, and so has `exec-stdio`, by Ctrl-C: its end is not recorded.
    Interrupted,
    /// No `exec-stdio` waits for it any more, and none will start it.
    NotRunning,
    NotStarted,
}

/// Result of a look at the node's record, and on the host, after the ssh of the command has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Its exit code, from the node's record.
    Recorded(u8),
    /// No `exec-stdio` runs it, and its end is not recorded.
    NotRunning,
    Nothing,
}

impl CommandState {
    /// Returns the exit code of the command, or the failure if it is not known.
    pub(super) fn exit_code(self) -> Result<u8, Failure> {
        let failure = |exit, message: &str| Err(Failure::new(exit, message));
        match self {
            Self::Ended(code) => Ok(code),
            Self::Unknown => {
                let message = format!(
                    "the connection was lost, and the end of the command is unknown. No other maintenance takes the node for {RESERVED_SECONDS} s"
                );
                failure(Exit::Unreachable, &message)
            }
            Self::Interrupted => failure(
                Exit::Interrupted,
                "interrupted: the exit code of the command stands above, and is not recorded",
            ),
            Self::NotRunning => {
                let gone = Failure::new(Exit::Failed, COMMAND_GONE);
                Err(gone.with_hint(LOOK_FOR_COMMAND))
            }
            Self::NotStarted => failure(Exit::Failed, "the command was not started there"),
        }
    }
}

impl Running {
    pub(super) const fn is_lost(self) -> bool {
        matches!(self.code, Some(SSH_FAILED) | None)
    }

    /// Returns whether Ctrl-C has ended `exec-stdio`, which could not record the end of the command, or the command itself.
    fn is_interrupted(self) -> bool {
        self.is_on_terminal && self.code == Some(Exit::Interrupted.code())
    }

    /// Returns the state of the command.
    pub(super) fn end(self, found: Found) -> CommandState {
        match (found, self.code) {
            (Found::Recorded(code), _) => CommandState::Ended(code),
            (Found::NotRunning, _) => CommandState::NotRunning,
            (Found::Nothing, _) if self.is_lost() => CommandState::Unknown,
            (Found::Nothing, _) if self.is_interrupted() => CommandState::Interrupted,
            // On a terminal nothing tells the command's exit code from that of exec-stdio, and both have ended.
            (Found::Nothing, Some(code)) if self.has_begun && !self.is_on_terminal => {
                CommandState::Ended(code)
            }
            (Found::Nothing, _) => CommandState::NotStarted,
        }
    }
}

/// Reads the exit code of the command from the node's record.
async fn recorded_exit(roll: &RollId, context: &Context<'_>) -> Result<Option<u8>, Failure> {
    let status = context.node.connect().await?.call(&GetStatus {}).await?;
    let record = status.reservation.filter(|record| record.roll == *roll);
    Ok(record.and_then(|record| record.command_exit))
}

/// Looks once: in the node's record, and on the host if the connection was lost.
async fn look_once(
    roll: &RollId,
    running: Running,
    context: &Context<'_>,
) -> Result<Found, Failure> {
    if let Some(code) = recorded_exit(roll, context).await? {
        return Ok(Found::Recorded(code));
    }
    let there = match context.node.host() {
        Some(host) if running.is_lost() => host.look(roll).await,
        Some(_) | None => None,
    };
    if there != Some(CommandThere::NotRunning) {
        return Ok(Found::Nothing);
    }
    // It may have been recorded just before.
    let recorded = recorded_exit(roll, context).await?;
    Ok(recorded.map_or(Found::NotRunning, Found::Recorded))
}

/// Looks for the end of the command, and says so if that takes long.
pub(super) async fn look_for_end(roll: &RollId, running: Running, context: &Context<'_>) -> Found {
    let first = look_once(roll, running, context);
    if !running.has_begun {
        return first.await.unwrap_or(Found::Nothing);
    }
    match timeout(SILENCE_MAX, first).await {
        Ok(Ok(Found::Nothing)) if !running.is_lost() => return Found::Nothing,
        Ok(Ok(found)) if found != Found::Nothing => return found,
        _ if running.is_interrupted() => return Found::Nothing,
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
    if running.is_lost() {
        relay(OUTPUT_LOST);
    }
    let began = Instant::now();
    while began.elapsed() < limit {
        match look_once(roll, running, context).await {
            Ok(Found::Nothing) if !running.is_lost() => return Found::Nothing,
            Ok(Found::Nothing) | Err(_) => sleep(SEEK_PAUSE).await,
            Ok(found) => return found,
        }
    }
    Found::Nothing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_is_released_only_where_nothing_runs_any_more() {
        let end = |has_begun, code, is_on_terminal, found| {
            let running = Running {
                has_begun,
                code,
                is_on_terminal,
            };
            running.end(found)
        };
        for code in [Some(SSH_FAILED), None] {
            for has_begun in [true, false] {
                let unknown = end(has_begun, code, false, Found::Nothing);
                assert_eq!(unknown, CommandState::Unknown);
                let recorded = end(has_begun, code, false, Found::Recorded(3));
                assert_eq!(recorded, CommandState::Ended(3));
                let gone = end(has_begun, code, false, Found::NotRunning);
                assert_eq!(gone, CommandState::NotRunning);
            }
            assert_eq!(end(true, code, true, Found::Nothing), CommandState::Unknown);
        }
        // The record cannot be read for a while: the command has restarted soramoded.
        let end = |has_begun, code, is_on_terminal| {
            end(has_begun, Some(code), is_on_terminal, Found::Nothing)
        };
        assert_eq!(end(true, 0, false), CommandState::Ended(0));
        assert_eq!(end(false, 5, false), CommandState::NotStarted);
        assert_eq!(end(true, 5, true), CommandState::NotStarted);
        assert_eq!(end(true, 130, true), CommandState::Interrupted);
        assert_eq!(end(true, 130, false), CommandState::Ended(130));
    }
}
