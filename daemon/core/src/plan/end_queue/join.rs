//! Requests for all sessions that join an earlier one.

use std::collections::BTreeSet;

use soramode_protocol::id::EndId;

use super::super::asked::Asked;
use super::super::end_request::{EndRequest, NewEnd, RequestNumber};
use super::super::stored::StoredEnd;
use super::EndQueue;
use crate::count::count;
use crate::handles::SessionSlot;

impl EndQueue {
    /// Number of sessions that all requests name together, and that are still there.
    pub(crate) fn requested_sessions(&self) -> usize {
        self.requests.values().map(|it| it.left.len()).sum()
    }

    /// Number of sessions left that this request names, or any. One that several name counts once.
    pub(crate) fn awaited_sessions(&self, id: Option<&EndId>) -> u64 {
        let is_awaited = |it: &&EndRequest| id.is_none_or(|id| it.stored.id == *id);
        let requests = self.requests.values().filter(is_awaited);
        let left: BTreeSet<SessionSlot> = requests.flat_map(|it| it.left.iter().copied()).collect();
        count(left.len())
    }

    /// Returns the number of the request that another for all sessions joins: one like it that has answered its client.
    pub(crate) fn joinable(&self, end: &StoredEnd) -> Option<RequestNumber> {
        let is_alike = |it: &EndRequest| {
            let stored = &it.stored;
            it.reply_to.is_none()
                && [&stored.channel_id, &end.channel_id] == [&None, &None]
                && [&stored.plan_id, &end.plan_id] == [&None, &None]
                && (stored.rate, &stored.reason) == (end.rate, &end.reason)
        };
        let mut requests = self.requests.iter();
        let found = requests.find(|(_, it)| is_alike(it));
        found.map(|(number, _)| *number)
    }

    /// Adds the sessions of another client's request to this one. Returns its id.
    pub(crate) fn join(&mut self, number: RequestNumber, new: NewEnd) -> Option<EndId> {
        let is_refused =
            |asked: &&Asked| asked.request == number && asked.is_failed && !asked.is_in_flight();
        let refused = count(self.asked.values().filter(is_refused).count());
        let request = self.requests.get_mut(&number)?;
        request.join(new, refused, self.problem.clone());
        Some(request.stored.id.clone())
    }
}
