//! Reports of Janus: the participants of its rooms, all or of one room. Janus never asks, so a client that the gate admitted is known by
//! its room alone: the next participant there takes its place.
//!
//! The adapter makes one request after the other, and reports the answers in that order. So a list is newer than all that the gate knows
//! of the rooms in it.

use std::collections::BTreeSet;
use std::time::Duration;

use soramode_protocol::event::EndReason;
use soramode_protocol::id::ChannelId;
use soramode_protocol::session::ConnectionState;

use crate::ctx::Ctx;
use crate::effect::Record;
use crate::handles::{ConnectionSlot, SessionSlot};
use crate::input::{JanusInput, ListScope, Participant};
use crate::node::Node;
use crate::tables::rows::{NewConnection, Source, WrappingBootSecs};
use crate::timers::Timer;

impl Node {
    pub(super) fn on_janus_input(&mut self, ctx: &mut Ctx, input: JanusInput) {
        match input {
            JanusInput::Listed {
                scope,
                began,
                rooms,
                participants,
            } => {
                self.rooms_listed(&scope, rooms, began);
                self.listed(ctx, &scope, began, participants);
            }
            JanusInput::SecretsChanged => self.reevaluate_all_rooms(),
            JanusInput::Failed { why } => {
                self.room_list_failed(&why);
                self.sync.on_poll_failed(ctx, why);
            }
            JanusInput::Restarted => {
                self.locks_lost(ctx.now.boot);
                self.sync.request_poll(ctx);
            }
            JanusInput::LockAnswered {
                channel_id,
                outcome,
            } => self.lock_answered(ctx, &channel_id, &outcome),
            JanusInput::SessionsAnswered { is_done } => self.sessions_answered(is_done),
        }
    }

    fn listed(
        &mut self,
        ctx: &mut Ctx,
        scope: &ListScope,
        began: Duration,
        participants: Vec<Participant>,
    ) {
        self.sync.on_sfu_contact(ctx.now.wall);
        let listed: BTreeSet<ConnectionSlot> = participants
            .into_iter()
            .map(|participant| self.take_participant(ctx, participant))
            .collect();
        self.end_unlisted(ctx, scope, &listed);
        if *scope == ListScope::All {
            if self.sync.on_poll_read(ctx.now.wall, began) {
                self.clear_untracked(ctx);
            }
            let is_closed = self.mode.is_block();
            self.sync.on_poll_succeeded(ctx, began, is_closed);
            self.emit_vanished_if_synced(ctx);
        }
    }

    /// A participant is in a room. Returns its slot.
    fn take_participant(&mut self, ctx: &mut Ctx, participant: Participant) -> ConnectionSlot {
        let Participant {
            channel_id,
            connection_id,
        } = participant;
        let known = self.sessions.find(&connection_id);
        if let Some(slot) = known.filter(|&slot| self.sessions.is_in(slot, &channel_id)) {
            self.mark_live(ctx, slot);
            return slot;
        }
        let session = self.sessions.find_session(&channel_id);
        let admitted = session.and_then(|session| self.first_pending(session));
        if admitted.is_none() {
            self.note_unasked(ctx, session, &channel_id);
        }
        let session = session.unwrap_or_else(|| self.open_session(ctx, channel_id, None));
        if let Some(elsewhere) = known {
            // An id that the application chose.
            self.end_connection(ctx, elsewhere, EndReason::Reconciled);
        }
        if let Some(slot) = admitted {
            self.forget_pending(ctx, slot);
        }
        let of_sfu = Record::ConnectionOfSfu(connection_id.clone());
        let new = NewConnection {
            connection_id,
            client_id: None,
            created_at: ctx.now.wall,
            state: ConnectionState::Live,
            source: Source::Sfu,
            since: WrappingBootSecs::at(ctx.now.boot),
        };
        let slot = self.add_live(ctx, session, new);
        ctx.record(of_sfu);
        slot
    }

    /// Returns the connection that was admitted first of those in a session that have not been seen.
    fn first_pending(&self, session: SessionSlot) -> Option<ConnectionSlot> {
        self.sessions.of_session(session, None).find(|&slot| {
            self.sessions
                .connection(slot)
                .is_some_and(is_pending_on_sfu)
        })
    }

    /// Removes an admitted connection: a participant takes its place.
    fn forget_pending(&mut self, ctx: &mut Ctx, slot: ConnectionSlot) {
        ctx.timers.cancel(Timer::PendingTimeout(slot));
        if let Some(row) = self.sessions.remove_connection(slot) {
            self.plans.on_pending_changed(row.session);
            ctx.record(Record::PendingEnded(row.connection_id));
        }
    }

    /// Counts a client that came without having asked, if it would have been rejected.
    fn note_unasked(&mut self, ctx: &Ctx, session: Option<SessionSlot>, channel_id: &ChannelId) {
        if self.sync.is_known() && !self.would_admit(ctx.timers, session) {
            self.unasked.note(channel_id);
        }
    }

    /// Ends the connections in the scope of a list that are not in it.
    fn end_unlisted(
        &mut self,
        ctx: &mut Ctx,
        scope: &ListScope,
        listed: &BTreeSet<ConnectionSlot>,
    ) {
        let is_gone = |slot: &ConnectionSlot| {
            !listed.contains(slot)
                && self.sessions.connection(*slot).is_some_and(|row| {
                    row.source == Source::Sfu && row.state == ConnectionState::Live
                })
        };
        let gone: Vec<ConnectionSlot> = match scope {
            ListScope::All => self
                .sessions
                .connections_from(ConnectionSlot::FIRST)
                .map(|(slot, _)| slot)
                .filter(is_gone)
                .collect(),
            ListScope::Channel(channel_id) => self
                .sessions
                .find_session(channel_id)
                .into_iter()
                .flat_map(|session| self.sessions.of_session(session, None))
                .filter(is_gone)
                .collect(),
        };
        for slot in gone {
            self.end_connection(ctx, slot, EndReason::Disconnected);
        }
    }
}

fn is_pending_on_sfu(row: &crate::tables::rows::ConnectionRow) -> bool {
    row.source == Source::Sfu && row.state == ConnectionState::Pending
}
