//! Decides when the effects of a step may leave: once its records, and those of every earlier step, are written or have failed.
//!
//! Pure, as the gate is. The engine writes the records that [`begin_write`](Commits::begin_write) returns, reports how that went, and performs the
//! effects that it gets back. Steps go on during a write. If the write fails, its steps and those made meanwhile are one failed batch.

use std::mem;
use std::time::Duration;

use soramode_protocol::error::Error;
use soramode_protocol::event::EventKind;
use soramode_protocol::reply::{Answer, Reply};

use crate::commit_failure::{Refused, retract};
use crate::effect::{Action, Effects, Record};
use crate::fault::{Fault, PlantedFault};
use crate::gate::Gate;
use crate::handles::{ReplyHandle, Timestamp};
use crate::input::Input;

/// Unwritten records at which nothing is admitted that would add more.
pub const UNWRITTEN_RECORDS_MAX: usize = 262_144;

/// Records, or actions, of the steps made during a write at which no more requests are read until it ends.
pub const OPEN_EFFECTS_MAX: usize = 16_384;

/// Effects of consecutive steps.
#[derive(Debug, Default)]
pub struct Batch {
    /// Records and actions. Where a batch may leave, its records are written: their events are published before the actions are performed.
    pub effects: Effects,
    /// Time of the first step, by the boot clock.
    pub first_step: Option<Duration>,
}

/// Effects of all steps that are not committed yet.
#[derive(Debug)]
pub struct Commits {
    durability: Durability,
    /// Effects of the steps since the last write began.
    open: Batch,
    /// Records of the open batch that were searched for changes of the mode.
    open_records_searched: usize,
    is_open_mode_changed: bool,
    writing: Option<Writing>,
    /// Set from a failed write until a successful one.
    failed: Option<Backlog>,
    fault: PlantedFault,
}

/// Durability of records, which decides whether effects wait until they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// No state outlives the daemon, so no effect waits for a write.
    Ephemeral,
    /// Effects wait until their records are written.
    Durable,
}

/// Batch with records that are being written.
#[derive(Debug, Default)]
struct Writing {
    actions: Vec<Action>,
    first_step: Option<Duration>,
    records: usize,
    is_mode_changed: bool,
}

/// Everything that waits for a successful write after one has failed.
#[derive(Debug, Default)]
struct Backlog {
    records: Vec<Record>,
    /// Deliveries of events that are not written.
    deliveries: Vec<Action>,
    retry: Option<Retry>,
}

/// A retry in progress.
#[derive(Clone, Copy, Debug)]
struct Retry {
    /// Records that are being written.
    records: usize,
    /// Deliveries that wait for them. Later ones wait for later records.
    deliveries: usize,
}

impl Commits {
    /// Creates one that has no effects.
    pub const fn new(durability: Durability) -> Self {
        Self {
            durability,
            open: Batch {
                effects: Effects {
                    records: Vec::new(),
                    actions: Vec::new(),
                },
                first_step: None,
            },
            open_records_searched: 0,
            is_open_mode_changed: false,
            writing: None,
            failed: None,
            fault: PlantedFault::NONE,
        }
    }

    /// Creates one with a planted mistake.
    #[cfg(feature = "fault-injection")]
    pub fn with_fault(durability: Durability, fault: PlantedFault) -> Self {
        Self {
            fault,
            ..Self::new(durability)
        }
    }

    /// Returns the effects to which a step made at this time adds its own.
    pub fn open_mut(&mut self, now: Timestamp) -> &mut Effects {
        self.open.first_step.get_or_insert(now.boot);
        &mut self.open.effects
    }

    /// Exchanges the open batch for `released`, which is empty, if all of it may leave now. Returns whether it did.
    ///
    /// After a failed write actions leave at once; records, and deliveries of their events, wait.
    pub fn take_ready(&mut self, released: &mut Batch) -> bool {
        let Effects { records, actions } = &mut self.open.effects;
        if records.is_empty() && actions.is_empty() {
            return false;
        }
        let waits_for_write = self.writing.is_some() && !self.fault.is(Fault::ReleaseDuringWrite);
        let has_records = !records.is_empty() && !self.fault.is(Fault::ReleaseUnwritten);
        let waits = self.durability == Durability::Durable && (waits_for_write || has_records);
        match &mut self.failed {
            Some(backlog) => backlog.absorb(&mut self.open.effects, self.fault),
            None if waits => {
                self.drop_progress();
                return false;
            }
            None => {}
        }
        mem::swap(&mut self.open, released);
        (self.open_records_searched, self.is_open_mode_changed) = (0, false);
        true
    }

