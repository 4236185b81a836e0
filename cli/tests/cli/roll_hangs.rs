//! `roll` and `maintain -H` on a host on which something hangs: soramoded, or the session of sshd. They end, and go on later. Needs root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use soramode_testkit::control_client::TestClient;
use soramode_testkit::sshd::{Sshd, client_config, command_line};
use tempfile::TempDir;

use crate::machines::LoneDaemon;
use crate::ssh::signal;
use crate::support::{PROGRAM, Run, Running, until, until_file, with_default_signals};

/// A host with a soramoded and an sshd that can be halted.
struct Host {
    daemon: LoneDaemon,
    sshd: Sshd,
    config: PathBuf,
    home: TempDir,
}

impl Host {
    fn start() -> Self {
        let daemon = LoneDaemon::start("sfu-01");
        let socket = daemon.socket();
        let variables = [("SORAMODE_SOCKET", socket.to_str().unwrap())];
        let sshd = Sshd::start(Path::new(PROGRAM), &variables);
        Self {
            config: client_config(&[("sfu-01", &sshd)]),
            daemon,
            sshd,
            home: tempfile::tempdir().unwrap(),
        }
    }

    fn client(&self) -> TestClient {
        TestClient::to(&self.daemon.socket())
    }

    fn start_command(&self, words: &[&str]) -> Running {
        let mut command: Command = with_default_signals(PROGRAM);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("SORAMODE_SSH", format!("ssh -F {}", self.config.display()))
            .stdin(Stdio::null())
            .args(["-H", "sfu-01"])
            .args(words)
            .running()
    }

    fn roll(&self, more: &[&str]) -> Running {
        self.start_command(&[&["roll", "--keep-open", "0", "-m", "X"][..], more].concat())
    }

    fn maintain(&self, command: &[&str]) -> Running {
        self.start_command(&[&["maintain", "-m", "X", "--"][..], command].concat())
    }

    fn until_closed(&self) {
        until(|| (self.client().status()["mode"] == "block_new_session").then_some(()));
    }

    /// A command that runs until the file is there.
    fn until_file(&self) -> String {
        format!("echo begun; {}", until_file(&self.file()))
    }

    fn file(&self) -> PathBuf {
        self.home.path().join("go-on")
    }

    /// Halts the sessions of sshd; what runs in them goes on.
    fn halt_sessions(&self) {
        let sessions = self.sshd.sessions();
        let halted = sessions
            .into_iter()
            .filter(|pid| command_line(*pid).contains("@notty"));
        halted.for_each(|pid| signal(pid, Signal::SIGSTOP));
    }
}

#[test]
fn a_roll_stops_where_soramoded_hangs_and_goes_on_once_it_answers() {
    let host = Host::start();
    host.client().connect("spam", "c1");
    let mut roll = host.roll(&["--", "true"]);
    roll.until_said("sfu-01: draining");
    host.until_closed();
    host.daemon.signal(Signal::SIGSTOP);
    let stopped = roll.ended();
    assert_eq!(stopped.code, 3, "{stopped:?}");
    assert!(stopped.stderr.contains("no answer"), "{stopped:?}");
    // A new roll finds it out before it changes anything.
    let again = host.roll(&["--", "true"]).ended();
    assert_eq!(again.code, 3, "{again:?}");
    assert!(again.stderr.contains("Nothing was changed"), "{again:?}");
    host.daemon.signal(Signal::SIGCONT);
    host.client().disconnect("c1");
    let id = stopped.stderr.split(" --resume ").nth(1).unwrap();
    let id = id.split(' ').next().unwrap();
    let done = host.roll(&["--resume", id, "--", "true"]).ended();
    assert_eq!(done.code, 0, "{done:?}");
}

#[test]
fn maintain_ends_where_soramoded_hangs_and_its_command_is_waited_for() {
    let host = Host::start();
    host.client().connect("spam", "c1");
    let mut drain = host.maintain(&["true"]);
    drain.until_said("session left");
    host.daemon.signal(Signal::SIGSTOP);
    let ended = drain.ended();
    assert_eq!(ended.code, 3, "{ended:?}");
    host.daemon.signal(Signal::SIGCONT);
    host.client().disconnect("c1");
    let mut maintain = host.maintain(&["sh", "-c", &host.until_file()]);
    maintain.until_answered("begun");
    host.daemon.signal(Signal::SIGSTOP);
    fs::write(host.file(), "").unwrap();
    until(|| {
        let sessions = host.sshd.sessions();
        let is_command = |pid: &u32| command_line(*pid).starts_with("sh -c echo begun");
        (!sessions.iter().any(is_command)).then_some(())
    });
    host.daemon.signal(Signal::SIGCONT);
    let maintained = maintain.ended();
    assert_eq!(maintained.code, 0, "{maintained:?}");
    assert_eq!(host.client().status()["mode"], "normal");
}

#[test]
fn a_command_is_found_again_where_the_session_of_sshd_hangs() {
    let host = Host::start();
    let command = host.until_file();
    let mut roll = host.roll(&["--", "sh", "-c", &command]);
    roll.until_said("sfu-01: begun");
    host.halt_sessions();
    roll.until_said("connection lost");
    fs::write(host.file(), "").unwrap();
    let done = roll.ended();
    assert_eq!(done.code, 0, "{done:?}");
    fs::remove_file(host.file()).unwrap();
    let mut maintain = host.maintain(&["sh", "-c", &command]);
    maintain.until_answered("begun");
    host.halt_sessions();
    maintain.until_said("connection lost");
    fs::write(host.file(), "").unwrap();
    let maintained = maintain.ended();
    assert_eq!(maintained.code, 0, "{maintained:?}");
    assert_eq!(host.client().status()["mode"], "normal");
}
