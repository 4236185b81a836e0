//! The gate, the commits of its effects, and its outputs. A request is decided by the task that received it; what needs no commit is
//! answered at once, the rest when its commit is safe.
//!
//! The only file that steps the gate.

use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError, Weak};
use std::time::Duration;

use soramode_core::commit_failure::OPEN_IT;
use soramode_core::commits::{Batch, Commits, Durability, UNWRITTEN_RECORDS_MAX};
use soramode_core::effect::{Action, Record};
use soramode_core::gate::Gate;
use soramode_core::input::{AttemptResult, Input, ReplyHandle, SocketId, SoraInput, Timestamp};
use soramode_core::member::etcd::EtcdResponse;
use soramode_core::snapshot::Webhook;
use soramode_protocol::error::{Error, ErrorType};
use soramode_protocol::reply::Answer;
use soramode_protocol::request::GateRequest;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::clock::{self, BootTimer};
use crate::outputs::{Caller, HTTP_CLIENT, OutputDeps, Outputs, Response};
use crate::webhook::Webhooks;

/// A request with the number that its response will have.
pub(crate) type SerialRequest = (u64, GateRequest);

/// The engine. Cheap to clone. Holds no store, so that a clone that outlives the daemon keeps no lock.
#[derive(Clone, Debug)]
pub(crate) struct Engine(Arc<Shared>);

/// An engine for the tasks that its outputs start.
#[derive(Clone, Debug)]
pub(crate) struct WeakEngine(Weak<Shared>);

struct Shared {
    state: Mutex<State>,
    timer: BootTimer,
    /// Wakes the committer: a write can begin.
    work: Notify,
    /// Set while so much waits for a write that no more requests are read.
    is_crowded: AtomicBool,
    /// Wakes clients that wait for the end of that.
    room: Notify,
    /// Cancelled when a step has panicked.
    broken: CancellationToken,
    /// Cancelled when no input comes any more.
    closing: CancellationToken,
}

struct State {
    gate: Gate,
    commits: Commits,
    outputs: Outputs,
    /// Kept allocated between releases.
    released: Batch,
    /// Outcomes of orders that could not be given: inputs of the same turn.
    refused: Vec<EtcdResponse>,
    /// The deadline that the timer is set to.
    armed: Option<Duration>,
    /// Number of the last HTTP request.
    last_serial: u64,
    responses: Vec<Response>,
    is_closed: bool,
}

/// The engine takes no input any more: the daemon stops, or a step has panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopped;

/// Why Sora's input is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// As for any other input.
    Stopped,
    /// So many records wait for the disk that no more are taken.
    Full,
}

/// Outcome of a write, with the texts for operators if it failed.
pub(crate) type WriteOutcome = Result<(), WriteFailure>;

