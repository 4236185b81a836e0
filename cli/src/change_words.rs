//! Sentences about changes of the mode: by whom, since when and why, what was replaced, and what opens the node again.

use std::borrow::Cow;
use std::time::Duration;

use soramode_protocol::mode::{Mode, ModeState};

use crate::gate::{Closed, Joined};
use crate::output::escape::{escape, quoted};
use crate::output::{counted, times};
use crate::way_back::{Known, Route, labelled, undo_words};

/// The actor of a mode that soramoded set by itself, in words.
fn actor_words(actor: &str) -> Cow<'_, str> {
    match actor {
        "system:storage" => "soramoded (it cannot write its state)".into(),
        "system:expired" => "the timer of --for".into(),
        "system:joined" => "soramoded (the node joined its cluster)".into(),
        "system:isolated" => "soramoded (the node lost contact with its cluster)".into(),
        "system:fenced" => "soramoded (the node was fenced)".into(),
        "system:start" => "soramoded at its start".into(),
        "http" => "an HTTP client".into(),
        actor => escape(actor),
    }
}

/// `12 min ago ("CHG-1")`
fn ago_words(state: &ModeState) -> String {
    let reason = state
        .reason
        .as_deref()
        .map(|reason| format!(" ({})", quoted(reason)))
        .unwrap_or_default();
    format!("{} ago{reason}", times::age(state.since))
}

/// `uid:1000(ops) 12 min ago ("CHG-1")`
pub(crate) fn by_words(state: &ModeState) -> String {
    format!("{} {}", actor_words(&state.actor), ago_words(state))
}

/// `uid:1000(ops) closed it 12 min ago ("CHG-1")`
pub(crate) fn closed_it_words(state: &ModeState) -> String {
    format!(
        "{} closed it {}",
        actor_words(&state.actor),
        ago_words(state)
    )
}

/// `uid:1000(ops) set block_new_session 12 min ago ("CHG-1")`, and when it ends by itself.
pub(crate) fn set_words(state: &ModeState) -> String {
    format!(
        "{} set {} {}{}",
        actor_words(&state.actor),
        state.mode,
        ago_words(state),
        until_words(state)
    )
}

/// `; it reopens in 3 s`, where it does.
pub(crate) fn until_words(state: &ModeState) -> String {
    let ahead = state
        .expires_at
        .filter(|expires_at| *expires_at > times::now());
    ahead
        .map(|time| format!("; it reopens in {}", times::ahead(time)))
        .unwrap_or_default()
}

/// `vm is empty after 26 s (30 sessions ended)`
pub(crate) fn empty_words(node: &str, left: u64, (waited, ended): (Duration, u64)) -> String {
    let left = match left {
        0 => "is empty".to_owned(),
        left => format!("is down to {}", counted(left, "session")),
    };
    let ended = if ended == 0 {
        String::new()
    } else {
        format!(" ({} ended)", counted(ended, "session"))
    };
    format!(
        "{} {left} after {}{ended}",
        escape(node),
        times::span(waited)
    )
}

/// Returns whether another client changed the mode since: a Sora without soramoded shows that by the mode alone.
pub(crate) fn is_changed_since(closed: &Closed, now: &Known) -> bool {
    match (closed.now.generation(), now.generation()) {
        (Some(closed), Some(now)) => closed != now,
        (_, _) => closed.now.mode != now.mode,
    }
}

/// The mode that another client set meanwhile, by whom, when and why.
pub(crate) fn meanwhile_words(now: &Known) -> String {
    now.state.as_ref().map_or_else(
        || format!("another client set {} meanwhile", now.mode),
        set_words,
    )
}

/// Continues [`empty_words`] for a node that this command did not close.
pub(crate) fn closed_words(now: &Known) -> String {
    match &now.state {
        Some(state) => format!(" and closed: {}", set_words(state)),
        None => format!(" and closed ({})", now.mode),
    }
}

