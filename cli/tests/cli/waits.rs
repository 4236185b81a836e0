//! Drains and waits: reached, timed out, superseded, interrupted, over a lost daemon, and on a terminal.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::Signal;
use soramode_protocol::mode::SettableMode;
use soramode_testkit::PATIENCE;

use crate::support::{Daemon, Fake, PROGRAM, Reply, Run, program};

#[test]
fn a_drain_closes_the_node_and_ends_with_its_last_session() {
    let daemon = Daemon::start();
    daemon.connect("spam", "c1");
    daemon.connect("spam", "c2");
    let mut drain = daemon.spawn(&["drain", "-m", "kernel CHG-123"]);
    drain.until_said(
        "normal -> block_new_session (1 session, 2 connections stay). Undo: soramode set normal",
    );
    drain.until_said("at most 30 min until no session is left (now 1 session, 2 connections)");
    drain.until_said("1 of 1 session left; 2 connections; ");
    daemon.disconnect("c1");
    daemon.disconnect("c2");
    let ended = drain.ended();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(
        ended.stdout,
        "node-01 is empty after 0 s (1 session ended) and still closed. When you are done: soramode set normal\n"
    );
    let again = daemon.run(&["drain"]);
    assert_eq!(again.code, 0);
    assert!(
        again
            .stderr
            .contains("node-01 was already closed (block_new_session, set by uid:"),
        "{again:?}"
    );
    assert!(
        again.stderr.contains("s ago (\"kernel CHG-123\"))\n"),
        "{again:?}"
    );
    let (_, history) = daemon.json(&["history"]);
    assert_eq!(
        history["changes"].as_array().unwrap().len(),
        1,
        "a repeated drain changes nothing"
    );
}

