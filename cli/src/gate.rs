//! Closing the node for a drain, and putting its mode back.

use std::time::Instant;

use soramode_protocol::mode::{ChangeMode, ListModeChanges, Mode, ModeChanged, ModeState, SettableMode};
use soramode_protocol::node::{GetStatus, Status, StorageState};

use crate::Context;
use crate::closing;
use crate::daemon::{Daemon, Socket};
use crate::error::{Exit, Failure};
use crate::output::escape::{escape, quoted};
use crate::output::{counted, times};
use crate::report::Change;
use crate::watch::{mode_words, until_words};

/// How often somebody else may come between the look at the mode and its change.
const ATTEMPTS_MAX: u32 = 5;

/// `expires_in_seconds` of a mode that does not end by itself.
const NEVER: u64 = 0;

/// Changes of the mode among which is the one that was just seen.
const NEWEST: u32 = 10;

/// The node, closed.
pub(crate) struct Closed {
    /// The mode from before.
    pub(crate) before: ModeState,
    /// The mode now.
    pub(crate) mode: Mode,
    /// The newest change that is known.
    pub(crate) generation: u64,
    /// The node after that, as it was seen last.
    pub(crate) status: Status,
    /// Whether the other nodes of its cluster know, where it has one.
    pub(crate) published: Option<bool>,
    /// Whether this changed anything.
    pub(crate) changed: bool,
}

/// Whom the caller acts for: `sudo` says so. Recorded, not verified.
pub(crate) fn on_behalf_of() -> Option<String> {
    const BYTES_MAX: usize = soramode_protocol::mode::ON_BEHALF_OF_BYTES_MAX;
    std::env::var("SUDO_USER").ok().filter(|user| (1..=BYTES_MAX).contains(&user.len()))
}

/// Closes the node at least as far as `target`. Never loosens: a mode that is tighter stays. A node that is closed far enough is joined:
/// its reason stays, and only a time after which it would open by itself is taken away.
pub(crate) async fn close(daemon: &mut Daemon<'_>, target: SettableMode, reason: Option<&str>) -> Result<Closed, Failure> {
    let mut failure = None;
    for _ in 0..ATTEMPTS_MAX {
        let status = daemon.call(&GetStatus {}).await?;
        let before = status.mode.clone();
        let joined = SettableMode::try_from(before.mode).ok().filter(|_| before.mode.is_block() && before.mode >= Mode::from(target));
        if joined.is_some() && before.expires_at.is_none() {
            let published = status.cluster.as_ref().map(|cluster| cluster.published);
            let before = named(daemon, before).await?;
            return Ok(Closed { mode: before.mode, generation: before.generation, before, status, published, changed: false });
        }
        let kept_reason = before.reason.clone().filter(|_| before.mode.is_block());
        let change = ChangeMode {
            reason: if joined.is_some() { None } else { reason.map(str::to_owned).or(kept_reason) },
            expires_in_seconds: joined.map(|_| NEVER),
            // Only from the mode that was read: a change in between could be stricter.
            if_generation: Some(before.generation),
            on_behalf_of: on_behalf_of(),
            ..ChangeMode::to(joined.unwrap_or(target))
        };
        match daemon.call_both(&change, &GetStatus {}).await {
            Ok((ModeChanged { mode, generation, changed, published, .. }, status)) => {
                let before = if joined.is_some() { named(daemon, before).await? } else { before };
                return Ok(Closed { before, mode, generation, status, published, changed });
            }
            Err(superseded) if superseded.exit == Exit::Superseded => failure = Some(superseded),
            Err(other) => return Err(other),
        }
    }
    Err(failure.unwrap_or_else(|| Failure::new(Exit::Superseded, "another client keeps changing the mode")))
}

/// The mode with the operator for whom it was set: under `sudo` every actor is root.
async fn named(daemon: &mut Daemon<'_>, state: ModeState) -> Result<ModeState, Failure> {
    let history = daemon.call(&ListModeChanges { limit: Some(NEWEST) }).await?;
    Ok(closing::with_operator(state, &history.changes))
}

