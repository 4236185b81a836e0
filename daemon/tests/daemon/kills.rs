//! Kills at random moments under load: what clients were promised against what a restart knows, and what the log says against what a
//! receiver of webhooks was sent.
//!
//! `SORAMODE_KILLS` says how often (200), `SORAMODE_SEED` with which random numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender, channel};
use std::time::Instant;

use fastrand::Rng;
use rustix::process::Signal;
use serde_json::{Value, json};
use soramode_testkit::PATIENCE;
use soramode_testkit::control_client::TestClient;
use soramode_testkit::receiver::{Receiver, ReceiverBehaviour};

use crate::process::Process;
use crate::state::Home;

const KILLS_DEFAULT: u64 = 200;
const CLIENTS: u64 = 16;

/// Answers before the kill, at most.
const ANSWERS_PER_ROUND: u64 = 1_000;

/// Connections that one client lets come and go.
const IDS_PER_CLIENT: u64 = 6;

/// State of a connection as the answers alone imply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Here,
    Ended,
    /// Asked for, and not answered.
    Unknown,
}

/// Promises that one client received.
struct Promises {
    client: u64,
    fates: BTreeMap<String, Fate>,
    /// The last generation in an answer to it, and whether it requested one more.
    generation: u64,
    asked: Option<String>,
    rng: Rng,
    answers: u64,
}

impl Promises {
    fn new(client: u64, seed: u64) -> Self {
        let ids = (0..IDS_PER_CLIENT)
            .map(|number| (format!("{client}-{number}"), Fate::Ended))
            .collect();
        Self {
            client,
            fates: ids,
            generation: 1,
            asked: None,
            rng: Rng::with_seed(seed.wrapping_mul(CLIENTS) + client),
            answers: 0,
        }
    }

    /// Comes and goes until the daemon is no more. The first client changes the mode now and then.
    fn load(mut self, socket: &Path, moment: &Moment) -> Self {
        let Ok(mut stream) = UnixStream::connect(socket) else {
            return self;
        };
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        loop {
            let (request, about) = self.request();
            let sent = stream.write_all(format!("{request}\n").as_bytes());
            let mut line = String::new();
            let heard = sent.and_then(|()| reader.read_line(&mut line));
            // Half a line is no answer.
            let Some(answer) = heard.ok().and_then(|_| line.strip_suffix('\n')) else {
                return self;
            };
            self.take(&serde_json::from_str(answer).unwrap(), about.as_deref());
            moment.answered();
        }
    }

    fn request(&mut self) -> (Value, Option<String>) {
        if self.client == 0 && self.rng.u64(..10) == 0 {
            let reason = format!("generation {} and one more", self.generation);
            self.asked = Some(reason.clone());
            let mode = if self.rng.u64(..8) == 0 {
                "block_new_session"
            } else {
                "normal"
            };
            return (
                json!({"id": 1, "method": "ChangeMode", "params": {"mode": mode, "reason": reason}}),
                None,
            );
        }
        let number = self.rng.u64(..IDS_PER_CLIENT);
        let connection_id = format!("{}-{number}", self.client);
        let was = self
            .fates
            .insert(connection_id.clone(), Fate::Unknown)
            .unwrap();
        let request = if was == Fate::Here || (was == Fate::Unknown && self.rng.u64(..2) == 0) {
            json!({"id": 1, "method": "Disconnect", "params": {"connection_id": connection_id}})
        } else {
            // Two clients to a channel, so that sessions have several connections.
            let channel_id = format!("channel {} {}", self.client / 2, number % 2);
            json!({"id": 1, "method": "Connect", "params": {"channel_id": channel_id, "connection_id": connection_id}})
        };
        (request, Some(connection_id))
    }

