//! A command on another host with a connection that dies at its start, and with an `exec-stdio` that is killed: neither is waited for in vain,
//! and neither keeps its own repetition out.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use soramode_roll::COMMAND_GONE;
use soramode_testkit::sshd::{Sshd, command_line};

use crate::fleet::Fleet;
use crate::ssh::{HOST, Remote};
use crate::support::{Ended, PROGRAM, Run, Running, until, until_file};
use crate::terminal::Terminal;

/// Case of a script with the words of ssh: the one that runs the command.
const RUNS_COMMAND: &str = r#"case "$*" in *"exec-stdio --roll"*" --look"*) false;; *"exec-stdio --roll"*) ;; *) false;; esac"#;

impl Remote {
    /// Runs `maintain` with an ssh that runs this script first.
    fn maintain_after(&self, script: &str) -> Ended {
        let path = self.runtime.path().join("ssh-after");
        fs::write(&path, format!("{script}\nexec {} \"$@\"\n", self.ssh())).unwrap();
        let mut command = self.command(&["maintain", "-m", "X", "--", "true"]);
        command.env("SORAMODE_SSH", format!("sh {}", path.display()));
        command.ended()
    }

    fn maintain(&self) -> Ended {
        self.run(&["maintain", "-m", "X", "--", "true"])
    }

    /// Begins a maintenance with a command that runs until this file is there.
    fn begun(&self) -> (Running, PathBuf) {
        let file = self.runtime.path().join("go-on");
        let command = format!("echo begun; {}", until_file(&file));
        let mut maintain = self
            .command(&["maintain", "-m", "X", "--", "sh", "-c", &command])
            .running();
        maintain.until_answered("begun");
        (maintain, file)
    }

    fn reservation(&self) -> serde_json::Value {
        self.daemon.json(&["status"]).1["reservation"].clone()
    }

    /// Lets the maintenance end, and runs it again.
    fn assert_gets_in(&self) {
        let again = self.maintain();
        assert_eq!(again.code, 0, "{again:?}");
        assert_eq!(self.daemon.ok(&["get"]), "normal\n");
    }
}

/// Kills `exec-stdio`, and then the command, on a host.
fn kill_both(sshd: &Sshd) {
    let find = |words: &str| {
        let is_it = |pid: &u32| command_line(*pid).contains(words);
        let all = until(|| Some(sshd.sessions()).filter(|all| all.iter().any(is_it)));
        all.into_iter().filter(is_it).collect::<Vec<_>>()
    };
    let command = find("until test");
    for pid in find("exec-stdio --roll").into_iter().chain(command) {
        // One may be the shell of another.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
        let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
    }
}

#[test]
fn a_command_whose_ssh_dies_at_its_start_does_not_keep_its_repetition_out() {
    let remote = Remote::start();
    let died = remote.maintain_after(&format!("{RUNS_COMMAND} && exit 255"));
    assert_eq!(died.code, 70, "{died:?}");
    assert!(died.stderr.contains(COMMAND_GONE), "{died:?}");
    assert!(remote.reservation()["expires_in_seconds"].is_null());
    remote.assert_gets_in();

    // The host cannot be reached any more: it stays reserved, for a time that is named.
    let dead = remote.runtime.path().join("dead");
    let dead = dead.display();
    let script = format!("{RUNS_COMMAND} && touch {dead}\nif test -e {dead}; then exit 255; fi");
    let lost = remote.maintain_after(&script);
    assert_eq!(lost.code, 3, "{lost:?}");
    assert!(lost.stderr.contains("takes the node for 60 s"), "{lost:?}");
    let roll = remote.reservation()["roll"].clone();
    let refused = remote.daemon.run(&["drain", "--no-wait"]);
    assert_eq!(refused.code, 5, "{refused:?}");
    let words = format!("the node is reserved for {} of ", roll.as_str().unwrap());
    for words in [
        words.as_str(),
        "maintain-",
        "; expires in ",
        "or until the reservation expires if it has died",
    ] {
        assert!(refused.stderr.contains(words), "{refused:?}");
    }
    remote.assert_gets_in();
}

#[test]
fn a_repetition_is_refused_while_the_command_runs() {
    let remote = Remote::start();
    let (maintain, file) = remote.begun();
    maintain.stopped();
    let refused = remote.maintain();
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(
        refused.stderr.contains("still runs on sfu-02"),
        "{refused:?}"
    );
    fs::write(&file, "").unwrap();
    until(|| (remote.reservation()["command_exit"] == 0).then_some(()));
    remote.assert_gets_in();
}

#[test]
fn a_maintenance_does_not_wait_for_an_exec_stdio_that_is_killed() {
    let remote = Remote::start();
    let (maintain, _) = remote.begun();
    kill_both(&remote.sshd);
    let ended = maintain.ended();
    assert_eq!(ended.code, 70, "{ended:?}");
    assert!(ended.stderr.contains(COMMAND_GONE), "{ended:?}");
    assert!(ended.stderr.contains("STILL CLOSED"), "{ended:?}");
    remote.assert_gets_in();
}

#[test]
fn a_roll_does_not_wait_for_an_exec_stdio_that_is_killed() {
    let fleet = Fleet::start(2);
    let file = fleet.home.path().join("go-on");
    let command = format!("echo begun; {}", until_file(&file));
    let roll = |more: &[&str]| {
        let words = ["-H", "sfu-01,sfu-02", "roll", "--keep-open", "1", "-m", "X"];
        let command = ["--only", "sfu-01", "--", "sh", "-c", &command];
        let mut program = fleet.program();
        program.args([&words[..], more, &command].concat());
        program
    };
    let mut running = roll(&[]).running();
    running.until_said("sfu-01: begun");
    kill_both(&fleet.sshds[0]);
    let ended = running.ended();
    assert_eq!(ended.code, 70, "{ended:?}");
    assert!(ended.stderr.contains(COMMAND_GONE), "{ended:?}");
    let (_, rest) = ended.stderr.split_once(" --resume ").unwrap();
    let (id, rest) = rest.split_once(' ').unwrap();
    assert!(rest.starts_with("--again"), "{ended:?}");
    let refused = roll(&["--resume", id]).ended();
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(refused.stderr.contains(COMMAND_GONE), "{refused:?}");
    fs::write(&file, "").unwrap();
    let done = roll(&["--resume", id, "--again"]).ended();
    assert_eq!(done.code, 0, "{done:?}");
}

#[test]
fn a_view_says_whether_ssh_or_soramoded_is_lost() {
    let mut remote = Remote::start();
    let script = format!(
        "SORAMODE_SSH='{}' {PROGRAM} -H {HOST} status --watch; exec sleep 600",
        remote.ssh()
    );
    let terminal = Terminal::open(&script, (100, 24));
    terminal.until_shown("EVENTS");
    remote.daemon.stop();
    let joined = |screen: &str| screen.split_whitespace().collect::<Vec<_>>().join(" ");
    terminal.until("soramoded is lost", |screen| {
        let screen = joined(screen);
        screen.contains("NO CONNECTION to sfu-02 for ") && screen.contains("cannot reach soramoded")
    });
    remote.sshd.kill();
    terminal.until("ssh is lost", |screen| {
        joined(screen).contains("cannot reach sfu-02 over ssh")
    });
    assert!(!terminal.screen().contains("NO DAEMON"));
}
