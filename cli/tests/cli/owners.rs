//! A node that more than one operator, or a command, keeps closed: a command that opens it is offered only to its owner.

use std::fs;
use std::process::Command;

use crate::fleet::Fleet;
use crate::support::{Daemon, Run, program, until_file};

/// The program for this daemon, under `sudo` by this operator.
fn by(operator: &str, daemon: &Daemon, args: &[&str]) -> Command {
    let mut command = program(&daemon.socket());
    command.env("SUDO_USER", operator).args(args);
    command
}

fn failing<'a>(reason: &'a str, command: &'a [&'a str]) -> Vec<&'a str> {
    [&["maintain", "-m", reason, "--"][..], command].concat()
}

#[test]
fn after_a_failed_command_the_other_operator_is_named() {
    let daemon = Daemon::start();
    let first = by("alice", &daemon, &failing("CHG-400", &["false"])).ended();
    assert!(first.stderr.ends_with("set normal\n"), "{first:?}");
    let second = by("bob", &daemon, &failing("CHG-401", &["false"])).ended();
    assert_eq!(second.code, 1, "{second:?}");
    let (_, hint) = second.stderr.split_once("STILL CLOSED").unwrap();
    assert!(
        hint.contains(" for alice closed it ")
            && hint.ends_with(" ago (\"CHG-400\"). Ask alice before you open it\n"),
        "{second:?}"
    );
    for (me, other, reason) in [("bob", "alice", "CHG-400"), ("alice", "bob", "CHG-401")] {
        let status = by(me, &daemon, &["status", "-o", "plain"]).ended();
        let words = format!(" ago (\"{reason}\"). Ask {other} before you open it: soramode ");
        let to_open = status.stdout.lines().find(|it| it.starts_with("to open"));
        assert!(to_open.is_some_and(|it| it.contains(&words)), "{status:?}");
        let drain = by(me, &daemon, &["drain", "--json"]).ended();
        assert_eq!(drain.code, 0, "{drain:?}");
    }
}

#[test]
fn a_looser_mode_is_offered_only_to_the_operator_that_set_the_stricter_one() {
    let daemon = Daemon::start();
    by("alice", &daemon, &["set", "block_new_connection"]).ended();
    for (operator, args, is_offered) in [
        ("alice", &["close"] as &[&str], true),
        ("bob", &["close"], false),
        ("bob", &["drain", "--no-wait", "-m", "CHG-401"], false),
        ("alice", &["close"], false),
    ] {
        let closed = by(operator, &daemon, args).ended();
        assert!(
            closed.stdout.contains("is already in a stricter mode"),
            "{closed:?}"
        );
        assert_eq!(
            closed.stdout.contains("set block_new_session"),
            is_offered,
            "{closed:?}"
        );
    }
}

#[test]
fn a_drain_that_times_out_names_the_operator_that_closed_first() {
    let daemon = Daemon::start();
    daemon.connect("spam", "c1");
    by("alice", &daemon, &["close", "-m", "CHG-400"]).ended();
    let drain = ["drain", "-m", "CHG-401", "--timeout", "1s"];
    let ended = by("bob", &daemon, &drain).ended();
    assert_eq!(ended.code, 124, "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("(\"CHG-400\"). Ask alice before you open it")
            && !ended.stderr.contains("set normal"),
        "{ended:?}"
    );
}

#[test]
fn a_second_maintenance_is_refused_while_the_command_of_the_first_runs() {
    let daemon = Daemon::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("go-on");
    let command = format!("echo begun >&2; {}", until_file(&file));
    let command = ["sh", "-c", &command];
    let first = failing("CHG-10", &command);
    let mut first = by("alice", &daemon, &first).running();
    first.until_said("begun");
    for args in [
        &["maintain", "-m", "CHG-11", "--", "echo", "RAN"][..],
        &["maintain", "--", "echo", "RAN"],
        &["drain", "-m", "CHG-11"],
    ] {
        let second = by("bob", &daemon, args).ended();
        assert_eq!(second.code, 5, "{second:?}");
        assert!(
            second.stderr.contains("the node is reserved for maintain-")
                && !second.stdout.contains("RAN")
                && !second.stderr.contains("set normal"),
            "{second:?}"
        );
    }
    let status = by("alice", &daemon, &["status", "-o", "plain"]).ended();
    let row = |name: &str| {
        let mut rows = status.stdout.lines();
        rows.find_map(|it| it.strip_prefix(name)?.strip_prefix('\t'))
    };
    assert!(
        row("roll").is_some_and(|it| it.contains(", its command runs; ")),
        "{status:?}"
    );
    let to_open = row("to open").unwrap();
    assert!(
        to_open.starts_with("The command of maintain-")
            && to_open.ends_with(" runs there: wait until it has ended"),
        "{status:?}"
    );
    fs::write(&file, "").unwrap();
    let ended = first.ended();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!daemon.ok(&["status"]).contains("maintain-"));
}

