//! Log lines about requests to end sessions that no plan made: one with each answer, and one when the sessions that had failed then are over.

use std::collections::VecDeque;

use soramode_core::effect::{EndOutcome, Record};
use soramode_core::plan::END_REQUESTS_MAX;
use soramode_protocol::end::Ended;
use soramode_protocol::error::ErrorType;
use soramode_protocol::event::{EndRequested, EventKind};
use soramode_protocol::id::EndId;
use soramode_protocol::reply::{Answer, Reply};

/// Requests that are not answered yet, or of which sessions had failed; the latest first.
#[derive(Debug, Default)]
pub(crate) struct EndLog(VecDeque<Noted>);

#[derive(Debug)]
struct Noted {
    id: EndId,
    actor: String,
    /// Number of sessions that had failed when it was answered.
    failed: Option<u64>,
    is_over: bool,
}

impl EndLog {
    /// Notes a record, if it is about one of these.
    pub(crate) fn note(&mut self, record: &Record) {
        match record {
            Record::EndFinished { id, outcome } => self.finished(id, *outcome),
            Record::Event(event) => {
                if let EventKind::EndRequested(end) = &event.kind {
                    self.requested(end);
                }
            }
            _ => {}
        }
    }

    fn requested(&mut self, end: &EndRequested) {
        if end.plan_id.is_some() {
            return;
        }
        // A request for all sessions may have joined an earlier one.
        self.0.retain(|it| it.id != end.end_id);
        self.0.truncate(END_REQUESTS_MAX - 1);
        self.0.push_front(Noted {
            id: end.end_id.clone(),
            actor: end.actor.clone(),
            failed: None,
            is_over: false,
        });
    }

    /// Logs whether a request to end sessions was carried out.
    pub(crate) fn answered(&mut self, answer: &Answer) {
        match answer {
            Ok(Reply::Ended(ended)) => self.ended(ended),
            Err(refused) if refused.data.error_type == ErrorType::CannotEndSessions => {
                tracing::info!("request to end sessions refused: {}", refused.message);
            }
            Ok(_) | Err(_) => {}
        }
    }

    fn ended(&mut self, ended: &Ended) {
        let Some(place) = self.place(ended.id.as_ref()) else {
            return;
        };
        let Some(noted) = self.0.get_mut(place) else {
            return;
        };
        let (actor, sessions, failed) = (&noted.actor, ended.sessions, ended.failed);
        let problem = ended.problem.as_deref();
        tracing::warn!(
            actor,
            sessions,
            failed,
            problem,
            "asked to end sessions, as requested"
        );
        noted.failed = Some(failed);
        if noted.is_over || failed == 0 {
            self.0.remove(place);
        }
    }

    fn finished(&mut self, id: &EndId, outcome: EndOutcome) {
        let Some(place) = self.place(Some(id)) else {
            return;
        };
        let Some(noted) = self.0.get_mut(place) else {
            return;
        };
        let Some(failed) = noted.failed else {
            // Its answer comes after this.
            noted.is_over = true;
            return;
        };
        let actor = &noted.actor;
        match outcome {
            EndOutcome::Ended => {
                tracing::warn!(
                    actor,
                    failed,
                    "the sessions that could not be ended at first have ended"
                );
            }
            EndOutcome::Stopped => tracing::warn!(
                actor,
                failed,
                "the request to end sessions was stopped: not all of them were ended"
            ),
        }
        self.0.remove(place);
    }

    fn place(&self, id: Option<&EndId>) -> Option<usize> {
        self.0.iter().position(|it| Some(&it.id) == id)
    }
}

#[cfg(test)]
mod tests {
    use soramode_protocol::end::EndMethod;

    use super::*;

    fn requested(number: u8) -> EndRequested {
        EndRequested {
            end_id: EndId::generate([number; 16]),
            plan_id: None,
            actor: "uid:1000(ops)".to_owned(),
            reason: None,
            channel_id: None,
            sessions: 2,
        }
    }

    fn ended(end: &EndRequested, failed: u64) -> Reply {
        Reply::Ended(Ended {
            sessions: 2 - failed,
            via: EndMethod::SoraApi,
            failed,
            problem: (failed > 0).then(|| "no answer in time".to_owned()),
            id: Some(end.end_id.clone()),
        })
    }

    fn finished(end: &EndRequested) -> Record {
        Record::EndFinished {
            id: end.end_id.clone(),
            outcome: EndOutcome::Ended,
        }
    }

    #[test]
    fn a_request_is_kept_until_it_is_answered_and_one_that_failed_until_it_is_over() {
        let mut log = EndLog::default();
        let (good, bad, early) = (requested(1), requested(2), requested(3));
        for end in [&good, &bad, &early] {
            log.requested(end);
        }
        log.answered(&Ok(ended(&good, 0)));
        assert_eq!(log.0.len(), 2);
        log.answered(&Ok(ended(&bad, 1)));
        assert_eq!(log.0.len(), 2, "sessions of it are left");
        log.note(&finished(&early));
        assert_eq!(log.0.len(), 2, "it is not answered yet");
        log.answered(&Ok(ended(&early, 1)));
        log.note(&finished(&bad));
        log.note(&finished(&bad));
        assert!(log.0.is_empty());
    }

    #[test]
    fn requests_that_never_end_are_forgotten_from_a_number_on() {
        let mut log = EndLog::default();
        for number in 0..2 * END_REQUESTS_MAX {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_be_bytes());
            log.requested(&EndRequested {
                end_id: EndId::generate(id),
                ..requested(0)
            });
        }
        assert_eq!(log.0.len(), END_REQUESTS_MAX);
    }
}
