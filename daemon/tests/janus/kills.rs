//! soramoded is killed between any two requests of locks and unlocks. After `normal` each room that can be locked can be joined, and no token
//! of the application has changed.
//!
//! `SORAMODE_ROOMS` and `SORAMODE_ROUNDS` make it larger, and `SORAMODE_KILLED_DAEMON=PATH` kills another soramoded, such as one of a release.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};
use soramode_testkit::PATIENCE;
use soramode_testkit::janus::client::JanusClient;
use soramode_testkit::janus::{ADMIN_KEY, ADMIN_SECRET, FIRST_NUMBERED, Janus, Setup};
use tempfile::TempDir;

use crate::proxy::{AdminProxy, Side};

const ROOMS: u64 = 60;
const ROUNDS: u64 = 8;

/// Distance of two rooms in which the application has tokens.
const TOKENS_EACH: u64 = 10;

/// Rooms that are joined after a round, at most; all after each tenth one.
const JOINED_MAX: usize = 200;

/// A daemon in a process of its own, which can be killed at any moment.
struct Process {
    folder: TempDir,
    admin: SocketAddr,
    child: Arc<Mutex<Child>>,
}

impl Process {
    fn start(admin: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, secret) in [("secret", ADMIN_SECRET), ("key", ADMIN_KEY)] {
            let path = folder.path().join(name);
            fs::write(&path, secret).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let child = spawn(&folder, admin);
        Self {
            child: Arc::new(Mutex::new(child)),
            folder,
            admin,
        }
    }

    fn start_again(&self) {
        let mut child = self.child.lock().unwrap();
        child.wait().unwrap();
        *child = spawn(&self.folder, self.admin);
    }

    /// Sends a request over a connection of its own; `None` if the daemon is killed meanwhile.
    fn call(&self, method: &str, params: &Value) -> Option<Value> {
        let until = Instant::now() + PATIENCE;
        let stream = loop {
            match UnixStream::connect(self.folder.path().join("socket")) {
                Ok(stream) => break stream,
                Err(_) if self.has_exited() => return None,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            std::thread::yield_now();
        };
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        (&stream)
            .write_all(format!("{request}\n").as_bytes())
            .ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        let answer: Value = serde_json::from_str(line.strip_suffix('\n')?).unwrap();
        assert!(answer["error"].is_null(), "{method}: {answer}");
        Some(answer["result"].clone())
    }

    fn has_exited(&self) -> bool {
        self.child.lock().unwrap().try_wait().unwrap().is_some()
    }

    /// Sets a mode, and waits until it is in force as far as it can be; `None` if the daemon is killed meanwhile. An answer comes with the last
    /// lock, or after some seconds: a daemon that is asked all the time would not get on with its locks.
    fn set(&self, mode: &str) -> Option<String> {
        let until = Instant::now() + PATIENCE * 2;
        loop {
            let changed = self.call("ChangeMode", &json!({"mode": mode}))?;
            let in_force = changed["in_force"].as_str().unwrap().to_owned();
            if in_force == "yes" || in_force == "partial" {
                return Some(in_force);
            }
            assert!(Instant::now() < until, "{changed}");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        // It may have exited already.
        child.kill().unwrap_or_default();
        child.wait().unwrap();
    }
}

fn spawn(folder: &TempDir, admin: SocketAddr) -> Child {
    let path = |name: &str| folder.path().join(name).display().to_string();
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path("log"));
    let other = std::env::var_os("SORAMODE_KILLED_DAEMON");
    Command::new(other.unwrap_or_else(|| env!("CARGO_BIN_EXE_soramoded").into()))
        .arg(format!("--socket={}", path("socket")))
        .arg(format!("--state-dir={}", path("state")))
        .arg(format!("--janus-admin=http://{admin}/admin"))
        .arg("--janus-way=lock")
        .arg(format!("--janus-admin-secret-file={}", path("secret")))
        .arg(format!("--janus-admin-key-file={}", path("key")))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.unwrap())
        .spawn()
        .unwrap()
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// The application, which gives and revokes tokens while rooms are being locked.
struct Application<'a> {
    janus: &'a Janus,
    tokens: BTreeMap<u64, BTreeSet<String>>,
}

impl Application<'_> {
    fn change(&mut self, room: u64, action: &str, token: &str) {
        let request =
            json!({"request": "allowed", "room": room, "action": action, "allowed": [token]});
        let answer = self.janus.videoroom(&request);
        assert_eq!(answer["videoroom"], "success", "{answer}");
        let tokens = self.tokens.entry(room).or_default();
        if action == "add" {
            tokens.insert(token.to_owned());
        } else {
            tokens.remove(token);
        }
    }

    fn assert_unchanged(&self) {
        for (room, expected) in &self.tokens {
            let show = json!({"request": "allowed", "room": room, "action": "add"});
            let answer = self.janus.videoroom(&show);
            let shown: BTreeSet<String> =
                serde_json::from_value(answer["allowed"].clone()).unwrap();
            assert_eq!(shown, *expected, "tokens of room {room}");
        }
    }
}

