//! Sets the mode, closes the node for a drain, and restores its mode.

use soramode_protocol::error::ErrorType;
use soramode_protocol::mode::{
    ChangeMode, ListModeChanges, Mode, ModeChanged, ModeState, SettableMode, with_message,
};
use soramode_protocol::node::{GetInfo, GetStatus, Status};
use soramode_protocol::sora_api::ModeSet;
use soramode_protocol::time::Time;

use crate::api::{Api, Detail};
use crate::at_least::at_least;
use crate::cluster::ClusterFlags;
use crate::context::Context;
use crate::daemon::Daemon;
use crate::describe::describe_later_change;
use crate::error::{Exit, Failure};
use crate::last_status::LastStatus;
use crate::mode_info::{ModeInfo, REASONS, both_reasons, with_operator};
use crate::mode_result::{Joined, ModeResult, Stopped};
use crate::node::{NEWEST, Node};
use crate::output::times;
use crate::signals::{Signals, unless_interrupted};
use crate::undo::restore_change;

/// Number of attempts to close a node of which other clients change the mode at the same time.
pub(crate) const ATTEMPTS_MAX: u32 = 5;

/// `expires_in_seconds` of a mode without a timer.
const NEVER: u64 = 0;

/// The remedy where two nodes closed at the same moment.
const GAVE_WAY: &str = "Run it again; the other node may have given way too";

/// The remedy where the other nodes do not know of the closing.
const NOT_CONFIRMED: &str = "Run it again once etcd answers";

/// Treatment of a mode that is stricter than the requested one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stricter {
    #[default]
    Replace,
    Keep,
}

/// Sets the mode. A signal before the request leaves the node as it is.
pub(crate) async fn set(
    node: Node<'_>,
    change: &ChangeMode,
    stricter: Stricter,
    signals: Option<&mut Signals>,
) -> Result<ModeResult, Failure> {
    let target = change.mode;
    let result = match node {
        Node::Daemon(_) => {
            let mut daemon = unless_interrupted(signals, node.connect()).await?;
            match stricter {
                Stricter::Replace => set_by_daemon(&mut daemon, change).await,
                Stricter::Keep => tighten_by_daemon(&mut daemon, change).await,
            }
        }
        Node::Api(api) => {
            let before = unless_interrupted(signals, api.read_status(Detail::Mode)).await?;
            let mode = match stricter {
                Stricter::Replace => target,
                Stricter::Keep => at_least(target, before.mode(), before.membership()),
            };
            set_over_api(api, &before, mode, change.reason.as_deref()).await
        }
    };
    result.map(|result| ModeResult {
        target: target.into(),
        ..result
    })
}

/// Sets a mode at least as strict as the requested one.
async fn tighten_by_daemon(
    daemon: &mut Daemon<'_>,
    change: &ChangeMode,
) -> Result<ModeResult, Failure> {
    let has_condition = change.if_mode.is_some() || change.if_generation.is_some();
    let mut attempts = 0;
    loop {
        attempts += 1;
        let status = daemon.call(&GetStatus {}).await?;
        check_timer(change, status.mode.mode)?;
        let tightened = ChangeMode {
            mode: at_least(change.mode, status.mode.mode, Some(status.membership)),
            // Only from the mode that was read: a change in between could be stricter.
            if_generation: change.if_generation.or(Some(status.mode.generation)),
            ..change.clone()
        };
        match set_by_daemon(daemon, &tightened).await {
            Err(superseded)
                if superseded.exit == Exit::Superseded
                    && !has_condition
                    && attempts < ATTEMPTS_MAX => {}
            result => return result,
        }
    }
}

/// Refuses a timer for a mode that stays because it is stricter: it would open a node that was not to open by itself.
fn check_timer(change: &ChangeMode, now: Mode) -> Result<(), Failure> {
    let has_timer = change.expires_in_seconds.is_some_and(|it| it > NEVER);
    if !has_timer || !now.is_block() || now <= Mode::from(change.mode) {
        return Ok(());
    }
    let message =
        format!("the node is {now}, which stays; --for would open it. Nothing was changed");
    let hint = "Leave out --for, or give this mode a timer by soramode set";
    Err(Failure::new(Exit::Refused, message).with_hint(hint))
}

