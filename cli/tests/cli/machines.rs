//! Machines of a cluster that can lose their power: a soramoded and an sshd each, as processes, with a boot id of their own. Needs root.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Group, Pid, Uid, User};
use serde_json::Value;
use soramode_testkit::PATIENCE;
use soramode_testkit::control_client::TestClient;
use soramode_testkit::sshd::{Sshd, client_config, client_config_in, processes};
use soramoded::args::Args;
use soramoded::config::Config;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cluster::Etcd;
use crate::support::{PROGRAM, until, with_default_signals};

/// Variable with the words of the daemon that the test's own program then is.
const PLAY: &str = "SORAMODE_TEST_PLAYS_DAEMON";

/// Variable of all processes of a machine; its value is the machine's folder.
const MACHINE: &str = "SORAMODE_TEST_MACHINE";

/// Runs a program with this file as the id of the machine's start.
const WITH_BOOT_ID: &str = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";

/// Not a test: with the variable set, this process becomes a daemon.
#[test]
fn play_a_daemon() {
    let Ok(words) = std::env::var(PLAY) else {
        return;
    };
    let words = std::iter::once("soramoded").chain(words.lines());
    let config = Config::load(Args::read_from(words.map(Into::into)).unwrap()).unwrap();
    soramoded::log::start(config.log_format, config.log_level).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let mut terminated = signal(SignalKind::terminate()).unwrap();
        let mut run = std::pin::pin!(soramoded::run(config, stop.clone()));
        tokio::select! {
            ended = &mut run => return ended.unwrap(),
            _ = terminated.recv() => stop.cancel(),
        }
        run.await.unwrap();
    });
}

/// A soramoded that is started again whenever it ends, as a service manager does.
struct Service {
    running: Arc<Mutex<Running>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Running {
    pid: Option<Pid>,
    is_stopped: bool,
}

impl Service {
    fn start(mut command: Command, pid_file: PathBuf) -> Self {
        let running = Arc::new(Mutex::new(Running::default()));
        let of_thread = Arc::clone(&running);
        let thread = thread::spawn(move || {
            while let Some(mut child) = spawn(&mut command, &pid_file, &of_thread) {
                child.wait().unwrap();
            }
        });
        Self {
            running,
            thread: Some(thread),
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap()
    }

    /// Sends a signal to the daemon, if it runs at the moment.
    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.running().pid {
            // It may have ended just now.
            let _ = kill(pid, signal);
        }
    }

