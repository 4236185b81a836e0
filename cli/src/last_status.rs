//! The status of a node at one moment, and the one check for drained.

use serde::Serialize;
use soramode_protocol::actor::SystemActor;
use soramode_protocol::mode::{InForce, Mode, ModeState};
use soramode_protocol::node::{Membership, Status, StorageState};

use crate::api::snapshot::SessionSnapshot;
use crate::mode_info::ModeInfo;
use crate::output::escape::escape;
use crate::output::{Output, counted, counted_connections, times};

/// The last status of a node.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum LastStatus {
    /// The status of soramoded, over its socket or its API.
    Daemon(Box<Status>),
    /// The lists of a Sora without soramoded.
    Listed(Box<ListedStatus>),
}

/// The lists of a Sora without soramoded, which lack pending clients.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ListedStatus {
    pub(crate) node_name: String,
    pub(crate) mode: Mode,
    /// The sessions, if they were read.
    #[serde(flatten)]
    pub(crate) snapshot: Option<SessionSnapshot>,
}

/// The limits of the check for drained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DrainCondition {
    /// Sessions that may remain.
    pub(crate) max_sessions: u64,
    /// The session list counts as complete.
    pub(crate) assume_complete: bool,
    /// The mode counts as in force.
    pub(crate) assume_in_force: bool,
}

/// The result of the check whether a node is drained: closed, complete and empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// Closed, complete and empty.
    Yes,
    /// Not closed.
    Open,
    /// Closed, with an incomplete session list.
    Incomplete,
    /// Closed, with this many sessions.
    Left(u64),
    /// Closed, and the SFU does not hold the mode yet, so that clients may join.
    NotInForce(InForce),
}

impl LastStatus {
    /// A node of which only the mode is known, since its status could not be read.
    pub(crate) fn unread(name: &str, mode: Mode) -> Self {
        Self::Listed(Box::new(ListedStatus {
            node_name: name.to_owned(),
            mode,
            snapshot: None,
        }))
    }

    pub(crate) fn node_name(&self) -> &str {
        match self {
            Self::Daemon(status) => status.node_name.as_str(),
            Self::Listed(listed) => &listed.node_name,
        }
    }

    /// Returns the name, escaped for a terminal.
    pub(crate) fn name(&self) -> String {
        escape(self.node_name()).into_owned()
    }

    pub(crate) fn mode(&self) -> Mode {
        match self {
            Self::Daemon(status) => status.mode.mode,
            Self::Listed(listed) => listed.mode,
        }
    }

    /// Returns the mode with its actor and reason, which a Sora does not report.
    pub(crate) fn mode_state(&self) -> Option<&ModeState> {
        self.of_daemon().map(|status| &status.mode)
    }

    /// Returns the mode with all that is known about it.
    pub(crate) fn mode_info(&self) -> ModeInfo {
        ModeInfo {
            mode: self.mode(),
            state: self.mode_state().cloned(),
        }
    }

    /// Returns soramoded's status.
    pub(crate) fn of_daemon(&self) -> Option<&Status> {
        match self {
            Self::Daemon(status) => Some(status),
            Self::Listed(_) => None,
        }
    }

    /// Returns the membership in a cluster, as far as it is known.
    pub(crate) fn membership(&self) -> Option<Membership> {
        self.of_daemon().map(|status| status.membership)
    }

    /// Returns the state of the storage; a Sora has none.
    pub(crate) fn storage(&self) -> StorageState {
        self.of_daemon()
            .map_or(StorageState::Memory, |status| status.storage.state)
    }

    /// Returns the number of sessions and connections, if they were read.
    pub(crate) fn counts(&self) -> Option<(u64, u64)> {
        match self {
            Self::Daemon(status) => Some((status.sessions, status.connections)),
            Self::Listed(listed) => listed
                .snapshot
                .as_ref()
                .map(|snapshot| (snapshot.sessions, snapshot.connections)),
        }
    }

    /// Returns the number of pending ones of the connections; the lists of a Sora have none.
    pub(crate) fn pending(&self) -> u64 {
        self.of_daemon().map_or(0, |status| status.pending)
    }

    /// `3 sessions, 11 connections (1 pending)`
    pub(crate) fn describe_counts(&self) -> String {
        let (sessions, connections) = self.counts().unwrap_or_default();
        format!(
            "{}, {}",
            counted(sessions, "session"),
            counted_connections(connections, self.pending())
        )
    }

