//! Sora's webhooks: requests for admission, and connections and sessions that begin and end.

use soramode_protocol::event::{EndReason, EventKind};
use soramode_protocol::id::{ChannelId, ClientId, ConnectionId, SessionId};
use soramode_protocol::reply::Reply;
use soramode_protocol::session::ConnectionState;
use soramode_protocol::time::Time;

use crate::admission_request::AdmissionRequest;
use crate::ctx::Ctx;
use crate::effect::{Action, Record};
use crate::handles::{ConnectionSlot, SessionSlot};
use crate::input::SoraInput;
use crate::node::Node;
use crate::tables::rows::{BootNanos, NewConnection, SessionOwner, Source, WrappingBootSecs};

/// A client that is live on a real Sora.
pub(crate) struct SoraClient {
    pub(crate) channel_id: ChannelId,
    pub(crate) connection_id: ConnectionId,
    pub(crate) client_id: Option<ClientId>,
    /// When it was created, if Sora reports that.
    pub(crate) created_at: Option<Time>,
}

impl Node {
    pub(super) fn on_sora_input(&mut self, ctx: &mut Ctx, input: SoraInput) {
        if !matches!(
            input,
            SoraInput::PollFailed { .. } | SoraInput::Denied { .. }
        ) {
            self.sync.on_sfu_contact(ctx.now.wall);
        }
        match input {
            SoraInput::Admit {
                reply_to,
                channel_id,
                connection_id,
                client_id,
            } => {
                self.auth_webhooks.note(ctx.now);
                let request =
                    AdmissionRequest::of_sora(reply_to, channel_id, connection_id, client_id);
                if let Some(decision) = self.request_admission(ctx, request) {
                    ctx.act(Action::Answer(reply_to, decision.map(Reply::Decision)));
                }
            }
            SoraInput::Denied { connection_id } => {
                self.cancel_waiting(ctx, &connection_id);
                if let Some(slot) = self.sessions.find(&connection_id) {
                    self.end_pending(ctx, slot, EndReason::Denied);
                }
            }
            SoraInput::ConnectionCreated {
                channel_id,
                session_id,
                connection_id,
                client_id,
            } => {
                self.connection_created(
                    ctx,
                    session_id,
                    SoraClient {
                        channel_id,
                        connection_id,
                        client_id,
                        created_at: None,
                    },
                );
            }
            SoraInput::ConnectionDestroyed { connection_id } => {
                match self.sessions.find(&connection_id) {
                    Some(slot) => self.end_connection(ctx, slot, EndReason::Disconnected),
                    None => self.tombstones.remember(connection_id, ctx.now.boot),
                }
            }
            SoraInput::SessionCreated {
                channel_id,
                session_id,
                created_time,
            } if !self.ended_sessions.has(&session_id, ctx.now.boot) => {
                let session = self.align_session(ctx, channel_id, session_id);
                if self
                    .sessions
                    .session(session)
                    .is_some_and(|row| !row.is_announced)
                {
                    self.sessions
                        .set_session_created_at(ctx, session, created_time);
                }
            }
            // It was overtaken by session.destroyed.
            SoraInput::SessionCreated { .. } => {}
            SoraInput::SessionDestroyed {
                channel_id,
                session_id,
            } => {
                self.ended_sessions
                    .remember(session_id.clone(), ctx.now.boot);
                let session = self.sessions.find_session(&channel_id);
                let is_it = |slot: &SessionSlot| {
                    self.sessions
                        .session(*slot)
                        .is_some_and(|row| row.session_id == session_id)
                };
                if let Some(session) = session.filter(is_it)
                    && !self.keep_for_grace(ctx, session)
                {
                    self.end_sora_session(ctx, session, None);
                }
            }
            SoraInput::PassedThrough { source, sora_type } => {
                ctx.emit(EventKind::WebhookReceived { source, sora_type });
            }
            SoraInput::Polled { began, connections } => self.on_polled(ctx, began, connections),
            SoraInput::PollFailed { why } => self.sync.on_poll_failed(ctx, why),
        }
    }

    fn connection_created(
        &mut self,
        ctx: &mut Ctx,
        session_id: Option<SessionId>,
        client: SoraClient,
    ) {
        let known = self.sessions.find(&client.connection_id);
        let mut has_ended = |id| self.ended_sessions.has(id, ctx.now.boot);
        if session_id.as_ref().is_some_and(&mut has_ended) {
            // The webhook was overtaken by session.destroyed: the connection ended with its session.
            if let Some(slot) = known {
                self.end_pending(ctx, slot, EndReason::SessionDestroyed);
            }
            return;
        }
        let is_known = known.is_some();
        if !is_known && self.is_past_start(ctx.now.boot) {
            self.check_auth(&client.channel_id, &client.connection_id, ctx.now.boot);
        }
        if is_known || !self.tombstones.has(&client.connection_id, ctx.now.boot) {
            self.take_live(ctx, session_id, client);
        }
    }

