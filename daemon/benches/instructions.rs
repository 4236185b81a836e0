//! Instruction counts of the daemon's hottest paths: the same on any machine, under any load.
//!
//! `cargo bench -p soramode-benches --bench instructions` counts them with callgrind (Debian's valgrind) and compares with `instructions.txt`, which
//! is committed: a path that became dearer by more than 5 % is named, and the exit status is 1. With `SORAMODE_REWRITE=1` the file is
//! written anew. A word after `--` picks the paths with it in their names.
//!
//! Each path is done many times and twice as often in two daemons; what the second took more is what it costs.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a measurement ends by panicking, and prints"
)]

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use soramode_benches::{build_soramoded, program};

/// Increase of a path's cost that is reported, in percent.
const DEARER_PERCENT: u64 = 5;

/// Number of executions in the first daemon.
const TIMES: u64 = 320;

/// Pending answers where many are pending at once.
const IN_FLIGHT: u64 = 16;

const HTTP: &str = "127.0.0.1:19571";

/// Address of a stand-in for Sora's API.
const SORA_API: &str = "127.0.0.1:19572";

const SORA_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

/// Interval of checks for a daemon's start: one under callgrind takes seconds, and would have to
/// share its core.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Timeout of an answer of a daemon under callgrind.
const ANSWER_MAX: Duration = Duration::from_mins(1);

/// A path: its name, what it does `times` times, and what one of them is counted as.
struct Hot {
    name: &'static str,
    flags: &'static [&'static str],
    act: fn(&mut World, u64),
}

const PATHS: &[Hot] = &[
    Hot {
        name: "GetMode",
        flags: &["--ephemeral"],
        act: |world, times| (0..times).for_each(|_| world.ask(GET_MODE)),
    },
    Hot {
        name: "Connect or Disconnect, one in flight",
        flags: &["--ephemeral"],
        act: |world, times| world.come_and_go(times, 1),
    },
    Hot {
        name: "Connect or Disconnect, 16 in flight",
        flags: &["--ephemeral"],
        act: |world, times| world.come_and_go(times, IN_FLIGHT),
    },
    Hot {
        name: "the same, with the journal",
        flags: &[],
        act: |world, times| world.come_and_go(times, IN_FLIGHT),
    },
    Hot {
        name: "the same, and somebody is told",
        flags: &["--ephemeral"],
        act: World::come_and_go_before_a_subscriber,
    },
    Hot {
        name: "Connect that is rejected",
        flags: &["--ephemeral", "--mode", "block_new_connection"],
        act: World::be_rejected,
    },
    Hot {
        name: "ChangeMode",
        flags: &["--ephemeral"],
        act: World::change_modes,
    },
    Hot {
        name: "ListSessions, a page of 100",
        flags: &["--ephemeral"],
        act: World::list,
    },
    Hot {
        name: "Announce, for each channel",
        flags: &["--ephemeral", "--sora-api", "http://127.0.0.1:19572/"],
        act: World::announce,
    },
    Hot {
        name: "Announce, with the journal",
        flags: &["--sora-api", "http://127.0.0.1:19572/"],
        act: World::announce,
    },
    Hot {
        name: "GetMode over HTTP",
        flags: &["--ephemeral", "--api-listen", HTTP],
        act: |world, times| {
            world.call("/", "x-sora-target: Sora_20211215.GetMode\r\n", ("", times));
        },
    },
    Hot {
        name: "Sora's auth webhook",
        flags: &["--ephemeral", "--sora-listen", HTTP],
        act: |world, times| world.call("/sora/auth", "", (AUTH, times)),
    },
];

const GET_MODE: &str = "\"method\":\"GetMode\"";
const AUTH: &str = "{\"channel_id\":\"CHANNELID00000000000000001\",\"connection_id\":\"CONNECTION0000000000000001\",\"role\":\"sendrecv\",\"audio\":true,\"video\":true}";

