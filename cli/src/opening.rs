//! Decides whether a message may offer the command that opens a closed node: only to the operator that closed it, and only if nothing else
//! keeps it closed.

use std::time::Duration;

use soramode_protocol::id::RollId;
use soramode_protocol::mode::{DatedModeChange, ListModeChanges, Mode, ModeState};
use soramode_protocol::node::{GetStatus, Membership, Status, StorageState};
use soramode_protocol::reservation::{Reservation, RollStep, roll_words};
use tokio::time::timeout;

use crate::api::Detail;
use crate::caller::Caller;
use crate::describe::{describe_closing, operator};
use crate::error::Failure;
use crate::last_status::LastStatus;
use crate::mode_info::{ModeInfo, REASONS, with_operator};
use crate::node::{Node, caller};
use crate::output::escape::escape;
use crate::plan::describe::describe_owner;

/// Number of mode changes to read to find every operator that keeps the node closed.
const HISTORY_MAX: u32 = 100;

/// Limit of the time for a read: over ssh it may log in anew.
const READ_MAX: Duration = Duration::from_secs(5);

/// The history of a node, and this user on it.
#[derive(Default)]
pub(crate) struct Closing {
    /// Changes of the mode, newest first.
    pub(crate) changes: Vec<DatedModeChange>,
    pub(crate) me: Option<Caller>,
    /// The roll of this command: its own reservation is no obstacle.
    own_roll: Option<RollId>,
}

/// The answer to whether the command that opens the node may be offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// This user alone keeps it closed.
    Own,
    /// Another one keeps it closed: the sentences that come before the command.
    Others(String),
    /// Work goes on that opening would disturb: no command is offered.
    Runs(String),
}

impl Closing {
    /// Reads the history of a closed node, and this user. They stay unknown if the node is open, or does not answer within [`READ_MAX`].
    pub(crate) async fn of_closed(mode: Mode, node: Node<'_>) -> Self {
        if !mode.is_block() {
            return Self::default();
        }
        let read = timeout(READ_MAX, read(node)).await;
        read.ok().and_then(Result::ok).unwrap_or_default().1
    }

    /// Returns whether the command that opens the node may be offered.
    pub(crate) fn opening(&self, status: &Status) -> Opening {
        let record = status.reservation.as_deref();
        if let Some(record) = record.filter(|it| self.is_of_closing(it))
            && let Some(opening) = by_record(record, self.own_roll.as_ref())
        {
            return opening;
        }
        let plan = status.plan.as_deref().filter(|it| it.outcome.is_none());
        if let Some(plan) = plan.filter(|it| !self.is_me(&it.owner, it.on_behalf_of.as_deref())) {
            let owner = describe_owner(plan);
            return Opening::Others(format!(
                "Plan {} of {owner} runs. Ask its owner before you open it",
                plan.id
            ));
        }
        let others = self.others(&status.mode);
        if others.is_empty() {
            return Opening::Own;
        }
        let facts: Vec<String> = others.iter().map(describe_closing).collect();
        let names: Vec<String> = others
            .into_iter()
            .map(|it| operator(&ModeInfo::of(it)))
            .collect();
        let ask = names.join(" and ");
        Opening::Others(format!(
            "{}. Ask {ask} before you open it",
            facts.join("; ")
        ))
    }

    /// Describes how to open a closed node with the command `open`, or what keeps it closed.
    pub(crate) fn how_to_open(&self, status: &Status, open: &str) -> String {
        let when = match (status.storage.state, status.membership) {
            (StorageState::Failed, _) => {
                "Repair the state first; if the WARNING says so, restart soramoded. Then run"
            }
            (_, Membership::Isolated | Membership::Fenced) => {
                "It can be opened once it has joined its cluster. Then run"
            }
            (_, Membership::Standalone | Membership::Joined) => match self.opening(status) {
                Opening::Runs(words) => return words,
                Opening::Others(words) => return format!("{words}: {open}"),
                Opening::Own if status.mode.expires_at.is_some() => {
                    "It opens automatically at its expiry. To open it earlier, run"
                }
                Opening::Own => "When you are done, run",
            },
        };
        format!("{when}: {open}")
    }

