//! Calls that have no outcome yet.

use std::time::Duration;

use soramode_protocol::id::PlanId;

use super::super::asked::{Asked, AskedState};
use super::super::calls::CallId;
use super::super::end_request::EndRequest;
use super::EndQueue;
use crate::count::count;

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

    /// Takes back a call that was never made: each request that had turned to the session asks it anew. Returns the number of sessions that the
    /// plan no longer counts as asked.
    pub(crate) fn retract_call(&mut self, id: CallId) -> u64 {
        let Some(slot) = self.calls.remove(&id) else {
            return 0;
        };
        self.limiter.on_retracted();
        if let Some(asked) = self.calls_of_gone.remove(&id) {
            if let Some(request) = self.requests.get_mut(&asked.request) {
                let in_flight = &mut request.counts.in_flight;
                *in_flight = in_flight.saturating_sub(u64::from(asked.tries == 1));
            }
            return 0;
        }
        let Some(mut asked) = self.asked.remove(&slot) else {
            return 0;
        };
        let is_first = asked.tries == 1;
        if !is_first && self.requests.contains_key(&asked.request) {
            // It was asked before: it counts as asked, and only the retry is made anew.
            asked.tries -= 1;
            asked.state = AskedState::RetryAt(Duration::ZERO);
            self.retries.insert((Duration::ZERO, slot));
            self.asked.insert(slot, asked);
            return 0;
        }
        for (number, request) in &mut self.requests {
            if request.give_back(slot) {
                let counts = &mut request.counts;
                let counted = match (*number == asked.request, asked.is_failed) {
                    (true, _) => &mut counts.in_flight,
                    (false, true) => &mut counts.failed,
                    (false, false) => &mut counts.asked,
                };
                *counted = counted.saturating_sub(1);
            }
        }
        let requests = self.requests.values_mut().filter(|_| is_first);
        count(requests.filter_map(|it| it.counted.take(&slot)).count())
    }

    /// Hands sessions that stopped requests have asked over to other requests that count them as asked. The other sessions are asked anew if
    /// another request names them; calls in flight still have an outcome.
    pub(super) fn hand_over(&mut self, is_stopped: impl Fn(&Asked) -> bool) {
        self.asked.retain(|slot, asked| {
            if !is_stopped(asked) {
                return true;
            }
            let has_turned_to =
                |it: &EndRequest| it.left.contains(slot) && !it.unasked.contains(slot);
            let mut requests = self.requests.iter_mut();
            if let Some((number, request)) = requests.find(|(_, it)| has_turned_to(it)) {
                asked.request = *number;
                if asked.is_in_flight() && asked.tries == 1 {
                    // Its outcome is counted when it comes.
                    request.counts.asked = request.counts.asked.saturating_sub(1);
                    request.counts.in_flight += 1;
                }
                return true;
            }
            if let AskedState::RetryAt(at) = asked.state {
                self.retries.remove(&(at, *slot));
            }
            asked.is_in_flight()
        });
    }
}
