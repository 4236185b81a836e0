//! The signals that end the watching of a wait.

use std::future::Future;

use soramode_protocol::or_pending::or_pending;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Exit, Failure};

/// SIGHUP, SIGINT and SIGTERM, except those that the parent process ignored (`nohup`, `&` in a
/// script).
pub(crate) struct Signals {
    hangup: Option<Signal>,
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
}

impl Signals {
    /// Catches the signals, which then no longer end the process.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let ignored =
            std::fs::read_to_string("/proc/self/status").map_or(0, |status| ignored_mask(&status));
        let listen = |kind: SignalKind| {
            let is_ignored = ignored >> (kind.as_raw_value() - 1) & 1 == 1;
            if is_ignored {
                Ok(None)
            } else {
                signal(kind).map(Some)
            }
        };
        let listen_all = || {
            Ok(Self {
                hangup: listen(SignalKind::hangup())?,
                interrupt: listen(SignalKind::interrupt())?,
                terminate: listen(SignalKind::terminate())?,
            })
        };
        listen_all().map_err(|problem: std::io::Error| {
            Failure::new(
                Exit::Failed,
                format!("cannot listen for signals: {problem}"),
            )
        })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> Exit {
        tokio::select! {
            _ = or_pending(self.hangup.as_mut().map(Signal::recv)) => Exit::HungUp,
            _ = or_pending(self.interrupt.as_mut().map(Signal::recv)) => Exit::Interrupted,
            _ = or_pending(self.terminate.as_mut().map(Signal::recv)) => Exit::Terminated,
        }
    }
}

/// Does what precedes the change of a node, unless a signal comes first. Without `signals` they end the process by themselves.
pub(crate) async fn unless_interrupted<T>(
    signals: Option<&mut Signals>,
    before: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        exit = or_pending(signals.map(Signals::next)) => Err(interrupted_before_change(exit)),
        done = before => done,
    }
}

/// Describes a signal that came before anything was sent.
fn interrupted_before_change(exit: Exit) -> Failure {
    let signal = match exit {
        Exit::HungUp => "hung up",
        Exit::Terminated => "terminated",
        _ => "interrupted",
    };
    Failure::new(exit, format!("{signal}. Nothing was changed"))
}

/// Returns the signals that this process ignores from its start, one bit each, from the kernel's
/// status file.
fn ignored_mask(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        assert_eq!(
            ignored_mask("Name:\tsoramode\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"),
            0x1001
        );
        assert_eq!(ignored_mask("Name:\tsoramode\n"), 0);
    }
}