#[test]
fn a_drain_never_loosens() {
    let daemon = Daemon::start();
    daemon.ok(&["set", "block_new_connection"]);
    let ended = daemon.run(&["drain", "-m", "again"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("node-01 is already in a stricter mode (block_new_connection, set by uid:"),
        "{ended:?}"
    );
    assert!(
        ended.stderr.contains("; that mode stays") && !ended.stderr.contains("Undo"),
        "{ended:?}"
    );
    assert!(
        ended.stdout.ends_with(" before you open it\n") && !ended.stdout.contains("set normal"),
        "{ended:?}"
    );
    assert_eq!(daemon.ok(&["get"]), "block_new_connection\n");
}

#[test]
fn connections_can_be_closed_too() {
    let daemon = Daemon::start();
    daemon.ok(&["set", "block_new_session"]);
    assert_eq!(daemon.run(&["drain", "--connections"]).code, 0);
    assert_eq!(daemon.ok(&["get"]), "block_new_connection\n");
}

#[test]
fn a_drain_that_times_out_names_what_is_left_and_stays() {
    let daemon = Daemon::start();
    for session in 0..12 {
        daemon.connect(&format!("spam-{session}"), &format!("c{session}"));
    }
    let ended = daemon.run(&["drain", "--timeout", "50ms"]);
    assert_eq!(ended.code, 124, "{ended:?}");
    assert!(
        ended.stderr.contains("timed out after 50ms: 12 sessions are left on node-01. node-01 is still closed (block_new_session)\n"),
        "{ended:?}"
    );
    let named = ended
        .stderr
        .lines()
        .filter(|line| line.starts_with("  \"spam-"))
        .count();
    assert_eq!(named, 10, "{ended:?}");
    assert_eq!(ended.stdout, "", "what is not drained is not said to be");
    assert_eq!(daemon.ok(&["get"]), "block_new_session\n");
}

#[test]
fn a_drain_that_times_out_can_be_undone() {
    let daemon = Daemon::start();
    daemon.connect("spam", "c1");
    let (code, report) = daemon.json(&["drain", "--timeout", "50ms", "--on-timeout", "undo"]);
    assert_eq!(
        (code, &report["outcome"], &report["restored"]),
        (124, &"timeout".into(), &true.into()),
        "{report}"
    );
    assert_eq!(report["oldest_sessions"][0]["channel_id"], "spam");
    assert_eq!(
        report["status"]["mode"], "normal",
        "the status is of the node as it is left: {report}"
    );
    assert_eq!(daemon.ok(&["get"]), "normal\n");
}

#[test]
fn a_drain_joins_the_closing_of_another() {
    let daemon = Daemon::start();
    daemon.ok(&["drain", "-m", "CHG-A"]);
    for generation in [3, 3] {
        let joined = daemon.run(&["drain", "-m", "CHG-B"]);
        assert!(
            joined
                .stderr
                .contains("node-01 was already closed (block_new_session, set by uid:"),
            "{joined:?}"
        );
        let (_, status) = daemon.json(&["status"]);
        assert_eq!(
            (&status["reason"], &status["generation"]),
            (&"CHG-A; CHG-B".into(), &generation.into()),
            "once is enough"
        );
    }
    daemon.ok(&["drain", "--connections"]);
    assert_eq!(
        daemon.json(&["status"]).1["reason"],
        "CHG-A; CHG-B",
        "what is tightened without a reason keeps it"
    );
}

#[test]
fn a_drain_cancels_the_timer() {
    for more in [&[][..], &["-m", "CHG-1"], &["--connections"]] {
        let daemon = Daemon::start();
        daemon.ok(&["set", "block_new_session", "--for", "1h"]);
        let ended = daemon.run(&[&["drain"], more].concat());
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(
            ended
                .stderr
                .contains("the timer that would have reopened it in 1 h is cancelled"),
            "{ended:?}"
        );
        assert!(
            daemon.json(&["status"]).1["expires_at"].is_null(),
            "{more:?}"
        );
    }
    // Waits and queries leave the timer unchanged, and report it.
    let daemon = Daemon::start();
    daemon.ok(&["set", "block_new_session", "--for", "1h"]);
    for args in [["wait", "drained"], ["is", "drained"]] {
        let ended = daemon.run(&args);
        assert!(
            ended.code == 0 && ended.stdout.contains("; it reopens in "),
            "{ended:?}"
        );
    }
    // A time that is set while it waits is said where it says that the node stays closed.
    let daemon = Daemon::start();
    daemon.connect("spam", "c1");
    let mut drain = daemon.spawn(&["drain"]);
    drain.until_said("1 of 1 session left");
    daemon.ok(&["set", "block_new_session", "--for", "1h"]);
    daemon.disconnect("c1");
    let ended = drain.ended();
    assert!(
        ended
            .stdout
            .contains(" set block_new_session 0 s ago; it reopens in "),
        "{ended:?}"
    );
}

#[test]
fn shadow_mode_is_reported_wherever_a_mode_matters() {
    let daemon = Daemon::start_with(|config| {
        config.http.sora.listen = Some("127.86.7.9:3100".parse().unwrap());
        config.http.sora.admission = soramoded::config::Admission::Shadow;
    });
    for args in [
        &["set", "block_new_session"][..],
        &["drain", "--assume-complete"],
        &["is", "drained", "--assume-complete"],
        &["is", "block_new_session"],
        &["wait", "drained", "--assume-complete"],
        &["status"],
        &["maintain", "--assume-complete", "--", "true"],
    ] {
        let ended = daemon.run(args);
        assert!(
            ended.stderr.contains(
                "warning: soramoded on node-01 runs with --shadow: the mode is not enforced"
            ),
            "{args:?}: {ended:?}"
        );
    }
}

#[test]
fn a_few_sessions_may_be_left() {
    let daemon = Daemon::start();
    daemon.connect("spam", "c1");
    let ended = daemon.run(&["drain", "--max-sessions", "1", "--settle", "10ms"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("waiting at most 30 min until at most 1 session is left"),
        "{ended:?}"
    );
    assert!(
        ended
            .stdout
            .starts_with("node-01 is down to 1 session after 0 s"),
        "{ended:?}"
    );
    let unsettled = daemon.run(&[
        "drain",
        "--max-sessions",
        "1",
        "--settle",
        "1h",
        "--timeout",
        "50ms",
    ]);
    assert!(
        unsettled
            .stderr
            .contains("1 session is left on node-01, but not yet for 1 h"),
        "{unsettled:?}"
    );
}

#[test]
fn six_when_another_user_opens_the_node() {
    for (command, hint) in [
        (&["drain"] as &[&str], "To close the node and drain it: "),
        (
            &["maintain", "--", "id"],
            "Run the same command again to close",
        ),
    ] {
        let daemon = Daemon::start();
        daemon.connect("spam", "c1");
        let mut drain = daemon.spawn(command);
        drain.until_said("1 of 1 session left");
        daemon.ok(&["set", "normal", "-m", "false alarm"]);
        let ended = drain.ended();
        assert_eq!(ended.code, 6, "{ended:?}");
        for words in [
            "stopped waiting on node-01: uid:",
            " set normal 0 s ago (\"false alarm\")\n",
            &format!("hint: Clients may connect again. {hint}"),
        ] {
            assert!(ended.stderr.contains(words), "{ended:?}");
        }
    }
}

#[test]
fn tightening_does_not_end_a_drain() {
    let daemon = Daemon::start();
    daemon.connect("spam", "c1");
    let mut drain = daemon.spawn(&["drain"]);
    drain.until_said("1 of 1 session left");
    daemon.ok(&["set", "block_new_connection"]);
    daemon.disconnect("c1");
    assert_eq!(drain.ended().code, 0);
}

#[test]
fn a_signal_ends_the_watching_and_not_the_drain() {
    for (signal, code, word) in [
        (Signal::SIGINT, 130, "interrupted"),
        (Signal::SIGHUP, 129, "hung up"),
        (Signal::SIGTERM, 143, "terminated"),
    ] {
        let daemon = Daemon::start();
        daemon.connect("spam", "c1");
        let mut drain = daemon.spawn(&["drain", "--json"]);
        drain.until_said("1 of 1 session left");
        drain.signal(signal);
        let ended = drain.ended();
        assert_eq!(ended.code, code, "{ended:?}");
        let sentence = format!(
            "soramode: {word} after 0 s: stopped waiting. node-01 is still closed (block_new_session)\n"
        );
        assert!(ended.stderr.contains(&sentence), "{ended:?}");
        assert!(
            ended.stderr.contains("hint: Watch again: soramode wait drained\n  Undo: soramode set normal --if-generation 2\n"),
            "{ended:?}"
        );
        let report = ended.json();
        assert_eq!(
            (&report["outcome"], &report["exit_code"]),
            (&"interrupted".into(), &code.into())
        );
        assert_eq!(daemon.ok(&["get"]), "block_new_session\n");
    }
}

#[test]
fn a_hang_up_that_is_ignored_from_the_start_stays_ignored() {
    let daemon = Daemon::start();
    daemon.connect("spam", "c1");
    let mut command = Command::new("nohup");
    command
        .env_clear()
        .env("SORAMODE_SOCKET", daemon.socket())
        .env("PATH", std::env::var_os("PATH").unwrap());
    let mut drain = command.args([PROGRAM, "drain"]).running();
    drain.until_said("1 of 1 session left");
    drain.signal(Signal::SIGHUP);
    daemon.disconnect("c1");
    assert_eq!(drain.ended().code, 0);
}

#[test]
fn a_wait_prints_its_limit_and_its_end() {
    let daemon = Daemon::start();
    let mut wait = daemon.spawn(&["wait", "mode=block-new-connection", "--timeout", "0"]);
    wait.until_said("until the node is block_new_connection, without a limit");
    wait.until_said("not in this mode yet; 0 s");
    daemon.ok(&["set", "block_new_connection"]);
    let ended = wait.ended();
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, "node-01 is block_new_connection\n")
    );
    let late = daemon.run(&["wait", "mode=normal", "--timeout", "10ms"]);
    assert_eq!(late.code, 124);
    assert!(
        late.stderr
            .contains("timed out after 10ms: node-01 is block_new_connection"),
        "{late:?}"
    );
}

