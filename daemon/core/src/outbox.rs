//! Webhook deliveries: one for each event and receiver, in order for each receiver, until it succeeds or fails for good.

mod list;
mod queue;
mod schedule;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use soramode_protocol::delivery::DeliveryState;
use soramode_protocol::event::{DeliveryEnded, Event, EventKind, EventType};
use soramode_protocol::node::DeliveryCounts;

use self::queue::ReceiverQueue;
pub use self::queue::{OVERFLOW, REMOVED};
pub use self::schedule::{NEW_EVENT_PAUSE, RETRY_AFTER_MAX, RETRY_PAUSES};
use self::schedule::{capped, longest_pause_after, pause_after};
use crate::ctx::Ctx;
use crate::effect::{Action, Attempt, Record};
use crate::handles::{DeliveryId, ReceiverIndex};
use crate::input::AttemptResult;
use crate::settings::EventReceiver;
use crate::stored::StoredDelivery;
use crate::timers::Timer;

/// Pending deliveries at most: past that the oldest fails.
pub const DELIVERIES_PENDING_MAX: usize = 100_000;

/// Failed deliveries that are kept for lists, and to be sent again.
pub const DELIVERIES_FAILED_KEPT: usize = 10_000;

/// Deliveries that succeeded or became obsolete and are kept for lists.
pub const DELIVERIES_FINISHED_KEPT: usize = 1_000;

/// HTTP status of a receiver that wants this delivery never again.
const GONE: u16 = 410;

/// Receivers of events, and all deliveries to them that are kept.
#[derive(Default)]
pub(crate) struct Outbox {
    receivers: Vec<EventReceiver>,
    rows: BTreeMap<DeliveryId, StoredDelivery>,
    pending: BTreeSet<DeliveryId>,
    failed: BTreeSet<DeliveryId>,
    /// Deliveries that succeeded or became obsolete, in the order in which they did.
    finished: VecDeque<DeliveryId>,
    /// One for each receiver.
    queues: Vec<ReceiverQueue>,
    last_id: u64,
}

/// Outcome of a delivery.
enum DeliveryOutcome {
    Succeeded,
    /// With the reason.
    Failed(Option<String>),
    Obsolete,
}

impl Outbox {
    /// Restores the stored deliveries, and queues those to receivers that are still configured.
    pub(crate) fn restore(stored: Vec<StoredDelivery>, receivers: Vec<EventReceiver>) -> Self {
        let mut outbox = Self {
            queues: receivers.iter().map(|_| ReceiverQueue::default()).collect(),
            receivers,
            ..Self::default()
        };
        for delivery in stored {
            outbox.last_id = outbox.last_id.max(delivery.id.0);
            outbox.index_by_state(&delivery);
            if delivery.state == DeliveryState::Pending
                && let Some(queue) = outbox
                    .receiver(&delivery.url)
                    .and_then(|receiver| outbox.queues.get_mut(receiver.0))
            {
                queue.waiting.push_back(delivery.id);
            }
            outbox.rows.insert(delivery.id, delivery);
        }
        outbox
    }

    /// Number of receivers that want events of a type.
    pub(crate) fn receivers_of(&self, event_type: EventType) -> usize {
        let wants = |receiver: &&EventReceiver| receiver.types.contains(&event_type);
        self.receivers.iter().filter(wants).count()
    }

    /// Numbers of pending and of failed deliveries.
    pub(crate) fn counts(&self) -> DeliveryCounts {
        DeliveryCounts {
            pending: self.pending.len() as u64,
            failed: self.failed.len() as u64,
        }
    }

    /// Adds a delivery to the set of its state.
    fn index_by_state(&mut self, delivery: &StoredDelivery) {
        match delivery.state {
            DeliveryState::Pending => drop(self.pending.insert(delivery.id)),
            DeliveryState::Failed => drop(self.failed.insert(delivery.id)),
            DeliveryState::Succeeded | DeliveryState::Obsolete => {
                self.finished.push_back(delivery.id);
            }
        }
    }

    /// Returns the index of the receiver with this URL.
    fn receiver(&self, url: &str) -> Option<ReceiverIndex> {
        self.receivers
            .iter()
            .position(|receiver| receiver.is_configured() && receiver.url == url)
            .map(ReceiverIndex)
    }

