//! Fuzz targets, used by the fuzzer and by the replay of the corpus: external input goes through
//! its parser into a gate; the gate's tables must agree after every step.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::HeaderMap;
use rusqlite::Connection;
use soramode_core::gate::Gate;
use soramode_core::handles::{ReplyHandle, SocketId, Timestamp};
use soramode_core::input::{HostState, Input, PolledConnection, SoraInput};
use soramode_core::restore::{Seed, StartParams};
use soramode_core::settings::{Settings, SfuAdmission, SfuFeed, SfuMeans, SfuSettings};
use soramode_core::stored::Stored;
use soramode_protocol::codec::{LineBuffer, REQUEST_BYTES_MAX};
use soramode_protocol::envelope::{parse_strict, read_request, write_answer};
use soramode_protocol::event::WebhookSource;
use soramode_protocol::id::NodeName;
use soramode_protocol::node::{Storage, StorageState};
use soramode_protocol::request::Request;
use soramode_protocol::sora::{SoraConnection, TARGET_HEADER};
use soramode_protocol::time::Time;
use soramoded::config::parse_file;
use soramoded::http::api::call::Call;
use soramoded::http::api::target::RequestTarget;
use soramoded::sfu::sora::webhooks::read::{Auth, read_auth, read_report};
use soramoded::store::load::load;
use soramoded::store::schema::migrate;

/// A gate, and how often it was stepped.
struct World {
    gate: Gate,
    steps: u64,
}

impl World {
    fn new() -> Self {
        Self::restored(Stored::default())
    }

    fn restored(stored: Stored) -> Self {
        let started = Timestamp {
            wall: Time::from_micros(0),
            boot: Duration::ZERO,
        };
        Self {
            gate: Gate::restore(
                StartParams {
                    settings: settings(),
                    started,
                    stored,
                },
                Seed([7; 32]),
            ),
            steps: 0,
        }
    }

    fn step(&mut self, input: Input) {
        self.steps += 1;
        let boot = Duration::from_secs(self.steps);
        let now = Timestamp {
            wall: Time::from_micros(0) + boot,
            boot,
        };
        let effects = self.gate.step(now, input);
        for action in &effects.actions {
            if let soramode_core::effect::Action::Answer(_, answer) = action {
                let id = soramode_protocol::envelope::ReplyTo::Null;
                let mut line = Vec::new();
                write_answer(&mut line, &id, answer.as_ref()).unwrap();
                assert_eq!(
                    line.iter().position(|byte| *byte == b'\n'),
                    Some(line.len() - 1),
                    "an answer is one line"
                );
            }
        }
        self.gate.check().unwrap();
    }
}

fn settings() -> Settings {
    Settings {
        node_name: NodeName::new("node-01").unwrap(),
        cluster: None,
        mode: None,
        reconnect_grace: Duration::ZERO,
        stall_after: Duration::from_mins(10),
        max_connections: 100,
        pending_timeout: Duration::from_secs(30),
        socket_grace: Duration::from_secs(30),
        assume_complete: true,
        sfu: SfuSettings {
            feed: SfuFeed::Webhooks,
            api_url: None,
            admission: SfuAdmission::Enforced,
            means: SfuMeans::SORA_API,
            session_max_linger: Duration::from_mins(1),
        },
        storage: Storage {
            state: StorageState::Memory,
            path: None,
        },
        receivers: Vec::new(),
    }
}

/// Bytes as they come over the control socket.
pub(crate) fn socket_lines(bytes: &[u8]) {
    let mut world = World::new();
    let mut lines = LineBuffer::new(REQUEST_BYTES_MAX);
    lines.read_buf().extend_from_slice(bytes);
    lines.end();
    while let Ok(Some(line)) = lines.next_line() {
        let incoming = read_request(line);
        assert_eq!(
            incoming,
            parse_strict(line),
            "a line that is read at once is read as any other"
        );
        if let Ok((_, Request::Gate(request))) = incoming.request {
            let reply_to = ReplyHandle {
                socket: SocketId(1 + world.steps % 3),
                serial: world.steps,
            };
            world.step(Input::Request {
                reply_to,
                actor: Arc::from("uid:0"),
                request,
            });
        }
    }
}

