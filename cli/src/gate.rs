//! Setting the mode, closing the node for a drain, and putting its mode back.

use std::time::{Duration, Instant};

use soramode_protocol::error::ErrorType;
use soramode_protocol::mode::{
    ChangeMode, ListModeChanges, Mode, ModeChanged, ModeState, REASON_BYTES_MAX, SettableMode,
};
use soramode_protocol::node::{GetInfo, GetStatus, Status};
use tokio::time::timeout;

use crate::change_words::{is_changed_since, set_words};
use crate::closing;
use crate::cluster::ClusterFlags;
use crate::context::Context;
use crate::daemon::{Daemon, Socket};
use crate::error::{Exit, Failure};
use crate::output::escape::escape;
use crate::report::Change;
use crate::seen::Seen;
use crate::way_back::{Known, way_back};

/// How often another client may change the mode between the look at it and its change.
const ATTEMPTS_MAX: u32 = 5;

/// `expires_in_seconds` of a mode that does not end by itself.
const NEVER: u64 = 0;

/// Changes of the mode among which are the one that was just seen and the one before it.
const NEWEST: u32 = 10;

/// Between the reasons of those who closed a node together.
const REASONS: &str = "; ";

/// The remedy where two nodes closed at the same moment.
pub(crate) const GAVE_WAY: &str = "Run it again; the other node may have given way too";

/// How long the last look at the mode may take: the operator who pressed Ctrl-C waits for it.
const LAST_LOOK_MAX: Duration = Duration::from_secs(1);

/// The closing that a drain found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    /// None: the node was open, or not closed far enough.
    No,
    /// One of this user.
    Own,
    /// One of another operator.
    Theirs,
}

/// A mode that this command set, or found.
pub(crate) struct Closed {
    pub(crate) before: Known,
    /// The mode as this command left it.
    pub(crate) now: Known,
    /// The mode that was asked for.
    pub(crate) target: Mode,
    /// The node after that.
    pub(crate) seen: Seen,
    /// Whether the other nodes of its cluster know, where it has one.
    pub(crate) published: Option<bool>,
    /// Whether this changed anything.
    pub(crate) changed: bool,
    pub(crate) joined: Joined,
}

impl Closed {
    /// The same for the report.
    pub(crate) fn change(&self) -> Change {
        Change {
            previous_mode: self.before.mode,
            mode: self.now.mode,
            changed: self.changed,
            generation: self.now.generation(),
        }
    }
}

/// The user for whom the caller acts: `sudo` sets it. Recorded, not verified.
pub(crate) fn on_behalf_of() -> Option<String> {
    const BYTES_MAX: usize = soramode_protocol::mode::ON_BEHALF_OF_BYTES_MAX;
    std::env::var("SUDO_USER")
        .ok()
        .filter(|user| (1..=BYTES_MAX).contains(&user.len()))
}

/// Sets the mode.
pub(crate) async fn set(
    daemon: &mut Daemon<'_>,
    change: &ChangeMode,
) -> Result<(Closed, ModeChanged), Failure> {
    let (changed, status) = daemon.call_both(change, &GetStatus {}).await?;
    let history = daemon
        .call(&ListModeChanges {
            limit: Some(NEWEST),
        })
        .await?
        .changes;
    let last = changed.generation - u64::from(changed.changed);
    let before = match history.iter().find(|dated| dated.change.generation <= last) {
        Some(dated) if dated.change.mode == changed.previous_mode => {
            Known::of(closing::with_operator(dated.state(), &history))
        }
        // Before the first change there is none in the history.
        Some(_) | None => Known {
            mode: changed.previous_mode,
            state: None,
        },
    };
    let left = |after| {
        Known::of(closing::with_operator(
            left(&changed, change, after),
            &history,
        ))
    };
    let now = if changed.changed {
        left(&status.mode)
    } else {
        before.clone()
    };
    let (published, changed_it) = (changed.published, changed.changed);
    let seen = Seen::Daemon(Box::new(status));
    let closed = Closed {
        before,
        now,
        target: change.mode.into(),
        seen,
        published,
        changed: changed_it,
        joined: Joined::No,
    };
    Ok((closed, changed))
}

/// The mode as this change left it; the status after it may show another's already.
fn left(changed: &ModeChanged, change: &ChangeMode, after: &ModeState) -> ModeState {
    let &ModeChanged {
        mode,
        generation,
        expires_at,
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
        reason,
        ..after.clone()
    }
}

