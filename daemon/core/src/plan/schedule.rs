//! When the steps of a plan are due.

use std::time::Duration;

use soramode_protocol::plan::{EndRate, PlanStep};
use soramode_protocol::time::Time;

use super::clock::{micros, shifted};
use super::end_request::interval;
use super::stored::{Moment, StoredPlan};
use crate::fault::{Fault, PlantedFault};
use crate::handles::Timestamp;

const MICROS_PER_SECOND: i64 = 1_000_000;

impl StoredPlan {
    pub(super) fn offset_of(step: &PlanStep) -> i64 {
        step.at_seconds().saturating_mul(MICROS_PER_SECOND)
    }

    /// Returns when a step is due. Sessions end when both clocks have reached the time that was announced.
    pub(super) fn due(&self, step: &PlanStep, now: Timestamp) -> Moment {
        let due = self.planned(step, now);
        match self.announced_end(now) {
            Some(end) if matches!(step, PlanStep::End { .. }) => due.latest(end),
            Some(_) | None => due,
        }
    }

    /// Returns the end that was announced as it counts now: by the wall clock until the first step was done, then by both.
    pub(super) fn announced_end(&self, now: Timestamp) -> Option<Moment> {
        let end = self.progress.announced_end?;
        let by_wall = end.boot_from_wall(now);
        Some(if self.progress.done.is_empty() {
            by_wall
        } else {
            by_wall.latest(end.wall_from_boot(now))
        })
    }

    /// Returns how long the end that was announced is ahead. Zero once it has come by both clocks, and without an announcement.
    pub(super) fn time_to_announced_end(&self, now: Timestamp) -> Duration {
        self.announced_end(now).map_or(Duration::ZERO, |end| {
            let by_wall = end.wall.since(now.wall);
            by_wall.max(end.boot().saturating_sub(now.boot))
        })
    }

    /// Notes that this end was announced, by the clocks as they stand.
    pub(super) fn note_announced_end(&mut self, end: Time, now: Timestamp, fault: PlantedFault) {
        let mut end = Moment::of_wall(end, now);
        if fault.is(Fault::AnnouncedEndByWallClock) {
            end.boot_micros = 0;
        }
        let before = self.progress.announced_end;
        self.progress.announced_end = Some(before.map_or(end, |before| before.latest(end)));
    }

    /// Has the end that was announced count from the wall clock as it stands: at the first step, and after a reboot.
    pub(super) fn announced_end_from_wall(&mut self, now: Timestamp) {
        let end = &mut self.progress.announced_end;
        *end = end.map(|end| end.boot_from_wall(now));
    }

    /// Returns when a step comes by the list: by the wall clock until the first step was done, then by the boot clock.
    pub(super) fn planned(&self, step: &PlanStep, now: Timestamp) -> Moment {
        let closes = if self.progress.done.is_empty() {
            self.progress.closes.boot_from_wall(now)
        } else {
            self.progress.closes.wall_from_boot(now)
        };
        closes.shifted(Self::offset_of(step))
    }

    /// Returns when it will end the first session, if it ends any.
    pub(super) fn ends_at(&self, now: Timestamp) -> Option<Time> {
        let last = self.steps.last()?;
        matches!(last, PlanStep::End { .. }).then(|| self.due(last, now).wall)
    }

    /// Returns the time by which the announcement that was its last step must have reached every channel.
    pub(super) fn announcement_limit(&self) -> Option<Duration> {
        let step = self.done_steps().last()?;
        if !matches!(step, PlanStep::Announce { .. }) {
            return None;
        }
        let began = self.progress.closes.shifted(Self::offset_of(step));
        let left = self.max_delay.saturating_sub(self.progress.late);
        Some(began.shifted(micros(left)).boot())
    }

    /// Moves the close, and with it all steps that are left, so that `step` is due now.
    pub(super) fn reschedule_from(&mut self, step: &PlanStep, now: Timestamp) {
        let closes = Moment::now(now).shifted(-Self::offset_of(step));
        let before = self.planned(step, now);
        if self.progress.done.is_empty() {
            self.announced_end_from_wall(now);
        }
        self.progress.delay += before.ago(now);
        self.progress.closes = closes;
    }

    /// Returns the time of the close, by the wall clock as it stands.
    pub(super) fn due_close(&self, now: Timestamp) -> Time {
        if self.progress.done.is_empty() {
            self.progress.closes.wall
        } else {
            self.progress.closes.wall_from_boot(now).wall
        }
    }
}

/// Returns how long an end of so many sessions takes at this rate.
pub(super) fn time_of_end(sessions: u64, rate: EndRate) -> Duration {
    interval(rate).saturating_mul(u32::try_from(sessions).unwrap_or(u32::MAX))
}

/// Returns a time in the past or future of another, in seconds.
pub(super) const fn seconds_from(time: Time, seconds: i64) -> Time {
    shifted(time, seconds.saturating_mul(MICROS_PER_SECOND))
}