    fn stop(&mut self) {
        self.running().is_stopped = true;
        self.signal(Signal::SIGKILL);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn spawn(command: &mut Command, pid_file: &Path, running: &Mutex<Running>) -> Option<Child> {
    let mut running = running.lock().unwrap();
    if running.is_stopped {
        return None;
    }
    let child = command.spawn().unwrap();
    fs::write(pid_file, child.id().to_string()).unwrap();
    running.pid = Some(Pid::from_raw(i32::try_from(child.id()).unwrap()));
    Some(child)
}

/// A machine with a node of a cluster.
pub(crate) struct Machine {
    pub(crate) name: String,
    service: Service,
    pub(crate) sshd: Sshd,
    folder: TempDir,
    words: Vec<String>,
    /// Number of its starts.
    pub(crate) boots: u32,
}

impl Machine {
    /// Starts a machine. The members of the group may operate its node.
    pub(crate) fn start(name: &str, etcd: &Etcd, group: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let at = |file: &str| folder.path().join(file).display().to_string();
        let words = vec![
            format!("--node-name={name}"),
            format!("--socket={}", at("soramode.sock")),
            format!("--operator-group={group}"),
            format!("--state-dir={}", at("state")),
            format!("--cluster={}", etcd.url),
            format!("--signaling-url=wss://{name}.example.com/signaling"),
            // Long enough for a busy machine: a node that is isolated refuses clients.
            "--cluster-ttl=15s".to_owned(),
            "--cluster-heartbeat=500ms".to_owned(),
            "--isolated-after=12s".to_owned(),
        ];
        std::os::unix::fs::symlink(std::env::current_exe().unwrap(), at("soramoded")).unwrap();
        write_boot_id(folder.path(), 1);
        let socket = at("soramode.sock");
        let variables = [
            ("SORAMODE_SOCKET", &*socket),
            (MACHINE, folder.path().to_str().unwrap()),
        ];
        let launcher = launcher(folder.path());
        let sshd = Sshd::start_behind(&launcher, Path::new(PROGRAM), &variables);
        sshd.allow_other_users();
        Self {
            name: name.to_owned(),
            service: Service::start(daemon(folder.path(), &words), folder.path().join("pid")),
            sshd,
            folder,
            words,
            boots: 1,
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("soramode.sock")
    }

    /// The link to the daemon's program, which the next start runs.
    pub(crate) fn program(&self) -> PathBuf {
        self.folder.path().join("soramoded")
    }

    /// The program that the daemon runs now.
    pub(crate) fn running_program(&self) -> Option<PathBuf> {
        let pid = self.service.running().pid?;
        fs::read_link(format!("/proc/{pid}/exe")).ok()
    }

    /// The status, if the daemon answers.
    pub(crate) fn status(&self) -> Option<Value> {
        UnixStream::connect(self.socket()).ok()?;
        let socket = self.socket();
        // The daemon may be killed while it answers.
        let asked = thread::spawn(move || TestClient::to(&socket).status());
        asked.join().ok()
    }

    /// Waits until the record of a roll has this step.
    pub(crate) fn until_step(&self, step: &str) {
        until(|| (self.status()?["reservation"]["step"] == step).then_some(()));
    }

    /// Kills the daemon, which is started again.
    pub(crate) fn kill_daemon(&self) {
        self.service.signal(Signal::SIGKILL);
    }

    /// Loses the power: all processes are killed.
    pub(crate) fn lose_power(&mut self) {
        self.service.stop();
        self.sshd.kill();
        let mark = format!("{MACHINE}={}", self.folder.path().display());
        let is_of_machine = |pid: &u32| {
            let variables = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            variables
                .split(|byte| *byte == 0)
                .any(|variable| variable == mark.as_bytes())
        };
        let of_machine = || processes().into_iter().filter(is_of_machine);
        until(|| {
            for pid in of_machine() {
                // It may have ended just now.
                let _ = kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL);
            }
            of_machine().next().is_none().then_some(())
        });
    }

    /// After [`lose_power`](Self::lose_power): starts with another boot id.
    pub(crate) fn boot(&mut self) {
        self.boots += 1;
        write_boot_id(self.folder.path(), self.boots);
        self.service = Service::start(
            daemon(self.folder.path(), &self.words),
            self.folder.path().join("pid"),
        );
        self.sshd.start_again();
    }

    /// Writes a program of the sessions' `PATH`.
    pub(crate) fn write_program(&self, name: &str, text: &str) {
        let folder = self.sshd.home().join("bin");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The log of its daemon.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.service.stop();
    }
}

fn write_boot_id(folder: &Path, boots: u32) {
    fs::write(folder.join("boot_id"), format!("boot-{boots}\n")).unwrap();
}

/// The words that start a program on a machine.
fn launcher(folder: &Path) -> Vec<String> {
    let boot_id = folder.join("boot_id").display().to_string();
    let words = ["unshare", "--mount", "sh", "-c", WITH_BOOT_ID, &boot_id];
    words.map(str::to_owned).to_vec()
}

/// The command that starts the daemon.
fn daemon(folder: &Path, words: &[String]) -> Command {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .unwrap();
    let launcher = launcher(folder);
    let mut command = with_default_signals(&launcher[0]);
    command
        .args(&launcher[1..])
        .arg(folder.join("soramoded"))
        .args(["machines::play_a_daemon", "--exact", "--nocapture"])
        .env(PLAY, words.join("\n"))
        .env(MACHINE, folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    command
}

/// A soramoded of no cluster in a process of its own, which a test can halt.
pub(crate) struct LoneDaemon {
    child: Child,
    folder: TempDir,
}

impl LoneDaemon {
    pub(crate) fn start(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("soramoded");
        std::os::unix::fs::symlink(std::env::current_exe().unwrap(), program).unwrap();
        write_boot_id(folder.path(), 1);
        let socket = folder.path().join("soramode.sock");
        let words = [
            format!("--node-name={name}"),
            format!("--socket={}", socket.display()),
            "--ephemeral".to_owned(),
        ];
        let child = daemon(folder.path(), &words).spawn().unwrap();
        until(|| UnixStream::connect(&socket).ok());
        Self { child, folder }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("soramode.sock")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, signal).unwrap();
    }
}

impl Drop for LoneDaemon {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A group of this machine, as long as the test runs.
pub(crate) struct TestGroup(pub(crate) String);

impl TestGroup {
    pub(crate) fn create() -> Self {
        let name = unused_name(|name| Group::from_name(name).unwrap().is_some());
        change_accounts(&["groupadd", &name]);
        Self(name)
    }
}

impl Drop for TestGroup {
    fn drop(&mut self) {
        change_accounts(&["groupdel", &self.0]);
    }
}

/// A user of this machine, as long as the test runs, with a home and a configuration of ssh.
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) home: TempDir,
}

impl Account {
    pub(crate) fn create() -> Self {
        let name = unused_name(|name| User::from_name(name).unwrap().is_some());
        let home = tempfile::tempdir().unwrap();
        let path = home.path().to_str().unwrap();
        // Without a password, and not locked: sshd refuses locked ones.
        let words = ["useradd", "-M", "-N", "-s", "/bin/sh", "-p", "*", "-d"];
        change_accounts(&[&words[..], &[path, &name]].concat());
        let account = Self { name, home };
        account.own(account.home.path());
        account
    }

