//! The gate, the commits of its effects, and its outputs, behind one lock. The task that received a
//! request has it decided; responses that need no commit return at once, the others when their
//! commit is safe.
//!
//! The only file of the daemon that steps the gate. It waits for nothing. A panic inside a step ends the daemon.

mod refusals;
mod tasks;

use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use soramode_core::commits::{Batch, Commits, Durability, UNWRITTEN_RECORDS_MAX};
use soramode_core::effect::Action;
use soramode_core::gate::Gate;
use soramode_core::handles::{DeliveryId, ReceiverIndex, ReplyHandle, SocketId, Timestamp};
use soramode_core::input::{AttemptResult, Input, SoraInput, Subscribers};
use soramode_core::member::etcd::EtcdResponse;
use soramode_core::settings::EventReceiver;
use soramode_protocol::error::{Error, ErrorType};
use soramode_protocol::reply::Answer;
use soramode_protocol::request::GateRequest;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::clock::{self, BootTimer};
use crate::outputs::{CallOutcome, OutputDeps, Outputs, PendingCall, RequestTurn, Response};
use crate::webhook::senders::ReceiverSenders;

pub(crate) use refusals::{Refusal, Stopped, WriteFailure};

/// A request with the number that its response will have.
pub(crate) type SerialRequest = (u64, GateRequest);

/// The engine. Cheap to clone. Holds no store, so that a clone that outlives the daemon keeps no lock.
#[derive(Clone, Debug)]
pub(crate) struct Engine(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    timer: BootTimer,
    /// Wakes the committer: a write can begin.
    work: Notify,
    /// Set while so much waits for a write that no more requests are read.
    is_crowded: AtomicBool,
    /// Wakes clients that wait for the end of that.
    uncrowded: Notify,
    /// Cancelled when a step has panicked.
    broken: CancellationToken,
    /// Cancelled when a stop has begun: no input comes any more.
    stopping: CancellationToken,
}

struct State {
    gate: Gate,
    commits: Commits,
    outputs: Outputs,
    /// Kept allocated between releases.
    released: Batch,
    /// Responses to requests that the cluster's task does not take any more: inputs of the same turn.
    refused: Vec<EtcdResponse>,
    /// Subscribers that the gate knows of.
    subscribers: Subscribers,
    /// The deadline that the timer is set to.
    armed: Option<Duration>,
    /// Number of the last HTTP request.
    last_serial: u64,
    /// Responses to an HTTP request. Kept allocated.
    responses: Vec<Response>,
    /// A stop has finished: nothing is decided any more.
    is_stopped: bool,
}

