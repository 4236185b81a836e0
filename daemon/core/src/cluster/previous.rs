//! The previous incarnation of a node that joins: its sessions must be adopted, or have ended.
//!
//! Joining while sessions of a previous incarnation still run would extend an expired lease.

use crate::cluster::{FenceAfter, Incarnation};

/// The node's last incarnation in the cluster, as far as the node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PreviousIncarnation {
    /// The incarnation.
    pub incarnation: Incarnation,
    /// Expiry that it promised.
    pub fence_after: FenceAfter,
    /// State of its sessions.
    pub sessions: PreviousSessions,
}

impl PreviousIncarnation {
    /// Returns whether its sessions run.
    pub fn has_sessions(&self) -> bool {
        self.sessions == PreviousSessions::Alive
    }
}

/// State of the sessions of a node's previous incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PreviousSessions {
    /// The sessions run: only the daemon was restarted, on a machine that has been up all the time.
    Alive,
    /// The sessions must end, and are not known to have ended: the lease had expired, or they could not be adopted.
    Ending,
    /// The sessions have ended: that was acknowledged, or the machine was restarted.
    Ended,
}

/// Next step to join. After each but the last two the members are read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Join {
    /// End all sessions, and wait until they have ended.
    EndSessions,
    /// Delete this earlier member key, comparing its incarnation.
    GiveUp(Incarnation),
    /// Another node has this name: try again later.
    NameInUse,
    /// Create the member key, and rewrite each claim by its token: the lease had no end.
    Migrate,
    /// Go on with this incarnation: its lease begins with the read that shows it.
    Adopt(Incarnation),
    /// Create the member key where there is none.
    Create,
}

/// Decides how to join, after a linearizable read found this incarnation under the node's own name.
pub fn how_to_join(previous: Option<PreviousIncarnation>, found: Option<Incarnation>) -> Join {
    let Some(previous) = previous else {
        return found.map_or(Join::Create, |_| Join::NameInUse);
    };
    let is_own = found == Some(previous.incarnation);
    match previous.sessions {
        PreviousSessions::Alive if is_own => Join::Adopt(previous.incarnation),
        PreviousSessions::Alive => match previous.fence_after {
            FenceAfter::After(_) => Join::EndSessions,
            // No other node took these channels: they wait for this one.
            FenceAfter::Never => found.map_or(Join::Migrate, |_| Join::NameInUse),
        },
        PreviousSessions::Ending => Join::EndSessions,
        PreviousSessions::Ended => match found {
            None => Join::Create,
            Some(incarnation) if is_own => Join::GiveUp(incarnation),
            Some(_) => Join::NameInUse,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const OWN: Incarnation = Incarnation(10);
    const OTHER: Incarnation = Incarnation(11);
    const AFTER: FenceAfter = FenceAfter::After(Duration::from_secs(30));

    fn previous(fence_after: FenceAfter, sessions: PreviousSessions) -> PreviousIncarnation {
        PreviousIncarnation {
            incarnation: OWN,
            fence_after,
            sessions,
        }
    }

    #[test]
    fn a_new_node_creates_its_key_where_there_is_none() {
        assert_eq!(how_to_join(None, None), Join::Create);
        assert_eq!(how_to_join(None, Some(OTHER)), Join::NameInUse);
    }

    #[test]
    fn sessions_that_run_are_adopted_or_ended_first() {
        assert_eq!(
            how_to_join(Some(previous(AFTER, PreviousSessions::Alive)), Some(OWN)),
            Join::Adopt(OWN)
        );
        assert_eq!(
            how_to_join(Some(previous(AFTER, PreviousSessions::Alive)), None),
            Join::EndSessions
        );
        assert_eq!(
            how_to_join(Some(previous(AFTER, PreviousSessions::Alive)), Some(OTHER)),
            Join::EndSessions
        );
    }

    #[test]
    fn sessions_without_fencing_are_kept() {
        assert_eq!(
            how_to_join(
                Some(previous(FenceAfter::Never, PreviousSessions::Alive)),
                Some(OWN)
            ),
            Join::Adopt(OWN)
        );
        assert_eq!(
            how_to_join(
                Some(previous(FenceAfter::Never, PreviousSessions::Alive)),
                None
            ),
            Join::Migrate
        );
        assert_eq!(
            how_to_join(
                Some(previous(FenceAfter::Never, PreviousSessions::Alive)),
                Some(OTHER)
            ),
            Join::NameInUse
        );
    }

    #[test]
    fn a_node_whose_sessions_must_end_does_nothing_before() {
        for fence_after in [AFTER, FenceAfter::Never] {
            for found in [None, Some(OWN), Some(OTHER)] {
                assert_eq!(
                    how_to_join(Some(previous(fence_after, PreviousSessions::Ending)), found),
                    Join::EndSessions
                );
            }
        }
    }

    #[test]
    fn an_ended_incarnation_gives_its_name_free() {
        assert_eq!(
            how_to_join(Some(previous(AFTER, PreviousSessions::Ended)), Some(OWN)),
            Join::GiveUp(OWN)
        );
        assert_eq!(
            how_to_join(Some(previous(AFTER, PreviousSessions::Ended)), None),
            Join::Create
        );
        assert_eq!(
            how_to_join(Some(previous(AFTER, PreviousSessions::Ended)), Some(OTHER)),
            Join::NameInUse
        );
    }
}
