//! The seven invariants, by what the core shows of itself, without the model. (6 is the replay's, 7 is `same_seed`'s.)

use soramode_core::effect::{Action, Effects};
use soramode_core::input::{Input, SoraInput};
use soramode_protocol::decision::Decision;
use soramode_protocol::event::EventKind;
use soramode_protocol::mode::{Mode, ModeChange};
use soramode_protocol::node::Membership;
use soramode_protocol::reply::Reply;
use soramode_protocol::request::GateRequest;
use soramode_protocol::session::ConnectionState;

use super::inputs::Transition;
use super::run::{Tables, mode_after};

pub(super) struct Step<'a> {
    pub(super) before: &'a Tables,
    pub(super) after: &'a Tables,
    pub(super) transition: &'a Transition,
    pub(super) effects: &'a Effects,
    /// Deadlines had come before it.
    pub(super) is_late: bool,
}

pub(super) fn check(step: &Step<'_>) -> Result<(), String> {
    tables_agree(step.after)?;
    no_connection_is_admitted(step)?;
    modes_change_no_table(step)?;
    for kind in step.effects.kinds() {
        if let EventKind::ModeChanged(change) = kind {
            initial_is_the_systems(change, step)?;
        }
    }
    vanished_where_it_must(step)?;
    causes_come_first(step.effects)
}

fn must(holds: Option<()>, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    holds.ok_or_else(otherwise)
}

/// 1: every connection is in exactly one session of its channel, and the counts are those of the tables.
fn tables_agree(tables: &Tables) -> Result<(), String> {
    let Tables {
        status,
        sessions,
        connections,
    } = tables;
    for connection in connections {
        let homes = sessions.iter().filter(|it| {
            it.session_id == connection.session_id && it.channel_id == connection.channel_id
        });
        must((homes.count() == 1).then_some(()), || {
            format!("1: {connection:?} is not in one session")
        })?;
    }
    for session in sessions {
        let inside = connections.iter().filter(|it| {
            it.session_id == session.session_id && it.channel_id == session.channel_id
        });
        must(
            (inside.count() as u64 == session.connections).then_some(()),
            || format!("1: {session:?} is miscounted"),
        )?;
    }
    let pending = connections
        .iter()
        .filter(|it| it.state == ConnectionState::Pending)
        .count();
    let counted = (
        sessions.len() as u64,
        connections.len() as u64,
        pending as u64,
    );
    must(
        (counted == (status.sessions, status.connections, status.pending)).then_some(()),
        || format!("1: status counts {status:?}"),
    )
}

/// 2: under `block_new_connection` no new connection is offered, under `block_new_session` none that makes a session.
fn no_connection_is_admitted(step: &Step<'_>) -> Result<(), String> {
    let Transition::Input(
        Input::Request {
            request: GateRequest::Connect(_),
            ..
        }
        | Input::Sora(SoraInput::Admit { .. }),
    ) = step.transition
    else {
        return Ok(());
    };
    let offered = step.effects.actions.iter().find_map(|action| match action {
        Action::Answer(
            _,
            Ok(Reply::Decision(Decision::Offer {
                connection_id,
                created,
                ..
            })),
        ) => Some((connection_id, *created)),
        Action::Answer(..)
        | Action::Progress(..)
        | Action::Poll
        | Action::Lock(_)
        | Action::AcceptSessions(_)
        | Action::Sfu(_)
        | Action::Deliver(_)
        | Action::OutcomeApplied { .. }
        | Action::Bug(_)
        | Action::Deferred(_)
        | Action::Etcd(_)
        | Action::Fence { .. } => None,
    });
    let Some((id, created)) = offered else {
        return Ok(());
    };
    let is_new = !step
        .before
        .connections
        .iter()
        .any(|it| it.connection_id == *id);
    let is_wrong = match mode_after(&step.before.status.mode, step.effects) {
        Mode::Normal => false,
        Mode::BlockNewSession => created,
        Mode::BlockNewConnection | Mode::Initial => is_new,
    };
    must((!is_wrong).then_some(()), || format!("2: {id} was let in"))
}

