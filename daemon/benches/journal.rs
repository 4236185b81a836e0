//! What it costs to keep everything: decisions, changes of the mode, a webhook, a start with a million connections.
//!
//! `cargo bench -p soramoded --bench journal` (arguments after `--`: a number of rounds). Decisions stand beside the same daemon with
//! `--ephemeral`, the others beside a bare commit of one row by `SQLite` that waits for the disk, in the same run and in turn.

#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a measurement ends by panicking, and prints")]

mod yard;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use yard::{Server, latency, median, throughput};

const DEPTH: usize = 16;
const SAMPLES: usize = 1_000;
const CONNECTIONS: usize = 1_000_000;
const CHANNELS: usize = 100_000;

/// Connections in one `Report`: a request has at most 64 KiB.
const REPORTED: usize = 400;

fn main() {
    let rounds = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(5);
    let folder = std::env::temp_dir().join(format!("soramode-bench-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    decisions(&folder, rounds);
    waits_for_the_disk(&folder, rounds);
    start_full(&folder, rounds);
    std::fs::remove_dir_all(&folder).unwrap();
}

fn soramoded(state: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_soramoded"));
    command.args(["--log-level", "warn", "--state-dir"]).arg(state).args(flags).arg("--socket");
    command
}

fn decisions(folder: &Path, rounds: usize) {
    let ours = Server::start(&mut soramoded(&folder.join("decisions"), &[]), folder.join("durable"));
    let mut volatile = Command::new(env!("CARGO_BIN_EXE_soramoded"));
    let volatile = Server::start(volatile.args(["--ephemeral", "--log-level", "warn", "--socket"]), folder.join("volatile"));
    println!("{:<34} {:>12} {:>12} {:>7}", "median of rounds", "journal", "ephemeral", "ratio");
    throughput("replies/s, 64 clients", (&ours, &volatile), rounds, 1);
    throughput("replies/s, 64 clients, 16 in flight", (&ours, &volatile), rounds, DEPTH);
    latency((&ours, &volatile), rounds);
}

/// p50 and p99 in microseconds of what is done again and again.
fn times(mut act: impl FnMut(usize)) -> [f64; 2] {
    let mut times: Vec<f64> = (0..SAMPLES)
        .map(|sample| {
            let began = Instant::now();
            act(sample);
            began.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    [times[times.len() / 2], times[times.len() * 99 / 100]]
}

fn waits_for_the_disk(folder: &Path, rounds: usize) {
    let (told, address) = receiver();
    let url = format!("http://{address}/");
    let flags = ["--webhook", &url, "--webhook-events", "session.destroyed"];
    let server = Server::start(&mut soramoded(&folder.join("modes"), &flags), folder.join("modes.sock"));
    let sqlite = rusqlite::Connection::open(folder.join("bare.db")).unwrap();
    sqlite.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (v); INSERT INTO t VALUES (0)").unwrap();
    let mut client = Client::to(&server.path);
    let mut all: [Vec<[f64; 2]>; 3] = Default::default();
    for _ in 0..rounds {
        all[0].push(times(|sample| assert_eq!(sqlite.execute("UPDATE t SET v = ?1", [sample]).unwrap(), 1)));
        all[1].push(times(|sample| {
            let mode = if sample % 2 == 0 { "block_new_session" } else { "normal" };
            client.ask(&format!("\"method\":\"ChangeMode\",\"params\":{{\"mode\":\"{mode}\"}}"));
        }));
        all[2].push(webhooks(&mut client, &told));
    }
    println!("{:<34} {:>12} {:>12} {:>7}", "waiting for the disk, us", "p50", "p99", "x bare");
    let bare = median(all[0].iter().map(|it| it[0]));
    for (name, rounds) in ["a bare commit of one row", "ChangeMode", "Disconnect until the webhook came"].iter().zip(&all) {
        let [p50, p99] = [0, 1].map(|place| median(rounds.iter().map(|it| it[place])));
        println!("{name:<34} {p50:>12.0} {p99:>12.0} {:>7.2}", p50 / bare);
    }
}

/// From the last disconnect of a session until its receiver was told.
fn webhooks(client: &mut Client, told: &Receiver<Instant>) -> [f64; 2] {
    let mut times: Vec<f64> = (0..SAMPLES / 5)
        .map(|_| {
            client.ask("\"method\":\"Connect\",\"params\":{\"channel_id\":\"a\",\"connection_id\":\"b\"}");
            let began = Instant::now();
            client.ask("\"method\":\"Disconnect\",\"params\":{\"connection_id\":\"b\"}");
            told.recv().unwrap().duration_since(began).as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    [times[times.len() / 2], times[times.len() * 99 / 100]]
}

/// Somebody who answers every request with 200 at once.
fn receiver() -> (Receiver<Instant>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while take(&mut reader) {
                tell.send(Instant::now()).unwrap();
                (&stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            }
        }
    });
    (told, address)
}

fn take(reader: &mut BufReader<TcpStream>) -> bool {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return false;
        }
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    reader.read_exact(&mut vec![0; length.parse().unwrap()]).is_ok()
}

fn start_full(folder: &Path, rounds: usize) {
    let (state, path) = (folder.join("full"), folder.join("full.sock"));
    let server = Server::start(&mut soramoded(&state, &[]), path.clone());
    let mut client = Client::to(&path);
    for first in (0..CONNECTIONS).step_by(REPORTED) {
        let row =
            |number| format!("{{\"channel_id\":\"CHANNELID{:017}\",\"connection_id\":\"CONNECTION{number:016}\"}}", number % CHANNELS);
        let rows: Vec<String> = (first..first + REPORTED).map(row).collect();
        client.ask(&format!("\"method\":\"Report\",\"params\":{{\"connections\":[{}]}}", rows.join(",")));
    }
    // Killed: as it is, and not as a stop in order would leave it.
    drop(server);
    let starts: Vec<f64> = (0..rounds)
        .map(|_| {
            let began = Instant::now();
            let server = Server::start(&mut soramoded(&state, &[]), path.clone());
            Client::to(&server.path).ask("\"method\":\"GetMode\"");
            began.elapsed().as_secs_f64()
        })
        .collect();
    println!("{:<34} {:>10.2} s", "start with 1,000,000 connections", median(starts.into_iter()));
    let empty: Vec<f64> = (0..rounds)
        .map(|round| {
            let began = Instant::now();
            let server = Server::start(&mut soramoded(&folder.join(format!("empty{round}")), &[]), folder.join("empty.sock"));
            Client::to(&server.path).ask("\"method\":\"GetMode\"");
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    println!("{:<34} {:>10.1} ms", "start with nothing", median(empty.into_iter()));
}

struct Client(BufReader<UnixStream>);

impl Client {
    fn to(path: &Path) -> Self {
        Self(BufReader::new(UnixStream::connect(path).unwrap()))
    }

    /// Asks, and waits for the answer, which must be no error.
    fn ask(&mut self, request: &str) {
        self.0.get_ref().write_all(format!("{{\"id\":1,{request}}}\n").as_bytes()).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        assert!(line.contains("\"result\""), "{request}: {line}");
    }
}
