//! A daemon to talk to, and the program run against it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use soramode_protocol::id::NodeName;
use soramode_testkit::PATIENCE;
use soramode_testkit::control_client::TestClient;
use soramode_testkit::daemon::DaemonThread;
use soramoded::config::Config;
use tempfile::TempDir;

use crate::command_lines::check_command_lines;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_soramode");

/// A real daemon in this process, on a socket in a folder of its own.
pub(crate) struct Daemon {
    /// Client that accepts requests to announce and to end sessions, and does nothing.
    subscriber: Option<TestClient>,
    // Before the folder: the daemon stops while its files are there.
    running: Option<DaemonThread>,
    folder: TempDir,
}

impl Daemon {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// Starts a daemon with means to announce and to end sessions.
    pub(crate) fn with_subscriber() -> Self {
        let mut daemon = Self::start();
        daemon.subscribe();
        daemon
    }

    /// Gives it means to announce and to end sessions.
    pub(crate) fn subscribe(&mut self) {
        let mut client = TestClient::to(&self.socket());
        let params = json!({"types": ["plan.*"], "ends": true, "announcements": true});
        client.get("Subscribe", &params);
        self.subscriber = Some(client);
    }

    pub(crate) fn start_with(configure: impl FnOnce(&mut Config)) -> Self {
        let mut daemon = Self {
            subscriber: None,
            folder: tempfile::tempdir().unwrap(),
            running: None,
        };
        daemon.start_again(configure);
        daemon
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("soramode.sock")
    }

    pub(crate) fn stop(&mut self) {
        self.running = None;
    }

    /// After `stop`: another daemon, without the state of the one before.
    pub(crate) fn start_again(&mut self, configure: impl FnOnce(&mut Config)) {
        let mut config = Config::on_socket(self.socket());
        config.node_name = NodeName::new("node-01").unwrap();
        configure(&mut config);
        self.running = Some(DaemonThread::start(config));
    }

    /// Runs the program against this daemon until it ends.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: &[A]) -> Ended {
        program(&self.socket()).args(args).ended()
    }

    /// Runs it, and it must succeed.
    pub(crate) fn ok<A: AsRef<OsStr>>(&self, args: &[A]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.stdout
    }

    /// Runs a command with JSON output, with any exit code.
    pub(crate) fn json(&self, args: &[&str]) -> (i32, Value) {
        let ended = self.run(&[&["--json"], args].concat());
        (ended.code, ended.json())
    }

    /// Starts the program against this daemon.
    pub(crate) fn spawn(&self, args: &[&str]) -> Running {
        program(&self.socket()).args(args).running()
    }

    pub(crate) fn connect(&self, channel: &str, connection: &str) {
        self.ok(&["connect", channel, "--connection-id", connection]);
    }

    pub(crate) fn disconnect(&self, connection: &str) {
        self.ok(&["disconnect", connection]);
    }
}

/// Returns a command that starts `program` with the default action for each signal, also where the tests themselves run with some ignored
/// (`nohup`, `&` in a script).
pub(crate) fn with_default_signals(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("/usr/bin/env");
    command.arg("--default-signal").arg(program);
    command
}

/// Returns the program for this socket, without the tests' environment.
pub(crate) fn program(socket: &Path) -> Command {
    let mut command = with_default_signals(PROGRAM);
    command
        .env_clear()
        .env("SORAMODE_SOCKET", socket)
        .env("PATH", std::env::var_os("PATH").unwrap())
        .stdin(Stdio::null());
    command
}

/// Ways to run a command.
pub(crate) trait Run {
    fn ended(&mut self) -> Ended;
    fn running(&mut self) -> Running;
}

/// Flags of suggested commands that repeat what the test's variables name: a path or an address that is new in each run.
fn named_flags(command: &Command) -> Vec<String> {
    let value = |name: &str| {
        command
            .get_envs()
            .find(|(there, _)| *there == name)
            .and_then(|(_, value)| value?.to_str())
    };
    let socket = value("SORAMODE_SOCKET").map(|path| format!(" --socket {path}"));
    let url =
        value("SORAMODE_API_URL").map(|url| format!(" --api-url {}/", url.trim_end_matches('/')));
    [socket, url].into_iter().flatten().collect()
}

fn without(flags: &[String], text: String) -> String {
    flags.iter().fold(text, |text, flag| text.replace(flag, ""))
}

impl Run for Command {
    fn ended(&mut self) -> Ended {
        let (output, flags) = (self.output().unwrap(), named_flags(self));
        let ended = Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: without(&flags, String::from_utf8(output.stdout).unwrap()),
            stderr: without(&flags, String::from_utf8(output.stderr).unwrap()),
        };
        check_command_lines(&ended);
        ended
    }

    fn running(&mut self) -> Running {
        let mut child = self
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let guard = kill_after_patience(&child);
        let flags = named_flags(self);
        Running {
            child,
            stdout,
            stderr,
            said: String::new(),
            answered: String::new(),
            flags,
            _guard: guard,
        }
    }
}

