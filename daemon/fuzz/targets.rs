//! What the fuzzer does with its bytes, and what the replay of the corpus does with each file of it: what comes from outside goes through
//! its reader into a gate, and the gate's tables must agree after every step.

use std::sync::Arc;
use std::time::Duration;

use soramode_core::gate::Gate;
use soramode_core::input::{Input, SocketId, SoraInput, Ticket, Timestamp};
use soramode_core::snapshot::{Clustering, Seed, Settings, Snapshot, SoraAdmission, SoraFeed, SoraSettings, Stored};
use soramode_protocol::codec::{LineBuffer, REQUEST_BYTES_MAX};
use soramode_protocol::envelope::{Answered, read_request, write_line};
use soramode_protocol::event::WebhookSource;
use soramode_protocol::id::NodeName;
use soramode_protocol::node::{Storage, StorageState};
use soramode_protocol::request::Request;
use soramode_protocol::time::Time;
use soramoded::http::sora::webhook::{Auth, read_auth, read_told};

/// A gate, and how often it was stepped.
struct World {
    gate: Gate,
    steps: u64,
}

impl World {
    fn new() -> Self {
        let started = Timestamp { wall: Time::from_micros(0), boot: Duration::ZERO };
        Self { gate: Gate::restore(Snapshot { settings: settings(), started, stored: Stored::default() }, Seed([7; 32])), steps: 0 }
    }

    fn step(&mut self, input: Input) {
        self.steps += 1;
        let boot = Duration::from_secs(self.steps);
        let now = Timestamp { wall: Time::from_micros(0) + boot, boot };
        let effects = self.gate.step(now, input);
        for act in &effects.acts {
            if let soramode_core::effect::Act::Answer(_, answer) = act {
                let id = soramode_protocol::envelope::ReplyTo::Null;
                let mut line = Vec::new();
                write_line(&mut line, &Answered::new(&id, answer.as_ref())).unwrap();
                assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1), "an answer is one line");
            }
        }
        self.gate.check().unwrap();
    }
}

fn settings() -> Settings {
    Settings {
        node_name: NodeName::new("node-01").unwrap(),
        clustering: Clustering::Standalone,
        cluster: None,
        mode: None,
        session_linger: Duration::ZERO,
        max_connections: 100,
        pending_timeout: Duration::from_secs(30),
        socket_grace: Duration::from_secs(30),
        sessions_known: true,
        sora: SoraSettings { feed: SoraFeed::Webhooks, admission: SoraAdmission::Enforced, session_max_linger: Duration::from_mins(1) },
        storage: Storage { state: StorageState::Memory, path: None },
        webhooks: Vec::new(),
    }
}

/// Bytes as they come over the control socket.
pub(crate) fn socket_lines(bytes: &[u8]) {
    let mut world = World::new();
    let mut lines = LineBuffer::new(REQUEST_BYTES_MAX);
    lines.space().extend_from_slice(bytes);
    lines.end();
    while let Ok(Some(line)) = lines.next_line() {
        let incoming = read_request(line);
        if let Ok((_, Request::Gate(request))) = incoming.request {
            let ticket = Ticket { socket: SocketId(1 + world.steps % 3), serial: world.steps };
            world.step(Input::Ask { ticket, actor: Arc::from("uid:0"), request });
        }
    }
}

/// Bodies of webhooks, one a line; a line's first byte says which kind it is.
pub(crate) fn webhooks(bytes: &[u8]) {
    let mut world = World::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some((kind, body)) = line.split_first() else { continue };
        let source = match kind {
            b'a' => {
                if let Ok(Auth { channel_id, connection_id, client_id }) = read_auth(body) {
                    let ticket = Ticket { socket: SocketId(0), serial: world.steps };
                    world.step(Input::Sora(SoraInput::Admit { ticket, channel_id, connection_id, client_id }));
                }
                continue;
            }
            b's' => WebhookSource::Session,
            _ => WebhookSource::Event,
        };
        if let Ok(input) = read_told(source, body, Time::from_micros(0)) {
            world.step(Input::Sora(input));
        }
    }
}
