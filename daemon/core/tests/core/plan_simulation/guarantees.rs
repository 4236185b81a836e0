//! The guarantees of a plan, checked with each call to the SFU.

use std::collections::{BTreeMap, BTreeSet};

use soramode_core::handles::Timestamp;
use soramode_core::plan::calls::{SfuCall, SfuRequest};
use soramode_protocol::event::MaintenanceAnnounced;
use soramode_protocol::id::{AnnouncementId, ChannelId, ConnectionId, PlanId, SessionId};
use soramode_protocol::mode::Mode;

use super::naive::{Naive, boot};
use super::reach::{Means, Reaches};

/// A client, as the SFU sees it.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) channel: ChannelId,
    /// When it came: the step.
    pub(super) since: u64,
    /// It reached the SFU past the gate.
    pub(super) is_rogue: bool,
}

/// Record of announcements and calls.
#[derive(Default)]
pub(super) struct Guarantees {
    /// The notices to each session, by the plan that announced: when the last one was sent, and when sessions end at the earliest.
    notices: BTreeMap<(PlanId, SessionId), (u64, Ends)>,
    /// When the sessions end at the earliest that each notice named, as the clocks stood when it was made.
    named: BTreeMap<AnnouncementId, (PlanId, Ends)>,
    /// Calls to end sessions that were not answered.
    in_flight: BTreeSet<u64>,
    /// True if an end was requested by hand since the node was opened last.
    pub(super) is_end_wanted: bool,
    over: BTreeSet<PlanId>,
    /// The last time a plan asked for a session, and which sessions it has asked for.
    asked: BTreeMap<PlanId, (i64, BTreeSet<SessionId>)>,
}

/// When sessions end at the earliest, by both clocks.
#[derive(Clone, Copy)]
struct Ends {
    boot: i64,
    wall: i64,
}

/// The moment of a call.
pub(super) struct At<'a> {
    pub(super) now: Timestamp,
    pub(super) step: u64,
    pub(super) mode: Mode,
    pub(super) storage_failed: bool,
    pub(super) is_shadow: bool,
    pub(super) means: Means,
    pub(super) reaches: &'a Reaches,
    pub(super) naive: Option<&'a Naive>,
    pub(super) clients: &'a BTreeMap<ConnectionId, Client>,
}

impl Guarantees {
    pub(super) fn answered(&mut self, id: u64) {
        self.in_flight.remove(&id);
    }

    pub(super) fn plan_over(&mut self, id: &PlanId) {
        self.over.insert(id.clone());
    }

    pub(super) fn restarted(&mut self) {
        self.in_flight.clear();
    }

    pub(super) fn rebooted(&mut self) {
        self.notices.clear();
        self.named.clear();
        self.asked.clear();
    }

    /// Takes in an announcement that names the end of a plan.
    pub(super) fn announced(&mut self, announced: &MaintenanceAnnounced, at: &At<'_>) {
        let (Some(naive), Some(ends)) = (at.naive, announced.sessions_end_at) else {
            return;
        };
        let ends = Ends {
            // A plan goes by the wall clock until its first step.
            boot: if naive.is_by_wall() {
                i64::MIN
            } else {
                boot(at.now) + ends.as_micros() - at.now.wall.as_micros()
            },
            wall: ends.as_micros(),
        };
        let named = (naive.id.clone(), ends);
        self.named.insert(announced.announcement_id.clone(), named);
    }

    pub(super) fn called(&mut self, call: &SfuCall, at: &At<'_>) -> Result<(), String> {
        match &call.request {
            SfuRequest::Push(notice) => {
                must(
                    at.means.announces || !at.reaches.has(&notice.id),
                    "6: a plan announces without means",
                )?;
                if let Some((plan, ends)) = self.named.get(&notice.id) {
                    let mut ends = *ends;
                    if let Some(end) = notice
                        .sessions_end_at
                        .filter(|end| end.as_micros() > ends.wall)
                    {
                        // Made anew, since the end that it named was past.
                        ends.wall = end.as_micros();
                        ends.boot = boot(at.now) + ends.wall - at.now.wall.as_micros();
                    }
                    let key = (plan.clone(), call.session_id.clone());
                    let (step, latest) = self.notices.entry(key).or_insert((0, ends));
                    *step = at.step;
                    latest.boot = latest.boot.max(ends.boot);
                    latest.wall = latest.wall.max(ends.wall);
                }
                Ok(())
            }
            SfuRequest::Disconnect { plan_id, .. } => {
                self.in_flight.insert(call.id);
                must(self.in_flight.len() <= 8, "4: more than 8 calls in flight")?;
                // A plan that was only scheduled when the node was opened goes on.
                must(
                    self.is_end_wanted || plan_id.is_some(),
                    "4: a session is asked to end after the node was opened",
                )?;
                match plan_id {
                    Some(id) => self.cut(id, call, at),
                    None => Ok(()),
                }
            }
        }
    }

    fn cut(&mut self, id: &PlanId, call: &SfuCall, at: &At<'_>) -> Result<(), String> {
        let naive = at
            .naive
            .filter(|naive| naive.id == *id && naive.over.is_none());
        let naive = naive.ok_or("1: a plan that does not run cuts a client")?;
        must(
            !self.over.contains(id),
            "1: a plan that is over cuts a client",
        )?;
        must(
            naive.is_ending(),
            "1: a plan cuts a client before its end step",
        )?;
        must(
            at.mode.is_block(),
            "1: a plan cuts a client on an open node",
        )?;
        must(!at.is_shadow, "1: a plan cuts a client in shadow mode")?;
        must(
            !at.storage_failed,
            "1: a plan cuts a client while the state cannot be written",
        )?;
        must(at.means.ends, "6: a plan cuts a client without means")?;
        let notice = self.notices.get(&(id.clone(), call.session_id.clone()));
        if let Some((_, ends)) = notice {
            let is_past = boot(at.now) >= ends.boot && at.now.wall.as_micros() >= ends.wall;
            must(is_past, "2: a cut before the announced time")?;
        }
        if naive.announces() {
            let announced = notice.map_or(0, |(step, _)| *step);
            let is_new = |client: &&Client| {
                client.channel == call.channel_id && !client.is_rogue && client.since > announced
            };
            let unannounced = at.clients.values().find(is_new);
            must(
                unannounced.is_none(),
                "3: a client is cut that came after the last announcement",
            )?;
        }
        let (last, sessions) = self.asked.entry(id.clone()).or_default();
        if sessions.insert(call.session_id.clone()) {
            let pause = boot(at.now) - *last;
            let is_first = sessions.len() == 1;
            must(
                is_first || pause >= 60_000_000 / RATE,
                "a session is asked to end sooner than the rate allows",
            )?;
            *last = boot(at.now);
        }
        Ok(())
    }
}

/// Sessions that plans of this simulation end per minute.
pub(super) const RATE: i64 = 30;

fn must(holds: bool, otherwise: &str) -> Result<(), String> {
    holds.then_some(()).ok_or_else(|| otherwise.to_owned())
}
