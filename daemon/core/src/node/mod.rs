//! The node: all parts of the gate, and what concerns more than one of them. No part knows it.

mod admission;
mod auth;
mod cluster;
mod connections;
mod explain;
mod held_mode;
mod janus;
mod mode_changes;
mod plans;
mod reconcile;
mod sora;
mod start;
mod status;
pub(crate) mod unasked;
mod waiting;

use std::collections::BTreeMap;
use std::sync::Arc;

use soramode_protocol::cluster::Acknowledged;
use soramode_protocol::decision::RejectReason;
use soramode_protocol::error::Error;
use soramode_protocol::event::{EndReason, EventKind};
use soramode_protocol::id::SessionId;
use soramode_protocol::reply::{Answer, Reply};
use soramode_protocol::request::GateRequest;
use soramode_protocol::reservation::Reserve;
use soramode_protocol::wait::Outcome;

use crate::auth_webhooks::AuthWebhooks;
use crate::commit_failure::Refused;
use crate::ctx::Ctx;
use crate::effect::Record;
use crate::handles::{DeliveryId, FenceId, ReplyHandle, Timestamp};
use crate::held_mode::HeldMode;
use crate::input::{Input, Subscribers};
use crate::member::ClusterMember;
use crate::member::etcd::EtcdResponse;
use crate::mode::{Change, ModeControl};
use crate::node::unasked::Unasked;
use crate::outbox::Outbox;
use crate::plan::Plans;
use crate::reservation::Reservations;
use crate::settings::Settings;
use crate::storage::StorageHealth;
use crate::sync::SyncState;
use crate::tables::reports::Reports;
use crate::tables::sessions::Sessions;
use crate::timers::Timer;
use crate::tombstones::Tombstones;
use crate::waits::Waits;

/// Deadlines that one step takes at most, so that many at once do not hold up other inputs.
const TIMERS_PER_STEP: usize = 256;

/// All parts of the gate.
pub(crate) struct Node {
    pub(crate) settings: Settings,
    pub(crate) started: Timestamp,
    pub(crate) mode: ModeControl,
    pub(crate) storage: StorageHealth,
    pub(crate) sessions: Sessions,
    pub(crate) reports: Reports,
    pub(crate) tombstones: Tombstones,
    /// Sessions that Sora has reported as destroyed.
    pub(crate) ended_sessions: Tombstones<SessionId>,
    pub(crate) sync: SyncState,
    /// `session.vanished` is pending: the last session left a closed node before all sessions were known.
    pub(crate) vanished_pending: bool,
    /// Value of `vanished_pending` that was recorded last.
    pub(crate) vanished_recorded: bool,
    pub(crate) sessions_ended: u64,
    pub(crate) rejected: BTreeMap<RejectReason, u64>,
    /// Mode that the SFU holds by locks of its rooms; `None` if only the gate applies it.
    pub(crate) held_mode: Option<Box<HeldMode>>,
    /// Clients that came to the closed node without having asked, since it was closed.
    pub(crate) unasked: Unasked,
    /// Auth webhooks of Sora, and connections without one.
    pub(crate) auth_webhooks: AuthWebhooks,
    pub(crate) waits: Waits,
    /// Clients that end sessions, and that announce.
    pub(crate) subscribers: Subscribers,
    /// The maintenance plan, announcements and ends.
    pub(crate) plans: Plans,
    /// The reservation by a roll.
    pub(crate) reservations: Reservations,
    pub(crate) outbox: Outbox,
    /// The node as a member of its cluster, where there is one.
    pub(crate) member: Option<Box<ClusterMember>>,
}

impl Node {
    /// Takes in an input. Deadlines that have come come first.
    pub(crate) fn step(&mut self, ctx: &mut Ctx, input: Input) {
        // Before the start no deadline of the gate could have come.
        if !matches!(input, Input::Started(_)) {
            self.check_lease(ctx, &input);
            self.note_suspension(ctx);
            self.mode.follow_clock(ctx.timers, ctx.now);
            self.fire_due(ctx);
        }
        self.apply(ctx, input);
        self.drive_cluster(ctx);
        self.run_plans(ctx);
        while self.drive_locks(ctx) {
            self.run_plans(ctx);
        }
        if let Some(member) = self.member.as_deref_mut() {
            member.publish_mode(ctx, self.mode.mode());
        }
        self.after_change(ctx);
        self.record_vanished(ctx);
    }

    /// Compares the membership with the lease as it is now. A renewal that came in time counts, however late this step is.
    fn check_lease(&mut self, ctx: &mut Ctx, input: &Input) {
        if let Some((member, view)) = self.cluster() {
            if let Input::Etcd(EtcdResponse::MembersRead(read)) = input {
                member.renew_first(ctx, view, read);
            }
            member.check_lease(ctx, view);
            self.after_change(ctx);
        }
    }

