//! Sentences about changes of the mode: the actor, the time, the reason and the timer.

use std::borrow::Cow;
use std::time::Duration;

use soramode_protocol::actor::SystemActor;
use soramode_protocol::mode::ModeState;

use crate::mode_info::ModeInfo;
use crate::output::escape::{escape, quoted};
use crate::output::{counted, times};

/// Describes an actor, also soramoded itself.
fn describe_actor(actor: &str) -> Cow<'_, str> {
    match (SystemActor::from_name(actor), actor) {
        (Some(system), _) => system.describe().into(),
        (None, "http") => "an HTTP client".into(),
        (None, actor) => escape(actor),
    }
}

/// Returns the name of the person to ask about a mode: the represented operator, if there is one.
pub(crate) fn operator(now: &ModeInfo) -> String {
    match &now.state {
        Some(state) if state.actor.starts_with("uid:") => {
            let actor = state.actor.as_str();
            let named = actor.split_once(" for ").map(|(_, name)| name);
            let name = state.on_behalf_of.as_deref().or(named);
            escape(name.unwrap_or(actor)).into_owned()
        }
        Some(_) | None => "the other operators".to_owned(),
    }
}

/// `12 min ago ("CHG-1")`
fn describe_age(state: &ModeState) -> String {
    let reason = state
        .reason
        .as_deref()
        .map(|reason| format!(" ({})", quoted(reason)))
        .unwrap_or_default();
    format!("{} ago{reason}", times::age(state.since))
}

/// `uid:1000(ops) 12 min ago ("CHG-1")`
pub(crate) fn describe_origin(state: &ModeState) -> String {
    format!("{} {}", describe_actor(&state.actor), describe_age(state))
}

/// `uid:1000(ops) closed it 12 min ago ("CHG-1")`
pub(crate) fn describe_closing(state: &ModeState) -> String {
    format!(
        "{} closed it {}",
        describe_actor(&state.actor),
        describe_age(state)
    )
}

/// `uid:1000(ops) set block_new_session 12 min ago ("CHG-1"); it reopens in 3 s`
pub(crate) fn describe_change(state: &ModeState) -> String {
    format!(
        "{} set {} {}{}",
        describe_actor(&state.actor),
        state.mode,
        describe_age(state),
        describe_expiry(state)
    )
}

/// `; it reopens in 3 s`; empty without a timer.
pub(crate) fn describe_expiry(state: &ModeState) -> String {
    let ahead = state
        .expires_at
        .filter(|expires_at| *expires_at > times::now());
    ahead
        .map(|time| format!("; it reopens in {}", times::ahead(time)))
        .unwrap_or_default()
}

/// `vm is empty after 26 s (30 sessions ended)`
pub(crate) fn describe_drained(node: &str, left: u64, waited: Duration, ended: u64) -> String {
    let left = match left {
        0 => "is empty".to_owned(),
        left => format!("is down to {}", counted(left, "session")),
    };
    let ended = if ended == 0 {
        String::new()
    } else {
        format!(" ({} ended)", counted(ended, "session"))
    };
    format!("{node} {left} after {}{ended}", times::span(waited))
}

/// Describes the mode that another client set meanwhile.
pub(crate) fn describe_later_change(now: &ModeInfo) -> String {
    now.state.as_ref().map_or_else(
        || format!("another client set {} meanwhile", now.mode),
        describe_change,
    )
}

/// Continues [`describe_drained`] for a node that this command did not close.
pub(crate) fn describe_still_closed(now: &ModeInfo) -> String {
    match &now.state {
        Some(state) => format!(" and closed: {}", describe_change(state)),
        None => format!(" and closed ({})", now.mode),
    }
}
