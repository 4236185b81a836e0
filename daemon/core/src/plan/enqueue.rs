//! The beginning of an announcement, and of an end of sessions.

use std::time::Duration;

use soramode_protocol::announce::{MINUTES, NoticeData};
use soramode_protocol::event::{EndRequested, EventKind, MaintenanceAnnounced};
use soramode_protocol::id::{AnnouncementId, ChannelId, EndId};
use soramode_protocol::plan::{EndRate, PlanAnnounced};
use soramode_protocol::time::Time;

use super::Plans;
use super::clock::micros;
use super::context::{PlanCommand, PlanEffects, PlanView};
use super::end_queue::FIRST_PAUSE;
use super::end_request::{EndReply, NewEnd};
use super::stored::{AnnouncementProgress, EndProgress, Moment, StoredAnnouncement, StoredEnd};
use crate::count::count;
use crate::effect::Record;
use crate::handles::SessionSlot;
use crate::handles::{ReplyHandle, Timestamp};

/// An announcement to be made.
pub(super) struct NewAnnouncement {
    pub(super) text: Option<String>,
    pub(super) data: Option<NoticeData>,
    /// Channels that it goes to; all if absent.
    pub(super) channel_ids: Option<Vec<ChannelId>>,
    pub(super) cancelled: bool,
    pub(super) actor: String,
    pub(super) reply_to: Option<ReplyHandle>,
}

impl Plans {
    /// Begins an announcement: of the plan that runs, or of a client that waits for the answer.
    pub(super) fn announce(
        &mut self,
        view: &PlanView<'_>,
        new: NewAnnouncement,
        out: &mut PlanEffects<'_>,
    ) -> AnnouncementId {
        let now = view.state.now;
        let is_manual = new.reply_to.is_some();
        let plan = self.plan.as_ref().filter(|_| !is_manual);
        // A client's announcement names the end that the plan has set, too.
        let of_end = self
            .plan
            .as_ref()
            .filter(|plan| !plan.is_over() && !plan.is_ending());
        let sessions_end_at = of_end
            .filter(|_| !new.cancelled)
            .and_then(|plan| plan.ends_at(now));
        let sessions = sessions_of(view, new.channel_ids.as_deref(), |_| true);
        let id = AnnouncementId::generate(out.random_bytes());
        let stored = StoredAnnouncement {
            id: id.clone(),
            plan_id: plan.map(|plan| plan.id.clone()),
            text: new
                .text
                .map(|text| with_minutes(&text, sessions_end_at, now)),
            sessions_end_at,
            data: new.data,
            cancelled: new.cancelled,
            channel_ids: new.channel_ids,
            began: Moment {
                wall: newest_age(&sessions).max(now.wall),
                ..Moment::now(now)
            },
            progress: AnnouncementProgress {
                cursor: sessions.first().map_or(now.wall, |&(age, _)| age),
                channels: count(sessions.len()),
                told: 0,
                failed: 0,
                unreached: 0,
                had_told: false,
                subscribers: 0,
            },
            webhooks: view.means.webhooks,
        };
        let event = MaintenanceAnnounced {
            announcement_id: id.clone(),
            plan_id: stored.plan_id.clone(),
            actor: new.actor,
            closes_at: plan
                .filter(|_| !new.cancelled)
                .map(|plan| plan.due_close(now)),
            sessions_end_at,
            text: stored.text.clone(),
            data: stored.data.clone(),
            reason: plan.and_then(|plan| plan.reason.clone()),
            channel_ids: stored.channel_ids.clone(),
            channels: stored.progress.channels,
            cancelled: stored.cancelled,
        };
        out.commands
            .push(PlanCommand::Emit(EventKind::MaintenanceAnnounced(
                Box::new(event),
            )));
        out.records
            .push(Record::Announcement(Box::new(stored.clone())));
        if let (Some(plan), Some(end)) = (&mut self.plan, sessions_end_at) {
            plan.note_announced_end(end, now, self.fault);
        }
        if let Some(plan) = self.plan.as_mut().filter(|_| !is_manual)
            && stored.channel_ids.is_none()
            && !stored.cancelled
        {
            plan.progress.announced = Some(PlanAnnounced {
                at: now.wall,
                channels: stored.progress.channels,
                told: 0,
                failed: 0,
                left: 0,
            });
        }
        self.announcements.begin(stored, sessions, new.reply_to);
        id
    }