    /// Goes on with the pending deliveries; those of removed receivers fail.
    pub(crate) fn resume(&mut self, ctx: &mut Ctx) {
        let is_removed = |id: &&DeliveryId| {
            let delivery = self.rows.get(id);
            delivery.is_some_and(|it| self.receiver(&it.url).is_none())
        };
        let removed: Vec<DeliveryId> = self.pending.iter().filter(is_removed).copied().collect();
        for id in removed {
            self.end(ctx, id, DeliveryOutcome::Failed(Some(REMOVED.to_owned())));
        }
        for receiver in (0..self.queues.len()).map(ReceiverIndex) {
            self.send_if_due(ctx, receiver);
        }
    }

    /// Takes over other receivers, each at the index that it had, new ones behind them. Deliveries to removed ones fail.
    pub(crate) fn set_receivers(&mut self, ctx: &mut Ctx, receivers: Vec<EventReceiver>) {
        self.queues.resize_with(
            receivers.len().max(self.queues.len()),
            ReceiverQueue::default,
        );
        self.receivers = receivers;
        for (index, queue) in self.queues.iter_mut().enumerate() {
            if !self
                .receivers
                .get(index)
                .is_some_and(EventReceiver::is_configured)
            {
                queue.clear();
                ctx.timers.cancel(Timer::Delivery(ReceiverIndex(index)));
            }
        }
        self.resume(ctx);
    }

    /// Enqueues the events that were emitted since the last call. `generation` is the mode's, which has not changed since.
    pub(crate) fn enqueue_new_events(&mut self, ctx: &mut Ctx, generation: u64) {
        for event in ctx.take_new_events(|kind| self.is_wanted(kind)) {
            self.enqueue(ctx, &event, generation);
        }
    }

    /// Returns whether a receiver wants such an event.
    fn is_wanted(&self, kind: &EventKind) -> bool {
        let is_subscribed = |event_type| {
            self.receivers
                .iter()
                .any(|receiver| receiver.types.contains(&event_type))
        };
        kind.event_type()
            .is_some_and(|event_type| event_type.is_deliverable() && is_subscribed(event_type))
    }

    /// Adds a delivery of an event for each receiver that wants it.
    fn enqueue(&mut self, ctx: &mut Ctx, event: &Event, generation: u64) {
        let Some(event_type) = event.kind.event_type() else {
            return ctx.bug("a wanted event has no type");
        };
        for receiver in (0..self.receivers.len()).map(ReceiverIndex) {
            let Some(settings) = self
                .receivers
                .get(receiver.0)
                .filter(|receiver| receiver.types.contains(&event_type))
            else {
                continue;
            };
            let delivery = StoredDelivery {
                id: DeliveryId(self.last_id + 1),
                url: settings.url.clone(),
                endpoint: settings.endpoint.clone(),
                event: event.clone(),
                generation,
                state: DeliveryState::Pending,
                attempts: 0,
                created_at: ctx.now.wall,
                next_attempt_at: None,
                finished_at: None,
                status: None,
                problem: None,
            };
            self.last_id = delivery.id.0;
            self.add(ctx, delivery);
        }
        if self.pending.len() > DELIVERIES_PENDING_MAX
            && let Some(oldest) = self.oldest_waiting()
        {
            self.end(
                ctx,
                oldest,
                DeliveryOutcome::Failed(Some(OVERFLOW.to_owned())),
            );
        }
    }

    /// Adds a delivery, and sends it if it is the next of its receiver.
    fn add(&mut self, ctx: &mut Ctx, delivery: StoredDelivery) {
        let Some(receiver) = self.receiver(&delivery.url) else {
            return ctx.bug("a delivery to queue has no receiver");
        };
        ctx.record(Record::Delivery(Box::new(delivery.clone())));
        self.index_by_state(&delivery);
        if let Some(queue) = self.queues.get_mut(receiver.0) {
            queue.waiting.push_back(delivery.id);
        }
        self.rows.insert(delivery.id, delivery);
        self.send_if_due(ctx, receiver);
        self.retry_early(ctx, receiver);
    }

    /// Retries a receiver that failed before its schedule does: with a new event it may be up again.
    fn retry_early(&self, ctx: &mut Ctx, receiver: ReceiverIndex) {
        let Some(queue) = self.queues.get(receiver.0) else {
            return ctx.bug("a receiver that gets a delivery has no queue");
        };
        let retry_from = queue.retry_from(ctx.now.boot);
        if ctx
            .timers
            .at(Timer::Delivery(receiver))
            .is_some_and(|at| at > retry_from)
        {
            ctx.timers.set(Timer::Delivery(receiver), retry_from);
        }
    }