/// Why a write failed.
#[derive(Debug)]
pub(crate) struct WriteFailure {
    pub(crate) error: String,
    /// Remedy for the operator.
    pub(crate) remedy: String,
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
        let shared = Arc::new_cyclic(|weak| Shared {
            state: Mutex::new(State {
                gate,
                commits: Commits::new(durability),
                outputs: Outputs::new(deps, WeakEngine(Weak::clone(weak))),
                released: Batch::default(),
                refused: Vec::new(),
                armed: None,
                last_serial: 0,
                responses: Vec::new(),
                is_closed: false,
            }),
            timer,
            work: Notify::new(),
            is_crowded: AtomicBool::new(false),
            room: Notify::new(),
            broken: CancellationToken::new(),
            closing: CancellationToken::new(),
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

    /// Decides all requests of one turn of a client. Adds responses that may leave at once to `responses`; the others are sent.
    pub(crate) fn ask(
        &self,
        socket: SocketId,
        actor: &Arc<str>,
        requests: &mut Vec<SerialRequest>,
        responses: &mut Vec<Response>,
    ) -> Result<(), Stopped> {
        self.with(|state, now| {
            let first_serial = requests.first().map_or(0, |(serial, _)| *serial);
            let mut caller = Caller {
                socket,
                first_serial,
                responses,
            };
            for (serial, request) in requests.drain(..) {
                let reply_to = ReplyHandle { socket, serial };
                state.request(now, (reply_to, Arc::clone(actor), request), &mut caller);
            }
            state.settle(now, Some(caller));
        })
        .ok_or(Stopped)
    }

    /// Decides a request that came over HTTP, and waits for its answer.
    pub(crate) async fn ask_one(&self, actor: Arc<str>, request: GateRequest) -> Answer {
        self.decide(|state, now, reply_to, caller| {
            state.request(now, (reply_to, actor, request), caller);
        })
        .answer()
        .await
    }

    /// Decides on a client of Sora's. `input` makes the question of the reply_to.
    pub(crate) fn admit(&self, input: impl FnOnce(ReplyHandle) -> SoraInput) -> PendingAnswer {
        self.decide(|state, now, reply_to, caller| match state.full() {
            Some(refusal) => caller
                .responses
                .push(Response::Answer(reply_to.serial, Err(refusal))),
            None => state.step(now, Input::Sora(input(reply_to))),
        })
    }

    /// Takes in what a Sora reports.
    pub(crate) fn tell_sora(&self, input: SoraInput) -> Result<(), Refusal> {
        self.with(|state, now| {
            if state.commits.is_full() {
                return Err(Refusal::Full);
            }
            state.take(now, Input::Sora(input));
            Ok(())
        })
        .unwrap_or(Err(Refusal::Stopped))
    }

    /// Takes in any other input. Never waits; does nothing once the engine has stopped.
    pub(crate) fn tell(&self, input: Input) -> Result<(), Stopped> {
        self.with(|state, now| state.take(now, input))
            .ok_or(Stopped)
    }

    /// Takes in the outcome of a delivery. The receiver hears of it behind whatever follows.
    pub(crate) fn tell_delivery(
        &self,
        place: usize,
        id: u64,
        result: AttemptResult,
    ) -> Result<(), Stopped> {
        self.with(|state, now| {
            state.step(now, Input::DeliveryAttempted { id, result });
            let actions = &mut state.commits.open_mut(now).actions;
            actions.push(Action::OutcomeApplied { place });
            state.settle(now, None);
        })
        .ok_or(Stopped)
    }

    /// Replaces the receivers of events.
    pub(crate) fn replace_receivers(&self, webhooks: Vec<Webhook>, senders: Webhooks) {
        self.with(|state, now| {
            state.outputs.deps.webhooks = senders;
            state.take(now, Input::Webhooks(webhooks));
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

    /// Returns whether so much waits for a write that no more requests are to be read.
    pub(crate) fn is_crowded(&self) -> bool {
        self.0.is_crowded.load(Ordering::Relaxed)
    }

    /// Waits until more requests may be read. Cancel safe.
    pub(crate) async fn room(&self) {
        while self.is_crowded() {
            let notified = self.0.room.notified();
            if self.is_crowded() {
                notified.await;
            }
        }
    }

    /// Returns once a step has panicked.
    pub(crate) async fn broken(&self) {
        self.0.broken.cancelled().await;
    }

    /// Has the committer write what is open, and end.
    pub(crate) fn close(&self) {
        self.0.closing.cancel();
    }

    fn respond(&self, reply_to: ReplyHandle, answer: Answer) {
        self.with(|state, _| {
            let response = Response::Answer(reply_to.serial, answer);
            state.outputs.respond(reply_to, response, None);
        });
    }

    fn decide(
        &self,
        step: impl FnOnce(&mut State, Timestamp, ReplyHandle, &mut Caller<'_>),
    ) -> PendingAnswer {
        let decided = self.with(|state, now| {
            state.last_serial += 1;
            let (socket, serial) = (HTTP_CLIENT, state.last_serial);
            let mut responses = mem::take(&mut state.responses);
            let mut caller = Caller {
                socket,
                first_serial: serial,
                responses: &mut responses,
            };
            step(state, now, ReplyHandle { socket, serial }, &mut caller);
            state.settle(now, Some(caller));
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

    /// Does something with the state: the only lock, and no guard leaves it. `None` once the engine has stopped.
    fn with<T>(&self, work: impl FnOnce(&mut State, Timestamp) -> T) -> Option<T> {
        let shared = &*self.0;
        let mut state = match shared.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(_)) => return None,
            Err(TryLockError::WouldBlock) => {
                unreachable!("an output has called the engine that it is a part of")
            }
        };
        if state.is_closed {
            return None;
        }
        let mut guard = BreakOnPanic {
            broken: &shared.broken,
            is_done: false,
        };
        let done = work(&mut state, clock::now());
        state.arm(&shared.timer);
        if state.commits.has_work() {
            shared.work.notify_one();
        }
        let is_crowded = !state.commits.has_room();
        if shared.is_crowded.swap(is_crowded, Ordering::Relaxed) && !is_crowded {
            shared.room.notify_waiters();
        }
        guard.is_done = true;
        Some(done)
    }
}

/// For the committer.
impl Engine {
    /// Waits until a write can begin. Cancel safe.
    pub(crate) async fn work(&self) {
        self.0.work.notified().await;
    }

    /// Waits until no input comes any more. Cancel safe.
    pub(crate) async fn closing(&self) {
        self.0.closing.cancelled().await;
    }

    /// Begins a write, if there is something to write.
    pub(crate) fn begin(&self) -> Option<Vec<Record>> {
        self.with(|state, _| state.commits.begin())?
    }

    /// Begins to write again after a failure.
    pub(crate) fn retry(&self) -> Option<Vec<Record>> {
        self.with(|state, _| state.commits.retry())?
    }

    /// Ends a write, or a check of a store that nothing was written to: performs effects that may leave now.
    pub(crate) fn finish(&self, records: Vec<Record>, outcome: WriteOutcome, took: Duration) {
        self.with(|state, now| {
            let State {
                gate,
                commits,
                outputs,
                ..
            } = state;
            state.released = match outcome {
                Ok(()) => {
                    outputs.deps.metrics.committed(took);
                    commits.written(records)
                }
                Err(failure) => {
                    let WriteFailure { error, remedy } = failure;
                    tracing::error!(%error, "the state cannot be written; node set to block_new_connection. {remedy}. Then run: soramode set normal");
                    outputs.deps.storage_problem = Some(format!(
                        "the state cannot be written ({error}). The node is closed, and changes wait. {remedy}. Then open the node with: \
                         soramode set normal"
                    ));
                    let refusal = Error::storage_unavailable(&error)
                        .with_hint(format!("{remedy}. {OPEN_IT}"));
                    commits.write_failed(gate, now, records, &refusal)
                }
            };
            state.perform(now, None);
            state.settle(now, None);
        });
    }

    /// Ends a retry.
    pub(crate) fn finish_retry(&self, records: Vec<Record>, is_written: bool) {
        self.with(|state, now| {
            if !is_written {
                return state.commits.retry_failed(records);
            }
            state.outputs.deps.storage_problem = None;
            state.released = state.commits.restored(&mut state.gate, now, records);
            state.perform(now, None);
            tracing::info!(
                "the state can be written again; the node is still closed. To open it, run: soramode set normal"
            );
            state.settle(now, None);
        });
    }

    /// Takes no input any more.
    pub(crate) fn end(&self) {
        self.with(|state, _| {
            let lost = state.commits.unwritten();
            if state.commits.is_failed() && lost > 0 {
                tracing::error!(
                    "stopping with {lost} changes that could not be written: they are lost"
                );
            }
            state.outputs.close();
            state.is_closed = true;
        });
    }
}

/// For the task that waits for deadlines.
impl Engine {
    /// Waits until the timer fires.
    pub(crate) async fn deadline(&self) -> std::io::Result<()> {
        self.0.timer.fired().await
    }

    /// Steps the deadlines that have come.
    pub(crate) fn tick(&self) {
        self.with(|state, now| {
            state.armed = None;
            state.take(now, Input::Tick);
        });
    }
}

impl State {
    fn step(&mut self, now: Timestamp, input: Input) {
        self.gate.step_into(now, input, self.commits.open_mut(now));
    }

    fn take(&mut self, now: Timestamp, input: Input) {
        self.step(now, input);
        self.settle(now, None);
    }

    fn request(
        &mut self,
        now: Timestamp,
        (reply_to, actor, request): (ReplyHandle, Arc<str>, GateRequest),
        caller: &mut Caller<'_>,
    ) {
        let adds_records = matches!(
            request,
            GateRequest::Connect(_) | GateRequest::Disconnect(_) | GateRequest::Report(_)
        );
        if adds_records && let Some(refusal) = self.full() {
            // It promises nothing, and so waits for nothing.
            let refused = Response::Answer(reply_to.serial, Err(refusal));
            return caller.responses.push(refused);
        }
        let reads_mode = matches!(request, GateRequest::GetMode);
        let request = Input::Request {
            reply_to,
            actor,
            request,
        };
        self.step(now, request);
        if reads_mode && let Some((reply_to, answer)) = self.commits.take_mode() {
            self.outputs.answer(reply_to, answer, Some(caller));
        }
    }

    /// Returns an error where so many records wait for the disk that no more are taken.
    fn full(&self) -> Option<Error> {
        let problem = format_args!("{UNWRITTEN_RECORDS_MAX} changes already wait for the disk");
        self.commits
            .is_full()
            .then(|| Error::storage_unavailable(problem))
    }

    /// Performs all effects that may leave: once for all steps of a turn.
    fn settle(&mut self, now: Timestamp, mut caller: Option<Caller<'_>>) {
        while self.commits.release(&mut self.released) {
            self.perform(now, caller.as_mut());
        }
    }

    fn perform(&mut self, now: Timestamp, caller: Option<&mut Caller<'_>>) {
        self.outputs
            .release(&mut self.released, caller, &mut self.refused);
        for heard in mem::take(&mut self.refused) {
            self.step(now, Input::Etcd(heard));
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

/// An answer that is there, or still to come.
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
            state.take(now, Input::SocketClosed(self.socket));
        });
    }
}

impl WeakEngine {
    /// Sends the answer to a request that the gate left to another task.
    pub(crate) fn respond(&self, reply_to: ReplyHandle, answer: Answer) {
        if let Some(shared) = self.0.upgrade() {
            Engine(shared).respond(reply_to, answer);
        }
    }

    /// Takes in the outcome of something that an action has ordered.
    pub(crate) fn tell(&self, input: Input) {
        if let Some(shared) = self.0.upgrade() {
            // After the stop nothing waits for it.
            Engine(shared).tell(input).unwrap_or_default();
        }
    }
}

/// Notes a panic, so that the daemon ends: nothing leaves an engine whose step was not finished.
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
pub(crate) mod tests {
    use super::*;

    use soramode_core::input::HostState;
    use soramode_core::snapshot::{Seed, Settings, StartParams, Stored};
    use soramode_protocol::decision::{Connect, Lifetime};
    use soramode_protocol::id::LogId;
    use soramode_protocol::node::{Status, Storage, StorageState};
    use soramode_protocol::reply::Reply;

    use crate::config::Config;
    use crate::ender::Ender;
    use crate::event_log::EventLog;
    use crate::health::Health;
    use crate::metrics::Metrics;

    /// An engine whose gate has just started.
    pub(crate) fn engine(durability: Durability) -> Engine {
        let config = Config::on_socket("/nowhere/gate.sock");
        let state = match durability {
            Durability::Ephemeral => StorageState::Memory,
            Durability::Durable => StorageState::Ok,
        };
        let settings = Settings {
            assume_complete: true,
            ..crate::settings(&config, Storage { state, path: None })
        };
        let params = StartParams {
            settings,
            started: clock::now(),
            stored: Stored::default(),
        };
        let deps = OutputDeps {
            log: Arc::new(EventLog::new(LogId::generate([0; 16]), 10_000)),
            health: Arc::new(Health::new(&config, None)),
            metrics: Arc::new(Metrics::new().unwrap()),
            polls: Arc::default(),
            ender: Ender::new(None, Default::default()),
            webhooks: Webhooks::default(),
            mirror: None,
            cluster: None,
            log_size: None,
            storage_problem: None,
        };
        let inputs = vec![Input::Started(HostState::Running)];
        Engine::start(
            Gate::restore(params, Seed([7; 32])),
            durability,
            deps,
            inputs,
        )
        .unwrap()
    }

    /// A request that adds records.
    pub(crate) fn connect(channel: &str) -> GateRequest {
        GateRequest::Connect(Connect {
            channel_id: channel.parse().unwrap(),
            connection_id: None,
            client_id: None,
            lifetime: Lifetime::Explicit,
            hops: 0,
        })
    }

    pub(crate) async fn ask(engine: &Engine, request: GateRequest) -> Answer {
        engine.ask_one("test".into(), request).await
    }

    pub(crate) async fn status(engine: &Engine) -> Status {
        match ask(engine, GateRequest::GetStatus).await {
            Ok(Reply::Status(status)) => *status,
            other => panic!("{other:?}"),
        }
    }

    fn is_ready(answer: &PendingAnswer) -> bool {
        matches!(answer, PendingAnswer::Ready(_))
    }

    fn request(engine: &Engine, request: GateRequest) -> PendingAnswer {
        engine.decide(|state, now, reply_to, caller| {
            state.request(now, (reply_to, "test".into(), request), caller);
        })
    }

    #[tokio::test]
    async fn reads_are_answered_at_once_unless_records_wait() {
        let engine = engine(Durability::Durable);
        let started = engine.begin().unwrap();
        let early = request(&engine, GateRequest::GetStatus);
        assert!(!is_ready(&early), "the start is being written");
        engine.finish(started, Ok(()), Duration::ZERO);
        assert!(early.answer().await.is_ok());
        assert!(is_ready(&request(&engine, GateRequest::GetStatus)));
        let late = request(&engine, connect("spam"));
        assert!(!is_ready(&late) && !is_ready(&request(&engine, GateRequest::GetStatus)));
        let records = engine.begin().unwrap();
        assert!(!records.is_empty() && engine.begin().is_none());
        engine.finish(records, Ok(()), Duration::ZERO);
        assert!(matches!(late.answer().await, Ok(Reply::Decision(_))));
        let ephemeral = self::engine(Durability::Ephemeral);
        assert!(is_ready(&request(&ephemeral, connect("spam"))));
    }

    #[tokio::test]
    async fn requests_that_nobody_waits_for_keep_no_memory() {
        let engine = engine(Durability::Durable);
        drop(request(&engine, connect("spam")));
        let is_waited_for = engine.with(|state, _| state.outputs.is_waited_for());
        assert_eq!(is_waited_for, Some(false));
    }

    #[tokio::test]
    async fn a_panic_in_a_step_breaks_the_engine_and_nothing_leaves_it() {
        let engine = engine(Durability::Durable);
        let (client, _responses) = engine.connect(SocketId(1)).unwrap();
        let in_step = engine.clone();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            in_step.with(|_, _| panic!("a step"));
        }));
        assert!(panicked.is_err());
        engine.broken().await;
        assert_eq!(engine.tell(Input::Tick), Err(Stopped));
        assert!(engine.begin().is_none(), "nothing is written any more");
        assert!(ask(&engine, GateRequest::GetMode).await.is_err());
        drop(client);
    }

    #[tokio::test]
    async fn an_output_that_calls_the_engine_is_a_bug() {
        let engine = engine(Durability::Ephemeral);
        let inner = engine.clone();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            engine.with(|_, _| inner.tell(Input::Tick))
        }));
        assert!(panicked.is_err());
        engine.broken().await;
    }

