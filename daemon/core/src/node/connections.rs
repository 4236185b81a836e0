//! Connections begin and end, and sessions with them.

use std::time::Duration;

use soramode_protocol::decision::{Disconnect, Disconnected, Report, Reported, ReportedConnection};
use soramode_protocol::event::{EndReason, EventKind};
use soramode_protocol::id::{ChannelId, ClientId, ConnectionId, SessionId};
use soramode_protocol::mode::Mode;
use soramode_protocol::session::ConnectionState;

use crate::count::count;
use crate::ctx::Ctx;
use crate::effect::Record;
use crate::handles::{ConnectionSlot, SessionSlot, SocketId, Timestamp};
use crate::node::Node;
use crate::tables::rows::{NewConnection, SessionOwner, SessionRow, Source, WrappingBootSecs};
use crate::timers::Timer;

/// Connections of a closed socket that one step ends at most; the next step ends the rest.
const ENDED_PER_STEP: usize = 256;

impl Node {
    pub(crate) fn disconnect(&mut self, ctx: &mut Ctx, gone: &Disconnect) -> Disconnected {
        self.sync.on_socket_contact(ctx.now.wall);
        self.cancel_waiting(ctx, &gone.connection_id);
        let Some(slot) = self.sessions.find(&gone.connection_id) else {
            return Disconnected {
                found: false,
                channel_id: None,
                session_id: None,
                durable: true,
            };
        };
        let connection = self.sessions.view_connection(slot);
        self.end_connection(ctx, slot, EndReason::Disconnected);
        let (channel_id, session_id) = connection
            .map(|connection| (connection.channel_id, connection.session_id))
            .unzip();
        Disconnected {
            found: true,
            channel_id,
            session_id,
            durable: !self.storage.is_failed(),
        }
    }

    pub(crate) fn report(&mut self, ctx: &mut Ctx, socket: SocketId, report: Report) -> Reported {
        self.sync.on_socket_contact(ctx.now.wall);
        let mut named = self.reports.take(socket);
        let mut added = 0;
        for connection in report.connections {
            added += u64::from(self.sessions.find(&connection.connection_id).is_none());
            named.insert(self.report_one(ctx, socket, connection));
        }
        if !report.complete {
            self.reports.keep(socket, named);
            return Reported { added, removed: 0 };
        }
        self.sync.on_complete_report();
        // A complete Report lists every session but those of a Sora.
        if !self.sync.has_sfu() {
            self.clear_untracked(ctx);
        }
        let unnamed: Vec<ConnectionSlot> = self
            .sessions
            .connections_from(ConnectionSlot::FIRST)
            .filter(|(slot, row)| row.source == Source::ControlSocket && !named.contains(slot))
            .map(|(slot, _)| slot)
            .collect();
        for &slot in &unnamed {
            self.end_connection(ctx, slot, EndReason::Reconciled);
        }
        self.emit_vanished_if_synced(ctx);
        Reported {
            added,
            removed: count(unnamed.len()),
        }
    }

    fn report_one(
        &mut self,
        ctx: &mut Ctx,
        socket: SocketId,
        reported: ReportedConnection,
    ) -> ConnectionSlot {
        let ReportedConnection {
            channel_id,
            connection_id,
            client_id,
            session_id,
        } = reported;
        let known = self.sessions.find(&connection_id);
        if let Some(slot) = known
            && self.sessions.is_in(slot, &channel_id)
        {
            let is_bound = self.sessions.socket_of(slot).is_some();
            self.mark_live(ctx, slot);
            self.bind_to_socket(ctx, slot, (is_bound && !socket.is_http()).then_some(socket));
            return slot;
        }
        let session = self.sessions.find_session(&channel_id);
        let session = session.unwrap_or_else(|| self.open_session(ctx, channel_id, session_id));
        if let Some(elsewhere) = known {
            // Only after its new session is there: a connection that moves does not empty the node.
            self.end_connection(ctx, elsewhere, EndReason::Reconciled);
        }
        let new = NewConnection {
            connection_id,
            client_id,
            created_at: ctx.now.wall,
            state: ConnectionState::Live,
            source: Source::ControlSocket,
            since: WrappingBootSecs::at(ctx.now.boot),
        };
        self.add_live(ctx, session, new)
    }

    /// Opens a session without connections; with the id that the SFU gave it, if it gave one.
    pub(crate) fn open_session(
        &mut self,
        ctx: &mut Ctx,
        channel_id: ChannelId,
        session_id: Option<SessionId>,
    ) -> SessionSlot {
        let session_id = session_id.unwrap_or_else(|| SessionId::generate(ctx.random.bytes()));
        self.vanished_pending = false;
        if let Some(member) = self.member.as_deref_mut() {
            member.track_unclaimed(&channel_id);
        }
        let session = self.sessions.add_session(channel_id, session_id, ctx.now);
        self.plans.on_session_opened(session);
        session
    }

