//! Performs effects that may leave: publishes events, sends responses and deliveries, passes
//! requests to other tasks.
//!
//! The only file that performs actions. It runs inside the engine: it waits for nothing, and does not
//! know the engine. Calls that take time are handed to it, and so are their outcomes.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use foldhash::fast::FixedState;
use soramode_core::commits::Batch;
use soramode_core::effect::{Action, Effects, Record, WaitProgress};
use soramode_core::handles::{FenceId, ReplyHandle, SocketId};
use soramode_core::input::{Input, Subscribers};
use soramode_core::member::etcd::{EtcdRequest, EtcdResponse, FenceScope};
use soramode_core::plan::calls::{SfuCall, SfuRequest};
use soramode_protocol::end::EndSession;
use soramode_protocol::event::EventKind;
use soramode_protocol::node::Status;
use soramode_protocol::reply::{Answer, Reply};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::clock;
use crate::end_log::EndLog;
use crate::event_log::EventLog;
use crate::health::Health;
use crate::log;
use crate::metrics::Metrics;
use crate::rate_limit::log_limited;
use crate::reservation_log::ReservationLog;
use crate::sfu::announcer::Announcer;
use crate::sfu::janus::HolderCalls;
use crate::sfu::sora::mirror::MirrorHandle;
use crate::sfu::terminator::SessionTerminator;
use crate::store::WalSize;
use crate::webhook::senders::{ReceiverCommand, ReceiverSenders};

/// Effects kept allocated from batch to batch.
const KEPT_EFFECTS: usize = 4_096;

/// A message to a client, about its request of this number.
#[derive(Debug)]
pub(crate) enum Response {
    /// Answer to the request with this serial.
    Answer(u64, Answer),
    /// The answer comes later than those to the requests behind it may.
    Deferred(u64),
    /// Progress of a wait.
    Progress(u64, Box<WaitProgress>),
}

/// Sends a client its responses. Never waits; bounded by the requests that the client may have in flight.
pub(crate) type ResponseSender = mpsc::UnboundedSender<Response>;

/// A turn of a client: requests that the engine decides in one call. Responses to them are returned, not sent.
#[derive(Debug)]
pub(crate) struct RequestTurn<'a> {
    pub(crate) socket: SocketId,
    /// Number of the first of the requests.
    pub(crate) first_serial: u64,
    pub(crate) responses: &'a mut Vec<Response>,
}

/// Call of another server, or of a command, that an action has begun: a task awaits its outcome.
pub(crate) struct PendingCall(Pin<Box<dyn Future<Output = Option<CallOutcome>> + Send>>);

/// Outcome of a call, for the engine.
#[derive(Debug)]
pub(crate) enum CallOutcome {
    /// Input for the gate.
    Input(Input),
    /// Answer to a request that the gate has left to another server.
    Answer(ReplyHandle, Answer),
}

impl PendingCall {
    /// Waits for the outcome; `None` if the daemon stops before.
    pub(crate) fn outcome(self) -> impl Future<Output = Option<CallOutcome>> + Send {
        self.0
    }
}

impl fmt::Debug for PendingCall {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PendingCall")
            .finish_non_exhaustive()
    }
}

/// Parts of the daemon that effects reach.
#[derive(Debug)]
pub(crate) struct OutputDeps {
    pub(crate) event_log: Arc<EventLog>,
    /// State of the servers that the daemon calls.
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Arc<Metrics>,
    /// Wakes the poller of the SFU's API.
    pub(crate) poll_wanted: Arc<Notify>,
    pub(crate) announcer: Announcer,
    pub(crate) terminator: SessionTerminator,
    pub(crate) receivers: ReceiverSenders,
    /// A Sora that follows the mode.
    pub(crate) mirror: Option<MirrorHandle>,
    /// Channel to the cluster task.
    pub(crate) etcd_requests: Option<mpsc::UnboundedSender<EtcdRequest>>,
    /// Channel to the task that locks rooms, where the SFU holds the mode.
    pub(crate) holder: Option<HolderCalls>,
    /// Size of the state's write-ahead log.
    pub(crate) wal_size: Option<WalSize>,
    /// Problem with the state, until a retried write succeeds.
    pub(crate) storage_problem: Option<String>,
    pub(crate) reservation_log: ReservationLog,
}

