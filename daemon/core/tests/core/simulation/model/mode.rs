//! The mode: by an operator, and by itself.

use std::time::Duration;

use soramode_core::settings::Settings;
use soramode_protocol::error::Error;
use soramode_protocol::event::{EndReason, EventKind};
use soramode_protocol::id::ConnectionId;
use soramode_protocol::mode::{
    ChangeMode, DatedModeChange, Mode, ModeChange, ModeChanged, ModeState,
};
use soramode_protocol::node::Membership;
use soramode_protocol::reply::{Answer, Reply};
use soramode_protocol::time::Time;

use super::Model;

/// The rows of the start, and what they change.
pub(super) fn start(
    settings: &Settings,
    stored: Option<ModeState>,
    closed_by_storage: bool,
    wall: Time,
) -> (ModeState, Option<DatedModeChange>) {
    let (before, actor) = if closed_by_storage && settings.mode.is_none() {
        (Some(Mode::BlockNewConnection), "system:storage")
    } else {
        (stored.as_ref().map(|state| state.mode), "system:start")
    };
    let mode = match (
        settings.cluster.is_some(),
        settings.mode.map(Mode::from).or(before),
    ) {
        (false, None | Some(Mode::Initial)) => Mode::Normal,
        (false, Some(mode)) => mode,
        (true, Some(mode)) if mode.is_block() => mode,
        (true, _) => Mode::Initial,
    };
    let actor = actor.to_owned();
    let new = ModeState {
        mode,
        generation: 1,
        since: wall,
        actor: actor.clone(),
        on_behalf_of: None,
        reason: None,
        expires_at: None,
        expected_end_at: None,
        own_mode: None,
        in_force: None,
        plan_id: None,
        roll: None,
    };
    match stored {
        Some(state) if state.mode == mode => (state, None),
        Some(ModeState {
            mode: previous_mode,
            generation,
            ..
        }) => {
            let generation = generation + 1;
            let change = ModeChange {
                mode,
                previous_mode,
                generation,
                actor,
                on_behalf_of: None,
                reason: None,
                expires_at: None,
                expected_end_at: None,
                plan_id: None,
                roll: None,
            };
            (
                ModeState { generation, ..new },
                Some(DatedModeChange {
                    timestamp: wall,
                    change,
                }),
            )
        }
        None => (new, None),
    }
}

impl Model {
    pub(super) fn change_mode(&mut self, change: &ChangeMode, actor: &str) -> Answer {
        let wanted = Mode::from(change.mode);
        let holds = change.if_mode.is_none_or(|mode| mode == self.mode.mode)
            && change
                .if_generation
                .is_none_or(|generation| generation == self.mode.generation);
        if !holds {
            return Err(Error::superseded(self.shown_mode()));
        }
        if wanted == Mode::Normal
            && matches!(self.membership, Membership::Isolated | Membership::Fenced)
        {
            return Err(Error::not_joined(self.membership.name(), &self.mode, None));
        }
        let previous_mode = self.mode.mode;
        let is_same = wanted == previous_mode;
        let takes_expiry = change.expires_in_seconds == Some(0) && self.mode.expires_at.is_some();
        let brings_expiry = change.expires_in_seconds.is_some_and(|seconds| seconds > 0);
        let brings_reason = change.reason.is_some() && change.reason != self.mode.reason;
        let brings_end =
            change.expected_end_at.is_some() && change.expected_end_at != self.mode.expected_end_at;
        let changed = !is_same || takes_expiry || brings_expiry || brings_reason || brings_end;
        if changed && self.storage_failed {
            return Err(Error::storage_unavailable(""));
        }
        if changed {
            self.make_change(change, actor);
        }
        Ok(Reply::ModeChanged(Box::new(ModeChanged {
            mode: wanted,
            previous_mode,
            changed,
            generation: self.mode.generation,
            sessions: self.sessions.len() as u64,
            connections: self.connections.len() as u64,
            expires_at: self.shown_end(),
            expected_end_at: self.mode.expected_end_at,
            warning: None,
            published: None,
            in_force: None,
            plan_id: None,
            plan_cancelled: None,
            ends_stopped: None,
        })))
    }

