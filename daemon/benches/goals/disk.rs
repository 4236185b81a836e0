//! modes and webhooks: what waits for the disk.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use super::harness::baselines;
use super::harness::dialect::Dialect;
use super::harness::load::{ANSWER_MAX, Client, micros};
use super::harness::row::{Bound, Rounds, Row, Unit, percentile};
use super::harness::server::{Core, pin_load};
use super::harness::sheet::Sheet;
use super::harness::{Profile, runtime};

/// Number of sequential operations, each of which waits for the disk.
const SAMPLES: usize = 500;

/// With a slow disk fewer are done.
const SAMPLING_MAX: Duration = Duration::from_secs(5);

/// Commits after which a log that has not grown is one that is written over.
const SETTLED: usize = 200;

/// A log that has not settled after so many times as many never will.
const SETTLING_MAX: usize = 100;

/// modes and webhooks, each beside a commit of one row by `SQLite` that waits for the disk.
pub(crate) fn measure(profile: Profile<'_>, sheet: &mut Sheet) {
    // A sequential client shares a core with its server.
    pin_load(Core::Second);
    let (received, address) = receiver();
    let url = format!("http://{address}/");
    let flags = ["--webhook", &url, "--webhook-events", "session.destroyed"];
    let (state, bare) = (
        profile.folder.join("disk.state"),
        profile.folder.join("bare.db"),
    );
    let server = baselines::durable(profile.folder.join("disk"), &state, &flags);
    let sqlite = rusqlite::Connection::open(&bare).unwrap();
    sqlite.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (v); INSERT INTO t VALUES (0)").unwrap();
    let mut commit = |sample| {
        sqlite.execute("UPDATE t SET v = ?1", [sample]).unwrap();
    };
    let mut client = Client::to(&server.path, &Dialect::soramode());
    let mut poster = Poster::to(address);
    let modes = Dialect::modes().turns(0, 1);
    let change = |client: &mut Client, sample: usize| {
        client.text(&modes[sample % 2].message, "\"result\"");
    };
    settle(&bare.with_extension("db-wal"), &mut commit);
    settle(&state.join("soramode.db-wal"), |sample| {
        change(&mut client, sample);
    });
    let [come, go] = Dialect::soramode().turns(0, 1);
    let (mut changes, mut p50, mut p99) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..profile.rounds {
        let commit = times(&mut commit);
        // Until its sender has the answer, and so after the receiver had it.
        let post = times(|_| {
            poster.post();
            received.recv_timeout(ANSWER_MAX).unwrap();
        });
        let change = times(|sample| change(&mut client, sample));
        let webhook = webhooks((&mut client, &received), (&come.message, &go.message));
        changes.push((change[0], commit[0]));
        p50.push((webhook[0], commit[0] + post[0]));
        p99.push((webhook[1], commit[0] + post[0]));
    }
    let mut row = |goal, what: &str, (yardstick, pairs), bound| {
        sheet.add(Row {
            goal,
            what: what.to_owned(),
            unit: Unit::Micros,
            yardstick,
            rounds: Rounds::of(pairs),
            bound,
        });
    };
    row(
        "modes",
        "ChangeMode, durable, p50",
        ("a commit", changes),
        Bound::AtMost(1.5),
    );
    row(
        "webhooks",
        "last Disconnect to the webhook, p50",
        ("commit + POST", p50),
        Bound::AtMost(2.0),
    );
    row(
        "webhooks",
        "the same, p99",
        ("their p50", p99),
        Bound::AtMost(4.0),
    );
}

/// Commits until the log begins anew. While a log grows a commit waits for the file's new length as well, which is so at the beginning
/// alone.
fn settle(log: &Path, mut commit: impl FnMut(usize)) {
    let mut length = 0;
    let has_settled = (0..SETTLING_MAX).any(|_| {
        (0..SETTLED).for_each(&mut commit);
        let before = std::mem::replace(&mut length, std::fs::metadata(log).unwrap().len());
        before == length
    });
    assert!(has_settled, "{} grows and grows", log.display());
}

/// p50 and p99 in microseconds of what is done again and again.
fn times(mut act: impl FnMut(usize)) -> [f64; 2] {
    let first = Instant::now();
    let all = (0..SAMPLES)
        .take_while(|_| first.elapsed() < SAMPLING_MAX)
        .map(|sample| {
            let began = Instant::now();
            act(sample);
            micros(began.elapsed())
        });
    both(all.collect())
}

fn both(mut times: Vec<f64>) -> [f64; 2] {
    times.sort_by(f64::total_cmp);
    [percentile(&times, 50), percentile(&times, 99)]
}

/// From the last disconnect of a session until its receiver had the webhook.
fn webhooks(
    (client, received): (&mut Client, &Receiver<Instant>),
    (come, go): (&[u8], &[u8]),
) -> [f64; 2] {
    let first = Instant::now();
    let all = (0..SAMPLES)
        .take_while(|_| first.elapsed() < SAMPLING_MAX)
        .map(|_| {
            client.text(come, "offer");
            let began = Instant::now();
            client.text(go, "\"result\"");
            micros(
                received
                    .recv_timeout(ANSWER_MAX)
                    .unwrap()
                    .duration_since(began),
            )
        });
    both(all.collect())
}

/// Starts a server that answers every request with 200 at once, and reports the time of each.
fn receiver() -> (Receiver<Instant>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, received) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let sender = sender.clone();
            std::thread::spawn(move || receive(&stream, &sender));
        }
    });
    (received, address)
}

fn receive(stream: &TcpStream, sender: &Sender<Instant>) {
    let mut reader = BufReader::new(stream);
    while take(&mut reader) {
        sender.send(Instant::now()).unwrap();
        let mut stream = stream;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .unwrap();
    }
}

fn take(reader: &mut BufReader<&TcpStream>) -> bool {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return false;
        }
    }
    let length = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length: ")
                .map(str::to_owned)
        })
        .unwrap();
    reader
        .read_exact(&mut vec![0; length.parse().unwrap()])
        .is_ok()
}

/// One POST after the other over one connection, by hyper.
struct Poster {
    runtime: tokio::runtime::Runtime,
    sender: SendRequest<Full<Bytes>>,
    /// Goes on as long as it is held.
    _connection: JoinSet<Result<(), hyper::Error>>,
}

impl Poster {
    fn to(address: SocketAddr) -> Self {
        let runtime = runtime();
        let (sender, connection) = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
            (sender, JoinSet::from_iter([connection]))
        });
        Self {
            runtime,
            sender,
            _connection: connection,
        }
    }

    fn post(&mut self) {
        let body = Full::new(Bytes::from_static(b"{\"type\":\"session.vanished\"}"));
        let request = hyper::Request::post("/")
            .header("host", "localhost")
            .body(body)
            .unwrap();
        let Self {
            runtime, sender, ..
        } = self;
        assert!(
            runtime
                .block_on(async { sender.send_request(request).await.unwrap() })
                .status()
                .is_success()
        );
    }
}