/// The end of a program.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The one object on stdout.
    pub(crate) fn json(&self) -> Value {
        let value: Value = serde_json::from_str(&self.stdout)
            .unwrap_or_else(|problem| panic!("{problem}: {self:?}"));
        assert_eq!(value["schema"], 1);
        assert_eq!(self.stdout.lines().count(), 1, "one line in a pipe");
        value
    }
}

/// The program while it runs.
pub(crate) struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
    said: String,
    answered: String,
    /// Left out of what it prints.
    flags: Vec<String>,
    /// Keeps the killer waiting.
    _guard: mpsc::Sender<()>,
}

/// Kills a program that is still being watched after `PATIENCE`, so that a test that waits for its words fails and does not hang.
fn kill_after_patience(child: &Child) -> mpsc::Sender<()> {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let (guard, is_dropped) = mpsc::channel();
    thread::spawn(move || {
        if is_dropped.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    });
    guard
}

impl Running {
    /// Waits until stderr has a line with these words.
    pub(crate) fn until_said(&mut self, words: &str) {
        read_until(&mut self.stderr, (&mut self.said, &self.flags), words);
    }

    /// Waits until stdout has a line with these words; gives the line.
    pub(crate) fn until_answered(&mut self, words: &str) -> String {
        read_until(&mut self.stdout, (&mut self.answered, &self.flags), words)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(
            Pid::from_raw(i32::try_from(self.child.id()).unwrap()),
            signal,
        )
        .unwrap();
    }

    /// Stops reading stdout, as `head` does.
    pub(crate) fn close_stdout(self) -> i32 {
        drop(self.stdout);
        let mut child = self.child;
        child.wait().unwrap().code().unwrap_or(-1)
    }

    /// Waits for the end.
    pub(crate) fn ended(mut self) -> Ended {
        self.stderr.read_to_string(&mut self.said).unwrap();
        self.stdout.read_to_string(&mut self.answered).unwrap();
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        let ended = Ended {
            code,
            stdout: without(&self.flags, self.answered),
            stderr: without(&self.flags, self.said),
        };
        check_command_lines(&ended);
        ended
    }

    /// Kills it; gives what it printed.
    pub(crate) fn stopped(mut self) -> Ended {
        self.child.kill().unwrap();
        self.ended()
    }
}

fn read_until(
    stream: &mut impl BufRead,
    (all, flags): (&mut String, &[String]),
    words: &str,
) -> String {
    loop {
        let mut line = String::new();
        assert!(
            stream.read_line(&mut line).unwrap() > 0,
            "ended without saying {words:?}: {all}"
        );
        line = without(flags, line);
        all.push_str(&line);
        if line.contains(words) {
            return line;
        }
    }
}

/// The answer of a fake daemon.
pub(crate) enum Reply {
    /// Answers with this result.
    Result(Value),
    /// Answers with this error type.
    Error(i32, &'static str),
    /// Sends this line.
    Line(String),
    /// Closes the connection.
    Close,
    /// Says nothing.
    Nothing,
}

/// A daemon that answers as the test wants: real daemons have no such faults to offer.
pub(crate) struct Fake {
    folder: TempDir,
}

impl Fake {
    pub(crate) fn start(answer: impl Fn(&str) -> Reply + Send + Sync + Clone + 'static) -> Self {
        let fake = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let listener = UnixListener::bind(fake.socket()).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let answer = answer.clone();
                thread::spawn(move || serve(stream.unwrap(), &answer));
            }
        });
        fake
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("soramode.sock")
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        program(&self.socket()).args(args).ended()
    }
}

fn serve(stream: UnixStream, answer: &impl Fn(&str) -> Reply) {
    let mut writer = stream.try_clone().unwrap();
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        let request: Value = serde_json::from_str(&line).unwrap();
        let id = &request["id"];
        let line = match answer(request["method"].as_str().unwrap()) {
            Reply::Result(result) => {
                json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()
            }
            Reply::Error(code, error_type) => {
                let error =
                    json!({"code": code, "message": "no", "data": {"error_type": error_type}});
                json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string()
            }
            Reply::Line(line) => line,
            Reply::Close => return,
            Reply::Nothing => continue,
        };
        // The program may have ended: that is for the test to judge.
        if writeln!(writer, "{line}").is_err() {
            return;
        }
    }
}

/// Asks again and again until it is so.
pub(crate) fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let began = std::time::Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(began.elapsed() < PATIENCE, "it never came about");
        thread::yield_now();
    }
}

/// A command that runs until this file is there, for five minutes at most: it outlives a test that failed.
pub(crate) fn until_file(file: &Path) -> String {
    format!(
        "until test -e {} || test $((looks += 1)) -gt 6000; do sleep 0.05; done",
        file.display()
    )
}
