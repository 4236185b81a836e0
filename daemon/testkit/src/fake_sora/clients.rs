//! Clients of a fake Sora that act by themselves: each event of a client is logged, and clients that were cut may come back.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use hyper::StatusCode;
use serde_json::{Value, json};
use soramode_protocol::id::EventId;
use soramode_protocol::time::Time;
use soramoded::clock;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::payload;
use super::state::{Connection, State};
use crate::PATIENCE;

/// Reaction of clients that were cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returns {
    /// They stay away.
    Never,
    /// They connect again at once, to the same channel.
    AtOnce,
}

/// Failure mode of a call about a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallFault {
    /// Works without a failure.
    #[default]
    None,
    /// Does nothing until [`FakeSora::release_calls`](super::FakeSora::release_calls) lets it go on.
    Held,
    /// Answers with the status 500, and does nothing.
    Breaks,
    /// Answers with success, and does nothing.
    Lies,
}

/// Event in the life of a client.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientEvent {
    Connected,
    /// Not admitted, for this reason.
    Rejected(String),
    /// Data that was pushed.
    Notice(Value),
    /// Disconnected by Sora's API, for this reason.
    Cut(Value),
}

/// Line of the clients' log.
#[derive(Clone, Debug)]
pub struct ClientLine {
    pub wall: Time,
    pub boot: Duration,
    pub channel_id: String,
    pub event: ClientEvent,
}

