//! HTTP clients that hold all they can get: connections, incomplete requests, answers that they do
//! not read.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde_json::json;
use soramode_testkit::control_client::TestClient;
use soramoded::http::{HTTP_CLIENTS_MAX, REFUSALS_MAX};

use crate::process::{Process, soramoded};

/// Hostile clients, unless `SORAMODE_ATTACK_CLIENTS` says another number.
const CLIENTS_DEFAULT: usize = 600;

/// Clients of each Unix socket, the control socket and one of the API, that do not read.
const DEAF_OPERATORS: usize = 8;

/// Number of checks of other clients.
const LOOKS: usize = 6;

/// Descriptors that are not a client's.
const OWN_DESCRIPTORS_MAX: usize = 40;

/// Memory for each client that is there, in KiB: a buffer of 64 KiB for what it sends, another for what it does not read, and one answer.
const KIB_PER_CLIENT_MAX: u64 = 256;

/// Longest wait of an operator for an answer on the control socket: that of `soramode`.
const OPERATOR_TIME_MAX: Duration = Duration::from_secs(10);

/// Longest wait of a well-behaved HTTP client, while hundreds send thousands of requests each to an
/// unoptimised daemon.
const CLIENT_TIME_MAX: Duration = Duration::from_mins(1);

/// Timeout of the shutdown.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);

const API: usize = 0;
const SORA: usize = 1;
const OBSERVE: usize = 2;

#[test]
fn hostile_http_clients_block_neither_operators_nor_a_shutdown() {
    let clients = std::env::var("SORAMODE_ATTACK_CLIENTS")
        .map_or(CLIENTS_DEFAULT, |number| number.parse().unwrap());
    raise_limit(clients + 1_000);
    // Few enough that HTTP alone could use all; and more than enough.
    for descriptors in [1_024, 20_000] {
        Attack::start(descriptors).run(clients);
    }
}

struct Attack {
    process: Process,
    api_socket: PathBuf,
    addresses: [SocketAddr; 3],
    descriptors: usize,
    hostile: Vec<TcpStream>,
    slowest_operator: Duration,
    slowest_client: Duration,
}

impl Attack {
    fn start(descriptors: usize) -> Self {
        let [_, low, middle, high] = std::process::id().to_be_bytes();
        let ip = Ipv4Addr::new(127, 251 - (low & 1), middle, high.max(1));
        let addresses = [3_401, 3_402, 3_403].map(|port| SocketAddr::new(ip.into(), port));
        let folder = tempfile::tempdir().unwrap();
        let (socket, api_socket) = (
            folder.path().join("gate.sock"),
            folder.path().join("api.sock"),
        );
        let flags = ["--api-listen", "--sora-listen", "--observe-listen"];
        let flags = flags
            .iter()
            .zip(addresses)
            .fold(String::new(), |flags, (flag, address)| {
                format!("{flags} {flag} {address}")
            });
        let flags = format!("{flags} --api-listen unix:{}", api_socket.display());
        let program = soramoded();
        let program = program.get_program().to_str().unwrap();
        let mut command = soramoded_by("sh");
        let line = format!(
            "ulimit -n {descriptors} && exec {program} --ephemeral --socket {} {flags}",
            socket.display()
        );
        command.args(["-c", &line]);
        let process = Process::spawn(folder, socket, command);
        let (slowest_operator, slowest_client) = (Duration::ZERO, Duration::ZERO);
        Self {
            process,
            api_socket,
            addresses,
            descriptors,
            hostile: Vec::new(),
            slowest_operator,
            slowest_client,
        }
    }

    fn run(mut self, clients: usize) {
        let before = self.process.resident_kib();
        let deaf: Vec<TestClient> = (0..DEAF_OPERATORS)
            .flat_map(|_| self.deaf_operators())
            .collect();
        for number in 0..clients {
            self.come(number);
            if (number + 1) % (clients / LOOKS) == 0 {
                self.look();
            }
        }
        let (open, grown) = (
            self.open_descriptors(),
            self.process.resident_kib().saturating_sub(before),
        );
        let listeners = self.addresses.len();
        let allowed = listeners * (HTTP_CLIENTS_MAX + REFUSALS_MAX)
            + 4 * DEAF_OPERATORS
            + OWN_DESCRIPTORS_MAX;
        assert!(open <= allowed.min(self.descriptors), "{open} descriptors");
        assert!(
            grown <= 16 * 1_024 + KIB_PER_CLIENT_MAX * open as u64,
            "{grown} KiB for {open} descriptors"
        );
        let began = Instant::now();
        self.process.kill(Signal::TERM);
        let (status, log, _folder) = self.process.end();
        let stop = began.elapsed();
        eprintln!(
            "{clients} hostile clients, {} descriptors allowed: {open} open, {grown} KiB more, slowest answer to an operator {:?}, \
             to an HTTP client {:?}, stop {stop:?}",
            self.descriptors, self.slowest_operator, self.slowest_client
        );
        assert_eq!(status, Some(0), "{log}");
        assert!(stop < STOP_TIME_MAX, "the stop took {stop:?}");
        assert!(log.lines().count() < 50, "{log}");
        drop((deaf, self.hostile));
    }

