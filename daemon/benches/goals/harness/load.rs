//! Clients that ask as fast as they are answered.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use super::dialect::{Dialect, Exchange};
use super::row::percentile;
use super::runtime;

pub(crate) const CLIENTS: usize = 64;

/// Requests that one client has in flight where it does not wait for each answer.
pub(crate) const DEPTH: usize = 16;

/// Round trips of one client, at most.
const ROUND_TRIPS: usize = 50_000;

/// Timeout of an answer, after which the measurement is given up.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Connections where a table is filled, each channel with ten.
pub(crate) const CONNECTIONS_A_CHANNEL: usize = 10;

/// Measured results of a load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Number of answers per second.
    pub(crate) rate: f64,
    /// From a message's first byte to its last answer, in microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// Load: this number of clients, each with a number of requests in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) clients: usize,
    pub(crate) depth: usize,
    pub(crate) time: Duration,
}

impl Load {
    pub(crate) fn ask(self, path: &Path, dialect: &Dialect) -> Seen {
        let began = Instant::now();
        let mut times: Vec<f64> = runtime().block_on(async {
            let mut clients = JoinSet::new();
            for client in 0..self.clients {
                clients.spawn(ask_until(
                    path.to_owned(),
                    dialect.turns(client, self.depth),
                    (dialect.clone(), began + self.time),
                ));
            }
            // An error is an answer that takes too long.
            tokio::time::timeout(self.time + ANSWER_MAX, clients.join_all())
                .await
                .unwrap()
                .concat()
        });
        let elapsed = began.elapsed();
        times.sort_by(f64::total_cmp);
        Seen {
            rate: count(times.len() * self.depth) / elapsed.as_secs_f64(),
            p50: percentile(&times, 50),
            p99: percentile(&times, 99),
        }
    }
}

async fn ask_until(
    path: PathBuf,
    turns: [Exchange; 2],
    (dialect, end): (Dialect, Instant),
) -> Vec<f64> {
    let stream = connect(&path, &dialect).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut stream = UnixStream::from_std(stream).unwrap();
    let mut buffer = vec![0; 64 * 1024];
    let mut times = Vec::new();
    if !dialect.greeting.is_empty() {
        ask(&mut stream, &mut buffer, (dialect.greeting, 1, dialect.end)).await;
    }
    while Instant::now() < end {
        for Exchange { message, requests } in &turns {
            let began = Instant::now();
            ask(&mut stream, &mut buffer, (message, *requests, dialect.end)).await;
            times.push(micros(began.elapsed()));
        }
    }
    times
}

async fn ask(
    stream: &mut UnixStream,
    buffer: &mut [u8],
    (message, answers, end): (&[u8], usize, u8),
) {
    stream.write_all(message).await.unwrap();
    let mut got = 0;
    while got < answers {
        let bytes = stream.read(buffer).await.unwrap();
        assert!(bytes > 0, "the server closed");
        got += memchr::memchr_iter(end, &buffer[..bytes]).count();
    }
}

/// A client that waits for each answer, without a runtime.
pub(crate) struct Client {
    stream: StdStream,
    buffer: Vec<u8>,
    /// Bytes of the last read.
    filled: usize,
    end: u8,
}

impl Client {
    pub(crate) fn to(path: &Path, dialect: &Dialect) -> Self {
        let stream = connect(path, dialect).unwrap();
        stream.set_read_timeout(Some(ANSWER_MAX)).unwrap();
        let mut client = Self {
            stream,
            buffer: vec![0; 256 * 1024],
            filled: 0,
            end: dialect.end,
        };
        if !dialect.greeting.is_empty() {
            client.ask(dialect.greeting, 1);
        }
        client
    }

    /// Until this many answers have come; how many bytes they had.
    pub(crate) fn ask(&mut self, message: &[u8], answers: usize) -> usize {
        self.stream.write_all(message).unwrap();
        let (mut got, mut all) = (0, 0);
        while got < answers {
            self.filled = self.stream.read(&mut self.buffer).unwrap();
            assert!(self.filled > 0, "the server closed");
            got += memchr::memchr_iter(self.end, &self.buffer[..self.filled]).count();
            all += self.filled;
        }
        all
    }

    /// Returns the last answer.
    pub(crate) fn said(&self) -> &str {
        std::str::from_utf8(&self.buffer[..self.filled]).unwrap()
    }

    /// Asks once; what is answered must have this in it.
    pub(crate) fn text(&mut self, message: &[u8], part: &str) -> &str {
        self.ask(message, 1);
        assert!(
            self.said().contains(part),
            "{}: {}",
            String::from_utf8_lossy(message),
            self.said()
        );
        self.said()
    }

    /// Measures the round trips of one client that connects and disconnects, at most for `time`.
    pub(crate) fn round_trips(&mut self, dialect: &Dialect, time: Duration) -> Seen {
        let turns = dialect.turns(0, 1);
        let first = Instant::now();
        let mut times: Vec<f64> = (0..ROUND_TRIPS)
            .take_while(|number| number % 2 == 1 || first.elapsed() < time)
            .map(|number| {
                let began = Instant::now();
                self.ask(&turns[number % 2].message, 1);
                micros(began.elapsed())
            })
            .collect();
        let rate = count(times.len()) / times.iter().sum::<f64>() * 1e6;
        times.sort_by(f64::total_cmp);
        Seen {
            rate,
            p50: percentile(&times, 50),
            p99: percentile(&times, 99),
        }
    }

    /// Lets connections in one after the other; the longest answer, in milliseconds.
    pub(crate) fn fill(&mut self, dialect: &Dialect, numbers: std::ops::Range<usize>) -> f64 {
        let mut longest = Duration::ZERO;
        for number in numbers {
            let (channel, connection) = names(number);
            let message = dialect.come(&channel, &connection);
            let began = Instant::now();
            self.ask(message.as_bytes(), 1);
            longest = longest.max(began.elapsed());
        }
        micros(longest) / 1e3
    }

    /// Many at once, where nobody looks at the time.
    pub(crate) fn all(&mut self, numbers: std::ops::Range<usize>, one: impl Fn(usize) -> String) {
        let mut numbers = numbers;
        loop {
            let some: Vec<String> = numbers.by_ref().take(4 * DEPTH).map(&one).collect();
            if some.is_empty() {
                return;
            }
            self.ask(some.concat().as_bytes(), some.len());
        }
    }
}

/// A packet is written and read as a part of a stream is, as long as each fits in one call.
pub(crate) fn connect(path: &Path, dialect: &Dialect) -> io::Result<StdStream> {
    if !dialect.packets {
        return StdStream::connect(path);
    }
    let socket = net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}

/// The channel and the connection of this number, as long as Sora's are.
pub(crate) fn names(number: usize) -> (String, String) {
    (
        format!("CHANNELID{:017}", number / CONNECTIONS_A_CHANNEL),
        format!("CONNECTION{number:016}"),
    )
}

pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

pub(crate) fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}
