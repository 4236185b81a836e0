//! The list of each session's connections, which its rows link.

use soramode_protocol::time::Time;

use crate::handles::{ConnectionSlot, SessionSlot};
use crate::tables::rows::Link;
use crate::tables::sessions::Sessions;

impl Sessions {
    /// A session's connections in the order in which they came, after a given one.
    pub(crate) fn of_session(
        &self,
        session: SessionSlot,
        after: Option<(Time, ConnectionSlot)>,
    ) -> impl Iterator<Item = ConnectionSlot> {
        let first = self
            .sessions
            .get(session)
            .map_or(ConnectionSlot::NIL, |row| row.first);
        let resumed = after.and_then(|(created_at, slot)| {
            let row = self
                .connections
                .get(slot)
                .filter(|row| row.session == session && row.created_at == created_at)?;
            Some(row.next)
        });
        // The last connection of the page before has left meanwhile: go by its time and slot.
        let seen_until = after.filter(|_| resumed.is_none());
        let mut at = resumed.unwrap_or(first);
        std::iter::from_fn(move || {
            let slot = at;
            at = self.connections.get(slot)?.next;
            Some(slot)
        })
        .skip_while(move |&slot| {
            seen_until.is_some_and(|until| {
                self.connections
                    .get(slot)
                    .is_some_and(|row| (row.created_at, slot) <= until)
            })
        })
    }

    /// The connection of a session that came last.
    pub(crate) fn last_of_session(&self, session: SessionSlot) -> Option<ConnectionSlot> {
        self.sessions
            .get(session)
            .map(|row| row.last)
            .filter(|last| *last != ConnectionSlot::NIL)
    }

    /// Puts a connection behind the earlier ones. Those of the same time are in the order of their slots: so the one after a connection
    /// is known even when that has left.
    pub(super) fn link(&mut self, session: SessionSlot, slot: ConnectionSlot) {
        let created_at = self.connections.get(slot).map(|row| row.created_at);
        let mut previous = self
            .sessions
            .get(session)
            .map_or(ConnectionSlot::NIL, |row| row.last);
        while let Some(row) = self.connections.get(previous)
            && Some(row.created_at) == created_at
            && previous > slot
        {
            previous = row.previous;
        }
        let next = match self.connections.get_mut(previous) {
            Some(row) => std::mem::replace(&mut row.next, slot),
            None => self
                .sessions
                .get_mut(session)
                .map_or(ConnectionSlot::NIL, |row| {
                    std::mem::replace(&mut row.first, slot)
                }),
        };
        match self.connections.get_mut(next) {
            Some(row) => row.previous = slot,
            None => self
                .sessions
                .get_mut(session)
                .into_iter()
                .for_each(|row| row.last = slot),
        }
        if let Some(connection) = self.connections.get_mut(slot) {
            (connection.previous, connection.next) = (previous, next);
        }
    }

    pub(super) fn unlink(
        &mut self,
        Link {
            session,
            previous,
            next,
        }: Link,
    ) {
        match self.connections.get_mut(previous) {
            Some(row) => row.next = next,
            None => self
                .sessions
                .get_mut(session)
                .into_iter()
                .for_each(|row| row.first = next),
        }
        match self.connections.get_mut(next) {
            Some(row) => row.previous = previous,
            None => self
                .sessions
                .get_mut(session)
                .into_iter()
                .for_each(|row| row.last = previous),
        }
    }
}