    fn apply(&mut self, ctx: &mut Ctx, input: Input) {
        match input {
            Input::Request {
                reply_to,
                actor,
                request,
            } => {
                if let Some(answer) = self.request(ctx, reply_to, &actor, request) {
                    self.answer_request(ctx, reply_to, answer);
                }
            }
            Input::SocketClosed(socket) => self.close_socket(ctx, socket),
            Input::Started(host) => self.begin(ctx, host),
            Input::Tick | Input::WallClockSet => {}
            Input::Subscribers(subscribers) => self.subscribers = subscribers,
            Input::Etcd(response) => {
                if let Some((member, view)) = self.cluster() {
                    member.on_etcd(ctx, view, response);
                }
            }
            Input::StorageFailed(refused) => self.storage_failed(ctx, refused),
            Input::SfuAnswered { id, outcome } => self.on_sfu_answered(ctx, id, &outcome),
            Input::StorageRestored => self.storage_restored(ctx),
            Input::Sora(input) => self.on_sora_input(ctx, input),
            Input::Janus(input) => self.on_janus_input(ctx, input),
            Input::Receivers(receivers) => self.outbox.set_receivers(ctx, receivers),
            Input::FenceNotified { id, clients } => {
                if let Some(member) = self.member.as_deref_mut() {
                    member.on_fence_notified(ctx, id, clients);
                }
            }
            Input::FenceFinished { id, outcome } => {
                if let Some(member) = self.member.as_deref_mut() {
                    member.on_fence_finished(ctx, id, outcome);
                }
            }
            Input::Shutdown => {
                if let Some((member, view)) = self.cluster() {
                    member.shut_down(ctx, view);
                }
            }
            Input::DeliveryAttempted { id, result } => self.outbox.on_attempted(ctx, id, &result),
        }
    }

    /// Answers a request; `None` if it is answered later.
    fn request(
        &mut self,
        ctx: &mut Ctx,
        reply_to: ReplyHandle,
        actor: &Arc<str>,
        request: GateRequest,
    ) -> Option<Answer> {
        let answer = match request {
            GateRequest::GetMode => Ok(Reply::Mode(Box::new(self.shown_mode(ctx)))),
            GateRequest::ChangeMode(change) => {
                return self.change_mode(ctx, reply_to, *change, actor);
            }
            GateRequest::GetStatus => Ok(Reply::Status(Box::new(self.status(ctx)))),
            GateRequest::ListClusterNodes(list) => return self.list_nodes(ctx, reply_to, list),
            GateRequest::ListModeChanges(list) => Ok(Reply::ModeChanges(self.mode.list(&list))),
            GateRequest::Connect(connect) => {
                return self
                    .connect(ctx, reply_to, connect)
                    .map(|decided| decided.map(Reply::Decision));
            }
            GateRequest::Report(report) => {
                Ok(Reply::Reported(self.report(ctx, reply_to.socket, report)))
            }
            GateRequest::Disconnect(gone) => Ok(Reply::Disconnected(self.disconnect(ctx, &gone))),
            GateRequest::End(end) => return self.end_sessions(ctx, reply_to, end, actor),
            GateRequest::Announce(it) => return self.announce(ctx, reply_to, *it, actor),
            GateRequest::StartPlan(start) => self.start_plan(ctx, *start, actor),
            GateRequest::GetPlan => Ok(self.get_plan(ctx.now)),
            GateRequest::CancelPlan(cancel) => Ok(self.cancel_plan(ctx, cancel, actor)),
            GateRequest::Reserve(reserve) => self.reserve(ctx, &reserve, actor),
            GateRequest::Release(release) => {
                Ok(Reply::Released(self.reservations.release(ctx, &release)))
            }
            GateRequest::Explain(explain) => return self.explain(ctx, reply_to, &explain),
            GateRequest::List(list) => self.sessions.list(&list).map(Reply::Page),
            GateRequest::Wait(wait) => return self.wait(ctx, reply_to, *wait),
            GateRequest::ListDeliveries(list) => self
                .outbox
                .list(ctx.timers, ctx.now, &list)
                .map(Reply::Deliveries),
            GateRequest::PurgeClusterNode(purge) => {
                let member = self.member.as_deref_mut();
                let requested = member.map(|it| it.purge(ctx, reply_to, purge, actor));
                return answer_if_refused(requested);
            }
            GateRequest::InitCluster(init) => {
                let member = self.member.as_deref_mut();
                return answer_if_refused(member.map(|it| it.init_cluster(ctx, reply_to, &init)));
            }
            GateRequest::Grant => Ok(Reply::Granted(self.grant(ctx.now.boot))),
            GateRequest::Acknowledge(it) => {
                let member = self.member.as_deref_mut();
                Ok(Reply::Acknowledged(
                    member.map_or(Acknowledged { found: false }, |member| {
                        member.acknowledge(ctx, FenceId(it.id), reply_to.socket)
                    }),
                ))
            }
            GateRequest::ResendDelivery(resend) => self
                .outbox
                .resend(ctx, DeliveryId(resend.id), self.mode.opened_generation())
                .map(|it| Reply::Delivery(Box::new(it))),
        };
        Some(answer)
    }