    pub(crate) fn add_live(
        &mut self,
        ctx: &mut Ctx,
        session: SessionSlot,
        new: NewConnection,
    ) -> ConnectionSlot {
        let (connection_id, client_id) = (new.connection_id.clone(), new.client_id.clone());
        let slot = self.sessions.add_connection(session, new);
        self.reevaluate_room(session);
        self.reports.mark_seen(slot);
        self.emit_created(ctx, session, (connection_id, client_id));
        slot
    }

    /// Notes that a connection is on the SFU: if it was pending, it is live from now on.
    pub(crate) fn mark_live(&mut self, ctx: &mut Ctx, slot: ConnectionSlot) {
        self.reports.mark_seen(slot);
        let Some(row) = self.sessions.connection(slot) else {
            return ctx.bug("a connection on the SFU is not in the table");
        };
        if row.state != ConnectionState::Pending {
            return;
        }
        let session = row.session;
        let (connection_id, client_id) =
            (row.connection_id.clone(), row.client_id.as_deref().cloned());
        ctx.timers.cancel(Timer::PendingTimeout(slot));
        self.sessions.make_live(ctx, slot);
        self.plans.on_pending_changed(session);
        self.emit_created(ctx, session, (connection_id, client_id));
    }

    fn emit_created(
        &mut self,
        ctx: &mut Ctx,
        session: SessionSlot,
        ids: (ConnectionId, Option<ClientId>),
    ) {
        ctx.timers.cancel(Timer::ReconnectGrace(session));
        let Some(row) = self.sessions.session_mut(session) else {
            return ctx.bug("a connection has no session");
        };
        let (channel_id, session_id) = (row.channel_id.clone(), row.session_id.clone());
        if !std::mem::replace(&mut row.is_announced, true) {
            let created_time = row.created_at;
            let owner = row.owner;
            let token = self.claim_token(&channel_id);
            let kind = EventKind::SessionCreated {
                channel_id: channel_id.clone(),
                session_id: session_id.clone(),
                created_time,
                token,
            };
            ctx.emit(kind);
            if owner == SessionOwner::Sora {
                ctx.record(Record::SessionOfSora(channel_id.clone()));
            }
        }
        let (connection_id, client_id) = ids;
        ctx.emit(EventKind::ConnectionCreated {
            channel_id,
            session_id,
            connection_id,
            client_id,
        });
    }

    pub(crate) fn bind_to_socket(
        &mut self,
        ctx: &mut Ctx,
        slot: ConnectionSlot,
        socket: Option<SocketId>,
    ) {
        let Some(row) = self.sessions.connection(slot) else {
            return ctx.bug("a connection to bind is not in the table");
        };
        if self.sessions.socket_of(slot) != socket {
            ctx.record(Record::BoundTo {
                connection_id: row.connection_id.clone(),
                socket,
            });
            self.sessions.bind_to_socket(slot, socket);
        }
    }

    /// Ends a connection, and with the last one its session.
    pub(crate) fn end_connection(
        &mut self,
        ctx: &mut Ctx,
        slot: ConnectionSlot,
        reason: EndReason,
    ) {
        let Some(row) = self.sessions.remove_connection(slot) else {
            return ctx.bug("a connection to end is not in the table");
        };
        // One that timed out, and is reported after all, is there.
        let is_over = matches!(
            reason,
            EndReason::Disconnected | EndReason::SessionDestroyed
        );
        if row.source == Source::Sfu && is_over {
            self.tombstones
                .remember(row.connection_id.clone(), ctx.now.boot);
        } else if self.is_sora() {
            self.auth_webhooks
                .remember_ended(row.connection_id.clone(), ctx.now.boot);
        }
        if row.state == ConnectionState::Pending {
            ctx.timers.cancel(Timer::PendingTimeout(slot));
            ctx.record(Record::PendingEnded(row.connection_id.clone()));
            self.plans.on_pending_changed(row.session);
        }
        let session = row.session;
        let Some(session_row) = self.sessions.session_mut(session) else {
            return ctx.bug("an ended connection has no session");
        };
        session_row.last_end = reason;
        let (channel_id, session_id) = (
            session_row.channel_id.clone(),
            session_row.session_id.clone(),
        );
        // A pending connection of a session without an event ends without one.
        let (is_announced, is_empty, owner) = (
            session_row.is_announced,
            session_row.live == 0 && session_row.pending == 0,
            session_row.owner,
        );
        let has_lost_last = session_row.live == 0 && row.state == ConnectionState::Live;
        if is_announced {
            let client_id = row.client_id.map(|client_id| *client_id);
            let connection_id = row.connection_id;
            let kind = EventKind::ConnectionDestroyed {
                channel_id,
                session_id,
                connection_id,
                client_id,
                reason,
            };
            ctx.emit(kind);
        }
        if has_lost_last {
            self.reevaluate_room(session);
        }
        if has_lost_last && is_announced && self.has_grace(session) {
            let until = ctx.now.boot + self.settings.reconnect_grace;
            ctx.timers.set(Timer::ReconnectGrace(session), until);
        }
        match (is_empty, owner) {
            (true, SessionOwner::Gate) if ctx.timers.is_set(Timer::ReconnectGrace(session)) => {}
            (true, SessionOwner::Gate) => self.destroy_session(ctx, session),
            (true, SessionOwner::Sora) | (false, _) => {}
        }
    }