impl Closed {
    /// What was done.
    pub(crate) fn words(&self, socket: &Socket, reason: Option<&str>) -> String {
        let node = escape(self.status.node_name.as_str());
        let time = self.before.expires_at.map(times::ahead).unwrap_or_default();
        if self.before.mode != self.mode {
            let taken = if time.is_empty() { String::new() } else { format!("; its timer (--for: normal in {time}) is cancelled") };
            return format!(
                "{node}: {} -> {} ({}){taken}. {}",
                self.before.mode,
                self.mode,
                stay_words(&self.status),
                self.undo_words(socket)
            );
        }
        let theirs = ModeState { expires_at: None, ..self.before.clone() };
        let taken = if time.is_empty() { String::new() } else { format!(". Its timer (--for: normal in {time}) is cancelled") };
        let kept = reason.filter(|reason| self.before.reason.as_deref() != Some(reason)).map(|reason| {
            let command = socket.command(&format!("set {} -m REASON", self.mode));
            format!(". The reason {} is not recorded. To change it: {command}", quoted(reason))
        });
        format!("{node}: already {}{taken}{}", mode_words(&theirs), kept.unwrap_or_default())
    }

    /// How to undo it.
    pub(crate) fn undo_words(&self, socket: &Socket) -> String {
        let undo = socket.command(&format!("set {}", Mode::from(undoing(self.before.mode, self.mode))));
        undo_words(&undo, self.status.storage.state)
    }

    /// The same for the report.
    pub(crate) const fn change(&self) -> Change {
        Change { previous_mode: self.before.mode, mode: self.mode, changed: self.changed, generation: Some(self.generation) }
    }
}

/// How to undo a change of the mode by this command: while the state cannot be written, the node stays as it is.
pub(crate) fn undo_words(undo: &str, storage: StorageState) -> String {
    match storage {
        StorageState::Failed => format!("Undo, once soramoded can write its state again: {undo}"),
        StorageState::Ok | StorageState::Memory => format!("Undo: {undo}"),
    }
}

/// `3 sessions, 11 connections stay`
pub(crate) fn stay_words(status: &Status) -> String {
    format!("{}, {} stay", counted(status.sessions, "session"), counted(status.connections, "connection"))
}

/// The mode that undoes a change from one to the other. A node that was closed before is opened: it can only be the closing that is not
/// wanted any more.
pub(crate) fn undoing(before: Mode, now: Mode) -> SettableMode {
    if before == now { SettableMode::Normal } else { mode_to_go_back_to(before) }
}

/// Nobody sets `initial`: a node that was so becomes normal by joining.
fn mode_to_go_back_to(before: Mode) -> SettableMode {
    SettableMode::try_from(before).unwrap_or(SettableMode::Normal)
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

/// Puts the mode from before back, unless another client changed it since.
pub(crate) async fn put_back(context: &Context<'_>, closed: &Closed, reason: &str) -> Result<PutBack, Failure> {
    let mut daemon = connect_again(context.socket).await?;
    let now = daemon.call(&GetStatus {}).await?.mode;
    if now.generation != closed.generation {
        return Ok(PutBack::ChangedMeanwhile(Box::new(now)));
    }
    if closed.before.mode == closed.mode {
        return Ok(PutBack::Same);
    }
    match daemon.call(&way_back(closed, reason)).await {
        Ok(changed) => Ok(PutBack::Done(changed.mode)),
        Err(failure) if failure.exit == Exit::Superseded => Ok(PutBack::ChangedMeanwhile(Box::new(daemon.call(&GetStatus {}).await?.mode))),
        Err(failure) => Err(failure),
    }
}

/// Connects to a daemon that was there before, and may be restarted just now.
pub(crate) async fn connect_again(socket: &Socket) -> Result<Daemon<'_>, Failure> {
    match socket.connect().await {
        Err(failure) if failure.exit == Exit::Unreachable => socket.reconnect(Instant::now()).await,
        other => other,
    }
}

/// Back to a `block_*` mode with its own reason, or to `normal` with this one. A time after which it would have opened is not set again:
/// the way back restores the mode alone.
fn way_back(closed: &Closed, reason: &str) -> ChangeMode {
    let before = &closed.before;
    // One whose time is over by now would have become normal by itself.
    let is_over = before.expires_at.is_some_and(|expires_at| expires_at <= times::now());
    let mode = if is_over { SettableMode::Normal } else { mode_to_go_back_to(before.mode) };
    ChangeMode {
        reason: if mode == SettableMode::Normal { Some(reason.to_owned()) } else { before.reason.clone() },
        if_generation: Some(closed.generation),
        on_behalf_of: on_behalf_of(),
        ..ChangeMode::to(mode)
    }
}

