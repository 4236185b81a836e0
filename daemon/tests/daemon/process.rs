//! The daemon as a process: its signals, its exit status, and its socket among others'.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::json;
use soramode_testkit::PATIENCE;
use soramode_testkit::control_client::TestClient;
use tempfile::TempDir;

/// The daemon: the one built for the tests, or the one that `SORAMODE_DAEMON` names.
pub(crate) fn soramoded() -> Command {
    let built = || env!("CARGO_BIN_EXE_soramoded").into();
    let mut command = Command::new(std::env::var_os("SORAMODE_DAEMON").unwrap_or_else(built));
    command
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// A daemon in a process of its own. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
    log: BufReader<ChildStderr>,
    socket: PathBuf,
    folder: TempDir,
    /// Its log up to the line that says that it is ready.
    pub(crate) log_of_start: String,
}

impl Process {
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), flags)
    }

    fn start_in(folder: TempDir, flags: &[&str]) -> Self {
        let socket = folder.path().join("gate.sock");
        let mut command = soramoded();
        command
            .arg("--ephemeral")
            .arg("--socket")
            .arg(&socket)
            .args(flags);
        Self::spawn(folder, socket, command)
    }

    pub(crate) fn spawn(folder: TempDir, socket: PathBuf, mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut process = Self {
            child,
            log,
            socket,
            folder,
            log_of_start: String::new(),
        };
        process.log_of_start = process.read_log_until(" ready ");
        process
    }

    /// It writes to its log what it has done.
    pub(crate) fn read_log_until(&mut self, words: &str) -> String {
        let mut log = String::new();
        while !log.lines().last().is_some_and(|line| line.contains(words)) {
            assert!(self.has_line(), "waited in vain for {words:?}: {log}");
            assert!(
                self.log.read_line(&mut log).unwrap() > 0,
                "ended before {words:?}: {log}"
            );
        }
        log
    }

    /// Waits for something to read, within a limit.
    fn has_line(&self) -> bool {
        let limit = Timespec {
            tv_sec: PATIENCE.as_secs().try_into().unwrap(),
            tv_nsec: 0,
        };
        let mut log = [PollFd::new(self.log.get_ref(), PollFlags::IN)];
        !self.log.buffer().is_empty() || poll(&mut log, Some(&limit)).unwrap() > 0
    }

    pub(crate) fn client(&self) -> TestClient {
        TestClient::to(&self.socket)
    }

    pub(crate) fn kill(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Memory that it holds now, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    /// Waits for its end without reading its log, and gives the exit status; `None` if it still runs after the time.
    pub(crate) fn end_unread(&mut self, time: Duration) -> Option<i32> {
        wait_in_time(&mut self.child, time)?.code()
    }

    /// Waits for its end; gives the exit status and the rest of the log.
    pub(crate) fn end(mut self) -> (Option<i32>, String, TempDir) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        (
            status.code(),
            rest,
            std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap()),
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

/// Waits for the end of a child; `None` if it still runs after the time.
pub(crate) fn wait_in_time(child: &mut Child, time: Duration) -> Option<ExitStatus> {
    let ended = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).unwrap();
    let time = Timespec::try_from(time).unwrap();
    let count = poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&time)).unwrap();
    (count > 0).then(|| child.wait().unwrap())
}

/// Runs one that should not come up.
fn run(socket: &Path, flags: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = soramoded()
        .arg("--ephemeral")
        .arg("--socket")
        .arg(socket)
        .args(flags)
        .output()
        .unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn the_log_says_of_each_request_to_end_sessions_whether_it_was_carried_out() {
    let mut process = Process::start(&[]);
    let mut client = process.client();
    client.connect("spam", "1");
    client.call("End", &json!({"all": true}));
    let log = process.read_log_until(" end sessions");
    assert!(
        log.contains(" INFO request to end sessions refused: cannot end sessions: ")
            && !log.contains("WARN"),
        "{log}"
    );
    let mut signalling = process.client();
    signalling.get(
        "Subscribe",
        &json!({"types": ["mode.changed"], "ends": true}),
    );
    client.get("End", &json!({"all": true}));
    let log = process.read_log_until(" asked to end sessions");
    assert!(
        log.contains(" WARN asked to end sessions, as requested actor="),
        "{log}"
    );
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_signal_stops_it_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut process = Process::start(&[]);
        assert_eq!(
            files(process.folder.path()).len(),
            2,
            "the socket and its lock"
        );
        let (mut client, mut waiter) = (process.client(), process.client());
        waiter.send_request("Wait", &json!({"for": "mode", "mode": "block_new_session"}));
        let asked = client.send_request("Subscribe", &json!({}));
        assert_eq!(client.recv()["id"], asked);
        process.kill(Signal::HUP);
        process.read_log_until("SIGHUP");
        assert_eq!(client.get("GetMode", &json!({}))["mode"], "normal");
        process.kill(signal);
        client.recv_end();
        waiter.recv_end();
        let (status, log, folder) = process.end();
        assert_eq!(status, Some(0), "{log}");
        assert!(log.contains("stopped"), "{log}");
        assert_eq!(files(folder.path()), Vec::<String>::new());
    }
}

