//! Reasons to stop a roll, as exit codes and of failures.

use soramode_roll::{HostIndex, Stop, StopKind};

use crate::endpoint::Endpoint;
use crate::error::{Exit, Failure};

/// Returns the exit code for a reason to stop.
pub(super) const fn exit_of_kind(kind: StopKind) -> Exit {
    match kind {
        StopKind::Usage => Exit::Usage,
        StopKind::Unreachable => Exit::Unreachable,
        StopKind::NotPermitted => Exit::NotPermitted,
        StopKind::Refused => Exit::Refused,
        StopKind::Superseded => Exit::Superseded,
        StopKind::TooOld => Exit::Versions,
        StopKind::SessionsIncomplete => Exit::SessionsIncomplete,
        StopKind::Failed => Exit::Failed,
        StopKind::NotStartable(code) => Exit::Command(code),
        StopKind::TimedOut => Exit::TimedOut,
        StopKind::Interrupted => Exit::Interrupted,
    }
}

/// Returns the kind of a reason to stop for a failure.
const fn kind_of(exit: Exit) -> StopKind {
    match exit {
        Exit::Usage => StopKind::Usage,
        Exit::Unreachable => StopKind::Unreachable,
        Exit::NotPermitted => StopKind::NotPermitted,
        Exit::Refused => StopKind::Refused,
        Exit::Superseded => StopKind::Superseded,
        Exit::Versions => StopKind::TooOld,
        Exit::SessionsIncomplete => StopKind::SessionsIncomplete,
        Exit::Command(code) => StopKind::NotStartable(code),
        Exit::TimedOut => StopKind::TimedOut,
        _ => StopKind::Failed,
    }
}

/// Returns the reason to stop that a failure on a host is.
pub(super) fn stop_of(host: HostIndex, failure: &Failure) -> Stop {
    Stop {
        hint: failure.hint.clone(),
        ..Stop::on(host, kind_of(failure.exit), failure.message.clone())
    }
}

/// Returns the failure that a reason to stop is, with another message.
pub(super) fn failure_of(stop: &Stop, message: String) -> Failure {
    Failure::new(exit_of_kind(stop.kind), message)
        .with_hint(stop.hint.as_deref().unwrap_or_default())
}

/// Completes the remedy: that of a host which could not be connected to is its failure's, and commands get the flags that select the host.
pub(super) fn complete_hint(
    stop: &mut Stop,
    endpoint: Option<&Endpoint>,
    failure: Option<&Failure>,
) {
    let hint = stop.hint.take();
    let of_failure = failure.and_then(|it| it.hint.clone());
    let hint = match (of_failure, hint) {
        (Some(first), Some(second)) if stop.kind == StopKind::Unreachable => {
            Some(format!("{second}. {first}"))
        }
        (of_failure, hint) => hint.or(of_failure),
    };
    stop.hint = match (hint, endpoint) {
        (Some(hint), Some(endpoint)) => Some(endpoint.completed(&hint)),
        (hint, _) => hint,
    };
}
