//! What a real Sora's webhooks say: who asks to come in, who came, who went.

use soramode_protocol::decision::Decision;
use soramode_protocol::event::{EndReason, EventKind};
use soramode_protocol::id::{ChannelId, ClientId, ConnectionId, SessionId};
use soramode_protocol::reply::Reply;
use soramode_protocol::session::ConnectionState;
use soramode_protocol::time::Time;

use crate::effect::{Act, Record};
use crate::gate::{Gate, Refusable, Turn};
use crate::input::{SoraInput, Ticket};
use crate::member::Waiter;
use crate::rows::{Door, Moment, NewConnection, Origin, Since};
use crate::slab::Slot;
use crate::snapshot::SoraAdmission;
use crate::timers::Timer;

/// A client that asks to come in, or that came.
#[expect(clippy::struct_field_names, reason = "the names are Sora's")]
pub(crate) struct Client {
    pub(crate) channel_id: ChannelId,
    pub(crate) connection_id: ConnectionId,
    pub(crate) client_id: Option<ClientId>,
    /// When it came, where Sora says so.
    pub(crate) created_at: Option<Time>,
}

impl Gate {
    pub(crate) fn sora(&mut self, turn: &mut Turn, input: SoraInput) {
        if !matches!(
            input,
            SoraInput::PollFailed { .. } | SoraInput::Denied { .. }
        ) {
            self.known.heard_sora(turn.now.wall);
        }
        match input {
            SoraInput::Admit {
                ticket,
                channel_id,
                connection_id,
                client_id,
            } => {
                let client = Client {
                    channel_id,
                    connection_id,
                    client_id,
                    created_at: None,
                };
                if let Some(decision) = self.admit(turn, ticket, client) {
                    turn.effects
                        .acts
                        .push(Act::Answer(ticket, decision.map(Reply::Decision)));
                }
            }
            SoraInput::Denied { connection_id } => {
                self.cancel_connection(turn, &connection_id);
                if let Some(slot) = self.sessions.find(&connection_id) {
                    self.pending_over(turn, slot, EndReason::Denied);
                }
            }
            SoraInput::ConnectionCreated {
                channel_id,
                session_id,
                connection_id,
                client_id,
            } => {
                self.connection_created(
                    turn,
                    session_id,
                    Client {
                        channel_id,
                        connection_id,
                        client_id,
                        created_at: None,
                    },
                );
            }
            SoraInput::ConnectionDestroyed { connection_id } => {
                match self.sessions.find(&connection_id) {
                    Some(slot) => self.end(turn, slot, EndReason::Disconnected),
                    None => self.tombstones.remember(connection_id, turn.now.boot),
                }
            }
            SoraInput::SessionCreated {
                channel_id,
                session_id,
                created_time,
            } => {
                let session = self.align_session(turn, channel_id, session_id);
                if self
                    .sessions
                    .session(session)
                    .is_some_and(|row| !row.is_announced)
                {
                    self.sessions.date_session(session, created_time);
                }
            }
            SoraInput::SessionDestroyed {
                channel_id,
                session_id,
            } => {
                let session = self.sessions.find_session(&channel_id);
                let is_it = |slot: &Slot| {
                    self.sessions
                        .session(*slot)
                        .is_some_and(|row| row.session_id == session_id)
                };
                if let Some(session) = session.filter(is_it) {
                    self.session_over(turn, session, None);
                }
            }
            SoraInput::PassedThrough { source, sora_type } => {
                self.emit(turn, EventKind::WebhookReceived { source, sora_type });
            }
            SoraInput::Polled { began, connections } => self.polled(turn, began, connections),
            SoraInput::PollFailed { why } => self.poll_failed(turn, why),
        }
    }

    /// Answers at once, or, where the cluster must be asked, later.
    fn admit(
        &mut self,
        turn: &mut Turn,
        ticket: Ticket,
        client: Client,
    ) -> Option<Refusable<Decision>> {
        if self.member.is_some() && self.sessions.find(&client.connection_id).is_none() {
            let row = self.judge(
                self.mode.mode,
                self.sessions.find_session(&client.channel_id),
            );
            if self.must_ask(row, &client.channel_id) {
                let channel_id = client.channel_id.clone();
                return self.ask_cluster(turn, &channel_id, Waiter::Admit(ticket, client));
            }
        }
        Some(self.decide_admit(turn, client))
    }

    /// Decides by what the node has and knows.
    pub(crate) fn decide_admit(&mut self, turn: &mut Turn, client: Client) -> Refusable<Decision> {
        let Client {
            channel_id,
            connection_id,
            client_id,
            created_at: _,
        } = client;
        if let Some(slot) = self.sessions.find(&connection_id) {
            return self.offer_again(turn, &channel_id, slot);
        }
        let session = self.sessions.find_session(&channel_id);
        let rejected = self
            .judge(self.mode.mode, session)
            .reject_reason()
            .map(|reason| self.reject(reason));
        if let (Some(rejected), SoraAdmission::Enforced) = (&rejected, self.settings.sora.admission)
        {
            return Ok(rejected.clone());
        }
        self.check_owned(&channel_id)?;
        let created = session.is_none();
        let session = session.unwrap_or_else(|| self.open_session(turn, channel_id.clone(), None));
        self.timers.cancel(Timer::Linger(session));
        turn.effects.records.push(Record::Pending {
            channel_id: channel_id.clone(),
            connection_id: connection_id.clone(),
            client_id: client_id.clone(),
            created_at: turn.now.wall,
        });
        let new = NewConnection {
            connection_id: connection_id.clone(),
            client_id,
            created_at: turn.now.wall,
            state: ConnectionState::Pending,
            door: Door::Sora,
            since: Since::at(turn.now.boot),
        };
        let slot = self.sessions.add_connection(session, new);
        self.timers.set(
            Timer::Pending(slot),
            turn.now.boot + self.settings.pending_timeout,
        );
        let claim = self.claim_of(&channel_id, turn.now.boot);
        let offer = Decision::Offer {
            channel_id,
            connection_id,
            session_id: self.session_id(session),
            created,
            claim,
        };
        // Whom the shadow of a gate would have turned away is told so, and comes all the same.
        Ok(rejected.unwrap_or(offer))
    }

