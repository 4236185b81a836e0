//! Connections come and go, and sessions with them.

use std::time::Duration;

use soramode_protocol::decision::{
    Connect, Decision, Disconnect, Disconnected, Report, Reported, ReportedConnection,
};
use soramode_protocol::event::{EndReason, EventKind};
use soramode_protocol::id::{ChannelId, ClientId, ConnectionId, SessionId};
use soramode_protocol::node::StorageState;
use soramode_protocol::session::ConnectionState;

use crate::admission::Newcomer;
use crate::effect::Record;
use crate::gate::{Ctx, Gate, Refusable};
use crate::input::{ReplyHandle, SocketId, Timestamp};
use crate::tables::rows::{NewConnection, SessionOwner, SessionRow, Since, Source};
use crate::tables::slab::Slot;
use crate::timers::Timer;
use crate::waits::Changed;

/// How many connections one step ends at most because their socket is gone; the rest goes with the next.
const ENDED_PER_STEP: usize = 256;

impl Gate {
    pub(crate) fn connect(
        &mut self,
        ctx: &mut Ctx,
        reply_to: ReplyHandle,
        connect: Connect,
    ) -> Option<Refusable<Decision>> {
        self.known.heard_socket(ctx.now.wall);
        self.request_admission(ctx, Newcomer::connect(reply_to, connect))
    }

    pub(crate) fn disconnect(&mut self, ctx: &mut Ctx, gone: &Disconnect) -> Disconnected {
        self.known.heard_socket(ctx.now.wall);
        self.cancel_connection(ctx, &gone.connection_id);
        let Some(slot) = self.sessions.find(&gone.connection_id) else {
            return Disconnected {
                found: false,
                channel_id: None,
                session_id: None,
                durable: true,
            };
        };
        let connection = self.sessions.view_connection(slot);
        self.end(ctx, slot, EndReason::Disconnected);
        let (channel_id, session_id) = connection
            .map(|connection| (connection.channel_id, connection.session_id))
            .unzip();
        Disconnected {
            found: true,
            channel_id,
            session_id,
            durable: self.storage != StorageState::Failed,
        }
    }

    pub(crate) fn report(&mut self, ctx: &mut Ctx, socket: SocketId, report: Report) -> Reported {
        self.known.heard_socket(ctx.now.wall);
        let mut named = self.reports.remove(&socket).unwrap_or_default();
        let mut added = 0;
        for connection in report.connections {
            added += u64::from(self.sessions.find(&connection.connection_id).is_none());
            named.insert(self.report_one(ctx, socket, connection));
        }
        if !report.complete {
            self.reports.insert(socket, named);
            return Reported { added, removed: 0 };
        }
        self.report_succeeded(ctx);
        let unnamed: Vec<Slot> = self
            .sessions
            .connections_from(0)
            .filter(|(slot, row)| row.source == Source::ControlSocket && !named.contains(slot))
            .map(|(slot, _)| slot)
            .collect();
        for &slot in &unnamed {
            self.end(ctx, slot, EndReason::Reconciled);
        }
        self.tell_held_vanished(ctx);
        self.waits.note(Changed::Sessions);
        Reported {
            added,
            removed: u64::try_from(unnamed.len()).unwrap_or(u64::MAX),
        }
    }

    fn report_one(
        &mut self,
        ctx: &mut Ctx,
        socket: SocketId,
        reported: ReportedConnection,
    ) -> Slot {
        let ReportedConnection {
            channel_id,
            connection_id,
            client_id,
            session_id,
        } = reported;
        let known = self.sessions.find(&connection_id);
        if let Some(slot) = known {
            let row = self.sessions.row(slot);
            let is_here = row
                .and_then(|row| self.sessions.session(row.session))
                .is_some_and(|row| row.channel_id == channel_id);
            if is_here {
                let is_bound = self.sessions.socket_of(slot).is_some();
                self.see(ctx, slot);
                self.bind(ctx, slot, is_bound.then_some(socket));
                return slot;
            }
        }
        let session = self.sessions.find_session(&channel_id);
        let session = session.unwrap_or_else(|| self.open_session(ctx, channel_id, session_id));
        if let Some(elsewhere) = known {
            // Not before its new session is there: a connection that moves does not empty the node.
            self.end(ctx, elsewhere, EndReason::Reconciled);
        }
        let new = NewConnection {
            connection_id,
            client_id,
            created_at: ctx.now.wall,
            state: ConnectionState::Live,
            source: Source::ControlSocket,
            since: Since::at(ctx.now.boot),
        };
        self.add_live(ctx, session, new)
    }

