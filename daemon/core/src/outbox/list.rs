//! Deliveries in lists, and sent again on request.

use soramode_protocol::delivery::{Deliveries, Delivery, DeliveryState, ListDeliveries};
use soramode_protocol::error::Error;
use soramode_protocol::event::{EventKind, EventType};

use super::Outbox;
use crate::ctx::Ctx;
use crate::handles::{DeliveryId, ReceiverIndex, Timestamp};
use crate::stored::StoredDelivery;
use crate::tables::lists::page_size;
use crate::timers::{Timer, Timers};

impl Outbox {
    pub(crate) fn list(
        &self,
        timers: &Timers,
        now: Timestamp,
        list: &ListDeliveries,
    ) -> Result<Deliveries, Error> {
        let before = match &list.cursor {
            Some(cursor) => cursor.parse().map(DeliveryId).map_err(|_| {
                Error::invalid_params("cursor", "takes the cursor of the previous page")
            })?,
            None => DeliveryId(u64::MAX),
        };
        let is_wanted =
            |delivery: &&StoredDelivery| list.state.is_none_or(|state| delivery.state == state);
        let mut found = self
            .rows
            .range(..before)
            .rev()
            .map(|(_, delivery)| delivery)
            .filter(is_wanted);
        let deliveries: Vec<Delivery> = found
            .by_ref()
            .take(page_size(list.limit))
            .map(|delivery| self.shown(timers, now, delivery))
            .collect();
        let cursor = found
            .next()
            .and(deliveries.last())
            .map(|last| last.id.to_string());
        Ok(Deliveries { deliveries, cursor })
    }

    /// Sends a delivery again, or at once if it is pending. `opened_generation` is the last generation of the mode that opened the node.
    pub(crate) fn resend(
        &mut self,
        ctx: &mut Ctx,
        id: DeliveryId,
        opened_generation: u64,
    ) -> Result<Delivery, Error> {
        let delivery = self.rows.get(&id).ok_or_else(|| Error::no_delivery(id.0))?;
        let receiver = self
            .receiver(&delivery.url)
            .ok_or_else(|| Error::no_receiver(id.0))?;
        // One that failed, or even succeeded, before the node was opened again is as outdated as one that is obsolete.
        let is_outdated = delivery.event.kind == EventKind::SessionVanished
            && opened_generation > delivery.generation;
        match delivery.state {
            DeliveryState::Obsolete | DeliveryState::Succeeded | DeliveryState::Failed
                if is_outdated =>
            {
                return Err(Error::obsolete_delivery(id.0));
            }
            DeliveryState::Pending => self.retry_now(ctx, id, receiver),
            DeliveryState::Obsolete | DeliveryState::Succeeded | DeliveryState::Failed => {
                self.requeue(ctx, id);
            }
        }
        self.rows
            .get(&id)
            .map(|delivery| self.shown(ctx.timers, ctx.now, delivery))
            .ok_or_else(|| Error::no_delivery(id.0))
    }

    fn retry_now(&mut self, ctx: &mut Ctx, id: DeliveryId, receiver: ReceiverIndex) {
        let is_next = self
            .queues
            .get(receiver.0)
            .is_some_and(|queue| queue.in_flight.is_none() && queue.waiting.front() == Some(&id));
        if is_next {
            ctx.timers.cancel(Timer::Delivery(receiver));
            self.send_next(ctx, receiver);
        }
    }

    fn requeue(&mut self, ctx: &mut Ctx, id: DeliveryId) {
        let Some(mut delivery) = self.rows.remove(&id) else {
            return ctx.bug("a delivery to send again is not stored");
        };
        self.failed.remove(&id);
        self.finished.retain(|finished| *finished != id);
        delivery.state = DeliveryState::Pending;
        delivery.attempts = 0;
        delivery.finished_at = None;
        (delivery.status, delivery.problem) = (None, None);
        self.add(ctx, delivery);
    }

    fn shown(&self, timers: &Timers, now: Timestamp, delivery: &StoredDelivery) -> Delivery {
        // A new event may have brought the next attempt forward.
        let receiver = self
            .queues
            .iter()
            .position(|queue| queue.waiting.front() == Some(&delivery.id))
            .map(ReceiverIndex);
        let timer = receiver.and_then(|receiver| timers.at(Timer::Delivery(receiver)));
        Delivery {
            id: delivery.id.0,
            state: delivery.state,
            endpoint: delivery.endpoint.clone(),
            event_type: delivery
                .event
                .kind
                .event_type()
                .unwrap_or(EventType::SessionVanished),
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
