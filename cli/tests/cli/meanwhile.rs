//! Two operators on one node: what one decides while the other drains, and what a change replaces.

use std::fs::OpenOptions;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::{Daemon, Ended, Fake, PROGRAM, Reply, Run, Running, program};
use crate::terminal::Terminal;

/// The program for this daemon, under `sudo` by this operator.
fn by(operator: &str, daemon: &Daemon, args: &[&str]) -> Command {
    let mut command = program(&daemon.socket());
    command.env("SUDO_USER", operator).args(args);
    command
}

/// Alice drains a node with one session.
fn draining(daemon: &Daemon, more: &[&str]) -> Running {
    daemon.connect("spam", "c1");
    let mut drain = by("alice", daemon, &[&["drain", "-m", "CHG-A"], more].concat()).running();
    drain.until_said("1 of 1 session left");
    drain
}

fn by_bob(daemon: &Daemon, args: &[&str]) -> Ended {
    let ended = by("bob", daemon, args).ended();
    assert_eq!(ended.code, 0, "{ended:?}");
    ended
}

/// Says what the other did, and suggests no command that undoes it.
fn says_what_bob_did(ended: &Ended, mode: &str) {
    let all = format!(
        "{}{}",
        ended.stdout,
        ended.stderr.lines().skip(1).collect::<String>()
    );
    assert!(
        all.contains(&format!(" for bob set {mode} ")) && all.contains(" s ago (\"INC-7\")"),
        "{ended:?}"
    );
    assert!(!all.contains("set normal"), "{ended:?}");
}

#[test]
fn a_maintenance_does_not_run_its_command_after_anothers_stop() {
    for (mode, hint) in [
        ("block_new_connection", "Ask bob first"),
        ("normal", "Clients may connect"),
    ] {
        let daemon = Daemon::start();
        daemon.connect("spam", "c1");
        let mut maintain = by(
            "alice",
            &daemon,
            &["maintain", "-m", "CHG-A", "--", "echo", "RAN"],
        )
        .running();
        maintain.until_said("1 of 1 session left");
        by_bob(&daemon, &["set", mode, "-m", "INC-7"]);
        daemon.disconnect("c1");
        let ended = maintain.ended();
        assert_eq!(
            (ended.code, ended.stdout.contains("RAN")),
            (6, false),
            "{ended:?}"
        );
        assert!(
            ended.stderr.contains(&format!(" for bob set {mode} ")) && ended.stderr.contains(hint),
            "{ended:?}"
        );
        assert_eq!(daemon.ok(&["get"]), format!("{mode}\n"));
    }
}

/// The words of an opening name the other's closing; an undo that comes after it changes nothing.
#[test]
fn an_undo_keeps_a_later_change() {
    let daemon = Daemon::start();
    let closed = by("alice", &daemon, &["close"]).ended();
    by_bob(&daemon, &["set", "block_new_connection", "-m", "INC-7"]);
    let refused = pasted_undo(&daemon, &closed);
    assert_eq!(
        (
            refused.code,
            refused
                .stderr
                .contains("the mode is block_new_connection (generation 3, set by uid:")
        ),
        (6, true),
        "{refused:?}"
    );
    assert_eq!(daemon.ok(&["get"]), "block_new_connection\n");
    let opened = by("alice", &daemon, &["open"]).ended();
    assert!(
        opened.stdout.contains(". It was closed by uid:")
            && opened.stdout.contains(" for bob 0 s ago (\"INC-7\")"),
        "{opened:?}"
    );
}

#[test]
fn a_drain_reports_a_later_change_and_suggests_no_opening() {
    for mode in ["block_new_connection", "block_new_session"] {
        let daemon = Daemon::start();
        let drain = draining(
            &daemon,
            if mode == "block_new_session" {
                &["--connections"]
            } else {
                &[]
            },
        );
        by_bob(&daemon, &["set", mode, "-m", "INC-7"]);
        daemon.disconnect("c1");
        let ended = drain.ended();
        assert_eq!(ended.code, 0, "{ended:?}");
        says_what_bob_did(&ended, mode);
        assert!(
            ended.stdout.ends_with("Ask bob before you open it\n"),
            "{ended:?}"
        );
    }
}