    /// A session without connections; with the id that the SFU gave it, if it gave one.
    pub(crate) fn open_session(
        &mut self,
        ctx: &Ctx,
        channel_id: ChannelId,
        session_id: Option<SessionId>,
    ) -> Slot {
        let session_id = session_id.unwrap_or_else(|| SessionId::generate(self.random_bytes()));
        self.vanished_pending = false;
        self.waits.note(Changed::Sessions);
        self.note_unclaimed(&channel_id);
        self.sessions.add_session(channel_id, session_id, ctx.now)
    }

    pub(crate) fn add_live(&mut self, ctx: &mut Ctx, session: Slot, new: NewConnection) -> Slot {
        let (connection_id, client_id) = (new.connection_id.clone(), new.client_id.clone());
        let slot = self.sessions.add_connection(session, new);
        self.name_in_reports(slot);
        self.tell_created(ctx, session, (connection_id, client_id));
        slot
    }

    /// Whoever was seen while a report is under way need not be named in it.
    fn name_in_reports(&mut self, slot: Slot) {
        for named in self.reports.values_mut() {
            named.insert(slot);
        }
    }

    /// A connection is on the SFU: if it was pending, it is live from now on.
    pub(crate) fn see(&mut self, ctx: &mut Ctx, slot: Slot) {
        self.name_in_reports(slot);
        let Some(row) = self
            .sessions
            .row(slot)
            .filter(|row| row.state == ConnectionState::Pending)
        else {
            return;
        };
        let session = row.session;
        let (connection_id, client_id) =
            (row.connection_id.clone(), row.client_id.as_deref().cloned());
        self.timers.cancel(Timer::Pending(slot));
        self.sessions.make_live(slot, ctx.now);
        self.tell_created(ctx, session, (connection_id, client_id));
    }

    fn tell_created(
        &mut self,
        ctx: &mut Ctx,
        session: Slot,
        who: (ConnectionId, Option<ClientId>),
    ) {
        self.timers.cancel(Timer::Linger(session));
        let Some(row) = self.sessions.session_mut(session) else {
            return;
        };
        let (channel_id, session_id) = (row.channel_id.clone(), row.session_id.clone());
        if !std::mem::replace(&mut row.is_announced, true) {
            let created_time = row.created_at;
            let owner = row.owner;
            let token = self.token_of(&channel_id);
            let kind = EventKind::SessionCreated {
                channel_id: channel_id.clone(),
                session_id: session_id.clone(),
                created_time,
                token,
            };
            self.emit(ctx, kind);
            if owner == SessionOwner::Sora {
                ctx.effects
                    .records
                    .push(Record::SessionOfSora(channel_id.clone()));
            }
        }
        let (connection_id, client_id) = who;
        self.emit(
            ctx,
            EventKind::ConnectionCreated {
                channel_id,
                session_id,
                connection_id,
                client_id,
            },
        );
    }

    pub(crate) fn bind(&mut self, ctx: &mut Ctx, slot: Slot, socket: Option<SocketId>) {
        let Some(row) = self.sessions.row(slot) else {
            return;
        };
        if self.sessions.socket_of(slot) != socket {
            ctx.effects.records.push(Record::BoundTo {
                connection_id: row.connection_id.clone(),
                socket,
            });
            self.sessions.bind(slot, socket);
        }
    }

