//! Failed deliveries in the log: one line for all that failed at once for the same reason.

use soramode_core::outbox::{DELIVERIES_FAILED_KEPT, OVERFLOW, REMOVED};
use soramode_protocol::event::{DeliveryEnded, EventKind};

use crate::rate_limit::log_limited;

/// Lines for the deliveries of one batch, at most: there are as many receivers that one is removed with.
const LINES_MAX: usize = 16;

/// Deliveries that failed in one batch.
#[derive(Debug, Default)]
pub(crate) struct FailedDeliveries(Vec<Line>);

#[derive(Debug, PartialEq, Eq)]
struct Line {
    first: DeliveryEnded,
    deliveries: usize,
}

impl FailedDeliveries {
    /// Notes an event, if it is one of these.
    pub(crate) fn note(&mut self, kind: &EventKind) {
        let EventKind::DeliveryFailed(ended) = kind else {
            return;
        };
        let is_same = |line: &Line| {
            line.first.endpoint == ended.endpoint && line.first.problem == ended.problem
        };
        let index = self.0.iter().position(is_same).or(self
            .0
            .len()
            .checked_sub(1)
            .filter(|last| *last + 1 >= LINES_MAX));
        match index.and_then(|index| self.0.get_mut(index)) {
            Some(line) => line.deliveries += 1,
            None => self.0.push(Line {
                first: ended.as_ref().clone(),
                deliveries: 1,
            }),
        }
    }

    /// Writes them to the log.
    pub(crate) fn log(self) {
        for Line { first, deliveries } in self.0 {
            let DeliveryEnded {
                delivery_id,
                endpoint,
                attempts,
                problem,
                ..
            } = first;
            match problem.as_deref() {
                Some(REMOVED) => tracing::warn!(
                    endpoint,
                    deliveries,
                    "a receiver was removed with deliveries pending. To send the last {DELIVERIES_FAILED_KEPT} of them, add it to --webhook again, then run: \
                     soramode deliveries resend ID"
                ),
                Some(OVERFLOW) => log_limited!(
                    error,
                    endpoint,
                    deliveries,
                    "too many deliveries are pending; the oldest failed"
                ),
                _ => log_limited!(
                    error,
                    endpoint,
                    deliveries,
                    attempts,
                    problem,
                    "a delivery failed. To send it again, run: soramode deliveries resend {delivery_id}"
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(delivery_id: u64, endpoint: &str, problem: &str) -> EventKind {
        let (event_id, endpoint) = (
            "1YT8QE19QN4FKA9HGE1DD493BC".parse().unwrap(),
            endpoint.to_owned(),
        );
        let problem = Some(problem.to_owned());
        EventKind::DeliveryFailed(Box::new(DeliveryEnded {
            delivery_id,
            event_id,
            endpoint,
            attempts: 0,
            status: None,
            problem,
        }))
    }

    #[test]
    fn failures_at_once_for_one_reason_are_one_line() {
        let mut all = FailedDeliveries::default();
        for delivery_id in 1..=100_000 {
            all.note(&failed(
                delivery_id,
                if delivery_id % 2 == 0 {
                    "http://a/"
                } else {
                    "http://b/"
                },
                REMOVED,
            ));
        }
        let lines: Vec<(u64, usize)> = all
            .0
            .iter()
            .map(|line| (line.first.delivery_id, line.deliveries))
            .collect();
        assert_eq!(lines, [(1, 50_000), (2, 50_000)]);
        for number in 0..1_000 {
            all.note(&failed(number, &format!("http://{number}/"), "410 Gone"));
        }
        assert_eq!(
            (
                all.0.len(),
                all.0.iter().map(|line| line.deliveries).sum::<usize>()
            ),
            (LINES_MAX, 101_000)
        );
    }
}