fn main() {
    if Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        println!("valgrind is not installed: apt-get install valgrind");
        std::process::exit(2);
    }
    build_soramoded();
    serve_sora_api();
    let wanted = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with("--"))
        .unwrap_or_default();
    let baseline = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.txt");
    let before = std::fs::read_to_string(&baseline).unwrap_or_default();
    let (mut table, mut is_dearer) = (String::new(), false);
    for path in PATHS.iter().filter(|path| path.name.contains(&wanted)) {
        let now = (count(path, 2 * TIMES) - count(path, TIMES)) / TIMES;
        writeln!(table, "{:<40}{now:>10}", path.name).unwrap();
        let before = before
            .lines()
            .find_map(|line| line.strip_prefix(path.name)?.trim().parse::<u64>().ok());
        let verdict = match before {
            None => "new".to_owned(),
            Some(before) => {
                let dearer = now * 100 > before * (100 + DEARER_PERCENT);
                is_dearer |= dearer;
                #[expect(clippy::cast_precision_loss, reason = "for people")]
                let change = (now as f64 / before as f64 - 1.0) * 100.0;
                format!("{change:+.1} %{}", if dearer { "  DEARER" } else { "" })
            }
        };
        println!("{:<40}{now:>10}  {verdict}", path.name);
    }
    if std::env::var_os("SORAMODE_REWRITE").is_some() {
        std::fs::write(baseline, table).unwrap();
    } else if is_dearer {
        std::process::exit(1);
    }
}

/// All instructions of a daemon that does this so many times.
fn count(path: &Hot, times: u64) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::start(folder.path(), path.flags);
    (path.act)(&mut world, times);
    world.stop()
}

/// Killed when it is dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A daemon under callgrind, and a client.
struct World {
    daemon: Daemon,
    socket: PathBuf,
    log: PathBuf,
    client: BufReader<UnixStream>,
}

