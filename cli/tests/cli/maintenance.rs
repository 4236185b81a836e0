//! `maintain`: drain, run, go back.

use nix::sys::signal::Signal;

use crate::support::{Daemon, Run, program};

#[test]
fn goes_back_after_a_command_that_succeeds() {
    let daemon = Daemon::start();
    let ended = daemon.run(&["maintain", "-m", "CHG-1", "--", "sh", "-c", "echo worked"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let begin = "worked\nnode-01: block_new_session -> normal; it was closed for ";
    assert!(ended.stdout.starts_with(begin), "{ended:?}");
    assert_eq!(daemon.json(&["get"]).1["reason"], "CHG-1: maintenance done");
    assert_eq!(daemon.ok(&["get"]), "normal\n");
}

#[test]
fn goes_back_to_the_mode_from_before_with_its_reason() {
    let daemon = Daemon::start();
    daemon.ok(&["set", "block_new_session", "-m", "half closed"]);
    let ended = daemon.run(&["maintain", "--connections", "-m", "CHG-2", "--", "true"]);
    assert_eq!(ended.code, 6, "{ended:?}");
    assert!(
        ended.stderr.contains("node-01 was already closed before this run and is STILL CLOSED (block_new_session), by uid:"),
        "{ended:?}"
    );
    let (_, status) = daemon.json(&["status"]);
    assert_eq!(
        (&status["mode"], &status["reason"]),
        (&"block_new_session".into(), &"half closed".into())
    );
}

#[test]
fn stays_closed_after_a_command_that_fails() {
    for (command, code, words) in [
        (&["sh", "-c", "exit 3"][..], 3, "failed (exit code 3)"),
        (&["sh", "-c", "kill -9 $$"], 137, "failed (exit code 137)"),
    ] {
        let daemon = Daemon::start();
        let ended = daemon.run(&[&["maintain", "--"][..], command].concat());
        assert_eq!(ended.code, code, "{ended:?}");
        assert!(ended.stderr.contains(words), "{ended:?}");
        assert!(
            ended
                .stderr
                .contains("node-01 is STILL CLOSED (block_new_session)\nhint: Run it again, or put the mode back: soramode set normal\n"),
            "{ended:?}"
        );
        assert_eq!(daemon.ok(&["get"]), "block_new_session\n");
    }
}

#[test]
fn changes_nothing_for_a_command_that_cannot_be_started() {
    let daemon = Daemon::start();
    daemon.connect("spam", "c1");
    let plain = tempfile::NamedTempFile::new().unwrap();
    for (command, code, words) in [
        ("/nonexistent/command", 127, "no such command"),
        ("no-such-command-anywhere", 127, "no such command"),
        ("/", 126, "it is a directory"),
        (plain.path().to_str().unwrap(), 126, "it is not executable"),
    ] {
        let ended = daemon.run(&["maintain", "--json", "--", command]);
        assert_eq!(ended.code, code, "{ended:?}");
        assert!(
            ended.stderr.contains(words) && ended.stderr.contains("Nothing was changed"),
            "{ended:?}"
        );
        assert_eq!(ended.json()["ran"], false);
        assert_eq!(daemon.ok(&["get"]), "normal\n");
    }
}

#[test]
fn opens_a_node_that_an_earlier_run_of_the_same_reason_closed() {
    let daemon = Daemon::start();
    for reason in [&[][..], &["-m", "CHG-1"]] {
        assert_eq!(
            daemon
                .run(&[&["maintain"], reason, &["--", "false"]].concat())
                .code,
            1
        );
        assert_eq!(daemon.ok(&["get"]), "block_new_session\n");
        let ended = daemon.run(&[&["maintain"], reason, &["--", "true"]].concat());
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(daemon.ok(&["get"]), "normal\n");
    }
    daemon.run(&["maintain", "-m", "CHG-1", "--", "false"]);
    let (code, report) = daemon.json(&["maintain", "-m", "CHG-2", "--", "true"]);
    assert_eq!(
        (code, &report["restored"], &report["status"]["mode"]),
        (6, &false.into(), &"block_new_session".into()),
        "{report}"
    );
    assert_eq!(
        report["error"]["hint"],
        "Its reason is not this run's --message, so another run may need it closed. Once that is over, open it: soramode set normal"
    );
    let message = report["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("STILL CLOSED") && message.contains("\"CHG-1\""),
        "{message}"
    );
}

#[test]
fn an_emergency_stop_is_not_opened() {
    let daemon = Daemon::start();
    for before in ["normal", "block_new_session"] {
        daemon.ok(&["set", before]);
        daemon.ok(&["set", "block_new_connection"]);
        let ended = daemon.run(&["maintain", "--", "true"]);
        assert_eq!(ended.code, 6, "{ended:?}");
        assert!(
            ended.stderr.contains("STILL CLOSED (block_new_connection)")
                && !ended.stderr.contains("set normal"),
            "{ended:?}"
        );
        assert_eq!(daemon.ok(&["get"]), "block_new_connection\n");
    }
}

#[test]
fn a_cancelled_timer_is_not_reported_as_running() {
    let daemon = Daemon::start();
    for command in ["true", "false"] {
        daemon.ok(&["set", "block_new_session", "--for", "1h", "-m", "theirs"]);
        let ended = daemon.run(&["maintain", "--connections", "-m", "CHG-1", "--", command]);
        assert!(
            ended
                .stderr
                .contains("the timer that would have reopened it in 1 h is cancelled"),
            "{ended:?}"
        );
        let last = ended
            .stderr
            .lines()
            .rfind(|line| line.contains("STILL CLOSED"))
            .unwrap();
        assert_eq!(
            last.contains("reopens in 1 h"),
            command == "true",
            "the rest of its time runs again: {ended:?}"
        );
        daemon.ok(&["set", "normal"]);
    }
}

#[test]
fn the_closing_of_another_operator_under_sudo_is_theirs() {
    let daemon = Daemon::start();
    let run = |operator: &str, args: &[&str]| {
        program(&daemon.socket())
            .env("SUDO_USER", operator)
            .args(args)
            .ended()
    };
    assert_eq!(
        run("alice", &["maintain", "-m", "CHG-1", "--", "false"]).code,
        1
    );
    let joined = run("bob", &["drain", "-m", "CHG-2"]);
    assert!(
        joined.stderr.contains(" for alice 0 s ago (\"CHG-1\"))"),
        "{joined:?}"
    );
    let theirs = run("bob", &["maintain", "-m", "CHG-1", "--", "true"]);
    assert_eq!(theirs.code, 6, "{theirs:?}");
    assert!(
        theirs.stderr.contains("STILL CLOSED")
            && theirs
                .stderr
                .contains(" for bob 0 s ago (\"CHG-1; CHG-2\")"),
        "{theirs:?}"
    );
    assert_eq!(
        run("alice", &["maintain", "-m", "CHG-1", "--", "true"]).code,
        6,
        "bob drains it too"
    );
    assert_eq!(daemon.ok(&["get"]), "block_new_session\n");
}

#[test]
fn a_node_that_was_opened_meanwhile_is_reported_as_open() {
    let daemon = Daemon::start();
    daemon.ok(&["set", "block_new_session"]);
    let open = format!("{} set normal -q", env!("CARGO_BIN_EXE_soramode"));
    let ended = daemon.run(&["maintain", "--json", "--", "sh", "-c", &open]);
    assert_eq!(
        (ended.code, &ended.json()["restored"]),
        (0, &false.into()),
        "{ended:?}"
    );
    assert!(
        ended
            .stderr
            .contains("node-01 was opened during the maintenance: uid:"),
        "{ended:?}"
    );
}

#[test]
fn leaves_a_mode_that_another_user_set_meanwhile() {
    let daemon = Daemon::start();
    let change = format!(
        "{} set block_new_connection -m theirs -q",
        env!("CARGO_BIN_EXE_soramode")
    );
    let ended = daemon.run(&["maintain", "--json", "--", "sh", "-c", &change]);
    assert_eq!(ended.code, 6, "{ended:?}");
    let report = ended.json();
    assert_eq!(
        (&report["ran"], &report["command_exit"], &report["restored"]),
        (&true.into(), &0.into(), &false.into())
    );
    assert!(
        ended.stderr.contains("NOT reopened: ") && ended.stderr.contains("(\"theirs\")"),
        "{ended:?}"
    );
    assert_eq!(daemon.ok(&["get"]), "block_new_connection\n");
}

#[test]
fn runs_nothing_where_the_drain_is_not_reached() {
    let daemon = Daemon::start();
    daemon.connect("spam", "c1");
    let ended = daemon.run(&[
        "maintain",
        "--json",
        "--timeout",
        "50ms",
        "--",
        "echo",
        "never",
    ]);
    assert_eq!(ended.code, 124, "{ended:?}");
    let report = ended.json();
    assert_eq!(
        (&report["ran"], &report["outcome"]),
        (&false.into(), &"timeout".into())
    );
    assert_eq!(daemon.ok(&["get"]), "block_new_session\n");
}

#[test]
fn json_has_stdout_to_itself() {
    let daemon = Daemon::start();
    let ended = daemon.run(&["maintain", "--json", "--", "echo", "worked"]);
    let report = ended.json();
    assert_eq!(
        (&report["ran"], &report["command_exit"], &report["restored"]),
        (&true.into(), &0.into(), &true.into())
    );
    assert!(ended.stderr.contains("worked"), "{ended:?}");
}

#[test]
fn signals_are_left_to_the_command() {
    let daemon = Daemon::start();
    let script = "trap 'printf \"asked %s\\n\" to-stop >&2; exit 5' TERM; printf 'at %s\\n' work >&2; while :; do sleep 0.01; done";
    let mut maintain = program(&daemon.socket())
        .args(["maintain", "--", "sh", "-c", script])
        .running();
    maintain.until_said("at work");
    maintain.signal(Signal::SIGINT);
    maintain.signal(Signal::SIGHUP);
    maintain.signal(Signal::SIGTERM);
    maintain.until_said("asked to-stop");
    let ended = maintain.ended();
    assert_eq!(ended.code, 5, "{ended:?}");
    assert_eq!(daemon.ok(&["get"]), "block_new_session\n");
}

#[test]
fn closing_never_loosens_and_names_the_command_that_does() {
    let daemon = Daemon::start();
    daemon.ok(&["set", "block_new_connection", "-m", "A"]);
    let closed = daemon.ok(&["close", "-m", "B"]);
    assert!(
        closed.starts_with("node-01 is already in a stricter mode (block_new_connection, set by uid:")
            && closed.contains("; that mode stays; reason is now \"B\". To admit clients to channels that have a session: soramode set block_new_session\n  Undo: "),
        "{closed}"
    );
    assert_eq!(daemon.ok(&["get"]), "block_new_connection\n");
    daemon.ok(&["set", "block_new_session"]);
    assert_eq!(daemon.ok(&["get"]), "block_new_session\n");
}