    /// Drops reports on the progress of waits where too many actions wait. Each is followed by a newer one, also during a write that
    /// never ends.
    fn drop_progress(&mut self) {
        let actions = &mut self.open.effects.actions;
        if actions.len() >= OPEN_EFFECTS_MAX {
            actions.retain(|action| !matches!(action, Action::Progress(..)));
        }
    }

    /// Begins a write: returns its records. `None` during a write, after a failed one, or without records.
    pub fn begin_write(&mut self) -> Option<Vec<Record>> {
        if !self.has_work() {
            return None;
        }
        let is_mode_changed = self.is_open_mode_changed();
        let Batch {
            effects: Effects { records, actions },
            first_step,
        } = mem::take(&mut self.open);
        (self.open_records_searched, self.is_open_mode_changed) = (0, false);
        self.writing = Some(Writing {
            actions,
            first_step,
            records: records.len(),
            is_mode_changed,
        });
        Some(records)
    }

    /// Returns whether a write could begin.
    pub fn has_work(&self) -> bool {
        let is_free = self.writing.is_none() && self.failed.is_none();
        self.durability == Durability::Durable
            && (is_free || self.fault.is(Fault::BeginTooEarly))
            && !self.open.effects.records.is_empty()
    }

    /// Returns the number of records that wait for the next write.
    pub const fn open_records(&self) -> usize {
        self.open.effects.records.len()
    }

    /// Ends a write that succeeded: returns the batch, which may leave.
    pub fn write_succeeded(&mut self, records: Vec<Record>) -> Batch {
        let Writing {
            actions,
            first_step,
            ..
        } = self.writing.take().unwrap_or_default();
        Batch {
            effects: Effects { records, actions },
            first_step,
        }
    }

    /// Ends a write that failed: returns the actions of its batch, and of the steps since, that may leave. `refusal` is the answer to requests
    /// that depend on the write. Records wait for [`begin_retry`](Self::begin_retry).
    pub fn write_failed(
        &mut self,
        gate: &mut Gate,
        now: Timestamp,
        records: Vec<Record>,
        refusal: &Error,
    ) -> Batch {
        let mut batch = self.write_succeeded(records);
        let open = if self.fault.is(Fault::FailureSparesLaterSteps) {
            Batch::default()
        } else {
            mem::take(&mut self.open)
        };
        (self.open_records_searched, self.is_open_mode_changed) = (0, false);
        batch.first_step = batch.first_step.or(open.first_step);
        append(&mut batch.effects, open.effects);
        let Effects { records, actions } = &mut batch.effects;
        let refused = if self.fault.is(Fault::FailureKeepsPromises) {
            Refused::default()
        } else {
            retract(actions, records, refusal)
        };
        let reported = if self.fault.is(Fault::FailureIsNotReported) {
            Refused::default()
        } else {
            refused
        };
        gate.step_into(now, Input::StorageFailed(reported), &mut batch.effects);
        let backlog = self.failed.get_or_insert_default();
        backlog.absorb(&mut batch.effects, self.fault);
        batch
    }

    /// Returns whether a write has failed and none has succeeded since.
    pub const fn is_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Begins to write again after a failure: returns all records that wait, if there are any. `None` without a failure, and during a retry.
    pub fn begin_retry(&mut self) -> Option<Vec<Record>> {
        let backlog = self
            .failed
            .as_mut()
            .filter(|backlog| backlog.retry.is_none() || self.fault.is(Fault::RetryTwice))?;
        backlog.retry = Some(Retry {
            records: backlog.records.len(),
            deliveries: backlog.deliveries.len(),
        });
        Some(mem::take(&mut backlog.records))
    }

    /// Ends a retry that failed.
    pub fn retry_failed(&mut self, mut records: Vec<Record>) {
        if let Some(backlog) = &mut self.failed {
            if self.fault.is(Fault::RetryOutOfOrder) {
                mem::swap(&mut records, &mut backlog.records);
            }
            records.append(&mut backlog.records);
            (backlog.records, backlog.retry) = (records, None);
        }
    }

    /// Ends a retry that succeeded: returns its records and the deliveries that waited for them. Records made meanwhile, and their
    /// deliveries, are in the open batch.
    pub fn retry_succeeded(
        &mut self,
        gate: &mut Gate,
        now: Timestamp,
        records: Vec<Record>,
    ) -> Batch {
        let Backlog {
            records: mut later,
            mut deliveries,
            retry,
        } = self.failed.take().unwrap_or_default();
        let retry = retry.filter(|_| !self.fault.is(Fault::DeliveryBeforeRecord));
        let held = retry.map_or(deliveries.len(), |retry| retry.deliveries);
        if self.fault.is(Fault::RetryDropsLaterRecords) {
            later.clear();
        }
        let open = mem::replace(
            self.open_mut(now),
            Effects {
                records: later,
                actions: deliveries.split_off(held),
            },
        );
        append(&mut self.open.effects, open);
        gate.step_into(now, Input::StorageRestored, &mut self.open.effects);
        Batch {
            effects: Effects {
                records,
                actions: deliveries,
            },
            first_step: None,
        }
    }

