//! The reference: all steps since the last success are one batch.

use std::mem;

use soramode_core::commit_failure::Refused;
use soramode_core::effect::{Action, Effects};
use soramode_core::gate::Gate;
use soramode_core::handles::Timestamp;
use soramode_core::input::Input;
use soramode_protocol::decision::{Decision, Disconnected};
use soramode_protocol::event::EventKind;
use soramode_protocol::id::ConnectionId;
use soramode_protocol::reply::Reply;

use super::world::{admitted, refusal};

/// Effects that the reference has not released.
pub(super) struct Reference {
    pub(super) gate: Gate,
    pub(super) since_success: Effects,
    /// Records and actions of the write in progress, at the front of these.
    pub(super) writing: Option<(usize, usize)>,
    pub(super) is_failed: bool,
    pub(super) held: Vec<Action>,
    /// Records and held deliveries of a retry in progress, at the front of these.
    pub(super) retrying: Option<(usize, usize)>,
}

impl Reference {
    pub(super) fn step(&mut self, now: Timestamp, input: Input) {
        self.gate.step_into(now, input, &mut self.since_success);
    }

    /// Effects that may leave now.
    pub(super) fn release(&mut self) -> Effects {
        let mut released = Effects::default();
        if self.is_failed {
            for action in mem::take(&mut self.since_success.actions) {
                if matches!(action, Action::Deliver(_)) {
                    self.held.push(action);
                } else {
                    released.actions.push(action);
                }
            }
        } else if self.writing.is_none() && self.since_success.records.is_empty() {
            released.actions = mem::take(&mut self.since_success.actions);
        }
        released
    }

    /// Returns whether a write could begin.
    pub(super) fn has_work(&self) -> bool {
        self.writing.is_none() && !self.is_failed && !self.since_success.records.is_empty()
    }

    /// Begins a write, or a check, which has no records and holds back no action.
    pub(super) fn begin(&mut self, has_records: bool) {
        let Effects { records, actions } = &self.since_success;
        self.writing = has_records.then_some((records.len(), actions.len()));
    }

    pub(super) fn write_succeeded(&mut self) -> Effects {
        let (records, actions) = self.writing.take().unwrap_or_default();
        Effects {
            records: self.since_success.records.drain(..records).collect(),
            actions: self.since_success.actions.drain(..actions).collect(),
        }
    }

    pub(super) fn write_failed(&mut self, now: Timestamp) -> Effects {
        self.writing = None;
        let admitted: Vec<ConnectionId> = self
            .since_success
            .records
            .iter()
            .filter_map(admitted)
            .collect();
        let generations = self
            .since_success
            .events()
            .filter_map(|event| match &event.kind {
                EventKind::ModeChanged(change) if !change.actor.starts_with("system:") => {
                    Some(change.generation)
                }
                _ => None,
            })
            .collect();
        let mut refused = Vec::new();
        for action in &mut self.since_success.actions {
            let Action::Answer(_, answer) = action else {
                continue;
            };
            match answer {
                Ok(Reply::Decision(Decision::Offer { connection_id, .. }))
                    if admitted.contains(connection_id) =>
                {
                    refused.push(connection_id.clone());
                    *answer = Err(refusal());
                }
                Ok(Reply::ModeChanged(changed)) if changed.changed => {
                    *answer = Err(refusal());
                }
                Ok(Reply::Disconnected(Disconnected {
                    found: true,
                    durable,
                    ..
                })) => *durable = false,
                Ok(_) | Err(_) => {}
            }
        }
        let failed = Input::StorageFailed(Refused {
            connections: refused,
            generations,
            ..Refused::default()
        });
        self.gate.step_into(now, failed, &mut self.since_success);
        self.is_failed = true;
        self.release()
    }

    pub(super) fn retry(&mut self) {
        self.retrying = Some((self.since_success.records.len(), self.held.len()));
    }

    pub(super) fn retry_succeeded(&mut self, now: Timestamp) -> Effects {
        let (records, held) = self.retrying.take().unwrap();
        self.is_failed = false;
        let restored = Effects {
            records: self.since_success.records.drain(..records).collect(),
            actions: self.held.drain(..held).collect(),
        };
        self.since_success.actions = mem::take(&mut self.held);
        self.step(now, Input::StorageRestored);
        restored
    }
}
