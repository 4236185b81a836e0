//! Maintenance plans, end to end: soramoded in a process of its own, beside a Sora with clients that act by themselves and keep a log.

mod balancer;
mod faults;
mod interfaces;
mod opened;
mod rate;
mod stages;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use serde_json::{Value, json};
use soramode_protocol::time::Time;
use soramode_testkit::PATIENCE;
use soramode_testkit::control_client::TestClient;
use soramode_testkit::fake_sora::{ClientEvent, ClientLine, FakeSora, Returns};

use crate::process::Process;
use crate::state::Home;

const SORA_PORT: u16 = 3_501;
const API_PORT: u16 = 3_502;
const OBSERVE_PORT: u16 = 3_503;

/// Events of a plan.
const PLAN_EVENTS: [&str; 5] = [
    "plan.*",
    "mode.changed",
    "maintenance.announced",
    "end.requested",
    "session.vanished",
];

/// A Sora, and the state of a soramoded beside it over several starts.
struct Beside {
    home: Home,
    sora: FakeSora,
    address: Ipv4Addr,
}

impl Beside {
    fn new(returns: Returns) -> Self {
        let [_, second, third, fourth] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 200 + second % 50, third, fourth.clamp(1, 254));
        let sora = FakeSora::new(&format!("http://{address}:{SORA_PORT}"), 7);
        sora.listen(SocketAddr::new(address.into(), API_PORT));
        sora.let_clients_act(returns);
        Self {
            home: Home::new(),
            sora,
            address,
        }
    }

    fn start(&self, flags: &[&str]) -> Process {
        let [sora, observe] =
            [SORA_PORT, OBSERVE_PORT].map(|port| format!("{}:{port}", self.address));
        let api = self.api();
        let own = [
            "--node-name",
            "node-01",
            "--sora-listen",
            &sora,
            "--sora-api",
            &api,
            "--observe-listen",
            &observe,
        ];
        self.home.start(&[&own, flags].concat())
    }

    /// URL of Sora's API.
    fn api(&self) -> String {
        format!("http://{}:{API_PORT}/", self.address)
    }

    /// Connects clients: so many to each of so many channels.
    fn fill(&mut self, channels: usize, clients: usize) {
        for number in 0..channels {
            for _ in 0..clients {
                self.sora.connect(&channel(number)).unwrap();
            }
        }
    }

    /// Status and body of a page for load balancers and monitoring.
    fn observe(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect((self.address, OBSERVE_PORT)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap();
        (status.parse().unwrap(), body.to_owned())
    }
}

fn channel(number: usize) -> String {
    format!("channel-{number:04}")
}

/// A client that receives the events of plans from the first one on.
fn watcher(process: &Process) -> TestClient {
    let mut client = process.client();
    client.get("Subscribe", &json!({"from": 1, "types": PLAN_EVENTS}));
    client
}

/// Events up to the one of this type.
fn events_until(client: &mut TestClient, last: &str) -> Vec<Value> {
    let mut events: Vec<Value> = Vec::new();
    while events.last().is_none_or(|event| event["type"] != last) {
        let message = client.recv();
        if message["method"] == "Event" {
            events.push(message["params"].clone());
        }
    }
    events
}

/// Waits until the step with this number, from 1, was done.
fn recv_step(client: &mut TestClient, number: u64) {
    while client.recv_event("plan.step")["step"] != number {}
}

fn start_plan(client: &mut TestClient, steps: &Value) -> Value {
    client.get(
        "StartPlan",
        &json!({"steps": steps, "reason": "kernel", "accept_risk": "cuts-clients"}),
    )
}

/// Unready, then closed, with an announcement at the close; sessions end 2 s later.
fn short_steps(per_minute: u32) -> Value {
    json!([
        {"do": "unready", "at_seconds": -1},
        {"do": "mode", "at_seconds": 0, "mode": "block_new_session"},
        {"do": "announce", "at_seconds": 0, "text": "The session ends in {minutes} min", "data": {"level": 1}},
        {"do": "announce", "at_seconds": 1},
        {"do": "end", "at_seconds": 2, "per_minute": per_minute},
    ])
}

fn cuts(log: &[ClientLine]) -> Vec<&ClientLine> {
    log.iter()
        .filter(|line| matches!(line.event, ClientEvent::Cut(_)))
        .collect()
}

fn notices<'a>(log: &'a [ClientLine], channel_id: &str) -> Vec<&'a Value> {
    log.iter()
        .filter(|line| line.channel_id == channel_id)
        .filter_map(|line| match &line.event {
            ClientEvent::Notice(data) => Some(data),
            ClientEvent::Connected | ClientEvent::Rejected(_) | ClientEvent::Cut(_) => None,
        })
        .collect()
}

/// Checks that each cut came after the time that was announced last, for the plan, and to clients that were notified.
fn check_cuts(log: &[ClientLine], plan_id: &Value) {
    for cut in cuts(log) {
        let ClientEvent::Cut(reason) = &cut.event else {
            continue;
        };
        assert_eq!(
            *reason,
            json!({"kind": "maintenance", "plan_id": plan_id}),
            "{cut:?}"
        );
        let told = notices(log, &cut.channel_id);
        let last = told
            .last()
            .unwrap_or_else(|| panic!("nobody told the clients of {}", cut.channel_id));
        let ends_at: Time = last["sessions_end_at"].as_str().unwrap().parse().unwrap();
        assert!(cut.wall >= ends_at, "{cut:?}, told {last}");
    }
}
