//! A stand-in for a Sora: does for each client what a Sora does, in its order, and can be told to lose, repeat and reorder its webhooks.

#![allow(dead_code, reason = "the program and the tests each use a part of it")]

#[path = "api.rs"]
mod api;
#[path = "dice.rs"]
mod dice;
#[path = "truth.rs"]
mod truth;
#[path = "words.rs"]
mod words;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use soramode_protocol::http_client::Outgoing;
use soramode_protocol::id::EventId;
use tokio::runtime::{Builder, Runtime};

use api::Api;
pub(crate) use api::Fault;
use dice::Dice;
use truth::Truth;

/// How long a webhook may take.
const WEBHOOK_TIME: Duration = Duration::from_secs(20);

/// How webhooks go wrong, in times out of a hundred. The auth webhook never does: Sora waits for its answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chaos {
    pub(crate) lost: u64,
    pub(crate) late: u64,
    pub(crate) twice: u64,
}

/// The stand-in.
#[derive(Debug)]
pub(crate) struct Standin {
    runtime: Runtime,
    /// Where webhooks go, without a path.
    pub(crate) webhooks: String,
    client: reqwest::Client,
    api: Arc<Api>,
    truth: Arc<Mutex<Truth>>,
    dice: Dice,
    pub(crate) chaos: Chaos,
    /// Webhooks that others have overtaken.
    late: Vec<(&'static str, Value)>,
    /// Whether an empty session ends at once.
    pub(crate) lingers: bool,
    /// How many of the channels that were to be ended have been.
    obeyed: usize,
}

/// A client was not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denied {
    /// As the client sees it: its WebSocket is closed with code 4490 and this.
    pub(crate) reason: String,
}

