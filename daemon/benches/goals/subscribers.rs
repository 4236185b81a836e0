//! subscribers: the cost of a thousand subscribers for other clients, and of one that never reads.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::harness::Profile;
use super::harness::baselines;
use super::harness::dialect::Dialect;
use super::harness::load::{ANSWER_MAX, Client, Load, count};
use super::harness::row::{Bound, Rounds, Row, Unit};
use super::harness::server::{Core, Server, pin_load};
use super::harness::sheet::Sheet;

const SUBSCRIBERS: usize = 1_000;

/// Number of clients with requests. The daemon takes 1,024 clients, so 64 would not fit with the
/// subscribers.
const CLIENTS: usize = 16;

/// A session comes and goes in each: a thousand events a second.
const SESSION_EVERY: Duration = Duration::from_millis(2);

/// Interval of a subscriber's reads: so rare that reading costs next to nothing.
const READ_EVERY: Duration = Duration::from_millis(100);

/// Maximum memory in addition to that without the subscribers, in MiB.
const GROWTH_MAX_MIB: f64 = 64.0;

pub(crate) fn measure(profile: Profile<'_>, sheet: &mut Sheet) {
    let (ours, alone) = (
        baselines::volatile(profile.folder.join("subscribed"), &[]),
        baselines::volatile(profile.folder.join("alone"), &[]),
    );
    for server in [&ours, &alone] {
        server.pin(Core::First);
        settle(server);
    }
    pin_load(Core::Second);
    let load = Load {
        clients: CLIENTS,
        depth: 1,
        time: profile.time,
    };
    let before = ours.resident_mib();
    let _deaf = subscribe(&ours.path, "{}");
    let mut subscribed: Vec<UnixStream> = (0..SUBSCRIBERS)
        .map(|_| subscribe(&ours.path, "{\"types\":[\"session.*\"]}"))
        .collect();
    let mut heard = Vec::new();
    let bound = Bound::AtLeast(0.8);
    let mut among_them = || {
        let is_over = AtomicBool::new(false);
        let (began, rate, events) = thread::scope(|scope| {
            let began = Instant::now();
            let reading = scope.spawn(|| read(&mut subscribed, &is_over));
            scope.spawn(|| make_sessions(&ours.path, &is_over));
            let rate = load.ask(&ours.path, &Dialect::soramode()).rate;
            is_over.store(true, Ordering::Relaxed);
            (began, rate, reading.join().unwrap())
        });
        heard.push(count(events) / count(SUBSCRIBERS) / began.elapsed().as_secs_f64());
        rate
    };
    let rounds = Rounds::beside(profile, bound, &mut among_them, || {
        load.ask(&alone.path, &Dialect::soramode()).rate
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

/// Returns the number of events that all subscribers received together.
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
