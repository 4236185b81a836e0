//! The result of a wait that reached its condition, as `drain`, `wait` and `maintain` print it.

use crate::describe::describe_drained;
use crate::error::Failure;
use crate::last_status::LISTS_NOTE;
use crate::output::Output;
use crate::wait::Reached;

/// Prints a note where the node was found empty in the lists of a Sora without soramoded.
pub(super) fn note_lists(reached: &Reached, output: &Output) {
    let status = &reached.status;
    if status.of_daemon().is_none() && status.counts().is_some() {
        output.note(&format!("{}: {LISTS_NOTE}", status.name()));
    }
}

/// Prints `reached`, the node, its mode and how many sessions and connections are left.
pub(super) fn print_record(reached: &Reached, output: &mut Output) -> Result<(), Failure> {
    let status = &reached.status;
    let (sessions, connections) = status.counts().unwrap_or_default();
    output.record(&[
        "reached",
        status.node_name(),
        status.mode().name(),
        &sessions.to_string(),
        &connections.to_string(),
    ])
}

/// `node-01 is empty after 12 min (30 sessions ended)`
pub(super) fn describe_reached(reached: &Reached) -> String {
    let status = &reached.status;
    let (left, _) = status.counts().unwrap_or_default();
    describe_drained(&status.name(), left, reached.waited, reached.sessions_ended)
}