/// Outputs of the engine.
#[derive(Debug)]
pub(crate) struct Outputs {
    pub(crate) deps: OutputDeps,
    clients: HashMap<SocketId, ResponseSender, FixedState>,
    /// HTTP requests with a pending answer. The serials are assigned here, so no client can
    /// choose a hash.
    late: HashMap<u64, oneshot::Sender<Answer>, FixedState>,
    /// Calls that no task carries out yet.
    calls: Vec<PendingCall>,
    end_log: EndLog,
}

impl Outputs {
    pub(crate) fn new(deps: OutputDeps) -> Self {
        Self {
            deps,
            clients: HashMap::default(),
            late: HashMap::default(),
            calls: Vec::new(),
            end_log: EndLog::default(),
        }
    }

    /// Sends responses to this client from now on.
    pub(crate) fn add_client(&mut self, socket: SocketId, sender: ResponseSender) {
        self.clients.insert(socket, sender);
    }

    pub(crate) fn remove_client(&mut self, socket: SocketId) {
        self.clients.remove(&socket);
    }

    /// Returns the receiver of the answer to this HTTP request, which comes later.
    pub(crate) fn await_answer(&mut self, serial: u64) -> oneshot::Receiver<Answer> {
        let (sender, answer) = oneshot::channel();
        self.late.insert(serial, sender);
        answer
    }

    /// Forgets an HTTP request that is not waited for.
    pub(crate) fn forget(&mut self, serial: u64) {
        self.late.remove(&serial);
    }

    /// Ends: nothing that waits is answered any more, and receivers of events get nothing more.
    pub(crate) fn close(&mut self) {
        self.late.clear();
        self.clients.clear();
        self.deps.receivers = ReceiverSenders::default();
    }

    #[cfg(test)]
    pub(crate) fn is_waited_for(&self) -> bool {
        !self.late.is_empty()
    }

    /// Returns the calls that have been begun since the last time.
    pub(crate) fn take_calls(&mut self) -> impl Iterator<Item = PendingCall> {
        self.calls.drain(..)
    }

    /// Returns the numbers of clients that subscribed to ends, and to announcements.
    pub(crate) fn subscribers(&self) -> Subscribers {
        Subscribers {
            ends: self.deps.terminator.subscribers(),
            announcements: self.deps.announcer.subscribers(),
        }
    }

    fn call(&mut self, call: impl Future<Output = Option<CallOutcome>> + Send + 'static) {
        self.calls.push(PendingCall(Box::pin(call)));
    }

    /// Publishes the events of a batch and performs its actions, in order. Responses to requests that the cluster's task does not take any
    /// more are added to `refused`.
    pub(crate) fn perform(
        &mut self,
        batch: &mut Batch,
        mut turn: Option<&mut RequestTurn<'_>>,
        refused: &mut Vec<EtcdResponse>,
    ) {
        let Effects { records, actions } = &mut batch.effects;
        self.publish(records);
        let mut decisions = Decisions {
            first_step: batch.first_step.take(),
            seconds: None,
        };
        for action in actions.drain(..) {
            match action {
                Action::Answer(reply_to, answer) => {
                    if let Ok(Reply::Decision(decision)) = &answer {
                        self.deps.metrics.decided(decision, decisions.seconds());
                    }
                    self.answer(reply_to, answer, turn.as_deref_mut());
                }
                Action::Deferred(reply_to) => self.respond(
                    reply_to,
                    Response::Deferred(reply_to.serial),
                    turn.as_deref_mut(),
                ),
                Action::Progress(reply_to, progress) => self.respond(
                    reply_to,
                    Response::Progress(reply_to.serial, progress),
                    turn.as_deref_mut(),
                ),
                Action::Etcd(request) => refused.extend(self.request_etcd(*request)),
                Action::Fence {
                    id,
                    scope,
                    sessions,
                } => self.fence(id, scope, sessions),
                Action::Lock(call) => {
                    if let Some(holder) = &self.deps.holder {
                        holder.lock(call);
                    }
                }
                Action::AcceptSessions(accept) => {
                    if let Some(holder) = &self.deps.holder {
                        holder.accept_sessions(accept);
                    }
                }
                Action::Poll => self.deps.poll_wanted.notify_one(),
                Action::Deliver(attempt) => {
                    self.deps
                        .receivers
                        .send(attempt.receiver, ReceiverCommand::Send(attempt));
                }
                Action::Bug(what) => {
                    log_limited!(error, "a bug in soramoded: {what}; it goes on");
                    self.deps.metrics.bug();
                    self.deps.health.note_bug(what);
                }
                Action::OutcomeApplied(receiver) => self
                    .deps
                    .receivers
                    .send(receiver, ReceiverCommand::OutcomeApplied),
                Action::Sfu(call) => self.call_sfu(*call),
            }
        }
        // A batch that was large once must not keep its memory.
        records.shrink_to(KEPT_EFFECTS);
        actions.shrink_to(KEPT_EFFECTS);
    }