impl Closed {
    /// Describes the change of the mode, and the reason and timer that it replaced.
    pub(crate) fn words(&self) -> String {
        let (before, now, node) = (&self.before, &self.now, self.seen.name());
        let by = before
            .state
            .as_ref()
            .filter(|state| !state.actor.starts_with("system:"))
            .map(by_words);
        if before.mode != now.mode {
            let stay = if now.mode.is_block() { " stay" } else { "" };
            let counts = format!("({}{stay})", self.seen.count_words());
            let looser = if now.mode.is_block() && before.mode.is_block() && now.mode < before.mode
            {
                ". Clients may again join channels that have a session"
            } else {
                ""
            };
            return format!(
                "{node}: {} -> {} {counts}{looser}{}",
                before.mode,
                now.mode,
                self.replaced_words()
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
            "; leaving it, just waiting"
        } else {
            ""
        };
        let news = [self.reason_words(), self.timer_words()]
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

    /// Describes the closing that a change replaced, and the end of the new one.
    fn replaced_words(&self) -> String {
        let timer = self
            .timer_words()
            .map(|timer| format!("; {timer}"))
            .unwrap_or_default();
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
                .map(|state| format!(". It was closed by {}", by_words(state)))
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
                format!(". It was closed by {}{lost}{timer}", by_words(state))
            }
            Some(_) | None => timer,
        }
    }

    fn reason_words(&self) -> Option<String> {
        let reason = self
            .now
            .reason()
            .filter(|reason| self.before.reason() != Some(reason));
        reason.map(|reason| format!("reason is now {}", quoted(reason)))
    }

    fn timer_words(&self) -> Option<String> {
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
            (_, _) => None,
        }
    }

    /// The command that undoes the change; `None` if there is nothing to undo.
    pub(crate) fn undo_words(&self, route: Route<'_>) -> Option<String> {
        self.changed
            .then(|| undo_words(&self.before, &self.now, (route, self.seen.storage())))
            .flatten()
    }

    /// The command that undoes a closing for a drain; `None` also if the drain only added its reason to an earlier closing.
    pub(crate) fn undo_drain_words(&self, route: Route<'_>) -> Option<String> {
        let is_worth_it = self.before.mode != self.now.mode || self.before.expires_at().is_some();
        self.undo_words(route).filter(|_| is_worth_it)
    }

    /// Continues [`empty_words`]: the node is still closed, and the command that opens it. For a closing of another operator no command is
    /// suggested.
    pub(crate) fn then_words(&self, now: &Known, route: Route<'_>) -> String {
        let theirs = |state: &Known| {
            format!(
                " and still closed: {}. Ask before you open it",
                meanwhile_words(state)
            )
        };
        if is_changed_since(self, now) {
            return theirs(now);
        }
        if self.is_stricter() {
            return theirs(&self.before);
        }
        let until = now.state.as_ref().map(until_words).unwrap_or_default();
        if self.before.mode != self.now.mode {
            let label = if self.before.mode.is_block() {
                "When you are done, go back to the mode from before"
            } else {
                "When you are done"
            };
            let open = labelled(label, &self.before, &self.now, (route, self.seen.storage()));
            return format!(" and still closed{until}. {}", open.unwrap_or_default());
        }
        let open = route.command("set normal");
        match (&self.joined, &self.before.state) {
            (Joined::Theirs, Some(state)) => {
                format!(
                    " and still closed, also by {}{until}. When everyone is done: {open}",
                    by_words(state)
                )
            }
            (Joined::Theirs | Joined::Own | Joined::No, _) => {
                format!(" and still closed{until}. When you are done: {open}")
            }
        }
    }

    /// The node after a wait that was not reached: closed all the same.
    pub(crate) fn still_words(&self, now: &Known) -> String {
        let node = self.seen.name();
        match is_changed_since(self, now) {
            false => format!("{node} is still closed ({})", self.now.mode),
            true if now.mode == Mode::Normal => format!("{node} is open: {}", meanwhile_words(now)),
            true => format!("{node} is still closed: {}", meanwhile_words(now)),
        }
    }

    /// The command to suggest after a wait that was not reached; `None` if another operator keeps the node closed.
    pub(crate) fn undo_unless_changed(&self, now: &Known, route: Route<'_>) -> Option<String> {
        if is_changed_since(self, now) || self.is_stricter() {
            None
        } else {
            self.undo_drain_words(route)
        }
    }

    /// Returns whether the node was already in a stricter mode than the target.
    pub(crate) fn is_stricter(&self) -> bool {
        self.before.mode == self.now.mode && self.now.mode != self.target
    }
}