async fn set_by_daemon(
    daemon: &mut Daemon<'_>,
    change: &ChangeMode,
) -> Result<ModeResult, Failure> {
    let (changed, status) = daemon.call_both(change, &GetStatus {}).await?;
    let newest = ListModeChanges {
        limit: Some(NEWEST),
    };
    let history = daemon.call(&newest).await?.changes;
    let last = changed.generation - u64::from(changed.changed);
    let before = match history.iter().find(|dated| dated.change.generation <= last) {
        Some(dated) if dated.change.mode == changed.previous_mode => {
            ModeInfo::of(with_operator(dated.state(), &history))
        }
        // The mode at the start is not in the history.
        _ if status.mode.generation == last => ModeInfo::of(status.mode.clone()),
        Some(_) | None => ModeInfo::mode_only(changed.previous_mode),
    };
    let now = if changed.changed {
        ModeInfo::of(with_operator(
            mode_left(&changed, change, &status.mode),
            &history,
        ))
    } else {
        before.clone()
    };
    Ok(ModeResult {
        before,
        now,
        target: change.mode.into(),
        status: LastStatus::Daemon(Box::new(status)),
        published: changed.published,
        changed: changed.changed,
        joined: Joined::No,
        stopped: stopped(&changed),
        warning: changed.warning,
        status_failure: None,
        plan_id: None,
    })
}

fn stopped(changed: &ModeChanged) -> Stopped {
    Stopped {
        plan: changed.plan_cancelled.clone(),
        ends: changed.ends_stopped,
    }
}

async fn set_over_api(
    api: &Api,
    before: &LastStatus,
    target: SettableMode,
    reason: Option<&str>,
) -> Result<ModeResult, Failure> {
    let ModeSet {
        mode,
        warning,
        published,
    } = api.set(target, reason).await?;
    let (status, status_failure) = match api.read_status(Detail::Counts).await {
        Ok(status) => (status, None),
        Err(failure) => (LastStatus::unread(api.name(), mode), Some(failure)),
    };
    // Another client may have changed it after that.
    let state = status
        .mode_state()
        .filter(|state| state.mode == mode)
        .cloned();
    Ok(ModeResult {
        before: before.mode_info(),
        now: ModeInfo { mode, state },
        target: target.into(),
        status,
        published,
        changed: before.mode() != mode,
        joined: Joined::No,
        warning,
        status_failure,
        plan_id: None,
        stopped: Stopped::default(),
    })
}

/// Returns the mode as this change left it; the status after it may show another client's already.
fn mode_left(changed: &ModeChanged, change: &ChangeMode, after: &ModeState) -> ModeState {
    let &ModeChanged {
        mode,
        generation,
        expires_at,
        expected_end_at,
        ..
    } = changed;
    let reason = if after.generation == generation {
        after.reason.clone()
    } else {
        change.reason.clone()
    };
    ModeState {
        mode,
        generation,
        expires_at,
        expected_end_at,
        reason,
        ..after.clone()
    }
}

/// Closing of a node for a drain.
#[derive(Clone, Copy)]
pub(crate) struct Closing<'a> {
    pub(crate) target: SettableMode,
    pub(crate) reason: Option<&'a str>,
    pub(crate) expected_end_at: Option<Time>,
}

/// Closes the node at least as far as `target`, and never loosens a mode that is stricter.
///
/// A node that is closed far enough already is joined: the reason is added to that of the other operators, so that a maintenance of theirs
/// sees that it does not end the closing alone, and the timer that would open the node is cancelled. Over HTTP neither is possible.
/// A signal before the request leaves the node as it is.
pub(crate) async fn close(
    node: Node<'_>,
    closing: Closing<'_>,
    signals: Option<&mut Signals>,
) -> Result<ModeResult, Failure> {
    match node {
        Node::Daemon(_) => {
            let read = async {
                let mut daemon = node.connect().await?;
                let status = daemon.call(&GetStatus {}).await?;
                Ok((daemon, status))
            };
            let (mut daemon, status) = unless_interrupted(signals, read).await?;
            close_by_daemon(&mut daemon, status, closing).await
        }
        Node::Api(api) => {
            let Closing { target, reason, .. } = closing;
            let status = unless_interrupted(signals, api.read_status(Detail::Counts)).await?;
            if status.mode().is_block() && status.mode() >= Mode::from(target) {
                return Ok(ModeResult::found(
                    status.mode_info(),
                    status,
                    target,
                    Joined::Theirs,
                ));
            }
            let mode = at_least(target, status.mode(), status.membership());
            let closed = set_over_api(api, &status, mode, reason).await?;
            Ok(ModeResult {
                target: target.into(),
                ..closed
            })
        }
    }
}

