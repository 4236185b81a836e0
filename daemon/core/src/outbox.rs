//! Deliveries by webhook: one for each event and receiver, in order for each receiver, until it has it or is given up.

mod queue;
mod schedule;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand_chacha::rand_core::Rng;
use soramode_protocol::delivery::{Deliveries as Page, Delivery, DeliveryState, ListDeliveries};
use soramode_protocol::error::Error;
use soramode_protocol::event::{DeliveryEnded, Event, EventKind};
use soramode_protocol::node::DeliveryCounts;

use self::queue::Queue;
pub use self::queue::{OVERFLOW, REMOVED};
pub use self::schedule::{NEWS_PAUSE, RETRY_AFTER_MAX, RETRY_PAUSES};
use self::schedule::{heeded, longest_pause_after, pause_after};
use crate::effect::{Action, Attempt, Record};
use crate::gate::{Ctx, Gate, Refusable};
use crate::input::{AttemptResult, Timestamp};
use crate::lists::rows;
use crate::snapshot::{StoredDelivery, Webhook};
use crate::timers::Timer;

/// Deliveries that are owed at most: past that the oldest is given up.
pub const DELIVERIES_OWED_MAX: usize = 100_000;

/// Deliveries that failed and are kept, to be looked at and sent again.
pub const DELIVERIES_FAILED_KEPT: usize = 10_000;

/// Deliveries that succeeded or became obsolete and are kept, to be looked at.
pub const DELIVERIES_OVER_KEPT: usize = 1_000;

/// The status that says: never again.
const GONE: u16 = 410;

/// All deliveries that are kept.
#[derive(Default)]
pub(crate) struct Deliveries {
    rows: BTreeMap<u64, StoredDelivery>,
    pending: BTreeSet<u64>,
    failed: BTreeSet<u64>,
    /// Those that succeeded or became obsolete, in the order in which they did.
    over: VecDeque<u64>,
    /// For each receiver that there is.
    queues: Vec<Queue>,
    last_id: u64,
}

/// How a delivery ends.
enum Ending {
    Succeeded,
    /// And why.
    Failed(Option<String>),
    Obsolete,
}

impl Deliveries {
    /// What was stored, as far as these receivers are still there.
    pub(crate) fn restore(stored: Vec<StoredDelivery>, webhooks: &[Webhook]) -> Self {
        let mut deliveries = Self {
            queues: webhooks.iter().map(|_| Queue::default()).collect(),
            ..Self::default()
        };
        for delivery in stored {
            deliveries.last_id = deliveries.last_id.max(delivery.id);
            deliveries.file(&delivery);
            if delivery.state == DeliveryState::Pending
                && let Some(queue) = place_of(webhooks, &delivery.url)
                    .and_then(|place| deliveries.queues.get_mut(place))
            {
                queue.waiting.push_back(delivery.id);
            }
            deliveries.rows.insert(delivery.id, delivery);
        }
        deliveries
    }

    /// How many are owed, and how many were given up.
    pub(crate) fn counts(&self) -> DeliveryCounts {
        DeliveryCounts {
            pending: self.pending.len() as u64,
            failed: self.failed.len() as u64,
        }
    }

    fn file(&mut self, delivery: &StoredDelivery) {
        match delivery.state {
            DeliveryState::Pending => drop(self.pending.insert(delivery.id)),
            DeliveryState::Failed => drop(self.failed.insert(delivery.id)),
            DeliveryState::Succeeded | DeliveryState::Obsolete => self.over.push_back(delivery.id),
        }
    }
}

impl Gate {
    /// What is owed goes on where it was; to whom nobody sends any more, it is given up.
    pub(crate) fn resume_deliveries(&mut self, ctx: &mut Ctx) {
        let is_configured =
            |delivery: &StoredDelivery| place_of(&self.settings.webhooks, &delivery.url).is_some();
        let rows = &self.deliveries.rows;
        let strays: Vec<u64> = self
            .deliveries
            .pending
            .iter()
            .filter(|id| rows.get(id).is_some_and(|it| !is_configured(it)))
            .copied()
            .collect();
        for id in strays {
            self.end_delivery(ctx, id, Ending::Failed(Some(REMOVED.to_owned())));
        }
        for place in 0..self.deliveries.queues.len() {
            self.wait_or_try(ctx, place);
        }
    }

