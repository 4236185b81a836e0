//! A closing that never loosens the mode.

use soramode_protocol::mode::{Mode, SettableMode};
use soramode_protocol::node::Membership;

/// Returns the mode for a closing that admits no client which the node rejects now. An isolated node in `initial` rejects every client, and
/// no client can set `initial`. A node that has not joined yet rejects every client in each mode.
pub(crate) fn at_least(
    target: SettableMode,
    now: Mode,
    membership: Option<Membership>,
) -> SettableMode {
    match SettableMode::try_from(now) {
        Ok(now) => target.max(now),
        Err(_) if membership == Some(Membership::Fenced) => target,
        Err(_) => SettableMode::BlockNewConnection,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SettableMode::{BlockNewConnection, BlockNewSession};

    #[test]
    fn no_mode_is_loosened() {
        for (target, now, membership, set) in [
            (BlockNewSession, Mode::Normal, None, BlockNewSession),
            (
                BlockNewSession,
                Mode::BlockNewSession,
                None,
                BlockNewSession,
            ),
            (
                BlockNewSession,
                Mode::BlockNewConnection,
                None,
                BlockNewConnection,
            ),
            (
                BlockNewConnection,
                Mode::BlockNewSession,
                None,
                BlockNewConnection,
            ),
            (
                BlockNewSession,
                Mode::Initial,
                Some(Membership::Isolated),
                BlockNewConnection,
            ),
            (BlockNewSession, Mode::Initial, None, BlockNewConnection),
            (
                BlockNewSession,
                Mode::Initial,
                Some(Membership::Fenced),
                BlockNewSession,
            ),
        ] {
            assert_eq!(
                at_least(target, now, membership),
                set,
                "{now} {membership:?}"
            );
        }
    }
}
