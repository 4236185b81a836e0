//! announce: every channel is announced to by Sora's API, beside a bare client that makes the same calls. ends: sessions end at a rate. For both: the
//! p99 of another client meanwhile.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use super::harness::Profile;
use super::harness::baselines;
use super::harness::dialect::Dialect;
use super::harness::load::{Client, count};
use super::harness::row::{Bound, Rounds, Row, Unit};
use super::harness::server::{Core, Server, pin_load};
use super::harness::sheet::Sheet;
use super::harness::web::HttpLoad;

/// Number of channels to announce to.
const CHANNELS: usize = 10_000;

/// Number of calls of Sora's API in flight.
const CALLS: usize = 8;

/// Number of sessions to end.
const SESSIONS: usize = 20_000;

const ENDS_PER_MINUTE: usize = 1_000;

/// Bytes of an answer of Sora's API.
const ANSWER_BYTES: usize = 2;

// Below the ports that the kernel gives out, or a client that waits for a server could come to be connected with itself.
const SORA_API: &str = "127.0.0.1:19575";

const ANNOUNCE: &str = "{\"id\":1,\"method\":\"Announce\",\"params\":{\"text\":\"This meeting ends in 10 minutes\"}}\n";

pub(crate) fn announce(profile: Profile<'_>, sheet: &mut Sheet) {
    let address: SocketAddr = SORA_API.parse().unwrap();
    let api = sora_api(address);
    let url = format!("http://{SORA_API}/");
    let ours = baselines::volatile(profile.folder.join("gate"), &["--sora-api", &url]);
    let mut client = with_sessions(&ours.path, CHANNELS);
    let bare = HttpLoad::to(address, push());
    // Either client of the API has one core, and the API the other.
    api.pin(Core::Second);
    ours.pin(Core::First);
    pin_load(Core::First);
    let bound = Bound::AtLeast(0.9);
    let rounds = Rounds::beside(
        profile,
        bound,
        || announcement_rate(&mut client),
        || bare.rate(CALLS, profile.time),
    );
    sheet.add(Row {
        goal: "announce",
        what: format!("channels announced to, of {CHANNELS}, {CALLS} calls at a time"),
        unit: Unit::PerSecond,
        yardstick: "a bare client",
        rounds,
        bound,
    });
    pin_load(Core::Second);
    let rounds = other_client(profile, &ours.path, |measure| {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    announcement_rate(&mut client);
                }
            });
            let busy = measure();
            is_over.store(true, Ordering::Relaxed);
            busy
        })
    });
    sheet.add(other_row("announce", rounds));
}

pub(crate) fn ends(profile: Profile<'_>, sheet: &mut Sheet) {
    let ours = baselines::volatile(profile.folder.join("gate"), &[]);
    ours.pin(Core::First);
    pin_load(Core::Second);
    let mut client = with_sessions(&ours.path, SESSIONS);
    let mut sfu = Sfu::to(&ours.path);
    let stream = sfu.0.get_ref().try_clone().unwrap();
    let ending = thread::spawn(move || sfu.end_sessions());
    let rounds = other_client(profile, &ours.path, |measure| {
        // The answer comes when each session was asked once: it is not waited for.
        let mut operator = UnixStream::connect(&ours.path).unwrap();
        operator.write_all(end_all().as_bytes()).unwrap();
        let busy = measure();
        client.text(b"{\"id\":1,\"method\":\"CancelPlan\"}\n", "\"found\":true");
        busy
    });
    stream.shutdown(Shutdown::Both).unwrap();
    let ended = ending.join().unwrap();
    assert!(ended > 0 && ended < SESSIONS, "{ended} sessions were ended");
    sheet.add(other_row("ends", rounds));
}

