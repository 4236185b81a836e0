//! Hostile viewers, all at once: root and operators are answered all the same, and the daemon stays within its bounds.
//!
//! By hand with as many as there may be, as root, the attackers on one processor and the rest on the other: `SORAMODE_ATTACK_VIEWERS=1008
//! SORAMODE_ATTACK_SECONDS=30 SORAMODE_ATTACK_CPU=1 taskset -c 0 cargo test -p soramoded --release --all-features --test daemon attack --
//! --nocapture`.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use soramode_testkit::control_client::TestClient;
use soramoded::control::{CLIENTS_MAX, UNIDENTIFIED_CLIENTS_MAX};

use crate::process::Process;
use crate::state::Home;

/// Program of the viewers, in Python: two processes, since no user may have all slots, and one that
/// connects and closes.
const VIEWERS: &str = include_str!("attack.py");

/// The system's, which every user may run.
const PYTHON: &str = "/usr/bin/python3";

/// Users of the viewers.
const VIEWER_UIDS: [&str; 2] = ["65534", "12345"];

/// A member of the operator group by the user database, on every Debian.
const OPERATOR_UID: &str = "1";
const OPERATOR_GROUP: &str = "daemon";

/// Time that `soramode` waits for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Timeout of the shutdown with all of them connected.
const STOP_MAX: Duration = Duration::from_secs(15);

const MEMORY_KIB_MAX: u64 = 256 * 1024;
const THREADS_MAX: usize = 24;
const DESCRIPTORS_MAX: usize = 3 * CLIENTS_MAX + UNIDENTIFIED_CLIENTS_MAX + 64;

/// Ends when it is dropped.
struct Attackers(Child);

impl Attackers {
    /// Starts them, and waits until they are connected.
    fn start(uid: &str, socket: &Path, viewers: usize) -> Self {
        // A processor of their own shows the daemon's part, not the scheduling of five busy processes.
        let cpu = std::env::var("SORAMODE_ATTACK_CPU").unwrap_or("0-1023".to_owned());
        let mut command = Command::new("taskset");
        command.args([
            "--cpu-list",
            &cpu,
            "setpriv",
            "--reuid",
            uid,
            "--regid",
            uid,
            "--clear-groups",
            PYTHON,
            "-c",
            VIEWERS,
        ]);
        command.arg(socket).arg(viewers.to_string());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "connected\n");
        Self(child)
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        self.0.wait().unwrap();
    }
}

/// The most that was seen.
#[derive(Default)]
struct Most {
    kib: u64,
    threads: usize,
    descriptors: usize,
}

impl Most {
    fn note(&mut self, process: &Process) {
        let count = |what| {
            fs::read_dir(format!("/proc/{}/{what}", process.pid().as_raw_nonzero()))
                .unwrap()
                .count()
        };
        self.kib = self.kib.max(process.resident_kib());
        self.threads = self.threads.max(count("task"));
        self.descriptors = self.descriptors.max(count("fd"));
    }
}

/// Connects and disconnects; how long each `Connect` took.
fn connects(client: &mut TestClient, number: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..number {
        let began = Instant::now();
        client.connect("root", "root");
        times.push(began.elapsed());
        client.disconnect("root");
    }
    times
}

/// Starts a thread that sends back each byte: the yardstick, what the machine takes for a round trip meanwhile.
fn echo() -> UnixStream {
    let (ours, mut its) = UnixStream::pair().unwrap();
    std::thread::spawn(move || {
        let mut byte = [0];
        while its.read_exact(&mut byte).is_ok() && its.write_all(&byte).is_ok() {}
    });
    ours
}

/// Measures round trips to the echo.
fn echoes(stream: &mut UnixStream, number: usize) -> Vec<Duration> {
    let mut round_trip = || {
        let began = Instant::now();
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        began.elapsed()
    };
    (0..number).map(|_| round_trip()).collect()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() * 99 / 100]
}

/// Asks one thing on a connection of its own, within the time that `soramode` gives it.
fn ask_as_root(process: &Process, method: &str, params: &Value) -> Duration {
    let began = Instant::now();
    process.client().get(method, params);
    assert!(
        began.elapsed() < ANSWER_MAX,
        "{method}: {:?}",
        began.elapsed()
    );
    began.elapsed()
}

