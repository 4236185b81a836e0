//! Invariants of the tables, for tests to check after every step.

use std::collections::{BTreeMap, BTreeSet};

use soramode_protocol::session::ConnectionState;

use crate::handles::{ConnectionSlot, SessionSlot, SocketId};
use crate::tables::rows::SessionOwner;
use crate::tables::sessions::Sessions;
use crate::timers::{Timer, Timers};

impl Sessions {
    /// Returns an error if the tables of sessions and connections do not agree with each other or with the timers.
    pub(crate) fn check(&self, timers: &Timers) -> Result<(), String> {
        let mut live: BTreeMap<SessionSlot, u64> = BTreeMap::new();
        let mut pending: BTreeMap<SessionSlot, u64> = BTreeMap::new();
        for (slot, row) in self.connections_from(ConnectionSlot::FIRST) {
            let session = self
                .session(row.session)
                .ok_or_else(|| format!("{}: no session", row.connection_id))?;
            ensure(self.find(&row.connection_id) == Some(slot), || {
                format!("{}: not found", row.connection_id)
            })?;
            ensure(
                self.of_session(row.session, None)
                    .any(|other| other == slot),
                || {
                    format!(
                        "{}: not in the list of {}",
                        row.connection_id, session.channel_id
                    )
                },
            )?;
            let is_timed = timers.is_set(Timer::PendingTimeout(slot));
            ensure(is_timed == (row.state == ConnectionState::Pending), || {
                format!("{}: wrong timer", row.connection_id)
            })?;
            let counts = match row.state {
                ConnectionState::Live => &mut live,
                ConnectionState::Pending => &mut pending,
            };
            *counts.entry(row.session).or_default() += 1;
        }
        ensure(
            self.pending_count() == pending.values().sum::<u64>(),
            || "pending connections are miscounted".to_owned(),
        )?;
        self.check_sockets()?;
        self.check_sessions(timers, &live, &pending)
    }

    fn check_sockets(&self) -> Result<(), String> {
        let bindings: BTreeSet<(ConnectionSlot, SocketId)> = self.bindings().collect();
        ensure(bindings == self.bound().collect(), || {
            "connections and sockets do not agree on their bindings".to_owned()
        })?;
        let gone = bindings
            .into_iter()
            .find(|&(slot, _)| self.connection(slot).is_none());
        ensure(gone.is_none(), || {
            format!("{gone:?} is not in the table, and bound to a socket")
        })
    }

    fn check_sessions(
        &self,
        timers: &Timers,
        live: &BTreeMap<SessionSlot, u64>,
        pending: &BTreeMap<SessionSlot, u64>,
    ) -> Result<(), String> {
        let mut sessions = 0;
        for slot in self.by_age(None) {
            let row = self
                .session(slot)
                .ok_or("a session that is none stands in the order of age")?;
            let (live, pending) = (
                live.get(&slot).copied().unwrap_or(0),
                pending.get(&slot).copied().unwrap_or(0),
            );
            let name = || row.channel_id.to_string();
            ensure(self.find_session(&row.channel_id) == Some(slot), || {
                format!("{}: not found", name())
            })?;
            ensure(
                (u64::from(row.live), u64::from(row.pending)) == (live, pending),
                || format!("{}: miscounted", name()),
            )?;
            ensure(live == 0 || row.is_announced, || {
                format!(
                    "{}: has live connections, and session.created was not emitted",
                    name()
                )
            })?;
            let is_kept =
                timers.is_set(Timer::ReconnectGrace(slot)) || row.owner == SessionOwner::Sora;
            ensure(live + pending > 0 || is_kept, || {
                format!("{}: is empty", name())
            })?;
            sessions += 1;
        }
        ensure(self.session_count() == sessions, || {
            "sessions are miscounted".to_owned()
        })
    }
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