    pub(super) fn end_all(
        &mut self,
        view: &PlanView<'_>,
        rate: EndRate,
        out: &mut PlanEffects<'_>,
    ) {
        let Some(plan) = &self.plan else {
            return out.bug("a plan that ends sessions is not there");
        };
        let stored = StoredEnd {
            id: EndId::generate(out.random_bytes()),
            plan_id: Some(plan.id.clone()),
            actor: plan.owner.clone(),
            reason: plan.reason.clone(),
            channel_id: None,
            rate,
            progress: EndProgress {
                // Ages are by the wall clock, which may have been set back.
                cutoff: newest_age(&sessions_of(view, None, |_| true)).max(view.state.now.wall),
                next: Moment::now(view.state.now).shifted(micros(FIRST_PAUSE)),
            },
        };
        self.request_end(view, stored, None, out);
    }

    /// Begins to end the sessions that there are, or adds them to a request for all that is there.
    pub(super) fn request_end(
        &mut self,
        view: &PlanView<'_>,
        mut stored: StoredEnd,
        reply_to: Option<EndReply>,
        out: &mut PlanEffects<'_>,
    ) {
        let channels = stored.channel_id.as_ref().map(std::slice::from_ref);
        let sessions = sessions_of(view, channels, |_| true);
        let new = NewEnd {
            stored: stored.clone(),
            sessions: sessions.into_iter().map(|(_, slot)| slot).collect(),
            counted: 0,
            reply_to,
        };
        let sessions = count(new.sessions.len());
        let joinable = self.end_queue.joinable(&stored);
        if let Some(number) = joinable.filter(|_| reply_to.is_some()) {
            if let Some(id) = self.end_queue.join(number, new) {
                stored.id = id;
            }
        } else {
            out.records.push(Record::End(Box::new(stored.clone())));
            self.end_queue.begin(new);
        }
        let event = EndRequested {
            end_id: stored.id,
            plan_id: stored.plan_id,
            actor: stored.actor,
            reason: stored.reason,
            channel_id: stored.channel_id,
            sessions,
        };
        out.commands
            .push(PlanCommand::Emit(EventKind::EndRequested(Box::new(event))));
    }
}

/// Returns the sessions of these channels, or of all, that stand at such an age, oldest first.
pub(super) fn sessions_of(
    view: &PlanView<'_>,
    channels: Option<&[ChannelId]>,
    is_selected: impl Fn(Time) -> bool,
) -> Vec<(Time, SessionSlot)> {
    let aged = |slot: SessionSlot| Some((view.sessions.session(slot)?.created_at, slot));
    let is_selected = |it: &(Time, SessionSlot)| is_selected(it.0);
    match channels {
        Some(channels) => {
            let slots = channels
                .iter()
                .filter_map(|it| view.sessions.find_session(it));
            let mut sessions: Vec<_> = slots.filter_map(aged).filter(is_selected).collect();
            sessions.sort_unstable();
            sessions
        }
        None => view
            .sessions
            .by_age(None)
            .filter_map(aged)
            .filter(is_selected)
            .collect(),
    }
}

/// Returns the age of the last of these sessions, which stand in the order of their age.
fn newest_age(sessions: &[(Time, SessionSlot)]) -> Time {
    sessions
        .last()
        .map_or(Time::from_micros(0), |&(age, _)| age)
}

/// Puts the minutes that are left into a text: rounded down, so that no client expects a later end, and at least 1. A second that has begun
/// counts.
pub(super) fn with_minutes(text: &str, sessions_end_at: Option<Time>, now: Timestamp) -> String {
    let left = sessions_end_at.map_or(Duration::ZERO, |at| at.since(now.wall));
    let seconds = left.as_micros().div_ceil(1_000_000);
    text.replace(MINUTES, &(seconds / 60).max(1).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_rounded_down_from_whole_seconds_and_are_at_least_one() {
        let now = Timestamp {
            wall: Time::from_micros(0),
            boot: Duration::ZERO,
        };
        for (micros, minutes) in [
            (0, "1"),
            (59_000_000, "1"),
            (60_000_000, "1"),
            (119_000_000, "1"),
            (119_000_001, "2"),
            (120_000_000, "2"),
            (542_000_000, "9"),
            (599_000_000, "9"),
            (599_990_000, "10"),
            (600_000_000, "10"),
        ] {
            let end = Some(Time::from_micros(micros));
            assert_eq!(with_minutes(MINUTES, end, now), minutes, "{micros} us");
        }
        assert_eq!(
            with_minutes("{minutes}, {minutes}", Some(Time::from_micros(-1)), now),
            "1, 1",
            "the end is past"
        );
    }
}