/// What is known of the mode of a node that was closed and is watched no more.
pub(crate) fn still_words(failure: &Failure, status: &Status, mode: Mode) -> String {
    let node = escape(status.node_name.as_str());
    if failure.exit == Exit::Unreachable {
        return format!("{node} was {mode} at the last contact");
    }
    format!("{node} stays {mode}{}", until_words(&status.mode))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn closed(before: Mode, expires_in: Option<u64>) -> Closed {
        let state = ModeState {
            mode: before,
            generation: 4,
            since: times::now(),
            actor: "uid:1000(ops)".to_owned(),
            reason: Some("CHG-1".to_owned()),
            expires_at: expires_in.map(|seconds| times::now() + Duration::from_secs(seconds)),
            own_mode: None,
        };
        let status = crate::seen::status_of("block_new_connection", r#","sessions_complete":true"#);
        Closed { before: state, mode: Mode::BlockNewConnection, generation: 5, status, published: None, changed: true }
    }

    #[test]
    fn the_way_back_is_taken_only_from_the_change_that_was_made() {
        let change = way_back(&closed(Mode::Normal, None), "done");
        assert_eq!(change.mode, SettableMode::Normal);
        assert_eq!(change.if_generation, Some(5));
        assert_eq!(change.reason.as_deref(), Some("done"));
    }

    #[test]
    fn a_mode_with_an_expiry_keeps_its_reason_and_not_its_time() {
        let change = way_back(&closed(Mode::BlockNewSession, Some(3_600)), "done");
        assert_eq!(change.mode, SettableMode::BlockNewSession);
        assert_eq!((change.reason.as_deref(), change.expires_in_seconds), (Some("CHG-1"), None));
    }

    #[test]
    fn a_mode_whose_time_is_over_and_initial_lead_back_to_normal() {
        for closed in [closed(Mode::BlockNewSession, Some(0)), closed(Mode::Initial, None)] {
            let change = way_back(&closed, "done");
            assert_eq!((change.mode, change.expires_in_seconds), (SettableMode::Normal, None));
        }
    }

    #[test]
    fn a_change_says_where_what_from_what_and_how_to_undo_it() {
        let socket = Socket::find(Some("/s".into()));
        assert_eq!(
            closed(Mode::Normal, None).words(&socket, Some("CHG-9")),
            "node-01: normal -> block_new_connection (3 sessions, 11 connections stay). Undo: soramode --socket /s set normal"
        );
    }

    #[test]
    fn what_was_closed_before_is_undone_by_opening() {
        let socket = Socket::find(Some("/s".into()));
        for before in [Mode::Normal, Mode::BlockNewConnection] {
            assert_eq!(closed(before, None).undo_words(&socket), "Undo: soramode --socket /s set normal");
        }
        assert_eq!(closed(Mode::BlockNewSession, None).undo_words(&socket), "Undo: soramode --socket /s set block_new_session");
    }

    #[test]
    fn while_the_state_cannot_be_written_nothing_can_be_undone() {
        let mut closed = closed(Mode::Normal, None);
        closed.status.storage.state = StorageState::Failed;
        let undo = "Undo, once soramoded can write its state again: soramode --socket /s set normal";
        assert_eq!(closed.undo_words(&Socket::find(Some("/s".into()))), undo);
    }

    #[test]
    fn a_node_that_was_closed_already_says_since_when_by_whom_and_why() {
        let socket = Socket::find(None);
        let joined = |expires_in| Closed { changed: false, mode: Mode::BlockNewSession, ..closed(Mode::BlockNewSession, expires_in) };
        let already = "node-01: already block_new_session (since 0 s, uid:1000(ops), \"CHG-1\")";
        assert_eq!(joined(None).words(&socket, None), already);
        assert_eq!(joined(None).words(&socket, Some("CHG-1")), already);
        let kept = "The reason \"CHG-2\" is not recorded. To change it: soramode set block_new_session -m REASON";
        assert_eq!(joined(None).words(&socket, Some("CHG-2")), format!("{already}. {kept}"));
        let taken = "Its timer (--for: normal in 1 h) is cancelled";
        assert_eq!(joined(Some(3_600)).words(&socket, None), format!("{already}. {taken}"));
    }
}