fn ask_as_operator(socket: &Path, method: &str, params: &Value) {
    let request = json!({"id": 1, "method": method, "params": params});
    let script = format!(
        "echo '{request}' | timeout {} socat -t60 - UNIX-CONNECT:{}",
        ANSWER_MAX.as_secs(),
        socket.display()
    );
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        OPERATOR_UID,
        "--regid",
        VIEWER_UIDS[0],
        "--clear-groups",
        "sh",
        "-c",
        &script,
    ]);
    let answer = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(answer.contains("\"result\""), "{method}: {answer:?}");
}

fn from_environment(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |number| number.parse().unwrap())
}

/// Starts a daemon with sessions in memory and events on the disk, and a socket that is open to all.
fn daemon(home: &Home) -> Process {
    fs::set_permissions(home.folder(), PermissionsExt::from_mode(0o755)).unwrap();
    let flags = ["--socket-mode", "0666", "--operator-group", OPERATOR_GROUP];
    let process = home.start(&flags);
    process.client().connect("before", "before");
    process.kill(Signal::KILL);
    drop(process);
    let process = home.start(&flags);
    let mut client = process.client();
    for number in 0..1_000 {
        client.connect(
            &format!("channel {number} {}", "x".repeat(200)),
            &format!("{number} {}", "x".repeat(200)),
        );
    }
    process
}

#[test]
fn hostile_viewers_cost_a_bounded_amount_and_operators_are_answered() {
    if !rustix::process::geteuid().is_root() || !Path::new(PYTHON).exists() {
        eprintln!("skipped: needs root and {PYTHON}");
        return;
    }
    let viewers = from_environment("SORAMODE_ATTACK_VIEWERS", 100);
    let time = Duration::from_secs(
        from_environment("SORAMODE_ATTACK_SECONDS", 4)
            .try_into()
            .unwrap(),
    );
    let home = Home::new();
    let mut process = daemon(&home);
    let mut root = process.client();
    let idle = p99(connects(&mut root, 500));
    let mut echo = echo();
    let idle_echo = p99(echoes(&mut echo, 500));
    let mut most = Most::default();
    let mut attackers: Vec<Attackers> = VIEWER_UIDS
        .map(|uid| Attackers::start(uid, &home.socket(), viewers / 2))
        .into();
    // Connects and closes.
    attackers.push(Attackers::start(VIEWER_UIDS[0], &home.socket(), 0));
    let began = Instant::now();
    let (mut busy, mut busy_echo, mut asked) = (Vec::new(), Vec::new(), Vec::new());
    while began.elapsed() < time {
        busy.extend(connects(&mut root, 100));
        busy_echo.extend(echoes(&mut echo, 100));
        for mode in ["block_new_session", "normal"] {
            asked.push(ask_as_root(&process, "ChangeMode", &json!({"mode": mode})));
            asked.push(ask_as_root(&process, "GetMode", &json!({})));
        }
        ask_as_operator(
            &home.socket(),
            "ChangeMode",
            &json!({"mode": "normal", "reason": "operator"}),
        );
        ask_as_operator(&home.socket(), "GetMode", &json!({}));
        most.note(&process);
    }
    let slowest = asked.iter().max().unwrap();
    eprintln!(
        "{viewers} viewers for {time:?}: {} MiB, {} threads, {} descriptors; slowest get or set {slowest:?} of {}",
        most.kib / 1024,
        most.threads,
        most.descriptors,
        asked.len(),
    );
    eprintln!(
        "Connect ({}): median {:?}, p99 {:?}, p99 idle {idle:?}; echo: median {:?}, p99 {:?}, p99 idle {idle_echo:?}",
        busy.len(),
        median(busy.clone()),
        p99(busy),
        median(busy_echo.clone()),
        p99(busy_echo),
    );
    assert!(most.kib <= MEMORY_KIB_MAX, "{} KiB", most.kib);
    assert!(most.threads <= THREADS_MAX, "{} threads", most.threads);
    assert!(
        most.descriptors <= DESCRIPTORS_MAX,
        "{} descriptors",
        most.descriptors
    );
    process.kill(Signal::TERM);
    assert_eq!(
        process.end_unread(STOP_MAX),
        Some(0),
        "the stop ends, with all of them there"
    );
}
