//! Sockets that outlive the daemon: somebody else opened them and passes them on, as systemd does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use rustix::process::Signal;
use serde_json::{Value, json};
use soramode_testkit::PATIENCE;
use soramode_testkit::control_client::TestClient;
use tempfile::TempDir;

use crate::process::Process;

/// Clients of the control socket: those that keep their connection, and those that make one for each question.
const STAYING: usize = 500;
const COMING: usize = 450;

/// Clients that ask over HTTP.
const HTTP: usize = 50;

/// Number of answers for each client in each of the daemon's lives.
const ANSWERS: usize = 3;

const RESTARTS: usize = 2;

/// Room for a thread that does little.
const STACK_BYTES: usize = 128 * 1024;

/// Both sockets, held by the test.
pub(crate) struct Hands {
    pub(crate) folder: TempDir,
    control: UnixListener,
    tcp: TcpListener,
}

impl Hands {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let control = UnixListener::bind(folder.path().join("gate.sock")).unwrap();
        // Backlog as set by systemd.
        rustix::net::listen(&control, 4096).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&tcp, 4096).unwrap();
        Self {
            folder,
            control,
            tcp,
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("gate.sock")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.tcp.local_addr().unwrap()
    }

    /// A daemon that is passed both, the second one by this name.
    pub(crate) fn start(&self, name: &str, flags: &[&str]) -> Process {
        let (control, tcp) = (
            self.control.try_clone().unwrap(),
            self.tcp.try_clone().unwrap(),
        );
        let mut command = passing((control.into(), tcp.into()), &format!("control:{name}"));
        command
            .args([
                "--state-dir",
                self.folder.path().join("state").to_str().unwrap(),
            ])
            .args(flags);
        Process::spawn(tempfile::tempdir().unwrap(), self.socket(), command)
    }
}

/// A daemon with these two sockets. What runs between moves them to the place where they are looked for, and becomes the daemon.
fn passing(sockets: (OwnedFd, OwnedFd), names: &str) -> Command {
    let becoming = "exec 3<&0 4<&1 0</dev/null 1>/dev/null; export LISTEN_PID=$$; exec \"$@\"";
    let mut command = Command::new("bash");
    command
        .env_clear()
        .env("LISTEN_FDS", "2")
        .env("LISTEN_FDNAMES", names);
    command.args(["-c", becoming, "bash", env!("CARGO_BIN_EXE_soramoded")]);
    command
        .stdin(sockets.0)
        .stdout(sockets.1)
        .stderr(Stdio::piped());
    command
}

/// Sends requests until the end: every request is answered, and no client is refused.
fn ask_and_stay(socket: &Path, id: usize, over: &Progress) {
    let mut line = None;
    while !over.is_over() {
        let (mut stream, mut reader) = line.take().unwrap_or_else(|| open(socket));
        // One that could not be sent is one that the client knows to send again.
        if stream.write_all(question(id).as_bytes()).is_ok() {
            read_offer(&mut reader);
            over.answered(id);
            line = Some((stream, reader));
        }
    }
}

fn ask_and_go(socket: &Path, id: usize, over: &Progress) {
    while !over.is_over() {
        let (mut stream, mut reader) = open(socket);
        stream.write_all(question(id).as_bytes()).unwrap();
        read_offer(&mut reader);
        over.answered(id);
    }
}

fn ask_over_http(address: SocketAddr, id: usize, over: &Progress) {
    while !over.is_over() {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(b"GET /live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer:?}");
        over.answered(id);
    }
}

fn open(socket: &Path) -> (UnixStream, BufReader<UnixStream>) {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    (stream.try_clone().unwrap(), BufReader::new(stream))
}

fn question(id: usize) -> String {
    format!(
        "{}\n",
        json!({"id": id, "method": "Connect", "params": {"channel_id": "spam", "connection_id": format!("c-{id}")}})
    )
}

fn read_offer(reader: &mut impl BufRead) {
    let mut answer = String::new();
    reader.read_line(&mut answer).unwrap();
    assert!(!answer.is_empty(), "a question was heard and not answered");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["result"]["type"], "offer", "{answer}");
}

/// Progress of the clients.
struct Progress {
    answers: Vec<AtomicUsize>,
    is_over: AtomicBool,
}

