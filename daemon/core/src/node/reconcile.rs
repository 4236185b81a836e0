//! Polls of Sora's API correct the tables: Sora sends no webhook twice, and the loss of one would never be made good.
//!
//! A poll describes Sora as of when it began; webhooks received since take precedence. It never revives a connection that ended, removes one
//! that arrived, or ends a session created since. If in doubt, the next poll decides.

use std::collections::BTreeSet;
use std::time::Duration;

use soramode_protocol::event::EndReason;
use soramode_protocol::session::ConnectionState;

use crate::ctx::Ctx;
use crate::handles::{ConnectionSlot, SessionSlot};
use crate::input::PolledConnection;
use crate::node::Node;
use crate::node::sora::SoraClient;
use crate::settings::POLL_GRACE;
use crate::tables::rows::{BootNanos, SessionOwner, Source};

impl Node {
    /// Takes in Sora's answer to a poll that began then, by the boot clock.
    pub(crate) fn on_polled(
        &mut self,
        ctx: &mut Ctx,
        began: Duration,
        mut connections: Vec<PolledConnection>,
    ) {
        // The oldest first: this is their order in their sessions.
        connections.sort_by_key(|connection| connection.created_at);
        let named: BTreeSet<ConnectionSlot> = connections
            .into_iter()
            .filter_map(|connection| self.take_polled(ctx, began, connection))
            .collect();
        self.end_unnamed(ctx, began, &named);
        self.end_empty(ctx, began);
        if self.sync.on_poll_read(ctx.now.wall, began) {
            self.clear_untracked(ctx);
        }
        let is_closed = self.mode.is_block();
        self.sync.on_poll_succeeded(ctx, began, is_closed);
        self.emit_vanished_if_synced(ctx);
    }

    /// Takes in a connection that Sora has. Returns its slot, unless a webhook is newer than the poll.
    fn take_polled(
        &mut self,
        ctx: &mut Ctx,
        began: Duration,
        polled: PolledConnection,
    ) -> Option<ConnectionSlot> {
        let PolledConnection {
            channel_id,
            session_id,
            connection_id,
            client_id,
            created_at,
        } = polled;
        let is_known = self.sessions.find(&connection_id).is_some();
        if !is_known
            && self
                .tombstones
                .ended_since(&connection_id, began.saturating_sub(POLL_GRACE))
        {
            return None;
        }
        let session = self.sessions.find_session(&channel_id);
        let row = session.and_then(|slot| self.sessions.session(slot));
        let is_other = row.is_some_and(|row| {
            row.is_announced && session_id.as_ref().is_some_and(|id| *id != row.session_id)
        });
        let is_newer = row.is_some_and(|row| row.named_at.boot() + POLL_GRACE >= began);
        if is_other && is_newer {
            return self.sessions.find(&connection_id);
        }
        // Connections of the first poll may have been there before the start, however Sora's clock is set.
        let is_past_start = self.sync.is_sfu_known()
            && created_at.is_some_and(|created_at| self.is_created_past_start(created_at));
        if !is_known && is_past_start {
            self.check_auth(&channel_id, &connection_id, ctx.now.boot);
        }
        let client = SoraClient {
            channel_id,
            connection_id,
            client_id,
            created_at,
        };
        Some(self.take_live(ctx, session_id, client))
    }

    fn end_unnamed(&mut self, ctx: &mut Ctx, began: Duration, named: &BTreeSet<ConnectionSlot>) {
        let is_ghost = |slot: &ConnectionSlot, row: &crate::tables::rows::ConnectionRow| {
            let is_seen = row.source == Source::Sfu && row.state == ConnectionState::Live;
            is_seen
                && !named.contains(slot)
                && row
                    .since
                    .is_before(began.saturating_sub(POLL_GRACE), ctx.now.boot)
        };
        let ghosts: Vec<ConnectionSlot> = self
            .sessions
            .connections_from(ConnectionSlot::FIRST)
            .filter(|(slot, row)| is_ghost(slot, row))
            .map(|(slot, _)| slot)
            .collect();
        for slot in ghosts {
            self.end_connection(ctx, slot, EndReason::Reconciled);
        }
    }

    /// Ends sessions without a client, which Sora's list does not show: one that stays empty has lost its `session.destroyed`. One that Sora
    /// was asked to end is over as soon as it is empty.
    fn end_empty(&mut self, ctx: &mut Ctx, began: Duration) {
        let slots: Vec<SessionSlot> = self.sessions.by_age(None).collect();
        for slot in slots {
            let Some(row) = self.sessions.session_mut(slot) else {
                ctx.bug("a session left the table while another ended");
                continue;
            };
            if row.owner != SessionOwner::Sora || row.live > 0 || row.pending > 0 {
                continue;
            }
            let empty_since = row.empty_since.get_or_insert(BootNanos::at(began)).boot();
            let max_linger = if self.plans.is_asked_to_end(slot) {
                Duration::ZERO
            } else {
                self.settings.sfu.session_max_linger
            };
            if began.saturating_sub(empty_since) >= max_linger {
                row.last_end = EndReason::Reconciled;
                self.destroy_session(ctx, slot);
            }
        }
    }
}
