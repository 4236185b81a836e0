//! A fake Sora: does for each client what a Sora does, in its order, and loses, repeats and reorders its webhooks on request.

mod api;
mod clients;
mod payload;
mod state;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;
use soramode_protocol::http_client::Outgoing;
use soramode_protocol::id::EventId;
use tokio::runtime::{Builder, Runtime};

use api::Api;
pub use api::Fault;
use clients::ActingClients;
pub use clients::{CallFault, ClientEvent, ClientLine, Returns};
use state::{Connection, State};

/// Timeout of a webhook.
const WEBHOOK_TIME: Duration = Duration::from_secs(20);

/// Failures of webhooks, in percent. The auth webhook never fails: Sora waits for its answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chaos {
    pub lost: u64,
    pub late: u64,
    pub twice: u64,
}

/// A Sora without media.
#[derive(Debug)]
pub struct FakeSora {
    runtime: Runtime,
    /// Base URL of the webhooks, without a path.
    pub webhooks: String,
    client: reqwest::Client,
    api: Arc<Api>,
    state: Arc<Mutex<State>>,
    rng: Rng,
    pub chaos: Chaos,
    /// Webhooks that others have overtaken.
    late: Vec<(&'static str, Value)>,
    /// `true` if an empty session ends at once.
    pub lingers: bool,
    /// Number of requested channel ends that were executed.
    ended: usize,
}

/// A client was rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Reason that the client sees: its WebSocket is closed with code 4490 and this.
    pub reason: String,
}