/// 3: a change of the mode or of the membership changes no session and no connection; but where nobody may come back any more, a session
/// that waited for that ends.
fn modes_change_no_table(step: &Step<'_>) -> Result<(), String> {
    let is_change = matches!(
        step.transition,
        Transition::Input(
            Input::Request {
                request: GateRequest::ChangeMode(_),
                ..
            } | Input::StorageRestored
        ) | Transition::Heartbeat
    );
    let tightens = step.effects.kinds().any(
        |kind| matches!(kind, EventKind::ModeChanged(it) if it.mode == Mode::BlockNewConnection),
    );
    let counted = |tables: &Tables| {
        let sessions = tables.sessions.iter();
        let counted = sessions.filter(|it| it.connections > 0 || !tightens);
        counted.cloned().collect::<Vec<_>>()
    };
    let is_same = counted(step.before) == counted(step.after)
        && step.before.connections == step.after.connections;
    must(
        (!is_change || step.is_late || is_same).then_some(()),
        || "3: a change of the mode changed a table".to_owned(),
    )
}

/// 4: `initial` is entered by isolation or an expiry while not joined alone, and left by joining, `block_*` or the storage alone.
fn initial_is_the_systems(change: &ModeChange, step: &Step<'_>) -> Result<(), String> {
    let actor = change.actor.as_str();
    let leaves_cluster = |kind: &EventKind| {
        matches!(
            kind,
            EventKind::NodeIsolated { .. } | EventKind::NodeFenced { .. }
        )
    };
    let is_out = matches!(
        step.before.status.membership,
        Membership::Isolated | Membership::Fenced
    ) || step.effects.kinds().any(leaves_cluster);
    let may_enter = match actor {
        "system:isolated" | "system:fenced" => true,
        "system:expired" => is_out,
        _ => false,
    };
    let may_leave = match change.mode {
        Mode::Normal => actor == "system:joined",
        Mode::BlockNewSession => actor.starts_with("uid:"),
        Mode::BlockNewConnection => actor.starts_with("uid:") || actor == "system:storage",
        Mode::Initial => true,
    };
    let enters = change.mode == Mode::Initial;
    let leaves = change.previous_mode == Mode::Initial;
    must(
        ((!enters || may_enter) && (!leaves || may_leave)).then_some(()),
        || format!("4: {change:?}"),
    )
}

/// 5: `session.vanished` exactly where the number of sessions reached zero under a `block_*` mode.
fn vanished_where_it_must(step: &Step<'_>) -> Result<(), String> {
    let (before, after) = (&step.before.status, &step.after.status);
    let emitted = step
        .effects
        .kinds()
        .filter(|kind| **kind == EventKind::SessionVanished)
        .count();
    let reached_zero = before.sessions > 0
        && after.sessions == 0
        && mode_after(&before.mode, step.effects).is_block();
    // The model has to know the effects of deadlines in the same step, and those held back until now.
    if step.is_late
        || matches!(
            step.transition,
            Transition::Input(Input::Started(_) | Input::StorageFailed(_))
        )
        || before.sessions_complete != after.sessions_complete
    {
        return Ok(());
    }
    let due = usize::from(reached_zero && after.sessions_complete);
    must((emitted == due).then_some(()), || {
        format!("5: session.vanished {emitted} times, and not {due}")
    })
}

/// connection.destroyed before its session.destroyed, session.created before its connection.created, session.vanished after all ends.
fn causes_come_first(effects: &Effects) -> Result<(), String> {
    let (mut over, mut alive, mut is_vanished) = (Vec::new(), Vec::new(), false);
    for kind in effects.kinds() {
        let is_early = match kind {
            EventKind::SessionCreated { session_id, .. } => {
                over.retain(|other| *other != session_id);
                is_vanished = false;
                alive.contains(&session_id)
            }
            EventKind::SessionDestroyed { session_id, .. } => {
                over.push(session_id);
                alive.retain(|other| *other != session_id);
                is_vanished
            }
            EventKind::ConnectionCreated { session_id, .. }
            | EventKind::ConnectionDestroyed { session_id, .. } => {
                alive.push(session_id);
                over.contains(&session_id)
            }
            EventKind::SessionVanished => std::mem::replace(&mut is_vanished, true),
            EventKind::ModeChanged(_)
            | EventKind::DeliverySucceeded(_)
            | EventKind::DeliveryFailed(_)
            | EventKind::PlanCreated(_)
            | EventKind::PlanStep(_)
            | EventKind::PlanStalled { .. }
            | EventKind::PlanOver(_)
            | EventKind::MaintenanceAnnounced(_)
            | EventKind::EndRequested(_)
            | EventKind::WebhookReceived { .. }
            | EventKind::NodeJoined { .. }
            | EventKind::NodeIsolated { .. }
            | EventKind::NodeFenced { .. }
            | EventKind::Unknown => false,
        };
        must((!is_early).then_some(()), || {
            format!("an effect comes before its cause, at {kind:?}")
        })?;
    }
    Ok(())
}
