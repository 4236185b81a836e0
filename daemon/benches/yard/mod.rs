//! What the benchmarks have in common: servers as processes, load, and medians beside a yardstick.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

const ROUND: Duration = Duration::from_secs(2);
const CLIENTS: usize = 64;
const LATENCY_SAMPLES: usize = 50_000;

pub(crate) fn throughput(name: &str, (ours, echo): (&Server, &Server), rounds: usize, depth: usize) {
    pin(ours.child.id(), "0");
    pin(echo.child.id(), "0");
    pin(std::process::id(), "1");
    let pairs: Vec<(f64, f64)> = (0..rounds).map(|_| (rate(&ours.path, depth), rate(&echo.path, depth))).collect();
    report(name, &pairs, |value| format!("{value:.0}"));
}

pub(crate) fn latency((ours, echo): (&Server, &Server), rounds: usize) {
    for process in [ours.child.id(), echo.child.id(), std::process::id()] {
        pin(process, "0");
    }
    let both: Vec<[(f64, f64); 2]> = (0..rounds).map(|_| [round_trips(&ours.path), round_trips(&echo.path)]).collect();
    let micros = |value: f64| format!("{value:.1} us");
    report("one client, p50", &both.iter().map(|[ours, echo]| (ours.0, echo.0)).collect::<Vec<_>>(), micros);
    report("one client, p99", &both.iter().map(|[ours, echo]| (ours.1, echo.1)).collect::<Vec<_>>(), micros);
}

pub(crate) fn report(name: &str, pairs: &[(f64, f64)], show: impl Fn(f64) -> String) {
    let ours = median(pairs.iter().map(|pair| pair.0));
    let echo = median(pairs.iter().map(|pair| pair.1));
    let ratio = median(pairs.iter().map(|pair| pair.0 / pair.1));
    println!("{name:<34} {:>12} {:>12} {ratio:>7.2}", show(ours), show(echo));
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Replies a second to clients that connect and disconnect, each with this many requests in flight.
fn rate(path: &Path, depth: usize) -> f64 {
    runtime().block_on(async {
        let end = Instant::now() + ROUND;
        let began = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for client in 0..CLIENTS {
            let stream = UnixStream::connect(path).await.unwrap();
            tasks.spawn(ask_until(stream, end, requests(client, depth)));
        }
        let replies: usize = tasks.join_all().await.into_iter().sum();
        f64::from(u32::try_from(replies).unwrap()) / began.elapsed().as_secs_f64()
    })
}

/// The messages of one client, sent in turn: who connects in one disconnects in the next.
fn requests(client: usize, depth: usize) -> [(Vec<u8>, usize); 2] {
    let connect = |number| {
        format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{number},\"method\":\"Connect\",\"params\":{{\"channel_id\":\"channel-{client}\",\"connection_id\":\"CONNECTION{client:08}X{number:07}\"}}}}\n"
        )
    };
    let disconnect = |number| {
        format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{number},\"method\":\"Disconnect\",\"params\":{{\"connection_id\":\"CONNECTION{client:08}X{number:07}\"}}}}\n"
        )
    };
    let joined = |one: &dyn Fn(usize) -> String| (0..depth).map(one).collect::<String>().into_bytes();
    [(joined(&connect), depth), (joined(&disconnect), depth)]
}

async fn ask_until(mut stream: UnixStream, end: Instant, messages: [(Vec<u8>, usize); 2]) -> usize {
    let mut buffer = vec![0; 64 * 1024];
    let mut replies = 0;
    while Instant::now() < end {
        for (message, wanted) in &messages {
            stream.write_all(message).await.unwrap();
            let mut got = 0;
            while got < *wanted {
                let bytes = stream.read(&mut buffer).await.unwrap();
                assert!(bytes > 0, "the server closed");
                got += memchr::memchr_iter(b'\n', &buffer[..bytes]).count();
            }
            replies += got;
        }
    }
    replies
}

/// One client's round trips: p50 and p99, in microseconds.
fn round_trips(path: &Path) -> (f64, f64) {
    let mut stream = StdStream::connect(path).unwrap();
    let messages = requests(0, 1);
    let mut buffer = [0; 4096];
    let mut times: Vec<f64> = (0..LATENCY_SAMPLES)
        .map(|sample| {
            let began = Instant::now();
            stream.write_all(&messages[sample % 2].0).unwrap();
            assert!(stream.read(&mut buffer).unwrap() > 0, "the server closed");
            began.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// A server in a process of its own. Dropping it kills it.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) path: PathBuf,
}

impl Server {
    pub(crate) fn start(command: &mut Command, path: PathBuf) -> Self {
        let child = command.arg(&path).stdin(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while StdStream::connect(&path).is_err() {
            assert!(Instant::now() < deadline, "the server does not start");
            std::thread::yield_now();
        }
        Self { child, path }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

pub(crate) fn pin(process: u32, core: &str) {
    let pinned = Command::new("taskset").args(["-a", "-p", "-c", core, &process.to_string()]).stdout(Stdio::null()).status();
    assert!(pinned.is_ok_and(|status| status.success()), "taskset (util-linux) is needed, and two cores");
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
