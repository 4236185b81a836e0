//! Calls that have no outcome yet.

use soramode_protocol::id::PlanId;

use super::super::calls::CallId;
use super::EndQueue;

impl EndQueue {
    /// Returns whether a call has no outcome yet.
    pub(crate) fn has_call(&self, id: CallId) -> bool {
        self.calls.contains_key(&id)
    }

    /// Returns whether a call was made for a request of this plan, or for any.
    pub(crate) fn is_call_of(&self, id: CallId, plan_id: Option<&PlanId>) -> bool {
        let asked = self.calls.get(&id).and_then(|slot| self.asked.get(slot));
        let request = asked.and_then(|asked| self.requests.get(&asked.request));
        request.is_some_and(|it| plan_id.is_none() || it.stored.plan_id.as_ref() == plan_id)
    }

    /// Takes back a call that was never made. Returns the plan that so has asked one session less.
    pub(crate) fn retract_call(&mut self, id: CallId) -> Option<PlanId> {
        let slot = self.calls.remove(&id)?;
        self.limiter.on_retracted();
        if let Some(asked) = self.calls_of_gone.remove(&id) {
            let request = self.requests.get_mut(&asked.request)?;
            request.counts.in_flight = request.counts.in_flight.saturating_sub(1);
            return None;
        }
        let asked = self.asked.remove(&slot)?;
        if let Some(request) = self.requests.get_mut(&asked.request) {
            request.counts.in_flight = request
                .counts
                .in_flight
                .saturating_sub(u64::from(asked.tries == 1));
            request.unasked.insert(slot);
            request.waiting.push_front(slot);
        }
        let request = self.requests.get(&asked.request)?;
        let plan_id = request.stored.plan_id.clone();
        plan_id.filter(|_| asked.tries == 1)
    }
}