    /// Sends a response to the client that made the request, if it is still there.
    pub(crate) fn respond(
        &mut self,
        reply_to: ReplyHandle,
        response: Response,
        turn: Option<&mut RequestTurn<'_>>,
    ) {
        if let Some(turn) = turn
            && reply_to.socket == turn.socket
            && reply_to.serial >= turn.first_serial
        {
            turn.responses.push(response);
        } else if reply_to.socket.is_http() {
            if let Response::Answer(serial, answer) = response
                && let Some(sender) = self.late.remove(&serial)
            {
                // The client may have hung up.
                sender.send(answer).unwrap_or_default();
            }
        } else if let Some(client) = self.clients.get(&reply_to.socket) {
            client.send(response).unwrap_or_default();
        }
    }

    fn publish(&mut self, records: &mut Vec<Record>) {
        if records.is_empty() {
            return;
        }
        let mut failed = log::FailedDeliveries::default();
        let event_log = Arc::clone(&self.deps.event_log);
        let noted = records
            .drain(..)
            .inspect(|record| self.note(record, &mut failed));
        event_log.append(noted.filter_map(Record::into_event));
        failed.log();
    }

    /// Logs and counts a record that is published.
    fn note(&mut self, record: &Record, failed: &mut log::FailedDeliveries) {
        if let Record::Reservation(reservation) = record {
            let log = &mut self.deps.reservation_log;
            return log.note(reservation, clock::now().boot);
        }
        self.end_log.note(record);
        let Some(event) = record.event() else {
            return;
        };
        log::log_event(&event.kind, || self.deps.health.etcd_problems());
        failed.note(&event.kind);
        self.deps.metrics.event(event);
        self.mirror_automatic(&event.kind);
    }

    /// Completes an answer, and sends it or gives it to the mirror.
    pub(crate) fn answer(
        &mut self,
        reply_to: ReplyHandle,
        mut answer: Answer,
        turn: Option<&mut RequestTurn<'_>>,
    ) {
        self.complete(&mut answer);
        self.end_log.answered(&answer);
        let Some(mirror) = self.deps.mirror.clone() else {
            return self.respond(reply_to, Response::Answer(reply_to.serial, answer), turn);
        };
        if let Some(answer) = self.mirror(&mirror, reply_to, answer) {
            self.respond(reply_to, Response::Answer(reply_to.serial, answer), turn);
        }
    }

