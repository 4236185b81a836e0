//! Actions of operators, and incidents of the machine.

use std::time::Duration;

use soramode_core::commit_failure::Refused;
use soramode_core::effect::Action;
use soramode_core::input::{HostState, Input, Subscribers};
use soramode_core::settings::SfuAdmission;
use soramode_protocol::end::End;
use soramode_protocol::mode::{ChangeMode, Mode, SettableMode};
use soramode_protocol::plan::{CancelPlan, EndRate, PlanStep, RISK_OF_END, StartPlan};
use soramode_protocol::reply::Reply;
use soramode_protocol::request::GateRequest;
use soramode_protocol::time::Time;

use super::guarantees::RATE;
use super::naive::{Facts, Naive};
use super::reach::draw_means;
use super::world::{OPS, World, restore};

impl World {
    pub(super) fn start_plan(&mut self) -> Result<(), String> {
        let mut start = StartPlan::now(self.steps());
        let rng = &mut self.rng;
        if rng.one_in(3) {
            let ahead = Duration::from_secs(rng.below(900));
            start.at = Some(self.now.wall + ahead);
        }
        start.accept_risk = Some(RISK_OF_END.to_owned());
        start.max_delay_seconds = Some(60 + rng.below(600));
        start.replace = rng.one_in(2);
        self.last_start = Some(start.clone());
        self.start(start)
    }

    /// Repeats the last command, which changes nothing.
    pub(super) fn repeat_start(&mut self) -> Result<(), String> {
        let runs = self
            .naive
            .as_ref()
            .is_some_and(|naive| naive.over.is_none());
        match self.last_start.clone().filter(|_| runs) {
            Some(start) => self.start(start),
            None => Ok(()),
        }
    }

    pub(super) fn start(&mut self, start: StartPlan) -> Result<(), String> {
        self.input(Input::Tick, Facts::default())?;
        // The gate says whether it is started; what follows is compared.
        let mut trial = Facts::default();
        let now = self.now;
        self.step += 1;
        self.trace.push(format!("@{:?} {start:?}", now.boot));
        let before = self.look()?;
        let effects = self.step_gate(Input::Request {
            reply_to: OPS,
            actor: "uid:1000(ops)".into(),
            request: GateRequest::StartPlan(Box::new(start.clone())),
        });
        for record in &effects.records {
            self.trace.push(format!("    {record:?}"));
            self.ledger.read(record);
        }
        for action in &effects.actions {
            self.trace.push(format!("    {action:?}"));
        }
        let started = effects.actions.iter().find_map(|action| match action {
            Action::Answer(_, Ok(Reply::PlanStarted(started))) => Some(started.as_ref()),
            _ => None,
        });
        match started {
            Some(started) if started.created => {
                let means = self.means();
                if !start.steps.iter().all(|step| means.suffice(step)) {
                    return Err("6: a plan is started without means for its steps".to_owned());
                }
                trial.started = Some((started.plan.id.clone(), start));
            }
            Some(started) => {
                let is_same = before.1.as_ref() == Some(&started.plan);
                if !is_same && before.1.as_ref().is_some_and(|plan| plan.outcome.is_some()) {
                    return Err(format!("5: the same plan is another: {started:?}"));
                }
            }
            None => {}
        }
        let (status, plan) = self.look()?;
        self.take_facts(&mut trial, &effects, &status);
        if let Some(mut naive) = Naive::started(&trial, now) {
            naive.step(now, &trial, &effects);
            self.naive = Some(naive);
        } else if let Some(naive) = &mut self.naive {
            naive.step(now, &trial, &effects);
        }
        if let (Some(naive), Some(plan)) = (&self.naive, &plan) {
            naive.compare(now, &status, plan)?;
        }
        self.take_actions(&effects, status.mode.mode)
    }

    pub(super) fn steps(&mut self) -> Vec<PlanStep> {
        let rng = &mut self.rng;
        let mut steps = Vec::new();
        let mut at = 0;
        if rng.one_in(3) {
            let at_seconds = -1 - i64::try_from(rng.below(60)).unwrap();
            steps.push(PlanStep::Unready { at_seconds });
        }
        let mode = if rng.one_in(3) {
            SettableMode::BlockNewConnection
        } else {
            SettableMode::BlockNewSession
        };
        steps.push(PlanStep::Mode {
            at_seconds: 0,
            mode,
        });
        if rng.one_in(3) {
            at += i64::try_from(rng.below(60)).unwrap();
            steps.push(PlanStep::Mode {
                at_seconds: at,
                mode: SettableMode::BlockNewConnection,
            });
        }
        for _ in 0..rng.below(3) {
            at += i64::try_from(rng.below(60)).unwrap();
            steps.push(PlanStep::Announce {
                at_seconds: at,
                text: None,
                data: None,
            });
        }
        if !rng.one_in(4) {
            at += i64::try_from(rng.below(60)).unwrap();
            steps.push(PlanStep::End {
                at_seconds: at,
                per_minute: Some(EndRate::PerMinute(u32::try_from(RATE).unwrap())),
            });
        }
        steps
    }