/// Closes the node at least as far as `target`. Never loosens: a mode that is tighter stays. A node that is closed far enough is joined:
/// the reason is added to that of the other operators, so that a maintenance of theirs sees that it does not end the closing alone; and a
/// time after which the node would open by itself is taken away.
pub(crate) async fn close(
    daemon: &mut Daemon<'_>,
    target: SettableMode,
    reason: Option<&str>,
) -> Result<Closed, Failure> {
    let mut failure = None;
    for _ in 0..ATTEMPTS_MAX {
        let status = daemon.call(&GetStatus {}).await?;
        let (before, mut joined, actor) = look_at_closing(daemon, status.mode.clone()).await?;
        let stays = SettableMode::try_from(before.mode)
            .ok()
            .filter(|_| before.mode.is_block() && before.mode >= Mode::from(target));
        let wanted = if stays.is_some() {
            joined_reason(&before, (joined, &actor), reason)
        } else {
            joined = Joined::No;
            reason
                .map(str::to_owned)
                .or_else(|| before.reason.clone().filter(|_| before.mode.is_block()))
        };
        let is_enough = stays.is_some() && before.expires_at.is_none();
        if is_enough && wanted.is_none() {
            return Ok(found(before, status, (target, joined)));
        }
        let change = ChangeMode {
            reason: wanted,
            expires_in_seconds: stays.map(|_| NEVER),
            // Only from the mode that was read: a change in between could be stricter.
            if_generation: Some(before.generation),
            on_behalf_of: on_behalf_of(),
            ..ChangeMode::to(stays.unwrap_or(target))
        };
        match daemon.call_both(&change, &GetStatus {}).await {
            Ok((changed, status)) => {
                let (before, now) = (
                    Known::of(before),
                    Known::of(left(&changed, &change, &status.mode)),
                );
                let (published, seen) = (changed.published, Seen::Daemon(Box::new(status)));
                return Ok(Closed {
                    before,
                    now,
                    target: target.into(),
                    seen,
                    published,
                    changed: changed.changed,
                    joined,
                });
            }
            Err(superseded) if superseded.exit == Exit::Superseded => failure = Some(superseded),
            // The reason alone is not worth giving up for: the node is closed.
            Err(refused) if is_enough && is_for_now(&refused) => {
                return Ok(found(before, status, (target, joined)));
            }
            Err(other) => return Err(other),
        }
    }
    Err(failure.unwrap_or_else(|| {
        Failure::new(Exit::Superseded, "another client keeps changing the mode")
    }))
}

/// Whether a change was refused because the state cannot be written, or because this user may only look.
fn is_for_now(refused: &Failure) -> bool {
    matches!(
        refused.error_type,
        Some(ErrorType::StorageUnavailable | ErrorType::PermissionDenied)
    )
}

/// A node that is closed far enough, as it was found.
fn found(before: ModeState, status: Status, (target, joined): (SettableMode, Joined)) -> Closed {
    let published = status.cluster.as_ref().map(|cluster| cluster.published);
    let (before, seen) = (Known::of(before), Seen::Daemon(Box::new(status)));
    Closed {
        now: before.clone(),
        before,
        target: target.into(),
        seen,
        published,
        changed: false,
        joined,
    }
}

/// The mode with the operator for whom it was set (under `sudo` every actor is root), whether that is this user, and the actor of this user.
async fn look_at_closing(
    daemon: &mut Daemon<'_>,
    state: ModeState,
) -> Result<(ModeState, Joined, String), Failure> {
    if !state.mode.is_block() {
        return Ok((state, Joined::No, String::new()));
    }
    let (history, info) = daemon
        .call_both(
            &ListModeChanges {
                limit: Some(NEWEST),
            },
            &GetInfo {},
        )
        .await?;
    let change = history
        .changes
        .iter()
        .map(|dated| &dated.change)
        .find(|change| change.generation == state.generation);
    let is_own = info.actor.as_ref() == Some(&state.actor)
        && change.is_some_and(|change| change.on_behalf_of == on_behalf_of());
    let joined = if is_own { Joined::Own } else { Joined::Theirs };
    Ok((
        closing::with_operator(state, &history.changes),
        joined,
        info.actor.unwrap_or_default(),
    ))
}

/// Returns the reason to record when a closing is joined: `CHG-1; CHG-2`. `None` where it has this one already.
fn joined_reason(
    before: &ModeState,
    (joined, actor): (Joined, &str),
    reason: Option<&str>,
) -> Option<String> {
    let operator = || {
        format!(
            "also drained by {}",
            on_behalf_of().unwrap_or_else(|| actor.to_owned())
        )
    };
    let mine = match (reason, joined) {
        (Some(reason), _) => reason.to_owned(),
        (None, Joined::Theirs) => operator(),
        (None, Joined::No | Joined::Own) => return None,
    };
    match before.reason.as_deref() {
        Some(theirs) if theirs == mine || theirs.split(REASONS).any(|part| part == mine) => None,
        Some(theirs) => Some(format!("{theirs}{REASONS}{mine}"))
            .filter(|both| both.len() <= REASON_BYTES_MAX)
            .or(Some(mine)),
        None => Some(mine),
    }
}

