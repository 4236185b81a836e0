//! The start: from nothing, or from what was stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use soramode_protocol::event::EndReason;
use soramode_protocol::id::SessionId;
use soramode_protocol::mode::{DatedModeChange, MODE_CHANGES_KEPT, Mode, ModeChange, ModeState};
use soramode_protocol::node::Membership;
use soramode_protocol::session::ConnectionState;

use crate::effect::Record;
use crate::gate::{Ctx, Gate};
use crate::input::{HostState, SocketId, Timestamp};
use crate::member::Member;
use crate::outbox::Deliveries;
use crate::snapshot::{Seed, Settings, StartParams, Stored, StoredConnection, StoredSession};
use crate::sora::tombstones::Tombstones;
use crate::sync::{Known, UntrackedIncarnations};
use crate::tables::index::Hashing;
use crate::tables::rows::{NewConnection, SessionOwner, Since};
use crate::tables::sessions::Sessions;
use crate::tables::slab::Slot;
use crate::timers::{Timer, Timers};
use crate::waits::Waits;

impl Gate {
    /// Starts. `seed` is fresh from the system, never stored.
    pub fn restore(snapshot: StartParams, seed: Seed) -> Self {
        let StartParams {
            settings,
            started,
            mut stored,
        } = snapshot;
        // Without a stored incarnation there was none, or the state was lost.
        let may_be_untracked = stored.member.is_none_or(|member| member.has_untracked);
        let untracked = (settings.cluster.is_some() && may_be_untracked)
            .then_some(UntrackedIncarnations::Unread);
        let member = settings
            .cluster
            .clone()
            .map(|cluster| Box::new(Member::new(cluster, &mut stored)));
        let Stored {
            mode,
            expires_at_boot,
            mut mode_changes,
            next_seq,
            sessions,
            mut connections,
            vanished_pending,
            deliveries,
            ..
        } = stored;
        let mut random = ChaCha8Rng::from_seed(seed.0);
        let hashing = Hashing::new(random.next_u64(), random.next_u64());
        let before = mode.clone();
        let mode = start_mode(&settings, mode, started);
        mode_changes.extend(before.and_then(|before| start_change(&before, &mode)));
        let surplus = mode_changes.len().saturating_sub(MODE_CHANGES_KEPT);
        mode_changes.drain(..surplus);
        let mut gate = Self {
            node_name: Arc::new(settings.node_name.clone()),
            started,
            opened_generation: opened_generation(&mode, &mode_changes),
            mode_changes: mode_changes.into(),
            mode,
            membership: if settings.cluster.is_some() {
                Membership::Fenced
            } else {
                Membership::Standalone
            },
            storage: settings.storage.state,
            sessions: Sessions::new(hashing),
            known: Known::new(&settings, untracked),
            vanished_pending: false,
            vanished_recorded: vanished_pending,
            sessions_ended: 0,
            rejected: BTreeMap::new(),
            reports: BTreeMap::new(),
            tombstones: Tombstones::default(),
            timers: Timers::default(),
            expiry_bounds: None,
            waits: Waits::default(),
            deliveries: Deliveries::restore(deliveries, &settings.webhooks),
            member,
            next_seq,
            random,
            settings,
        };
        gate.restore_expiry(expires_at_boot);
        gate.begin_polls();
        // Of the same time they stay in the order in which they were stored.
        connections.sort_by_key(|connection| connection.created_at);
        gate.sessions.expect(sessions.len(), connections.len());
        gate.restore_sessions(sessions);
        gate.restore_connections(connections);
        gate.restore_lingers();
        let is_empty = gate.sessions.session_count() == 0;
        gate.vanished_pending = vanished_pending && is_empty && gate.mode.mode.is_block();
        gate
    }

    /// The first that happens after the start.
    pub(crate) fn begin(&mut self, ctx: &mut Ctx, host: HostState) {
        ctx.effects
            .records
            .push(Record::Mode(Box::new(self.mode.clone())));
        if host == HostState::Rebooted && self.mode.expires_at.is_some() {
            // What was kept is of another boot.
            ctx.effects.records.push(Record::ExpiresAtBoot(None));
        }
        match host {
            HostState::Running => {}
            HostState::Rebooted => self.end_all(ctx),
        }
        self.begin_member(ctx, host);
        self.tell_held_vanished(ctx);
        self.resume_deliveries(ctx);
    }

    /// Nobody outlives the machine.
    fn end_all(&mut self, ctx: &mut Ctx) {
        let slots: Vec<Slot> = self
            .sessions
            .connections_from(0)
            .map(|(slot, _)| slot)
            .collect();
        for slot in slots {
            self.end(ctx, slot, EndReason::Reconciled);
        }
        // A session that would outlive its connections does not either.
        let slots: Vec<Slot> = self.sessions.by_age(None).collect();
        for slot in slots {
            if let Some(row) = self.sessions.session_mut(slot) {
                row.last_end = EndReason::Reconciled;
            }
            self.destroy_session(ctx, slot);
        }
    }