    /// Reserves the node for a roll.
    fn reserve(&mut self, ctx: &mut Ctx, reserve: &Reserve, actor: &str) -> Answer {
        self.storage.check_writable()?;
        let reserved = self.reservations.reserve(ctx, reserve, actor)?;
        Ok(Reply::Reserved(Box::new(reserved)))
    }

    fn fire_due(&mut self, ctx: &mut Ctx) {
        for _ in 0..TIMERS_PER_STEP {
            let Some(timer) = ctx.timers.take_due(ctx.now.boot) else {
                return;
            };
            match timer {
                Timer::Membership => match self.cluster() {
                    Some((member, view)) => {
                        member.check_lease(ctx, view);
                        member.set_membership_timer(ctx);
                    }
                    None => ctx.bug("a lease's deadline on a node without a cluster"),
                },
                Timer::Fence(id) => match self.cluster() {
                    Some((member, view)) => member.request_fence(ctx, view, id),
                    None => ctx.bug("a fence on a node without a cluster"),
                },
                Timer::Expiry => self.expire_mode(ctx),
                Timer::InForce => self.answer_held_changes(ctx),
                Timer::Poll => self.sync.request_poll(ctx),
                Timer::PendingTimeout(slot) => self.end_pending(ctx, slot, EndReason::Timeout),
                Timer::SocketGrace(socket) => self.end_connections_of(ctx, socket),
                Timer::ReconnectGrace(session) => self.end_grace(ctx, session),
                Timer::Delivery(receiver) => self.outbox.send_next(ctx, receiver),
                // `run_plans` does what is due, at the end of the step.
                Timer::Plan => {}
                Timer::Reservation => self.reservations.expire(ctx),
                Timer::WaitSettled(wait) => self.end_wait(ctx, wait, Outcome::Reached),
                Timer::WaitTimeout(wait) => self.end_wait(ctx, wait, Outcome::Timeout),
                Timer::WaitProgress(wait) => self.report_progress(ctx, wait),
            }
            // A wait depends on what came before its own deadline, also where this step comes late for both.
            self.after_change(ctx);
        }
    }

    /// Does what follows from any change.
    fn after_change(&mut self, ctx: &mut Ctx) {
        self.drive_cluster(ctx);
        self.outbox.enqueue_new_events(ctx, self.mode.generation());
        self.settle_waits(ctx);
    }

    fn storage_failed(&mut self, ctx: &mut Ctx, refused: Refused) {
        let Refused {
            connections,
            generations,
            plans,
            calls,
            locks,
        } = refused;
        for connection_id in connections {
            if let Some(slot) = self.sessions.find(&connection_id) {
                self.end_connection(ctx, slot, EndReason::Denied);
            }
        }
        self.storage.fail();
        if let Some(member) = self.member.as_deref_mut() {
            member.refuse_changes(ctx, &self.storage.refusal());
        }
        let change = Change::by_storage(&generations);
        if !generations.is_empty() || self.mode.mode() != change.mode() {
            self.make_change(ctx, change);
        }
        let postponed = self.locks_failed(ctx, &generations, locks);
        self.retract_plans(ctx, &plans, &[calls, postponed].concat());
    }

    fn storage_restored(&mut self, ctx: &mut Ctx) {
        self.storage.restore();
        self.reevaluate_all_rooms();
        // An expiry that came meanwhile could not open the gate.
        if self.mode.has_missed_expiry(ctx.timers) {
            self.expire_mode(ctx);
        }
    }

    /// Emits `session.vanished`, if it is pending and all sessions are known.
    pub(crate) fn emit_vanished_if_synced(&mut self, ctx: &mut Ctx) {
        if self.vanished_pending && self.sync.is_synced() && self.is_in_force() {
            self.vanished_pending = false;
            ctx.emit(EventKind::SessionVanished);
        }
    }

    /// Records whether `session.vanished` is pending, if that differs from before the step: set and cleared within one leaves no record.
    fn record_vanished(&mut self, ctx: &mut Ctx) {
        if self.vanished_recorded != self.vanished_pending {
            self.vanished_recorded = self.vanished_pending;
            ctx.record(Record::VanishedPending(self.vanished_pending));
        }
    }
}

/// Returns the answer to a request that needs the cluster, if it is refused; otherwise etcd's response answers it. `requested` is `None`
/// without a cluster.
fn answer_if_refused(requested: Option<Result<(), Error>>) -> Option<Answer> {
    requested
        .unwrap_or_else(|| Err(Error::no_cluster()))
        .err()
        .map(Err)
}