    pub(super) fn cancel_plan(&mut self) -> Result<(), String> {
        let runs = self
            .naive
            .as_ref()
            .is_some_and(|naive| naive.over.is_none());
        let facts = Facts {
            cancelled: runs,
            ..Facts::default()
        };
        self.request(GateRequest::CancelPlan(CancelPlan::default()), facts)
            .map(drop)
    }

    pub(super) fn change_mode(&mut self) -> Result<(), String> {
        let modes = SettableMode::ALL;
        let mode = modes[usize::try_from(self.rng.below(3)).unwrap()];
        self.input(Input::Tick, Facts::default())?;
        let before = self.look()?.0.mode.mode;
        let mut change = ChangeMode::to(mode);
        if mode != SettableMode::Normal && self.rng.one_in(3) {
            change.expires_in_seconds = Some(1 + self.rng.below(120));
        }
        let is_allowed = !self.storage_failed
            || (Mode::from(mode) == before && change.expires_in_seconds.is_none());
        let loosens = mode == SettableMode::BlockNewSession && before == Mode::BlockNewConnection;
        // A deadline that came before may have opened it.
        let facts = Facts {
            operator_opened: mode == SettableMode::Normal && is_allowed,
            loosened_to: (loosens && is_allowed).then_some(mode.into()),
            ..Facts::default()
        };
        self.request(GateRequest::ChangeMode(Box::new(change)), facts)
            .map(drop)
    }

    pub(super) fn end_or_announce(&mut self) -> Result<(), String> {
        if self.rng.one_in(2) {
            return self
                .request(GateRequest::Announce(Box::default()), Facts::default())
                .map(drop);
        }
        self.input(Input::Tick, Facts::default())?;
        self.guarantees.is_end_wanted = true;
        let end = End {
            all: true,
            per_minute: self.rng.one_in(2).then_some(EndRate::PerMinute(10)),
            ..End::default()
        };
        self.request(GateRequest::End(end), Facts::default())
            .map(drop)
    }

    pub(super) fn disk(&mut self) -> Result<(), String> {
        self.storage_failed = !self.storage_failed;
        let input = if self.storage_failed {
            Input::StorageFailed(Refused::default())
        } else {
            Input::StorageRestored
        };
        self.input(input, Facts::default()).map(drop)
    }

    pub(super) fn set_clock(&mut self) -> Result<(), String> {
        let seconds = i64::try_from(self.rng.below(1_800)).unwrap() - 900;
        self.now.wall = Time::from_micros(self.now.wall.as_micros() + seconds * 1_000_000);
        self.input(Input::WallClockSet, Facts::default()).map(drop)
    }

    pub(super) fn restart(&mut self) -> Result<(), String> {
        if self.storage_failed {
            return Ok(());
        }
        let host = if self.rng.one_in(3) {
            HostState::Rebooted
        } else {
            HostState::Running
        };
        let downtime = Duration::from_secs(self.rng.below(60) * self.rng.below(10));
        self.pass(downtime);
        if host == HostState::Rebooted {
            self.now.boot = Duration::from_secs(1 + self.rng.below(20));
            self.guarantees.rebooted();
            self.clients.clear();
        }
        self.settings.mode = self.rng.one_in(8).then_some(SettableMode::Normal);
        self.settings.sfu.admission = if self.rng.one_in(8) {
            SfuAdmission::Shadow
        } else {
            SfuAdmission::Enforced
        };
        if self.rng.one_in(3) {
            self.settings.sfu.means = draw_means(&mut self.rng);
        }
        self.subscribers = Subscribers::default();
        self.starts += 1;
        self.calls.clear();
        self.attempts.clear();
        self.guarantees.restarted();
        self.reaches.restarted();
        let mut stored = self.ledger.stored();
        if host == HostState::Rebooted {
            stored.expires_at_boot = None;
        }
        let was_open = stored.mode.as_ref().is_none_or(|it| !it.mode.is_block());
        let opens = self.settings.mode.is_some();
        if opens && !was_open {
            self.guarantees.is_end_wanted = false;
        }
        self.gate = restore(&self.settings, self.now, (stored, self.starts), self.fault);
        let facts = Facts {
            rebooted: host == HostState::Rebooted,
            system_opened: opens && !was_open,
            ..Facts::default()
        };
        self.input(Input::Started(host), facts).map(drop)
    }
}
