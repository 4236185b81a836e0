//! The result of setting the mode, in either direction: the mode from before, the mode that a command set or found, and the sentences
//! about them.

use soramode_protocol::actor::SystemActor;
use soramode_protocol::id::PlanId;
use soramode_protocol::mode::{EndsStopped, InForce, Mode, ModeState, SettableMode};
use soramode_protocol::node::{Membership, StorageState};

use crate::ask;
use crate::describe::{describe_expiry, describe_later_change, describe_origin};
use crate::error::Failure;
use crate::last_status::LastStatus;
use crate::mode_info::ModeInfo;
use crate::node::{Feature, Node};
use crate::opening::{Opening, opening};
use crate::output::escape::quoted;
use crate::output::{counted, times};
use crate::plan::describe::describe_running;
use crate::report::Change;
use crate::undo::{restore_hint, undo_hint};

/// The owner of the closing that a drain found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    /// The node was open, or not closed far enough.
    No,
    /// This user.
    Own,
    /// Another operator.
    Theirs,
}

/// Result of a command that sets the mode, or finds it as it is to be.
pub(crate) struct ModeResult {
    /// The mode from before the command.
    pub(crate) before: ModeInfo,
    /// The mode as the command left it.
    pub(crate) now: ModeInfo,
    /// The requested mode.
    pub(crate) target: Mode,
    /// The node's status after the change.
    pub(crate) status: LastStatus,
    /// The mode is published to the other nodes; `None` without a cluster.
    pub(crate) published: Option<bool>,
    /// The command changed the mode, its reason or its timer.
    pub(crate) changed: bool,
    pub(crate) joined: Joined,
    /// The node's warning about the change.
    pub(crate) warning: Option<String>,
    /// The failure to read the node's status after the change.
    pub(crate) status_failure: Option<Failure>,
    /// The plan that closed the node for the command.
    pub(crate) plan_id: Option<PlanId>,
    /// The plan and the ends that the change stopped.
    pub(crate) stopped: Stopped,
}

/// Parts of a maintenance that a change of the mode stopped.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stopped {
    /// The plan that was cancelled.
    pub(crate) plan: Option<PlanId>,
    /// Sessions that were to be ended.
    pub(crate) ends: Option<EndsStopped>,
}

