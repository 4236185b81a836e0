//! A Sora with 200 clients, a daemon beside it, and a drain that is probed from outside.

use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use soramode_protocol::time::Time;
use soramode_testkit::PATIENCE;
use soramode_testkit::control_client::TestClient;
use soramode_testkit::fake_sora::{ClientEvent, ClientLine, FakeSora, Returns};
use soramoded::clock;

use crate::drill::soramoded;
use crate::plans::RISK;
use crate::support::{Ended, Run, Running, program, with_default_signals};

pub(super) const CHANNELS: usize = 50;
pub(super) const CLIENTS: usize = 4;

const SORA_PORT: u16 = 3_501;
const API_PORT: u16 = 3_502;
const OBSERVE_PORT: u16 = 3_503;

/// Interval of the probes.
const PROBE_EVERY: Duration = Duration::from_millis(100);

/// Options of the drain.
pub(super) struct Options {
    pub(super) lead: &'static str,
    pub(super) tighten_after: &'static str,
    pub(super) announce: &'static str,
    pub(super) end_after: &'static str,
    pub(super) end_rate: &'static str,
    /// Shortest time between two ends.
    pub(super) interval: Duration,
    /// Time from the start to the last end.
    pub(super) whole: Duration,
}

pub(super) const LONG: Options = Options {
    lead: "2s",
    tighten_after: "4s",
    announce: "3s",
    end_after: "8s",
    end_rate: "600/min",
    interval: Duration::from_millis(100),
    whole: Duration::from_secs(16),
};

pub(super) const SHORT: Options = Options {
    lead: "1s",
    tighten_after: "1s",
    announce: "1s",
    end_after: "3s",
    end_rate: "1200/min",
    interval: Duration::from_millis(50),
    whole: Duration::from_millis(7_500),
};

/// Stage of the drain, as far as the clients and the load balancer see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Lead,
    Closed,
    Tightened,
    Announced,
    Ending,
}

/// Something that happens to the node in a stage.
pub(super) type Disturbance = (Stage, fn(&mut Node));

/// Subject of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Readiness,
    NewChannel,
    Channel,
}

/// One probe: the page for load balancers, or a new client.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) subject: Subject,
    pub(super) began: Time,
    pub(super) ended: Time,
    pub(super) is_accepted: bool,
}

/// A node: a Sora with clients, and a daemon beside it.
pub(super) struct Node {
    folder: tempfile::TempDir,
    pub(super) sora: FakeSora,
    address: Ipv4Addr,
    daemon: Option<Running>,
    pub(super) probes: Vec<Probe>,
}