impl FakeSora {
    /// Creates a Sora that sends its webhooks to `webhooks` (`http://127.0.0.1:3100`).
    pub fn new(webhooks: &str, seed: u64) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let url = format!("{webhooks}/").parse().unwrap();
        let client =
            soramode_protocol::http_client::client(&url, WEBHOOK_TIME, &Outgoing::default())
                .unwrap();
        let clients = ActingClients::new(Arc::clone(&state), client.clone(), seed);
        let api = Arc::new(Api {
            state: Arc::clone(&state),
            clients: Arc::new(clients),
            fault: Mutex::default(),
            mode: Mutex::new("normal".to_owned()),
            asked: Mutex::default(),
            disconnected: Mutex::default(),
        });
        let (chaos, late) = (Chaos::default(), Vec::new());
        Self {
            runtime,
            webhooks: webhooks.to_owned(),
            client,
            api,
            state,
            rng: Rng::with_seed(seed),
            chaos,
            late,
            lingers: false,
            ended: 0,
        }
    }

    /// Serves the API there; gives the address.
    pub fn listen(&self, address: SocketAddr) -> SocketAddr {
        self.runtime
            .block_on(api::listen(address, Arc::clone(&self.api)))
            .unwrap()
    }

    pub fn fail(&self, fault: Fault) {
        *self.api.fault.lock().unwrap() = fault;
    }

    /// Lets the clients act by themselves from now on: the API cuts them, and they come back or not.
    pub fn let_clients_act(&self, returns: Returns) {
        self.api.clients.act(&self.webhooks, returns);
    }

    /// Sets the failure mode of `PushChannel`.
    pub fn fail_pushes(&self, fault: CallFault) {
        self.api.clients.fail_pushes(fault);
    }

    /// Sets the failure mode of `DisconnectChannel`, for clients that act by themselves.
    pub fn fail_disconnects(&self, fault: CallFault) {
        self.api.clients.fail_disconnects(fault);
    }

    /// Lets so many calls that are held go on.
    pub fn release_calls(&self, calls: usize) {
        self.api.clients.release(calls);
    }

    /// Waits until so many calls are held.
    pub fn wait_for_held_calls(&self, calls: usize) {
        self.api.clients.wait_for_held(calls);
    }

    /// Returns the clients' log.
    pub fn client_log(&self) -> Vec<ClientLine> {
        self.api.clients.log()
    }

    /// Waits until the clients' log is as wanted, and returns it.
    pub fn wait_for_client_log(
        &self,
        is_wanted: impl Fn(&[ClientLine]) -> bool,
    ) -> Vec<ClientLine> {
        self.api.clients.wait_for(is_wanted)
    }

    /// A client connects: gives its connection's id.
    pub fn connect(&mut self, channel_id: &str) -> Result<String, Denied> {
        let connection = self.ask(channel_id)?;
        Ok(self.arrive(connection))
    }

    /// The first half of it: the auth webhook.
    pub fn ask(&mut self, channel_id: &str) -> Result<Connection, Denied> {
        let connection = State::new_connection(&mut self.rng, channel_id);
        let connections = self.state.lock().unwrap().in_channel(channel_id);
        let request = self.client.post(format!("{}/sora/auth", self.webhooks));
        let request = request
            .header("sora-connection-id", &connection.connection_id)
            .header("content-type", "application/json");
        let request = request.body(payload::auth(&connection, connections).to_string());
        let answer = self
            .runtime
            .block_on(async { request.send().await?.error_for_status()?.bytes().await });
        let answer: Value = answer
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        if answer["allowed"] == true {
            return Ok(connection);
        }
        let reason = answer["reason"].as_str().unwrap_or("INTERNAL-ERROR");
        let rejected = ClientEvent::Rejected(reason.to_owned());
        self.api.clients.note(channel_id, rejected);
        Err(Denied {
            reason: reason.to_owned(),
        })
    }

    /// The second half: the client is connected.
    pub fn arrive(&mut self, connection: Connection) -> String {
        let (connection, session) = self.state.lock().unwrap().enter(&mut self.rng, connection);
        self.api
            .clients
            .note(&connection.channel_id, ClientEvent::Connected);
        if let Some(session) = session {
            let said = payload::session_created(&session, &self.id());
            self.report("session", said);
        }
        let said = payload::connection_created(&connection, &self.id());
        self.report("event", said);
        connection.connection_id
    }

    /// Adds clients that connected before any daemon listened: without an auth webhook and without events.
    pub fn add_unreported(&mut self, clients: u64, mut came: impl FnMut(String)) {
        for _ in 0..clients {
            let channel = format!("channel-{}", self.rng.u64(..3));
            let connection = State::new_connection(&mut self.rng, &channel);
            let (connection, _) = self.state.lock().unwrap().enter(&mut self.rng, connection);
            came(connection.connection_id);
        }
    }

    /// Number of channels with a client.
    pub fn channels(&self) -> usize {
        self.state.lock().unwrap().sessions.len()
    }

    /// A client leaves, and its session ends if it was the last.
    pub fn disconnect(&mut self, connection_id: &str) -> bool {
        let Some(connection) = self.state.lock().unwrap().connections.remove(connection_id) else {
            return false;
        };
        let said = payload::connection_destroyed(&connection, &self.id());
        self.report("event", said);
        if !self.lingers {
            self.close_sessions();
        }
        true
    }

    /// Ends the sessions without a client.
    pub fn close_sessions(&mut self) {
        let closed = self.state.lock().unwrap().close_empty();
        for session in closed {
            let said = payload::session_destroyed(&session, &self.id());
            self.report("session", said);
        }
    }

    /// Sends the webhooks that are late.
    pub fn settle(&mut self) {
        for (kind, said) in std::mem::take(&mut self.late) {
            self.send(kind, &said);
        }
    }

    /// Channel, session and connection of everybody.
    pub fn table(&self) -> Vec<[String; 3]> {
        let state = self.state.lock().unwrap();
        let row = |it: &Connection| {
            [
                it.channel_id.clone(),
                it.session_id.clone(),
                it.connection_id.clone(),
            ]
        };
        let mut table: Vec<[String; 3]> = state.connections.values().map(row).collect();
        table.sort();
        table
    }

    pub fn is_empty(&self) -> bool {
        self.state.lock().unwrap().connections.is_empty()
    }

    /// Returns a function that says, at any time and on any thread, whether no client is connected.
    pub fn watch_empty(&self) -> impl Fn() -> bool + Send + use<> {
        let state = Arc::clone(&self.state);
        move || state.lock().unwrap().connections.is_empty()
    }

    pub fn mode(&self) -> String {
        self.api.mode.lock().unwrap().clone()
    }

    /// Requests of the API, in order.
    pub fn asked(&self) -> Vec<String> {
        self.api.asked.lock().unwrap().clone()
    }

    /// Ends the connections of the channels that the API was asked to end.
    pub fn end_requested_channels(&mut self) {
        let channels = self.disconnected();
        for channel in channels.iter().skip(self.ended) {
            let ids: Vec<String> = self
                .table()
                .into_iter()
                .filter(|row| row[0] == *channel)
                .map(|[.., id]| id)
                .collect();
            for id in ids {
                self.disconnect(&id);
            }
        }
        self.ended = channels.len();
    }

    /// Channels that were asked to be ended.
    pub fn disconnected(&self) -> Vec<String> {
        self.api.disconnected.lock().unwrap().clone()
    }

    /// Returns a random number below `end`, from the seed of this Sora.
    pub fn random(&mut self, end: u64) -> u64 {
        self.rng.u64(..end)
    }

    /// Returns `true` `percent` times out of a hundred.
    fn percent(&mut self, percent: u64) -> bool {
        self.rng.u64(..100) < percent
    }

    fn id(&mut self) -> String {
        EventId::generate(self.rng.u128(..).to_le_bytes()).to_string()
    }

    fn report(&mut self, kind: &'static str, said: Value) {
        let Chaos { lost, late, twice } = self.chaos;
        if self.percent(lost) {
            return;
        }
        if self.percent(late) {
            self.late.push((kind, said));
            return;
        }
        self.send(kind, &said);
        if self.percent(twice) {
            self.send(kind, &said);
        }
        // Delayed webhooks are sent behind the ones that overtook them.
        self.settle();
    }

    fn send(&self, kind: &str, said: &Value) {
        let request = self
            .client
            .post(format!("{}/sora/{kind}", self.webhooks))
            .header("content-type", "application/json");
        // Sora does not repeat it after a failure.
        drop(
            self.runtime
                .block_on(async { request.body(said.to_string()).send().await }),
        );
    }
}