    /// Adds it to a group, for its later logins.
    pub(crate) fn join(&self, group: &TestGroup) {
        change_accounts(&["usermod", "-a", "-G", &group.0, &self.name]);
    }

    fn id(&self) -> Uid {
        User::from_name(&self.name).unwrap().unwrap().uid
    }

    pub(crate) fn own(&self, path: &Path) {
        chown(path, Some(self.id().as_raw()), None).unwrap();
    }

    /// The program as this user runs it, with an ssh that reaches these servers.
    pub(crate) fn program(&self, servers: &[(&str, &Sshd)]) -> Command {
        let config = client_config_in(self.home.path(), servers);
        for entry in fs::read_dir(self.home.path()).unwrap() {
            self.own(&entry.unwrap().path());
        }
        let mut command = with_default_signals("setpriv");
        let id = self.id().to_string();
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.home.path())
            .env("SORAMODE_SSH", format!("ssh -F {}", config.display()))
            .args([
                "--reuid",
                &id,
                "--regid",
                "65534",
                "--clear-groups",
                PROGRAM,
            ])
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        change_accounts(&["userdel", &self.name]);
    }
}

/// A name of this test's alone.
fn unused_name(is_used: impl Fn(&str) -> bool) -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let next = || LAST.fetch_add(1, Ordering::Relaxed);
    let mut names = std::iter::repeat_with(|| format!("smt{}x{}", std::process::id(), next()));
    names.find(|name| !is_used(name)).unwrap()
}

/// Runs a command that changes the user database, which may be locked by another test.
fn change_accounts(words: &[&str]) {
    let began = Instant::now();
    loop {
        let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
        let problem = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() || thread::panicking() {
            return;
        }
        let is_locked = problem.contains("try again later") || problem.contains("lock");
        assert!(
            is_locked && began.elapsed() < PATIENCE,
            "{words:?}: {problem}"
        );
    }
}

/// The program of the operator of the tests.
pub(crate) fn operator(machines: &[Machine], home: &Path) -> Command {
    let mut command = with_default_signals(PROGRAM);
    let config = client_config(&servers(machines));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", home)
        .env("SORAMODE_SSH", format!("ssh -F {}", config.display()))
        .stdin(Stdio::null());
    command
}

/// The sshds by the names of their machines.
pub(crate) fn servers<'a>(machines: &'a [Machine]) -> Vec<(&'a str, &'a Sshd)> {
    let server = |machine: &'a Machine| {
        let Machine { name, sshd, .. } = machine;
        (name.as_str(), sshd)
    };
    machines.iter().map(server).collect()
}
