//! What must always be so, for tests to check after every step.

use std::collections::{BTreeMap, BTreeSet};

use soramode_protocol::session::ConnectionState;

use crate::gate::Gate;
use crate::input::SocketId;
use crate::tables::rows::SessionOwner;
use crate::tables::slab::Slot;
use crate::timers::Timer;

impl Gate {
    /// Whether the tables of sessions and connections agree; if not, where they part.
    pub fn check(&self) -> Result<(), String> {
        let mut live: BTreeMap<Slot, u64> = BTreeMap::new();
        let mut pending: BTreeMap<Slot, u64> = BTreeMap::new();
        for (slot, row) in self.sessions.connections_from(0) {
            let session = self
                .sessions
                .session(row.session)
                .ok_or_else(|| format!("{}: no session", row.connection_id))?;
            ensure(self.sessions.find(&row.connection_id) == Some(slot), || {
                format!("{}: not found", row.connection_id)
            })?;
            ensure(
                self.sessions
                    .of_session(row.session, None)
                    .any(|other| other == slot),
                || {
                    format!(
                        "{}: not in the list of {}",
                        row.connection_id, session.channel_id
                    )
                },
            )?;
            let is_timed = self.timers.is_set(Timer::Pending(slot));
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
            self.sessions.pending_count() == pending.values().sum::<u64>(),
            || "pending connections are miscounted".to_owned(),
        )?;
        self.check_sockets()?;
        self.check_sessions(&live, &pending)
    }

    fn check_sockets(&self) -> Result<(), String> {
        let hanging: BTreeSet<(Slot, SocketId)> = self.sessions.hanging().collect();
        ensure(hanging == self.sessions.bound().collect(), || {
            "connections and sockets do not agree on their bindings".to_owned()
        })?;
        let gone = hanging
            .into_iter()
            .find(|&(slot, _)| self.sessions.row(slot).is_none());
        ensure(gone.is_none(), || {
            format!("{gone:?} is not there, and hangs on a socket")
        })
    }

    fn check_sessions(
        &self,
        live: &BTreeMap<Slot, u64>,
        pending: &BTreeMap<Slot, u64>,
    ) -> Result<(), String> {
        let mut sessions = 0;
        for slot in self.sessions.by_age(None) {
            let row = self
                .sessions
                .session(slot)
                .ok_or("a session that is none stands in the order of age")?;
            let (live, pending) = (
                live.get(&slot).copied().unwrap_or(0),
                pending.get(&slot).copied().unwrap_or(0),
            );
            let name = || row.channel_id.to_string();
            ensure(
                self.sessions.find_session(&row.channel_id) == Some(slot),
                || format!("{}: not found", name()),
            )?;
            ensure(
                (u64::from(row.live), u64::from(row.pending)) == (live, pending),
                || format!("{}: miscounted", name()),
            )?;
            ensure(live == 0 || row.is_announced, || {
                format!("{}: has live connections, and nobody was told", name())
            })?;
            let is_kept =
                self.timers.is_set(Timer::Linger(slot)) || row.owner == SessionOwner::Sora;
            ensure(live + pending > 0 || is_kept, || {
                format!("{}: is empty", name())
            })?;
            sessions += 1;
        }
        ensure(self.sessions.session_count() == sessions, || {
            "sessions are miscounted".to_owned()
        })
    }
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