#[test]
fn accepted_requests_are_answered_before_the_stop() {
    let process = Process::start(&[]);
    let mut client = process.client();
    let lines: String = (0..5_000)
        .map(|number| {
            client
                .request(
                    "Connect",
                    &json!({"channel_id": "a", "connection_id": number.to_string()}),
                )
                .1
        })
        .collect();
    let speaker = std::thread::spawn({
        let mut stream = client.try_clone();
        // It may be closed in the middle.
        move || std::io::Write::write_all(&mut stream, lines.as_bytes()).unwrap_or_default()
    });
    let mut reader = process.client();
    reader.get(
        "Subscribe",
        &json!({"from": 1, "types": ["connection.created"]}),
    );
    reader.recv_event("connection.created");
    process.kill(Signal::TERM);
    // Executed requests are answered, all and in order, and each line is whole.
    let mut last = 0;
    while let Some(line) = client.line() {
        let answer: serde_json::Value = serde_json::from_str(&line).unwrap();
        last += 1;
        assert_eq!(
            (&answer["id"], &answer["result"]["type"]),
            (&last.into(), &"offer".into())
        );
    }
    speaker.join().unwrap();
    assert!(last > 0);
    assert_eq!(process.end().0, Some(0));
}

#[test]
fn a_second_daemon_refuses_to_start_and_the_first_is_not_affected() {
    let first = Process::start(&[]);
    let mut client = first.client();
    let (status, said) = run(&first.socket, &[]);
    assert_eq!(status, Some(1), "{said}");
    assert!(
        said.contains(&format!("pid {}", first.child.id())),
        "{said}"
    );
    assert_eq!(client.get("GetMode", &json!({}))["mode"], "normal");
    assert_eq!(first.client().get("GetMode", &json!({}))["mode"], "normal");
}

#[test]
fn the_socket_of_one_that_was_killed_is_taken_over() {
    let first = Process::start(&[]);
    let mut client = first.client();
    client.get("GetMode", &json!({}));
    first.kill(Signal::KILL);
    client.recv_end();
    let (status, _, folder) = first.end();
    assert_eq!(
        (status, files(folder.path()).len()),
        (None, 2),
        "a dead socket and its lock"
    );
    let second = Process::start_in(folder, &[]);
    assert_eq!(second.client().get("GetMode", &json!({}))["mode"], "normal");
}

#[test]
fn other_files_at_the_path_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (link, target, file) = (
        folder.path().join("link"),
        folder.path().join("target"),
        folder.path().join("file"),
    );
    let listener = UnixListener::bind(&target).unwrap();
    symlink(&target, &link).unwrap();
    std::fs::write(&file, "mine").unwrap();
    for (path, word) in [
        (&link, "symbolic link"),
        (&file, "not a socket"),
        (&target, "running"),
    ] {
        let (status, said) = run(path, &[]);
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains(word), "{said}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    assert!(UnixStream::connect(&link).is_ok());
    drop(listener);
    let (status, said) = run(&folder.path().join("x".repeat(108)), &[]);
    assert_eq!(status, Some(2), "{said}");
}