impl Node {
    /// Starts a node with 200 clients.
    pub(super) fn start() -> Self {
        let [_, second, third, fourth] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 150 + second % 50, third, fourth.clamp(1, 254));
        let sora = FakeSora::new(&format!("http://{address}:{SORA_PORT}"), 7);
        sora.listen(SocketAddr::new(address.into(), API_PORT));
        sora.let_clients_act(Returns::Never);
        let mut node = Self {
            folder: tempfile::tempdir().unwrap(),
            sora,
            address,
            daemon: None,
            probes: Vec::new(),
        };
        node.start_daemon();
        for number in 0..CHANNELS {
            for _ in 0..CLIENTS {
                node.sora.connect(&channel(number)).unwrap();
            }
        }
        node
    }

    fn start_daemon(&mut self) {
        let at = |port: u16| format!("{}:{port}", self.address);
        let mut command = with_default_signals(soramoded());
        command
            .env_clear()
            .args(["--node-name", "node-01", "--socket"])
            .arg(self.socket())
            .arg("--state-dir")
            .arg(self.folder.path().join("state"))
            .args(["--sora-listen", &at(SORA_PORT)])
            .args(["--sora-api", &format!("http://{}/", at(API_PORT))])
            .args(["--observe-listen", &at(OBSERVE_PORT)]);
        let mut running = command.running();
        running.until_said(" ready ");
        self.daemon = Some(running);
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("soramode.sock")
    }

    /// Kills the daemon, and starts it again.
    pub(super) fn kill(&mut self) {
        self.end_daemon();
        self.start_daemon();
    }

    fn end_daemon(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.stopped();
        }
    }

    /// Opens the node, as an operator does.
    pub(super) fn open(&mut self) {
        let ended = program(&self.socket()).args(["open"]).ended();
        assert_eq!(ended.code, 0, "{ended:?}");
    }

    /// Runs the drain to its end while probes are made. In the stage, if one is given, the disturbance happens once; returns when.
    pub(super) fn drain(
        &mut self,
        options: &Options,
        disturbance: Option<Disturbance>,
    ) -> (Ended, Option<Time>) {
        let mut command = program(&self.socket());
        command
            .args(["drain", "--lead", options.lead])
            .args(["--tighten-after", options.tighten_after])
            .args(["--announce", options.announce])
            .args(["--announce-text", "あと{minutes}分で終了します"])
            .args(["--end-after", options.end_after])
            .args(["--end-rate", options.end_rate, RISK]);
        let (sender, has_ended) = mpsc::channel();
        let waiting = thread::spawn(move || sender.send(command.ended()).unwrap());
        let (began, mut disturbance, mut disturbed) = (Instant::now(), disturbance, None);
        let ended = loop {
            match has_ended.recv_timeout(PROBE_EVERY) {
                Ok(ended) => break ended,
                Err(RecvTimeoutError::Timeout) => self.probe(),
                Err(RecvTimeoutError::Disconnected) => panic!("the drain was not waited for"),
            }
            if let Some((_, disturb)) = disturbance.take_if(|(stage, _)| self.has_reached(*stage)) {
                disturb(self);
                disturbed = Some(clock::now().wall);
            }
            assert!(began.elapsed() < PATIENCE, "the drain does not end");
        };
        waiting.join().unwrap();
        (ended, disturbed)
    }

    /// Makes probes for this time.
    pub(super) fn probe_for(&mut self, time: Duration) {
        let began = Instant::now();
        let (_sender, never) = mpsc::channel::<()>();
        while began.elapsed() < time {
            assert_eq!(
                never.recv_timeout(PROBE_EVERY),
                Err(RecvTimeoutError::Timeout)
            );
            self.probe();
        }
    }

    fn probe(&mut self) {
        let new_channel = format!("probe-{}", self.probes.len());
        for subject in [Subject::Readiness, Subject::NewChannel, Subject::Channel] {
            let began = clock::now().wall;
            let is_accepted = match subject {
                Subject::Readiness => self.is_ready(),
                Subject::NewChannel => self.comes_and_goes(&new_channel),
                Subject::Channel => self.comes_and_goes(&channel(0)),
            };
            self.probes.push(Probe {
                subject,
                began,
                ended: clock::now().wall,
                is_accepted,
            });
        }
    }

    fn is_ready(&self) -> bool {
        let mut stream = TcpStream::connect((self.address, OBSERVE_PORT)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "GET /ready/new-session HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.starts_with("HTTP/1.1 200 ")
    }

    /// A client connects, and leaves at once if it was admitted.
    fn comes_and_goes(&mut self, channel_id: &str) -> bool {
        let connected = self.sora.connect(channel_id);
        if let Ok(connection) = &connected {
            self.sora.disconnect(connection);
        }
        connected.is_ok()
    }

    fn has_reached(&self, stage: Stage) -> bool {
        let is_refused = |subject| {
            let mut probes = self.probes.iter();
            probes.any(|it: &Probe| it.subject == subject && !it.is_accepted)
        };
        match stage {
            Stage::Lead => is_refused(Subject::Readiness),
            Stage::Closed => is_refused(Subject::NewChannel),
            Stage::Tightened => is_refused(Subject::Channel),
            Stage::Announced => notices(&self.sora.client_log()).count() >= CHANNELS * CLIENTS,
            Stage::Ending => cuts(&self.sora.client_log()).count() >= 10 * CLIENTS,
        }
    }

    /// Events of the plan up to its end.
    pub(super) fn events(&self) -> Vec<Value> {
        let mut client = TestClient::to(&self.socket());
        let types = ["plan.*", "mode.changed", "session.vanished"];
        client.get("Subscribe", &json!({"from": 1, "types": types}));
        let mut events: Vec<Value> = Vec::new();
        while events
            .last()
            .is_none_or(|event| event["type"] != "plan.over")
        {
            let message = client.recv();
            if message["method"] == "Event" {
                events.push(message["params"].clone());
            }
        }
        events
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end_daemon();
    }
}

pub(super) fn channel(number: usize) -> String {
    format!("channel-{number:04}")
}

pub(super) fn notices(log: &[ClientLine]) -> impl Iterator<Item = (&ClientLine, &Value)> {
    log.iter().filter_map(|line| match &line.event {
        ClientEvent::Notice(notice) => Some((line, notice)),
        ClientEvent::Connected | ClientEvent::Rejected(_) | ClientEvent::Cut(_) => None,
    })
}

pub(super) fn cuts(log: &[ClientLine]) -> impl Iterator<Item = &ClientLine> {
    log.iter()
        .filter(|line| matches!(line.event, ClientEvent::Cut(_)))
}
