//! page: the status page of a node with many sessions, beside a server with a constant page of the same size.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::harness::Profile;
use super::harness::baselines;
use super::harness::dialect::Dialect;
use super::harness::load::{ANSWER_MAX, Client, count};
use super::harness::row::{Bound, Rounds, Row, Unit};
use super::harness::server::{Core, pin_load};
use super::harness::sheet::Sheet;
use super::http;

const OURS: &str = "127.0.0.1:19575";
const HYPER: &str = "127.0.0.1:19576";

/// Number of sessions on the node.
const SESSIONS: usize = 100_000;

pub(crate) fn measure(profile: Profile<'_>, sheet: &mut Sheet) {
    let (ours_at, hyper_at): (SocketAddr, SocketAddr) =
        (OURS.parse().unwrap(), HYPER.parse().unwrap());
    let dialect = Dialect::soramode();
    let ours = baselines::volatile(profile.folder.join("gate"), &["--observe-listen", OURS])
        .with_http(ours_at);
    let mut other = Client::to(&ours.path, &dialect);
    other.all(0..SESSIONS, |number| {
        dialect.come(
            &format!("CHANNELID{number:017}"),
            &format!("CONNECTION{number:016}"),
        )
    });
    let length = Reader::to(ours_at).read();
    let hyper = http::hyper(hyper_at, length);
    for server in [&ours, &hyper] {
        server.pin(Core::First);
    }
    pin_load(Core::Second);
    let (mut ours_reader, mut hyper_reader) = (Reader::to(ours_at), Reader::to(hyper_at));
    let bound = Bound::AtLeast(0.5);
    let rounds = Rounds::beside(
        profile,
        bound,
        || ours_reader.rate(profile.time),
        || hyper_reader.rate(profile.time),
    );
    sheet.add(Row {
        goal: "page",
        what: format!("status page with {SESSIONS} sessions"),
        unit: Unit::PerSecond,
        yardstick: "hyper, a constant page",
        rounds,
        bound,
    });
    let bound = Bound::AtMost(3.0);
    let idle_and_busy = (0..profile.rounds).map(|_| {
        let idle = other.round_trips(&dialect, profile.time).p99;
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    ours_reader.read();
                }
            });
            let busy = other.round_trips(&dialect, profile.time).p99;
            is_over.store(true, Ordering::Relaxed);
            (busy, idle)
        })
    });
    let rounds = Rounds::of(idle_and_busy.collect());
    sheet.add(Row {
        goal: "page",
        what: "another client's p99 meanwhile".to_owned(),
        unit: Unit::Micros,
        yardstick: "idle",
        rounds,
        bound,
    });
}

/// Reader of a page on one connection. Its length differs from one time to the next.
struct Reader {
    stream: BufReader<TcpStream>,
    request: String,
    body: Vec<u8>,
}

impl Reader {
    fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(ANSWER_MAX)).unwrap();
        Self {
            stream: BufReader::with_capacity(64 * 1024, stream),
            request: format!("GET / HTTP/1.1\r\nhost: {address}\r\n\r\n"),
            body: Vec::new(),
        }
    }

    /// Reads the page once; returns its length.
    fn read(&mut self) -> usize {
        let request = self.request.as_bytes();
        self.stream.get_ref().write_all(request).unwrap();
        let (mut line, mut length) = (String::new(), None);
        loop {
            line.clear();
            let bytes = self.stream.read_line(&mut line).unwrap();
            assert!(bytes > 0, "the server closed");
            let head = line.trim_end().to_ascii_lowercase();
            assert!(
                !head.starts_with("http/") || head.contains(" 200 "),
                "{head}"
            );
            if let Some(number) = head.strip_prefix("content-length: ") {
                length = Some(number.parse().unwrap());
            } else if head.is_empty() {
                break;
            }
        }
        self.body.resize(length.unwrap(), 0);
        self.stream.read_exact(&mut self.body).unwrap();
        self.body.len()
    }

    /// Pages a second.
    fn rate(&mut self, time: Duration) -> f64 {
        let (began, mut pages) = (Instant::now(), 0);
        while began.elapsed() < time {
            self.read();
            pages += 1;
        }
        count(pages) / began.elapsed().as_secs_f64()
    }
}
