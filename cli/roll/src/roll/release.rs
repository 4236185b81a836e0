//! Release of the nodes at the end of a roll.

use soramode_protocol::reservation::{Release, RollStep};

use super::{Attempt, Phase, Purpose, RollRun};
use crate::fault::Fault;
use crate::{Answer, Call, CallError, HostIndex, RELEASE_TIME_MAX, Stage};

impl RollRun {
    /// Releases the nodes: the one that may be about to be closed first. The others only if that was confirmed: else a late request
    /// could still close it, while another roll closes them.
    pub(crate) fn release(&mut self, first: Option<HostIndex>) {
        self.pass = None;
        self.next_pass = None;
        // A close that is under way may still be answered.
        let is_close = |purpose: &Purpose| *purpose == Purpose::Close;
        self.calls.retain(|_, (_, purpose)| is_close(purpose));
        // Renewals that are under way come too late from then on.
        self.next_round();
        let until = self.now + RELEASE_TIME_MAX;
        let first = first.filter(|_| !self.settings.fault.is(Fault::ReleaseAtOnce));
        if let Some(host) = first {
            self.phase = Phase::ReleasingFirst(until);
            self.send_release(host, Attempt::First);
        } else {
            self.release_all();
        }
    }

    pub(super) fn release_all(&mut self) {
        self.forget_close();
        self.phase = Phase::Releasing(self.now + RELEASE_TIME_MAX);
        for host in self.reserved.clone() {
            self.send_release(host, Attempt::First);
        }
        self.finish_if_released();
    }

    fn send_release(&mut self, host: HostIndex, attempt: Attempt) {
        let release = Release {
            roll: self.settings.roll.clone(),
            round: Some(self.round),
        };
        self.call(host, Purpose::Release(attempt), Call::Release(release));
    }

    pub(super) fn on_released(
        &mut self,
        host: HostIndex,
        attempt: Attempt,
        answer: &Result<Answer, CallError>,
    ) {
        match (answer, attempt) {
            (Ok(_), _) => drop(self.reserved.remove(&host)),
            // The connection may have been lost before: the next attempt makes a new one.
            (Err(CallError::Lost(_)), Attempt::First) => {
                return self.send_release(host, Attempt::Second);
            }
            (Err(_), _) => {}
        }
        match (&self.phase, answer) {
            (Phase::ReleasingFirst(_), Ok(_)) => self.release_all(),
            (Phase::ReleasingFirst(_), Err(_)) => self.finish(),
            _ => self.finish_if_released(),
        }
    }

    pub(super) fn finish_if_released(&mut self) {
        if matches!(self.phase, Phase::Releasing(_)) && self.calls.is_empty() {
            self.finish();
        }
    }

    /// Takes in the answer to a close that was under way when the roll stopped.
    pub(crate) fn on_late_close(&mut self, host: HostIndex, answer: &Result<Answer, CallError>) {
        match answer {
            Ok(_) => self.show(host, Stage::At(RollStep::Draining)),
            Err(CallError::Lost(_)) => self.note_unknown_close(host),
            Err(CallError::Refused(_)) => {}
        }
    }

    /// Waits no longer for the answer of a close.
    pub(super) fn forget_close(&mut self) {
        let is_close = |purpose: &Purpose| *purpose == Purpose::Close;
        let unanswered = self.calls.iter().find(|(_, (_, it))| is_close(it));
        if let Some((&id, &(host, _))) = unanswered {
            self.calls.remove(&id);
            self.note_unknown_close(host);
        }
    }

    pub(super) fn note_unknown_close(&mut self, host: HostIndex) {
        if let Some(stop) = &mut self.stop {
            stop.host.get_or_insert(host);
            stop.problem
                .push_str(". The answer to its close was lost: the node may be closed");
        }
    }
}
