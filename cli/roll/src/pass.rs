//! A pass over all hosts, in a round of its own: it renews their reservations, and looks at them before the present one is closed.
//!
//! The order is what keeps two rolls apart: the node that is to be closed is renewed first, so its reservation is the first to expire.

use std::collections::BTreeSet;
use std::time::Duration;

use soramode_protocol::reservation::RollStep;

use crate::check::{is_open, is_reserved_by};
use crate::fault::Fault;
use crate::pass_state::{Pass, PassResult, PassStage};
use crate::roll::{Job, Phase, Purpose, RollRun};
use crate::{Answer, Call, CallError, HostIndex, OPEN_PAUSE, RENEW_PAUSE};

impl RollRun {
    /// Begins a pass in the next round.
    pub(crate) fn begin_pass(&mut self) {
        self.next_pass = None;
        let round = if self.settings.fault.is(Fault::SameRound) {
            self.round()
        } else {
            self.next_round()
        };
        let (first, step) = match &self.phase {
            Phase::Working(host, Job::Prepare { .. }) => (Some(*host), Some(RollStep::Draining)),
            Phase::Working(host, Job::AwaitClose { .. }) => (Some(*host), None),
            _ => (None, None),
        };
        let mut pass = Pass {
            round,
            first,
            stage: PassStage::Others,
            pending: self.others(first).into_iter().collect(),
            renewed: BTreeSet::new(),
            open: BTreeSet::new(),
            status: None,
        };
        match first {
            Some(host) if !self.settings.fault.is(Fault::RenewLast) => {
                pass.stage = PassStage::First;
                pass.pending = BTreeSet::from([host]);
                let reserve = self.reserve(round, step);
                self.call(host, Purpose::Renew, Call::Reserve(reserve));
            }
            Some(_) | None => self.renew(&pass),
        }
        self.pass = Some(pass);
        self.advance_pass();
    }

    /// Renews the hosts that have not answered.
    fn renew(&mut self, pass: &Pass) {
        for &host in &pass.pending {
            let reserve = self.reserve(pass.round, None);
            self.call(host, Purpose::Renew, Call::Reserve(reserve));
        }
    }

    pub(crate) fn on_renewed(&mut self, host: HostIndex, answer: &Result<Answer, CallError>) {
        if let Some(pass) = &mut self.pass
            && pass.pending.remove(&host)
        {
            if answer.is_ok() {
                pass.renewed.insert(host);
            }
            self.advance_pass();
        }
    }

    pub(crate) fn on_looked(&mut self, host: HostIndex, answer: Result<Answer, CallError>) {
        let Some(pass) = &mut self.pass else { return };
        if !pass.pending.remove(&host) {
            return;
        }
        if let Ok(Answer::Status(status)) = answer {
            if pass.first == Some(host) {
                pass.status = Some(status);
            } else if is_open(&status) && is_reserved_by(&status, &self.settings.roll) {
                pass.open.insert(host);
            }
        }
        self.advance_pass();
    }

    /// Returns whether this host is about to be closed, by a request or by a plan.
    fn is_about_to_close(&self, host: HostIndex) -> bool {
        match self.phase {
            Phase::Working(present, Job::Prepare { .. } | Job::AwaitClose { .. }) => {
                present == host
            }
            _ => false,
        }
    }

    /// Goes on with the next stage once all answers are there.
    fn advance_pass(&mut self) {
        let Some(mut pass) = self.pass.take_if(|pass| pass.pending.is_empty()) else {
            return;
        };
        match (pass.stage, pass.first) {
            (PassStage::First, Some(first)) if pass.renewed.contains(&first) => {
                pass.stage = PassStage::Others;
                pass.pending = self.others(Some(first)).into_iter().collect();
                self.renew(&pass);
                self.pass = Some(pass);
                self.advance_pass();
            }
            (PassStage::Others, Some(first)) => {
                if self.settings.fault.is(Fault::RenewLast) && pass.renewed.insert(first) {
                    pass.pending = BTreeSet::from([first]);
                    self.renew(&pass);
                    self.pass = Some(pass);
                    return;
                }
                pass.stage = PassStage::Look;
                pass.pending.clone_from(&pass.renewed);
                for &host in &pass.renewed {
                    self.call(host, Purpose::Look, Call::GetStatus);
                }
                self.pass = Some(pass);
                self.advance_pass();
            }
            (PassStage::First | PassStage::Look, Some(host)) if self.is_about_to_close(host) => {
                self.next_pass = Some(self.now + OPEN_PAUSE);
                let result = PassResult {
                    host,
                    round: pass.round,
                    status: pass.status,
                    open: pass.open.len(),
                };
                self.on_pass_over(&result);
            }
            // Another host is prepared by now, which needs a pass of its own at once.
            (_, _) => {
                let pause = match self.phase {
                    Phase::Working(_, Job::Prepare { .. }) => Duration::ZERO,
                    _ => RENEW_PAUSE,
                };
                self.next_pass = Some(self.now + pause);
            }
        }
    }
}