/// The clients.
#[derive(Debug)]
pub(crate) struct ActingClients {
    state: Arc<Mutex<State>>,
    client: reqwest::Client,
    inner: Mutex<Inner>,
    changed: Condvar,
    released: Semaphore,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Inner {
    /// Base URL of the webhooks.
    webhooks: String,
    rng: Rng,
    /// `None` while a test acts for the clients.
    returns: Option<Returns>,
    push: CallFault,
    disconnect: CallFault,
    /// Number of calls that are held.
    held: usize,
    log: Vec<ClientLine>,
}

impl ActingClients {
    pub(crate) fn new(state: Arc<Mutex<State>>, client: reqwest::Client, seed: u64) -> Self {
        Self {
            state,
            client,
            inner: Mutex::new(Inner {
                webhooks: String::new(),
                rng: Rng::with_seed(!seed),
                returns: None,
                push: CallFault::None,
                disconnect: CallFault::None,
                held: 0,
                log: Vec::new(),
            }),
            changed: Condvar::new(),
            released: Semaphore::new(0),
            tasks: TaskTracker::new(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub(crate) fn act(&self, webhooks: &str, returns: Returns) {
        let mut inner = self.inner();
        (inner.webhooks, inner.returns) = (webhooks.to_owned(), Some(returns));
    }

    pub(crate) fn acts(&self) -> bool {
        self.inner().returns.is_some()
    }

    pub(crate) fn fail_pushes(&self, fault: CallFault) {
        self.inner().push = fault;
    }

    pub(crate) fn fail_disconnects(&self, fault: CallFault) {
        self.inner().disconnect = fault;
    }

    pub(crate) fn release(&self, calls: usize) {
        self.released.add_permits(calls);
    }

    pub(crate) fn log(&self) -> Vec<ClientLine> {
        self.inner().log.clone()
    }

    /// Waits until the clients' log is as wanted.
    pub(crate) fn wait_for(&self, is_wanted: impl Fn(&[ClientLine]) -> bool) -> Vec<ClientLine> {
        self.wait(|inner| is_wanted(&inner.log)).log.clone()
    }

    /// Waits until so many calls are held.
    pub(crate) fn wait_for_held(&self, calls: usize) {
        drop(self.wait(|inner| inner.held >= calls));
    }

    fn wait(&self, is_wanted: impl Fn(&Inner) -> bool) -> MutexGuard<'_, Inner> {
        let (inner, waited) = self
            .changed
            .wait_timeout_while(self.inner(), PATIENCE, |inner| !is_wanted(inner))
            .unwrap();
        assert!(!waited.timed_out(), "waited in vain: {inner:#?}");
        inner
    }

    pub(crate) fn note(&self, channel_id: &str, event: ClientEvent) {
        let now = clock::now();
        self.inner().log.push(ClientLine {
            wall: now.wall,
            boot: now.boot,
            channel_id: channel_id.to_owned(),
            event,
        });
        self.changed.notify_all();
    }

    /// Answers `PushChannel`.
    pub(crate) async fn push(&self, body: &Value) -> (StatusCode, Value) {
        let fault = self.inner().push;
        self.pass(fault).await;
        let channel_id = body["channel_id"].as_str().unwrap_or_default();
        let clients = self.state.lock().unwrap().in_channel(channel_id);
        match (fault, clients) {
            (CallFault::Breaks, _) => broken(),
            (_, 0) => not_found(),
            (CallFault::Lies, _) => (StatusCode::OK, json!({})),
            (CallFault::None | CallFault::Held, _) => {
                for _ in 0..clients {
                    self.note(channel_id, ClientEvent::Notice(body["data"].clone()));
                }
                (StatusCode::OK, json!({}))
            }
        }
    }

    /// Answers `DisconnectChannel`: its clients are cut, and act.
    pub(crate) async fn disconnect(self: Arc<Self>, body: &Value) -> (StatusCode, Value) {
        let fault = self.inner().disconnect;
        self.pass(fault).await;
        let channel_id = body["channel_id"].as_str().unwrap_or_default().to_owned();
        let is_there = self.state.lock().unwrap().in_channel(&channel_id) > 0;
        match (fault, is_there) {
            (CallFault::Breaks, _) => broken(),
            (_, false) => not_found(),
            (CallFault::Lies, true) => (StatusCode::OK, json!({})),
            (CallFault::None | CallFault::Held, true) => {
                let reason = body["reason"].clone();
                let tasks = self.tasks.clone();
                tasks.spawn(self.cut(channel_id, reason));
                (StatusCode::OK, json!({}))
            }
        }
    }

    /// Waits while the call is held.
    async fn pass(&self, fault: CallFault) {
        if fault != CallFault::Held {
            return;
        }
        self.inner().held += 1;
        self.changed.notify_all();
        self.released.acquire().await.unwrap().forget();
        self.inner().held -= 1;
        self.changed.notify_all();
    }

    async fn cut(self: Arc<Self>, channel_id: String, reason: Value) {
        let (connections, session) = self.state.lock().unwrap().remove_channel(&channel_id);
        for _ in &connections {
            self.note(&channel_id, ClientEvent::Cut(reason.clone()));
        }
        for connection in &connections {
            let said = payload::connection_destroyed(connection, &self.id());
            self.send("event", &said).await;
        }
        if let Some(session) = session {
            let said = payload::session_destroyed(&session, &self.id());
            self.send("session", &said).await;
        }
        if self.inner().returns == Some(Returns::AtOnce) {
            for _ in &connections {
                self.join(&channel_id).await;
            }
        }
    }

    /// A client connects.
    async fn join(&self, channel_id: &str) {
        let connection = State::new_connection(&mut self.inner().rng, channel_id);
        let connections = self.state.lock().unwrap().in_channel(channel_id);
        let answer = self
            .send("auth", &payload::auth(&connection, connections))
            .await;
        if answer["allowed"] != true {
            let reason = answer["reason"].as_str().unwrap_or("INTERNAL-ERROR");
            return self.note(channel_id, ClientEvent::Rejected(reason.to_owned()));
        }
        let (connection, session) = self.enter(connection);
        self.note(channel_id, ClientEvent::Connected);
        if let Some(session) = session {
            let said = payload::session_created(&session, &self.id());
            self.send("session", &said).await;
        }
        let said = payload::connection_created(&connection, &self.id());
        self.send("event", &said).await;
    }

    fn enter(&self, connection: Connection) -> (Connection, Option<super::state::Session>) {
        let mut inner = self.inner();
        self.state.lock().unwrap().enter(&mut inner.rng, connection)
    }

    fn id(&self) -> String {
        EventId::generate(self.inner().rng.u128(..).to_le_bytes()).to_string()
    }

    /// Sends a webhook, and returns the answer; nothing if there is none. Sora does not repeat it after a failure.
    async fn send(&self, kind: &str, said: &Value) -> Value {
        let url = format!("{}/sora/{kind}", self.inner().webhooks);
        let mut request = self
            .client
            .post(url)
            .header("content-type", "application/json");
        if kind == "auth" {
            let connection_id = said["connection_id"].as_str().unwrap_or_default();
            request = request.header("sora-connection-id", connection_id);
        }
        let answer = async { request.body(said.to_string()).send().await?.bytes().await };
        let bytes = answer.await.unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }
}

fn broken() -> (StatusCode, Value) {
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        json!({"error_type": "HandlerException"}),
    )
}

fn not_found() -> (StatusCode, Value) {
    (
        StatusCode::BAD_REQUEST,
        json!({"error_type": "CHANNEL-NOT-FOUND"}),
    )
}
