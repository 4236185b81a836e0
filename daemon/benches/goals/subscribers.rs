//! subscribers: what a thousand who are told of sessions cost those who ask, and one who never reads.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::harness::Effort;
use super::harness::baselines;
use super::harness::dialect::Dialect;
use super::harness::load::{ANSWER_MAX, Client, Crowd, count};
use super::harness::row::{Bound, Rounds, Row, Unit};
use super::harness::server::{Core, Server, pin_load};
use super::harness::sheet::Sheet;

const SUBSCRIBERS: usize = 1_000;

/// Who asks meanwhile. The daemon takes 1,024 clients, so 64 would not fit beside them.
const CLIENTS: usize = 16;

/// A session comes and goes in each: a thousand events a second.
const SESSION_EVERY: Duration = Duration::from_millis(2);

/// How often somebody who is told reads what has come: so seldom that reading costs next to nothing.
const READ_EVERY: Duration = Duration::from_millis(100);

/// Whatever the readers do, the daemon may take so much more memory than without them, in MiB.
const GROWTH_MAX_MIB: f64 = 64.0;

pub(crate) fn measure(effort: Effort<'_>, sheet: &mut Sheet) {
    let (ours, alone) = (
        baselines::volatile(effort.folder.join("told"), &[]),
        baselines::volatile(effort.folder.join("alone"), &[]),
    );
    for server in [&ours, &alone] {
        server.pin(Core::First);
        settle(server);
    }
    pin_load(Core::Second);
    let crowd = Crowd {
        clients: CLIENTS,
        depth: 1,
        time: effort.time,
    };
    let before = ours.resident_mib();
    let _deaf = subscribe(&ours.path, "{}");
    let mut told: Vec<UnixStream> = (0..SUBSCRIBERS)
        .map(|_| subscribe(&ours.path, "{\"types\":[\"session.*\"]}"))
        .collect();
    let mut heard = Vec::new();
    let bound = Bound::AtLeast(0.8);
    let mut among_them = || {
        let is_over = AtomicBool::new(false);
        let (began, rate, events) = thread::scope(|scope| {
            let began = Instant::now();
            let reading = scope.spawn(|| read(&mut told, &is_over));
            scope.spawn(|| make_sessions(&ours.path, &is_over));
            let rate = crowd.ask(&ours.path, &Dialect::soramode()).rate;
            is_over.store(true, Ordering::Relaxed);
            (began, rate, reading.join().unwrap())
        });
        heard.push(count(events) / count(SUBSCRIBERS) / began.elapsed().as_secs_f64());
        rate
    };
    let rounds = Rounds::beside(effort, bound, &mut among_them, || {
        crowd.ask(&alone.path, &Dialect::soramode()).rate
    });
    let mut row = |what: &str, unit, yardstick, (rounds, bound)| {
        sheet.add(Row {
            goal: "subscribers",
            what: what.to_owned(),
            unit,
            yardstick,
            rounds,
            bound,
        });
    };
    row(
        "replies, 16 clients, 1000 subscribers",
        Unit::PerSecond,
        "without them",
        (rounds, bound),
    );
    row(
        "events to each of them",
        Unit::PerSecond,
        "",
        (Rounds::alone(heard), Bound::Shown),
    );
    let grown = Rounds::alone([ours.resident_mib() - before]);
    row(
        "memory that they and a deaf one took",
        Unit::MiB,
        "",
        (grown, Bound::Within(GROWTH_MAX_MIB)),
    );
}

/// Somebody stays in each channel that the load comes to, so that it makes no sessions.
fn settle(server: &Server) {
    let mut client = Client::to(&server.path, &Dialect::soramode());
    for number in 0..CLIENTS {
        let message = Dialect::soramode().come(
            &format!("channel-{number}"),
            &format!("RESIDENT{number:018}"),
        );
        client.text(message.as_bytes(), "offer");
    }
}

fn subscribe(path: &Path, params: &str) -> UnixStream {
    let mut stream = BufReader::new(UnixStream::connect(path).unwrap());
    stream.get_ref().set_read_timeout(Some(ANSWER_MAX)).unwrap();
    writeln!(
        stream.get_mut(),
        "{{\"id\":1,\"method\":\"Subscribe\",\"params\":{params}}}"
    )
    .unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    assert!(
        line.contains("\"result\"") && stream.buffer().is_empty(),
        "{line}"
    );
    stream.get_ref().set_nonblocking(true).unwrap();
    stream.into_inner()
}

/// How many events all of them heard together.
fn read(streams: &mut [UnixStream], is_over: &AtomicBool) -> usize {
    let mut buffer = vec![0; 256 * 1024];
    let mut events = 0;
    while !is_over.load(Ordering::Relaxed) {
        let next = Instant::now() + READ_EVERY;
        for stream in &mut *streams {
            while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
                events += memchr::memchr_iter(b'\n', &buffer[..bytes]).count();
            }
        }
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    events
}

fn make_sessions(path: &Path, is_over: &AtomicBool) {
    let dialect = Dialect::soramode();
    let mut client = Client::to(path, &dialect);
    let both = dialect.come("SESSION", "VISITOR") + &dialect.go("VISITOR");
    let mut next = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        client.ask(both.as_bytes(), 2);
        next += SESSION_EVERY;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}