    /// Takes in a connection that is live on Sora: in that session, or in its channel's if Sora names none.
    pub(crate) fn take_live(
        &mut self,
        ctx: &mut Ctx,
        session_id: Option<SessionId>,
        client: SoraClient,
    ) -> ConnectionSlot {
        let SoraClient {
            channel_id,
            connection_id,
            client_id,
            created_at,
        } = client;
        let known = self.sessions.find(&connection_id);
        let session = match session_id {
            Some(session_id) => self.align_session(ctx, channel_id, session_id),
            None => self
                .sessions
                .find_session(&channel_id)
                .unwrap_or_else(|| self.open_session(ctx, channel_id, None)),
        };
        // Aligning the session may have ended the connection with an earlier one.
        let known = known.filter(|&slot| self.sessions.find(&connection_id) == Some(slot));
        if let Some(slot) = known.filter(|&slot| {
            self.sessions
                .connection(slot)
                .is_some_and(|row| row.session == session)
        }) {
            self.mark_live(ctx, slot);
            return slot;
        }
        if let Some(elsewhere) = known {
            self.end_connection(ctx, elsewhere, EndReason::Reconciled);
        }
        let created_at = self.clamp_created_at(ctx, session, created_at);
        let since = WrappingBootSecs::at(ctx.now.boot);
        let of_sora = Record::ConnectionOfSfu(connection_id.clone());
        let new = NewConnection {
            connection_id,
            client_id,
            created_at,
            state: ConnectionState::Live,
            source: Source::Sfu,
            since,
        };
        let slot = self.add_live(ctx, session, new);
        ctx.record(of_sora);
        slot
    }

    /// Returns the time of a connection that Sora reported late. A session that was not announced began with it; in one that was, it comes
    /// behind the connections that were reported before.
    fn clamp_created_at(
        &mut self,
        ctx: &mut Ctx,
        session: SessionSlot,
        created_at: Option<Time>,
    ) -> Time {
        let Some(created_at) = created_at.filter(|created_at| *created_at <= ctx.now.wall) else {
            return ctx.now.wall;
        };
        let is_new = self
            .sessions
            .session(session)
            .is_some_and(|row| !row.is_announced);
        let last = self
            .sessions
            .last_of_session(session)
            .and_then(|slot| self.sessions.connection(slot));
        if let Some(last) = last {
            return created_at.max(last.created_at);
        }
        if is_new {
            self.sessions
                .set_session_created_at(ctx, session, created_at);
        }
        created_at
    }

    /// Returns the channel's session, with Sora's id. A session that was announced under another id has ended.
    fn align_session(
        &mut self,
        ctx: &mut Ctx,
        channel_id: ChannelId,
        session_id: SessionId,
    ) -> SessionSlot {
        let session = match self.sessions.find_session(&channel_id) {
            Some(slot) if self.is_another(slot, &session_id) => {
                // The next one is there before this one ends: the node was not empty.
                let next = self.open_session(ctx, channel_id, None);
                self.end_sora_session(ctx, slot, Some(next));
                next
            }
            Some(slot) => slot,
            None => self.open_session(ctx, channel_id, None),
        };
        let Some(row) = self.sessions.session_mut(session) else {
            ctx.bug("a channel's session is not in the table");
            return session;
        };
        if row.session_id != session_id {
            (row.session_id, row.named_at) = (session_id, BootNanos::at(ctx.now.boot));
        }
        let was = std::mem::replace(&mut row.owner, SessionOwner::Sora);
        // One that is not announced yet is recorded when it is.
        if was == SessionOwner::Gate && row.is_announced {
            ctx.record(Record::SessionOfSora(row.channel_id.clone()));
        }
        session
    }

    fn is_another(&self, session: SessionSlot, session_id: &SessionId) -> bool {
        self.sessions
            .session(session)
            .is_some_and(|row| row.is_announced && row.session_id != *session_id)
    }

    /// Ends a session and its live connections. Pending ones move to the channel's next session.
    fn end_sora_session(&mut self, ctx: &mut Ctx, session: SessionSlot, next: Option<SessionSlot>) {
        let Some(row) = self.sessions.session(session) else {
            return ctx.bug("a session that Sora ended is not in the table");
        };
        let channel_id = row.channel_id.clone();
        let connections: Vec<ConnectionSlot> = self.sessions.of_session(session, None).collect();
        let (pending, live): (Vec<ConnectionSlot>, Vec<ConnectionSlot>) =
            connections.into_iter().partition(|&slot| {
                self.sessions
                    .connection(slot)
                    .is_some_and(|row| row.state == ConnectionState::Pending)
            });
        if let Some(row) = self.sessions.session_mut(session) {
            row.last_end = EndReason::SessionDestroyed;
        }
        for slot in live {
            self.end_connection(ctx, slot, EndReason::SessionDestroyed);
        }
        if !pending.is_empty() {
            let next = next.unwrap_or_else(|| self.open_session(ctx, channel_id, None));
            for &slot in &pending {
                self.sessions.move_connection(ctx, slot, next);
            }
        }
        self.destroy_session(ctx, session);
    }
}