/// How putting the mode back ended.
pub(crate) enum PutBack {
    /// It is as it was before.
    Done(Mode),
    /// It never was another.
    Same,
    /// Another client changed it meanwhile: it is left as they want it.
    ChangedMeanwhile(Box<ModeState>),
}

/// Puts the mode from before back, with its reason and the rest of its time, unless another client changed it since.
pub(crate) async fn put_back(
    context: &Context<'_>,
    closed: &Closed,
    reason: &str,
) -> Result<PutBack, Failure> {
    let mut daemon = connect_again(context.socket).await?;
    let now = mode_now(&mut daemon).await?;
    if is_changed_since(closed, &Known::of(now.clone())) {
        return Ok(PutBack::ChangedMeanwhile(Box::new(now)));
    }
    let Some(before) = closed.before.state.as_ref().filter(|_| closed.changed) else {
        return Ok(PutBack::Same);
    };
    let back = way_back(before, crate::output::times::now());
    let reason = if back.mode == SettableMode::Normal {
        Some(reason.to_owned())
    } else {
        back.reason
    };
    let change = ChangeMode {
        reason,
        if_generation: closed.now.generation(),
        on_behalf_of: on_behalf_of(),
        ..back
    };
    match daemon.call(&change).await {
        Ok(changed) => Ok(PutBack::Done(changed.mode)),
        Err(failure) if failure.exit == Exit::Superseded => Ok(PutBack::ChangedMeanwhile(
            Box::new(mode_now(&mut daemon).await?),
        )),
        Err(failure) => Err(failure),
    }
}

/// The mode now, with the operator for whom it was set.
pub(crate) async fn mode_now(daemon: &mut Daemon<'_>) -> Result<ModeState, Failure> {
    let (status, history) = daemon
        .call_both(
            &GetStatus {},
            &ListModeChanges {
                limit: Some(NEWEST),
            },
        )
        .await?;
    Ok(closing::with_operator(status.mode, &history.changes))
}

/// The mode at the end of a wait. Where the node does not answer at once, what was seen last.
pub(crate) async fn last_look(context: &Context<'_>, last: &Known) -> Known {
    let look = async { mode_now(&mut context.socket.connect().await?).await };
    timeout(LAST_LOOK_MAX, look)
        .await
        .ok()
        .and_then(Result::ok)
        .map_or_else(|| last.clone(), Known::of)
}

/// Connects to a daemon that was there before, and may be restarted just now.
pub(crate) async fn connect_again(socket: &Socket) -> Result<Daemon<'_>, Failure> {
    match socket.connect().await {
        Err(failure) if failure.exit == Exit::Unreachable => socket.reconnect(Instant::now()).await,
        other => other,
    }
}

/// A reason for going back, after the operator's own: `CHG-1: drain timed out`.
pub(crate) fn with_message(message: Option<&str>, reason: &str) -> String {
    let both = message.map(|message| format!("{message}: {reason}"));
    both.filter(|both| both.len() <= REASON_BYTES_MAX)
        .unwrap_or_else(|| reason.to_owned())
}

/// Puts the mode back where another node closed at the same moment, so that too few are open.
pub(crate) async fn give_way(
    context: &Context<'_>,
    closed: &Closed,
    (flags, reason): (&ClusterFlags, Option<&str>),
) -> Result<(), Failure> {
    if closed.before.mode.is_block() || !closed.now.mode.is_block() {
        return Ok(());
    }
    let Some(why) = flags.too_few_others(context, None).await else {
        return Ok(());
    };
    let node = closed.seen.name();
    let what = match put_back(
        context,
        closed,
        &with_message(reason, "another node closed at the same moment"),
    )
    .await
    {
        Ok(PutBack::Done(mode)) => format!("{node} is {mode} again"),
        Ok(PutBack::Same) => return Ok(()),
        Ok(PutBack::ChangedMeanwhile(now)) => format!("NOT reopened: {}", set_words(&now)),
        Err(problem) => format!("{node} could not be reopened and is STILL CLOSED: {problem}"),
    };
    Err(Failure::new(Exit::Refused, format!("{why}. {what}")).with_hint(GAVE_WAY))
}

/// Where nothing is heard of a node any more.
pub(crate) fn last_contact_words(node: &str, mode: Mode) -> String {
    format!("{} was {mode} at the last contact", escape(node))
}