    fn restore_sessions(&mut self, sessions: Vec<StoredSession>) {
        for stored in sessions {
            let StoredSession {
                channel_id,
                session_id,
                created_at,
                owner,
                ..
            } = stored;
            let slot = self.sessions.add_session(
                channel_id,
                session_id,
                Timestamp {
                    wall: created_at,
                    ..self.started
                },
            );
            if let Some(row) = self.sessions.session_mut(slot) {
                (row.owner, row.is_announced) = (owner, true);
                (row.max_connections, row.total_connections) =
                    (stored.max_connections, stored.total_connections);
            }
        }
    }

    fn restore_connections(&mut self, connections: Vec<StoredConnection>) {
        let Timestamp { boot, .. } = self.started;
        for stored in connections {
            let StoredConnection {
                connection_id,
                channel_id,
                client_id,
                created_at,
                state,
                source,
                is_bound,
            } = stored;
            // Of a session that nobody was seen in there is only who was let in.
            let session = self.sessions.find_session(&channel_id).unwrap_or_else(|| {
                let session_id = SessionId::generate(self.random_bytes());
                self.sessions.add_session(
                    channel_id,
                    session_id,
                    Timestamp {
                        wall: created_at,
                        boot,
                    },
                )
            });
            let new = NewConnection {
                connection_id,
                client_id,
                created_at,
                state,
                source,
                since: Since::at(boot),
            };
            let slot = self.sessions.restore_connection(session, new);
            match state {
                ConnectionState::Pending => self
                    .timers
                    .set(Timer::Pending(slot), boot + self.settings.pending_timeout),
                // Whoever is live was told of, and its session with it, whatever became of that one's row.
                ConnectionState::Live => self
                    .sessions
                    .session_mut(session)
                    .into_iter()
                    .for_each(|row| row.is_announced = true),
            }
            if is_bound {
                self.sessions.bind(slot, Some(SocketId::BEFORE_START));
            }
        }
        if self
            .sessions
            .bound_to(SocketId::BEFORE_START)
            .next()
            .is_some()
        {
            self.timers.set(
                Timer::Grace(SocketId::BEFORE_START),
                boot + self.settings.socket_grace,
            );
        }
    }

    /// Sessions that nobody is in linger from now on.
    fn restore_lingers(&mut self) {
        let at = self.started.boot + self.settings.session_linger;
        for slot in self.sessions.by_age(None) {
            let row = self.sessions.session(slot);
            if row.is_some_and(|row| {
                row.owner == SessionOwner::Gate && row.live == 0 && row.pending == 0
            }) {
                self.timers.set(Timer::Linger(slot), at);
            }
        }
    }
}

/// The mode at the start: the one that the operator says, else the stored one, as far as the cluster leaves it.
fn start_mode(settings: &Settings, stored: Option<ModeState>, started: Timestamp) -> ModeState {
    let stored_mode = stored.as_ref().map(|state| state.mode);
    let wanted = settings.mode.map(Mode::from).or(stored_mode);
    let mode = match wanted {
        Some(mode) if settings.cluster.is_some() && mode.is_block() => mode,
        _ if settings.cluster.is_some() => Mode::Initial,
        None | Some(Mode::Initial) => Mode::Normal,
        Some(mode) => mode,
    };
    match stored {
        Some(state) if state.mode == mode => state,
        Some(ModeState { generation, .. }) => start_state(mode, generation + 1, started),
        None => start_state(mode, 1, started),
    }
}

/// The last generation in which the node was not closed by an operator, as far as the history goes back.
fn opened_generation(now: &ModeState, changes: &[DatedModeChange]) -> u64 {
    if !now.mode.is_block() {
        return now.generation;
    }
    let opened = changes
        .iter()
        .rev()
        .find_map(
            |DatedModeChange { change, .. }| match (change.previous_mode, change.mode) {
                (_, mode) if !mode.is_block() => Some(change.generation),
                (previous, _) if !previous.is_block() => Some(change.generation.saturating_sub(1)),
                _ => None,
            },
        );
    opened.unwrap_or(0)
}

fn start_state(mode: Mode, generation: u64, started: Timestamp) -> ModeState {
    ModeState {
        mode,
        generation,
        since: started.wall,
        actor: "system:start".to_owned(),
        reason: None,
        expires_at: None,
        own_mode: None,
    }
}

/// The line of the history for a start that began with another mode than the one that was stored: there is no event that says it.
pub fn start_change(before: &ModeState, state: &ModeState) -> Option<DatedModeChange> {
    let ModeState {
        mode,
        generation,
        since,
        actor,
        reason,
        expires_at,
        ..
    } = state.clone();
    let change = ModeChange {
        mode,
        previous_mode: before.mode,
        generation,
        actor,
        on_behalf_of: None,
        reason,
        expires_at,
    };
    (generation != before.generation).then_some(DatedModeChange {
        timestamp: since,
        change,
    })
}