/// Has the daemon killed at a request about a lock; returns whether it was.
fn kill_at(proxy: &AdminProxy, process: &Process, at: u64, side: Side) -> Arc<AtomicBool> {
    let is_killed = Arc::new(AtomicBool::new(false));
    let (killed, child) = (Arc::clone(&is_killed), Arc::clone(&process.child));
    let mut seen = 0;
    proxy.at_requests(move |now, request| {
        if killed.load(Ordering::SeqCst) || request["request"]["request"] != "allowed" {
            return true;
        }
        seen += u64::from(now == side);
        if now != side || seen < at {
            return true;
        }
        let mut child = child.lock().unwrap();
        // Before the kill: its effects are seen at once.
        killed.store(true, Ordering::SeqCst);
        child.kill().unwrap();
        false
    });
    is_killed
}

/// Joins and leaves a room: it must be open.
fn must_be_open(user: &mut JanusClient, room: u64, token: Option<&String>) {
    let mut join = json!({"room": room, "id": 1});
    if let Some(token) = token {
        join["token"] = json!(token);
    }
    let (handle, answer) = user.join(&join);
    assert_eq!(answer["videoroom"], "joined", "room {room}: {answer}");
    user.detach(&handle);
}

#[test]
fn after_kills_between_any_two_requests_each_room_can_be_joined_and_tokens_are_unchanged() {
    let (rooms, rounds) = (
        from_environment("SORAMODE_ROOMS", ROOMS),
        from_environment("SORAMODE_ROUNDS", ROUNDS),
    );
    let ids = || FIRST_NUMBERED..FIRST_NUMBERED + rooms;
    let janus = Janus::start(&Setup {
        rooms: Vec::new(),
        numbered_rooms: rooms,
        ..Setup::default()
    });
    let mut application = Application {
        janus: &janus,
        tokens: BTreeMap::new(),
    };
    for room in ids().step_by(usize::try_from(TOKENS_EACH).unwrap()) {
        application.change(room, "add", "alice");
    }
    let proxy = AdminProxy::to(janus.admin);
    let process = Process::start(proxy.address);
    let mut rng = Rng::with_seed(7);
    let mut user = janus.client();
    let (mut kills, mut slowest) = (0, Duration::ZERO);
    let started = Instant::now();
    for round in 0..rounds {
        // Two requests about each room to lock it, and two to unlock it; each round begins with as many kills as come.
        for _ in 0..=rng.u64(..2) {
            let side = if rng.bool() {
                Side::Before
            } else {
                Side::After
            };
            let at = 1 + rng.u64(..4 * rooms);
            let is_killed = kill_at(&proxy, &process, at, side);
            let mode = if rng.bool() {
                "block_new_session"
            } else {
                "block_new_connection"
            };
            let began = Instant::now();
            let closed = process.set(mode);
            if let Some(in_force) = &closed {
                assert_eq!(in_force, "partial", "the application has rooms of its own");
                slowest = slowest.max(began.elapsed());
                // While the node is closed: a revoked token, a new one.
                let room = ids()
                    .nth(usize::try_from(rng.u64(..rooms)).unwrap())
                    .unwrap();
                if room % TOKENS_EACH == 0 {
                    application.change(room, "add", "bob");
                    application.change(room, "remove", "bob");
                }
                process.set("normal");
            }
            if is_killed.load(Ordering::SeqCst) {
                kills += 1;
                process.start_again();
            }
        }
        proxy.at_requests(|_, _| true);
        assert_eq!(process.set("normal").unwrap(), "yes");
        application.assert_unchanged();
        let mut sample: Vec<u64> = ids().collect();
        if round % 10 != 9 {
            rng.shuffle(&mut sample);
            sample.truncate(JOINED_MAX);
        }
        for room in sample {
            let tokens = application.tokens.get(&room);
            must_be_open(&mut user, room, tokens.and_then(BTreeSet::first));
        }
        if round % 10 == 9 {
            eprintln!(
                "{} rounds, {kills} kills in {:?}",
                round + 1,
                started.elapsed()
            );
        }
    }
    eprintln!(
        "{rooms} rooms, {rounds} rounds, {kills} kills in {:?}; closed after {slowest:?} at most",
        started.elapsed()
    );
    assert!(kills > rounds / 2, "{kills} kills");
}