impl Progress {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn answered(&self, id: usize) {
        self.answers[id].fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until each has been answered so often from now on.
    fn wait_for_all(&self, clients: &[JoinHandle<()>]) {
        let before: Vec<usize> = self
            .answers
            .iter()
            .map(|answers| answers.load(Ordering::Relaxed))
            .collect();
        let is_done = || {
            self.answers
                .iter()
                .zip(&before)
                .all(|(now, before)| now.load(Ordering::Relaxed) >= before + ANSWERS)
        };
        while !is_done() {
            assert!(
                !clients.iter().any(JoinHandle::is_finished),
                "a client gave up"
            );
            thread::yield_now();
        }
    }
}

#[test]
fn a_restart_with_held_sockets_refuses_no_client_and_loses_no_answer() {
    let hands = Hands::new();
    let address = hands.address();
    let flags = [
        "--observe-listen",
        &address.to_string(),
        "--log-level",
        "warn",
    ]
    .map(str::to_owned);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let start = || {
        let mut command = passing(
            (
                hands.control.try_clone().unwrap().into(),
                hands.tcp.try_clone().unwrap().into(),
            ),
            "control:observe",
        );
        command
            .arg("--state-dir")
            .arg(hands.folder.path().join("state"))
            .args(&flags)
            .stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let progress = Progress {
        answers: (0..STAYING + COMING + HTTP)
            .map(|_| AtomicUsize::new(0))
            .collect(),
        is_over: AtomicBool::new(false),
    };
    let progress = &*Box::leak(Box::new(progress));
    let client = |id: usize| {
        let socket = hands.socket();
        let ask = move || match id {
            0..STAYING => ask_and_stay(&socket, id, progress),
            _ if id < STAYING + COMING => ask_and_go(&socket, id, progress),
            _ => ask_over_http(address, id, progress),
        };
        thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(ask)
            .unwrap()
    };
    // They ask before anybody is there.
    let clients: Vec<JoinHandle<()>> = (0..STAYING + COMING + HTTP).map(client).collect();
    let mut daemon = start();
    for _ in 0..RESTARTS {
        progress.wait_for_all(&clients);
        rustix::process::kill_process(rustix::process::Pid::from_child(&daemon), Signal::TERM)
            .unwrap();
        assert_eq!(daemon.wait().unwrap().code(), Some(0));
        daemon = start();
    }
    progress.wait_for_all(&clients);
    progress.is_over.store(true, Ordering::Relaxed);
    let failed = clients
        .into_iter()
        .map(JoinHandle::join)
        .filter(Result::is_err)
        .count();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert_eq!(failed, 0, "clients were refused, or not answered");
}

#[test]
fn each_socket_is_for_the_listener_of_its_name_or_address() {
    for name in ["observe", "soramoded.socket"] {
        let hands = Hands::new();
        let address = hands.address().to_string();
        let mut process = hands.start(name, &["--observe-listen", &address]);
        let mut client = TestClient::to(&hands.socket());
        assert_eq!(client.get("GetMode", &json!({}))["mode"], "normal");
        let mut stream = TcpStream::connect(hands.address()).unwrap();
        stream
            .write_all(b"GET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        process.kill(Signal::TERM);
        process.read_log_until("stopped");
        assert!(hands.socket().exists(), "the file is whose it was");
    }
}

/// Runs one that should not come up; gives what it says.
fn refusal(sockets: (OwnedFd, OwnedFd), names: &str, flags: &[&str]) -> String {
    let Output { status, stderr, .. } = passing(sockets, names)
        .arg("--ephemeral")
        .args(flags)
        .output()
        .unwrap();
    assert_eq!(status.code(), Some(1));
    String::from_utf8(stderr).unwrap()
}

#[test]
fn a_socket_that_is_not_configured_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let unix = |name: &str| UnixListener::bind(folder.path().join(name)).unwrap();
    let tcp = || TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = ["--api-listen", "127.0.0.1:1"];
    let said = refusal((unix("a").into(), tcp().into()), "control:api", &elsewhere);
    assert!(
        said.contains("inherited socket \"api\" listens on 127.0.0.1:")
            && said.contains("not configured in api-listen:"),
        "{said}"
    );
    let said = refusal(
        (unix("b").into(), tcp().into()),
        "control:soramoded.socket",
        &[],
    );
    assert!(
        said.contains("not configured in api-listen, sora-listen, janus-listen or observe-listen"),
        "{said}"
    );
    let said = refusal(
        (unix("c").into(), unix("d").into()),
        "control:api",
        &elsewhere,
    );
    assert!(
        said.contains("listens on unix:") && said.contains("not configured in api-listen"),
        "{said}"
    );
    let said = refusal((unix("e").into(), unix("f").into()), "", &[]);
    assert!(
        said.contains("two inherited sockets") && said.contains("name one of them control"),
        "{said}"
    );
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let said = refusal((unix("g").into(), udp.into()), "control:x", &[]);
    assert!(
        said.contains("#2 (x) is not a listening TCP or Unix stream socket"),
        "{said}"
    );
}

#[test]
fn the_api_on_a_unix_socket_can_be_inherited_too() {
    let folder = tempfile::tempdir().unwrap();
    let (control, api) = (
        folder.path().join("gate.sock"),
        folder.path().join("api.sock"),
    );
    let sockets = (
        UnixListener::bind(&control).unwrap().into(),
        UnixListener::bind(&api).unwrap().into(),
    );
    let mut command = passing(sockets, "control:api");
    command
        .arg("--ephemeral")
        .arg("--api-listen")
        .arg(format!("unix:{}", api.display()));
    let process = Process::spawn(tempfile::tempdir().unwrap(), control, command);
    let mut stream = UnixStream::connect(&api).unwrap();
    let request = "POST / HTTP/1.1\r\nhost: localhost\r\nx-sora-target: Sora_20211215.GetMode\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("{\"mode\":\"normal\"}"), "{answer}");
    drop(process);
}
