//! Means to reach the clients of a session, which come and go: the SFU's API, subscribers, receivers of webhooks. And a second count of
//! what each announcement of a plan has reached.

use std::collections::BTreeMap;

use soramode_core::effect::{Action, Effects, Record};
use soramode_core::input::{AttemptResult, Input, Subscribers};
use soramode_core::plan::calls::{SfuCall, SfuFailure, SfuOutcome, SfuRequest};
use soramode_core::settings::{EventReceiver, SfuMeans};
use soramode_protocol::event::{EventKind, EventType};
use soramode_protocol::id::{AnnouncementId, SessionId};
use soramode_protocol::plan::PlanStep;
use soramode_protocol::reply::Reply;
use soramode_protocol::request::GateRequest;
use soramode_protocol::session::{ListRequest, ListSessions, Page};

use super::naive::Facts;
use super::world::World;
use crate::seeds::Rng;

/// Number of refusals after which a channel is given up.
const REFUSALS_MAX: u32 = 3;

/// Actions for which there are means.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Means {
    pub(super) announces: bool,
    pub(super) ends: bool,
}

impl Means {
    /// Returns whether there are means for a step.
    pub(super) const fn suffice(self, step: &PlanStep) -> bool {
        match step {
            PlanStep::Announce { .. } => self.announces,
            PlanStep::End { .. } => self.ends,
            PlanStep::Unready { .. } | PlanStep::Mode { .. } | PlanStep::Unknown => true,
        }
    }
}

/// Reach of the announcements that plans have made to all channels.
#[derive(Default)]
pub(super) struct Reaches(BTreeMap<AnnouncementId, Reach>);

#[derive(Default)]
struct Reach {
    /// A client, a subscriber or a receiver of webhooks has it.
    is_heard: bool,
    /// A session was given up, or no one was there to pass it on.
    is_missed: bool,
    refusals: BTreeMap<SessionId, u32>,
}

impl Reaches {
    pub(super) fn has(&self, id: &AnnouncementId) -> bool {
        self.0.contains_key(id)
    }

    /// Returns whether clients were there, and nobody was reached.
    pub(super) fn is_nobody(&self, id: &AnnouncementId) -> bool {
        let reach = self.0.get(id);
        reach.is_some_and(|it| it.is_missed && !it.is_heard)
    }

    /// Takes in the announcements that begin in a step.
    pub(super) fn began(&mut self, effects: &Effects, webhooks: &[EventReceiver]) {
        for kind in effects.kinds() {
            if let EventKind::MaintenanceAnnounced(it) = kind
                && it.plan_id.is_some()
                && it.channel_ids.is_none()
                && !it.cancelled
            {
                let is_heard = webhooks.iter().any(receives);
                let reach = Reach {
                    is_heard,
                    ..Reach::default()
                };
                self.0.insert(it.announcement_id.clone(), reach);
            }
        }
    }

    /// Takes in the answer about a session that is still there, or about one that has gone.
    fn answered(&mut self, call: &SfuCall, is_there: bool, outcome: &SfuOutcome) {
        let SfuRequest::Push(notice) = &call.request else {
            return;
        };
        let Some(reach) = self.0.get_mut(&notice.id) else {
            return;
        };
        reach.is_heard |= outcome.subscribers > 0;
        if !is_there {
            return;
        }
        match outcome.api {
            Some(Ok(())) => reach.is_heard = true,
            Some(Err(SfuFailure::Unreachable(_))) => {}
            Some(Err(SfuFailure::Refused(_))) => {
                let refusals = reach.refusals.entry(call.session_id.clone()).or_default();
                *refusals += 1;
                reach.is_missed |= *refusals == REFUSALS_MAX;
            }
            None => reach.is_missed |= outcome.subscribers == 0,
        }
    }

    /// Takes note of a start: sessions that were refused are tried anew.
    pub(super) fn restarted(&mut self) {
        for reach in self.0.values_mut() {
            reach.refusals.clear();
        }
    }
}

fn receives(webhook: &EventReceiver) -> bool {
    webhook.types.contains(&EventType::MaintenanceAnnounced)
}

/// Draws the means of the SFU itself.
pub(super) fn draw_means(rng: &mut Rng) -> SfuMeans {
    match rng.below(8) {
        0 | 1 => SfuMeans::default(),
        2 => SfuMeans::JANUS_ADMIN,
        _ => SfuMeans::SORA_API,
    }
}