/// Measures the p99 of another client: idle, and while something else happens.
fn other_client(
    profile: Profile<'_>,
    path: &Path,
    mut meanwhile: impl FnMut(&mut dyn FnMut() -> f64) -> f64,
) -> Rounds {
    let dialect = Dialect::soramode();
    let mut other = Client::to(path, &dialect);
    let idle_and_busy = (0..profile.rounds).map(|_| {
        let mut p99 = || other.round_trips(&dialect, profile.time).p99;
        let idle = p99();
        (meanwhile(&mut p99), idle)
    });
    Rounds::of(idle_and_busy.collect())
}

fn other_row(goal: &'static str, rounds: Rounds) -> Row {
    Row {
        goal,
        what: "another client's p99 meanwhile".to_owned(),
        unit: Unit::Micros,
        yardstick: "idle",
        rounds,
        bound: Bound::AtMost(3.0),
    }
}

fn names(number: usize) -> (String, String) {
    (
        format!("CHANNELID{number:017}"),
        format!("CONNECTION{number:016}"),
    )
}

/// Connects one client to each of so many channels; returns a client of the daemon.
fn with_sessions(path: &Path, sessions: usize) -> Client {
    let dialect = Dialect::soramode();
    let mut client = Client::to(path, &dialect);
    client.all(0..sessions, |number| {
        let (channel, connection) = names(number);
        dialect.come(&channel, &connection)
    });
    client
}

/// Announces to every channel; returns the number of channels a second.
fn announcement_rate(client: &mut Client) -> f64 {
    let began = Instant::now();
    client.text(ANNOUNCE.as_bytes(), &format!("\"told\":{CHANNELS}"));
    count(CHANNELS) / began.elapsed().as_secs_f64()
}

/// The call that an announcement makes for each channel.
fn push() -> String {
    let (channel, _) = names(0);
    let body = format!(
        "{{\"channel_id\":\"{channel}\",\"data\":{{\"kind\":\"maintenance\",\"id\":\"J8486AV8KN7H92SBDFZ2NPKWPM\",\
         \"text\":\"This meeting ends in 10 minutes\"}}}}"
    );
    format!(
        "POST / HTTP/1.1\r\nhost: {SORA_API}\r\nx-sora-target: Sora_20160711.PushChannel\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn end_all() -> String {
    format!(
        "{{\"id\":1,\"method\":\"End\",\"params\":{{\"all\":true,\"per_minute\":{ENDS_PER_MINUTE}}}}}\n"
    )
}

/// Sora's API, with a constant answer.
fn sora_api(address: SocketAddr) -> Server {
    let mut command = Command::new(std::env::current_exe().unwrap());
    Server::start_at(
        command
            .arg("serve-hyper")
            .arg(SORA_API)
            .arg(ANSWER_BYTES.to_string()),
        address,
    )
}

/// Signaling server that ends the sessions that it is asked to end.
struct Sfu(BufReader<UnixStream>);

impl Sfu {
    fn to(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        let subscribe = "{\"id\":1,\"method\":\"Subscribe\",\"params\":{\"types\":[\"mode.changed\"],\"ends\":true}}\n";
        let mut sfu = Self(BufReader::new(stream));
        sfu.0.get_ref().write_all(subscribe.as_bytes()).unwrap();
        assert!(sfu.line().contains("\"result\""), "it is not subscribed");
        sfu
    }

    /// The next line; empty at the end.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    /// Ends sessions until its stream is shut down; returns how many.
    fn end_sessions(&mut self) -> usize {
        let dialect = Dialect::soramode();
        let mut ended = 0;
        loop {
            let line = self.line();
            if line.is_empty() {
                return ended;
            }
            let Some((_, number)) = line.split_once("\"channel_id\":\"CHANNELID") else {
                continue;
            };
            let number = number.split('"').next().unwrap().parse().unwrap();
            let (_, connection) = names(number);
            let disconnect = dialect.go(&connection);
            self.0.get_ref().write_all(disconnect.as_bytes()).unwrap();
            ended += usize::from(line.contains("\"method\":\"End\""));
        }
    }
}
