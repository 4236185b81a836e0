//! Who is being asked about: a client may be asked about twice at one time, where Sora asks again before it was answered. It is given up
//! only when the last of them is over and none has let it in.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use soramode_protocol::id::ConnectionId;

/// Clients that are being asked about.
#[derive(Debug, Default)]
pub(crate) struct Guests {
    by_id: Mutex<HashMap<ConnectionId, Guest>>,
}

/// What is known of a client so far.
#[derive(Debug, Default)]
struct Guest {
    /// Questions that are not over.
    questions: u32,
    /// The gate waits for it.
    is_expected: bool,
    /// Sora was told to let it in.
    is_let_in: bool,
}

/// How a question ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The gate did not let it in: it waits for nobody.
    TurnedAway,
    /// The gate waits for it, and it may come.
    LetIn,
    /// The gate waits for it in vain.
    Refused,
}

impl Guests {
    /// Begins a question. Must be followed by [`end`](Self::end).
    pub(crate) fn begin(&self, connection_id: ConnectionId) {
        self.lock().entry(connection_id).or_default().questions += 1;
    }

    /// Ends a question. Returns whether the gate waits for the client in vain.
    #[must_use]
    pub(crate) fn end(&self, connection_id: &ConnectionId, ended: Ended) -> bool {
        let mut by_id = self.lock();
        let Some(guest) = by_id.get_mut(connection_id) else {
            return false;
        };
        guest.questions -= 1;
        match ended {
            Ended::TurnedAway => {}
            Ended::LetIn => (guest.is_expected, guest.is_let_in) = (true, true),
            Ended::Refused => guest.is_expected = true,
        }
        if guest.questions > 0 {
            return false;
        }
        let is_in_vain = guest.is_expected && !guest.is_let_in;
        by_id.remove(connection_id);
        is_in_vain
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ConnectionId, Guest>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs of the gate for two questions about one client that end in this way.
    fn heard_of(ends: [Ended; 2]) -> Vec<&'static str> {
        let guests = Guests::default();
        let connection_id = ConnectionId::new("c").unwrap();
        for _ in ends {
            guests.begin(connection_id.clone());
        }
        let mut heard = vec!["admit"; ends.len()];
        for ended in ends {
            heard.extend(guests.end(&connection_id, ended).then_some("denied"));
        }
        assert!(guests.lock().is_empty());
        heard
    }

    #[test]
    fn who_is_asked_about_twice_is_given_up_once_and_only_if_nobody_let_it_in() {
        use Ended::{LetIn, Refused, TurnedAway};
        for ends in [
            [Refused, Refused],
            [TurnedAway, Refused],
            [Refused, TurnedAway],
        ] {
            assert_eq!(heard_of(ends), ["admit", "admit", "denied"], "{ends:?}");
        }
        for ends in [
            [LetIn, Refused],
            [Refused, LetIn],
            [LetIn, LetIn],
            [TurnedAway, TurnedAway],
            [TurnedAway, LetIn],
        ] {
            assert_eq!(heard_of(ends), ["admit", "admit"], "{ends:?}");
        }
    }
}