async fn close_by_daemon(
    daemon: &mut Daemon<'_>,
    first: Status,
    closing: Closing<'_>,
) -> Result<ModeResult, Failure> {
    let Closing {
        target,
        reason,
        expected_end_at,
    } = closing;
    let mut failure = None;
    let mut first = Some(first);
    for _ in 0..ATTEMPTS_MAX {
        let status = match first.take() {
            Some(status) => status,
            None => daemon.call(&GetStatus {}).await?,
        };
        let FoundMode {
            state: before,
            mut joined,
            operator,
        } = read_closing(daemon, status.mode.clone()).await?;
        let mode = at_least(target, before.mode, Some(status.membership));
        let stays = before.mode == Mode::from(mode);
        let wanted = if stays {
            joined_reason(before.reason.as_deref(), joined, &operator, reason)
        } else {
            joined = Joined::No;
            reason
                .map(str::to_owned)
                .or_else(|| before.reason.clone().filter(|_| before.mode.is_block()))
        };
        let is_enough = stays && before.expires_at.is_none();
        let expected_end_at = expected_end_at.or(before.expected_end_at);
        if is_enough && wanted.is_none() && expected_end_at == before.expected_end_at {
            return Ok(unchanged(before, status, target, joined));
        }
        let change = ChangeMode {
            reason: wanted,
            expires_in_seconds: stays.then_some(NEVER),
            expected_end_at,
            // Only from the mode that was read: a change in between could be stricter.
            if_generation: Some(before.generation),
            unless_reserved: true,
            on_behalf_of: daemon.on_behalf_of(),
            ..ChangeMode::to(mode)
        };
        match daemon.call_both(&change, &GetStatus {}).await {
            Ok((changed, status)) => {
                return Ok(ModeResult {
                    before: ModeInfo::of(before),
                    now: ModeInfo::of(mode_left(&changed, &change, &status.mode)),
                    target: target.into(),
                    status: LastStatus::Daemon(Box::new(status)),
                    published: changed.published,
                    changed: changed.changed,
                    joined,
                    stopped: stopped(&changed),
                    warning: changed.warning,
                    status_failure: None,
                    plan_id: None,
                });
            }
            Err(superseded) if superseded.exit == Exit::Superseded => failure = Some(superseded),
            // The reason alone is not worth giving up for: the node is closed.
            Err(refused) if is_enough && cannot_change(&refused) => {
                return Ok(unchanged(before, status, target, joined));
            }
            Err(other) => return Err(other),
        }
    }
    Err(failure.unwrap_or_else(|| {
        Failure::new(Exit::Superseded, "another client keeps changing the mode")
    }))
}

/// Returns the result of a closing that changes nothing: the node was closed already.
fn unchanged(
    before: ModeState,
    status: Status,
    target: SettableMode,
    joined: Joined,
) -> ModeResult {
    let status = LastStatus::Daemon(Box::new(status));
    ModeResult::found(ModeInfo::of(before), status, target, joined)
}

/// Returns whether a change was refused because the state cannot be written, or because this user may only view.
fn cannot_change(refused: &Failure) -> bool {
    matches!(
        refused.error_type,
        Some(ErrorType::StorageUnavailable | ErrorType::PermissionDenied)
    )
}

/// The mode that a drain finds.
struct FoundMode {
    /// The mode, with the represented operator: under `sudo` every actor is root.
    state: ModeState,
    joined: Joined,
    /// This user as the daemon names it: the represented one, else the actor.
    operator: String,
}

