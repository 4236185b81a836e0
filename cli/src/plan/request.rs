//! The plan that the flags of `drain` or `maintain` ask for, and how to wait for it.

use std::time::Duration;

use jiff::Zoned;
use soramode_protocol::mode::SettableMode;
use soramode_protocol::plan::{Plan, PlanState, PlanStep, StartPlan};
use soramode_protocol::wait::{Wait, WaitFor};

use super::flags::{PlanFlags, seconds, usage};
use crate::error::Failure;
use crate::expected_end::read_until;
use crate::flags::{TIMEOUT_DEFAULT, WaitFlags};
use crate::output::times;
use crate::typed_time::TypedTime;
use crate::wait::Then;

/// Flags of `drain` that set when it closes the node and when it returns.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct StartFlags {
    /// Close the node at this time, and return at once
    ///
    /// Such as '2026-12-01 02:00', '2026-12-01 02:00 Asia/Tokyo', 2026-12-01T02:00+09:00, or 02:00 for today. Without a zone or an offset it is
    /// a time of this machine's zone.
    #[arg(
        long,
        value_name = "TIME",
        help_heading = "Plan options",
        hide_short_help = true
    )]
    at: Option<String>,
    /// Replace the plan that is there
    ///
    /// The steps of the new plan run from now on. Without it, another plan is refused (exit 5); the same plan again changes nothing. Also makes a
    /// plan where no other option asks for one, and closes a node that is reserved for a roll.
    #[arg(long, help_heading = "Plan options", hide_short_help = true)]
    replace: bool,
    /// With --at: wait until the plan is over
    #[arg(
        long,
        conflicts_with = "no_wait",
        help_heading = "Plan options",
        hide_short_help = true
    )]
    pub(crate) wait: bool,
    /// Return once the node is closed, or the plan is started
    #[arg(long, help_heading = "Plan options", hide_short_help = true)]
    pub(crate) no_wait: bool,
}

impl StartFlags {
    /// Returns whether the time of the close was given.
    pub(crate) const fn has_time(&self) -> bool {
        self.at.is_some()
    }
}

/// Options of a drain that a plan goes by.
#[derive(Clone, Copy)]
pub(crate) struct DrainOptions<'a> {
    /// The mode of the close.
    pub(crate) mode: SettableMode,
    pub(crate) reason: Option<&'a str>,
    /// The expected end, as it is typed.
    pub(crate) until: Option<&'a str>,
    pub(crate) keep_open: Option<u64>,
    pub(crate) requires_published: bool,
    pub(crate) limits: &'a WaitFlags,
    pub(crate) max_sessions: u64,
    pub(crate) settle: Duration,
    /// The mode is to be restored on a timeout.
    pub(crate) undoes: bool,
}

impl DrainOptions<'_> {
    /// Returns the first flag of the wait that was given.
    fn flag_of_wait(&self) -> Option<&'static str> {
        let flags = [
            ("--timeout", self.limits.timeout().is_some()),
            ("--on-timeout undo", self.undoes),
        ];
        let given = flags.into_iter().find(|(_, is_given)| *is_given);
        given
            .map(|(flag, _)| flag)
            .or_else(|| self.flag_of_condition())
    }

    /// Returns the first flag that was given of those that change the condition of the wait.
    fn flag_of_condition(&self) -> Option<&'static str> {
        let flags = [
            ("--max-sessions", self.max_sessions > 0),
            ("--settle", !self.settle.is_zero()),
            ("--assume-complete", self.limits.assume_complete),
        ];
        flags
            .into_iter()
            .find(|(_, is_given)| *is_given)
            .map(|(flag, _)| flag)
    }

    /// Refuses the flags of a wait where there is none.
    pub(crate) fn check_no_wait(&self) -> Result<(), Failure> {
        match self.flag_of_wait() {
            Some(flag) => Err(usage(
                &format!("{flag} works only while soramode waits"),
                "Leave it out, or have it wait: without --no-wait, and with --wait if there is an --at",
            )),
            None => Ok(()),
        }
    }
}

/// A plan to start.
#[derive(Debug)]
pub(crate) struct NewPlan {
    pub(super) request: StartPlan,
    pub(super) close_time: Option<TypedTime>,
    /// The command waits until the plan is over.
    pub(crate) waits: bool,
    /// The condition of the wait once the node is closed, if it is another than the end of the plan.
    pub(super) after_close: Option<Wait>,
    pub(super) requires_published: bool,
    /// Work that follows: `maintain` has no flag `--replace`.
    pub(super) then: Then,
    /// The limit that was typed; zero is never.
    timeout: Option<Duration>,
}

impl NewPlan {
    /// Returns the request that starts it.
    pub(crate) const fn request(&self) -> &StartPlan {
        &self.request
    }

    /// Returns the condition of the wait once the node is closed, if it is another than the end of the plan.
    pub(crate) const fn after_close(&self) -> Option<&Wait> {
        self.after_close.as_ref()
    }