    /// Whoever is no receiver any more is owed nothing.
    pub(crate) fn change_webhooks(&mut self, ctx: &mut Ctx, webhooks: Vec<Webhook>) {
        self.deliveries.queues.resize_with(
            webhooks.len().max(self.deliveries.queues.len()),
            Queue::default,
        );
        self.settings.webhooks = webhooks;
        for (place, queue) in self.deliveries.queues.iter_mut().enumerate() {
            if !self
                .settings
                .webhooks
                .get(place)
                .is_some_and(Webhook::is_told)
            {
                queue.clear();
                self.timers.cancel(Timer::Delivery(place));
            }
        }
        self.resume_deliveries(ctx);
    }

    /// Whether anybody wants to be told of such an event.
    pub(crate) fn is_to_be_told(&self, kind: &EventKind) -> bool {
        let wanted = |event_type| {
            self.settings
                .webhooks
                .iter()
                .any(|webhook| webhook.types.contains(&event_type))
        };
        kind.event_type()
            .is_some_and(|event_type| event_type.is_deliverable() && wanted(event_type))
    }

    /// Owes an event to everybody who wants to be told of it.
    pub(crate) fn owe(&mut self, ctx: &mut Ctx, event: &Event) {
        let Some(event_type) = event.kind.event_type() else {
            return;
        };
        for place in 0..self.settings.webhooks.len() {
            let Some(webhook) = self
                .settings
                .webhooks
                .get(place)
                .filter(|webhook| webhook.types.contains(&event_type))
            else {
                continue;
            };
            let delivery = StoredDelivery {
                id: self.deliveries.last_id + 1,
                url: webhook.url.clone(),
                endpoint: webhook.endpoint.clone(),
                event: event.clone(),
                generation: self.mode.generation,
                state: DeliveryState::Pending,
                attempts: 0,
                created_at: ctx.now.wall,
                next_attempt_at: None,
                finished_at: None,
                status: None,
                problem: None,
            };
            self.deliveries.last_id = delivery.id;
            self.queue_delivery(ctx, delivery);
        }
        if self.deliveries.pending.len() > DELIVERIES_OWED_MAX
            && let Some(oldest) = self.oldest_waiting()
        {
            self.end_delivery(ctx, oldest, Ending::Failed(Some(OVERFLOW.to_owned())));
        }
    }

    fn queue_delivery(&mut self, ctx: &mut Ctx, delivery: StoredDelivery) {
        let Some(place) = place_of(&self.settings.webhooks, &delivery.url) else {
            return;
        };
        ctx.effects
            .records
            .push(Record::Delivery(Box::new(delivery.clone())));
        self.deliveries.file(&delivery);
        if let Some(queue) = self.deliveries.queues.get_mut(place) {
            queue.waiting.push_back(delivery.id);
        }
        self.deliveries.rows.insert(delivery.id, delivery);
        self.wait_or_try(ctx, place);
        self.hasten_for_news(ctx, place);
    }

    /// Tries a receiver that failed sooner than the schedule has it, for there is news: it may be up again.
    fn hasten_for_news(&mut self, ctx: &Ctx, place: usize) {
        let Some(queue) = self.deliveries.queues.get(place) else {
            return;
        };
        let news_at = queue.news_at(ctx.now.boot);
        if self
            .timers
            .at(Timer::Delivery(place))
            .is_some_and(|at| at > news_at)
        {
            self.timers.set(Timer::Delivery(place), news_at);
        }
    }

    fn oldest_waiting(&self) -> Option<u64> {
        let is_under_way = |id: &u64| {
            self.deliveries
                .queues
                .iter()
                .any(|queue| queue.under_way == Some(*id))
        };
        self.deliveries
            .pending
            .iter()
            .find(|id| !is_under_way(id))
            .copied()
    }