#[test]
fn a_node_that_was_open_in_between_is_noticed() {
    let daemon = Daemon::start();
    daemon.ok(&["set", "block_new_session"]);
    daemon.ok(&["set", "normal"]);
    daemon.ok(&["set", "block_new_session"]);
    assert_eq!(
        daemon.run(&["wait", "drained", "--generation", "2"]).code,
        6
    );
    assert_eq!(
        daemon.run(&["wait", "drained", "--generation", "4"]).code,
        0
    );
}

#[test]
fn set_can_wait_too() {
    let daemon = Daemon::start();
    daemon.connect("spam", "c1");
    let mut set = daemon.spawn(&["set", "block_new_session", "--wait", "-o", "jsonl"]);
    let progress = set.until_answered("progress");
    assert!(
        progress.starts_with("{\"schema\":1,\"type\":\"progress\",\"sessions\":1,"),
        "{progress}"
    );
    daemon.disconnect("c1");
    let ended = set.ended();
    assert_eq!(ended.code, 0, "{ended:?}");
    let last = ended.stdout.lines().last().unwrap();
    assert!(
        last.contains("\"type\":\"ended\",\"outcome\":\"reached\",\"exit_code\":0"),
        "{last}"
    );
}

#[test]
fn a_set_that_waits_says_that_the_mode_stays() {
    let daemon = Daemon::start();
    daemon.connect("spam", "c1");
    let (code, report) = daemon.json(&["set", "block_new_session", "--wait", "--timeout", "50ms"]);
    assert_eq!((code, &report["outcome"]), (124, &"timeout".into()));
    let message = report["error"]["message"].as_str().unwrap();
    assert!(
        message.ends_with("node-01 is still closed (block_new_session)"),
        "{message}"
    );
    assert_eq!(
        report["error"]["hint"],
        "Watch again: soramode wait drained\nSee the sessions that are left: soramode sessions\nUndo: soramode set normal --if-generation 2"
    );
    let (code, report) = daemon.json(&["set", "initial", "--wait"]);
    assert_eq!((code, &report["outcome"]), (5, &"failed".into()));
}

