//! `soramode roll` and `maintain -H` over a real ssh: each step, each stop, and what goes on after it.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::Value;
use soramode_testkit::sshd::command_line;

use crate::fleet::Fleet;
use crate::support::{Ended, Run, Running, until, until_file};

const HOSTS: &str = "sfu-01,sfu-02,sfu-03";

/// Arguments of a roll over three hosts, two of which stay open.
const ROLL: [&str; 7] = ["-H", HOSTS, "roll", "--keep-open", "2", "-m", "CHG-1"];

impl Fleet {
    pub(crate) fn roll(&self, more: &[&str]) -> Ended {
        self.run(&[&ROLL[..], more].concat())
    }

    pub(crate) fn start_roll(&self, more: &[&str]) -> Running {
        let args = [&ROLL[..], more].concat();
        self.program().args(args).running()
    }

    pub(crate) fn modes(&self) -> Vec<String> {
        let mode = |daemon: &crate::support::Daemon| daemon.ok(&["get"]).trim().to_owned();
        self.daemons.iter().map(mode).collect()
    }

    /// A file that the commands of the hosts look for.
    pub(crate) fn file(&self) -> PathBuf {
        self.home.path().join("go-on")
    }

    /// A command that runs until the file is there.
    pub(crate) fn until_file(&self) -> String {
        until_file(&self.file())
    }
}

/// The outcome, the exit code, and a field of each node.
fn result(ended: &Ended, field: &str) -> (String, i32, Vec<Value>) {
    let json = ended.json();
    let nodes = json["nodes"].as_array().unwrap();
    assert_eq!(json["exit"], ended.code);
    (
        json["outcome"].as_str().unwrap().to_owned(),
        ended.code,
        nodes.iter().map(|node| node[field].clone()).collect(),
    )
}