    /// Tries what comes next for a receiver, unless it is busy or its pause is not over.
    fn wait_or_try(&mut self, ctx: &mut Ctx, place: usize) {
        if self.timers.is_set(Timer::Delivery(place)) {
            return;
        }
        let Some(queue) = self
            .deliveries
            .queues
            .get_mut(place)
            .filter(|queue| queue.under_way.is_none())
        else {
            return;
        };
        let Some(next) = queue
            .waiting
            .front()
            .and_then(|id| self.deliveries.rows.get(id))
        else {
            return;
        };
        // After a restart a pause may still run: by the wall clock, which may have been set since.
        let pause = next
            .next_attempt_at
            .map_or(Duration::ZERO, |at| at.since(ctx.now.wall))
            .min(longest_pause_after(next.attempts));
        if pause.is_zero() {
            self.try_delivery(ctx, place);
        } else {
            queue.due = Some(ctx.now.boot + pause);
            self.timers
                .set(Timer::Delivery(place), ctx.now.boot + pause);
        }
    }

    /// A receiver's pause is over.
    pub(crate) fn try_delivery(&mut self, ctx: &mut Ctx, place: usize) {
        let Some(queue) = self.deliveries.queues.get_mut(place) else {
            return;
        };
        let Some(id) = queue.waiting.front().copied() else {
            return;
        };
        let Some(delivery) = self.deliveries.rows.get(&id) else {
            return;
        };
        queue.under_way = Some(id);
        let (attempt, generation) = (delivery.attempts + 1, delivery.generation);
        ctx.effects.actions.push(Action::Deliver(Box::new(Attempt {
            id,
            place,
            attempt,
            event: delivery.event.clone(),
            generation,
        })));
    }

    /// A try is over.
    pub(crate) fn delivery_attempted(&mut self, ctx: &mut Ctx, id: u64, tried: &AttemptResult) {
        let Some(place) = self
            .deliveries
            .queues
            .iter()
            .position(|queue| queue.under_way == Some(id))
        else {
            return;
        };
        let Some(queue) = self.deliveries.queues.get_mut(place) else {
            return;
        };
        queue.tried(ctx.now.boot, tried.retry_after);
        let due = queue.due_after(ctx.now.boot);
        let Some(delivery) = self.deliveries.rows.get_mut(&id) else {
            return self.wait_or_try(ctx, place);
        };
        (delivery.status, delivery.problem) = (tried.status, tried.problem.clone());
        let is_pending = delivery.state == DeliveryState::Pending;
        match (tried.status, due) {
            // Also one that became obsolete meanwhile: the receiver has it.
            (Some(200..300), _) => {
                delivery.attempts += 1;
                self.end_delivery(ctx, id, Ending::Succeeded);
            }
            (_, _) if !is_pending => self.wait_or_try(ctx, place),
            // A try ahead of the schedule leaves the schedule as it was: otherwise tries that somebody asks for would use it up.
            (status, Some(due)) if status != Some(GONE) => {
                let pause = due
                    .saturating_sub(ctx.now.boot)
                    .max(heeded(tried.retry_after));
                self.pause_delivery(ctx, (id, place), pause);
            }
            (status, _) => {
                delivery.attempts += 1;
                match pause_after(delivery.attempts, tried.retry_after, self.random.next_u64()) {
                    Some(pause) if status != Some(GONE) => {
                        self.pause_delivery(ctx, (id, place), pause);
                    }
                    Some(_) | None => {
                        self.end_delivery(ctx, id, Ending::Failed(tried.problem.clone()));
                    }
                }
            }
        }
    }

    fn pause_delivery(&mut self, ctx: &mut Ctx, (id, place): (u64, usize), pause: Duration) {
        let Some(delivery) = self.deliveries.rows.get_mut(&id) else {
            return;
        };
        delivery.next_attempt_at = Some(ctx.now.wall + pause);
        ctx.effects
            .records
            .push(Record::Delivery(Box::new(delivery.clone())));
        // Its receiver may have been removed meanwhile.
        if place_of(&self.settings.webhooks, &delivery.url) == Some(place)
            && let Some(queue) = self.deliveries.queues.get_mut(place)
        {
            queue.due = Some(ctx.now.boot + pause);
            self.timers
                .set(Timer::Delivery(place), ctx.now.boot + pause);
        }
    }