impl World {
    fn start(folder: &Path, flags: &[&str]) -> Self {
        let (socket, log) = (folder.join("gate.sock"), folder.join("valgrind.log"));
        let mut command = Command::new("valgrind");
        command.args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            &format!("--log-file={}", log.display()),
        ]);
        command
            .arg(program("soramoded"))
            .args(["--log-level", "warn", "--node-name", "node-01", "--socket"])
            .arg(&socket);
        if !flags.contains(&"--ephemeral") {
            command.arg("--state-dir").arg(folder.join("state"));
        }
        let daemon = Daemon(
            command
                .args(flags)
                .env_remove("SORAMODE_SOCKET")
                .stdin(Stdio::null())
                .spawn()
                .unwrap(),
        );
        let began = Instant::now();
        let client = loop {
            assert!(began.elapsed() < ANSWER_MAX, "the daemon does not start");
            match UnixStream::connect(&socket) {
                Ok(stream) => break BufReader::new(stream),
                Err(_) => std::thread::sleep(LOOK_EVERY),
            }
        };
        client.get_ref().set_read_timeout(Some(ANSWER_MAX)).unwrap();
        Self {
            daemon,
            socket,
            log,
            client,
        }
    }

    /// Ends it in order; gives what it took.
    fn stop(mut self) -> u64 {
        drop(self.client);
        let stopped = Command::new("kill")
            .arg(self.daemon.0.id().to_string())
            .status();
        assert!(stopped.unwrap().success() && self.daemon.0.wait().unwrap().success());
        let log = std::fs::read_to_string(&self.log).unwrap();
        let count = log
            .lines()
            .find_map(|line| line.split_once("Collected : "))
            .map(|(_, count)| count.trim());
        count.unwrap().parse().unwrap()
    }

    fn say(&mut self, requests: &str) {
        self.client
            .get_ref()
            .write_all(requests.as_bytes())
            .unwrap();
    }

    fn recv(&mut self) {
        let mut line = String::new();
        self.client.read_line(&mut line).unwrap();
        assert!(line.contains("\"result\""), "{line}");
    }

    fn ask(&mut self, request: &str) {
        self.say(&format!("{{\"jsonrpc\":\"2.0\",\"id\":1,{request}}}\n"));
        self.recv();
    }

    /// `times` requests, half of them `Connect` and half `Disconnect`, into a channel that somebody stays in.
    fn come_and_go(&mut self, times: u64, in_flight: u64) {
        self.ask(&connect(0));
        for round in 0..times / in_flight / 2 {
            let numbers = || (1..=in_flight).map(|number| round * in_flight + number);
            let together = |one: fn(u64) -> String| {
                numbers().fold(String::new(), |all, number| {
                    all + &format!("{{\"jsonrpc\":\"2.0\",\"id\":{number},{}}}\n", one(number))
                })
            };
            for requests in [together(connect), together(disconnect)] {
                self.say(&requests);
                (0..in_flight).for_each(|_| self.recv());
            }
        }
    }

    fn come_and_go_before_a_subscriber(&mut self, times: u64) {
        let mut subscriber = BufReader::new(UnixStream::connect(&self.socket).unwrap());
        subscriber
            .get_ref()
            .write_all(b"{\"id\":1,\"method\":\"Subscribe\"}\n")
            .unwrap();
        let mut line = String::new();
        subscriber.read_line(&mut line).unwrap();
        self.come_and_go(times, IN_FLIGHT);
        // All that connected and left, the one that stays, and the session.
        for _ in 0..times / IN_FLIGHT / 2 * IN_FLIGHT * 2 + 2 {
            subscriber.read_line(&mut line).unwrap();
        }
    }

    /// Announces to `TIMES` channels, as often as they make up `times`.
    fn announce(&mut self, times: u64) {
        for number in 0..TIMES {
            self.ask(&format!(
                "\"method\":\"Connect\",\"params\":{{\"channel_id\":\"CHANNELID{number:017}\"}}"
            ));
        }
        for _ in 0..times / TIMES {
            self.ask(
                "\"method\":\"Announce\",\"params\":{\"text\":\"This meeting ends in 10 minutes\"}",
            );
        }
    }

    fn be_rejected(&mut self, times: u64) {
        for _ in 0..times / IN_FLIGHT {
            let one = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,{}}}\n", connect(1));
            self.say(&one.repeat(usize::try_from(IN_FLIGHT).unwrap()));
            (0..IN_FLIGHT).for_each(|_| self.recv());
        }
    }

    fn change_modes(&mut self, times: u64) {
        for time in 0..times {
            let mode = if time % 2 == 0 {
                "block_new_session"
            } else {
                "normal"
            };
            self.ask(&format!(
                "\"method\":\"ChangeMode\",\"params\":{{\"mode\":\"{mode}\"}}"
            ));
        }
    }

    fn list(&mut self, times: u64) {
        for number in 0..100 {
            self.ask(&format!(
                "\"method\":\"Connect\",\"params\":{{\"channel_id\":\"CHANNELID{number:017}\"}}"
            ));
        }
        (0..times).for_each(|_| self.ask("\"method\":\"ListSessions\",\"params\":{\"limit\":100}"));
    }

    #[expect(clippy::unused_self, reason = "as its siblings")]
    fn call(&mut self, path: &str, headers: &str, (body, times): (&str, u64)) {
        // A daemon opens its socket first, and then this load.
        let began = Instant::now();
        let mut stream = loop {
            match TcpStream::connect(HTTP) {
                Ok(stream) => break stream,
                Err(error) => assert!(began.elapsed() < ANSWER_MAX, "{error}"),
            }
            std::thread::sleep(LOOK_EVERY);
        };
        stream.set_read_timeout(Some(ANSWER_MAX)).unwrap();
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {HTTP}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        );
        let mut answer = [0; 4_096];
        for _ in 0..times {
            stream.write_all(request.as_bytes()).unwrap();
            let read = stream.read(&mut answer).unwrap();
            assert!(
                answer[..read].starts_with(b"HTTP/1.1 200"),
                "{}",
                String::from_utf8_lossy(&answer[..read])
            );
        }
    }
}

/// Answers each call of Sora's API.
fn serve_sora_api() {
    let listener = TcpListener::bind(SORA_API).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = BufReader::new(stream.unwrap());
            std::thread::spawn(move || answer_calls(stream));
        }
    });
}

/// Answers until the client closes its connection.
fn answer_calls(mut stream: BufReader<TcpStream>) {
    let (mut line, mut length) = (String::new(), 0);
    while stream.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
        if let Some(bytes) = line.strip_prefix("content-length: ") {
            length = bytes.trim().parse().unwrap();
        }
        if line == "\r\n" {
            stream.read_exact(&mut vec![0; length]).unwrap();
            stream.get_ref().write_all(SORA_ANSWER).unwrap();
        }
        line.clear();
    }
}

fn connect(number: u64) -> String {
    format!(
        "\"method\":\"Connect\",\"params\":{{\"channel_id\":\"CHANNELID00000000000000001\",\"connection_id\":\"CONNECTION{number:016}\"}}"
    )
}

fn disconnect(number: u64) -> String {
    format!("\"method\":\"Disconnect\",\"params\":{{\"connection_id\":\"CONNECTION{number:016}\"}}")
}
