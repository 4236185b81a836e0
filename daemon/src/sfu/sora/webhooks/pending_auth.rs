//! Auth questions in flight: Sora may repeat a question before the first was answered. The
//! connection is given up only when the last of them has ended and none admitted the client.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use soramode_protocol::id::ConnectionId;

use crate::lock::lock;

/// Clients that are being asked about.
#[derive(Debug, Default)]
pub(crate) struct PendingAuths {
    by_id: Mutex<HashMap<ConnectionId, PendingAuth>>,
}

/// State of the questions about one connection.
#[derive(Debug, Default)]
struct PendingAuth {
    /// Questions that are not over.
    questions: u32,
    /// The gate waits for it.
    is_expected: bool,
    /// `true` if the answer to Sora admitted it.
    is_admitted: bool,
}

/// Outcome of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthOutcome {
    /// Gate rejected it, and does not expect a connection.
    Rejected,
    /// Gate expects the connection, and it may come.
    Admitted,
    /// The gate waits for it in vain.
    Denied,
}

impl PendingAuths {
    /// Begins a question. Must be followed by [`end`](Self::end).
    pub(crate) fn begin(&self, connection_id: ConnectionId) {
        self.lock().entry(connection_id).or_default().questions += 1;
    }

    /// Ends a question. Returns whether the gate waits for the client in vain.
    #[must_use]
    pub(crate) fn end(&self, connection_id: &ConnectionId, ended: AuthOutcome) -> bool {
        let mut by_id = self.lock();
        let Some(pending) = by_id.get_mut(connection_id) else {
            return false;
        };
        pending.questions -= 1;
        match ended {
            AuthOutcome::Rejected => {}
            AuthOutcome::Admitted => (pending.is_expected, pending.is_admitted) = (true, true),
            AuthOutcome::Denied => pending.is_expected = true,
        }
        if pending.questions > 0 {
            return false;
        }
        let is_denied = pending.is_expected && !pending.is_admitted;
        by_id.remove(connection_id);
        is_denied
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ConnectionId, PendingAuth>> {
        lock(&self.by_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs of the gate for two questions about one client that end in this way.
    fn inputs(ends: [AuthOutcome; 2]) -> Vec<&'static str> {
        let pending_auths = PendingAuths::default();
        let connection_id = ConnectionId::new("c").unwrap();
        for _ in ends {
            pending_auths.begin(connection_id.clone());
        }
        let mut sent = vec!["admit"; ends.len()];
        for ended in ends {
            sent.extend(pending_auths.end(&connection_id, ended).then_some("denied"));
        }
        assert!(pending_auths.lock().is_empty());
        sent
    }

    #[test]
    fn a_repeated_question_is_given_up_once_and_only_if_not_admitted() {
        use AuthOutcome::{Admitted, Denied, Rejected};
        for ends in [[Denied, Denied], [Rejected, Denied], [Denied, Rejected]] {
            assert_eq!(inputs(ends), ["admit", "admit", "denied"], "{ends:?}");
        }
        for ends in [
            [Admitted, Denied],
            [Denied, Admitted],
            [Admitted, Admitted],
            [Rejected, Rejected],
            [Rejected, Admitted],
        ] {
            assert_eq!(inputs(ends), ["admit", "admit"], "{ends:?}");
        }
    }
}
