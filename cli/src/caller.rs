//! This user, as the daemon of a node names it, and the sentence about a mode that this user or another operator set.

use soramode_protocol::actor::SystemActor;
use soramode_protocol::mode::ModeState;

use crate::describe::operator;
use crate::mode_info::ModeInfo;

/// This user, on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The account.
    pub(crate) actor: String,
    /// The operator that the account is used for.
    pub(crate) on_behalf_of: Option<String>,
}

impl Caller {
    /// Returns whether this user set the mode: an account that several operators share tells them apart by their names, if the mode has one.
    pub(crate) fn has_set(&self, state: &ModeState) -> bool {
        let (account, name) = match (&state.on_behalf_of, state.actor.split_once(" for ")) {
            (Some(name), _) => (state.actor.as_str(), Some(name.as_str())),
            (None, Some((account, name))) => (account, Some(name)),
            (None, None) => (state.actor.as_str(), None),
        };
        account == self.actor && (name.is_none() || name == self.on_behalf_of.as_deref())
    }

    fn has_set_mode(&self, now: &ModeInfo) -> bool {
        now.state.as_ref().is_some_and(|state| self.has_set(state))
    }
}

/// `Ask alice before you open it`. No command is suggested, also for a mode that this user set: it may be an emergency stop.
pub(crate) fn before_opening(now: &ModeInfo, me: Option<&Caller>) -> String {
    if me.is_some_and(|me| me.has_set_mode(now)) {
        return "You set that yourself: make sure that it is over before you open it".to_owned();
    }
    remedy_of_system(now).map_or_else(
        || format!("Ask {} before you open it", operator(now)),
        |remedy| format!("{remedy}, then open it: soramode open"),
    )
}

/// `Ask alice first, then run the same command again`
pub(crate) fn before_repeating(now: &ModeInfo, me: Option<&Caller>) -> String {
    if me.is_some_and(|me| me.has_set_mode(now)) {
        return "You set that yourself: once it is over, run the same command again".to_owned();
    }
    remedy_of_system(now).map_or_else(
        || {
            format!(
                "Ask {} first, then run the same command again",
                operator(now)
            )
        },
        |remedy| format!("{remedy}, then run the same command again"),
    )
}

/// Says what to do about a mode that soramoded set by itself, where no operator is to be asked.
fn remedy_of_system(now: &ModeInfo) -> Option<&'static str> {
    match SystemActor::from_name(&now.state.as_ref()?.actor)? {
        SystemActor::Storage => Some(
            "No operator closed it: make sure that soramoded can write its state (soramode status names it)",
        ),
        SystemActor::Isolated | SystemActor::Fenced => {
            Some("No operator closed it: make sure that etcd can be reached")
        }
        SystemActor::Start
        | SystemActor::Plan
        | SystemActor::Expired
        | SystemActor::Reservation
        | SystemActor::Joined => None,
    }
}

#[cfg(test)]
mod tests {
    use soramode_protocol::mode::Mode;

    use super::*;
    use crate::undo::tests::state;

    fn set_by(actor: &str, on_behalf_of: Option<&str>) -> ModeInfo {
        ModeInfo::of(ModeState {
            actor: actor.to_owned(),
            on_behalf_of: on_behalf_of.map(str::to_owned),
            ..state(Mode::BlockNewSession, 4, None, None)
        })
    }

    fn words(actor: &str, on_behalf_of: Option<&str>, me: (&str, Option<&str>)) -> String {
        let me = Caller {
            actor: me.0.to_owned(),
            on_behalf_of: me.1.map(str::to_owned),
        };
        before_opening(&set_by(actor, on_behalf_of), Some(&me))
    }

    #[test]
    fn a_command_is_repeated_once_the_other_change_is_done() {
        let me = Caller {
            actor: "uid:0(root)".to_owned(),
            on_behalf_of: Some("bob".to_owned()),
        };
        let repeat = |name| before_repeating(&set_by("uid:0(root)", name), Some(&me));
        assert_eq!(
            repeat(Some("alice")),
            "Ask alice first, then run the same command again"
        );
        assert_eq!(
            repeat(Some("bob")),
            "You set that yourself: once it is over, run the same command again"
        );
    }

    #[test]
    fn nobody_is_told_to_ask_themselves() {
        const OWN: &str = "You set that yourself: make sure that it is over before you open it";
        let root = "uid:0(root)";
        for (actor, name, me) in [
            (root, None, (root, None)),
            (root, None, (root, Some("bob"))),
            (root, Some("alice"), (root, Some("alice"))),
            ("uid:0(root) for alice", None, (root, Some("alice"))),
        ] {
            assert_eq!(words(actor, name, me), OWN, "{actor} {name:?} {me:?}");
        }
        for (actor, name, me, asked) in [
            (root, Some("alice"), (root, Some("bob")), "alice"),
            ("uid:0(root) for alice", None, (root, Some("bob")), "alice"),
            ("uid:0(root) for alice", None, (root, None), "alice"),
            ("uid:1000(ops)", None, (root, None), "uid:1000(ops)"),
            ("uid:1000(ops)", None, (root, Some("ops")), "uid:1000(ops)"),
            ("http", None, (root, None), "the other operators"),
        ] {
            let expected = format!("Ask {asked} before you open it");
            assert_eq!(words(actor, name, me), expected, "{actor} {name:?} {me:?}");
        }
        for actor in ["system:storage", "system:fenced"] {
            let advice = before_opening(&set_by(actor, None), None);
            assert!(
                advice.starts_with("No operator closed it") && advice.contains("soramode open"),
                "{actor}: {advice}"
            );
        }
        assert_eq!(
            before_opening(&set_by(root, None), None),
            "Ask uid:0(root) before you open it",
            "an older daemon does not name this user"
        );
        assert_eq!(
            before_opening(&ModeInfo::mode_only(Mode::BlockNewSession), None),
            "Ask the other operators before you open it"
        );
    }
}
