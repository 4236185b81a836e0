//! Closing the node for a drain, and putting its mode back.

use std::time::Instant;

use soramode_protocol::mode::{ChangeMode, GetMode, Mode, ModeChanged, ModeState, SettableMode};
use soramode_protocol::node::{GetStatus, Status};

use crate::Context;
use crate::daemon::{Daemon, Socket};
use crate::error::{Exit, Failure};
use crate::output::escape::escape;
use crate::output::{counted, times};
use crate::report::Change;
use crate::watch::mode_words;

/// How often somebody else may come between the look at the mode and its change.
const ATTEMPTS_MAX: u32 = 5;

/// The node, closed.
pub(crate) struct Closed {
    /// The mode from before.
    pub(crate) before: ModeState,
    /// The mode now.
    pub(crate) mode: Mode,
    /// The newest change that is known.
    pub(crate) generation: u64,
    /// The node after that.
    pub(crate) status: Status,
    /// Whether the other nodes of its cluster know, where it has one.
    pub(crate) published: Option<bool>,
    /// Whether this changed anything.
    changed: bool,
}

/// Whom the caller acts for: `sudo` says so. Recorded, not verified.
pub(crate) fn on_behalf_of() -> Option<String> {
    const BYTES_MAX: usize = soramode_protocol::mode::ON_BEHALF_OF_BYTES_MAX;
    std::env::var("SUDO_USER").ok().filter(|user| (1..=BYTES_MAX).contains(&user.len()))
}

/// Closes the node at least as far as `target`. Never loosens: a mode that is tighter stays.
pub(crate) async fn close(daemon: &mut Daemon<'_>, target: SettableMode, reason: Option<&str>) -> Result<Closed, Failure> {
    let mut failure = None;
    for _ in 0..ATTEMPTS_MAX {
        let status = daemon.call(&GetStatus {}).await?;
        let before = status.mode.clone();
        let is_closed = before.mode.is_block() && before.mode >= Mode::from(target);
        if is_closed && (reason.is_none() || before.mode != Mode::from(target)) {
            let published = status.cluster.as_ref().map(|cluster| cluster.published);
            return Ok(Closed { mode: before.mode, generation: before.generation, before, status, published, changed: false });
        }
        // Only from what was seen: whatever came between could be tighter.
        let change = ChangeMode {
            reason: reason.map(str::to_owned),
            if_generation: Some(before.generation),
            on_behalf_of: on_behalf_of(),
            ..ChangeMode::to(target)
        };
        match daemon.call_both(&change, &GetStatus {}).await {
            Ok((ModeChanged { mode, generation, changed, published, .. }, status)) => {
                return Ok(Closed { before, mode, generation, status, published, changed });
            }
            Err(superseded) if superseded.exit == Exit::Superseded => failure = Some(superseded),
            Err(other) => return Err(other),
        }
    }
    Err(failure.unwrap_or_else(|| Failure::new(Exit::Superseded, "somebody else changes the mode all the time")))
}

impl Closed {
    /// What was done, and how to undo it.
    pub(crate) fn words(&self, socket: &Socket) -> String {
        let node = escape(self.status.node_name.as_str());
        if !self.changed {
            return format!("{node}: already {}", mode_words(&self.before));
        }
        if self.before.mode == self.mode {
            return format!("{node}: still {}, with another reason", self.mode);
        }
        format!("{node}: {} -> {} ({}). {}", self.before.mode, self.mode, stay_words(&self.status), self.undo_words(socket))
    }

    /// How to undo it.
    pub(crate) fn undo_words(&self, socket: &Socket) -> String {
        format!("Undo: {}", socket.command(&format!("set {}", Mode::from(undoing(self.before.mode, self.mode)))))
    }

    /// The same for the report.
    pub(crate) const fn change(&self) -> Change {
        Change { previous_mode: self.before.mode, mode: self.mode, changed: self.changed, generation: Some(self.generation) }
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
    /// Somebody changed it meanwhile: it is left as they want it.
    ChangedMeanwhile(Box<ModeState>),
}

/// Puts the mode from before back, unless somebody changed it since.
pub(crate) async fn put_back(context: &Context<'_>, closed: &Closed, reason: &str) -> Result<PutBack, Failure> {
    if closed.before.mode == closed.mode {
        return Ok(PutBack::Same);
    }
    let change = way_back(closed, reason);
    // What ran meanwhile may have restarted the daemon too.
    let mut daemon = match context.socket.connect().await {
        Err(failure) if failure.exit == Exit::Unreachable => context.socket.reconnect(Instant::now()).await?,
        other => other?,
    };
    match daemon.call(&change).await {
        Ok(changed) => Ok(PutBack::Done(changed.mode)),
        Err(failure) if failure.exit == Exit::Superseded => Ok(PutBack::ChangedMeanwhile(Box::new(daemon.call(&GetMode {}).await?))),
        Err(failure) => Err(failure),
    }
}

/// Back to a `block_*` mode with its own reason and what is left of its time; or to `normal`, with this reason.
fn way_back(closed: &Closed, reason: &str) -> ChangeMode {
    let before = &closed.before;
    let left = before.expires_at.map(|expires_at| expires_at.since(times::now()).as_secs());
    // One whose time is over by now would have become normal by itself.
    let mode = if left == Some(0) { SettableMode::Normal } else { mode_to_go_back_to(before.mode) };
    let is_normal = mode == SettableMode::Normal;
    ChangeMode {
        reason: if is_normal { Some(reason.to_owned()) } else { before.reason.clone() },
        expires_in_seconds: left.filter(|_| !is_normal),
        if_generation: Some(closed.generation),
        on_behalf_of: on_behalf_of(),
        ..ChangeMode::to(mode)
    }
}

/// What is known of the mode of a node that was closed and is watched no more.
pub(crate) fn still_words(failure: &Failure, status: &Status, mode: Mode) -> String {
    let node = escape(status.node_name.as_str());
    if failure.exit == Exit::Unreachable { format!("{node} was {mode} when it was last heard of") } else { format!("{node} stays {mode}") }
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
        let status = r#"{"mode":"block_new_connection","generation":5,"since":"2025-06-01T03:04:05Z","actor":"a","node_name":"node-01",
            "standing":"standalone","sessions":3,"connections":11,"pending":0,"sessions_known":true,"sources":[],"rejected":{},
            "deliveries":{"pending":0,"failed":0},"storage":{"state":"memory"},"version":"0","protocol":1,"uptime_seconds":0,
            "started_at":"2025-06-01T03:04:05Z"}"#;
        let status = serde_json::from_str(status).unwrap();
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
    fn a_mode_with_an_expiry_keeps_its_reason_and_the_rest_of_its_time() {
        let change = way_back(&closed(Mode::BlockNewSession, Some(3_600)), "done");
        assert_eq!(change.mode, SettableMode::BlockNewSession);
        assert_eq!(change.reason.as_deref(), Some("CHG-1"));
        assert!((3_590..=3_600).contains(&change.expires_in_seconds.unwrap()));
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
            closed(Mode::Normal, None).words(&socket),
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
    fn a_node_that_was_closed_already_says_since_when_by_whom_and_why() {
        let again = Closed { changed: false, ..closed(Mode::BlockNewSession, None) };
        assert_eq!(again.words(&Socket::find(None)), "node-01: already block_new_session (since 0 s, uid:1000(ops), \"CHG-1\")");
    }
}