    fn oldest_waiting(&self) -> Option<DeliveryId> {
        let is_in_flight =
            |id: &DeliveryId| self.queues.iter().any(|queue| queue.in_flight == Some(*id));
        self.pending.iter().find(|id| !is_in_flight(id)).copied()
    }

    /// Sends a receiver's next delivery, unless one is in flight or its pause runs.
    fn send_if_due(&mut self, ctx: &mut Ctx, receiver: ReceiverIndex) {
        if ctx.timers.is_set(Timer::Delivery(receiver)) {
            return;
        }
        let Some(queue) = self.queues.get_mut(receiver.0) else {
            return ctx.bug("a receiver has no queue");
        };
        let Some(id) = queue.waiting.front().filter(|_| queue.in_flight.is_none()) else {
            return;
        };
        let Some(next) = self.rows.get(id) else {
            return ctx.bug("a queued delivery is not stored");
        };
        // After a restart a pause may still run: by the wall clock, which may have been set since.
        let pause = next
            .next_attempt_at
            .map_or(Duration::ZERO, |at| at.since(ctx.now.wall))
            .min(longest_pause_after(next.attempts));
        if pause.is_zero() {
            self.send_next(ctx, receiver);
        } else {
            queue.due = Some(ctx.now.boot + pause);
            ctx.timers
                .set(Timer::Delivery(receiver), ctx.now.boot + pause);
        }
    }

    /// Sends a receiver's next delivery.
    pub(crate) fn send_next(&mut self, ctx: &mut Ctx, receiver: ReceiverIndex) {
        let Some(queue) = self.queues.get_mut(receiver.0) else {
            return ctx.bug("a receiver with a due delivery has no queue");
        };
        let Some(id) = queue.waiting.front().copied() else {
            return ctx.bug("a receiver without a delivery has one due");
        };
        let Some(delivery) = self.rows.get(&id) else {
            return ctx.bug("a due delivery is not stored");
        };
        queue.in_flight = Some(id);
        ctx.act(Action::Deliver(Box::new(Attempt {
            id,
            receiver,
            attempt: delivery.attempts + 1,
            event: delivery.event.clone(),
            generation: delivery.generation,
        })));
    }

    /// Takes in the result of an attempt.
    pub(crate) fn on_attempted(&mut self, ctx: &mut Ctx, id: DeliveryId, result: &AttemptResult) {
        let mut queues = self.queues.iter_mut().enumerate();
        let Some((index, queue)) = queues.find(|(_, queue)| queue.in_flight == Some(id)) else {
            return;
        };
        let receiver = ReceiverIndex(index);
        queue.on_attempted(ctx.now.boot, result.retry_after);
        let due = queue.due_after(ctx.now.boot);
        let Some(delivery) = self.rows.get_mut(&id) else {
            return self.send_if_due(ctx, receiver);
        };
        (delivery.status, delivery.problem) = (result.status, result.problem.clone());
        let is_pending = delivery.state == DeliveryState::Pending;
        match (result.status, due) {
            // Also one that became obsolete meanwhile: the receiver has it.
            (Some(200..300), _) => {
                delivery.attempts += 1;
                self.end(ctx, id, DeliveryOutcome::Succeeded);
            }
            (_, _) if !is_pending => self.send_if_due(ctx, receiver),
            // An attempt ahead of the schedule leaves the schedule as it was: otherwise attempts that a client requests would use it up.
            (status, Some(due)) if status != Some(GONE) => {
                let pause = due
                    .saturating_sub(ctx.now.boot)
                    .max(capped(result.retry_after));
                self.pause(ctx, (id, receiver), pause);
            }
            (status, _) => {
                delivery.attempts += 1;
                match pause_after(delivery.attempts, result.retry_after, ctx.random.number()) {
                    Some(pause) if status != Some(GONE) => self.pause(ctx, (id, receiver), pause),
                    Some(_) | None => {
                        self.end(ctx, id, DeliveryOutcome::Failed(result.problem.clone()));
                    }
                }
            }
        }
    }