/// `script` gives it a terminal.
#[test]
fn the_daemon_runs_on_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, typescript) = (
        folder.path().join("gate.sock"),
        folder.path().join("typescript"),
    );
    let program = format!(
        "exec {} --ephemeral --socket {}",
        env!("CARGO_BIN_EXE_soramoded"),
        socket.display()
    );
    let mut command = Command::new("script");
    command
        .args(["-qfec", &program])
        .arg(&typescript)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut shown = BufReader::new(child.stdout.take().unwrap());
    let mut log = String::new();
    while !log.contains("ready") {
        assert!(shown.read_line(&mut log).unwrap() > 0, "ended: {log}");
    }
    assert!(log.contains("\u{1b}[32m INFO\u{1b}[0m"), "no colour: {log}");
    let pid = std::fs::read_to_string(folder.path().join("gate.sock.lock")).unwrap();
    kill_process(
        Pid::from_raw(pid.trim().parse().unwrap()).unwrap(),
        Signal::TERM,
    )
    .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn start_failures_are_reported_with_their_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("gate.sock");
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, port) = (
        other.local_addr().unwrap().to_string(),
        other.local_addr().unwrap().port(),
    );
    for (flags, remedy) in [
        (
            ["--observe-listen", &address],
            format!("hint: Find the program that listens there with: ss -Hltnp 'sport = :{port}'."),
        ),
        (
            ["--operator-group", "no-such-group"],
            "hint: Create it with: groupadd --system no-such-group;".to_owned(),
        ),
    ] {
        let (status, told) = run(&socket, &flags);
        assert!(
            status == Some(1) && told.contains(&format!("\n{remedy}")),
            "{told}"
        );
    }
}

#[test]
fn flags_and_configuration_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("gate.sock");
    assert_eq!(run(&socket, &["--check-config"]).0, Some(0));
    let variables = |name: &str, value: &str| {
        let output = soramoded()
            .arg("--check-config")
            .arg("--ephemeral")
            .env(name, value)
            .stdout(Stdio::piped())
            .output()
            .unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    assert!(
        variables("SORAMODED_MODE", "").contains("SORAMODED_MODE: unknown mode"),
        "{}",
        variables("SORAMODED_MODE", "")
    );
    let warnings = [
        (
            "SORAMODED_NODE_NAM",
            "environment variable SORAMODED_NODE_NAM is ignored: no such setting. Did you mean SORAMODED_NODE_NAME?\n",
        ),
        (
            "SORAMODED_STATE_DIR",
            "state-dir is not used, because ephemeral is set: the state is lost when soramoded stops\n",
        ),
    ];
    for (name, warning) in warnings {
        let told = variables(name, "x");
        assert!(
            told.starts_with("ok (flags and environment variables only")
                && told.ends_with(&format!("soramoded: warning: {warning}")),
            "{told}"
        );
    }
    let file = folder.path().join("soramoded.toml");
    std::fs::write(&file, "keep-events = 0\n").unwrap();
    let file = file.to_str().unwrap();
    let wrong: [&[&str]; 6] = [
        &["--no-such-flag"],
        &["--mode", "initial"],
        &["--keep-events", "0"],
        &["--config", file],
        &["--check-config", "--config", file],
        &["--check-config", "--operator-group", "no such group"],
    ];
    for flags in wrong {
        let (status, said) = run(&socket, flags);
        assert_eq!(status, Some(2), "{flags:?}: {said}");
        assert!(!said.is_empty());
    }
    let (status, said) = run(&socket, &["--operator-group", "no such group"]);
    assert_eq!(status, Some(1), "{said}");
    assert_eq!(
        files(folder.path()),
        ["soramoded.toml"],
        "nothing was started"
    );
}

#[test]
fn an_inherited_socket_is_used_unchanged() {
    const ACTIVATE: &str = "/usr/bin/systemd-socket-activate";

    if !Path::new(ACTIVATE).exists() {
        eprintln!("skipped: there is no {ACTIVATE}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (socket, unused) = (
        folder.path().join("passed.sock"),
        folder.path().join("unused.sock"),
    );
    let mut command = Command::new(ACTIVATE);
    command
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .arg("--listen")
        .arg(&socket);
    command
        .arg(env!("CARGO_BIN_EXE_soramoded"))
        .args(["--ephemeral", "--socket"])
        .arg(&unused);
    let mut child = command.spawn().unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let mut process = Process {
        child,
        log,
        socket,
        folder,
        log_of_start: String::new(),
    };
    process.read_log_until("Listening on");
    // It starts with the first client.
    let mut client = process.client();
    assert_eq!(client.get("GetMode", &json!({}))["mode"], "normal");
    process.kill(Signal::TERM);
    client.recv_end();
    let (status, log, folder) = process.end();
    assert_eq!(status, Some(0), "{log}");
    assert_eq!(
        files(folder.path()),
        ["passed.sock"],
        "the file is whose it was"
    );
}
