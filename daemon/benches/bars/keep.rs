//! P4, P5, P10, P12: what it costs to keep everything.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use super::yard::Effort;
use super::yard::load::{CLIENTS, Client, Crowd, Seen, micros, names};
use super::yard::peers::{self, Aof};
use super::yard::row::{Bound, Rounds, Row, Unit, percentile};
use super::yard::server::{Core, Server, pin_load};
use super::yard::tongue::Tongue;

/// What is done one after the other, where each waits for the disk.
const SAMPLES: usize = 500;

/// Connections in one `Report`: a request has at most 64 KiB.
const REPORTED: usize = 400;

/// How soon a daemon with nothing to read must answer, in milliseconds.
const EMPTY_START_MAX_MS: f64 = 15.0;

/// P4.
pub(crate) fn decisions(effort: Effort<'_>) -> Vec<Row> {
    let tongue = Tongue::soramode();
    let at = |name: &str| effort.folder.join(name);
    let ours = peers::durable(at("kept"), &at("kept.state"), &[]);
    let volatile = peers::volatile(at("volatile"), &[]);
    let (always, redis) = peers::redis(&at("always"), Aof::Always);
    let (everysec, redis_everysec) = peers::redis(&at("everysec"), Aof::Everysec);
    for server in [&ours, &volatile, &always, &everysec] {
        server.pin(Core::First);
    }
    pin_load(Core::Second);
    let crowd = Crowd { clients: CLIENTS, depth: 1, time: effort.time };
    let all: Vec<[Seen; 4]> = (0..effort.rounds)
        .map(|_| {
            [(&ours, &tongue), (&always, &redis), (&everysec, &redis_everysec), (&volatile, &tongue)]
                .map(|(server, tongue)| crowd.ask(&server.path, tongue))
        })
        .collect();
    let rate = |yardstick, beside: usize, bound| Row {
        bar: "P4",
        what: "replies with the journal, 64 clients".to_owned(),
        unit: Unit::PerSecond,
        yardstick,
        rounds: Rounds::of(all.iter().map(|round| (round[0].rate, round[beside].rate)).collect()),
        bound,
    };
    vec![
        rate("Redis always", 1, Bound::AtLeast(1.5)),
        rate("Redis everysec", 2, Bound::AtLeast(0.8)),
        rate("P1", 3, Bound::AtLeast(0.4)),
        Row {
            bar: "P4",
            what: "the same, p99".to_owned(),
            unit: Unit::Micros,
            yardstick: "P1",
            rounds: Rounds::of(all.iter().map(|[ours, _, _, volatile]| (ours.p99, volatile.p99)).collect()),
            bound: Bound::AtMost(3.0),
        },
    ]
}

/// P5 without a disk.
pub(crate) fn modes(effort: Effort<'_>) -> Vec<Row> {
    let (ours_tongue, haproxy_tongue) = (Tongue::modes(), Tongue::haproxy());
    let ours = peers::volatile(effort.folder.join("modes"), &[]);
    let full = peers::volatile(effort.folder.join("full-modes"), &[]);
    let haproxy = peers::haproxy(effort.folder);
    let mut client = Client::to(&full.path, &Tongue::soramode());
    client.all(0..effort.many, |number| {
        let (channel, connection) = names(number);
        Tongue::soramode().come(&channel, &connection)
    });
    let crowd = |clients| Crowd { clients, depth: 1, time: effort.time };
    let beside = |clients, (server, tongue): (&Server, &Tongue)| {
        // One client shares a core with its server.
        let core = if clients == 1 { Core::Second } else { Core::First };
        for server in [&ours, &full, &haproxy] {
            server.pin(core);
        }
        pin_load(Core::Second);
        Rounds::beside(
            effort.rounds,
            || crowd(clients).ask(&ours.path, &ours_tongue).rate,
            || crowd(clients).ask(&server.path, tongue).rate,
        )
    };
    let row = |what: String, yardstick, rounds, bound| Row { bar: "P5", what, unit: Unit::PerSecond, yardstick, rounds, bound };
    vec![
        row("ChangeMode, 1 client".to_owned(), "HAProxy", beside(1, (&haproxy, &haproxy_tongue)), Bound::AtLeast(1.2)),
        row("ChangeMode, 64 clients".to_owned(), "HAProxy", beside(CLIENTS, (&haproxy, &haproxy_tongue)), Bound::AtLeast(1.2)),
        row(
            format!("ChangeMode, 1 client, near empty and with {}", effort.many),
            "with",
            beside(1, (&full, &ours_tongue)),
            Bound::AtMost(1.1),
        ),
    ]
}

/// P5 and P10, each beside a commit of one row by `SQLite` that waits for the disk.
pub(crate) fn disk(effort: Effort<'_>) -> Vec<Row> {
    let (told, address) = receiver();
    let url = format!("http://{address}/");
    let flags = ["--webhook", &url, "--webhook-events", "session.destroyed"];
    let server = peers::durable(effort.folder.join("disk"), &effort.folder.join("disk.state"), &flags);
    let sqlite = rusqlite::Connection::open(effort.folder.join("bare.db")).unwrap();
    sqlite.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (v); INSERT INTO t VALUES (0)").unwrap();
    let mut client = Client::to(&server.path, &Tongue::soramode());
    let mut poster = Poster::to(address);
    let modes = Tongue::modes().turns(0, 1);
    let [come, go] = Tongue::soramode().turns(0, 1);
    let (mut changes, mut p50, mut p99) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        let commit = times(|sample| {
            sqlite.execute("UPDATE t SET v = ?1", [sample]).unwrap();
        });
        let post = times(|_| {
            poster.post();
            told.recv().unwrap();
        });
        let change = times(|sample| {
            client.text(&modes[sample % 2].message, "\"result\"");
        });
        let webhook = webhooks((&mut client, &told), (&come.message, &go.message));
        changes.push((change[0], commit[0]));
        p50.push((webhook[0], commit[0] + post[0]));
        p99.push((webhook[1], commit[0] + post[0]));
    }
    let row = |bar, what: &str, yardstick, pairs, bound| Row {
        bar,
        what: what.to_owned(),
        unit: Unit::Micros,
        yardstick,
        rounds: Rounds::of(pairs),
        bound,
    };
    vec![
        row("P5", "ChangeMode, durable, p50", "a commit", changes, Bound::AtMost(1.5)),
        row("P10", "last Disconnect to the webhook, p50", "commit + POST", p50, Bound::AtMost(2.0)),
        row("P10", "the same, p99", "their p50", p99, Bound::AtMost(4.0)),
    ]
}