    /// Reads the flags, of `maintain` without those of the start; `None` if they ask for a drain without a plan.
    pub(crate) fn read(
        flags: &PlanFlags,
        start: Option<&StartFlags>,
        drain: &DrainOptions<'_>,
    ) -> Result<Option<Self>, Failure> {
        let then = match start {
            Some(_) => Then::Nothing,
            None => Then::Command,
        };
        let default = StartFlags::default();
        let start = start.unwrap_or(&default);
        if !flags.is_given() && start.at.is_none() && !start.replace {
            return Ok(None);
        }
        let steps = flags.steps(drain.mode)?;
        let close_time = start
            .at
            .as_deref()
            .map(|at| TypedTime::read("--at", at, &Zoned::now()))
            .transpose()?;
        let waits = if close_time.is_some() {
            start.wait
        } else {
            !start.no_wait
        };
        let plan = Self {
            request: StartPlan {
                at: close_time.as_ref().map(TypedTime::time),
                steps,
                reason: drain.reason.map(str::to_owned),
                accept_risk: flags.accept_risk(),
                max_delay_seconds: flags.max_delay_seconds(),
                expected_end_at: read_until(drain.until)?,
                keep_open: drain.keep_open,
                replace: start.replace,
                roll: None,
                round: None,
                on_behalf_of: None,
            },
            close_time,
            waits,
            after_close: drain.flag_of_condition().map(|_| Wait {
                max_sessions: Some(drain.max_sessions).filter(|sessions| *sessions > 0),
                settle_seconds: Some(drain.settle.as_secs_f64())
                    .filter(|_| !drain.settle.is_zero()),
                assume_complete: drain.limits.assume_complete,
                assume_in_force: drain.limits.assume_in_force,
                ..Wait::new(WaitFor::Drained)
            }),
            requires_published: drain.requires_published,
            then,
            timeout: drain.limits.timeout(),
        };
        plan.check(drain)?;
        plan.request.check()?;
        Ok(Some(plan))
    }

    fn check(&self, drain: &DrainOptions<'_>) -> Result<(), Failure> {
        if !self.waits {
            drain.check_no_wait()?;
        }
        if drain.undoes {
            return Err(usage(
                "--on-timeout undo does not work with a plan, which goes on after a timeout",
                "To stop a plan and open the node: soramode open",
            ));
        }
        if let (Some(at), Some(end)) = (self.request.at, self.request.expected_end_at)
            && end <= at
        {
            return Err(usage(
                "--until is not after --at, at which the node closes",
                "Use a later one, or leave it out",
            ));
        }
        let closes_later = self.close_time.is_some() || self.first_step() < 0;
        if self.requires_published && closes_later {
            return Err(usage(
                "--require-published works only if the node closes at once",
                "Leave it out, or leave out --at and --lead",
            ));
        }
        let Some(end) = self.end() else { return Ok(()) };
        if let Some(flag) = drain.flag_of_condition() {
            return Err(usage(
                &format!("{flag} does not work with --end-after, which ends every session"),
                "Leave out one of them",
            ));
        }
        self.check_timeout(end)
    }

    /// Refuses a limit that is over before the end begins.
    fn check_timeout(&self, end: i64) -> Result<(), Failure> {
        let Some(timeout) = self.timeout.filter(|timeout| !timeout.is_zero()) else {
            return Ok(());
        };
        let until_close = match &self.close_time {
            Some(at) => i64::try_from(at.time().since(times::now()).as_secs()).unwrap_or(i64::MAX),
            None => -self.first_step(),
        };
        let until_end = until_close.saturating_add(end);
        if seconds(timeout) >= until_end {
            return Ok(());
        }
        Err(usage(
            &format!(
                "--timeout {} is shorter than the time until sessions are ended ({})",
                times::typed(timeout),
                times::typed(Duration::from_secs(until_end.unsigned_abs()))
            ),
            "Use a longer one, or leave it out: with --end-after there is none by default",
        ))
    }

    /// Returns the time of the first step, in seconds from the close.
    pub(super) fn first_step(&self) -> i64 {
        self.request.steps.first().map_or(0, PlanStep::at_seconds)
    }

    /// Returns the time at which sessions are ended, in seconds from the close.
    fn end(&self) -> Option<i64> {
        let last = self.request.steps.last()?;
        matches!(last, PlanStep::End { .. }).then(|| last.at_seconds())
    }

    /// Returns the time after which to stop waiting. The default is none if the plan ends sessions, else that of any drain, from the close on.
    pub(super) fn limit(&self, plan: &Plan) -> Option<Duration> {
        match (self.timeout, self.end()) {
            (Some(typed), _) => Some(typed).filter(|typed| !typed.is_zero()),
            (None, Some(_)) => None,
            (None, None) => {
                let until_close = match plan.state {
                    PlanState::Scheduled | PlanState::Lead => {
                        times::seconds_until(plan.at, times::now())
                    }
                    PlanState::Closed | PlanState::Ending | PlanState::Over => 0,
                };
                Some(Duration::from_secs(until_close) + TIMEOUT_DEFAULT)
            }
        }
    }

    /// Returns whether this plan, started before, is that of the answer.
    pub(super) fn is_same(&self, plan: &Plan) -> bool {
        /// Times on the wire are whole microseconds, and delays whole seconds.
        const ROUNDING: Duration = Duration::from_secs(1);
        let is_at = self.request.at.is_none_or(|at| {
            let delay = Duration::from_secs(plan.delay_seconds) + ROUNDING;
            plan.at >= at && plan.at.since(at) <= delay
        });
        is_at
            && self.request.reason == plan.reason
            && plan.steps.iter().map(|it| &it.step).eq(&self.request.steps)
    }
}