    /// Returns whether a record is current, or is of the present closing: the node was not open since it was made.
    pub(crate) fn is_of_closing(&self, record: &Reservation) -> bool {
        let opened = |it: &DatedModeChange| !it.change.mode.is_block();
        let opened = self.changes.iter().find(|it| opened(it));
        record.is_current() || opened.is_none_or(|it| it.timestamp <= record.since)
    }

    fn is_me(&self, actor: &str, on_behalf_of: Option<&str>) -> bool {
        self.me.as_ref().is_some_and(|me| {
            me.actor == actor
                && on_behalf_of.is_none_or(|name| me.on_behalf_of.as_deref() == Some(name))
        })
    }

    /// Returns the first closing of each other operator since the node was open, oldest first, with that operator's own part of the reason.
    fn others(&self, now: &ModeState) -> Vec<ModeState> {
        let closings: Vec<&DatedModeChange> = self
            .changes
            .iter()
            .skip_while(|it| it.change.generation > now.generation)
            .take_while(|it| it.change.mode.is_block())
            .collect();
        let mut states = Vec::new();
        let mut before: Option<&str> = None;
        for dated in closings.iter().rev() {
            let mut state = with_operator(dated.state(), &self.changes);
            let reason = dated.change.reason.as_deref();
            let own = reason
                .zip(before)
                .and_then(|(reason, before)| reason.strip_prefix(before)?.strip_prefix(REASONS));
            state.reason = own.or(reason).map(str::to_owned);
            before = reason;
            states.push(state);
        }
        if closings.is_empty() {
            states.push(with_operator(now.clone(), &[]));
        }
        let mut others: Vec<ModeState> = Vec::new();
        for state in states {
            let is_operator = match &self.me {
                Some(me) => !state.actor.starts_with("system:") && !me.has_set(&state),
                // Over HTTP, and by an older daemon, this user is not named.
                None => state.actor.starts_with("uid:"),
            };
            if is_operator && others.iter().all(|it| it.actor != state.actor) {
                others.push(state);
            }
        }
        others
    }
}

/// Reads whether the command that opens the node may be offered; it is not if the node cannot be read.
pub(crate) async fn opening(node: Node<'_>) -> Opening {
    read_opening(node, None).await
}

/// Reads whether a roll may offer the command that opens the node.
pub(crate) async fn opening_by_roll(node: Node<'_>, roll: &RollId) -> Opening {
    read_opening(node, Some(roll.clone())).await
}

async fn read_opening(node: Node<'_>, own_roll: Option<RollId>) -> Opening {
    match timeout(READ_MAX, read(node)).await {
        Ok(Ok((Some(status), closing))) => Closing {
            own_roll,
            ..closing
        }
        .opening(&status),
        Ok(Ok((None, _))) => Opening::Own,
        Ok(Err(_)) | Err(_) => Opening::Runs(format!(
            "See first what keeps it closed: {}",
            node.command("status")
        )),
    }
}

/// Reads the status of a node with its history. Over HTTP there is no history, and a Sora has no status.
pub(crate) async fn read(node: Node<'_>) -> Result<(Option<Status>, Closing), Failure> {
    let Node::Daemon(_) = node else {
        return Ok(match node.status(Detail::Mode).await? {
            LastStatus::Daemon(status) => (Some(*status), Closing::default()),
            LastStatus::Listed(_) => (None, Closing::default()),
        });
    };
    let mut daemon = node.connect().await?;
    let newest = ListModeChanges {
        limit: Some(HISTORY_MAX),
    };
    let (status, history) = daemon.call_both(&GetStatus {}, &newest).await?;
    let closing = Closing {
        changes: history.changes,
        me: caller(&mut daemon).await,
        own_roll: None,
    };
    Ok((Some(status), closing))
}