/// No command tells its user to ask themselves.
#[test]
fn a_later_change_of_the_same_operator_is_named_as_such() {
    let daemon = Daemon::start();
    let drain = draining(&daemon, &[]);
    let tighten = by("alice", &daemon, &["set", "block_new_connection"]);
    assert_eq!({ tighten }.ended().code, 0);
    daemon.disconnect("c1");
    let ended = drain.ended();
    assert!(
        ended
            .stdout
            .contains(" for alice set block_new_connection ")
            && ended
                .stdout
                .ends_with("You set that yourself: make sure that it is over before you open it\n"),
        "{ended:?}"
    );
}

#[test]
fn a_drain_says_so_while_it_waits() {
    let daemon = Daemon::start();
    daemon.connect("spam", "c1");
    let drain = format!("soramode --socket {} drain", daemon.socket().display());
    let terminal = Terminal::open(&drain, (120, 24));
    terminal.until_shown("1 of 1 session left");
    by_bob(&daemon, &["set", "block_new_connection", "-m", "INC-7"]);
    let screen = terminal.until_shown("still waiting, but uid:");
    assert!(
        screen.contains(" for bob set block_new_connection ") && screen.contains("(\"INC-7\")"),
        "{screen}"
    );
}

/// The command of the first may still run.
#[test]
fn a_maintenance_leaves_the_opening_to_the_operator_who_closed_first() {
    let daemon = Daemon::start();
    by_bob(&daemon, &["close", "-m", "CHG-B"]);
    let args = ["maintain", "-m", "CHG-A", "--", "true"];
    let ended = by("alice", &daemon, &args).ended();
    assert_eq!(ended.code, 6, "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("STILL CLOSED (block_new_session), by uid:")
            && ended
                .stderr
                .ends_with("\nhint: Ask bob before you open it\n"),
        "{ended:?}"
    );
}

#[test]
fn a_drain_that_fails_reports_a_later_change_too() {
    for more in [
        &["--timeout", "2s"][..],
        &["--timeout", "2s", "--on-timeout", "undo"],
    ] {
        let daemon = Daemon::start();
        let drain = draining(&daemon, more);
        by_bob(&daemon, &["set", "block_new_connection", "-m", "INC-7"]);
        let ended = drain.ended();
        assert_eq!(ended.code, 124, "{ended:?}");
        says_what_bob_did(&ended, "block_new_connection");
        assert_eq!(
            ended.stderr.contains("NOT undone: "),
            more.len() > 2,
            "{ended:?}"
        );
        assert_eq!(daemon.ok(&["get"]), "block_new_connection\n");
    }
    let daemon = Daemon::start();
    let drain = draining(&daemon, &[]);
    by_bob(&daemon, &["set", "block_new_connection", "-m", "INC-7"]);
    drain.signal(nix::sys::signal::Signal::SIGINT);
    says_what_bob_did(&drain.ended(), "block_new_connection");
}

#[test]
fn a_wait_reports_the_mode_and_its_actor() {
    let daemon = Daemon::start();
    daemon.connect("spam", "c1");
    daemon.ok(&["close", "-m", "CHG-A"]);
    let mut wait = by("alice", &daemon, &["wait", "drained"]).running();
    wait.until_said("1 of 1 session left");
    by_bob(&daemon, &["set", "block_new_connection", "-m", "INC-7"]);
    daemon.disconnect("c1");
    let ended = wait.ended();
    let words = " for bob set block_new_connection 0 s ago (\"INC-7\")\n";
    assert!(
        ended.stdout.starts_with("node-01 is empty after ") && ended.stdout.ends_with(words),
        "{ended:?}"
    );
}

#[test]
fn the_actor_of_an_opening_is_named() {
    let daemon = Daemon::start();
    let drain = draining(&daemon, &["--on-timeout", "undo"]);
    by_bob(&daemon, &["open", "-m", "false alarm"]);
    let ended = drain.ended();
    assert_eq!(
        (
            ended.code,
            ended
                .stderr
                .contains(" for bob set normal 0 s ago (\"false alarm\")\n")
        ),
        (6, true),
        "{ended:?}"
    );
    let drain = draining(&daemon, &[]);
    by_bob(&daemon, &["open"]);
    by_bob(&daemon, &["close", "-m", "mine"]);
    let ended = drain.ended();
    assert_eq!(ended.code, 6, "{ended:?}");
}