    /// A delivery is over, whether it was tried or not.
    fn end_delivery(&mut self, ctx: &mut Ctx, id: u64, ending: Ending) {
        let Some(delivery) = self.deliveries.rows.get_mut(&id) else {
            return;
        };
        let (state, problem) = match ending {
            Ending::Succeeded => (DeliveryState::Succeeded, None),
            Ending::Failed(problem) => (DeliveryState::Failed, problem),
            Ending::Obsolete => (DeliveryState::Obsolete, None),
        };
        let before = std::mem::replace(&mut delivery.state, state);
        (
            delivery.next_attempt_at,
            delivery.finished_at,
            delivery.problem,
        ) = (None, Some(ctx.now.wall), problem);
        let delivery = delivery.clone();
        ctx.effects
            .records
            .push(Record::Delivery(Box::new(delivery.clone())));
        self.deliveries.pending.remove(&id);
        if before == DeliveryState::Obsolete {
            self.deliveries.over.retain(|over| *over != id);
        }
        self.deliveries.failed.remove(&id);
        self.deliveries.file(&delivery);
        match state {
            DeliveryState::Succeeded => self.emit(
                ctx,
                EventKind::DeliverySucceeded(Box::new(ended(&delivery))),
            ),
            DeliveryState::Failed => {
                self.emit(ctx, EventKind::DeliveryFailed(Box::new(ended(&delivery))));
            }
            DeliveryState::Pending | DeliveryState::Obsolete => {}
        }
        self.leave_queue(ctx, &delivery);
        self.forget_deliveries(ctx);
    }

    fn leave_queue(&mut self, ctx: &mut Ctx, delivery: &StoredDelivery) {
        let Some(place) = place_of(&self.settings.webhooks, &delivery.url) else {
            return;
        };
        let Some(queue) = self.deliveries.queues.get_mut(place) else {
            return;
        };
        if queue
            .waiting
            .pop_front_if(|first| *first == delivery.id)
            .is_some()
        {
            // The pause was this one's.
            queue.due = None;
            self.timers.cancel(Timer::Delivery(place));
        } else if let Some(at) = queue
            .waiting
            .iter()
            .position(|waiting| *waiting == delivery.id)
        {
            queue.waiting.remove(at);
        }
        self.wait_or_try(ctx, place);
    }

    fn forget_deliveries(&mut self, ctx: &mut Ctx) {
        let surplus = self
            .deliveries
            .over
            .len()
            .saturating_sub(DELIVERIES_OVER_KEPT);
        let mut forgotten: Vec<u64> = self.deliveries.over.drain(..surplus).collect();
        while self.deliveries.failed.len() > DELIVERIES_FAILED_KEPT {
            forgotten.extend(self.deliveries.failed.pop_first());
        }
        for id in forgotten {
            self.deliveries.rows.remove(&id);
            ctx.effects.records.push(Record::DeliveryForgotten(id));
        }
    }

    /// The node is open: that it was empty must not be told any more.
    pub(crate) fn make_vanished_obsolete(&mut self, ctx: &mut Ctx) {
        let is_vanished = |id: &&u64| {
            self.deliveries
                .rows
                .get(id)
                .is_some_and(|it| it.event.kind == EventKind::SessionVanished)
        };
        let obsolete: Vec<u64> = self
            .deliveries
            .pending
            .iter()
            .filter(is_vanished)
            .copied()
            .collect();
        for id in obsolete {
            self.end_delivery(ctx, id, Ending::Obsolete);
        }
    }

    pub(crate) fn list_deliveries(&self, now: Timestamp, list: &ListDeliveries) -> Refusable<Page> {
        let before: u64 = match &list.cursor {
            Some(cursor) => cursor.parse().map_err(|_| {
                Error::invalid_params("cursor", "takes the cursor of the previous page")
            })?,
            None => u64::MAX,
        };
        let limit = rows(list.limit);
        let wanted =
            |delivery: &&StoredDelivery| list.state.is_none_or(|state| delivery.state == state);
        let mut found = self
            .deliveries
            .rows
            .range(..before)
            .rev()
            .map(|(_, delivery)| delivery)
            .filter(wanted);
        let deliveries: Vec<Delivery> = found
            .by_ref()
            .take(limit)
            .map(|delivery| self.view(now, delivery))
            .collect();
        let cursor = found
            .next()
            .and(deliveries.last())
            .map(|last| last.id.to_string());
        Ok(Page { deliveries, cursor })
    }

