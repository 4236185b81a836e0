//! lists: all sessions, page by page, and what others feel of it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use super::harness::Profile;
use super::harness::baselines::{self, Aof};
use super::harness::dialect::{Dialect, resp};
use super::harness::load::{ANSWER_MAX, Client, count};
use super::harness::row::{Bound, Rounds, Row, Unit};
use super::harness::server::{Core, pin_load};
use super::harness::sheet::Sheet;

/// Number of sessions to list.
const SESSIONS: usize = 100_000;

/// Lines of Redis' answer per field: the lengths and texts of its name and of its value.
const LINES_A_FIELD: usize = 4;

/// Lowest priority: yields to every other process.
const NICENESS_MAX: i32 = 19;

pub(crate) fn measure(profile: Profile<'_>, sheet: &mut Sheet) {
    let dialect = Dialect::soramode();
    let ours = baselines::volatile(profile.folder.join("gate"), &[]);
    let (redis, redis_tongue) = baselines::redis(&profile.folder.join("redis"), Aof::None);
    ours.pin(Core::First);
    redis.pin(Core::First);
    pin_load(Core::Second);
    let (mut client, mut redis_client) = (
        Client::to(&ours.path, &dialect),
        Client::to(&redis.path, &redis_tongue),
    );
    let names = |number| {
        (
            format!("CHANNELID{number:017}"),
            format!("CONNECTION{number:016}"),
        )
    };
    client.all(0..SESSIONS, |number| {
        let (channel, connection) = names(number);
        dialect.come(&channel, &connection)
    });
    redis_client.all(0..SESSIONS, |number| {
        let (channel, connection) = names(number);
        resp(&["HSET", "sessions", &channel, &connection])
    });
    let mut pager = Pager::to(&ours.path);
    let bound = Bound::AtLeast(0.5);
    let rounds = Rounds::beside(
        profile,
        bound,
        || pager.rate(SESSIONS),
        || hash_rate(&mut redis_client, ("sessions", SESSIONS)),
    );
    let what = format!("rows of all {SESSIONS} sessions, in pages");
    sheet.add(Row {
        goal: "lists",
        what,
        unit: Unit::PerSecond,
        yardstick: "Redis HGETALL",
        rounds,
        bound,
    });
    let bound = Bound::AtMost(3.0);
    let mut other = Client::to(&ours.path, &dialect);
    let idle_and_busy = (0..profile.rounds).map(|_| {
        let idle = other.round_trips(&dialect, profile.time).p99;
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                // It shares a core with the other client, which must wait for the daemon and not
                // for this one.
                rustix::process::setpriority_process(None, NICENESS_MAX).unwrap();
                pager.turn_pages(&is_over);
            });
            let busy = other.round_trips(&dialect, profile.time).p99;
            is_over.store(true, Ordering::Relaxed);
            (busy, idle)
        })
    });
    let rounds = Rounds::of(idle_and_busy.collect());
    let what = "another client's p99 meanwhile".to_owned();
    sheet.add(Row {
        goal: "lists",
        what,
        unit: Unit::Micros,
        yardstick: "idle",
        rounds,
        bound,
    });
}

/// Rows a second of a hash with so many fields, in one answer.
pub(crate) fn hash_rate(client: &mut Client, (hash, fields): (&str, usize)) -> f64 {
    let began = Instant::now();
    client.ask(
        resp(&["HGETALL", hash]).as_bytes(),
        1 + fields * LINES_A_FIELD,
    );
    count(fields) / began.elapsed().as_secs_f64()
}

/// Client that lists all sessions, page after page.
pub(crate) struct Pager {
    stream: BufReader<UnixStream>,
    line: Vec<u8>,
    cursor: Option<String>,
}

impl Pager {
    pub(crate) fn to(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(ANSWER_MAX)).unwrap();
        Self {
            stream: BufReader::with_capacity(256 * 1024, stream),
            line: Vec::new(),
            cursor: None,
        }
    }

    /// Rows a second of all sessions, which must be so many.
    pub(crate) fn rate(&mut self, sessions: usize) -> f64 {
        self.cursor = None;
        let (began, mut rows) = (Instant::now(), 0);
        loop {
            rows += self.page();
            if self.cursor.is_none() {
                assert_eq!(rows, sessions);
                return count(rows) / began.elapsed().as_secs_f64();
            }
        }
    }

    fn turn_pages(&mut self, is_over: &AtomicBool) {
        while !is_over.load(Ordering::Relaxed) {
            self.page();
        }
    }

    /// The next page, or the first after the last; how many rows it has.
    fn page(&mut self) -> usize {
        let cursor = self
            .cursor
            .take()
            .map(|cursor| format!(",\"cursor\":\"{cursor}\""))
            .unwrap_or_default();
        let request = format!(
            "{{\"id\":1,\"method\":\"ListSessions\",\"params\":{{\"limit\":1000{cursor}}}}}\n"
        );
        self.stream.get_ref().write_all(request.as_bytes()).unwrap();
        self.line.clear();
        self.stream.read_until(b'\n', &mut self.line).unwrap();
        let text = std::str::from_utf8(&self.line).unwrap();
        assert!(text.contains("\"result\""), "{text}");
        self.cursor = text
            .rsplit_once("\"cursor\":\"")
            .map(|(_, rest)| rest.split('"').next().unwrap().to_owned());
        memchr::memmem::find_iter(&self.line, b"\"session_id\"").count()
    }
}