    #[tokio::test]
    async fn clients_wait_for_room_while_much_waits_for_a_write() {
        let engine = engine(Durability::Durable);
        let first = engine.begin().unwrap();
        let mut waiting = Vec::new();
        while !engine.is_crowded() {
            waiting.push(request(&engine, connect("spam")));
        }
        assert!(engine.tell(Input::Tick).is_ok(), "other inputs never wait");
        engine.finish(first, Ok(()), Duration::ZERO);
        let records = engine.begin().unwrap();
        engine.room().await;
        engine.finish(records, Ok(()), Duration::ZERO);
        for answer in waiting {
            assert!(answer.answer().await.is_ok());
        }
    }

    /// The code of each source file, without its tests.
    fn sources() -> Vec<(String, String)> {
        let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        let mut sources = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                if path.is_dir() {
                    folders.push(path);
                } else if name.ends_with(".rs") && name != "tests.rs" {
                    let text = std::fs::read_to_string(&path).unwrap();
                    let code = text.split("#[cfg(test)]\npub(crate) mod tests").next();
                    let code = code
                        .unwrap_or_default()
                        .split("#[cfg(test)]\nmod tests")
                        .next();
                    sources.push((name, code.unwrap_or_default().to_owned()));
                }
            }
        }
        sources
    }

    #[test]
    fn one_file_steps_the_gate_and_one_performs_actions() {
        for (name, code) in sources() {
            let allowed = |word: &str, files: &[&str]| {
                assert!(
                    !code.contains(word) || files.contains(&name.as_str()),
                    "{name} names {word}"
                );
            };
            allowed("step_into(", &["engine.rs"]);
            allowed("Action::", &["engine.rs", "outputs.rs"]);
            if name == "outputs.rs" {
                assert!(!code.contains("async fn"), "outputs wait for nothing");
            }
        }
    }
}