impl World {
    pub(super) fn means(&self) -> Means {
        let sfu = self.settings.sfu.means;
        let has_receiver = self.settings.receivers.iter().any(receives);
        Means {
            announces: sfu.announces || self.subscribers.announcements > 0 || has_receiver,
            ends: sfu.end.is_some() || self.subscribers.ends > 0,
        }
    }

    /// Clients subscribe, or their connections end.
    pub(super) fn subscribe(&mut self) -> Result<(), String> {
        self.input(Input::Tick, Facts::default())?;
        self.subscribers = Subscribers {
            ends: self.rng.below(3),
            announcements: self.rng.below(3),
        };
        let input = Input::Subscribers(self.subscribers);
        self.input(input, Facts::default()).map(drop)
    }

    /// Other receivers of webhooks are set.
    pub(super) fn set_webhooks(&mut self) -> Result<(), String> {
        self.input(Input::Tick, Facts::default())?;
        for receiver in &mut self.settings.receivers {
            if self.rng.one_in(2) {
                receiver.types = Vec::new();
            }
        }
        if self.rng.one_in(3) {
            let number = self.settings.receivers.len();
            let types = match self.rng.below(3) {
                0 => vec![EventType::ModeChanged],
                _ => vec![EventType::MaintenanceAnnounced, EventType::PlanOver],
            };
            self.settings.receivers.push(EventReceiver {
                url: format!("http://receiver-{number}/"),
                endpoint: format!("http://receiver-{number}"),
                types,
            });
        }
        let input = Input::Receivers(self.settings.receivers.clone());
        self.input(input, Facts::default()).map(drop)
    }

    /// A receiver answers the oldest attempt of a delivery.
    pub(super) fn answer_attempt(&mut self) -> Result<(), String> {
        if self.attempts.is_empty() {
            return Ok(());
        }
        let id = self.attempts.remove(0);
        let result = AttemptResult {
            status: Some(if self.rng.one_in(3) { 500 } else { 200 }),
            ..AttemptResult::default()
        };
        let input = Input::DeliveryAttempted { id, result };
        self.input(input, Facts::default()).map(drop)
    }

    /// Returns the outcome of a call, with the subscribers that are there when it ends.
    pub(super) fn outcome(&mut self, call: &SfuCall) -> Result<SfuOutcome, String> {
        self.input(Input::Tick, Facts::default())?;
        let (has_api, subscribers) = match call.request {
            SfuRequest::Push(_) => (
                self.settings.sfu.means.announces,
                self.subscribers.announcements,
            ),
            SfuRequest::Disconnect { .. } => {
                (self.settings.sfu.means.end.is_some(), self.subscribers.ends)
            }
        };
        let refuses = self.refuses && !self.rng.one_in(8);
        let api = match self.rng.below(12) {
            _ if !has_api => None,
            _ if refuses => Some(Err(SfuFailure::Refused("as always".to_owned()))),
            0 => Some(Err(SfuFailure::Refused("as it said".to_owned()))),
            1 => Some(Err(SfuFailure::Unreachable("no answer".to_owned()))),
            _ => Some(Ok(())),
        };
        // They may have left without the gate's knowledge.
        let has_left = refuses || self.rng.one_in(4);
        let subscribers = if has_left { 0 } else { subscribers };
        let outcome = SfuOutcome { api, subscribers };
        let list = ListSessions {
            channel_id: Some(call.channel_id.clone()),
            ..ListSessions::default()
        };
        let list = ListRequest::Sessions(list);
        let Reply::Page(Page::Sessions(found)) = self.ask(GateRequest::List(list))? else {
            return Err("no sessions".to_owned());
        };
        let is_it = |id: &SessionId| *id == call.session_id;
        let is_there = found.sessions.iter().any(|it| is_it(&it.session_id));
        self.reaches.answered(call, is_there, &outcome);
        Ok(outcome)
    }

    /// Returns the announcements that are over with a step, and have reached nobody.
    pub(super) fn reached_nobody(&self, effects: &Effects) -> Vec<AnnouncementId> {
        let over = effects.records.iter().filter_map(|record| match record {
            Record::AnnouncementFinished(id) => Some(id),
            _ => None,
        });
        over.filter(|id| self.reaches.is_nobody(id))
            .cloned()
            .collect()
    }

    /// Takes in the attempts of deliveries that a step makes.
    pub(super) fn take_attempts(&mut self, effects: &Effects) {
        for action in &effects.actions {
            if let Action::Deliver(attempt) = action {
                self.attempts.push(attempt.id);
            }
        }
    }
}
