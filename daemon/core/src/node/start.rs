//! The first input after the start.

use soramode_protocol::event::EndReason;

use crate::ctx::Ctx;
use crate::effect::Record;
use crate::handles::ConnectionSlot;
use crate::input::HostState;
use crate::node::Node;

impl Node {
    /// Takes in the first input after the start.
    pub(super) fn begin(&mut self, ctx: &mut Ctx, host: HostState) {
        ctx.record(Record::Mode(Box::new(self.mode.state().clone())));
        if host == HostState::Rebooted && self.mode.state().expires_at.is_some() {
            // The stored deadline is one of the boot before.
            ctx.record(Record::ExpiresAtBoot(None));
        }
        match host {
            HostState::Running => {}
            HostState::Rebooted => self.end_all(ctx),
        }
        self.begin_member(ctx, host);
        self.emit_vanished_if_synced(ctx);
        self.outbox.resume(ctx);
        self.reservations.begin(ctx, host);
        self.begin_plans(ctx, host);
    }

    /// Ends every connection and session: none outlives the machine.
    fn end_all(&mut self, ctx: &mut Ctx) {
        let slots: Vec<_> = self
            .sessions
            .connections_from(ConnectionSlot::FIRST)
            .map(|(slot, _)| slot)
            .collect();
        for slot in slots {
            self.end_connection(ctx, slot, EndReason::Reconciled);
        }
        // A session that would outlive its connections does not either.
        let slots: Vec<_> = self.sessions.by_age(None).collect();
        for slot in slots {
            if let Some(row) = self.sessions.session_mut(slot) {
                row.last_end = EndReason::Reconciled;
            }
            self.destroy_session(ctx, slot);
        }
    }
}