    fn take(&mut self, answer: &Value, about: Option<&str>) {
        self.answers += 1;
        let result = &answer["result"];
        let Some(connection_id) = about else {
            self.generation = result["generation"]
                .as_u64()
                .unwrap_or_else(|| panic!("{answer}"));
            self.asked = None;
            return;
        };
        let fate = match (result["type"].as_str(), result["found"].as_bool()) {
            (Some("offer"), _) => Fate::Here,
            (Some("reject"), _) | (_, Some(_)) => Fate::Ended,
            _ => panic!("{answer}"),
        };
        self.fates.insert(connection_id.to_owned(), fate);
    }
}

/// The moment of the kill: when so many answers have come.
struct Moment {
    answers_left: AtomicU64,
    has_come: Sender<()>,
}

impl Moment {
    fn after(answers: u64) -> (Arc<Self>, mpsc::Receiver<()>) {
        let (has_come, told) = channel();
        (
            Arc::new(Self {
                answers_left: AtomicU64::new(answers),
                has_come,
            }),
            told,
        )
    }

    fn answered(&self) {
        // Past the moment the count wraps, and comes round no second time.
        if self.answers_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.has_come.send(()).unwrap();
        }
    }
}

/// Promises to all clients, and the log so far.
struct World {
    home: Home,
    promises: Vec<Promises>,
    log_id: Option<Value>,
    /// Replay of the log: live connections, and the last event.
    live: BTreeSet<String>,
    last_seq: u64,
    checks: u64,
    /// Is told of each event of a session, some of them twice.
    receiver: Receiver,
    /// The events that it must be told of, in order: their ids and types.
    owed: Vec<(String, String)>,
}

impl World {
    /// Starts a daemon, looks whether it kept its word, and kills it at some moment of the load that follows.
    fn round(&mut self, rng: &mut Rng) {
        let process = self.start();
        self.check(&mut process.client());
        let (moment, has_come) = Moment::after(1 + rng.u64(..ANSWERS_PER_ROUND));
        let socket = self.home.socket();
        let clients = std::mem::take(&mut self.promises)
            .into_iter()
            .map(|promises| {
                let (socket, moment) = (socket.clone(), Arc::clone(&moment));
                std::thread::spawn(move || promises.load(&socket, &moment))
            });
        let clients: Vec<_> = clients.collect();
        has_come.recv_timeout(PATIENCE).unwrap();
        process.kill(Signal::KILL);
        self.promises = clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect();
    }

    fn start(&self) -> Process {
        self.home.start(&[
            "--keep-events",
            "1000000",
            "--webhook",
            &self.receiver.url(),
            "--webhook-events",
            "session.*",
        ])
    }

    fn check(&mut self, client: &mut TestClient) {
        self.check_log(client);
        self.check_connections(client);
        self.check_mode(client);
    }

    /// The log goes on without a gap or a repeat, and agrees with the tables.
    fn check_log(&mut self, client: &mut TestClient) {
        let subscribed = client.get("Subscribe", &json!({"from": self.last_seq + 1}));
        let log_id = self
            .log_id
            .get_or_insert_with(|| subscribed["log_id"].clone());
        assert_eq!(*log_id, subscribed["log_id"]);
        let next_seq = subscribed["next_seq"].as_u64().unwrap();
        while self.last_seq + 1 < next_seq {
            let message = client.recv();
            let event = &message["params"];
            assert_eq!(
                (&message["method"], &event["seq"]),
                (&"Event".into(), &(self.last_seq + 1).into()),
                "{message}"
            );
            self.last_seq += 1;
            self.checks += 1;
            let connection_id = || event["connection_id"].as_str().unwrap().to_owned();
            match event["type"].as_str().unwrap() {
                "connection.created" => {
                    assert!(self.live.insert(connection_id()), "{event}: twice");
                }
                event_type @ ("session.created" | "session.destroyed" | "session.vanished") => {
                    self.owed.push((
                        event["id"].as_str().unwrap().to_owned(),
                        event_type.to_owned(),
                    ));
                }
                "connection.destroyed" => {
                    assert!(self.live.remove(&connection_id()), "{event}: was not there");
                }
                _ => {}
            }
        }
        client.get("Unsubscribe", &json!({}));
    }

