//! Answers whose records could not be written: what is taken back, and what is true all the same.

use std::collections::BTreeSet;

use soramode_core::effect::{Act, Record};
use soramode_protocol::decision::{Decision, Disconnected};
use soramode_protocol::error::Error;
use soramode_protocol::event::EventKind;
use soramode_protocol::id::ConnectionId;
use soramode_protocol::mode::ModeChanged;
use soramode_protocol::reply::Reply;

use crate::store::WriteError;

/// Makes errors of the promises that rest on these records, and gives the connections that are not let in after all. What was reported is
/// so, written or not; and who has left has left, but whoever said so is told that it may be forgotten.
pub(crate) fn refuse(acts: &mut [Act], records: &[Record], error: &WriteError) -> Vec<ConnectionId> {
    let came: BTreeSet<&ConnectionId> = records.iter().filter_map(let_in).collect();
    let mut refused = Vec::new();
    for act in acts {
        let Act::Answer(_, answer) = act else { continue };
        match answer {
            Ok(Reply::Decision(Decision::Offer { connection_id, .. })) if came.contains(connection_id) => {
                refused.push(connection_id.clone());
                *answer = Err(Error::storage_unavailable(error));
            }
            Ok(Reply::ModeChanged(ModeChanged { changed: true, .. })) => *answer = Err(Error::storage_unavailable(error)),
            Ok(Reply::Disconnected(gone @ Disconnected { found: true, .. })) => gone.durable = false,
            Ok(_) | Err(_) => {}
        }
    }
    refused
}

/// Whom it let in.
fn let_in(record: &Record) -> Option<&ConnectionId> {
    if let Record::Pending { connection_id, .. } = record {
        return Some(connection_id);
    }
    match &record.event()?.kind {
        EventKind::ConnectionCreated { connection_id, .. } => Some(connection_id),
        EventKind::SessionCreated { .. }
        | EventKind::SessionDestroyed { .. }
        | EventKind::SessionVanished
        | EventKind::ConnectionDestroyed { .. }
        | EventKind::ModeChanged(_)
        | EventKind::NodeJoined { .. }
        | EventKind::NodeIsolated { .. }
        | EventKind::NodeFenced { .. }
        | EventKind::WebhookReceived { .. }
        | EventKind::DeliverySucceeded(_)
        | EventKind::DeliveryFailed(_)
        | EventKind::Unknown => None,
    }
}