/// Reads which operator closed the node, if it is closed, and whether that was this user.
async fn read_closing(daemon: &mut Daemon<'_>, state: ModeState) -> Result<FoundMode, Failure> {
    if !state.mode.is_block() {
        return Ok(FoundMode {
            state,
            joined: Joined::No,
            operator: String::new(),
        });
    }
    let newest = ListModeChanges {
        limit: Some(NEWEST),
    };
    let (history, info) = daemon.call_both(&newest, &GetInfo {}).await?;
    let change = history
        .changes
        .iter()
        .map(|dated| &dated.change)
        .find(|change| change.generation == state.generation);
    let is_own = info.actor.as_ref() == Some(&state.actor)
        && change.is_some_and(|change| change.on_behalf_of == daemon.on_behalf_of());
    Ok(FoundMode {
        state: with_operator(state, &history.changes),
        joined: if is_own { Joined::Own } else { Joined::Theirs },
        operator: daemon.on_behalf_of().or(info.actor).unwrap_or_default(),
    })
}

/// Returns the reason to record when a closing is joined: `CHG-1; CHG-2`. `None` where it has this one already.
fn joined_reason(
    before: Option<&str>,
    joined: Joined,
    operator: &str,
    reason: Option<&str>,
) -> Option<String> {
    let mine = match (reason, joined) {
        (Some(reason), _) => reason.to_owned(),
        (None, Joined::Theirs) => format!("also drained by {operator}"),
        (None, Joined::No | Joined::Own) => return None,
    };
    match before {
        Some(theirs) if theirs == mine || theirs.split(REASONS).any(|part| part == mine) => None,
        Some(theirs) => Some(both_reasons(theirs, mine)),
        None => Some(mine),
    }
}

/// The result of putting the mode back.
pub(crate) enum Restored {
    /// The mode from before is restored.
    Done(Mode),
    /// The command had not changed the mode.
    Same,
    /// Another client changed the mode meanwhile, so it was left.
    ChangedMeanwhile(ModeInfo),
}

/// Puts the mode from before back, with its reason and the rest of its time, unless another client changed it since.
pub(crate) async fn restore(
    node: Node<'_>,
    closed: &ModeResult,
    reason: &str,
) -> Result<Restored, Failure> {
    let now = node.mode_now().await?;
    if closed.is_changed(&now) {
        return Ok(Restored::ChangedMeanwhile(now));
    }
    if !closed.changed {
        return Ok(Restored::Same);
    }
    let back = restore_change(&closed.before, times::now());
    let reason = if back.mode == SettableMode::Normal {
        Some(reason.to_owned())
    } else {
        back.reason
    };
    let change = ChangeMode {
        reason,
        if_generation: closed.now.generation(),
        on_behalf_of: node.on_behalf_of(),
        ..back
    };
    match node.change(&change).await {
        Ok(mode) => Ok(Restored::Done(mode)),
        Err(failure) if failure.exit == Exit::Superseded => {
            Ok(Restored::ChangedMeanwhile(node.mode_now().await?))
        }
        Err(failure) => Err(failure),
    }
}

/// Puts the mode back where another node has closed, or may have closed, at the same moment, so that too few are open.
pub(crate) async fn give_way(
    context: &Context<'_>,
    node: Node<'_>,
    closed: &ModeResult,
    flags: &ClusterFlags,
    reason: Option<&str>,
) -> Result<(), Failure> {
    if closed.before.mode.is_block() || !closed.now.mode.is_block() {
        return Ok(());
    }
    let (why, hint) = if flags.is_given() && closed.published == Some(false) {
        // Another node that closes now does not know of it.
        let why = "etcd has not confirmed the closing".to_owned();
        (Some(why), NOT_CONFIRMED)
    } else {
        (flags.too_few_others(context, node).await, GAVE_WAY)
    };
    let Some(why) = why else {
        return Ok(());
    };
    let name = closed.status.name();
    let reason = with_message(reason, why.split(':').next().unwrap_or_default());
    let result = match restore(node, closed, &reason).await {
        Ok(Restored::Done(mode)) => format!("{name} is {mode} again"),
        Ok(Restored::Same) => return Ok(()),
        Ok(Restored::ChangedMeanwhile(now)) => {
            format!("NOT reopened: {}", describe_later_change(&now))
        }
        Err(problem) => format!("{name} could not be reopened and is STILL CLOSED: {problem}"),
    };
    Err(Failure::new(Exit::Refused, format!("{why}. {result}")).with_hint(hint))
}