    /// Returns whether a client that left this session may come back for a while.
    fn has_grace(&self, session: SessionSlot) -> bool {
        !self.settings.reconnect_grace.is_zero()
            && self.mode.mode() != Mode::BlockNewConnection
            && !self.plans.is_asked_to_end(session)
    }

    /// Ends the sessions that only wait for a client to come back: under the present mode none can.
    pub(super) fn end_graces(&mut self, ctx: &mut Ctx) {
        if self.settings.reconnect_grace.is_zero() {
            return;
        }
        let is_waiting = |slot: &SessionSlot| ctx.timers.is_set(Timer::ReconnectGrace(*slot));
        let sessions: Vec<SessionSlot> = self.sessions.by_age(None).filter(is_waiting).collect();
        for session in sessions {
            ctx.timers.cancel(Timer::ReconnectGrace(session));
            self.end_grace(ctx, session);
        }
    }

    /// Ends a session to which no client came back in time, unless Sora ends it.
    pub(super) fn end_grace(&mut self, ctx: &mut Ctx, session: SessionSlot) {
        let is_over = self.sessions.session(session).is_some_and(|row| {
            row.owner == SessionOwner::Gate && row.live == 0 && row.pending == 0
        });
        if is_over {
            self.destroy_session(ctx, session);
        }
    }

    /// Keeps a session that Sora has ended, if a client that left it may still come back.
    pub(super) fn keep_for_grace(&mut self, ctx: &mut Ctx, session: SessionSlot) -> bool {
        if !ctx.timers.is_set(Timer::ReconnectGrace(session)) {
            return false;
        }
        let Some(row) = self
            .sessions
            .session_mut(session)
            .filter(|row| row.live == 0 && row.pending == 0)
        else {
            return false;
        };
        row.owner = SessionOwner::Gate;
        row.last_end = EndReason::SessionDestroyed;
        let channel_id = row.channel_id.clone();
        ctx.record(Record::SessionOfGate(channel_id));
        true
    }

    /// Ends a session that has no connections, unless it has ended already.
    pub(crate) fn destroy_session(&mut self, ctx: &mut Ctx, session: SessionSlot) {
        self.reevaluate_room(session);
        let Some(mut row) = self.sessions.remove_session(session) else {
            return;
        };
        self.retract_postponed(&row.channel_id);
        if self.plans.on_session_ended(session) {
            row.last_end = EndReason::Ended;
        }
        ctx.timers.cancel(Timer::ReconnectGrace(session));
        self.sessions_ended += 1;
        let channel_id = self.member.is_some().then(|| row.channel_id.clone());
        if row.is_announced {
            let token = self.claim_token(&row.channel_id);
            ctx.emit(destroyed(row, ctx.now, token));
        }
        if let Some(channel_id) =
            channel_id.filter(|channel_id| self.sessions.find_session(channel_id).is_none())
        {
            self.release_claim(ctx, &channel_id);
        }
        if self.sessions.session_count() == 0 && self.mode.is_block() {
            self.vanished_pending = true;
            self.sync.require_verification(ctx);
            self.emit_vanished_if_synced(ctx);
        }
    }

    pub(crate) fn end_pending(&mut self, ctx: &mut Ctx, slot: ConnectionSlot, reason: EndReason) {
        if self
            .sessions
            .connection(slot)
            .is_some_and(|row| row.state == ConnectionState::Pending)
        {
            self.end_connection(ctx, slot, reason);
        }
    }

    pub(crate) fn close_socket(&mut self, ctx: &mut Ctx, socket: SocketId) {
        self.waits.end_of(ctx, socket);
        if let Some(member) = self.member.as_deref_mut() {
            member.forget_socket(socket);
        }
        self.reports.forget(socket);
        if self.sessions.bound_to(socket).next().is_some() {
            ctx.timers.set(
                Timer::SocketGrace(socket),
                ctx.now.boot + self.settings.socket_grace,
            );
        }
    }

    pub(crate) fn end_connections_of(&mut self, ctx: &mut Ctx, socket: SocketId) {
        let slots: Vec<ConnectionSlot> = self
            .sessions
            .bound_to(socket)
            .take(ENDED_PER_STEP)
            .collect();
        for slot in slots {
            self.end_connection(ctx, slot, EndReason::SocketClosed);
        }
        if self.sessions.bound_to(socket).next().is_some() {
            // Later than now, so that it fires in the next step and not in this one again.
            ctx.timers.set(
                Timer::SocketGrace(socket),
                ctx.now.boot + Duration::from_nanos(1),
            );
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