impl Engine {
    /// Creates an engine and steps these inputs, before any other. Needs a tokio runtime.
    pub(crate) fn start(
        gate: Gate,
        durability: Durability,
        deps: OutputDeps,
        inputs: Vec<Input>,
    ) -> std::io::Result<Self> {
        let timer = BootTimer::new()?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                gate,
                commits: Commits::new(durability),
                outputs: Outputs::new(deps),
                released: Batch::default(),
                refused: Vec::new(),
                subscribers: Subscribers::default(),
                armed: None,
                last_serial: 0,
                responses: Vec::new(),
                is_stopped: false,
            }),
            timer,
            work: Notify::new(),
            is_crowded: AtomicBool::new(false),
            uncrowded: Notify::new(),
            broken: CancellationToken::new(),
            stopping: CancellationToken::new(),
        });
        let engine = Self(shared);
        engine.with(|state, now| {
            for input in inputs {
                state.step(now, input);
            }
            state.settle(now, None);
        });
        Ok(engine)
    }

    /// Decides all requests of one turn of a client. Adds responses that may leave at once to
    /// `responses`; the others are sent.
    pub(crate) fn ask(
        &self,
        socket: SocketId,
        actor: &Arc<str>,
        requests: &mut Vec<SerialRequest>,
        responses: &mut Vec<Response>,
    ) -> Result<(), Stopped> {
        self.with(|state, now| {
            let first_serial = requests.first().map_or(0, |(serial, _)| *serial);
            let mut turn = RequestTurn {
                socket,
                first_serial,
                responses,
            };
            for (serial, request) in requests.drain(..) {
                let reply_to = ReplyHandle { socket, serial };
                state.request(now, reply_to, Arc::clone(actor), request, &mut turn);
            }
            state.settle(now, Some(turn));
        })
        .ok_or(Stopped)
    }

    /// Decides a request that came over HTTP, once there is room for it, and waits for its answer.
    pub(crate) async fn ask_one(&self, actor: Arc<str>, request: GateRequest) -> Answer {
        self.not_crowded().await;
        let socket = match request {
            GateRequest::Report(_) => SocketId::HTTP_REPORT,
            _ => SocketId::HTTP,
        };
        self.decide(socket, |state, now, reply_to, turn| {
            state.request(now, reply_to, actor, request, turn);
        })
        .answer()
        .await
    }

    /// Decides on a client of Sora's. `input` makes the question from the handle that the answer goes to.
    pub(crate) fn admit(&self, input: impl FnOnce(ReplyHandle) -> SoraInput) -> PendingAnswer {
        self.decide(SocketId::HTTP, |state, now, reply_to, turn| {
            match state.refusal_if_full() {
                Some(refusal) => turn
                    .responses
                    .push(Response::Answer(reply_to.serial, Err(refusal))),
                None => state.step(now, Input::Sora(input(reply_to))),
            }
        })
    }

    /// Applies a report from a Sora.
    pub(crate) fn apply_sora(&self, input: SoraInput) -> Result<(), Refusal> {
        self.with(|state, now| {
            if state.commits.is_full() {
                return Err(Refusal::Full);
            }
            state.apply(now, Input::Sora(input));
            Ok(())
        })
        .unwrap_or(Err(Refusal::Stopped))
    }

    /// Takes in any other input. Never waits; does nothing once the engine has stopped.
    pub(crate) fn apply(&self, input: Input) -> Result<(), Stopped> {
        self.with(|state, now| state.apply(now, input))
            .ok_or(Stopped)
    }

    /// Applies the outcome of a delivery. The receiver is notified after any follow-up delivery.
    pub(crate) fn apply_delivery(
        &self,
        receiver: ReceiverIndex,
        id: DeliveryId,
        result: AttemptResult,
    ) -> Result<(), Stopped> {
        self.with(|state, now| {
            state.step(now, Input::DeliveryAttempted { id, result });
            let actions = &mut state.commits.open_mut(now).actions;
            actions.push(Action::OutcomeApplied(receiver));
            state.settle(now, None);
        })
        .ok_or(Stopped)
    }

    /// Replaces the receivers of events.
    pub(crate) fn replace_receivers(
        &self,
        receivers: Vec<EventReceiver>,
        senders: ReceiverSenders,
    ) {
        self.with(|state, now| {
            state.outputs.deps.receivers = senders;
            state.apply(now, Input::Receivers(receivers));
        });
    }

    /// Adds a client of the control socket: its handle, and where its responses arrive.
    pub(crate) fn connect(
        &self,
        socket: SocketId,
    ) -> Result<(Connected, mpsc::UnboundedReceiver<Response>), Stopped> {
        let (sender, responses) = mpsc::unbounded_channel();
        self.with(|state, _| state.outputs.add_client(socket, sender))
            .ok_or(Stopped)?;
        let engine = self.clone();
        Ok((Connected { engine, socket }, responses))
    }

    /// Takes note that a client has subscribed, or does not subscribe any more, before any request that comes after.
    pub(crate) fn subscribers_changed(&self) {
        self.with(State::note_subscribers);
    }

    /// Returns whether so much waits for a write that no more requests are to be read.
    pub(crate) fn is_crowded(&self) -> bool {
        self.0.is_crowded.load(Ordering::Relaxed)
    }

    /// Waits until more requests may be read. Cancel safe.
    pub(crate) async fn not_crowded(&self) {
        while self.is_crowded() {
            let notified = self.0.uncrowded.notified();
            if self.is_crowded() {
                notified.await;
            }
        }
    }

    /// Carries out a call in a task of its own, which keeps no engine alive, and takes in the outcome.
    #[expect(
        clippy::disallowed_methods,
        reason = "a stop does not wait for calls: nothing takes their outcome after it"
    )]
    fn carry_out(&self, call: PendingCall) {
        let engine = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            if let Some(outcome) = call.outcome().await
                && let Some(shared) = engine.upgrade()
            {
                // After the stop nothing waits for it.
                let _ = Self(shared).with(|state, now| match outcome {
                    CallOutcome::Input(input) => state.apply(now, input),
                    CallOutcome::Answer(reply_to, answer) => {
                        let response = Response::Answer(reply_to.serial, answer);
                        state.outputs.respond(reply_to, response, None);
                    }
                });
            }
        });
    }

    /// Decides an HTTP request in `step`, which gets the handle of its answer. The answer is ready, or comes later.
    fn decide(
        &self,
        socket: SocketId,
        step: impl FnOnce(&mut State, Timestamp, ReplyHandle, &mut RequestTurn<'_>),
    ) -> PendingAnswer {
        let decided = self.with(|state, now| {
            state.last_serial += 1;
            let serial = state.last_serial;
            let mut responses = mem::take(&mut state.responses);
            let mut turn = RequestTurn {
                socket,
                first_serial: serial,
                responses: &mut responses,
            };
            step(state, now, ReplyHandle { socket, serial }, &mut turn);
            state.settle(now, Some(turn));
            let answer = responses.drain(..).find_map(|response| match response {
                Response::Answer(_, answer) => Some(answer),
                Response::Deferred(_) | Response::Progress(..) => None,
            });
            state.responses = responses;
            answer.ok_or_else(|| (serial, state.outputs.await_answer(serial)))
        });
        match decided {
            None => PendingAnswer::Ready(Err(stopped())),
            Some(Ok(answer)) => PendingAnswer::Ready(answer),
            Some(Err((serial, answer))) => PendingAnswer::Late(LateAnswer {
                engine: self.clone(),
                serial,
                answer,
            }),
        }
    }

    /// Locks the state, does the work, and then what follows from any work: calls, the timer, and waking of the committer and of clients. The
    /// only lock, and no guard leaves it. `None` once the engine has stopped.
    fn with<T>(&self, work: impl FnOnce(&mut State, Timestamp) -> T) -> Option<T> {
        let shared = &*self.0;
        let mut state = match shared.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(_)) => return None,
            Err(TryLockError::WouldBlock) => {
                unreachable!("an output has called the engine that it is a part of")
            }
        };
        if state.is_stopped {
            return None;
        }
        let mut guard = BreakOnPanic {
            broken: &shared.broken,
            is_done: false,
        };
        let done = work(&mut state, clock::now());
        for call in state.outputs.take_calls() {
            self.carry_out(call);
        }
        state.arm(&shared.timer);
        if state.commits.has_work() {
            shared.work.notify_one();
        }
        let is_crowded = state.commits.is_crowded();
        if shared.is_crowded.swap(is_crowded, Ordering::Relaxed) && !is_crowded {
            shared.uncrowded.notify_waiters();
        }
        guard.is_done = true;
        Some(done)
    }
}