#[test]
fn a_daemon_that_comes_back_without_its_sessions_is_not_trusted() {
    let mut daemon = Daemon::start();
    daemon.connect("spam", "c1");
    let mut drain = daemon.spawn(&["drain"]);
    drain.until_said("1 of 1 session left");
    daemon.stop();
    drain.until_said("connection to soramoded lost: trying to reconnect for 10 s");
    daemon.start_again(|config| config.mode = Some(SettableMode::BlockNewSession));
    let ended = drain.ended();
    assert_eq!(ended.code, 8, "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("does not know the sessions of node-01 any more"),
        "{ended:?}"
    );
}

#[test]
fn a_daemon_that_comes_back_open_supersedes_the_drain() {
    let mut daemon = Daemon::start();
    daemon.connect("spam", "c1");
    let mut drain = daemon.spawn(&["drain", "--settle", "1s", "--json"]);
    drain.until_said("1 of 1 session left");
    daemon.stop();
    drain.until_said("connection to soramoded lost");
    daemon.start_again(|_| {});
    let ended = drain.ended();
    assert_eq!(ended.code, 6, "{ended:?}");
    assert_eq!(ended.json()["outcome"], "superseded");
    let hint = "connect again. To close the node and drain it: soramode drain --settle 1s\n";
    assert!(ended.stderr.contains(hint), "{ended:?}");
}

#[test]
fn a_daemon_that_comes_back_is_waited_on_further() {
    let mut daemon = Daemon::start();
    let mut wait = daemon.spawn(&["wait", "mode=block_new_session"]);
    wait.until_said("not in this mode yet");
    daemon.stop();
    wait.until_said("connection to soramoded lost");
    daemon.start_again(|_| {});
    wait.until_said("soramoded is back");
    daemon.ok(&["set", "block_new_session"]);
    assert_eq!(wait.ended().code, 0);
}

#[test]
fn three_when_the_daemon_stays_away() {
    let mut daemon = Daemon::start();
    daemon.connect("spam", "c1");
    let mut drain = daemon.spawn(&["drain", "--json"]);
    drain.until_said("1 of 1 session left");
    daemon.stop();
    let ended = drain.ended();
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(
        ended.stderr.contains("cannot reach soramoded at"),
        "{ended:?}"
    );
    assert!(
        ended
            .stderr
            .contains("node-01 was block_new_session at the last contact"),
        "{ended:?}"
    );
    let report = ended.json();
    assert_eq!(
        (&report["outcome"], &report["exit_code"]),
        (&"failed".into(), &3.into())
    );
}

#[test]
fn a_daemon_that_takes_the_connection_and_does_not_answer_is_not_back() {
    let (asked, is_asked) = std::sync::mpsc::channel();
    let asked = std::sync::Mutex::new(asked);
    let waits = AtomicU32::new(0);
    let state = Arc::new((asked, waits));
    let fake = Fake::start(move |method| {
        assert_eq!(method, "Wait");
        state.0.lock().unwrap().send(()).unwrap();
        match state.1.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::Close,
            _ => Reply::Nothing,
        }
    });
    let mut wait = program(&fake.socket())
        .args(["wait", "mode=normal"])
        .running();
    wait.until_said("connection to soramoded lost");
    for _ in 0..2 {
        is_asked.recv_timeout(PATIENCE).unwrap();
    }
    let ended = wait.stopped();
    assert!(!ended.stderr.contains("is back"), "{ended:?}");
}

#[test]
fn a_wait_that_cannot_begin_leaves_one_object_too() {
    let folder = tempfile::tempdir().unwrap();
    for args in [
        &["drain"][..],
        &["wait", "drained"],
        &["maintain", "--", "true"],
        &["set", "block_new_session", "--wait"],
    ] {
        let ended = program(&folder.path().join("s"))
            .arg("--json")
            .args(args)
            .ended();
        assert_eq!(ended.code, 3, "{ended:?}");
        let report = ended.json();
        assert_eq!(
            (&report["outcome"], &report["exit_code"]),
            (&"failed".into(), &3.into())
        );
    }
}

#[test]
fn a_terminal_gets_a_bar() {
    let daemon = Daemon::start();
    daemon.connect("spam", "c1");
    let line = format!("{PROGRAM} drain; {PROGRAM} get; {PROGRAM} get --color never");
    let mut command = Command::new("script");
    command
        .args(["-qec", &line, "/dev/null"])
        .env_clear()
        .env("SORAMODE_SOCKET", daemon.socket())
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("TERM", "xterm")
        .stdin(std::process::Stdio::null());
    let mut drawn = command.running();
    drawn.until_answered("waiting at most 30 min");
    daemon.disconnect("c1");
    let ended = drawn.ended();
    assert!(ended.stdout.contains("node-01 is empty after"), "{ended:?}");
    assert!(
        ended
            .stdout
            .contains("\u{1b}[33mblock_new_session\u{1b}[0m\r\nblock_new_session\r\n"),
        "painted, and not: {ended:?}"
    );
}