    /// Has a delivery wait before its next attempt.
    fn pause(
        &mut self,
        ctx: &mut Ctx,
        (id, receiver): (DeliveryId, ReceiverIndex),
        pause: Duration,
    ) {
        let Some(delivery) = self.rows.get_mut(&id) else {
            return ctx.bug("a delivery to retry is not stored");
        };
        delivery.next_attempt_at = Some(ctx.now.wall + pause);
        let delivery = delivery.clone();
        // Its receiver may have been removed meanwhile.
        if self.receiver(&delivery.url) == Some(receiver)
            && let Some(queue) = self.queues.get_mut(receiver.0)
        {
            queue.due = Some(ctx.now.boot + pause);
            ctx.timers
                .set(Timer::Delivery(receiver), ctx.now.boot + pause);
        }
        ctx.record(Record::Delivery(Box::new(delivery)));
    }

    /// Ends a delivery, sent or not.
    fn end(&mut self, ctx: &mut Ctx, id: DeliveryId, outcome: DeliveryOutcome) {
        let Some(delivery) = self.rows.get_mut(&id) else {
            return ctx.bug("a delivery to end is not stored");
        };
        let (state, problem) = match outcome {
            DeliveryOutcome::Succeeded => (DeliveryState::Succeeded, None),
            DeliveryOutcome::Failed(problem) => (DeliveryState::Failed, problem),
            DeliveryOutcome::Obsolete => (DeliveryState::Obsolete, None),
        };
        let before = std::mem::replace(&mut delivery.state, state);
        delivery.next_attempt_at = None;
        delivery.finished_at = Some(ctx.now.wall);
        delivery.problem = problem;
        let delivery = delivery.clone();
        ctx.record(Record::Delivery(Box::new(delivery.clone())));
        self.pending.remove(&id);
        if before == DeliveryState::Obsolete {
            self.finished.retain(|finished| *finished != id);
        }
        self.failed.remove(&id);
        self.index_by_state(&delivery);
        match state {
            DeliveryState::Succeeded => {
                ctx.emit(EventKind::DeliverySucceeded(Box::new(ended(&delivery))));
            }
            DeliveryState::Failed => {
                ctx.emit(EventKind::DeliveryFailed(Box::new(ended(&delivery))));
            }
            DeliveryState::Pending | DeliveryState::Obsolete => {}
        }
        self.leave_queue(ctx, &delivery);
        self.forget_surplus(ctx);
    }

    fn leave_queue(&mut self, ctx: &mut Ctx, delivery: &StoredDelivery) {
        let Some(receiver) = self.receiver(&delivery.url) else {
            return;
        };
        let Some(queue) = self.queues.get_mut(receiver.0) else {
            return ctx.bug("a configured receiver has no queue");
        };
        if queue
            .waiting
            .pop_front_if(|first| *first == delivery.id)
            .is_some()
        {
            // The pause was this one's.
            queue.due = None;
            ctx.timers.cancel(Timer::Delivery(receiver));
        } else if let Some(at) = queue
            .waiting
            .iter()
            .position(|waiting| *waiting == delivery.id)
        {
            queue.waiting.remove(at);
        }
        self.send_if_due(ctx, receiver);
    }

    fn forget_surplus(&mut self, ctx: &mut Ctx) {
        let surplus = self.finished.len().saturating_sub(DELIVERIES_FINISHED_KEPT);
        let mut forgotten: Vec<DeliveryId> = self.finished.drain(..surplus).collect();
        while self.failed.len() > DELIVERIES_FAILED_KEPT {
            forgotten.extend(self.failed.pop_first());
        }
        for id in forgotten {
            self.rows.remove(&id);
            ctx.record(Record::DeliveryForgotten(id));
        }
    }

    /// Makes pending deliveries of such events obsolete.
    pub(crate) fn make_obsolete(
        &mut self,
        ctx: &mut Ctx,
        is_outdated: impl Fn(&EventKind) -> bool,
    ) {
        let is_outdated = |id: &&DeliveryId| {
            let delivery = self.rows.get(id);
            delivery.is_some_and(|it| is_outdated(&it.event.kind))
        };
        let obsolete: Vec<DeliveryId> = self.pending.iter().filter(is_outdated).copied().collect();
        for id in obsolete {
            self.end(ctx, id, DeliveryOutcome::Obsolete);
        }
    }
}

fn ended(delivery: &StoredDelivery) -> DeliveryEnded {
    DeliveryEnded {
        delivery_id: delivery.id.0,
        event_id: delivery.event.id,
        endpoint: delivery.endpoint.clone(),
        attempts: delivery.attempts,
        status: delivery.status,
        problem: delivery.problem.clone(),
    }
}