impl Stopped {
    /// Describes it: `plan 7Q2K9XA0 is cancelled; 3 sessions are not ended any more`.
    pub(crate) fn describe(&self) -> Option<String> {
        let plan = self
            .plan
            .as_ref()
            .map(|plan| format!("plan {plan} is cancelled"));
        let parts: Vec<String> = plan
            .into_iter()
            .chain(
                self.ends
                    .iter()
                    .map(|ends| describe_not_ended(ends.sessions, ends.in_flight)),
            )
            .collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// `3 sessions are not ended any more, and 2 that the SFU is ending at this moment may still end`
pub(crate) fn describe_not_ended(sessions: u64, in_flight: u64) -> String {
    let be = if sessions == 1 { "is" } else { "are" };
    let not_ended = format!("{} {be} not ended any more", counted(sessions, "session"));
    match in_flight {
        0 => not_ended,
        in_flight => format!(
            "{not_ended}, and {in_flight} that the SFU is ending at this moment may still end"
        ),
    }
}

impl ModeResult {
    /// Records a node that was closed far enough already.
    pub(crate) fn found(
        before: ModeInfo,
        status: LastStatus,
        target: SettableMode,
        joined: Joined,
    ) -> Self {
        let cluster = status
            .of_daemon()
            .and_then(|status| status.cluster.as_ref());
        Self {
            now: before.clone(),
            before,
            target: target.into(),
            published: cluster.map(|cluster| cluster.published),
            status,
            changed: false,
            joined,
            warning: None,
            status_failure: None,
            plan_id: None,
            stopped: Stopped::default(),
        }
    }

    /// Describes the plan that the change stopped, or that goes on beside it; `None` if the node has none.
    pub(crate) fn describe_plan(&self, node: Node<'_>) -> Option<String> {
        if let Some(stopped) = self.stopped.describe() {
            return Some(stopped);
        }
        let plan = self.status.of_daemon()?.plan.as_deref()?;
        let is_own = self.plan_id.as_ref() == Some(&plan.id);
        // The node's own warning names the plan too.
        (!is_own && self.warning.is_none()).then(|| {
            let cancel = node.command(&format!("plan cancel {}", plan.id));
            describe_running(plan, &self.status.name(), &cancel)
        })
    }

    /// Returns whether the SFU holds the mode by locks of its rooms, and not all are in place.
    pub(crate) fn is_not_in_force(&self) -> bool {
        let in_force = self.status.of_daemon().and_then(|status| status.in_force);
        in_force.is_some_and(|it| it != InForce::Yes)
    }

    /// Returns the change for the report.
    pub(crate) fn change(&self) -> Change {
        Change {
            previous_mode: self.before.mode,
            mode: self.now.mode,
            changed: self.changed,
            generation: self.now.generation(),
        }
    }

    /// Returns whether another client changed the mode since: a Sora without soramoded shows that by the mode alone.
    pub(crate) fn is_changed(&self, now: &ModeInfo) -> bool {
        // The later steps of a plan change the generation too.
        if let (Some(plan), Some(state)) = (&self.plan_id, &now.state) {
            return state.plan_id.as_ref() != Some(plan);
        }
        match (self.now.generation(), now.generation()) {
            (Some(closed), Some(now)) => closed != now,
            (_, _) => self.now.mode != now.mode,
        }
    }

    /// Describes the change of the mode, and the reason and timer that it replaced.
    pub(crate) fn describe(&self) -> String {
        let (before, now) = (&self.before, &self.now);
        let node = self.status.name();
        let by = before
            .state
            .as_ref()
            .filter(|state| {
                let by_itself = SystemActor::from_name(&state.actor);
                !state.actor.starts_with("system:") || by_itself == Some(SystemActor::Storage)
            })
            .map(describe_origin);
        if before.mode != now.mode {
            let stay = if now.mode.is_block() { " stay" } else { "" };
            let counts = format!("({}{stay})", self.status.describe_counts());
            let looser = if self.admits_more() {
                ". Clients may again join channels that have a session"
            } else {
                ""
            };
            let why = if now.mode.is_block() && now.mode > self.target {
                let target = self.target;
                format!(", as {target} would admit clients that an isolated node rejects")
            } else {
                String::new()
            };
            let stays = if before.mode == Mode::Initial && now.mode.is_block() {
                ". It stays closed when it joins its cluster"
            } else {
                ""
            };
            return format!(
                "{node}: {} -> {} {counts}{why}{looser}{stays}{}",
                before.mode,
                now.mode,
                self.describe_replaced()
            );
        }
        let what = match (self.is_stricter(), before.mode.is_block()) {
            (true, _) => format!("{node} is already in a stricter mode ({}", before.mode),
            (false, true) => format!("{node} was already closed ({}", before.mode),
            (false, false) => format!("{node} was already {}", before.mode),
        };
        let by = match (by, before.mode.is_block()) {
            (Some(by), true) => format!(", set by {by})"),
            (None, true) => ")".to_owned(),
            (Some(by), false) => format!(", set by {by}"),
            (None, false) => String::new(),
        };
        let stays = if self.is_stricter() {
            "; that mode stays"
        } else {
            ""
        };
        let news = [
            self.describe_reason(),
            self.describe_timer(),
            self.describe_expected_end(),
        ]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(", and ");
        let news = if news.is_empty() {
            String::new()
        } else {
            format!("; {news}")
        };
        format!("{what}{by}{stays}{news}")
    }

    /// Returns whether a closing admits clients that the mode from before rejected. An isolated node in `initial` rejects all of them.
    fn admits_more(&self) -> bool {
        let (before, now) = (self.before.mode, self.now.mode);
        let is_isolated = self
            .status
            .of_daemon()
            .is_some_and(|status| status.membership == Membership::Isolated);
        let is_looser = before.is_block() && now.is_block() && now < before;
        is_looser || (is_isolated && before == Mode::Initial && now == Mode::BlockNewSession)
    }

    /// Describes the closing that a change replaced, and the end of the new one.
    fn describe_replaced(&self) -> String {
        let parts = [self.describe_timer(), self.describe_expected_end()];
        let timer = parts
            .into_iter()
            .flatten()
            .fold(String::new(), |timer, part| timer + "; " + &part);
        if !self.now.mode.is_block() {
            let another = |state: &&ModeState| {
                self.now
                    .state
                    .as_ref()
                    .is_some_and(|now| now.actor != state.actor)
            };
            let theirs = self
                .before
                .state
                .as_ref()
                .filter(|state| state.mode.is_block() && !state.actor.starts_with("system:"));
            return theirs
                .filter(another)
                .map(|state| format!(". It was closed by {}", describe_origin(state)))
                .unwrap_or_default();
        }
        match &self.before.state {
            Some(state) if state.mode.is_block() => {
                let lost = match (state.reason.as_deref(), self.now.reason()) {
                    (Some(theirs), Some(mine)) if theirs != mine => {
                        format!("; reason is now {}", quoted(mine))
                    }
                    (Some(_), None) => "; that reason is no longer recorded".to_owned(),
                    (Some(_) | None, _) => String::new(),
                };
                format!(". It was closed by {}{lost}{timer}", describe_origin(state))
            }
            Some(_) | None => timer,
        }
    }

    fn describe_reason(&self) -> Option<String> {
        let reason = self
            .now
            .reason()
            .filter(|reason| self.before.reason() != Some(reason));
        reason.map(|reason| format!("reason is now {}", quoted(reason)))
    }

    fn describe_timer(&self) -> Option<String> {
        match (self.before.expires_at(), self.now.expires_at()) {
            (Some(before), None) if self.now.mode.is_block() => Some(format!(
                "the timer that would have reopened it in {} is cancelled",
                times::ahead(before)
            )),
            (before, Some(now)) if before != Some(now) => {
                let instead = before
                    .map(|before| format!(" instead of in {}", times::ahead(before)))
                    .unwrap_or_default();
                Some(format!("it reopens in {}{instead}", times::ahead(now)))
            }
            (_, Some(now)) => Some(format!("it still reopens in {}", times::ahead(now))),
            (_, None) => None,
        }
    }

    fn describe_expected_end(&self) -> Option<String> {
        let end = self
            .now
            .expected_end_at()
            .filter(|end| self.before.expected_end_at() != Some(*end));
        end.map(|end| format!("its expected end is {}", times::until(end)))
    }

    /// Returns the command that cancels a timer which was there before and opens the node; `None` if there is none.
    pub(crate) fn keep_closed_hint(&self, node: Node<'_>) -> Option<String> {
        let is_kept = self.now.mode.is_block()
            && self.now.expires_at().is_some()
            && self.now.expires_at() == self.before.expires_at();
        (is_kept && node.supports(Feature::Timer)).then(|| {
            let never = node.command(&format!("set {} --for never", self.now.mode));
            format!("Keep it closed: {never}")
        })
    }

    /// Returns the command that sets the requested mode where a stricter one stays; `None` if none does, or if that is not up to this user.
    pub(crate) async fn loosen_hint(&self, node: Node<'_>) -> Option<String> {
        if !self.may_loosen() || opening(node).await != Opening::Own {
            return None;
        }
        let set = node.command(&format!("set {}", self.target));
        Some(format!(
            "To admit clients to channels that have a session: {set}"
        ))
    }

    /// Returns whether a stricter mode stays that soramoded does not need: a plan would be cancelled by a change.
    fn may_loosen(&self) -> bool {
        let is_of_storage = [&self.before, &self.now].into_iter().any(|it| {
            let actor = it.state.as_ref().map(|state| state.actor.as_str());
            actor.and_then(SystemActor::from_name) == Some(SystemActor::Storage)
        });
        let plan = self.status.of_daemon().and_then(|it| it.plan.as_deref());
        self.now.mode.is_block()
            && self.now.mode > self.target
            && !is_of_storage
            && self.status.storage() != StorageState::Failed
            && plan.is_none_or(|plan| plan.outcome.is_some())
    }

    /// Returns the command that undoes the change; `None` if there is nothing to undo. No command sets `initial`, and a node that was in it
    /// cannot be opened before it has joined its cluster.
    pub(crate) fn undo_hint(&self, node: Node<'_>) -> Option<String> {
        (self.changed && self.before.mode != Mode::Initial)
            .then(|| undo_hint(&self.before, &self.now, node, self.status.storage()))
            .flatten()
    }

    /// Returns the command that undoes a closing for a drain; `None` also if the drain only added
    /// its reason to an earlier closing.
    pub(crate) fn undo_drain_hint(&self, node: Node<'_>) -> Option<String> {
        let is_worth_it = self.joined == Joined::No
            || self.before.mode != self.now.mode
            || self.before.expires_at().is_some();
        self.undo_hint(node).filter(|_| is_worth_it)
    }

    /// Continues [`describe_drained`]: the node is still closed, and the command that opens it. For a closing of another operator no command is
    /// suggested.
    pub(crate) async fn describe_next_step(&self, now: &ModeInfo, node: Node<'_>) -> String {
        let theirs = match (self.is_changed(now), self.is_stricter()) {
            (true, _) => Some(now),
            (false, true) => Some(&self.before),
            (false, false) => None,
        };
        if let Some(state) = theirs {
            let change = describe_later_change(state);
            let ask = ask::before_opening(state, node).await;
            return format!(" and still closed: {change}. {ask}");
        }
        let until = now.state.as_ref().map(describe_expiry).unwrap_or_default();
        if self.before.mode != self.now.mode && !self.is_closed_by_own_plan() {
            let label = if self.before.mode.is_block() {
                "When you are done, go back to the mode from before"
            } else {
                "When you are done"
            };
            let open = restore_hint(label, &self.before, &self.now, node, self.status.storage());
            return format!(" and still closed{until}. {}", open.unwrap_or_default());
        }
        let how = match opening(node).await {
            Opening::Own => format!("When you are done: {}", node.command("set normal")),
            Opening::Others(words) | Opening::Runs(words) => words,
        };
        format!(" and still closed{until}. {how}")
    }

    /// Describes a node that is not drained: it is still closed, or another client changed its
    /// mode.
    pub(crate) fn describe_state(&self, now: &ModeInfo) -> String {
        let node = self.status.name();
        match self.is_changed(now) {
            false => format!("{node} is still closed ({})", self.now.mode),
            true if now.mode == Mode::Normal => {
                format!("{node} is open: {}", describe_later_change(now))
            }
            true => format!("{node} is still closed: {}", describe_later_change(now)),
        }
    }

    /// Returns whether the command joined a plan that had closed the node: the mode from before is the plan's too.
    fn is_closed_by_own_plan(&self) -> bool {
        let before = self.before.state.as_ref();
        self.plan_id.is_some()
            && before.and_then(|state| state.plan_id.as_ref()) == self.plan_id.as_ref()
    }

    /// Returns whether the node was already in a stricter mode than the target.
    pub(crate) fn is_stricter(&self) -> bool {
        self.before.mode == self.now.mode && self.now.mode > self.target
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::last_status::status_of;
    use crate::plan::describe::tests::plan;
    use crate::undo::tests::state;

    #[test]
    fn a_looser_mode_is_not_offered_in_place_of_one_that_soramoded_or_a_plan_needs() {
        const STRICT: Mode = Mode::BlockNewConnection;
        for (mode, actor, storage, has_plan, wanted) in [
            (STRICT, "uid:0(root)", StorageState::Ok, false, true),
            (
                Mode::BlockNewSession,
                "uid:0(root)",
                StorageState::Ok,
                false,
                false,
            ),
            (STRICT, "system:storage", StorageState::Ok, false, false),
            (STRICT, "uid:0(root)", StorageState::Failed, false, false),
            (STRICT, "uid:0(root)", StorageState::Ok, true, false),
        ] {
            let now = ModeState {
                actor: actor.to_owned(),
                ..state(mode, 4, None, None)
            };
            let mut status = status_of(mode.name(), r#","sessions_complete":true"#);
            status.storage.state = storage;
            status.plan = has_plan.then(|| Box::new(plan()));
            let status = LastStatus::Daemon(Box::new(status));
            let target = SettableMode::BlockNewSession;
            let result = ModeResult::found(ModeInfo::of(now), status, target, Joined::Own);
            assert_eq!(
                result.may_loosen(),
                wanted,
                "{mode} {actor} {storage:?} {has_plan}"
            );
        }
    }
}
