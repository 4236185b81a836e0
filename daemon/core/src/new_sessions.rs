//! New sessions of the SFU's clients, which the SFU can refuse as a whole. No record is needed: the daemon requests the state anew after a
//! start, its own or the SFU's.

use crate::effect::{Action, Effects};

/// New sessions of the SFU's clients.
#[derive(Debug, Default)]
pub(crate) struct NewSessions {
    /// True if they are to be accepted; `None` until that is evaluated.
    wanted: Option<bool>,
    /// The state that the SFU confirmed last: true if it accepts them.
    confirmed: Option<bool>,
    /// The request that is not answered.
    in_flight: Option<bool>,
    /// The SFU did not answer.
    is_unreachable: bool,
    /// The SFU was restarted, and its rooms are not locked yet.
    is_awaiting_locks: bool,
}

impl NewSessions {
    /// Has the state evaluated again.
    pub(crate) const fn reevaluate(&mut self) {
        self.wanted = None;
    }

    /// Notes that the SFU may have been restarted, and then accepts sessions. On a closed node it refuses them until its rooms are locked.
    pub(crate) const fn on_restarted(&mut self, is_closed: bool) {
        *self = Self {
            wanted: None,
            confirmed: None,
            in_flight: self.in_flight,
            is_unreachable: false,
            is_awaiting_locks: is_closed,
        };
    }

    /// Notes that the rooms are locked, as far as they can be.
    pub(crate) const fn on_locked(&mut self) {
        self.is_awaiting_locks = false;
    }

    /// Notes that the SFU answers again.
    pub(crate) const fn on_listed(&mut self) {
        self.is_unreachable = false;
    }

    /// Takes in the outcome of the request in flight.
    pub(crate) const fn on_outcome(&mut self, is_done: bool) {
        if let (Some(accepted), true) = (self.in_flight.take(), is_done) {
            self.confirmed = Some(accepted);
        }
        self.is_unreachable = !is_done;
    }

    /// Requests the state that the mode requires.
    pub(crate) fn drive(&mut self, effects: &mut Effects, may_accept: bool) {
        let wanted = may_accept && !self.is_awaiting_locks;
        self.wanted = Some(wanted);
        if self.confirmed != Some(wanted) && self.in_flight.is_none() && !self.is_unreachable {
            self.in_flight = Some(wanted);
            effects.actions.push(Action::AcceptSessions(wanted));
        }
    }

    /// Returns whether the SFU has confirmed the state that the mode requires.
    pub(crate) fn is_settled(&self) -> bool {
        self.wanted.is_some() && self.wanted == self.confirmed && self.in_flight.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requested(sessions: &mut NewSessions, may_accept: bool) -> Option<bool> {
        let mut effects = Effects::default();
        sessions.drive(&mut effects, may_accept);
        match effects.actions[..] {
            [] => None,
            [Action::AcceptSessions(accept)] => Some(accept),
            ref other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_state_is_requested_until_it_is_confirmed() {
        let mut sessions = NewSessions::default();
        assert!(!sessions.is_settled(), "nothing is known at the start");
        assert_eq!(requested(&mut sessions, true), Some(true));
        assert_eq!(requested(&mut sessions, false), None, "one at a time");
        sessions.on_outcome(true);
        assert!(!sessions.is_settled(), "the mode has changed meanwhile");
        assert_eq!(requested(&mut sessions, false), Some(false));
        sessions.on_outcome(false);
        assert_eq!(requested(&mut sessions, false), None, "it does not answer");
        sessions.on_listed();
        assert_eq!(requested(&mut sessions, false), Some(false));
        sessions.on_outcome(true);
        assert!(sessions.is_settled());
        assert_eq!(requested(&mut sessions, false), None);
    }

    #[test]
    fn a_restarted_sfu_accepts_sessions_of_a_closed_node_once_its_rooms_are_locked() {
        let mut sessions = NewSessions::default();
        requested(&mut sessions, true);
        sessions.on_outcome(true);
        sessions.on_restarted(true);
        assert!(!sessions.is_settled());
        assert_eq!(requested(&mut sessions, true), Some(false));
        sessions.on_outcome(true);
        assert_eq!(requested(&mut sessions, true), None);
        sessions.on_locked();
        assert_eq!(requested(&mut sessions, true), Some(true));
        sessions.on_outcome(true);
        sessions.on_restarted(false);
        assert_eq!(requested(&mut sessions, true), Some(true), "an open node");
    }
}