impl Standin {
    /// One whose webhooks go to `webhooks` (`http://127.0.0.1:3100`).
    pub(crate) fn new(webhooks: &str, seed: u64) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let truth = Arc::new(Mutex::new(Truth::default()));
        let api = Arc::new(Api {
            truth: Arc::clone(&truth),
            mode: Mutex::new("normal".to_owned()),
            ..Api::default()
        });
        let url = format!("{webhooks}/").parse().unwrap();
        let client =
            soramode_protocol::http_client::client(&url, WEBHOOK_TIME, &Outgoing::default())
                .unwrap();
        let (chaos, late) = (Chaos::default(), Vec::new());
        Self {
            runtime,
            webhooks: webhooks.to_owned(),
            client,
            api,
            truth,
            dice: Dice(seed),
            chaos,
            late,
            lingers: false,
            obeyed: 0,
        }
    }

    /// Serves the API there; gives the address.
    pub(crate) fn listen(&self, address: SocketAddr) -> SocketAddr {
        self.runtime
            .block_on(api::listen(address, Arc::clone(&self.api)))
            .unwrap()
    }

    pub(crate) fn fail(&self, fault: Fault) {
        *self.api.fault.lock().unwrap() = fault;
    }

    /// A client connects: gives its connection's id.
    pub(crate) fn connect(&mut self, channel_id: &str) -> Result<String, Denied> {
        let connection = self.ask(channel_id)?;
        Ok(self.arrive(connection))
    }

    /// The first half of it: the auth webhook.
    pub(crate) fn ask(&mut self, channel_id: &str) -> Result<truth::Connection, Denied> {
        let connection = Truth::new_connection(&mut self.dice, channel_id);
        let connections = self.truth.lock().unwrap().in_channel(channel_id);
        let request = self.client.post(format!("{}/sora/auth", self.webhooks));
        let request = request
            .header("sora-connection-id", &connection.connection_id)
            .header("content-type", "application/json");
        let request = request.body(words::auth(&connection, connections).to_string());
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
        Err(Denied {
            reason: answer["reason"]
                .as_str()
                .unwrap_or("INTERNAL-ERROR")
                .to_owned(),
        })
    }

    /// The second half: the client is in.
    pub(crate) fn arrive(&mut self, connection: truth::Connection) -> String {
        let (connection, session) = self.truth.lock().unwrap().enter(&mut self.dice, connection);
        if let Some(session) = session {
            let said = words::session_created(&session, &self.id());
            self.tell("session", said);
        }
        let said = words::connection_created(&connection, &self.id());
        self.tell("event", said);
        connection.connection_id
    }

    /// Clients that were there before anybody listened: neither asked about nor told of.
    pub(crate) fn settle_in(&mut self, clients: u64, mut came: impl FnMut(String)) {
        for _ in 0..clients {
            let channel = format!("channel-{}", self.dice.roll(3));
            let connection = Truth::new_connection(&mut self.dice, &channel);
            let (connection, _) = self.truth.lock().unwrap().enter(&mut self.dice, connection);
            came(connection.connection_id);
        }
    }

    /// Channels that somebody is in.
    pub(crate) fn channels(&self) -> usize {
        self.truth.lock().unwrap().sessions.len()
    }

    /// A client leaves, and its session ends if it was the last.
    pub(crate) fn disconnect(&mut self, connection_id: &str) -> bool {
        let Some(connection) = self.truth.lock().unwrap().connections.remove(connection_id) else {
            return false;
        };
        let said = words::connection_destroyed(&connection, &self.id());
        self.tell("event", said);
        if !self.lingers {
            self.close_sessions();
        }
        true
    }

    /// Ends the sessions that nobody is in.
    pub(crate) fn close_sessions(&mut self) {
        let closed = self.truth.lock().unwrap().close_empty();
        for session in closed {
            let said = words::session_destroyed(&session, &self.id());
            self.tell("session", said);
        }
    }

    /// What is late comes now.
    pub(crate) fn settle(&mut self) {
        for (kind, said) in std::mem::take(&mut self.late) {
            self.send(kind, &said);
        }
    }

    /// Channel, session and connection of everybody.
    pub(crate) fn table(&self) -> Vec<[String; 3]> {
        let truth = self.truth.lock().unwrap();
        let row = |it: &truth::Connection| {
            [
                it.channel_id.clone(),
                it.session_id.clone(),
                it.connection_id.clone(),
            ]
        };
        let mut table: Vec<[String; 3]> = truth.connections.values().map(row).collect();
        table.sort();
        table
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.truth.lock().unwrap().connections.is_empty()
    }

    /// Tells at any time, from anywhere, whether nobody is there.
    pub(crate) fn watch_empty(&self) -> impl Fn() -> bool + Send + use<> {
        let truth = Arc::clone(&self.truth);
        move || truth.lock().unwrap().connections.is_empty()
    }

    pub(crate) fn mode(&self) -> String {
        self.api.mode.lock().unwrap().clone()
    }

    /// What the API was asked, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.api.asked.lock().unwrap().clone()
    }

    /// Cuts off whoever the API was asked to.
    pub(crate) fn obey(&mut self) {
        let channels = self.disconnected();
        for channel in channels.iter().skip(self.obeyed) {
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
        self.obeyed = channels.len();
    }

    /// Channels that were asked to be ended.
    pub(crate) fn disconnected(&self) -> Vec<String> {
        self.api.disconnected.lock().unwrap().clone()
    }

    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.dice.roll(sides)
    }

    fn id(&mut self) -> String {
        EventId::generate(self.dice.bytes()).to_string()
    }

    fn tell(&mut self, kind: &'static str, said: Value) {
        let Chaos { lost, late, twice } = self.chaos;
        if self.dice.percent(lost) {
            return;
        }
        if self.dice.percent(late) {
            self.late.push((kind, said));
            return;
        }
        self.send(kind, &said);
        if self.dice.percent(twice) {
            self.send(kind, &said);
        }
        // Whatever was overtaken comes behind what overtook it.
        self.settle();
    }

    fn send(&self, kind: &str, said: &Value) {
        let request = self
            .client
            .post(format!("{}/sora/{kind}", self.webhooks))
            .header("content-type", "application/json");
        // Sora does not send it again, whatever became of it.
        drop(
            self.runtime
                .block_on(async { request.body(said.to_string()).send().await }),
        );
    }
}
