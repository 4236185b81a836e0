//! How a node joins: what there was of it before must be adopted, or be over.
//!
//! A node that joined while sessions of an earlier life went on would prolong a right that has ended.

use crate::cluster::{FenceAfter, Incarnation};

/// What a node knows of its last life in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Past {
    /// Which it was.
    pub incarnation: Incarnation,
    /// What it promised.
    pub fence_after: FenceAfter,
    /// What became of its sessions.
    pub sessions: PastSessions,
}

/// What became of the sessions of a node's last life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PastSessions {
    /// They run: the daemon alone was started anew, on a machine that has been up all the time.
    Running,
    /// They must end, and are not known to have ended: the right was over, or they could not be adopted.
    Ending,
    /// They are over: their end was acknowledged, or the machine was started anew.
    Over,
}

/// What to do next. After each but the last two: look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Join {
    /// End all sessions, and wait until they have ended.
    EndSessions,
    /// Delete this earlier member key, comparing its incarnation.
    GiveUp(Incarnation),
    /// Another has this name: try again later.
    NameInUse,
    /// Create the member key, and write each claim anew by its token: they had no end.
    Readopt,
    /// Go on with this incarnation: the right begins with the next read that shows it.
    Adopt(Incarnation),
    /// Create the member key where there is none.
    Create,
}

/// How to join, where a linearizable read found this incarnation under the node's own name.
pub fn how_to_join(past: Option<Past>, found: Option<Incarnation>) -> Join {
    let Some(past) = past else {
        return found.map_or(Join::Create, |_| Join::NameInUse);
    };
    let is_own = found == Some(past.incarnation);
    match past.sessions {
        PastSessions::Running if is_own => Join::Adopt(past.incarnation),
        PastSessions::Running => match past.fence_after {
            FenceAfter::After(_) => Join::EndSessions,
            // Nobody took these channels: they wait for this node.
            FenceAfter::Never => found.map_or(Join::Readopt, |_| Join::NameInUse),
        },
        PastSessions::Ending => Join::EndSessions,
        PastSessions::Over => match found {
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

    fn past(fence_after: FenceAfter, sessions: PastSessions) -> Past {
        Past {
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
            how_to_join(Some(past(AFTER, PastSessions::Running)), Some(OWN)),
            Join::Adopt(OWN)
        );
        assert_eq!(
            how_to_join(Some(past(AFTER, PastSessions::Running)), None),
            Join::EndSessions
        );
        assert_eq!(
            how_to_join(Some(past(AFTER, PastSessions::Running)), Some(OTHER)),
            Join::EndSessions
        );
    }

    #[test]
    fn sticky_sessions_are_kept() {
        assert_eq!(
            how_to_join(
                Some(past(FenceAfter::Never, PastSessions::Running)),
                Some(OWN)
            ),
            Join::Adopt(OWN)
        );
        assert_eq!(
            how_to_join(Some(past(FenceAfter::Never, PastSessions::Running)), None),
            Join::Readopt
        );
        assert_eq!(
            how_to_join(
                Some(past(FenceAfter::Never, PastSessions::Running)),
                Some(OTHER)
            ),
            Join::NameInUse
        );
    }

    #[test]
    fn nothing_comes_before_the_end_of_what_must_end() {
        for fence_after in [AFTER, FenceAfter::Never] {
            for found in [None, Some(OWN), Some(OTHER)] {
                assert_eq!(
                    how_to_join(Some(past(fence_after, PastSessions::Ending)), found),
                    Join::EndSessions
                );
            }
        }
    }

    #[test]
    fn a_life_that_is_over_makes_room() {
        assert_eq!(
            how_to_join(Some(past(AFTER, PastSessions::Over)), Some(OWN)),
            Join::GiveUp(OWN)
        );
        assert_eq!(
            how_to_join(Some(past(AFTER, PastSessions::Over)), None),
            Join::Create
        );
        assert_eq!(
            how_to_join(Some(past(AFTER, PastSessions::Over)), Some(OTHER)),
            Join::NameInUse
        );
    }
}