    fn connection_created(
        &mut self,
        turn: &mut Turn,
        session_id: Option<SessionId>,
        client: Client,
    ) {
        let is_known = self.sessions.find(&client.connection_id).is_some();
        if is_known || !self.tombstones.has(&client.connection_id, turn.now.boot) {
            self.take_live(turn, session_id, client);
        }
    }

    /// A connection that is live on Sora, in that session, or in its channel's where Sora does not say.
    pub(crate) fn take_live(
        &mut self,
        turn: &mut Turn,
        session_id: Option<SessionId>,
        client: Client,
    ) -> Slot {
        let Client {
            channel_id,
            connection_id,
            client_id,
            created_at,
        } = client;
        let known = self.sessions.find(&connection_id);
        let session = match session_id {
            Some(session_id) => self.align_session(turn, channel_id, session_id),
            None => self
                .sessions
                .find_session(&channel_id)
                .unwrap_or_else(|| self.open_session(turn, channel_id, None)),
        };
        // Aligning the session may have ended the connection with an earlier one.
        let known = known.filter(|&slot| self.sessions.find(&connection_id) == Some(slot));
        if let Some(slot) = known.filter(|&slot| {
            self.sessions
                .row(slot)
                .is_some_and(|row| row.session == session)
        }) {
            self.see(turn, slot);
            return slot;
        }
        if let Some(elsewhere) = known {
            self.end(turn, elsewhere, EndReason::Reconciled);
        }
        let created_at = self.date(turn, session, created_at);
        let since = Since::at(turn.now.boot);
        let of_sora = Record::OfSora(connection_id.clone());
        let new = NewConnection {
            connection_id,
            client_id,
            created_at,
            state: ConnectionState::Live,
            door: Door::Sora,
            since,
        };
        let slot = self.add_live(turn, session, new);
        turn.effects.records.push(of_sora);
        slot
    }

    /// When a connection came that Sora told of late. A session that nobody has heard of began with it; in one that has been told of
    /// it stands behind those who were known before.
    fn date(&mut self, turn: &Turn, session: Slot, created_at: Option<Time>) -> Time {
        let Some(created_at) = created_at.filter(|created_at| *created_at <= turn.now.wall) else {
            return turn.now.wall;
        };
        let is_new = self
            .sessions
            .session(session)
            .is_some_and(|row| !row.is_announced);
        let last = self
            .sessions
            .last_of_session(session)
            .and_then(|slot| self.sessions.row(slot));
        if let Some(last) = last {
            return created_at.max(last.created_at);
        }
        if is_new {
            self.sessions.date_session(session, created_at);
        }
        created_at
    }

    /// The channel's session, with Sora's id. If it has another one that was told of, that life of the channel is over.
    fn align_session(
        &mut self,
        turn: &mut Turn,
        channel_id: ChannelId,
        session_id: SessionId,
    ) -> Slot {
        let session = match self.sessions.find_session(&channel_id) {
            Some(slot) if self.is_another(slot, &session_id) => {
                // The next is there before this one goes: the node was not empty.
                let next = self.open_session(turn, channel_id, None);
                self.session_over(turn, slot, Some(next));
                next
            }
            Some(slot) => slot,
            None => self.open_session(turn, channel_id, None),
        };
        if let Some(row) = self.sessions.session_mut(session) {
            if row.session_id != session_id {
                (row.session_id, row.named) = (session_id, Moment::at(turn.now.boot));
            }
            let was = std::mem::replace(&mut row.origin, Origin::Sora);
            // One that nobody has heard of says so when it is told of.
            if was == Origin::Gate && row.is_announced {
                turn.effects
                    .records
                    .push(Record::SessionOfSora(row.channel_id.clone()));
            }
        }
        session
    }

    fn is_another(&self, session: Slot, session_id: &SessionId) -> bool {
        self.sessions
            .session(session)
            .is_some_and(|row| row.is_announced && row.session_id != *session_id)
    }

    /// Ends a session with whoever is live in it. Who is pending is spared for the channel's next session.
    fn session_over(&mut self, turn: &mut Turn, session: Slot, next: Option<Slot>) {
        let Some(row) = self.sessions.session(session) else {
            return;
        };
        let channel_id = row.channel_id.clone();
        let connections: Vec<Slot> = self.sessions.of_session(session, None).collect();
        let (pending, live): (Vec<Slot>, Vec<Slot>) = connections.into_iter().partition(|&slot| {
            self.sessions
                .row(slot)
                .is_some_and(|row| row.state == ConnectionState::Pending)
        });
        if let Some(row) = self.sessions.session_mut(session) {
            row.last_end = EndReason::SessionDestroyed;
        }
        for slot in live {
            self.end(turn, slot, EndReason::SessionDestroyed);
        }
        if !pending.is_empty() {
            let next = next.unwrap_or_else(|| self.open_session(turn, channel_id, None));
            for &slot in &pending {
                self.sessions.move_connection(slot, next);
            }
        }
        self.destroy_session(turn, session);
    }
}
