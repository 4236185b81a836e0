//! Auth webhooks in progress, by connection: Sora may repeat one before the first is answered. The
//! gate stops waiting for the client only when the last of them has ended and none admitted it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use soramode_protocol::id::ConnectionId;

use crate::lock::lock;

/// Auth webhooks in progress, by connection.
#[derive(Debug, Default)]
pub(crate) struct PendingAuths {
    by_id: Mutex<HashMap<ConnectionId, PendingAuth>>,
}

/// Auth webhooks in progress about one connection.
#[derive(Debug, Default)]
struct PendingAuth {
    /// Number of those that have not ended.
    requests: u32,
    /// The gate waits for the client.
    is_expected: bool,
    /// An answer to Sora has admitted the client.
    is_admitted: bool,
}

/// Outcome of one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthOutcome {
    /// The client is rejected, and the gate does not wait for it.
    Rejected,
    /// The client is admitted, and the gate waits for it.
    Admitted,
    /// The client is rejected, and the gate waits for it in vain.
    Denied,
}

impl PendingAuths {
    /// Begins a request. Must be followed by [`end`](Self::end).
    pub(crate) fn begin(&self, connection_id: ConnectionId) {
        self.lock().entry(connection_id).or_default().requests += 1;
    }

    /// Ends a request. Returns whether the gate waits for the client in vain.
    #[must_use]
    pub(crate) fn end(&self, connection_id: &ConnectionId, outcome: AuthOutcome) -> bool {
        let mut by_id = self.lock();
        let Some(pending) = by_id.get_mut(connection_id) else {
            return false;
        };
        pending.requests -= 1;
        match outcome {
            AuthOutcome::Rejected => {}
            AuthOutcome::Admitted => (pending.is_expected, pending.is_admitted) = (true, true),
            AuthOutcome::Denied => pending.is_expected = true,
        }
        if pending.requests > 0 {
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

    /// Inputs of the gate for two requests about one client that end in this way.
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
    fn a_repeated_request_is_given_up_once_and_only_if_not_admitted() {
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