    fn make_change(&mut self, change: &ChangeMode, actor: &str) {
        let is_same = Mode::from(change.mode) == self.mode.mode;
        let (expires_at, expiry) = match change.expires_in_seconds.map(Duration::from_secs) {
            None if is_same => (self.mode.expires_at, self.expiry),
            None | Some(Duration::ZERO) => (None, None),
            Some(time) => {
                self.boot_expiry = Some(self.now.boot + time);
                (Some(self.now.wall + time), Some(self.now.boot + time))
            }
        };
        let kept = self.mode.reason.clone().filter(|_| is_same);
        let kept_end = self.mode.expected_end_at.filter(|_| is_same);
        if expiry != self.expiry {
            self.by_wall = None;
        }
        self.expiry = expiry;
        self.enter(ModeState {
            mode: change.mode.into(),
            generation: self.mode.generation + 1,
            since: self.now.wall,
            actor: actor.to_owned(),
            on_behalf_of: change.on_behalf_of.clone(),
            reason: change.reason.clone().or(kept),
            expires_at,
            expected_end_at: change.expected_end_at.or(kept_end),
            own_mode: None,
            in_force: None,
            plan_id: None,
            roll: None,
        });
        if let Some(dated) = self.changes.last_mut() {
            dated.change.on_behalf_of.clone_from(&change.on_behalf_of);
        }
        // Sessions may have ended after it.
        let told = self.events.iter_mut().rev().find_map(|event| match event {
            EventKind::ModeChanged(told) => Some(told),
            _ => None,
        });
        if let Some(told) = told {
            told.on_behalf_of.clone_from(&change.on_behalf_of);
        }
    }

    fn enter(&mut self, state: ModeState) {
        let previous_mode = self.mode.mode;
        self.mode = state;
        if !self.mode.mode.is_block() {
            self.opened = self.mode.generation;
            self.vanished_pending = false;
        }
        let change = ModeChange {
            mode: self.mode.mode,
            previous_mode,
            generation: self.mode.generation,
            actor: self.mode.actor.clone(),
            on_behalf_of: None,
            reason: self.mode.reason.clone(),
            expires_at: self.mode.expires_at,
            expected_end_at: self.mode.expected_end_at,
            plan_id: None,
            roll: None,
        };
        self.changes.push(DatedModeChange {
            timestamp: self.now.wall,
            change: change.clone(),
        });
        self.events.push(EventKind::ModeChanged(Box::new(change)));
        if self.mode.mode == Mode::BlockNewConnection {
            self.graces_over();
        }
    }

    fn enter_by_itself(&mut self, mode: Mode, cause: &str) {
        if self.mode.mode != mode {
            (self.expiry, self.by_wall) = (None, None);
            let (generation, since, actor) = (
                self.mode.generation + 1,
                self.now.wall,
                format!("system:{cause}"),
            );
            self.enter(ModeState {
                mode,
                generation,
                since,
                actor,
                on_behalf_of: None,
                reason: None,
                expires_at: None,
                expected_end_at: None,
                own_mode: None,
                in_force: None,
                plan_id: None,
                roll: None,
            });
        }
    }

    pub(super) fn expire(&mut self) {
        if !self.storage_failed {
            let may_open = matches!(self.membership, Membership::Standalone | Membership::Joined);
            self.enter_by_itself(
                if may_open {
                    Mode::Normal
                } else {
                    Mode::Initial
                },
                "expired",
            );
        }
    }