#[test]
fn a_maintenance_that_another_drain_joined_does_not_open_the_node() {
    for more in [&["-m", "CHG-B"][..], &[]] {
        let daemon = Daemon::start();
        daemon.connect("spam", "c1");
        let args = ["maintain", "-m", "CHG-A", "--", "true"];
        let mut maintain = by("alice", &daemon, &args).running();
        maintain.until_said("1 of 1 session left");
        by_bob(&daemon, &[&["drain", "--no-wait"][..], more].concat());
        daemon.disconnect("c1");
        let ended = maintain.ended();
        assert_eq!(ended.code, 6, "{ended:?}");
        assert!(
            ended.stderr.contains(" for bob set block_new_session ")
                && ended.stderr.contains(" s ago (\"CHG-A; "),
            "{ended:?}"
        );
        assert_eq!(daemon.ok(&["get"]), "block_new_session\n");
    }
    // One's own drain again is no other's.
    let daemon = Daemon::start();
    let again = format!("{PROGRAM} drain -q -m CHG-A; {PROGRAM} drain -q");
    assert_eq!(
        daemon
            .run(&["maintain", "-m", "CHG-A", "--", "sh", "-c", &again])
            .code,
        0
    );
}

#[test]
fn a_maintenance_with_a_failed_command_reports_a_later_change() {
    let daemon = Daemon::start();
    let stop = format!("SUDO_USER=bob {PROGRAM} set block_new_connection -m INC-7 -q; exit 3");
    let ended = by(
        "alice",
        &daemon,
        &["maintain", "-m", "CHG-A", "--", "sh", "-c", &stop],
    )
    .ended();
    assert_eq!(ended.code, 3, "{ended:?}");
    says_what_bob_did(&ended, "block_new_connection");
    assert!(ended.stderr.contains("STILL CLOSED"), "{ended:?}");
}

/// The command after `Undo: ` on stdout, pasted.
fn pasted_undo(daemon: &Daemon, ended: &Ended) -> Ended {
    let (_, undo) = ended
        .stdout
        .trim_end()
        .rsplit_once("Undo: ")
        .unwrap_or_else(|| panic!("{ended:?}"));
    let line = format!(
        "PATH={}:$PATH; {undo}",
        std::path::Path::new(PROGRAM).parent().unwrap().display()
    );
    Command::new("sh")
        .args(["-c", &line])
        .env("SORAMODE_SOCKET", daemon.socket())
        .ended()
}

fn paste_undo(daemon: &Daemon, ended: &Ended) {
    let pasted = pasted_undo(daemon, ended);
    assert_eq!(pasted.code, 0, "{pasted:?}");
}

#[test]
fn a_replaced_reason_is_reported_and_its_undo_restores_it() {
    let daemon = Daemon::start();
    daemon.ok(&["close", "--for", "10m", "-m", "A's \"kernel\""]);
    let tightened = daemon.run(&["set", "block_new_connection"]);
    assert!(
        tightened.stdout.contains(". It was closed by uid:"),
        "{tightened:?}"
    );
    let lost = "that reason is no longer recorded; the timer that would have reopened it in 10 min is cancelled. Undo: ";
    assert!(tightened.stdout.contains(lost), "{tightened:?}");
    paste_undo(&daemon, &tightened);
    let (_, state) = daemon.json(&["get"]);
    assert_eq!(
        (&state["mode"], &state["reason"]),
        (&"block_new_session".into(), &"A's \"kernel\"".into())
    );
    assert!(state["expires_at"].is_string(), "{state}");

    let replaced = daemon.run(&["close", "-m", "B"]);
    assert!(
        replaced
            .stdout
            .contains("node-01 was already closed (block_new_session, set by uid:"),
        "{replaced:?}"
    );
    assert!(
        replaced.stdout.contains("; reason is now \"B\", and it still reopens in 10 min. Keep it closed: soramode set block_new_session --for never\n  Undo: "),
        "{replaced:?}"
    );
    paste_undo(&daemon, &replaced);
    assert_eq!(daemon.json(&["get"]).1["reason"], "A's \"kernel\"");

    let longer = daemon.run(&["close", "--for", "1h"]);
    assert!(
        longer
            .stdout
            .contains("; it reopens in 1 h instead of in 10 min. Undo: "),
        "{longer:?}"
    );
    let never = daemon.run(&["close", "--for", "never"]);
    assert!(
        never
            .stdout
            .contains("; the timer that would have reopened it in 1 h is cancelled. Undo: "),
        "{never:?}"
    );
    paste_undo(&daemon, &never);
    assert!(daemon.json(&["get"]).1["expires_at"].is_string());
}

