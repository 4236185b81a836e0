//! The gate as a whole: what it holds, how it starts, and the one way in.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use soramode_protocol::decision::RejectReason;
use soramode_protocol::error::Error;
use soramode_protocol::event::{EndReason, Event, EventKind};
use soramode_protocol::id::{ConnectionId, EventId, NodeName};
use soramode_protocol::mode::{DatedModeChange, MODE_CHANGES_KEPT, ModeState};
use soramode_protocol::node::{Membership, StorageState};
use soramode_protocol::reply::{Answer, Reply};
use soramode_protocol::request::GateRequest;

use crate::effect::{Action, Effects, Record};
use crate::expiry::Bounds;
use crate::input::{Input, ReplyHandle, SocketId, Timestamp};
use crate::member::Member;
use crate::member::etcd::{Acknowledgement, EtcdResponse};
use crate::outbox::Deliveries;
use crate::snapshot::Settings;
use crate::sora::tombstones::Tombstones;
use crate::sync::Known;
use crate::tables::sessions::Sessions;
use crate::tables::slab::Slot;
use crate::timers::{Timer, Timers};
use crate::waits::Waits;

/// How many deadlines that have come one step looks at, so that many at once do not hold up what else is waiting.
const TIMERS_PER_STEP: usize = 256;

/// The gate.
pub struct Gate {
    pub(crate) settings: Settings,
    pub(crate) node_name: Arc<NodeName>,
    pub(crate) started: Timestamp,
    pub(crate) mode: ModeState,
    pub(crate) mode_changes: VecDeque<DatedModeChange>,
    /// The last generation that let new sessions in, or that no operator set.
    pub(crate) opened_generation: u64,
    pub(crate) membership: Membership,
    pub(crate) storage: StorageState,
    pub(crate) sessions: Sessions,
    pub(crate) known: Known,
    /// The last session left a blocked node before the sessions were known: `session.vanished` waits for that.
    pub(crate) vanished_pending: bool,
    /// What the records say of that.
    pub(crate) vanished_recorded: bool,
    pub(crate) sessions_ended: u64,
    pub(crate) rejected: BTreeMap<RejectReason, u64>,
    /// Connections that a report which is under way has named, or that came since it began; by the socket that reports.
    pub(crate) reports: BTreeMap<SocketId, BTreeSet<Slot>>,
    pub(crate) tombstones: Tombstones,
    pub(crate) timers: Timers,
    /// Where the mode's expiry goes by the wall clock.
    pub(crate) expiry_bounds: Option<Bounds>,
    pub(crate) waits: Waits,
    pub(crate) deliveries: Deliveries,
    /// The node as a member of its cluster, where there is one.
    pub(crate) member: Option<Box<Member>>,
    pub(crate) next_seq: u64,
    pub(crate) random: ChaCha8Rng,
}

impl Gate {
    /// Takes in what happened. Deadlines that have come by `now` come first.
    pub fn step(&mut self, now: Timestamp, input: Input) -> Effects {
        let mut effects = Effects::default();
        self.step_into(now, input, &mut effects);
        effects
    }

    /// The same, with the effects behind those of the steps before it: for whoever commits many steps at once.
    pub fn step_into(&mut self, now: Timestamp, input: Input, effects: &mut Effects) {
        let mut ctx = Ctx {
            now,
            effects: std::mem::take(effects),
        };
        // Before the start there was no gate whose deadlines could have come.
        if !matches!(input, Input::Started(_)) {
            // A renewal that came in time counts, however late it is heard of here.
            if let Input::Etcd(EtcdResponse::MembersRead(looked)) = &input {
                self.renew_first(&mut ctx, looked);
            }
            self.watch_right(&mut ctx);
            self.look_at_clock(now);
            self.fire_due(&mut ctx);
        }
        match input {
            Input::Request {
                reply_to,
                actor,
                request,
            } => {
                if let Some(answer) = self.ask(
                    &mut ctx,
                    Asked {
                        reply_to,
                        actor,
                        request,
                    },
                ) {
                    ctx.effects.actions.push(Action::Answer(reply_to, answer));
                }
            }
            Input::SocketClosed(socket) => self.socket_gone(&ctx, socket),
            Input::Started(host) => self.begin(&mut ctx, host),
            Input::Tick => {}
            Input::Etcd(heard) => self.heard(&mut ctx, heard),
            Input::StorageFailed {
                refused,
                generations,
            } => self.storage_failed(&mut ctx, (&refused, &generations)),
            Input::StorageRestored => self.storage_restored(&mut ctx),
            Input::Sora(input) => self.sora(&mut ctx, input),
            Input::Webhooks(webhooks) => self.change_webhooks(&mut ctx, webhooks),
            Input::FenceNotified { id, clients } => self.fence_told(&mut ctx, id, clients),
            Input::FenceFinished { id, outcome } => self.fence_done(&mut ctx, id, outcome),
            Input::Shutdown => self.leave(&mut ctx),
            Input::DeliveryAttempted { id, result } => {
                self.delivery_attempted(&mut ctx, id, &result);
            }
        }
        self.publish(&mut ctx);
        self.settle_waits(&mut ctx);
        if std::mem::replace(&mut self.vanished_recorded, self.vanished_pending)
            != self.vanished_pending
        {
            ctx.effects
                .records
                .push(Record::VanishedPending(self.vanished_pending));
        }
        *effects = ctx.effects;
    }

