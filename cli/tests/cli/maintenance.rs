//! `maintain`: drain, run, go back.

use nix::sys::signal::Signal;

use crate::support::{Daemon, Run, program};

#[test]
fn goes_back_after_a_command_that_succeeds() {
    let daemon = Daemon::start();
    let ended = daemon.run(&["maintain", "-m", "CHG-1", "--", "sh", "-c", "echo worked"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.stdout, "worked\nnode-01: block_new_session -> normal after 0 s of maintenance\n");
    assert_eq!(daemon.ok(&["get"]), "normal\n");
}

#[test]
fn goes_back_to_the_mode_from_before_with_its_reason() {
    let daemon = Daemon::start();
    daemon.ok(&["set", "block_new_session", "-m", "half closed"]);
    daemon.ok(&["maintain", "--connections", "-m", "CHG-2", "--", "true"]);
    let (_, status) = daemon.json(&["status"]);
    assert_eq!((&status["mode"], &status["reason"]), (&"block_new_session".into(), &"half closed".into()));
}

#[test]
fn stays_closed_after_a_command_that_fails() {
    for (command, code, words) in [
        (&["sh", "-c", "exit 3"][..], 3, "ended with 3"),
        (&["sh", "-c", "kill -9 $$"], 137, "ended with 137"),
        (&["/nonexistent/command"], 127, "could not be started"),
        (&["/"], 126, "could not be started"),
    ] {
        let daemon = Daemon::start();
        let ended = daemon.run(&[&["maintain", "--"][..], command].concat());
        assert_eq!(ended.code, code, "{ended:?}");
        assert!(ended.stderr.contains(words), "{ended:?}");
        assert!(ended.stderr.contains("node-01 stays block_new_session. Undo: soramode set normal"), "{ended:?}");
        assert_eq!(daemon.ok(&["get"]), "block_new_session\n");
    }
}

#[test]
fn leaves_a_mode_that_somebody_else_set_meanwhile() {
    let daemon = Daemon::start();
    let change = format!("{} set block_new_connection -m theirs -q", env!("CARGO_BIN_EXE_soramode"));
    let ended = daemon.run(&["maintain", "--json", "--", "sh", "-c", &change]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let report = ended.json();
    assert_eq!((&report["ran"], &report["command_exit"], &report["restored"]), (&true.into(), &0.into(), &false.into()));
    assert!(ended.stderr.contains("somebody else changed the mode meanwhile, so it was left"), "{ended:?}");
    assert_eq!(daemon.ok(&["get"]), "block_new_connection\n");
}

#[test]
fn runs_nothing_where_the_drain_is_not_reached() {
    let daemon = Daemon::start();
    daemon.connect("spam", "c1");
    let ended = daemon.run(&["maintain", "--json", "--timeout", "50ms", "--", "echo", "never"]);
    assert_eq!(ended.code, 124, "{ended:?}");
    let report = ended.json();
    assert_eq!((&report["ran"], &report["outcome"]), (&false.into(), &"timeout".into()));
    assert_eq!(daemon.ok(&["get"]), "block_new_session\n");
}

#[test]
fn json_has_stdout_to_itself() {
    let daemon = Daemon::start();
    let ended = daemon.run(&["maintain", "--json", "--", "echo", "worked"]);
    let report = ended.json();
    assert_eq!((&report["ran"], &report["command_exit"], &report["restored"]), (&true.into(), &0.into(), &true.into()));
    assert!(ended.stderr.contains("worked"), "{ended:?}");
}

#[test]
fn signals_are_the_commands_business() {
    let daemon = Daemon::start();
    let script = "trap 'printf \"asked %s\\n\" to-stop >&2; exit 5' TERM; printf 'at %s\\n' work >&2; while :; do sleep 0.01; done";
    let mut maintain = program(&daemon.socket()).args(["maintain", "--", "sh", "-c", script]).running();
    maintain.until_said("at work");
    maintain.signal(Signal::SIGINT);
    maintain.signal(Signal::SIGHUP);
    maintain.signal(Signal::SIGTERM);
    maintain.until_said("asked to-stop");
    let ended = maintain.ended();
    assert_eq!(ended.code, 5, "{ended:?}");
    assert_eq!(daemon.ok(&["get"]), "block_new_session\n");
}
