//! Reverts answers that rest on records which could not be written. Answers that are true without them stay.

use std::collections::BTreeSet;

use soramode_protocol::decision::{Decision, Disconnected};
use soramode_protocol::error::Error;
use soramode_protocol::event::EventKind;
use soramode_protocol::id::{ChannelId, ConnectionId, PlanId};
use soramode_protocol::reply::Reply;

use crate::effect::{Action, Record};
use crate::plan::calls::CallId;

/// Last step of the remedy: the node was closed because its state could not be written.
pub const OPEN_IT: &str = "Then run: soramode set normal";

/// Changes that were refused, because their records could not be written, and must be taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// Connections with a refused offer.
    pub connections: Vec<ConnectionId>,
    /// Changes of the mode, by their generations.
    pub generations: Vec<u64>,
    /// Plans that were refused.
    pub plans: Vec<PlanId>,
    /// Calls to the SFU that are not made.
    pub calls: Vec<CallId>,
    /// Rooms of the locks that are not requested.
    pub locks: Vec<ChannelId>,
}

/// Turns answers that rest on these records into `refusal`. Reports stay true, written or not; and connections that left have left, but
/// the answer says that this may be forgotten.
pub fn retract(actions: &mut Vec<Action>, records: &[Record], refusal: &Error) -> Refused {
    let admitted: BTreeSet<&ConnectionId> =
        records.iter().filter_map(admitted_connection).collect();
    let mut refused = Refused {
        generations: records.iter().filter_map(operators_change).collect(),
        ..Refused::default()
    };
    // No call to the SFU is made, and no room is locked, that a restart would not know of.
    actions.retain(|action| {
        if let Action::Sfu(call) = action {
            refused.calls.push(call.id);
        }
        if let Action::Lock(call) = action {
            refused.locks.push(call.channel_id.clone());
        }
        !matches!(action, Action::Sfu(_) | Action::Lock(_))
    });
    for action in actions {
        let Action::Answer(_, answer) = action else {
            continue;
        };
        match answer {
            Ok(Reply::Decision(Decision::Offer { connection_id, .. }))
                if admitted.contains(connection_id) =>
            {
                refused.connections.push(connection_id.clone());
                *answer = Err(refusal.clone());
            }
            Ok(Reply::ModeChanged(changed)) if changed.changed => {
                let mut refusal = if changed.mode.is_block() {
                    to_repeat(refusal)
                } else {
                    refusal.clone()
                };
                refusal.message.push_str(". The mode was not changed as requested: the node was set to block_new_connection");
                *answer = Err(refusal);
            }
            Ok(Reply::PlanStarted(started)) if started.created => {
                refused.plans.push(started.plan.id.clone());
                let mut refusal = to_repeat(refusal);
                refusal.message.push_str(". No plan was started");
                if let Some(replaced) = replaced_plan(records, &started.plan.id) {
                    let over = format!(", and plan {replaced} is over");
                    refusal.message.push_str(&over);
                }
                *answer = Err(refusal);
            }
            Ok(Reply::Reserved(_)) => *answer = Err(to_repeat(refusal)),
            Ok(Reply::PlanCancelled(cancelled)) if cancelled.found => {
                cancelled.durable = Some(false);
            }
            Ok(Reply::Disconnected(gone @ Disconnected { found: true, .. })) => {
                gone.durable = false;
            }
            Ok(_) | Err(_) => {}
        }
    }
    refused
}

/// Returns the refusal of a request that did not ask to open the node.
fn to_repeat(refusal: &Error) -> Error {
    let mut refusal = refusal.clone();
    let hint = refusal.data.hint.take();
    refusal.data.hint = hint.map(|it| it.replace(OPEN_IT, "Then run the same command again"));
    refusal
}

/// Returns the plan that this one replaced.
fn replaced_plan<'a>(records: &'a [Record], plan_id: &PlanId) -> Option<&'a PlanId> {
    records.iter().find_map(|record| {
        if let EventKind::PlanCreated(created) = &record.event()?.kind
            && created.plan_id == *plan_id
        {
            return created.replaces.as_ref();
        }
        None
    })
}

/// Returns the generation of a change of the mode that an operator requested.
fn operators_change(record: &Record) -> Option<u64> {
    if let EventKind::ModeChanged(change) = &record.event()?.kind {
        let is_operators = !change.actor.starts_with("system:") && change.plan_id.is_none();
        return is_operators.then_some(change.generation);
    }
    None
}

/// Returns the connection that the record admits.
fn admitted_connection(record: &Record) -> Option<&ConnectionId> {
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
        | EventKind::PlanCreated(_)
        | EventKind::PlanStep(_)
        | EventKind::PlanStalled { .. }
        | EventKind::PlanOver(_)
        | EventKind::MaintenanceAnnounced(_)
        | EventKind::EndRequested(_)
        | EventKind::Unknown => None,
    }
}