/// Answer that is ready, or pending.
#[derive(Debug)]
pub(crate) enum PendingAnswer {
    Ready(Answer),
    Late(LateAnswer),
}

/// An answer that waits for a commit or for another task. Dropping it forgets the request; its effects stay.
#[derive(Debug)]
pub(crate) struct LateAnswer {
    engine: Engine,
    serial: u64,
    answer: oneshot::Receiver<Answer>,
}

impl PendingAnswer {
    pub(crate) async fn answer(self) -> Answer {
        match self {
            Self::Ready(answer) => answer,
            Self::Late(mut late) => (&mut late.answer).await.unwrap_or_else(|_| Err(stopped())),
        }
    }
}

impl Drop for LateAnswer {
    fn drop(&mut self) {
        self.engine
            .with(|state, _| state.outputs.forget(self.serial));
    }
}

/// A client of the control socket. When it is dropped, its socket is closed.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) engine: Engine,
    pub(crate) socket: SocketId,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.engine.with(|state, now| {
            state.outputs.remove_client(self.socket);
            // Its subscription was dropped before.
            state.note_subscribers(now);
            state.apply(now, Input::SocketClosed(self.socket));
        });
    }
}

impl State {
    fn step(&mut self, now: Timestamp, input: Input) {
        self.gate.step_into(now, input, self.commits.open_mut(now));
    }

