//! How many decisions a second the control socket gives, how long one takes, and what a million connections weigh.
//!
//! `cargo bench -p soramoded` (arguments after `--`: a number of rounds). Each figure stands beside `echo`, a server of the same runtime
//! that answers each line with a constant and writes once for each read, measured in the same run and in turn. The servers have one core and
//! the load the other; with one client both share a core (`taskset`).

#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a measurement ends by panicking, and prints")]

mod yard;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use yard::{Server, latency, runtime, throughput};

const DEPTH: usize = 16;
const CONNECTIONS: u64 = 1_000_000;
const CHANNELS: u64 = 100_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, word, path] = arguments.as_slice()
        && word == "echo"
    {
        return runtime().block_on(echo(Path::new(path)));
    }
    let rounds = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(5);
    let folder = std::env::temp_dir().join(format!("soramode-bench-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    measure(&folder, rounds);
    std::fs::remove_dir_all(&folder).unwrap();
}

fn measure(folder: &Path, rounds: usize) {
    let ours = Server::start(
        Command::new(env!("CARGO_BIN_EXE_soramoded")).args(["--ephemeral", "--log-level", "warn", "--socket"]),
        folder.join("gate"),
    );
    let echo = Server::start(Command::new(std::env::current_exe().unwrap()).arg("echo"), folder.join("echo"));
    println!("{:<34} {:>12} {:>12} {:>7}", "median of rounds", "soramoded", "echo", "ratio");
    println!("{:<34} {:>9.1} MiB", "empty, resident", resident_mib(&ours));
    throughput("replies/s, 64 clients", (&ours, &echo), rounds, 1);
    throughput("replies/s, 64 clients, 16 in flight", (&ours, &echo), rounds, DEPTH);
    latency((&ours, &echo), rounds);
    let empty = resident_mib(&ours);
    let worst = fill(&ours);
    let full = resident_mib(&ours);
    let each = (full - empty) * 1024.0 * 1024.0 / 1e6;
    println!("{:<34} {full:>9.1} MiB   {each:.0} bytes each; longest answer meanwhile {worst:.2?}", "1,000,000 connections, resident");
    throughput("  then replies/s, 64 clients", (&ours, &echo), rounds, 1);
    throughput("  then replies/s, 16 in flight", (&ours, &echo), rounds, DEPTH);
}

/// Fills the table, one request in flight; the longest answer.
fn fill(server: &Server) -> Duration {
    let mut stream = StdStream::connect(&server.path).unwrap();
    let mut buffer = [0; 4096];
    let mut worst = Duration::ZERO;
    for number in 0..CONNECTIONS {
        let channel = number % CHANNELS;
        let message = format!(
            "{{\"id\":1,\"method\":\"Connect\",\"params\":{{\"channel_id\":\"CHANNELID{channel:017}\",\"connection_id\":\"CONNECTION{number:016}\"}}}}\n"
        );
        let began = Instant::now();
        stream.write_all(message.as_bytes()).unwrap();
        assert!(stream.read(&mut buffer).unwrap() > 0, "the server closed");
        worst = worst.max(began.elapsed());
    }
    worst
}

fn resident_mib(server: &Server) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).and_then(|rest| rest.split_whitespace().next()).unwrap();
    kib.parse::<f64>().unwrap() / 1024.0
}

/// Answers each line with a constant as long as an offer.
async fn echo(path: &Path) {
    let answer = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{\"type\":\"offer\",{}}}}}\n", "x".repeat(110));
    let listener = UnixListener::bind(path).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tasks.spawn(echo_lines(stream, answer.clone().into_bytes()));
    }
}

async fn echo_lines(mut stream: UnixStream, answer: Vec<u8>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(bytes @ 1..) = stream.read(&mut buffer).await {
        let lines = memchr::memchr_iter(b'\n', &buffer[..bytes]).count();
        if stream.write_all(&answer.repeat(lines)).await.is_err() {
            return;
        }
    }
}