/// Bodies of webhooks, one a line; a line's first byte says which kind it is.
pub(crate) fn webhooks(bytes: &[u8]) {
    let mut world = World::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some((kind, body)) = line.split_first() else {
            continue;
        };
        let source = match kind {
            b'a' => {
                if let Ok(Auth {
                    channel_id,
                    connection_id,
                    client_id,
                }) = read_auth(body)
                {
                    let reply_to = ReplyHandle {
                        socket: SocketId(0),
                        serial: world.steps,
                    };
                    world.step(Input::Sora(SoraInput::Admit {
                        reply_to,
                        channel_id,
                        connection_id,
                        client_id,
                    }));
                }
                continue;
            }
            b's' => WebhookSource::Session,
            _ => WebhookSource::Event,
        };
        if let Ok(input) = read_report(source, body, Time::from_micros(0)) {
            world.step(Input::Sora(input));
        }
    }
}

/// Calls of Sora's API, each in two lines: the target and the body. And what a Sora says that is asked for its connections.
pub(crate) fn api_calls(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    while let (Some(target), Some(body)) = (lines.next(), lines.next()) {
        let mut headers = HeaderMap::new();
        if let Ok(target) = target.try_into() {
            headers.append(TARGET_HEADER, target);
        }
        if let Ok(asked) = RequestTarget::read(&headers) {
            Call::read(&asked, body).map(drop).unwrap_or_default();
        }
        if let Ok(connections) = serde_json::from_slice::<Vec<SoraConnection>>(body) {
            let mut world = World::new();
            let connections = connections.into_iter().map(polled).collect();
            world.step(Input::Sora(SoraInput::Polled {
                began: Duration::ZERO,
                connections,
            }));
        }
    }
}

fn polled(connection: SoraConnection) -> PolledConnection {
    let SoraConnection {
        channel_id,
        session_id,
        client_id,
        connection_id,
        created_time,
        created_timestamp,
    } = connection;
    let created_at = created_timestamp.or(created_time.map(Time::from_micros));
    PolledConnection {
        channel_id,
        session_id,
        connection_id,
        client_id,
        created_at,
    }
}

/// The tables that a state is stored in, by a line's first byte, and the columns that the line's words fill.
const TABLES: [(u8, &str, usize); 5] = [
    (b'f', "INSERT OR REPLACE INTO facts VALUES (?, ?)", 2),
    (b'm', "INSERT OR REPLACE INTO mode_changes VALUES (?, ?)", 2),
    (
        b's',
        "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)",
        7,
    ),
    (
        b'c',
        "INSERT OR REPLACE INTO connections VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        8,
    ),
    (
        b'd',
        "INSERT OR REPLACE INTO deliveries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        12,
    ),
];

/// Loads a stored state: one row per line, its columns between tabs. Rows that can be read must
/// make a valid start.
pub(crate) fn stored_state(bytes: &[u8]) {
    static STATES: AtomicU64 = AtomicU64::new(0);
    let name = format!("file:/{}?vfs=memdb", STATES.fetch_add(1, Ordering::Relaxed));
    let [mut database, mut other] = [(); 2].map(|()| Connection::open(&name).unwrap());
    migrate(&mut database).unwrap();
    for line in String::from_utf8_lossy(bytes).lines() {
        let mut words = line.split('\t');
        let Some(kind) = words.next().and_then(|word| word.bytes().next()) else {
            continue;
        };
        let Some((_, sql, columns)) = TABLES.iter().find(|(letter, ..)| *letter == kind) else {
            continue;
        };
        let mut values: Vec<Option<&str>> = words
            .take(*columns)
            .map(|word| (word != "NULL").then_some(word))
            .collect();
        values.resize(*columns, None);
        // The tables cannot hold rows that their own constraints refuse.
        database
            .execute(sql, rusqlite::params_from_iter(values))
            .unwrap_or_default();
    }
    if let Ok(stored) = load(&database, &mut other) {
        let mut world = World::restored(stored);
        world.step(Input::Started(if bytes.len().is_multiple_of(2) {
            HostState::Running
        } else {
            HostState::Rebooted
        }));
        world.step(Input::Tick);
    }
}

/// Parses a configuration file.
pub(crate) fn config_files(bytes: &[u8]) {
    if let Err(error) = parse_file("soramoded.toml".as_ref(), &String::from_utf8_lossy(bytes)) {
        assert!(!error.to_string().is_empty());
    }
}
