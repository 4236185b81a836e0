//! Waits of clients, with the node's state in their responses.

use soramode_protocol::error::Error;
use soramode_protocol::id::PlanId;
use soramode_protocol::reply::{Answer, Reply};
use soramode_protocol::session::Session;
use soramode_protocol::wait::{OLDEST_SESSIONS_MAX, Outcome, Wait, WaitEnded, WaitFor};

use crate::ctx::Ctx;
use crate::effect::{Action, WaitProgress};
use crate::handles::{ReplyHandle, WaitId};
use crate::node::Node;
use crate::waits::{Begun, EndedWait, NewWait, WaitEnd, WaitInputs};

impl Node {
    /// Begins a wait; `None` if it is answered later.
    pub(super) fn wait(
        &mut self,
        ctx: &mut Ctx,
        reply_to: ReplyHandle,
        wait: Wait,
    ) -> Option<Answer> {
        let inputs = self.wait_inputs();
        let plan = wait.plan.clone();
        let new = NewWait {
            reply_to,
            wait,
            is_synced_soon: self.sync.is_synced_soon(),
        };
        match self.waits.begin(ctx, new, &inputs, &self.plans) {
            Ok(Begun::Pending(id)) => {
                self.report_progress(ctx, id);
                None
            }
            Ok(Begun::Ended(end)) => Some(self.wait_result(ctx, plan.as_ref(), end)),
            Err(error) => Some(Err(error)),
        }
    }

    /// Answers the waits that end by what has changed.
    pub(super) fn settle_waits(&mut self, ctx: &mut Ctx) {
        if self.waits.is_empty() {
            return;
        }
        let inputs = self.wait_inputs();
        for (wait, end) in self.waits.settle(ctx, inputs, &self.plans) {
            self.answer_wait(ctx, &wait, end);
        }
    }

    pub(super) fn end_wait(&mut self, ctx: &mut Ctx, id: WaitId, outcome: Outcome) {
        if let Some(wait) = self.waits.end(ctx, id) {
            self.answer_wait(ctx, &wait, WaitEnd::Outcome(outcome));
        }
    }

    fn answer_wait(&self, ctx: &mut Ctx, wait: &EndedWait, end: WaitEnd) {
        let answer = self.wait_result(ctx, wait.plan.as_ref(), end);
        ctx.answer(wait.reply_to, answer);
    }

    /// Reports the progress of a wait, if its client wants that.
    pub(super) fn report_progress(&mut self, ctx: &mut Ctx, id: WaitId) {
        if let Some(pending) = self.waits.next_progress(ctx, id) {
            let progress = WaitProgress {
                sessions: self.sessions.session_count(),
                connections: self.sessions.connection_count(),
                pending: self.sessions.pending_count(),
                oldest_session: self.sessions.oldest_session(),
                ended: self.sessions_ended - pending.ended_before,
                awaited: (pending.wait.wait_for == WaitFor::Ended)
                    .then(|| self.plans.awaited_sessions(pending.wait.end_id.as_ref())),
                plan: self.running_plan(ctx.now),
                stalled: self.plans.stalled(),
                in_force: self.in_force(),
            };
            ctx.act(Action::Progress(pending.reply_to, Box::new(progress)));
        }
    }

    fn wait_inputs(&self) -> WaitInputs {
        WaitInputs {
            sessions: self.sessions.session_count(),
            sessions_ended: self.sessions_ended,
            mode: self.mode.mode(),
            generation: self.mode.generation(),
            opened_generation: self.mode.opened_generation(),
            membership: self.membership(),
            is_synced: self.sync.is_synced(),
            is_in_force: self.is_in_force(),
            needs_report_or_purge: self.sync.needs_report_or_purge(),
            plan_changes: self.plans.changes(),
        }
    }

    fn wait_result(&self, ctx: &Ctx, plan: Option<&PlanId>, end: WaitEnd) -> Answer {
        let outcome = match end {
            WaitEnd::Outcome(outcome) => outcome,
            WaitEnd::SessionsIncomplete => {
                let (reason, remedy) = self.sync.describe_missing();
                return Err(Error::sessions_incomplete(&reason, remedy.as_deref()));
            }
        };
        let oldest_sessions: Vec<Session> = self
            .sessions
            .by_age(None)
            .take(OLDEST_SESSIONS_MAX)
            .filter_map(|slot| self.sessions.view_session(slot))
            .collect();
        Ok(Reply::WaitEnded(Box::new(WaitEnded {
            outcome,
            status: self.status(ctx),
            oldest_sessions,
            plan: plan.and_then(|id| self.plan_with_id(ctx.now, id)),
        })))
    }
}