    pub(crate) fn resend_delivery(&mut self, ctx: &mut Ctx, id: u64) -> Refusable<Delivery> {
        let delivery = self
            .deliveries
            .rows
            .get(&id)
            .ok_or_else(|| Error::no_delivery(id))?;
        let place = place_of(&self.settings.webhooks, &delivery.url);
        let place = place.ok_or_else(|| Error::no_receiver(id))?;
        // One that was given up, or even arrived, before the node was opened again is as old as one that was not.
        let is_outdated = delivery.event.kind == EventKind::SessionVanished
            && self.opened_generation > delivery.generation;
        match delivery.state {
            DeliveryState::Obsolete | DeliveryState::Succeeded | DeliveryState::Failed
                if is_outdated =>
            {
                return Err(Error::obsolete_delivery(id));
            }
            DeliveryState::Pending => self.hasten(ctx, id, place),
            DeliveryState::Obsolete | DeliveryState::Succeeded | DeliveryState::Failed => {
                self.owe_again(ctx, id);
            }
        }
        self.deliveries
            .rows
            .get(&id)
            .map(|delivery| self.view(ctx.now, delivery))
            .ok_or_else(|| Error::no_delivery(id))
    }

    fn hasten(&mut self, ctx: &mut Ctx, id: u64, place: usize) {
        let is_next =
            self.deliveries.queues.get(place).is_some_and(|queue| {
                queue.under_way.is_none() && queue.waiting.front() == Some(&id)
            });
        if is_next {
            self.timers.cancel(Timer::Delivery(place));
            self.try_delivery(ctx, place);
        }
    }

    fn owe_again(&mut self, ctx: &mut Ctx, id: u64) {
        let Some(mut delivery) = self.deliveries.rows.remove(&id) else {
            return;
        };
        self.deliveries.failed.remove(&id);
        self.deliveries.over.retain(|over| *over != id);
        (delivery.state, delivery.attempts, delivery.finished_at) =
            (DeliveryState::Pending, 0, None);
        (delivery.status, delivery.problem) = (None, None);
        self.queue_delivery(ctx, delivery);
    }

    fn view(&self, now: Timestamp, delivery: &StoredDelivery) -> Delivery {
        // A new event may have brought the next try forward.
        let place = self
            .deliveries
            .queues
            .iter()
            .position(|queue| queue.waiting.front() == Some(&delivery.id));
        let timer = place.and_then(|place| self.timers.at(Timer::Delivery(place)));
        Delivery {
            id: delivery.id,
            state: delivery.state,
            endpoint: delivery.endpoint.clone(),
            event_type: delivery
                .event
                .kind
                .event_type()
                .unwrap_or(soramode_protocol::event::EventType::SessionVanished),
            event_id: delivery.event.id,
            seq: delivery.event.seq,
            attempts: delivery.attempts,
            created_at: delivery.created_at,
            next_attempt_at: timer
                .map(|at| now.wall + at.saturating_sub(now.boot))
                .or(delivery.next_attempt_at),
            finished_at: delivery.finished_at,
            status: delivery.status,
            problem: delivery.problem.clone(),
        }
    }
}

/// Which receiver this is.
fn place_of(webhooks: &[Webhook], url: &str) -> Option<usize> {
    webhooks
        .iter()
        .position(|webhook| webhook.is_told() && webhook.url == url)
}

fn ended(delivery: &StoredDelivery) -> DeliveryEnded {
    DeliveryEnded {
        delivery_id: delivery.id,
        event_id: delivery.event.id,
        endpoint: delivery.endpoint.clone(),
        attempts: delivery.attempts,
        status: delivery.status,
        problem: delivery.problem.clone(),
    }
}