    /// When the next deadline comes, by the boot clock. One that lies in the past wants a [`Input::Tick`] at once.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.timers.next()
    }

    fn ask(&mut self, ctx: &mut Ctx, asked: Asked) -> Option<Answer> {
        let Asked {
            reply_to,
            actor,
            request,
        } = asked;
        let answer = match request {
            GateRequest::GetMode => Ok(Reply::Mode(Box::new(self.told_mode(ctx.now)))),
            GateRequest::ChangeMode(change) => {
                return self.change_mode(ctx, reply_to, (*change, &actor));
            }
            GateRequest::GetStatus => Ok(Reply::Status(Box::new(self.status(ctx.now)))),
            GateRequest::ListClusterNodes(list) => return self.list_nodes(ctx, reply_to, list),
            GateRequest::ListModeChanges(list) => {
                Ok(Reply::ModeChanges(self.list_mode_changes(&list)))
            }
            GateRequest::Connect(connect) => {
                return self
                    .connect(ctx, reply_to, connect)
                    .map(|decided| decided.map(Reply::Decision));
            }
            GateRequest::Report(report) => {
                Ok(Reply::Reported(self.report(ctx, reply_to.socket, report)))
            }
            GateRequest::Disconnect(gone) => Ok(Reply::Disconnected(self.disconnect(ctx, &gone))),
            GateRequest::End(end) => match self.sessions_to_end(&end) {
                Ok(sessions) => {
                    ctx.effects.actions.push(Action::End {
                        reply_to,
                        actor,
                        sessions,
                    });
                    return None;
                }
                Err(error) => Err(error),
            },
            GateRequest::Explain(explain) => return self.explain(ctx, reply_to, explain),
            GateRequest::List(list) => self.list(&list).map(Reply::Page),
            GateRequest::Wait(wait) => return self.wait(ctx, reply_to, *wait),
            GateRequest::ListDeliveries(list) => {
                self.list_deliveries(ctx.now, &list).map(Reply::Deliveries)
            }
            GateRequest::PurgeClusterNode(purge) => {
                return self.purge(ctx, reply_to, (purge, &actor));
            }
            GateRequest::InitCluster(init) => return self.init_cluster(ctx, reply_to, &init),
            GateRequest::Grant => Ok(Reply::Granted(self.grant(ctx.now.boot))),
            GateRequest::Acknowledge(it) => Ok(Reply::Acknowledged(self.acknowledge(
                ctx,
                Acknowledgement {
                    id: it.id,
                    by: reply_to.socket,
                },
            ))),
            GateRequest::ResendDelivery(resend) => self
                .resend_delivery(ctx, resend.id)
                .map(|it| Reply::Delivery(Box::new(it))),
        };
        Some(answer)
    }

    fn fire_due(&mut self, ctx: &mut Ctx) {
        for _ in 0..TIMERS_PER_STEP {
            let Some(timer) = self.timers.take_due(ctx.now.boot) else {
                return;
            };
            match timer {
                Timer::Membership => self.watch_right(ctx),
                Timer::Fence(id) => self.tell_fence(ctx, id),
                Timer::Expiry => self.mode_expired(ctx),
                Timer::Poll => self.want_poll(ctx),
                Timer::Pending(slot) => self.pending_over(ctx, slot, EndReason::Timeout),
                Timer::Grace(socket) => self.grace_over(ctx, socket),
                Timer::Linger(session) => self.destroy_session(ctx, session),
                Timer::Delivery(place) => self.try_delivery(ctx, place),
                Timer::Settled(wait) => self.wait_settled(ctx, wait),
                Timer::GiveUp(wait) => self.wait_timed_out(ctx, wait),
                Timer::Progress(wait) => self.wait_progress(ctx, wait),
            }
            // A wait goes by what came before its own deadline, also where this step comes late for both.
            self.settle_waits(ctx);
        }
    }

    fn storage_failed(&mut self, ctx: &mut Ctx, (refused, generations): (&[ConnectionId], &[u64])) {
        for connection_id in refused {
            if let Some(slot) = self.sessions.find(connection_id) {
                self.end(ctx, slot, EndReason::Denied);
            }
        }
        self.storage = StorageState::Failed;
        self.refuse_publications(ctx);
        self.close_for_storage(ctx, generations);
    }

    fn storage_restored(&mut self, ctx: &mut Ctx) {
        self.storage = self.settings.storage.state;
        // An expiry that came meanwhile could not open the gate.
        if self.mode.expires_at.is_some() && !self.timers.is_set(Timer::Expiry) {
            self.mode_expired(ctx);
        }
    }

    /// Writes an event to the log.
    pub(crate) fn emit(&mut self, ctx: &mut Ctx, kind: EventKind) {
        let event = Event {
            seq: self.next_seq,
            id: EventId::generate(self.random_bytes()),
            kind,
            timestamp: ctx.now.wall,
            node_name: Arc::clone(&self.node_name),
        };
        self.next_seq += 1;
        let told = self.is_to_be_told(&event.kind).then(|| event.clone());
        ctx.effects.records.push(Record::Event(event));
        if let Some(event) = told {
            self.owe(ctx, &event);
        }
    }

    /// Remembers a change of the mode for `ListModeChanges`.
    pub(crate) fn remember_change(&mut self, change: DatedModeChange) {
        if self.mode_changes.len() >= MODE_CHANGES_KEPT {
            self.mode_changes.pop_front();
        }
        self.mode_changes.push_back(change);
    }

    pub(crate) fn random_bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.random.fill_bytes(&mut bytes);
        bytes
    }
}

/// One step: its time, and what it wants done so far.
pub(crate) struct Ctx {
    pub(crate) now: Timestamp,
    pub(crate) effects: Effects,
}

struct Asked {
    reply_to: ReplyHandle,
    actor: Arc<str>,
    request: GateRequest,
}

/// What the gate may refuse with an error.
pub(crate) type Refusable<T> = Result<T, Error>;
