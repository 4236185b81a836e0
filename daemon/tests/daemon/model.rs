//! Many random requests of several clients, beside a second and simpler idea of what the gate does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use serde_json::{Value, json};
use soramode_testkit::control_client::TestClient;
use soramode_testkit::daemon::Daemon;

const OPERATIONS: usize = 20_000;
const CLIENTS: usize = 4;
const BATCH_MAX: usize = 60;
const CHANNELS: usize = 8;
const CONNECTIONS: usize = 40;

/// Names the seed to go by; without it each run has its own.
const SEED_VARIABLE: &str = "SORAMODED_TEST_SEED";

/// 0 to `end` - 1.
fn below(rng: &mut Rng, end: usize) -> usize {
    usize::try_from(rng.u64(..u64::try_from(end).unwrap())).unwrap()
}

/// State of the model: the channel of each connection, the session of each channel.
#[derive(Debug, Default, PartialEq)]
struct Model {
    mode: String,
    connections: BTreeMap<String, String>,
    sessions: BTreeMap<String, String>,
}

impl Model {
    fn is_empty(&self, channel_id: &str) -> bool {
        !self.connections.values().any(|at| at == channel_id)
    }

    /// Checks a decision and takes it in.
    fn connect(&mut self, channel_id: &str, connection_id: &str, answer: &Value) {
        let result = &answer["result"];
        let is_new_session = self.is_empty(channel_id);
        match (self.connections.get(connection_id), self.mode.as_str()) {
            (Some(there), _) if there == channel_id => {
                assert_eq!(
                    (&result["type"], &result["created"]),
                    (&"offer".into(), &false.into()),
                    "{answer}"
                );
                assert_eq!(result["session_id"], self.sessions[channel_id]);
            }
            (Some(_), _) => assert_eq!(answer["error"]["data"]["error_type"], "ConnectionIdInUse"),
            (None, "block_new_connection") => {
                assert_eq!(result["reason"], "BLOCK-NEW-CONNECTION", "{answer}");
            }
            (None, "block_new_session") if is_new_session => {
                assert_eq!(result["reason"], "BLOCK-NEW-SESSION", "{answer}");
            }
            (None, _) => {
                assert_eq!(
                    (&result["type"], &result["created"]),
                    (&"offer".into(), &is_new_session.into()),
                    "{answer}"
                );
                let session_id = result["session_id"].as_str().unwrap().to_owned();
                if is_new_session {
                    self.sessions.insert(channel_id.to_owned(), session_id);
                } else {
                    assert_eq!(self.sessions[channel_id], session_id);
                }
                self.connections
                    .insert(connection_id.to_owned(), channel_id.to_owned());
            }
        }
    }

    fn disconnect(&mut self, connection_id: &str, answer: &Value) {
        let channel_id = self.connections.remove(connection_id);
        let result = &answer["result"];
        assert_eq!(
            (&result["found"], &result["channel_id"]),
            (&channel_id.is_some().into(), &json!(channel_id)),
            "{answer}"
        );
        if let Some(channel_id) = channel_id.filter(|channel_id| self.is_empty(channel_id)) {
            self.sessions.remove(&channel_id);
        }
    }

    /// Takes an event in: it must fit what was before it.
    fn replay(&mut self, event: &Value) {
        let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
        let (channel_id, session_id, connection_id) = (
            text("channel_id"),
            text("session_id"),
            text("connection_id"),
        );
        match event["type"].as_str().unwrap() {
            "session.created" => assert_eq!(self.sessions.insert(channel_id, session_id), None),
            "connection.created" => {
                assert_eq!(self.sessions[&channel_id], session_id);
                assert_eq!(self.connections.insert(connection_id, channel_id), None);
            }
            "connection.destroyed" => {
                assert_eq!(self.connections.remove(&connection_id), Some(channel_id));
            }
            "session.destroyed" => {
                assert!(self.is_empty(&channel_id));
                assert_eq!(self.sessions.remove(&channel_id), Some(session_id));
            }
            "session.vanished" => assert!(
                self.sessions.is_empty() && self.mode.starts_with("block"),
                "{event}"
            ),
            "mode.changed" => {
                assert_eq!(event["previous_mode"], self.mode.as_str());
                self.mode = text("mode");
            }
            other => panic!("no such event here: {other}"),
        }
    }
}

