//! The timeline of a drain with every option of a plan, as 200 clients of a Sora see it: undisturbed, with a kill of the daemon in each stage,
//! and with an operator that opens the node in each stage.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use soramode_protocol::time::Time;
use soramode_testkit::PATIENCE;
use soramode_testkit::control_client::TestClient;
use soramode_testkit::fake_sora::{ClientEvent, ClientLine, FakeSora, Returns};
use soramoded::clock;

use crate::drill::soramoded;
use crate::plans::RISK;
use crate::support::{Ended, Run, Running, program, with_default_signals};

const CHANNELS: usize = 50;
const CLIENTS: usize = 4;

const SORA_PORT: u16 = 3_501;
const API_PORT: u16 = 3_502;
const OBSERVE_PORT: u16 = 3_503;

/// Interval of the probes.
const PROBE_EVERY: Duration = Duration::from_millis(100);

/// Time in which a change reaches the page for load balancers.
const READY_LAG: Duration = Duration::from_millis(200);

/// Number of calls that may be in flight.
const CALLS_MAX: usize = 8;

/// Options of the drain.
struct Options {
    lead: &'static str,
    tighten_after: &'static str,
    announce: &'static str,
    end_after: &'static str,
    end_rate: &'static str,
    /// Shortest time between two ends.
    interval: Duration,
    /// Time from the start to the last end.
    whole: Duration,
}

const LONG: Options = Options {
    lead: "2s",
    tighten_after: "4s",
    announce: "3s",
    end_after: "8s",
    end_rate: "600/min",
    interval: Duration::from_millis(100),
    whole: Duration::from_secs(16),
};

const SHORT: Options = Options {
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
enum Stage {
    Lead,
    Closed,
    Tightened,
    Announced,
    Ending,
}

/// Subject of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Readiness,
    NewChannel,
    Channel,
}

/// One probe: the page for load balancers, or a new client.
#[derive(Clone, Debug)]
struct Probe {
    subject: Subject,
    began: Time,
    ended: Time,
    is_accepted: bool,
}

/// A node: a Sora with clients, and a daemon beside it.
struct Node {
    folder: tempfile::TempDir,
    sora: FakeSora,
    address: Ipv4Addr,
    daemon: Option<Running>,
    probes: Vec<Probe>,
}