    /// Checks whether the node is drained.
    pub(crate) fn drained(&self, enough: DrainCondition) -> Drained {
        let is_complete = enough.assume_complete
            || self
                .of_daemon()
                .is_none_or(|status| status.sessions_complete);
        match self.counts() {
            _ if !self.mode().is_block() => Drained::Open,
            Some(_) if !is_complete => Drained::Incomplete,
            Some((sessions, _)) if sessions > enough.max_sessions => Drained::Left(sessions),
            Some(_) => match self.of_daemon().and_then(|status| status.in_force) {
                Some(in_force) if in_force != InForce::Yes && !enough.assume_in_force => {
                    Drained::NotInForce(in_force)
                }
                _ => Drained::Yes,
            },
            None => Drained::Incomplete,
        }
    }

    /// Returns the time until the timer opens the node.
    pub(crate) fn opens_in(&self) -> Option<String> {
        self.mode_state()
            .and_then(|state| state.expires_at)
            .map(times::ahead)
    }

    /// Warns if the mode is not enforced.
    pub(crate) fn warn(&self, output: &Output) {
        let without_auth = self.of_daemon().map_or(0, without_auth);
        if without_auth > 0 {
            output.warn(&format!(
                "{} came to the Sora of {} without an auth webhook: the mode does not keep such clients out. Run: soramode doctor",
                counted(without_auth, "connection"),
                self.name()
            ));
        }
        if let Some(status) = self.of_daemon() {
            self.warn_of_storage(status, output);
        }
        if self.of_daemon().is_some_and(|status| status.shadow) {
            output.warn(&shadow_warning(&self.name()));
        }
    }
}

impl LastStatus {
    /// Warns if the node has closed itself because its state cannot be written, or could not.
    fn warn_of_storage(&self, status: &Status, output: &Output) {
        let name = self.name();
        let is_by_storage =
            SystemActor::from_name(&status.mode.actor) == Some(SystemActor::Storage);
        if status.storage.state == StorageState::Failed {
            output.warn(&format!(
                "{name} cannot write its state and has closed itself: free disk space, see soramode status"
            ));
        } else if is_by_storage && status.mode.mode.is_block() {
            output.warn(&format!(
                "{name} closed itself because its state could not be written. It can be written again; the node stays closed until you run: \
                 soramode open"
            ));
        }
    }
}

/// Returns the number of connections that came to Sora without an auth webhook.
fn without_auth(status: &Status) -> u64 {
    let sources = status.sources.iter();
    sources.filter_map(|source| source.without_auth).sum()
}

/// The effect of `--shadow`, in every output.
pub(crate) const SHADOW: &str = "SHADOW MODE: decisions are only logged, no client is blocked";

/// Warning that `--shadow` does not enforce a mode.
pub(crate) fn shadow_warning(node: &str) -> String {
    format!(
        "soramoded on {node} runs with --shadow: the mode is not enforced, and every client of this Sora is admitted"
    )
}

/// Facts that the lists of a Sora leave out.
pub(crate) const LISTS_NOTE: &str = "this Sora has no soramoded that could be asked: clients on their way in are in none of its lists. \
                                      Give them time with --settle 30s";

