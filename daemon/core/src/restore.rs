//! The start: from nothing, or from the stored state.

use std::collections::BTreeMap;
use std::time::Duration;

use soramode_protocol::mode::{DatedModeChange, MODE_CHANGES_KEPT, Mode, ModeChange, ModeState};

use crate::auth_webhooks::AuthWebhooks;
use crate::ctx::{Random, Services};
use crate::gate::Gate;
use crate::handles::Timestamp;
use crate::held_mode::HeldMode;
use crate::input::Subscribers;
use crate::member::ClusterMember;
use crate::mode::{BY_STORAGE, ModeControl};
use crate::node::Node;
use crate::node::unasked::Unasked;
use crate::outbox::Outbox;
use crate::plan::Plans;
use crate::reservation::Reservations;
use crate::settings::Settings;
use crate::storage::StorageHealth;
use crate::stored::Stored;
use crate::sync::{SyncState, UntrackedIncarnations};
use crate::tables::index::Hashing;
use crate::tables::reports::Reports;
use crate::tables::restore::Lifetimes;
use crate::tables::sessions::Sessions;
use crate::tombstones::Tombstones;
use crate::waits::Waits;

/// Parameters of a start.
#[derive(Clone, Debug)]
pub struct StartParams {
    /// The gate's settings.
    pub settings: Settings,
    /// When it starts.
    pub started: Timestamp,
    /// The stored state.
    pub stored: Stored,
}

/// Randomness for ids and for the tables' hashes, fresh at each start.
#[derive(Clone, Copy, Debug)]
pub struct Seed(pub [u8; 32]);

impl Gate {
    /// Starts. `seed` is fresh from the system, never stored.
    pub fn restore(params: StartParams, seed: Seed) -> Self {
        let StartParams {
            mut settings,
            started,
            mut stored,
        } = params;
        // Without a stored incarnation there was none, or the state was lost.
        let may_be_untracked = stored.member.is_none_or(|member| member.has_untracked);
        let untracked = (settings.cluster.is_some() && may_be_untracked)
            .then_some(UntrackedIncarnations::Unread);
        let member = ClusterMember::new(&settings, &mut stored).map(Box::new);
        let plans = Plans::restore(&mut stored);
        let mut random = Random::new(seed.0);
        let hashing = Hashing::new(random.number(), random.number());
        let mut services = Services::new(random, settings.node_name.clone(), stored.next_seq);
        let mut mode = restore_mode(&settings, &mut stored, started);
        mode.restore_expiry(&mut services.timers, stored.expires_at_boot);
        let sync = SyncState::new(&settings, started, untracked, mode.is_block());
        sync.start_polls(&mut services.timers);
        let mut sessions = Sessions::new(hashing);
        sessions.restore(
            &mut services,
            started,
            stored.sessions,
            stored.connections,
            &Lifetimes {
                pending_timeout: settings.pending_timeout,
                socket_grace: settings.socket_grace,
                reconnect_grace: if mode.mode() == Mode::BlockNewConnection {
                    Duration::ZERO
                } else {
                    settings.reconnect_grace
                },
            },
        );
        let is_vanished = sessions.session_count() == 0 && mode.is_block();
        let locked_rooms = std::mem::take(&mut stored.locked_rooms);
        let held_mode = HeldMode::restore(settings.sfu.feed, locked_rooms, started.boot);
        let receivers = std::mem::take(&mut settings.receivers);
        let node = Node {
            started,
            mode,
            storage: StorageHealth::new(settings.storage.clone()),
            sessions,
            reports: Reports::default(),
            tombstones: Tombstones::default(),
            ended_sessions: Tombstones::default(),
            sync,
            vanished_pending: stored.vanished_pending && is_vanished,
            vanished_recorded: stored.vanished_pending,
            sessions_ended: 0,
            rejected: BTreeMap::new(),
            unasked: Unasked::default(),
            auth_webhooks: AuthWebhooks::default(),
            held_mode,
            waits: Waits::default(),
            subscribers: Subscribers::default(),
            plans,
            reservations: Reservations::restore(stored.reservation),
            outbox: Outbox::restore(stored.deliveries, receivers),
            member,
            settings,
        };
        Self { node, services }
    }
}

/// Returns the mode at the start, with its history.
fn restore_mode(settings: &Settings, stored: &mut Stored, started: Timestamp) -> ModeControl {
    let mut changes = std::mem::take(&mut stored.mode_changes);
    let before = stored.mode.take();
    let mode = start_mode(settings, before.clone(), stored.closed_by_storage, started);
    changes.extend(before.and_then(|before| start_change(&before, &mode)));
    let surplus = changes.len().saturating_sub(MODE_CHANGES_KEPT);
    changes.drain(..surplus);
    let opened_generation = opened_generation(&mode, &changes);
    ModeControl::new(mode, changes, opened_generation, started)
}

/// Returns the mode at the start: the operator's, else the stored one, as far as the cluster allows it. A node that closed itself because its
/// state could not be written stays closed.
fn start_mode(
    settings: &Settings,
    stored: Option<ModeState>,
    closed_by_storage: bool,
    started: Timestamp,
) -> ModeState {
    let stored_mode = stored.as_ref().map(|state| state.mode);
    let (kept, actor) = if closed_by_storage && settings.mode.is_none() {
        (Some(Mode::BlockNewConnection), BY_STORAGE)
    } else {
        (stored_mode, "system:start")
    };
    let wanted = settings.mode.map(Mode::from).or(kept);
    let mode = match wanted {
        Some(mode) if settings.cluster.is_some() && mode.is_block() => mode,
        _ if settings.cluster.is_some() => Mode::Initial,
        None | Some(Mode::Initial) => Mode::Normal,
        Some(mode) => mode,
    };
    match stored {
        Some(state) if state.mode == mode => state,
        Some(ModeState { generation, .. }) => start_state(mode, generation + 1, actor, started),
        None => start_state(mode, 1, actor, started),
    }
}

/// Returns the last generation in which no operator had closed the node, as far as the history goes back.
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

fn start_state(mode: Mode, generation: u64, actor: &str, started: Timestamp) -> ModeState {
    ModeState {
        mode,
        generation,
        since: started.wall,
        actor: actor.to_owned(),
        on_behalf_of: None,
        reason: None,
        expires_at: None,
        expected_end_at: None,
        own_mode: None,
        in_force: None,
        plan_id: None,
        roll: None,
    }
}

/// Returns the entry of the history for a start with another mode than the stored one, which makes no event.
pub fn start_change(before: &ModeState, state: &ModeState) -> Option<DatedModeChange> {
    let ModeState {
        mode,
        generation,
        since,
        actor,
        on_behalf_of,
        reason,
        expires_at,
        expected_end_at,
        plan_id,
        roll,
        own_mode: _,
        in_force: _,
    } = state.clone();
    let change = ModeChange {
        mode,
        previous_mode: before.mode,
        generation,
        actor,
        on_behalf_of,
        reason,
        expires_at,
        expected_end_at,
        plan_id,
        roll,
    };
    (generation != before.generation).then_some(DatedModeChange {
        timestamp: since,
        change,
    })
}