/// Returns what a roll, or a maintenance over ssh, says about opening its node.
fn by_record(record: &Reservation, own: Option<&RollId>) -> Option<Opening> {
    let words = format!("{} of {}", roll_words(&record.roll), escape(&record.by));
    if record.rebooted {
        return None;
    }
    match (record.is_current(), record.step, record.command_exit) {
        (_, Some(RollStep::Done), _) => None,
        (true, Some(RollStep::Command), _) => Some(Opening::Runs(format!(
            "The command of {words} runs there: wait until it has ended"
        ))),
        (true, _, _) if own == Some(&record.roll) => None,
        (true, _, _) => Some(Opening::Runs(format!(
            "The node is reserved for {words}: wait until that is over"
        ))),
        (false, Some(RollStep::Command), _) | (false, Some(RollStep::CommandEnded), None) => {
            Some(Opening::Others(format!(
                "The command of {words} may still run there: look for it first (ps -ef), and open the node once it has ended"
            )))
        }
        (false, _, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use soramode_protocol::mode::ModeChange;
    use soramode_protocol::time::Time;

    use super::*;
    use crate::last_status::status_of;

    const OPEN: &str = "soramode --socket /s set normal";
    const MINE: (Mode, &str, &str) = (Mode::BlockNewSession, "uid:0(root)", "CHG-1");
    const THEIRS: (Mode, &str, &str) = (Mode::BlockNewSession, "uid:5(games)", "CHG-400");
    const JOINED: (Mode, &str, &str) = (Mode::BlockNewSession, "uid:0(root)", "CHG-400; CHG-1");
    const OPENED: (Mode, &str, &str) = (Mode::Normal, "uid:5(games)", "over");

    /// The history of these changes, oldest first, a minute apart.
    fn closing(changes: &[(Mode, &str, &str)]) -> Closing {
        let dated = |(minute, &(mode, actor, reason)): (usize, &(Mode, &str, &str))| {
            let change = ModeChange {
                mode,
                previous_mode: Mode::Normal,
                generation: minute as u64 + 1,
                actor: actor.to_owned(),
                on_behalf_of: None,
                reason: Some(reason.to_owned()),
                expires_at: None,
                expected_end_at: None,
                plan_id: None,
                roll: None,
            };
            let timestamp: Time = format!("2026-12-01T00:{minute:02}:00Z").parse().unwrap();
            DatedModeChange { timestamp, change }
        };
        Closing {
            changes: changes.iter().enumerate().map(dated).rev().collect(),
            me: Some(Caller {
                actor: "uid:0(root)".to_owned(),
                on_behalf_of: None,
            }),
            own_roll: None,
        }
    }

    /// The status of a closed node with this record of a roll, made in the second minute.
    fn status(closing: &Closing, record: &str) -> Status {
        let record = if record.is_empty() {
            String::new()
        } else {
            format!(
                r#","reservation":{{"roll":"R1","by":"eve@pc","actor":"uid:7","since":"2026-12-01T00:01:00Z","round":1{record}}}"#
            )
        };
        let mut status = status_of(
            "block_new_session",
            &format!(r#","sessions_complete":true{record}"#),
        );
        if let Some(newest) = closing.changes.first() {
            status.mode = newest.state();
        }
        status
    }

    #[test]
    fn the_command_that_opens_is_offered_only_where_nothing_else_keeps_the_node_closed() {
        const RUNS: &str = r#","step":"command","expires_in_seconds":50"#;
        const DRAINS: &str = r#","step":"draining","expires_in_seconds":50"#;
        const GONE: &str = r#","step":"command""#;
        const UNKNOWN: &str = r#","step":"command_ended""#;
        const FAILED: &str = r#","step":"command_ended","command_exit":3"#;
        for (changes, record, begin, ask, is_offered) in [
            (&[MINE][..], "", "When you are done, run", "", true),
            (&[THEIRS, OPENED, MINE], "", "When you are done", "", true),
            (
                &[THEIRS],
                "",
                "uid:5(games) closed it ",
                "(\"CHG-400\"). Ask uid:5(games) before",
                true,
            ),
            (
                &[THEIRS, JOINED],
                "",
                "uid:5(games) closed it ",
                "(\"CHG-400\"). Ask uid:5(games) before",
                true,
            ),
            (
                &[MINE, (MINE.0, THEIRS.1, "CHG-1; CHG-400")],
                "",
                "uid:5(games) closed it ",
                "(\"CHG-400\"). Ask",
                true,
            ),
            (
                &[THEIRS, (MINE.0, "http(tools)", "x"), MINE],
                "",
                "uid:5(games) closed it ",
                "; http(tools) closed it ",
                true,
            ),
            (
                &[MINE],
                RUNS,
                "The command of roll R1 of eve@pc runs there",
                "",
                false,
            ),
            (
                &[MINE],
                DRAINS,
                "The node is reserved for roll R1 of eve@pc",
                "",
                false,
            ),
            (
                &[MINE],
                GONE,
                "The command of roll R1 of eve@pc may still run",
                "look for it",
                true,
            ),
            (
                &[MINE],
                UNKNOWN,
                "The command of roll R1 of eve@pc may still run",
                "look for it",
                true,
            ),
            (&[MINE], FAILED, "When you are done", "", true),
            (
                &[THEIRS, THEIRS, OPENED, MINE],
                GONE,
                "When you are done",
                "",
                true,
            ),
            (
                &[MINE, (MINE.0, "system:storage", "x")],
                "",
                "When you",
                "",
                true,
            ),
        ] {
            let closing = closing(changes);
            let words = closing.how_to_open(&status(&closing, record), OPEN);
            assert!(
                words.starts_with(begin) && words.contains(ask),
                "{changes:?} {record}: {words}"
            );
            assert_eq!(
                words.ends_with(&format!(": {OPEN}")),
                is_offered,
                "{changes:?} {record}: {words}"
            );
        }
    }

    #[test]
    fn a_plan_of_another_operator_keeps_the_node_closed() {
        let closing = closing(&[MINE]);
        let mut status = status(&closing, "");
        let mut plan = crate::plan::describe::tests::plan();
        plan.on_behalf_of = None;
        status.plan = Some(Box::new(plan.clone()));
        assert_eq!(closing.opening(&status), Opening::Own);
        plan.owner = "uid:5(games)".to_owned();
        status.plan = Some(Box::new(plan));
        let Opening::Others(words) = closing.opening(&status) else {
            panic!("{:?}", closing.opening(&status));
        };
        assert!(
            words.contains("of uid:5(games) (\"CHG-1\") runs"),
            "{words}"
        );
    }

    #[test]
    fn an_operator_that_the_daemon_does_not_name_is_told_the_owner() {
        let of_http = Closing::default();
        let mut state = status_of("block_new_session", r#","sessions_complete":true"#);
        let how = |status: &Status| of_http.how_to_open(status, OPEN);
        assert!(how(&state).starts_with("When you are done"));
        state.mode.actor = "uid:1235".to_owned();
        state.mode.reason = Some("STOP".to_owned());
        let words = how(&state);
        assert!(words.starts_with("uid:1235 closed it "), "{words}");
        assert!(
            words.ends_with(&format!(
                "(\"STOP\"). Ask uid:1235 before you open it: {OPEN}"
            )),
            "{words}"
        );
    }

    #[test]
    fn a_node_that_cannot_be_opened_yet_says_why() {
        let how = |status: &Status| Closing::default().how_to_open(status, OPEN);
        let closed = status_of("block_new_connection", r#","sessions_complete":true"#);
        let mut expiring = closed.clone();
        expiring.mode.expires_at = Some("2025-06-01T04:04:05Z".parse().unwrap());
        assert!(how(&expiring).starts_with("It opens automatically at its expiry"));
        let isolated = Status {
            membership: Membership::Isolated,
            ..closed.clone()
        };
        assert!(how(&isolated).starts_with("It can be opened once it has joined"));
        let mut full = closed;
        full.storage.state = StorageState::Failed;
        assert!(how(&full).starts_with("Repair the state first; if the WARNING says so, restart"));
        // The disk is free again, and the node is still closed.
        full.storage.state = StorageState::Ok;
        full.mode.actor = "system:storage".to_owned();
        assert!(how(&full).ends_with(OPEN));
    }
}