#[test]
fn each_node_is_closed_maintained_and_opened_in_turn() {
    let fleet = Fleet::start(3);
    let preview = fleet.roll(&["--dry-run", "--", "true"]);
    assert_eq!(preview.code, 0, "{preview:?}");
    let first = preview.stdout.lines().nth(1).unwrap();
    assert!(
        first.starts_with("1      sfu-01  sfu-01  normal"),
        "{preview:?}"
    );
    let ended = fleet.roll(&["--", "sh", "-c", "soramode get; soramode -o plain info >&2"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    for host in ["sfu-01", "sfu-02", "sfu-03"] {
        let closed = format!("{host}: block_new_session\n");
        assert!(ended.stderr.contains(&closed), "{ended:?}");
    }
    assert_eq!(fleet.modes(), ["normal"; 3]);
    let (_, history) = fleet.daemons[0].json(&["history"]);
    assert_eq!(history["changes"][1]["reason"], "CHG-1", "{history}");
    let opened = &history["changes"][0]["reason"];
    assert_eq!(opened, "CHG-1: maintenance done", "{history}");
    let json = fleet.roll(&["--json", "--only", "sfu-02", "--", "true"]);
    assert_eq!(
        result(&json, "outcome"),
        (
            "done".to_owned(),
            0,
            ["untouched", "done", "untouched"].map(Value::from).to_vec()
        )
    );
    let result = json.json();
    assert_eq!(result["least_open"], 2);
    let node = &result["nodes"][1];
    assert!(
        node["closed_at"].is_string() && node["opened_at"].is_string(),
        "{node}"
    );
}

#[test]
fn a_command_that_fails_stops_the_roll_which_goes_on_where_it_was() {
    let fleet = Fleet::start(3);
    let test = format!("test -e {}", fleet.file().display());
    let stopped = fleet.roll(&["--json", "--", "sh", "-c", &test]);
    let outcomes = ["stopped", "untouched", "untouched"]
        .map(Value::from)
        .to_vec();
    assert_eq!(
        result(&stopped, "outcome"),
        ("stopped".to_owned(), 70, outcomes)
    );
    assert_eq!(fleet.modes(), ["block_new_session", "normal", "normal"]);
    let json = stopped.json();
    let id = json["roll"].as_str().unwrap();
    let other = fleet.roll(&["--", "true"]);
    for words in [
        &format!("sfu-01: is closed (block_new_session) by roll {id} of "),
        ": CHG-1. It holds no reservation: it has stopped, or has lost its connection",
        &format!("its own command, with --resume {id}. To see its step: soramode -H sfu-01 status"),
    ] {
        assert!(other.stderr.contains(words), "{words}: {other:?}");
    }
    let changed = fleet.roll(&["--resume", id, "--dry-run", "--", "true"]);
    let words = format!("roll {id} began with another command, --reboot or --ready");
    assert!(changed.stderr.contains(&words), "{changed:?}");
    assert!(
        json["resume"]
            .as_str()
            .unwrap()
            .contains(&format!(" --resume {id} --again -- sh -c ")),
        "{json}"
    );
    fs::write(fleet.file(), "").unwrap();
    let still = fleet.roll(&["--resume", id, "--", "sh", "-c", &test]);
    assert_eq!(
        still.code, 70,
        "a command that failed is run again only with --again: {still:?}"
    );
    let done = fleet.roll(&["--resume", id, "--again", "--", "sh", "-c", &test]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(fleet.modes(), ["normal"; 3]);
    let warns = |ended: &Ended| ended.stderr.contains("began with another command");
    assert!(!warns(&still) && !warns(&done), "{still:?} {done:?}");
    let unknown = fleet.roll(&["--resume", "NOSUCH00", "--", "true"]);
    assert_eq!(unknown.code, 5, "{unknown:?}");
    assert!(unknown.stderr.contains("mistyped"), "{unknown:?}");
    assert!(!warns(&unknown), "{unknown:?}");
}

#[test]
fn an_obstacle_to_a_roll_is_refused_with_nothing_changed() {
    let mut fleet = Fleet::start(3);
    for (args, words) in [
        (
            &[
                "-H",
                "sfu-01",
                "roll",
                "--keep-open",
                "1",
                "-m",
                "X",
                "--",
                "true",
            ][..],
            "--keep-open 1 of 1",
        ),
        (
            &["-H", HOSTS, "roll", "--keep-open", "2", "--", "true"],
            "-m REASON",
        ),
        (
            &["-H", HOSTS, "roll", "--keep-open", "2", "-m", "X"],
            "--reboot",
        ),
        (
            &["roll", "--keep-open", "2", "-m", "X", "--", "true"],
            "-H HOST",
        ),
    ] {
        let refused = fleet.run(args);
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains(words), "{refused:?}");
    }
    fleet.daemons[1].ok(&["close", "-m", "disk"]);
    let closed = fleet.roll(&["--", "true"]);
    assert_eq!(closed.code, 5, "{closed:?}");
    assert!(closed.stderr.contains("sfu-02: is closed"), "{closed:?}");
    let hint = "hint: Once that is over, open the node. Or leave it out: --skip-closed\n";
    assert!(closed.stderr.ends_with(hint), "{closed:?}");
    assert_eq!(fleet.modes()[0], "normal");
    // One that is skipped does not count as open either.
    let args = [
        "-H",
        HOSTS,
        "roll",
        "--keep-open",
        "1",
        "-m",
        "X",
        "--skip-closed",
        "--json",
        "--",
        "true",
    ];
    let skipped = fleet.run(&args);
    let outcomes = ["done", "skipped", "done"].map(Value::from).to_vec();
    assert_eq!(
        result(&skipped, "outcome"),
        ("done".to_owned(), 0, outcomes)
    );
    fleet.sshds[2].kill();
    let unreachable = fleet.roll(&["--skip-closed", "--", "true"]);
    let preview = fleet.roll(&["--dry-run", "--", "true"]);
    for ended in [unreachable, preview] {
        assert_eq!(ended.code, 3, "{ended:?}");
        assert!(
            ended
                .stderr
                .contains("leave it out of -H. See where ssh stops: ssh "),
            "{ended:?}"
        );
        assert!(ended.stderr.ends_with(" -v -- sfu-03 true\n"), "{ended:?}");
    }
}

#[test]
fn a_node_belongs_to_one_roll_at_a_time() {
    let fleet = Fleet::start(3);
    let command = fleet.until_file();
    let mut first = fleet.start_roll(&["--", "sh", "-c", &command]);
    first.until_said("sfu-01: running the command");
    let second = fleet.run(&[
        "-H",
        "sfu-02,sfu-03",
        "roll",
        "--keep-open",
        "1",
        "-m",
        "Y",
        "--",
        "true",
    ]);
    assert_eq!(second.code, 5, "{second:?}");
    assert!(second.stderr.contains("Nothing was changed"), "{second:?}");
    let third = fleet.roll(&["--", "true"]);
    assert!(
        third.stderr.contains("sfu-01: is reserved for roll ")
            && third
                .stderr
                .contains("hint: Begin once that roll is over. If it has died, "),
        "a node that a roll maintains is not called closed: {third:?}"
    );
    let status = fleet.run(&["-H", HOSTS, "status", "-o", "plain"]);
    let rolls = status.stdout.lines().map(|line| line.split('\t').nth(7));
    assert!(
        rolls.clone().count() == 3 && rolls.flatten().all(|roll| !roll.is_empty()),
        "{status:?}"
    );
    let drain = fleet.daemons[1].run(&["drain", "--timeout", "1s"]);
    assert_eq!(drain.code, 5, "{drain:?}");
    fs::write(fleet.file(), "").unwrap();
    let ended = first.ended();
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[test]
fn the_command_goes_on_without_the_connection_and_its_end_is_found() {
    let fleet = Fleet::start(3);
    let command = format!("echo begun; {}; exit 255", fleet.until_file());
    let mut roll = fleet.start_roll(&["--only", "sfu-01", "--", "sh", "-c", &command]);
    roll.until_said("sfu-01: begun");
    let session = until(|| {
        let sessions = fleet.sshds[0].sessions();
        let is_exec = |pid: &u32| command_line(*pid).contains("exec-stdio");
        let exec = *sessions.iter().find(|pid| is_exec(pid))?;
        // Its sshd: the session that it descends from.
        let of_exec = |pid: &u32| soramode_testkit::sshd::descendants(*pid).contains(&exec);
        sessions
            .into_iter()
            .filter(|pid| command_line(*pid).starts_with("sshd: "))
            .find(of_exec)
    });
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(session).unwrap()),
        Signal::SIGKILL,
    )
    .unwrap();
    roll.until_said("connection lost");
    fs::write(fleet.file(), "").unwrap();
    let ended = roll.ended();
    assert_eq!(ended.code, 70, "{ended:?}");
    assert!(
        ended.stderr.contains("the command failed (exit code 255)"),
        "{ended:?}"
    );
}

#[test]
fn an_interrupt_ends_a_wait_at_once_and_waits_for_a_command() {
    let fleet = Fleet::start(3);
    fleet.daemons[0].connect("spam", "c1");
    let command = fleet.until_file();
    let mut roll = fleet.start_roll(&["--", "sh", "-c", &command]);
    roll.until_said("sfu-01: draining");
    until(|| (fleet.modes()[0] == "block_new_session").then_some(()));
    roll.signal(Signal::SIGINT);
    let ended = roll.ended();
    assert_eq!(ended.code, 130, "{ended:?}");
    let id = ended.stderr.split(" --resume ").nth(1).unwrap();
    let id = id.split(' ').next().unwrap();
    fleet.daemons[0].disconnect("c1");
    let mut roll = fleet.start_roll(&["--resume", id, "--", "sh", "-c", &command]);
    roll.until_said("sfu-01: running the command");
    roll.signal(Signal::SIGINT);
    roll.until_said("interrupted");
    fs::write(fleet.file(), "").unwrap();
    let ended = roll.ended();
    assert_eq!(ended.code, 130, "the command was waited for: {ended:?}");
    let done = fleet.roll(&["--resume", id, "--", "sh", "-c", &command]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(fleet.modes(), ["normal"; 3]);
}

#[test]
fn a_roll_that_is_killed_goes_on_from_any_machine() {
    let fleet = Fleet::start(3);
    fleet.daemons[0].connect("spam", "c1");
    let command = fleet.until_file();
    let mut roll = fleet.start_roll(&["--", "sh", "-c", &command]);
    roll.until_said("sfu-01: draining");
    until(|| (fleet.modes()[0] == "block_new_session").then_some(()));
    let killed = roll.stopped();
    let id = killed.stderr.split("roll ").nth(1).unwrap();
    let id = id.split(':').next().unwrap();
    fleet.daemons[0].disconnect("c1");
    let mut roll = fleet.start_roll(&["--resume", id, "--", "sh", "-c", &command]);
    roll.until_said("sfu-01: running the command");
    let node = &fleet.daemons[0];
    let record = || node.json(&["status"]).1["reservation"].clone();
    until(|| (record()["step"] == "command").then_some(()));
    until(|| {
        let sessions = fleet.sshds[0].sessions();
        let runs = |pid: &u32| command_line(*pid).starts_with("sh -c until test");
        sessions.iter().any(runs).then_some(())
    });
    roll.stopped();
    let early = fleet.roll(&["--resume", id, "--", "sh", "-c", &command]);
    assert_eq!(early.code, 5, "the command may still run: {early:?}");
    fs::write(fleet.file(), "").unwrap();
    until(|| (record()["command_exit"] == 0).then_some(()));
    let done = fleet.roll(&["--resume", id, "--", "sh", "-c", &command]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(fleet.modes(), ["normal"; 3]);
}

#[test]
fn a_node_is_opened_once_it_is_ready_and_a_reboot_that_is_refused_stops_the_roll() {
    let fleet = Fleet::start(3);
    let file = fleet.file();
    let ready = format!(
        "test -e {} || {{ printf 'not \\033[31myet\\n\\n'; exit 4; }}",
        file.display()
    );
    let until_ready = |limit: &str| {
        let words = ["--only", "sfu-01", "--ready", &ready];
        let limit = ["--ready-timeout", limit, "--", "true"];
        fleet.roll(&[&words[..], &limit].concat())
    };
    // Long enough for one try over ssh on a busy machine.
    let late = until_ready("8s");
    assert_eq!(late.code, 124, "{late:?}");
    for words in [
        "was not ready within 8 s",
        " ends with 4: not \\u{1b}[31myet",
    ] {
        assert!(late.stderr.contains(words), "{late:?}");
    }
    assert_eq!(fleet.modes()[0], "block_new_session");
    fleet.daemons[0].ok(&["open"]);
    fs::write(fleet.file(), "").unwrap();
    let done = until_ready("10m");
    assert_eq!(done.code, 0, "{done:?}");

    let sudo_script = "#!/bin/sh\necho a password is required >&2\nexit 1\n";
    fleet.write_program(1, "sudo", sudo_script);
    let refused = fleet.roll(&["--only", "sfu-02", "--reboot"]);
    assert_eq!(refused.code, 70, "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("sudo -n systemctl reboot failed (exit code 1): a password is required"),
        "{refused:?}"
    );
}

#[test]
fn a_node_that_another_user_opens_is_neither_rebooted_nor_worked_on() {
    let fleet = Fleet::start(3);
    let rebooted = fleet.home.path().join("rebooted");
    let sudo = format!("#!/bin/sh\ntouch {}\n", rebooted.display());
    fleet.write_program(0, "sudo", &sudo);
    let command = fleet.until_file();
    let mut roll = fleet.start_roll(&["--only", "sfu-01", "--reboot", "--", "sh", "-c", &command]);
    let node = &fleet.daemons[0];
    until(|| {
        let sessions = fleet.sshds[0].sessions();
        let runs = |pid: &u32| command_line(*pid).starts_with("sh -c until test");
        sessions.iter().any(runs).then_some(())
    });
    roll.until_said("sfu-01: running the command");
    let record = node.json(&["status"]).1["reservation"].clone();
    node.ok(&["open"]);
    // The record alone does not make the command run.
    let file = fleet.home.path().join("run");
    let args = ["exec-stdio", "--roll", record["roll"].as_str().unwrap()];
    let refused = node.run(&[&args[..], &["--", "touch", file.to_str().unwrap()]].concat());
    assert_eq!(refused.code, 6, "{refused:?}");
    assert!(!file.exists());
    fs::write(fleet.file(), "").unwrap();
    let ended = roll.ended();
    assert_eq!(ended.code, 6, "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("another user changed the mode meanwhile"),
        "{ended:?}"
    );
    assert!(!rebooted.exists());
}

#[test]
fn maintain_runs_its_command_on_the_host() {
    let fleet = Fleet::start(1);
    let on_host = |words: &[&str]| {
        fleet.run(&[&["-H", "sfu-01", "maintain", "-m", "CHG-1", "--"], words].concat())
    };
    let done = on_host(&[
        "sh",
        "-c",
        "soramode get; echo $SSH_CONNECTION >&2; echo 'it''s'",
    ]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(
        done.stdout.starts_with("block_new_session\nits\n"),
        "{done:?}"
    );
    assert!(done.stderr.contains("127.0.0.1 "), "{done:?}");
    assert_eq!(fleet.modes(), ["normal"]);
    let failed = on_host(&["sh", "-c", "exit 42"]);
    assert_eq!(failed.code, 42, "{failed:?}");
    assert!(failed.stderr.contains("STILL CLOSED"), "{failed:?}");
    assert!(
        failed.stderr.contains("soramode -H sfu-01 set normal"),
        "{failed:?}"
    );
    assert_eq!(on_host(&["true"]).code, 0);
    assert_eq!(fleet.modes(), ["normal"]);
    let missing = on_host(&["nosuchcommand"]);
    assert_eq!(missing.code, 127, "{missing:?}");
}

#[test]
fn exec_stdio_runs_nothing_for_a_roll_that_the_node_is_not_reserved_for() {
    let fleet = Fleet::start(1);
    let file = fleet.file().display().to_string();
    let refused = fleet.daemons[0].run(&["exec-stdio", "--roll", "OTHER000", "--", "touch", &file]);
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(!fleet.file().exists());
}
