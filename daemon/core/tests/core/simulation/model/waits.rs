//! Waits: looked at after everything that happens.

use std::time::Duration;

use soramode_core::effect::{Action, WaitProgress};
use soramode_core::handles::ReplyHandle;
use soramode_protocol::error::Error;
use soramode_protocol::node::{DeliveryCounts, Membership, Status, Storage, StorageState};
use soramode_protocol::plan::{StallCause, Stalled};
use soramode_protocol::reply::Reply;
use soramode_protocol::session::Session as Shown;
use soramode_protocol::version::{PROTOCOL, VERSION};
use soramode_protocol::wait::{Outcome, Wait, WaitEnded, WaitFor};

use super::{Model, Session};

pub(super) struct Waiting {
    pub(super) reply_to: ReplyHandle,
    wait: Wait,
    settled_at: Option<Duration>,
    gives_up_at: Option<Duration>,
    progress_at: Option<Duration>,
    ended_before: u64,
}

/// The parts of a wait that have a deadline, in the order in which they count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Settled,
    GiveUp,
    Progress,
}

impl Model {
    pub(super) fn wait(&mut self, reply_to: ReplyHandle, wait: &Wait) {
        let mut wait = wait.clone();
        if wait.wait_for == WaitFor::Drained {
            wait.generation = Some(wait.generation.unwrap_or(self.mode.generation));
        }
        let refusal = match wait.wait_for {
            WaitFor::Drained if self.is_superseded(&wait) => None,
            WaitFor::Drained if !self.mode.mode.is_block() => {
                Some(Error::cannot_drain(self.mode.mode))
            }
            WaitFor::Drained if !self.known && !wait.assume_complete => {
                Some(Error::sessions_incomplete("", None))
            }
            WaitFor::Joined if self.membership == Membership::Standalone => {
                Some(Error::cannot_join())
            }
            WaitFor::Drained | WaitFor::Mode | WaitFor::Joined | WaitFor::Ended => None,
        };
        if let Some(error) = refusal {
            self.actions.push(Action::Answer(reply_to, Err(error)));
            return;
        }
        let outcome = if self.is_superseded(&wait) {
            Some(Outcome::Superseded)
        } else if self.holds(&wait) && settle(&wait).is_none() {
            Some(Outcome::Reached)
        } else {
            (wait.timeout_seconds == Some(0.0)).then_some(Outcome::Timeout)
        };
        if let Some(outcome) = outcome {
            self.answer(reply_to, outcome);
            return;
        }
        self.waits.push(Waiting {
            reply_to,
            settled_at: None,
            gives_up_at: wait
                .timeout_seconds
                .map(|seconds| self.now.boot + Duration::from_secs_f64(seconds)),
            progress_at: wait.progress_seconds.map(|_| self.now.boot),
            ended_before: self.ended,
            wait,
        });
        if self
            .waits
            .last()
            .is_some_and(|waiting| waiting.progress_at.is_some())
        {
            self.fire_wait(Part::Progress, self.waits.len() - 1);
        }
    }

    pub(super) fn wait_deadlines(&self) -> Vec<(Duration, Part, usize)> {
        let each = self.waits.iter().enumerate().map(|(index, waiting)| {
            let parts = [
                (waiting.settled_at, Part::Settled),
                (waiting.gives_up_at, Part::GiveUp),
                (waiting.progress_at, Part::Progress),
            ];
            parts
                .into_iter()
                .filter_map(move |(at, part)| Some((at?, part, index)))
        });
        each.flatten().collect()
    }

    pub(super) fn fire_wait(&mut self, part: Part, index: usize) {
        match part {
            Part::Settled => self.end_wait(index, Outcome::Reached),
            Part::GiveUp => self.end_wait(index, Outcome::Timeout),
            Part::Progress => {
                let oldest_session = self.oldest().map(|it| self.shown(it));
                let (sessions, connections) =
                    (self.sessions.len() as u64, self.connections.len() as u64);
                let pending = self.pending_count();
                let (ended, boot, stalled) = (self.ended, self.now.boot, self.stalled());
                let waiting = &mut self.waits[index];
                let progress = WaitProgress {
                    sessions,
                    connections,
                    pending,
                    oldest_session,
                    ended: ended - waiting.ended_before,
                    awaited: None,
                    plan: None,
                    stalled,
                    in_force: None,
                };
                waiting.progress_at = waiting
                    .wait
                    .progress_seconds
                    .map(|seconds| boot + Duration::from_secs_f64(seconds));
                self.actions
                    .push(Action::Progress(waiting.reply_to, Box::new(progress)));
            }
        }
    }

    pub(super) fn look_at_waits(&mut self) {
        let mut index = 0;
        while let Some(waiting) = self.waits.get(index) {
            let (holds, settle) = (self.holds(&waiting.wait), settle(&waiting.wait));
            if self.is_superseded(&waiting.wait) {
                self.end_wait(index, Outcome::Superseded);
            } else if holds && settle.is_none() {
                self.end_wait(index, Outcome::Reached);
            } else {
                let boot = self.now.boot;
                let waiting = &mut self.waits[index];
                waiting.settled_at = settle
                    .filter(|_| holds)
                    .map(|settle| waiting.settled_at.unwrap_or(boot + settle));
                index += 1;
            }
        }
    }