#[cfg(test)]
pub(crate) fn status_of(mode: &str, rest: &str) -> Status {
    let text = format!(
        r#"{{"mode":"{mode}","generation":5,"since":"2025-06-01T03:04:05Z","actor":"a","node_name":"node-01","membership":"standalone",
        "sessions":3,"connections":11,"pending":0,"sources":[],"rejected":{{}},"deliveries":{{"pending":0,"failed":0}},
        "storage":{{"state":"memory"}},"version":"0","protocol":1,"uptime_seconds":0,"started_at":"2025-06-01T03:04:05Z"{rest}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(mode: &str, left: u64, known: &str, enough: DrainCondition) -> Drained {
        let status = Status {
            sessions: left,
            ..status_of(mode, &format!(r#","sessions_complete":{known}"#))
        };
        LastStatus::Daemon(Box::new(status)).drained(enough)
    }

    #[test]
    fn drained_is_closed_and_complete_and_empty() {
        for (mode, sessions, known, wanted) in [
            ("block_new_session", 0, "true", Drained::Yes),
            ("block_new_connection", 0, "true", Drained::Yes),
            ("block_new_session", 2, "true", Drained::Left(2)),
            ("block_new_session", 0, "false", Drained::Incomplete),
            ("block_new_session", 2, "false", Drained::Incomplete),
            ("normal", 0, "true", Drained::Open),
            ("normal", 0, "false", Drained::Open),
            ("initial", 0, "true", Drained::Open),
        ] {
            assert_eq!(
                drained(mode, sessions, known, DrainCondition::default()),
                wanted,
                "{mode} {sessions} {known}"
            );
        }
        let believed = DrainCondition {
            max_sessions: 2,
            assume_complete: true,
            ..DrainCondition::default()
        };
        assert_eq!(
            drained("block_new_session", 2, "false", believed),
            Drained::Yes
        );
        assert_eq!(
            drained("normal", 0, "false", believed),
            Drained::Open,
            "no belief closes a node"
        );
    }

    #[test]
    fn a_node_whose_rooms_are_not_locked_is_not_drained() {
        let drained = |in_force: &str, assume_in_force: bool| {
            let rest = format!(r#","sessions_complete":true,"in_force":{in_force}"#);
            let status = Status {
                sessions: 0,
                ..status_of("block_new_session", &rest)
            };
            LastStatus::Daemon(Box::new(status)).drained(DrainCondition {
                assume_in_force,
                ..DrainCondition::default()
            })
        };
        assert_eq!(drained(r#""yes""#, false), Drained::Yes);
        for (name, in_force) in [
            (r#""pending""#, InForce::Pending),
            (r#""partial""#, InForce::Partial),
            (r#""no""#, InForce::No),
        ] {
            assert_eq!(drained(name, false), Drained::NotInForce(in_force));
            assert_eq!(drained(name, true), Drained::Yes);
        }
    }

    #[test]
    fn a_sora_that_is_polled_is_complete_soon() {
        let soon = |sources: &str, upstreams: &str| {
            Status {
                sources: serde_json::from_str(sources).unwrap(),
                upstreams: serde_json::from_str(upstreams).unwrap(),
                ..status_of("block_new_session", r#","sessions_complete":false"#)
            }
            .is_complete_soon()
        };
        let asked = r#"[{"name":"sora-api","url":"http://127.0.0.1:3001/"}]"#;
        assert!(soon(
            r#"[{"name":"socket","complete":true},{"name":"sora","complete":false,"incomplete_reason":"m"}]"#,
            asked
        ));
        assert!(
            !soon(
                r#"[{"name":"socket","complete":true},{"name":"sora","complete":false,"incomplete_reason":"m"}]"#,
                "[]"
            ),
            "nothing asks it"
        );
        assert!(
            !soon(
                r#"[{"name":"socket","complete":true},{"name":"sora","complete":false,"problem":"p"}]"#,
                asked
            ),
            "it fails"
        );
        let fails_after = |minute: &str| {
            let upstreams = format!(
                r#"[{{"name":"sora-api","url":"http://127.0.0.1:3001/","last_success":"2026-11-22T20:00:00Z","last_failure":"2026-11-22T20:{minute}:00Z","problem":"p"}}]"#
            );
            soon(
                r#"[{"name":"socket","complete":true},{"name":"sora","complete":false,"problem":"p"}]"#,
                &upstreams,
            )
        };
        assert!(fails_after("02"), "it answered a moment ago");
        assert!(!fails_after("03"), "it fails for long");
        assert!(!soon(
            r#"[{"name":"socket","complete":false,"incomplete_reason":"m"}]"#,
            asked
        ));
    }

    #[test]
    fn unread_lists_do_not_count_as_drained() {
        let drained = |mode, snapshot| {
            LastStatus::Listed(Box::new(ListedStatus {
                node_name: "sora:3000".to_owned(),
                mode,
                snapshot,
            }))
            .drained(DrainCondition::default())
        };
        assert_eq!(drained(Mode::BlockNewSession, None), Drained::Incomplete);
        assert_eq!(
            drained(Mode::BlockNewSession, Some(SessionSnapshot::default())),
            Drained::Yes
        );
        assert_eq!(
            drained(Mode::Normal, Some(SessionSnapshot::default())),
            Drained::Open
        );
    }
}