    /// A hostile client of one of the listeners, in one of four ways.
    fn come(&mut self, number: usize) {
        let listener = number % self.addresses.len();
        let mut stream = TcpStream::connect(self.addresses[listener]).unwrap();
        stream.set_nonblocking(true).unwrap();
        let (path, target) = [
            ("/", "x-sora-target: Sora_20211215.GetMode\r\n"),
            ("/sora/event", ""),
            ("/ready", ""),
        ][listener];
        match number / self.addresses.len() % 4 {
            0 => send_request(&mut stream, b"G"),
            1 => send_request(&mut stream, format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{target}content-length: 1000\r\n\r\n{{").as_bytes()),
            2 => {
                rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 2_048).unwrap();
                let path = if listener == OBSERVE { "/metrics" } else { path };
                let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{target}\r\n").repeat(20);
                (0..100).for_each(|_| send_request(&mut stream, request.as_bytes()));
            }
            _ => {}
        }
        self.hostile.push(stream);
    }

    fn deaf_operators(&self) -> [TestClient; 2] {
        let mut of_the_control_socket = self.process.client();
        of_the_control_socket
            .send_until_full(&b"{\"id\":1,\"method\":\"GetStatus\"}\n".repeat(100));
        let mut of_the_api = TestClient::to(&self.api_socket);
        of_the_api.send_until_full(
            &b"POST / HTTP/1.1\r\nx-sora-target: Sora_20211215.GetMode\r\n\r\n".repeat(100),
        );
        [of_the_control_socket, of_the_api]
    }

    /// Checks the service of well-behaved clients in the meantime.
    fn look(&mut self) {
        for mode in ["block_new_session", "normal"] {
            let began = Instant::now();
            let mut operator = self.process.client();
            assert_eq!(
                operator.get("ChangeMode", &json!({"mode": mode}))["mode"],
                mode
            );
            self.slowest_operator = self.slowest_operator.max(began.elapsed());
        }
        assert!(
            self.slowest_operator < OPERATOR_TIME_MAX,
            "an operator waited for {:?}",
            self.slowest_operator
        );
        let requests = [
            (
                API,
                "POST / HTTP/1.1\r\nhost: localhost:3401\r\nx-sora-target: Sora_20211215.GetMode\r\n",
            ),
            (SORA, "POST /sora/event HTTP/1.1\r\nhost: localhost\r\n"),
            (OBSERVE, "GET /ready HTTP/1.1\r\nhost: localhost\r\n"),
        ];
        for (listener, head) in requests {
            let body = if listener == SORA {
                r#"{"type":"x"}"#
            } else {
                ""
            };
            let began = Instant::now();
            let answer = ask(
                self.addresses[listener],
                &format!(
                    "{head}content-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                ),
            );
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
            self.slowest_client = self.slowest_client.max(began.elapsed());
        }
    }

    fn open_descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.pid().as_raw_nonzero()))
            .unwrap()
            .count()
    }
}

/// Sends what there is room for, also where the daemon has closed by now.
fn send_request(stream: &mut TcpStream, bytes: &[u8]) {
    if let Err(error) = stream.write(bytes) {
        assert!(
            matches!(
                error.kind(),
                ErrorKind::WouldBlock | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
            ),
            "{error}"
        );
    }
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(CLIENT_TIME_MAX)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn soramoded_by(program: &str) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped());
    command
}

fn raise_limit(descriptors: usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < descriptors as u64) {
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: maximum,
                maximum,
            },
        )
        .unwrap();
    }
    let allowed = getrlimit(Resource::Nofile).current;
    assert!(
        allowed.is_none_or(|allowed| allowed >= descriptors as u64),
        "at most {allowed:?} descriptors here, which takes {descriptors}"
    );
}