    fn holds(&self, wait: &Wait) -> bool {
        match wait.wait_for {
            WaitFor::Drained => {
                self.mode.mode.is_block()
                    && self.sessions.len() as u64 <= wait.max_sessions.unwrap_or(0)
                    && (wait.assume_complete || self.is_known())
            }
            WaitFor::Mode => wait.mode == Some(self.mode.mode),
            WaitFor::Joined => self.membership == Membership::Joined,
            WaitFor::Ended => true,
        }
    }

    fn is_superseded(&self, wait: &Wait) -> bool {
        match wait.wait_for {
            WaitFor::Drained => wait
                .generation
                .is_some_and(|generation| self.opened > generation),
            WaitFor::Mode => {
                wait.generation
                    .is_some_and(|generation| self.mode.generation > generation)
                    && wait.mode != Some(self.mode.mode)
            }
            WaitFor::Joined | WaitFor::Ended => false,
        }
    }

    fn end_wait(&mut self, index: usize, outcome: Outcome) {
        let waiting = self.waits.remove(index);
        self.answer(waiting.reply_to, outcome);
    }

    fn answer(&mut self, reply_to: ReplyHandle, outcome: Outcome) {
        let mut blockers: Vec<&Session> = self.sessions.iter().collect();
        blockers.sort_by_key(|it| it.created_at);
        let oldest_sessions = blockers
            .into_iter()
            .take(10)
            .map(|it| self.shown(it))
            .collect();
        let ended = WaitEnded {
            outcome,
            status: self.status(),
            oldest_sessions,
            plan: None,
        };
        self.actions.push(Action::Answer(
            reply_to,
            Ok(Reply::WaitEnded(Box::new(ended))),
        ));
    }

    /// Watches whether a closed node's sessions end.
    pub(super) fn look_at_drain(&mut self) {
        let is_drained = self.sessions.is_empty() && self.is_known();
        if !self.mode.mode.is_block() || is_drained {
            (self.progress, self.stalled) = (None, None);
            return;
        }
        let (since, ended) = *self.progress.get_or_insert((self.now, self.ended));
        if ended != self.ended {
            (self.progress, self.stalled) = (Some((self.now, self.ended)), None);
        } else if self.now.boot >= since.boot + self.settings.stall_after {
            self.stalled = Some(if self.storage_failed {
                StallCause::StorageFailed
            } else if self.is_known() {
                StallCause::NoDepartures
            } else {
                StallCause::SessionsIncomplete
            });
        }
    }

    fn stalled(&self) -> Option<Stalled> {
        let (since, _) = self.progress?;
        let cause = self.stalled?;
        Some(Stalled {
            cause,
            since: since.wall,
        })
    }

    fn oldest(&self) -> Option<&Session> {
        self.sessions.iter().min_by_key(|it| it.created_at)
    }

    fn pending_count(&self) -> u64 {
        let pending = self
            .connections
            .iter()
            .filter(|it| it.pending_until.is_some());
        pending.count() as u64
    }

    pub(crate) fn shown(&self, session: &Session) -> Shown {
        Shown {
            channel_id: session.channel_id.clone(),
            session_id: session.session_id.clone(),
            created_at: session.created_at,
            connections: self.connections_in(session),
            pending: self.connections_in(session) - self.live_in(session.number),
            max_connections: session.most,
            total_connections: session.in_all,
        }
    }

    pub(crate) fn status(&self) -> Status {
        let state = if self.storage_failed {
            StorageState::Failed
        } else {
            self.settings.storage.state
        };
        Status {
            mode: self.shown_mode(),
            node_name: self.settings.node_name.clone(),
            membership: self.membership,
            sessions: self.sessions.len() as u64,
            connections: self.connections.len() as u64,
            pending: self.pending_count(),
            sessions_complete: self.is_known(),
            sources: Vec::new(),
            oldest_session: self.oldest().map(|it| self.shown(it)),
            rejected: self.rejected.clone(),
            deliveries: DeliveryCounts::default(),
            end_subscribers: 0,
            failing_ends: 0,
            no_means_to: Vec::new(),
            storage: Storage { state, path: None },
            version: VERSION.to_owned(),
            protocol: PROTOCOL,
            uptime_seconds: self.now.boot.saturating_sub(self.started.boot).as_secs(),
            started_at: self.started.wall,
            shadow: false,
            upstreams: Vec::new(),
            unauthenticated_listeners: Vec::new(),
            cluster: None,
            plan: None,
            stalled: self.stalled(),
            reservation: None,
            in_force: None,
            rooms: None,
            warnings: Vec::new(),
        }
    }
}

fn settle(wait: &Wait) -> Option<Duration> {
    wait.settle_seconds
        .map(Duration::from_secs_f64)
        .filter(|settle| !settle.is_zero())
}