impl Node {
    /// Starts a node with 200 clients.
    fn start() -> Self {
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
    fn kill(&mut self) {
        let daemon = self.daemon.take().unwrap();
        daemon.signal(Signal::SIGKILL);
        daemon.ended();
        self.start_daemon();
    }

    /// Opens the node, as an operator does.
    fn open(&mut self) {
        let ended = program(&self.socket()).args(["open"]).ended();
        assert_eq!(ended.code, 0, "{ended:?}");
    }

    /// Runs the drain to its end while probes are made. In the stage, if one is given, the disturbance happens once; returns when.
    fn drain(
        &mut self,
        options: &Options,
        disturbance: Option<(Stage, fn(&mut Self))>,
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
    fn probe_for(&mut self, time: Duration) {
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
    fn events(&self) -> Vec<Value> {
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

fn channel(number: usize) -> String {
    format!("channel-{number:04}")
}

fn notices(log: &[ClientLine]) -> impl Iterator<Item = (&ClientLine, &Value)> {
    log.iter().filter_map(|line| match &line.event {
        ClientEvent::Notice(notice) => Some((line, notice)),
        ClientEvent::Connected | ClientEvent::Rejected(_) | ClientEvent::Cut(_) => None,
    })
}

fn cuts(log: &[ClientLine]) -> impl Iterator<Item = &ClientLine> {
    log.iter()
        .filter(|line| matches!(line.event, ClientEvent::Cut(_)))
}

fn rejections<'a>(log: &'a [ClientLine], reason: &str) -> impl Iterator<Item = &'a ClientLine> {
    let rejected = ClientEvent::Rejected(reason.to_owned());
    log.iter().filter(move |line| line.event == rejected)
}

fn time_of(event: &Value) -> Time {
    event["timestamp"].as_str().unwrap().parse().unwrap()
}

/// Checks that probes of this subject were accepted before the change, and that none was after it.
fn check_probes(probes: &[Probe], subject: Subject, changed: Time) {
    let of_subject = || probes.iter().filter(|probe| probe.subject == subject);
    let lag = match subject {
        Subject::Readiness => READY_LAG,
        Subject::NewChannel | Subject::Channel => Duration::ZERO,
    };
    for probe in of_subject() {
        assert!(
            probe.is_accepted || probe.ended >= changed,
            "refused before {changed}: {probe:?}"
        );
        assert!(
            !probe.is_accepted || probe.began <= changed + lag,
            "accepted after {changed}: {probe:?}"
        );
    }
    assert!(
        of_subject().any(|probe| !probe.is_accepted),
        "{subject:?} was never refused"
    );
}

/// Checks each clause of a drain that ran to its end. Returns the timeline, for people.
fn check(node: &Node, options: &Options) -> String {
    let events = node.events();
    let steps: Vec<Time> = events
        .iter()
        .filter(|event| event["type"] == "plan.step")
        .map(time_of)
        .collect();
    let [unready, close, tighten, announce, end] = steps[..] else {
        panic!("{events:#?}");
    };
    check_probes(&node.probes, Subject::Readiness, unready);
    check_probes(&node.probes, Subject::NewChannel, close);
    check_probes(&node.probes, Subject::Channel, tighten);

    let log = node.sora.client_log();
    let ends_at = check_notices(&log, announce);
    check_cuts(&log, ends_at, options);
    let last_cut = cuts(&log).last().unwrap().wall;
    let [vanished, over] = &events[events.len() - 2..] else {
        panic!("{events:#?}");
    };
    assert_eq!(
        (&vanished["type"], &over["outcome"]),
        (&json!("session.vanished"), &json!("done")),
        "{events:#?}"
    );
    assert!(time_of(vanished) >= last_cut, "{vanished}");

    let ready = node.probes.iter().find(|probe| !probe.is_accepted).unwrap();
    let told = || notices(&log).map(|(line, _)| line.wall);
    let cut = || cuts(&log).map(|line| line.wall);
    describe(&[
        ("plan: unready", Some(unready)),
        (
            "load balancer: 503 from /ready/new-session",
            Some(ready.ended),
        ),
        ("plan: closes", Some(close)),
        (
            "client: first of a new channel is refused",
            rejections(&log, "BLOCK-NEW-SESSION")
                .next()
                .map(|line| line.wall),
        ),
        ("plan: tightens", Some(tighten)),
        (
            "client: first of any channel is refused",
            rejections(&log, "BLOCK-NEW-CONNECTION")
                .next()
                .map(|line| line.wall),
        ),
        ("plan: announces", Some(announce)),
        ("client: first is told", told().min()),
        ("client: last is told", told().max()),
        ("plan: ends", Some(end)),
        ("client: first is cut", cut().min()),
        ("client: last is cut", cut().max()),
        ("session.vanished", Some(time_of(vanished))),
        ("plan.over", Some(time_of(over))),
    ])
}

/// Checks that each client was told once, or again with the same id, that it was cut, and when at the earliest. Returns that time.
fn check_notices(log: &[ClientLine], announced: Time) -> Time {
    let ids: BTreeSet<&str> = notices(log)
        .map(|(_, it)| it["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 1, "one announcement");
    let mut told: BTreeSet<&str> = BTreeSet::new();
    for (line, notice) in notices(log) {
        assert!(line.wall >= announced, "{line:?}");
        assert_eq!(notice["text"], "あと1分で終了します", "{notice}");
        told.insert(&line.channel_id);
    }
    assert_eq!(told.len(), CHANNELS);
    let ends_at = notices(log).next().unwrap().1["sessions_end_at"].clone();
    assert!(
        notices(log).all(|(_, notice)| notice["sessions_end_at"] == ends_at),
        "the same time for each"
    );
    ends_at.as_str().unwrap().parse().unwrap()
}

/// Checks that sessions end at the rate, not before the time that was announced, and the oldest first.
fn check_cuts(log: &[ClientLine], ends_at: Time, options: &Options) {
    let cuts: Vec<&ClientLine> = cuts(log).collect();
    assert_eq!(cuts.len(), CHANNELS * CLIENTS);
    for (number, cut) in cuts.iter().step_by(CLIENTS).enumerate() {
        let earliest = ends_at + options.interval * u32::try_from(number).unwrap();
        assert!(cut.wall >= earliest, "not before {earliest}: {cut:?}");
        let channel: usize = cut.channel_id.rsplit('-').next().unwrap().parse().unwrap();
        assert!(
            channel.abs_diff(number) < CALLS_MAX,
            "session {channel} of {CHANNELS} by age ends as number {number}"
        );
    }
}

fn describe(lines: &[(&str, Option<Time>)]) -> String {
    let began = lines.iter().find_map(|(_, at)| *at).unwrap();
    lines.iter().fold(String::new(), |mut text, (what, at)| {
        let at = at.map_or(f64::NAN, |at| at.since(began).as_secs_f64());
        writeln!(text, "{at:8.3} s  {what}").unwrap();
        text
    })
}

#[test]
fn a_drain_takes_200_clients_through_its_stages() {
    let mut node = Node::start();
    let (ended, _) = node.drain(&LONG, None);
    assert_eq!(ended.code, 0, "{ended:?}");
    let timeline = check(&node, &LONG);
    eprintln!("{timeline}{}", ended.stdout);
    // Undisturbed, each client is told exactly once.
    let log = node.sora.client_log();
    assert_eq!(notices(&log).count(), CHANNELS * CLIENTS);
}

fn survives_a_kill(stage: Stage) -> String {
    let mut node = Node::start();
    let (ended, killed) = node.drain(&SHORT, Some((stage, Node::kill)));
    assert!(killed.is_some(), "{stage:?} was not reached: {ended:?}");
    assert_eq!(ended.code, 0, "{ended:?}");
    check(&node, &SHORT)
}

fn stops_when_it_is_opened(stage: Stage) -> String {
    let mut node = Node::start();
    let (ended, opened) = node.drain(&SHORT, Some((stage, Node::open)));
    let opened = opened.unwrap_or_else(|| panic!("{stage:?} was not reached: {ended:?}"));
    assert_eq!(ended.code, 6, "{ended:?}");
    let before = node.probes.len();
    node.probe_for(SHORT.whole);
    let refused = |probe: &&Probe| probe.began > opened + READY_LAG && !probe.is_accepted;
    assert_eq!(
        node.probes
            .iter()
            .find(refused)
            .map(|probe| format!("{probe:?}")),
        None,
        "the node is open"
    );
    assert!(node.probes.len() > before);
    let over = node.events().pop().unwrap();
    assert_eq!(over["outcome"], "cancelled", "{over}");
    let log = node.sora.client_log();
    // The calls in flight may land.
    let late: BTreeSet<&str> = cuts(&log)
        .filter(|cut| cut.wall > opened)
        .map(|cut| cut.channel_id.as_str())
        .collect();
    assert!(
        late.len() <= CALLS_MAX,
        "{late:?} were cut after the node was opened"
    );
    let taken_back = |is_taken_back: bool| {
        let channels =
            notices(&log).filter(move |(_, it)| (it["cancelled"] == true) == is_taken_back);
        channels
            .map(|(line, _)| line.channel_id.as_str())
            .collect::<BTreeSet<_>>()
    };
    let is_announced = stage >= Stage::Announced;
    assert_eq!(
        taken_back(false).len(),
        if is_announced { CHANNELS } else { 0 }
    );
    let cut: BTreeSet<&str> = cuts(&log).map(|cut| cut.channel_id.as_str()).collect();
    assert_eq!(cut.is_empty(), stage < Stage::Ending, "{cut:?}");
    for number in 0..CHANNELS {
        let channel = channel(number);
        let is_left = !cut.contains(channel.as_str());
        assert!(
            !is_left || taken_back(true).contains(channel.as_str()) == is_announced,
            "{channel} hears that nothing comes of it"
        );
    }
    describe(&[
        ("the node is opened", Some(opened)),
        ("client: last is cut", cuts(&log).map(|cut| cut.wall).max()),
    ])
}

#[test]
fn a_kill_in_the_lead_changes_nothing() {
    eprintln!("{}", survives_a_kill(Stage::Lead));
}

#[test]
fn a_kill_on_a_closed_node_changes_nothing() {
    eprintln!("{}", survives_a_kill(Stage::Closed));
}

#[test]
fn a_kill_after_tightening_changes_nothing() {
    eprintln!("{}", survives_a_kill(Stage::Tightened));
}

#[test]
fn a_kill_after_the_announcement_changes_nothing() {
    eprintln!("{}", survives_a_kill(Stage::Announced));
}

#[test]
fn a_kill_while_sessions_end_changes_nothing() {
    eprintln!("{}", survives_a_kill(Stage::Ending));
}

#[test]
fn an_open_in_the_lead_stops_the_plan() {
    eprintln!("{}", stops_when_it_is_opened(Stage::Lead));
}

#[test]
fn an_open_on_a_closed_node_stops_the_plan() {
    eprintln!("{}", stops_when_it_is_opened(Stage::Closed));
}

#[test]
fn an_open_after_tightening_stops_the_plan() {
    eprintln!("{}", stops_when_it_is_opened(Stage::Tightened));
}

#[test]
fn an_open_after_the_announcement_stops_the_plan() {
    eprintln!("{}", stops_when_it_is_opened(Stage::Announced));
}

#[test]
fn an_open_while_sessions_end_stops_the_plan() {
    eprintln!("{}", stops_when_it_is_opened(Stage::Ending));
}
