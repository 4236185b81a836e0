//! Begin of a roll: it reserves all hosts, and finds where each of them stands.

use soramode_protocol::error::Error;
use soramode_protocol::reservation::{RollStep, is_maintain};

use super::{Phase, Purpose, RollRun};
use crate::check::{Schedule, check, is_reserved_by};
use crate::{Answer, Call, CallError, HostFacts, HostIndex, Stage, Start, Stop, StopKind};

/// Rounds that a command that resumes a roll may skip, so that no other command takes the same.
const ROUNDS_SKIPPED_MAX: u64 = 1 << 20;

impl RollRun {
    pub(super) fn begin(&mut self, hosts: Vec<Result<HostFacts, String>>) {
        if let Err(stop) = check(&self.settings, &hosts) {
            return self.stop(stop);
        }
        let mut order: Vec<(&str, HostIndex)> = Vec::new();
        for (host, facts) in hosts.iter().enumerate() {
            let Ok(facts) = facts else { continue };
            order.push((facts.log_id.as_str(), host));
            let record = facts.status.reservation.as_deref();
            if let Some(record) = record.filter(|record| record.roll == self.settings.roll) {
                self.round = self.round.max(record.round);
            }
        }
        if self.settings.start != Start::New {
            self.round += self.settings.salt % ROUNDS_SKIPPED_MAX;
        }
        order.sort_unstable();
        self.order = order.into_iter().map(|(_, host)| host).collect();
        self.facts = hosts;
        self.round += 1;
        self.phase = Phase::Reserving(0);
        self.reserve_next(0);
    }

    /// Reserves the next host in the order; when all are reserved, begins with the first one.
    fn reserve_next(&mut self, number: usize) {
        if let Some(&host) = self.order.get(number) {
            self.phase = Phase::Reserving(number);
            // It may arrive although its answer does not.
            self.reserved.insert(host);
            let reserve = self.reserve(self.round, None);
            self.call(host, Purpose::Reserve, Call::Reserve(reserve));
        } else if self.settings.start == Start::New {
            self.follow_schedule();
        } else {
            self.phase = Phase::Rereading;
            for host in self.others(None) {
                self.call(host, Purpose::Reread, Call::GetStatus);
            }
        }
    }

    pub(super) fn on_reserved(&mut self, host: HostIndex, answer: Result<Answer, CallError>) {
        let Phase::Reserving(number) = self.phase else {
            return;
        };
        match answer {
            Ok(_) => self.reserve_next(number + 1),
            Err(CallError::Refused(error)) => {
                self.reserved.remove(&host);
                self.stop(Stop::on(host, StopKind::Refused, refused(error)));
            }
            Err(CallError::Lost(problem)) => {
                self.stop(Stop::on(host, StopKind::Unreachable, problem));
            }
        }
    }

    /// Takes in the status of a host of a resumed roll. The command of before may have gone on until this one had reserved the host.
    pub(super) fn on_reread(&mut self, host: HostIndex, answer: Result<Answer, CallError>) {
        if self.phase != Phase::Rereading {
            return;
        }
        let problem = match answer {
            Ok(Answer::Status(status)) => {
                if let Some(Ok(facts)) = self.facts.get_mut(host) {
                    facts.status = status;
                }
                if self.calls.is_empty() {
                    self.follow_schedule();
                }
                return;
            }
            Ok(_) => return,
            Err(CallError::Refused(error)) => error.message,
            Err(CallError::Lost(problem)) => problem,
        };
        self.stop(Stop::on(host, StopKind::Unreachable, problem));
    }

    /// Takes note of the hosts that the command of before has reserved, and that this one has not come to.
    pub(super) fn note_reserved_before(&mut self) {
        let Phase::Reserving(number) = self.phase else {
            return;
        };
        for &host in self.order.iter().skip(number + 1) {
            let facts = self.facts.get(host).and_then(|it| it.as_ref().ok());
            if facts.is_some_and(|it| is_reserved_by(&it.status, &self.settings.roll)) {
                self.reserved.insert(host);
            }
        }
    }

    /// Goes on where each host stands.
    fn follow_schedule(&mut self) {
        let schedule = match check(&self.settings, &self.facts) {
            Ok(schedule) => schedule,
            Err(stop) => return self.stop(stop),
        };
        let Schedule {
            resumed,
            closed,
            done,
            skipped,
        } = schedule;
        for host in done {
            self.show(host, Stage::At(RollStep::Done));
        }
        for host in skipped {
            self.show(host, Stage::Skipped);
        }
        self.resumed = resumed.into();
        self.queue = closed.into();
        self.next_pass = Some(self.now + crate::RENEW_PAUSE);
        self.next_host();
    }
}

/// Describes the refusal of a node that is reserved, with the remedy if the other roll has died.
fn refused(error: Error) -> String {
    let message = error.message;
    match error.data.reservation.map(|it| it.roll) {
        Some(roll) if is_maintain(&roll) => {
            format!("{message}. If that has died, wait until its reservation expires")
        }
        Some(roll) => format!(
            "{message}. If that roll has died, go on with it (--resume {roll}), or wait until its reservation expires"
        ),
        None => message,
    }
}
