//! A mode with what is known about it.

use serde::{Serialize, Serializer};
use soramode_protocol::actor::SystemActor;
use soramode_protocol::mode::{DatedModeChange, Mode, ModeState, REASON_BYTES_MAX};
use soramode_protocol::sora::ModeBody;
use soramode_protocol::time::Time;

/// Separator between the reasons of operators that closed a node together.
pub(crate) const REASONS: &str = "; ";

/// A mode, with its time, actor and reason where they are known: a Sora without soramoded reports the mode alone.
#[derive(Clone, Debug)]
pub(crate) struct ModeInfo {
    pub(crate) mode: Mode,
    pub(crate) state: Option<ModeState>,
}

impl ModeInfo {
    /// A mode of which nothing else is known.
    pub(crate) const fn mode_only(mode: Mode) -> Self {
        Self { mode, state: None }
    }

    /// A mode of which everything is known.
    pub(crate) const fn of(state: ModeState) -> Self {
        Self {
            mode: state.mode,
            state: Some(state),
        }
    }

    pub(crate) fn reason(&self) -> Option<&str> {
        self.state
            .as_ref()
            .and_then(|state| state.reason.as_deref())
    }

    pub(crate) fn expires_at(&self) -> Option<Time> {
        self.state.as_ref().and_then(|state| state.expires_at)
    }

    pub(crate) fn expected_end_at(&self) -> Option<Time> {
        self.state.as_ref().and_then(|state| state.expected_end_at)
    }

    pub(crate) fn generation(&self) -> Option<u64> {
        self.state.as_ref().map(|state| state.generation)
    }
}

impl Serialize for ModeInfo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.state {
            Some(state) => state.serialize(serializer),
            None => ModeBody { mode: self.mode }.serialize(serializer),
        }
    }
}

/// Describes the actor of the mode, also soramoded itself.
pub(crate) fn closed_by(mode: &ModeState) -> String {
    let system = SystemActor::from_name(&mode.actor);
    system.map_or_else(
        || with_operator(mode.clone(), &[]).actor,
        |it| it.describe().to_owned(),
    )
}

/// Adds the represented operator to the actor: `uid:0(root) for alice`. The state of an older daemon does not name it, but the history does.
pub(crate) fn with_operator(mut state: ModeState, changes: &[DatedModeChange]) -> ModeState {
    if let Some(operator) = state.on_behalf_of.take() {
        state.actor = format!("{} for {operator}", state.actor);
        return state;
    }
    let change = changes
        .iter()
        .map(|dated| &dated.change)
        .find(|change| change.generation == state.generation);
    // An actor with an operator added already differs from the one in the history.
    match change
        .filter(|change| change.actor == state.actor)
        .and_then(|change| change.on_behalf_of.as_deref())
    {
        Some(operator) => ModeState {
            actor: format!("{} for {operator}", state.actor),
            ..state
        },
        None => state,
    }
}

/// `CHG-1; CHG-2`; the second one alone if both are too long, and the first if it has the second already.
pub(crate) fn both_reasons(theirs: &str, mine: String) -> String {
    if theirs.split(REASONS).any(|part| part == mine) {
        return theirs.to_owned();
    }
    let both = format!("{theirs}{REASONS}{mine}");
    if both.len() <= REASON_BYTES_MAX {
        both
    } else {
        mine
    }
}

#[cfg(test)]
mod tests {
    use soramode_protocol::mode::ModeChange;

    use super::*;

    fn change(generation: u64, on_behalf_of: Option<&str>) -> DatedModeChange {
        let change = ModeChange {
            mode: Mode::BlockNewSession,
            previous_mode: Mode::Normal,
            generation,
            actor: "uid:0(root)".to_owned(),
            on_behalf_of: on_behalf_of.map(str::to_owned),
            reason: None,
            expires_at: None,
            expected_end_at: None,
            plan_id: None,
            roll: None,
        };
        DatedModeChange {
            timestamp: Time::default(),
            change,
        }
    }

    #[test]
    fn the_operator_on_whose_behalf_the_actor_acted_is_named() {
        let theirs = change(4, Some("alice"));
        let of_older = ModeState {
            on_behalf_of: None,
            ..theirs.state()
        };
        let actor = |changes: &[DatedModeChange]| with_operator(of_older.clone(), changes).actor;
        assert_eq!(
            with_operator(theirs.state(), &[]).actor,
            "uid:0(root) for alice"
        );
        assert_eq!(
            actor(std::slice::from_ref(&theirs)),
            "uid:0(root) for alice"
        );
        assert_eq!(actor(&[change(5, None)]), "uid:0(root)");
    }
}