    /// Checks that all promised connections exist, that all promised disconnections hold, and that
    /// there are no others.
    fn check_connections(&mut self, client: &mut TestClient) {
        let page = client.get("ListConnections", &json!({"limit": 1_000}));
        let here: BTreeSet<String> = page["connections"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["connection_id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(here, self.live, "the log has others");
        let mut nobody_asked_for = here.clone();
        for (connection_id, fate) in self
            .promises
            .iter_mut()
            .flat_map(|promises| &mut promises.fates)
        {
            let is_here = here.contains(connection_id);
            nobody_asked_for.remove(connection_id);
            self.checks += 1;
            match *fate {
                Fate::Here => assert!(is_here, "{connection_id} was let in, and is lost"),
                Fate::Ended => assert!(!is_here, "{connection_id} had gone, and is back"),
                Fate::Unknown => *fate = if is_here { Fate::Here } else { Fate::Ended },
            }
        }
        assert!(
            nobody_asked_for.is_empty(),
            "{nobody_asked_for:?} are there, and nobody asked for them"
        );
    }

    /// The receiver was sent every event, in the order in which they happened. That the node was empty may have been left out: if it
    /// was open again by then.
    fn check_receiver(&mut self, client: &mut TestClient) {
        client.get("Subscribe", &json!({"types": ["delivery.succeeded"]}));
        while client.status()["deliveries"]["pending"] != 0 {
            client.recv_event("delivery.succeeded");
        }
        let (mut seen, mut told) = (BTreeSet::new(), Vec::new());
        for request in self.receiver.received() {
            let id = request.body["id"].as_str().unwrap().to_owned();
            if seen.insert(id.clone()) {
                told.push((id, request.event_type().to_owned()));
            }
        }
        self.owed
            .retain(|(id, event_type)| event_type != "session.vanished" || seen.contains(id));
        assert!(
            told == self.owed,
            "told of {} events, owed {}",
            told.len(),
            self.owed.len()
        );
        self.checks += told.len() as u64;
    }

    fn check_mode(&mut self, client: &mut TestClient) {
        let mode = client.get("GetMode", &json!({}));
        let generation = mode["generation"].as_u64().unwrap();
        let operator = &mut self.promises[0];
        match &operator.asked {
            // It was asked for, and may have come to pass.
            Some(reason) if generation == operator.generation + 1 => {
                assert_eq!(mode["reason"], **reason);
            }
            _ => assert_eq!(generation, operator.generation, "{mode}"),
        }
        (operator.generation, operator.asked) = (generation, None);
        self.checks += 1;
    }
}

#[test]
fn nothing_promised_is_lost_and_nothing_is_invented() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|value| value.parse::<u64>().unwrap())
    };
    let (kills, seed) = (
        number("SORAMODE_KILLS").unwrap_or(KILLS_DEFAULT),
        number("SORAMODE_SEED").unwrap_or(1),
    );
    let began = Instant::now();
    let promises = (0..CLIENTS)
        .map(|client| Promises::new(client, seed))
        .collect();
    let (live, receiver) = (
        BTreeSet::new(),
        Receiver::start(|_| ReceiverBehaviour::ok()),
    );
    let mut world = World {
        home: Home::new(),
        promises,
        log_id: None,
        live,
        last_seq: 0,
        checks: 0,
        receiver,
        owed: Vec::new(),
    };
    let mut rng = Rng::with_seed(seed);
    for _ in 0..kills {
        world.round(&mut rng);
    }
    let process = world.start();
    world.check(&mut process.client());
    world.check_receiver(&mut process.client());
    let answers: u64 = world.promises.iter().map(|promises| promises.answers).sum();
    let (events, deliveries, checks) = (world.last_seq, world.owed.len(), world.checks);
    let took = began.elapsed();
    // Past the harness, which keeps what a test that passes says.
    writeln!(std::io::stderr(), "kills: {kills}, {answers} answers, {events} events, {deliveries} deliveries, {checks} checks, {took:.1?}")
        .unwrap();
}