/// p50 and p99 in microseconds of what is done again and again.
fn times(mut act: impl FnMut(usize)) -> [f64; 2] {
    let all = (0..SAMPLES).map(|sample| {
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

/// From the last disconnect of a session until its receiver was told.
fn webhooks((client, told): (&mut Client, &Receiver<Instant>), (come, go): (&[u8], &[u8])) -> [f64; 2] {
    let all = (0..SAMPLES).map(|_| {
        client.text(come, "offer");
        let began = Instant::now();
        client.text(go, "\"result\"");
        micros(told.recv().unwrap().duration_since(began))
    });
    both(all.collect())
}

/// Somebody who answers every request with 200 at once, and says when it came.
fn receiver() -> (Receiver<Instant>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let tell = tell.clone();
            std::thread::spawn(move || receive(&stream, &tell));
        }
    });
    (told, address)
}

fn receive(stream: &TcpStream, tell: &Sender<Instant>) {
    let mut reader = BufReader::new(stream);
    while take(&mut reader) {
        tell.send(Instant::now()).unwrap();
        let mut stream = stream;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    }
}

fn take(reader: &mut BufReader<&TcpStream>) -> bool {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return false;
        }
    }
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned)).unwrap();
    reader.read_exact(&mut vec![0; length.parse().unwrap()]).is_ok()
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
        let runtime = super::yard::runtime();
        let (sender, connection) = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
            (sender, JoinSet::from_iter([connection]))
        });
        Self { runtime, sender, _connection: connection }
    }

    fn post(&mut self) {
        let body = Full::new(Bytes::from_static(b"{\"type\":\"session.vanished\"}"));
        let request = hyper::Request::post("/").header("host", "localhost").body(body).unwrap();
        let Self { runtime, sender, .. } = self;
        assert!(runtime.block_on(async { sender.send_request(request).await.unwrap() }).status().is_success());
    }
}

/// P12. Killed before: each finds what a crash leaves.
pub(crate) fn starts(effort: Effort<'_>) -> Vec<Row> {
    let folder = effort.folder;
    let (state, path) = (folder.join("many.state"), folder.join("many"));
    let ours = peers::durable(path.clone(), &state, &[]);
    report(&ours, effort.many);
    drop(ours);
    let redis_folder = folder.join("many-redis");
    let (redis, tongue) = peers::redis(&redis_folder, Aof::Everysec);
    Client::to(&redis.path, &tongue).all(0..effort.many, |number| {
        let (channel, connection) = names(number);
        tongue.come(&channel, &connection)
    });
    // Until its file is whole.
    std::thread::sleep(Duration::from_secs(2));
    drop(redis);
    let full = Rounds::beside(
        effort.rounds,
        || start(|| first_answer(peers::durable(path.clone(), &state, &[]))),
        || start(|| peers::redis(&redis_folder, Aof::Everysec).0),
    );
    let empty = (0..2 * effort.rounds)
        .map(|round| 1e3 * start(|| first_answer(peers::durable(folder.join("empty"), &folder.join(format!("empty{round}")), &[]))));
    vec![
        Row {
            bar: "P12",
            what: "start to first answer, empty".to_owned(),
            unit: Unit::Millis,
            yardstick: "",
            rounds: Rounds::alone(empty),
            bound: Bound::Within(EMPTY_START_MAX_MS),
        },
        Row {
            bar: "P12",
            what: format!("the same, {} stored connections", effort.many),
            unit: Unit::Seconds,
            yardstick: "Redis from its AOF",
            rounds: full,
            bound: Bound::AtMost(1.0),
        },
    ]
}

/// Fills a daemon as a signalling server does that tells of all it has.
fn report(server: &Server, connections: usize) {
    let mut client = Client::to(&server.path, &Tongue::soramode());
    for first in (0..connections).step_by(REPORTED) {
        let rows = (first..connections.min(first + REPORTED)).map(|number| {
            let (channel, connection) = names(number);
            format!("{{\"channel_id\":\"{channel}\",\"connection_id\":\"{connection}\"}}")
        });
        let rows: Vec<String> = rows.collect();
        client.text(
            format!("{{\"id\":1,\"method\":\"Report\",\"params\":{{\"connections\":[{}]}}}}\n", rows.join(",")).as_bytes(),
            "\"result\"",
        );
    }
}

fn first_answer(server: Server) -> Server {
    let mut stream = BufReader::new(UnixStream::connect(&server.path).unwrap());
    stream.get_ref().write_all(b"{\"id\":1,\"method\":\"GetMode\"}\n").unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    assert!(line.contains("\"result\""), "{line}");
    server
}

/// Seconds until it is there; its end does not count.
fn start(act: impl FnOnce() -> Server) -> f64 {
    let began = Instant::now();
    let server = act();
    let elapsed = began.elapsed();
    drop(server);
    elapsed.as_secs_f64()
}
