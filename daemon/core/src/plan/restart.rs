//! The start: resumes a stored plan, and stored announcements and ends, or drops them.

use std::time::Duration;

use soramode_protocol::plan::{PlanOutcome, PlanStep};

use super::clock::micros;
use super::context::{PlanEffects, PlanView};
use super::end_queue::FIRST_PAUSE;
use super::end_request::NewEnd;
use super::end_request::interval;
use super::enqueue::sessions_of;
use super::stored::{Moment, StoredEnd};
use super::{Finish, Plans};
use crate::count::count;
use crate::effect::{EndOutcome, Record};
use crate::handles::Timestamp;
use crate::input::HostState;

/// Longest downtime after which announcements and ends that no plan made go on.
const MANUAL_DELAY_MAX: Duration = Duration::from_mins(10);

impl Plans {
    /// Plants a mistake.
    #[cfg(feature = "fault-injection")]
    pub(crate) const fn plant(&mut self, fault: crate::fault::PlantedFault) {
        self.fault = fault;
    }

    /// Begins after a start: with what was stored.
    pub(crate) fn begin(
        &mut self,
        view: &PlanView<'_>,
        host: HostState,
        out: &mut PlanEffects<'_>,
    ) {
        let now = view.state.now;
        let restored = std::mem::take(&mut self.restored);
        if let Some(plan) = &mut self.plan
            && host == HostState::Rebooted
        {
            plan.progress.closes = plan.progress.closes.boot_from_wall(now);
            plan.announced_end_from_wall(now);
        }
        let plan_id = self.running_id().cloned();
        for mut stored in restored.announcements {
            let began = at_boot(stored.began, host, now);
            let is_wanted = match &stored.plan_id {
                Some(id) => stored.cancelled || plan_id.as_ref() == Some(id),
                None => began.ago(now) <= MANUAL_DELAY_MAX,
            };
            if !is_wanted {
                out.records.push(Record::AnnouncementFinished(stored.id));
                continue;
            }
            stored.began = began;
            let cutoff = stored.began.wall;
            let sessions = sessions_of(view, stored.channel_ids.as_deref(), |age| {
                age >= stored.progress.cursor && age <= cutoff
            });
            // Calls that were in flight are made again, and counted then. Channels that are gone were not all told.
            let left = count(sessions.len());
            let progress = &mut stored.progress;
            let reached = progress
                .channels
                .saturating_sub(left + progress.failed + progress.unreached);
            progress.had_told |= progress.told > 0;
            progress.told = progress.told.min(reached);
            self.announcements.begin(stored, sessions, None);
        }
        for stored in restored.ends {
            self.resume_end(view, host, stored, out);
        }
        if restored.was_closed && !view.mode.mode.is_block() {
            let _ = self.stop_ends(view, None, out);
        }
        self.check_start(view, out);
    }

    fn resume_end(
        &mut self,
        view: &PlanView<'_>,
        host: HostState,
        mut stored: StoredEnd,
        out: &mut PlanEffects<'_>,
    ) {
        let now = view.state.now;
        let late = at_boot(stored.progress.next, host, now).ago(now);
        let mut plan = self
            .plan
            .as_mut()
            .filter(|plan| !plan.is_over() && stored.plan_id.as_ref() == Some(&plan.id));
        let is_wanted = match (&mut plan, &stored.plan_id) {
            (Some(plan), _) => {
                plan.progress.late += late;
                plan.progress.delay += late;
                true
            }
            (None, Some(_)) => false,
            (None, None) => late <= MANUAL_DELAY_MAX,
        };
        if !is_wanted {
            out.records.push(Record::EndFinished {
                id: stored.id,
                outcome: EndOutcome::Stopped,
            });
            return;
        }
        let pause = interval(stored.rate).max(FIRST_PAUSE);
        stored.progress.next = Moment::now(now).shifted(micros(pause));
        let cutoff = stored.progress.cutoff;
        let channels = stored.channel_id.as_ref().map(std::slice::from_ref);
        let sessions = sessions_of(view, channels, |age| age <= cutoff);
        // Sessions that were asked are asked again. Which ones is not stored: the oldest count, as a plan asks them first. One that is not there any
        // more has ended.
        let counted = plan.map_or(0, |plan| {
            let progress = &mut plan.progress;
            let left = progress.asked.saturating_sub(progress.ended);
            let counted = left.min(count(sessions.len()));
            progress.ended = progress.asked.saturating_sub(counted);
            usize::try_from(counted).unwrap_or(usize::MAX)
        });
        self.end_queue.begin(NewEnd {
            stored,
            counted,
            sessions: sessions.into_iter().map(|(_, slot)| slot).collect(),
            reply_to: None,
        });
    }

    /// Ends a plan that cannot go on after this start.
    fn check_start(&mut self, view: &PlanView<'_>, out: &mut PlanEffects<'_>) {
        let Some(plan) = self.running() else { return };
        let is_open = !view.mode.mode.is_block();
        let is_unknown = plan.steps.contains(&PlanStep::Unknown);
        if is_open && plan.has_closed() {
            let finish = Finish::cancelled(&view.mode.actor, Some("the node was opened"), None);
            self.finish(view, finish, out);
        } else if is_unknown {
            let why = "it has a step that this version does not know".to_owned();
            self.finish(view, Finish::by_system(PlanOutcome::Failed, Some(why)), out);
        }
    }
}

/// Returns the moment as it counts after a start.
fn at_boot(moment: Moment, host: HostState, now: Timestamp) -> Moment {
    match host {
        HostState::Running => moment,
        HostState::Rebooted => moment.boot_from_wall(now),
    }
}