    /// Steps the gate, and performs the effects that may leave.
    fn apply(&mut self, now: Timestamp, input: Input) {
        self.step(now, input);
        self.settle(now, None);
    }

    /// Tells the gate the numbers of subscribers, if they have changed.
    fn note_subscribers(&mut self, now: Timestamp) {
        let subscribers = self.outputs.subscribers();
        if self.subscribers != subscribers {
            self.subscribers = subscribers;
            self.apply(now, Input::Subscribers(subscribers));
        }
    }

    fn request(
        &mut self,
        now: Timestamp,
        reply_to: ReplyHandle,
        actor: Arc<str>,
        request: GateRequest,
        turn: &mut RequestTurn<'_>,
    ) {
        let adds_records = matches!(
            request,
            GateRequest::Connect(_) | GateRequest::Disconnect(_) | GateRequest::Report(_)
        );
        if adds_records && let Some(refusal) = self.refusal_if_full() {
            // It promises nothing, and so waits for nothing.
            let refused = Response::Answer(reply_to.serial, Err(refusal));
            return turn.responses.push(refused);
        }
        let reads_mode = matches!(request, GateRequest::GetMode);
        let request = Input::Request {
            reply_to,
            actor,
            request,
        };
        self.step(now, request);
        if reads_mode && let Some((reply_to, answer)) = self.commits.take_mode_answer() {
            self.outputs.answer(reply_to, answer, Some(turn));
        }
    }

    /// Returns the refusal of a request that would add records, if the limit of records that wait for the disk is reached.
    fn refusal_if_full(&self) -> Option<Error> {
        let problem = format_args!("{UNWRITTEN_RECORDS_MAX} changes already wait for the disk");
        self.commits
            .is_full()
            .then(|| Error::storage_unavailable(problem))
    }

    /// Takes out of the commits all effects that may leave, and performs them: once for all steps of a turn.
    fn settle(&mut self, now: Timestamp, mut turn: Option<RequestTurn<'_>>) {
        while self.commits.take_ready(&mut self.released) {
            self.perform_released(now, turn.as_mut());
        }
    }

    /// Performs the effects in `released`, and steps the gate for requests that could not be passed on.
    fn perform_released(&mut self, now: Timestamp, turn: Option<&mut RequestTurn<'_>>) {
        self.outputs
            .perform(&mut self.released, turn, &mut self.refused);
        for response in mem::take(&mut self.refused) {
            self.step(now, Input::Etcd(response));
        }
    }

    /// Sets the timer, if the next deadline comes before the one that it is set to. One that fires too early is set again then.
    fn arm(&mut self, timer: &BootTimer) {
        let next = self.gate.next_deadline();
        if let Some(next) = next.filter(|next| self.armed.is_none_or(|armed| *next < armed)) {
            match timer.set(Some(next)) {
                Ok(()) => self.armed = Some(next),
                Err(error) => unreachable!("cannot set the timer: {error}"),
            }
        }
    }
}

/// Records a panic, so that the daemon ends: no effect leaves an engine with an
/// unfinished step.
struct BreakOnPanic<'a> {
    broken: &'a CancellationToken,
    is_done: bool,
}

impl Drop for BreakOnPanic<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.broken.cancel();
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Engine").finish_non_exhaustive()
    }
}

fn stopped() -> Error {
    Error::new(ErrorType::Internal, "soramoded is stopping")
}

#[cfg(test)]
pub(crate) mod tests;
