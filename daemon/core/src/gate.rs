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

use crate::deliveries::Deliveries;
use crate::effect::{Act, Effects, Record};
use crate::expiry::Bounds;
use crate::input::{Input, SocketId, Ticket, Timestamp};
use crate::known::Known;
use crate::member::Member;
use crate::member::order::{Acknowledgement, Heard};
use crate::sessions::Sessions;
use crate::slab::Slot;
use crate::snapshot::Settings;
use crate::timers::{Timer, Timers};
use crate::tombstones::Tombstones;
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
    pub(crate) vanished_held: bool,
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
        let mut turn = Turn {
            now,
            effects: std::mem::take(effects),
        };
        // Before the start there was no gate whose deadlines could have come.
        if !matches!(input, Input::Started(_)) {
            // A renewal that came in time counts, however late it is heard of here.
            if let Input::Etcd(Heard::Looked(looked)) = &input {
                self.renew_first(&mut turn, looked);
            }
            self.watch_right(&mut turn);
            self.look_at_clock(now);
            self.fire_due(&mut turn);
        }
        match input {
            Input::Ask {
                ticket,
                actor,
                request,
            } => {
                if let Some(answer) = self.ask(
                    &mut turn,
                    Asked {
                        ticket,
                        actor,
                        request,
                    },
                ) {
                    turn.effects.acts.push(Act::Answer(ticket, answer));
                }
            }
            Input::Gone(socket) => self.socket_gone(&turn, socket),
            Input::Started(host) => self.begin(&mut turn, host),
            Input::Tick => {}
            Input::Cluster(change) => self.cluster(&mut turn, change),
            Input::Etcd(heard) => self.heard(&mut turn, heard),
            Input::StorageFailed {
                refused,
                generations,
            } => self.storage_failed(&mut turn, (&refused, &generations)),
            Input::StorageRestored => self.storage_restored(&mut turn),
            Input::Sora(input) => self.sora(&mut turn, input),
            Input::Webhooks(webhooks) => self.change_webhooks(&mut turn, webhooks),
            Input::Tried { id, tried } => self.delivery_tried(&mut turn, id, &tried),
        }
        self.publish(&mut turn);
        self.settle_waits(&mut turn);
        if std::mem::replace(&mut self.vanished_recorded, self.vanished_held) != self.vanished_held
        {
            turn.effects
                .records
                .push(Record::VanishedHeld(self.vanished_held));
        }
        *effects = turn.effects;
    }

    /// When the next deadline comes, by the boot clock. One that lies in the past wants a [`Input::Tick`] at once.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.timers.next()
    }

    fn ask(&mut self, turn: &mut Turn, asked: Asked) -> Option<Answer> {
        let Asked {
            ticket,
            actor,
            request,
        } = asked;
        let answer = match request {
            GateRequest::GetMode => Ok(Reply::Mode(Box::new(self.told_mode(turn.now)))),
            GateRequest::ChangeMode(change) => {
                return self.change_mode(turn, ticket, (*change, &actor));
            }
            GateRequest::GetStatus => Ok(Reply::Status(Box::new(self.status(turn.now)))),
            GateRequest::ListClusterNodes(list) => return self.list_nodes(turn, ticket, list),
            GateRequest::ListModeChanges(list) => {
                Ok(Reply::ModeChanges(self.list_mode_changes(&list)))
            }
            GateRequest::Connect(connect) => {
                return self
                    .connect(turn, ticket, connect)
                    .map(|decided| decided.map(Reply::Decision));
            }
            GateRequest::Report(report) => {
                Ok(Reply::Reported(self.report(turn, ticket.socket, report)))
            }
            GateRequest::Disconnect(gone) => Ok(Reply::Disconnected(self.disconnect(turn, &gone))),
            GateRequest::End(end) => match self.sessions_to_end(&end) {
                Ok(sessions) => {
                    turn.effects.acts.push(Act::End {
                        ticket,
                        actor,
                        sessions,
                    });
                    return None;
                }
                Err(error) => Err(error),
            },
            GateRequest::Explain(explain) => return self.explain(turn, ticket, explain),
            GateRequest::List(list) => self.list(&list).map(Reply::Page),
            GateRequest::Wait(wait) => return self.wait(turn, ticket, *wait),
            GateRequest::ListDeliveries(list) => {
                self.list_deliveries(turn.now, &list).map(Reply::Deliveries)
            }
            GateRequest::PurgeClusterNode(purge) => {
                return self.purge(turn, ticket, (purge, &actor));
            }
            GateRequest::InitCluster(init) => return self.init_cluster(turn, ticket, &init),
            GateRequest::Grant => Ok(Reply::Granted(self.grant(turn.now.boot))),
            GateRequest::Acknowledge(it) => Ok(Reply::Acknowledged(self.acknowledge(
                turn,
                Acknowledgement {
                    id: it.id,
                    by: ticket.socket,
                },
            ))),
            GateRequest::ResendDelivery(resend) => self
                .resend_delivery(turn, resend.id)
                .map(|it| Reply::Delivery(Box::new(it))),
        };
        Some(answer)
    }

    fn fire_due(&mut self, turn: &mut Turn) {
        for _ in 0..TIMERS_PER_STEP {
            let Some(timer) = self.timers.take_due(turn.now.boot) else {
                return;
            };
            match timer {
                Timer::Membership => self.watch_right(turn),
                Timer::Fence(id) => self.tell_fence(turn, id),
                Timer::Expiry => self.mode_expired(turn),
                Timer::Poll => self.want_poll(turn),
                Timer::Pending(slot) => self.pending_over(turn, slot, EndReason::Timeout),
                Timer::Grace(socket) => self.grace_over(turn, socket),
                Timer::Linger(session) => self.destroy_session(turn, session),
                Timer::Delivery(place) => self.try_delivery(turn, place),
                Timer::Settled(wait) => self.wait_settled(turn, wait),
                Timer::GiveUp(wait) => self.wait_timed_out(turn, wait),
                Timer::Progress(wait) => self.wait_progress(turn, wait),
            }
            // A wait goes by what came before its own deadline, also where this step comes late for both.
            self.settle_waits(turn);
        }
    }

    fn storage_failed(
        &mut self,
        turn: &mut Turn,
        (refused, generations): (&[ConnectionId], &[u64]),
    ) {
        for connection_id in refused {
            if let Some(slot) = self.sessions.find(connection_id) {
                self.end(turn, slot, EndReason::Denied);
            }
        }
        self.storage = StorageState::Failed;
        self.refuse_publications(turn);
        self.close_for_storage(turn, generations);
    }

    fn storage_restored(&mut self, turn: &mut Turn) {
        self.storage = self.settings.storage.state;
        // An expiry that came meanwhile could not open the gate.
        if self.mode.expires_at.is_some() && !self.timers.is_set(Timer::Expiry) {
            self.mode_expired(turn);
        }
    }

    /// Writes an event to the log.
    pub(crate) fn emit(&mut self, turn: &mut Turn, kind: EventKind) {
        let event = Event {
            seq: self.next_seq,
            id: EventId::generate(self.random_bytes()),
            kind,
            timestamp: turn.now.wall,
            node_name: Arc::clone(&self.node_name),
        };
        self.next_seq += 1;
        let told = self.is_to_be_told(&event.kind).then(|| event.clone());
        turn.effects.records.push(Record::Event(event));
        if let Some(event) = told {
            self.owe(turn, &event);
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
pub(crate) struct Turn {
    pub(crate) now: Timestamp,
    pub(crate) effects: Effects,
}

struct Asked {
    ticket: Ticket,
    actor: Arc<str>,
    request: GateRequest,
}

/// What the gate may refuse with an error.
pub(crate) type Refusable<T> = Result<T, Error>;