/// Operation of a client.
enum Operation {
    Connect(String, String),
    Disconnect(String),
}

/// A batch of one client: its channels and connections are its own, so that what others do at the same time makes no difference.
fn batch(
    random: &mut Rng,
    client: usize,
    lines: &mut String,
    line: &mut TestClient,
) -> Vec<(i64, Operation)> {
    let mut operations = Vec::new();
    for _ in 0..=below(random, BATCH_MAX) {
        let connection_id = format!("connection {client}/{}", below(random, CONNECTIONS));
        let (request, operation) = if below(random, 5) < 2 {
            let channel_id = format!("channel {client}/{}", below(random, CHANNELS));
            let params = json!({"channel_id": channel_id, "connection_id": connection_id});
            (
                line.request("Connect", &params),
                Operation::Connect(channel_id, connection_id),
            )
        } else {
            (
                line.request("Disconnect", &json!({"connection_id": connection_id})),
                Operation::Disconnect(connection_id),
            )
        };
        lines.push_str(&request.1);
        operations.push((request.0, operation));
    }
    operations
}

fn change_mode(random: &mut Rng, line: &mut TestClient, model: &mut Model) {
    let mode = ["normal", "block_new_session", "block_new_connection"][below(random, 3)];
    let changed = line.get("ChangeMode", &json!({"mode": mode}));
    let channels: BTreeSet<&String> = model.connections.values().collect();
    assert_eq!(
        (
            &changed["previous_mode"],
            &changed["changed"],
            &changed["sessions"],
            &changed["connections"]
        ),
        (
            &model.mode.as_str().into(),
            &(mode != model.mode).into(),
            &channels.len().into(),
            &model.connections.len().into()
        )
    );
    mode.clone_into(&mut model.mode);
}

#[test]
fn every_decision_count_and_event_is_the_models() {
    let seed = std::env::var(SEED_VARIABLE)
        .ok()
        .map(|seed| seed.parse().unwrap());
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .subsec_nanos();
    let seed = seed.unwrap_or(u64::from(nanos));
    eprintln!("{SEED_VARIABLE}={seed}");
    let mut random = Rng::with_seed(seed);
    let daemon = Daemon::with(|config| config.keep_events = 100_000);
    let mut model = Model {
        mode: "normal".to_owned(),
        ..Model::default()
    };
    let mut clients: Vec<TestClient> = (0..CLIENTS).map(|_| daemon.client()).collect();
    let mut done = 0;
    while done < OPERATIONS {
        let operator = below(&mut random, CLIENTS);
        change_mode(&mut random, &mut clients[operator], &mut model);
        done += 1;
        let mut asked = Vec::new();
        for (number, client) in clients.iter_mut().enumerate() {
            let mut lines = String::new();
            asked.push(batch(&mut random, number, &mut lines, client));
            client.send(lines);
        }
        for (client, operations) in clients.iter_mut().zip(asked) {
            done += operations.len();
            for (id, operation) in operations {
                let answer = client.recv();
                assert_eq!(answer["id"], id);
                match operation {
                    Operation::Connect(channel_id, connection_id) => {
                        model.connect(&channel_id, &connection_id, &answer);
                    }
                    Operation::Disconnect(connection_id) => {
                        model.disconnect(&connection_id, &answer);
                    }
                }
            }
        }
        let status = clients[0].status();
        assert_eq!(
            (&status["sessions"], &status["connections"]),
            (
                &model.sessions.len().into(),
                &model.connections.len().into()
            )
        );
    }
    check_events(&mut daemon.client(), &model);
}

fn check_events(reader: &mut TestClient, model: &Model) {
    let subscribed = reader.get("Subscribe", &json!({"from": 1}));
    let mut replayed = Model {
        mode: "normal".to_owned(),
        ..Model::default()
    };
    let mut must_vanish = false;
    for seq in 1..subscribed["next_seq"].as_u64().unwrap() {
        let message = reader.recv();
        let event = &message["params"];
        assert_eq!(
            (&message["method"], &event["seq"]),
            (&"Event".into(), &seq.into())
        );
        assert_eq!(must_vanish, event["type"] == "session.vanished", "{event}");
        replayed.replay(event);
        must_vanish = event["type"] == "session.destroyed"
            && replayed.sessions.is_empty()
            && replayed.mode != "normal";
    }
    assert_eq!(&replayed, model);
}
