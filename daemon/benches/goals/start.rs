//! start: from the start to the first answer.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::harness::Profile;
use super::harness::baselines::{self, Aof};
use super::harness::dialect::Dialect;
use super::harness::load::{Client, names};
use super::harness::row::{Bound, Rounds, Row, Unit};
use super::harness::server::Server;
use super::harness::sheet::Sheet;

/// Connections in one `Report`: a request has at most 64 KiB.
const REPORTED: usize = 400;

/// Maximum time to the first answer of a daemon with nothing to read, in milliseconds.
const EMPTY_START_MAX_MS: f64 = 15.0;

pub(crate) fn measure(profile: Profile<'_>, sheet: &mut Sheet) {
    let folder = profile.folder;
    let full = full(profile);
    let empty = (0..2 * profile.rounds).map(|round| {
        1e3 * start(|| {
            first_answer(baselines::durable(
                folder.join("empty"),
                &folder.join(format!("empty{round}")),
                &[],
            ))
        })
    });
    sheet.add(Row {
        goal: "start",
        what: "start to first answer, empty".to_owned(),
        unit: Unit::Millis,
        yardstick: "",
        rounds: Rounds::alone(empty),
        bound: Bound::Within(EMPTY_START_MAX_MS),
    });
    sheet.add(Row {
        goal: "start",
        what: format!("the same, {} stored connections", profile.many),
        unit: Unit::Seconds,
        yardstick: "Redis from its AOF",
        rounds: full,
        bound: Bound::AtMost(1.0),
    });
}

/// Seconds to the first answer, with so many connections: ours, and Redis from its file. Both were killed before and find what a crash
/// leaves.
pub(crate) fn full(profile: Profile<'_>) -> Rounds {
    let folder = profile.folder;
    let (state, path) = (folder.join("many.state"), folder.join("many"));
    let ours = baselines::durable(path.clone(), &state, &[]);
    report(&ours, profile.many);
    drop(ours);
    let redis_folder = folder.join("many-redis");
    let (redis, dialect) = baselines::redis(&redis_folder, Aof::Everysec);
    Client::to(&redis.path, &dialect).all(0..profile.many, |number| {
        let (channel, connection) = names(number);
        dialect.come(&channel, &connection)
    });
    // Until its file is whole.
    std::thread::sleep(Duration::from_secs(2));
    drop(redis);
    Rounds::beside(
        profile,
        Bound::AtMost(1.0),
        || start(|| first_answer(baselines::durable(path.clone(), &state, &[]))),
        || start(|| baselines::redis(&redis_folder, Aof::Everysec).0),
    )
}

/// Fills a daemon as a signalling server does that reports all its connections.
fn report(server: &Server, connections: usize) {
    let mut client = Client::to(&server.path, &Dialect::soramode());
    for first in (0..connections).step_by(REPORTED) {
        let rows = (first..connections.min(first + REPORTED)).map(|number| {
            let (channel, connection) = names(number);
            format!("{{\"channel_id\":\"{channel}\",\"connection_id\":\"{connection}\"}}")
        });
        let rows: Vec<String> = rows.collect();
        client.text(
            format!(
                "{{\"id\":1,\"method\":\"Report\",\"params\":{{\"connections\":[{}]}}}}\n",
                rows.join(",")
            )
            .as_bytes(),
            "\"result\"",
        );
    }
}

fn first_answer(server: Server) -> Server {
    let mut stream = BufReader::new(UnixStream::connect(&server.path).unwrap());
    stream
        .get_ref()
        .write_all(b"{\"id\":1,\"method\":\"GetMode\"}\n")
        .unwrap();
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