#[test]
fn the_exit_code_of_a_failed_command_is_shown_until_the_node_is_open() {
    let daemon = Daemon::start();
    let ended = daemon.run(&failing("CHG-1", &["sh", "-c", "exit 3"]));
    assert_eq!(ended.code, 3, "{ended:?}");
    let words = ", its command has ended (exit code 3); holds no reservation";
    let status = daemon.ok(&["status", "-o", "plain"]);
    assert!(status.contains(words), "{status}");
    daemon.ok(&["open"]);
    daemon.ok(&["close"]);
    let status = daemon.ok(&["status", "-o", "plain"]);
    assert!(!status.contains(words), "{status}");
}

#[test]
fn a_closing_beside_that_of_another_operator_keeps_it() {
    for (mode, reason) in [
        ("block_new_session", "CHG-70; CHG-71"),
        ("block_new_connection", "CHG-71"),
    ] {
        let daemon = Daemon::start();
        by("alice", &daemon, &["drain", "-m", "CHG-70"]).ended();
        let set = ["set", mode, "-m", "CHG-71"];
        // Without its timer, a stricter mode is set all the same: it may be an emergency.
        let is_stricter = mode == "block_new_connection";
        let timed = by("bob", &daemon, &[&set[..], &["--for", "5s"]].concat()).ended();
        assert_eq!(timed.code, if is_stricter { 0 } else { 5 }, "{timed:?}");
        let words = "(\"CHG-70\"). Ask alice before you open it";
        assert!(timed.stderr.contains(words), "{timed:?}");
        let before = daemon.json(&["status"]).1;
        let kept = if is_stricter { "CHG-71" } else { "CHG-70" };
        assert_eq!(
            (&before["reason"], &before["expires_at"]),
            (&kept.into(), &().into())
        );
        let added = by("bob", &daemon, &set).ended();
        assert_eq!(added.code, 0, "{added:?}");
        let after = daemon.json(&["status"]).1;
        assert_eq!(
            (&after["mode"], &after["reason"]),
            (&mode.into(), &reason.into())
        );
        // An operator that names the generation knows the closing.
        let generation = after["generation"].to_string();
        let more = ["--for", "1h", "--if-generation", &generation];
        let timed = [&set[..], &more].concat();
        assert_eq!(by("bob", &daemon, &timed).ended().code, 0);
    }
}

#[test]
fn a_close_beside_a_stricter_mode_of_another_operator_keeps_its_reason() {
    let daemon = Daemon::start();
    let stop = ["set", "block_new_connection", "-m", "INC-7"];
    by("alice", &daemon, &stop).ended();
    by("bob", &daemon, &["close", "-m", "CHG-1"]).ended();
    // A stricter mode stays, and has no timer: not from its own operator either.
    let timed = by("alice", &daemon, &["close", "--for", "1h"]).ended();
    assert_eq!(timed.code, 5, "{timed:?}");
    let status = daemon.json(&["status"]).1;
    assert_eq!(
        (&status["mode"], &status["reason"]),
        (&"block_new_connection".into(), &"INC-7; CHG-1".into())
    );
}

#[test]
fn several_hosts_are_opened_without_those_that_another_operator_closed() {
    let fleet = Fleet::start(2);
    let run = |operator: &str, args: &[&str]| {
        let mut program = fleet.program();
        program.env("SUDO_USER", operator).args(args).ended()
    };
    let closed = run("alice", &["-H", "sfu-02", "close", "-m", "CHG-201"]);
    assert_eq!(closed.code, 0, "{closed:?}");
    let both = ["-H", "sfu-01,sfu-02"];
    let all = [
        "set",
        "block_new_session",
        "-m",
        "INC",
        "--accept-risk=closes-several",
    ];
    let all = run("bob", &[&both[..], &all].concat());
    assert_eq!(all.code, 0, "{all:?}");
    let opened = run("bob", &[&both[..], &["open"]].concat());
    assert_eq!(opened.code, 5, "{opened:?}");
    let words: Vec<&str> = opened.stderr.split_whitespace().collect();
    let words = words.join(" ");
    assert!(
        words.contains("stays closed (block_new_session)")
            && words.contains("(\"CHG-201\"). Ask alice@")
            && words.contains("soramode -H sfu-02 open"),
        "{opened:?}"
    );
    assert_eq!(fleet.daemons[0].ok(&["get"]), "normal\n");
    assert_eq!(fleet.daemons[1].ok(&["get"]), "block_new_session\n");
    assert_eq!(run("bob", &["-H", "sfu-02", "open"]).code, 0);
}