    /// Ends a connection, and with the last one its session.
    pub(crate) fn end(&mut self, ctx: &mut Ctx, slot: Slot, reason: EndReason) {
        let Some(row) = self.sessions.remove_connection(slot) else {
            return;
        };
        // Whoever was only given up, and comes after all, is there.
        let is_over = matches!(
            reason,
            EndReason::Disconnected | EndReason::SessionDestroyed
        );
        if row.source == Source::Sora && is_over {
            self.tombstones
                .remember(row.connection_id.clone(), ctx.now.boot);
        }
        if row.state == ConnectionState::Pending {
            self.timers.cancel(Timer::Pending(slot));
            ctx.effects
                .records
                .push(Record::PendingOver(row.connection_id.clone()));
        }
        let session = row.session;
        let Some(home) = self.sessions.session_mut(session) else {
            return;
        };
        home.last_end = reason;
        let (channel_id, session_id) = (home.channel_id.clone(), home.session_id.clone());
        // Who was never seen in a session that nobody has heard of ends without a word.
        let (is_told, is_empty, owner) = (
            home.is_announced,
            home.live == 0 && home.pending == 0,
            home.owner,
        );
        if is_told {
            let client_id = row.client_id.map(|client_id| *client_id);
            let connection_id = row.connection_id;
            let kind = EventKind::ConnectionDestroyed {
                channel_id,
                session_id,
                connection_id,
                client_id,
                reason,
            };
            self.emit(ctx, kind);
        }
        match (is_empty, owner) {
            (true, SessionOwner::Gate) if is_told && !self.settings.session_linger.is_zero() => {
                self.timers.set(
                    Timer::Linger(session),
                    ctx.now.boot + self.settings.session_linger,
                );
            }
            (true, SessionOwner::Gate) => self.destroy_session(ctx, session),
            (true, SessionOwner::Sora) | (false, _) => {}
        }
    }

    /// Ends a session that has no connections.
    pub(crate) fn destroy_session(&mut self, ctx: &mut Ctx, session: Slot) {
        let Some(row) = self.sessions.remove_session(session) else {
            return;
        };
        self.timers.cancel(Timer::Linger(session));
        self.sessions_ended += 1;
        self.waits.note(Changed::Sessions);
        let channel_id = self.member.is_some().then(|| row.channel_id.clone());
        if row.is_announced {
            let token = self.token_of(&row.channel_id);
            self.emit(ctx, destroyed(row, ctx.now, token));
        }
        if let Some(channel_id) =
            channel_id.filter(|channel_id| self.sessions.find_session(channel_id).is_none())
        {
            self.release(ctx, &channel_id);
        }
        if self.sessions.session_count() == 0 && self.mode.mode.is_block() {
            self.vanished_pending = true;
            self.confirm(ctx);
            self.tell_held_vanished(ctx);
        }
    }

    /// Tells that the node is empty, if that is so, was not told, and can be known.
    pub(crate) fn tell_held_vanished(&mut self, ctx: &mut Ctx) {
        if self.vanished_pending && self.known.is_confirmed() {
            self.vanished_pending = false;
            self.emit(ctx, EventKind::SessionVanished);
        }
    }

    pub(crate) fn pending_over(&mut self, ctx: &mut Ctx, slot: Slot, reason: EndReason) {
        if self
            .sessions
            .row(slot)
            .is_some_and(|row| row.state == ConnectionState::Pending)
        {
            self.end(ctx, slot, reason);
        }
    }

    pub(crate) fn socket_gone(&mut self, ctx: &Ctx, socket: SocketId) {
        self.drop_waits(socket);
        self.cancel_socket(socket);
        self.reports.remove(&socket);
        if self.sessions.bound_to(socket).next().is_some() {
            self.timers.set(
                Timer::Grace(socket),
                ctx.now.boot + self.settings.socket_grace,
            );
        }
    }

    pub(crate) fn grace_over(&mut self, ctx: &mut Ctx, socket: SocketId) {
        let slots: Vec<Slot> = self
            .sessions
            .bound_to(socket)
            .take(ENDED_PER_STEP)
            .collect();
        for slot in slots {
            self.end(ctx, slot, EndReason::SocketClosed);
        }
        if self.sessions.bound_to(socket).next().is_some() {
            // Later than now, so that it fires in the next step and not in this one again.
            self.timers
                .set(Timer::Grace(socket), ctx.now.boot + Duration::from_nanos(1));
        }
    }
}

fn destroyed(row: SessionRow, now: Timestamp, token: Option<u64>) -> EventKind {
    EventKind::SessionDestroyed {
        channel_id: row.channel_id,
        session_id: row.session_id,
        created_time: row.created_at,
        destroyed_time: now.wall,
        max_connections: row.max_connections,
        total_connections: row.total_connections,
        reason: row.last_end,
        token,
    }
}