    /// Calls the SFU about a session. The outcome always comes back, within a timeout.
    fn call_sfu(&mut self, call: SfuCall) {
        let SfuCall {
            id,
            channel_id,
            session_id,
            request,
        } = call;
        let metrics = Arc::clone(&self.deps.metrics);
        let answered = move |outcome| Some(CallOutcome::Input(Input::SfuAnswered { id, outcome }));
        match request {
            SfuRequest::Push(notice) => {
                let announcer = self.deps.announcer.clone();
                self.call(async move {
                    let outcome = announcer.announce(channel_id, session_id, notice).await;
                    metrics.announced(&outcome);
                    answered(outcome)
                });
            }
            SfuRequest::Disconnect { plan_id, reason } => {
                let session = EndSession {
                    channel_id,
                    session_id,
                    plan_id,
                    reason,
                };
                let terminator = self.deps.terminator.clone();
                self.call(async move {
                    let outcome = terminator.end(session).await;
                    metrics.end_asked(&outcome);
                    answered(outcome)
                });
            }
        }
    }

    /// Passes a request to the cluster's task. Where that has ended, returns the response that the gate waits for.
    fn request_etcd(&self, request: EtcdRequest) -> Option<EtcdResponse> {
        let requests = self.deps.etcd_requests.as_ref()?;
        let mpsc::error::SendError(request) = requests.send(request).err()?;
        request.refused("soramoded is stopping")
    }

    /// Ends sessions that the node no longer owns, in a task of its own.
    fn fence(&mut self, id: FenceId, scope: FenceScope, sessions: Vec<EndSession>) {
        tracing::error!(
            sessions = sessions.len(),
            of = ?scope,
            "fenced: ending sessions, because this node no longer owns their channels"
        );
        let terminator = self.deps.terminator.clone();
        self.call(async move {
            let input = terminator.fence(id, scope, sessions).await;
            Some(CallOutcome::Input(input))
        });
    }

    /// A change without a request has no answer that would pass by the mirror.
    fn mirror_automatic(&self, kind: &EventKind) {
        if let (Some(mirror), EventKind::ModeChanged(change)) = (&self.deps.mirror, kind)
            && change.actor.starts_with("system:")
        {
            mirror.set_mode(change.mode);
        }
    }

    /// Gives answers about the mode to the mirror, and returns all others.
    fn mirror(
        &mut self,
        mirror: &MirrorHandle,
        reply_to: ReplyHandle,
        answer: Answer,
    ) -> Option<Answer> {
        match answer {
            Ok(Reply::ModeChanged(changed)) => {
                let Some(warning) = mirror.mirror_change(changed.mode) else {
                    return Some(Ok(Reply::ModeChanged(changed)));
                };
                self.call(async move {
                    let mut changed = changed;
                    changed.warning = warning.await.ok()?;
                    let reply = Reply::ModeChanged(changed);
                    Some(CallOutcome::Answer(reply_to, Ok(reply)))
                });
            }
            Ok(Reply::Mode(state)) => {
                let mirror = mirror.clone();
                self.call(async move {
                    let state = mirror.stricter_mode(*state).await;
                    let reply = Reply::Mode(Box::new(state));
                    Some(CallOutcome::Answer(reply_to, Ok(reply)))
                });
            }
            other => return Some(other),
        }
        None
    }

    /// Adds to an answer what the gate cannot know.
    fn complete(&self, answer: &mut Answer) {
        match answer {
            Ok(Reply::Status(status)) => self.complete_status(status),
            Ok(Reply::WaitEnded(ended)) => self.complete_status(&mut ended.status),
            Ok(_) | Err(_) => {}
        }
    }

    fn complete_status(&self, status: &mut Status) {
        let deps = &self.deps;
        deps.health.complete(status);
        let wal_size = || deps.wal_size.as_ref().and_then(WalSize::warning);
        status
            .warnings
            .extend(deps.storage_problem.clone().or_else(wal_size));
        if let Some(mirror) = &deps.mirror {
            mirror.complete(status);
        }
    }
}

/// Time that the decisions of a batch took, read once.
struct Decisions {
    first_step: Option<std::time::Duration>,
    seconds: Option<f64>,
}

impl Decisions {
    fn seconds(&mut self) -> f64 {
        let first_step = self.first_step;
        *self.seconds.get_or_insert_with(|| {
            let now = clock::now().boot;
            now.saturating_sub(first_step.unwrap_or(now)).as_secs_f64()
        })
    }
}