#[test]
fn a_drain_that_is_undone_brings_the_rest_of_the_time_back() {
    let daemon = Daemon::start();
    daemon.connect("spam", "c1");
    for more in [&[][..], &["--connections"]] {
        daemon.ok(&["close", "--for", "1h", "-m", "A"]);
        let undone = daemon.run(
            &[
                &[
                    "drain",
                    "-m",
                    "B",
                    "--timeout",
                    "50ms",
                    "--on-timeout",
                    "undo",
                ],
                more,
            ]
            .concat(),
        );
        let again = if more.is_empty() {
            "as before this drain"
        } else {
            "again"
        };
        let words = format!("node-01 is block_new_session {again}; it reopens in 1 h");
        assert!(undone.stderr.contains(&words), "{undone:?}");
        let (_, state) = daemon.json(&["get"]);
        assert_eq!(
            (&state["mode"], &state["reason"]),
            (&"block_new_session".into(), &"A".into())
        );
        assert!(state["expires_at"].is_string(), "{state}");
    }
}

/// The node is closed; only the reason could not be added.
#[test]
fn a_drain_joins_a_closing_to_which_it_cannot_add_its_reason() {
    let daemon = Daemon::start();
    daemon.ok(&["close", "-m", "A"]);
    let [status, info] = ["status", "info"].map(|verb| daemon.json(&[verb]).1);
    for (code, error_type) in [
        (-32_016, "StorageUnavailable"),
        (-32_015, "PermissionDenied"),
    ] {
        let (status, info) = (status.clone(), info.clone());
        let fake = Fake::start(move |method| match method {
            "GetStatus" => Reply::Result(status.clone()),
            "GetInfo" => Reply::Result(info.clone()),
            "ListModeChanges" => Reply::Result(json!({"changes": []})),
            "Wait" => Reply::Result(
                json!({"outcome": "reached", "status": status, "oldest_sessions": []}),
            ),
            _ => Reply::Error(code, error_type),
        });
        let ended = fake.run(&["drain", "-m", "B"]);
        assert_eq!(
            (ended.code, ended.stdout.contains("node-01 is empty after ")),
            (0, true),
            "{ended:?}"
        );
        assert!(!ended.stderr.contains("reason is now"), "{ended:?}");
        let refused = fake.run(&["drain", "--connections"]);
        assert_ne!(refused.code, 0, "{refused:?}");
    }
}

#[test]
fn a_suggested_command_names_the_socket_that_a_variable_named() {
    let daemon = Daemon::start();
    let socket = daemon.socket();
    let output = program(&socket).args(["close"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains(&format!(
            "Undo: soramode --socket {} set normal --if-generation ",
            socket.display()
        )),
        "{said}"
    );
}

#[test]
fn an_answer_that_cannot_be_printed_does_not_hide_the_change() {
    let daemon = Daemon::start();
    daemon.connect("spam", "c1");
    for (args, words) in [
        (
            &["close"][..],
            "node-01 is block_new_session: that is done.",
        ),
        (
            &["drain", "--connections", "--max-sessions", "1"],
            "node-01 is block_new_connection: that is done.",
        ),
        (&["open", "--json"], "node-01 is normal: that is done."),
        (
            &["connect", "egg", "--connection-id", "c2"],
            "connection \"c2\" was admitted: that is done.",
        ),
        (
            &["disconnect", "c1"],
            "connection \"c1\" is removed: that is done.",
        ),
        (&["get"], "soramode: cannot write the answer to stdout"),
    ] {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = program(&daemon.socket())
            .args(args)
            .stdout(full)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), said.contains(words)),
            (Some(70), true),
            "{args:?}: {said}"
        );
    }
}