    pub(super) fn storage_failed(&mut self, refused: &[ConnectionId], generations: &[u64]) {
        for id in refused {
            if self.find(id).is_some() {
                self.end(id, EndReason::Denied);
            }
        }
        self.storage_failed = true;
        let reason = match (generations.first(), generations.last()) {
            (Some(first), Some(last)) if generations.len() > 1 => {
                format!(
                    "undoes generations {first} to {last}, which were refused because they could not be written"
                )
            }
            (Some(only), _) => format!(
                "undoes generation {only}, which was refused because it could not be written"
            ),
            (None, _) => return self.enter_by_itself(Mode::BlockNewConnection, "storage"),
        };
        (self.expiry, self.by_wall) = (None, None);
        self.enter(ModeState {
            mode: Mode::BlockNewConnection,
            generation: self.mode.generation + 1,
            since: self.now.wall,
            actor: "system:storage".to_owned(),
            on_behalf_of: None,
            reason: Some(reason),
            expires_at: None,
            expected_end_at: None,
            own_mode: None,
            in_force: None,
            plan_id: None,
            roll: None,
        });
    }

    /// The expiry of a start: what is left by the boot clock, or by the wall clock within bounds.
    pub(super) fn restore_expiry(&mut self, left: Option<Duration>) {
        (self.expiry, self.by_wall) = (None, None);
        let Some(expires_at) = self.mode.expires_at else {
            return;
        };
        let (boot, asked) = (self.started.boot, expires_at.since(self.mode.since));
        if let Some(at) = left {
            self.expiry = Some(at.min(boot + asked));
            return;
        }
        let minute = Duration::from_mins(1);
        self.by_wall = Some((boot + minute, boot + asked.max(minute)));
        self.expiry = self.due_by_wall();
    }

    /// When an expiry that goes by the wall clock comes, as that stands now.
    pub(super) fn due_by_wall(&self) -> Option<Duration> {
        let ((earliest, latest), expires_at) = (self.by_wall?, self.mode.expires_at?);
        let (wall, end) = (self.now.wall.as_micros(), expires_at.as_micros());
        let distance = Duration::from_micros(wall.abs_diff(end));
        let due = if end >= wall {
            self.now.boot + distance
        } else {
            self.now.boot.saturating_sub(distance)
        };
        Some(due.clamp(earliest, latest))
    }

    /// The mode with its end by the wall clock as that stands now.
    pub(super) fn shown_mode(&self) -> ModeState {
        ModeState {
            expires_at: self.shown_end(),
            ..self.mode.clone()
        }
    }

    fn shown_end(&self) -> Option<Time> {
        let stored = self.mode.expires_at?;
        let at = if self.by_wall.is_some() {
            self.due_by_wall()
        } else {
            self.expiry
        };
        let shown = at
            .filter(|at| *at > self.now.boot)
            .map(|at| self.now.wall + at.saturating_sub(self.now.boot));
        let is_far = |time: &Time| time.as_micros().abs_diff(stored.as_micros()) >= 1_000_000;
        Some(shown.filter(is_far).unwrap_or(stored))
    }

    pub(super) fn storage_restored(&mut self) {
        self.storage_failed = false;
        if self.mode.expires_at.is_some() && self.expiry.is_none() {
            match self.due_by_wall() {
                Some(due) if due > self.now.boot => self.expiry = Some(due),
                _ => self.expire(),
            }
        }
    }

    pub(super) fn set_membership(&mut self, membership: Membership) {
        if membership == self.membership {
            return;
        }
        self.membership = membership;
        let (cause, mode) = match (membership, self.mode.mode) {
            (Membership::Joined, Mode::Initial) => ("joined", Mode::Normal),
            (Membership::Isolated, Mode::Normal) => ("isolated", Mode::Initial),
            (Membership::Fenced, Mode::Normal) => ("fenced", Mode::Initial),
            (_, mode) => ("", mode),
        };
        self.events.push(match membership {
            Membership::Joined => EventKind::NodeJoined { membership, mode },
            Membership::Isolated => EventKind::NodeIsolated { membership, mode },
            Membership::Fenced => EventKind::NodeFenced { membership, mode },
            Membership::Standalone => unreachable!("not in a cluster"),
        });
        self.enter_by_itself(mode, cause);
    }
}