    /// Returns the number of records that are not written.
    pub fn unwritten(&self) -> usize {
        let writing = self.writing.as_ref().map_or(0, |writing| writing.records);
        let counted = |_: &Retry| !self.fault.is(Fault::RetryIsNotCounted);
        let failed = self.failed.as_ref().map_or(0, |backlog| {
            let retry = backlog.retry.filter(counted);
            backlog.records.len() + retry.map_or(0, |retry| retry.records)
        });
        writing + failed + self.open.effects.records.len()
    }

    /// Returns whether nothing more may be admitted that adds a record.
    pub fn is_full(&self) -> bool {
        self.unwritten() >= UNWRITTEN_RECORDS_MAX
    }

    /// Returns whether so much waits for a write that no more requests are to be read.
    pub const fn is_crowded(&self) -> bool {
        let Effects { records, actions } = &self.open.effects;
        records.len() >= OPEN_EFFECTS_MAX || actions.len() >= OPEN_EFFECTS_MAX
    }

    /// Takes the answer of the step just made out of the open batch, if it reads a mode that is written: it rests on no other record.
    pub fn take_mode_answer(&mut self) -> Option<(ReplyHandle, Answer)> {
        let actions = &self.open.effects.actions;
        let reads_mode = matches!(actions.last(), Some(Action::Answer(_, Ok(Reply::Mode(_)))));
        if !reads_mode || !self.is_mode_committed() {
            return None;
        }
        if let Some(Action::Answer(reply_to, answer)) = self.open.effects.actions.pop() {
            Some((reply_to, answer))
        } else {
            None
        }
    }

    /// Returns whether the gate's mode is the written one, or was made after a failure: then a read of the mode need not wait.
    pub fn is_mode_committed(&mut self) -> bool {
        let is_writing_mode = |writing: &Writing| writing.is_mode_changed;
        let is_written = !self.writing.as_ref().is_some_and(is_writing_mode)
            || self.fault.is(Fault::ModeReadDuringWrite);
        is_written && (!self.is_open_mode_changed() || self.fault.is(Fault::ModeReadUnwritten))
    }

    fn is_open_mode_changed(&mut self) -> bool {
        let records = self.open.effects.records.get(self.open_records_searched..);
        self.is_open_mode_changed |= records.unwrap_or_default().iter().any(is_about_mode);
        self.open_records_searched = self.open.effects.records.len();
        self.is_open_mode_changed
    }
}

impl Backlog {
    /// Takes what must not leave before a write succeeds.
    fn absorb(&mut self, effects: &mut Effects, fault: PlantedFault) {
        self.records.append(&mut effects.records);
        if fault.is(Fault::DeliveryAfterFailure) {
            return;
        }
        self.deliveries.extend(
            effects
                .actions
                .extract_if(.., |action| matches!(action, Action::Deliver(_))),
        );
    }
}

fn append(effects: &mut Effects, mut later: Effects) {
    effects.records.append(&mut later.records);
    effects.actions.append(&mut later.actions);
}

/// Returns whether the record says something about the mode.
fn is_about_mode(record: &Record) -> bool {
    match record {
        Record::Event(event) => matches!(event.kind, EventKind::ModeChanged(_)),
        Record::Mode(_) | Record::ExpiresAtBoot(_) => true,
        Record::Pending { .. }
        | Record::PendingEnded(_)
        | Record::BoundTo { .. }
        | Record::ConnectionOfSfu(_)
        | Record::SessionOfSora(_)
        | Record::SessionOfGate(_)
        | Record::Delivery(_)
        | Record::DeliveryForgotten(_)
        | Record::Member(_)
        | Record::Etcd(_)
        | Record::Claimed { .. }
        | Record::Unclaimed(_)
        | Record::RoomLocked(_)
        | Record::RoomUnlocked(_)
        | Record::VanishedPending(_)
        | Record::Plan(_)
        | Record::PlanProgress(_)
        | Record::PlanCounts(_)
        | Record::Announcement(_)
        | Record::AnnouncementProgress { .. }
        | Record::AnnouncementFinished(_)
        | Record::End(_)
        | Record::EndProgress { .. }
        | Record::EndFinished { .. }
        | Record::Reservation(_) => false,
    }
}
