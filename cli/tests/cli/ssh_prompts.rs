//! Prompts of ssh: it may ask for the first connection, and never once the command may draw on the terminal.

use std::fs;

use nix::sys::signal::Signal;
use soramode_testkit::sshd::command_line;

use crate::fleet::Fleet;
use crate::ssh::signal;
use crate::support::{PROGRAM, until};
use crate::terminal::Terminal;

/// True for each connection on which ssh might ask, in their order.
fn might_ask(fleet: &Fleet) -> Vec<bool> {
    let log = fs::read_to_string(fleet.home.path().join("log")).unwrap_or_default();
    let is_connection = |line: &&str| line.contains("-stdio");
    let lines = log.lines().filter(is_connection);
    lines.map(|line| !line.contains("BatchMode=yes")).collect()
}

/// Runs the program on a terminal, after another command, with an ssh that notes its words.
pub(crate) fn run_on_terminal(fleet: &Fleet, first: &str, words: &str) -> Terminal {
    let log = fleet.home.path().join("log");
    let ssh = fleet.ssh_after(&format!("echo \"$*\" >> {}", log.display()));
    let script = format!(
        "{first} SORAMODE_SSH='{ssh}' {PROGRAM} -H sfu-01 {words}; echo ended with $?; exec sleep 600"
    );
    Terminal::open(&script, (100, 24))
}

#[test]
fn an_interrupt_of_a_roll_does_not_reach_its_ssh_over_a_shared_connection() {
    let fleet = Fleet::start(1);
    let shared = fleet.home.path().join("run");
    fs::create_dir(&shared).unwrap();
    let words = format!(
        "roll --keep-open 0 -m X -- sh -c 'echo begun; {}; echo ended'",
        fleet.until_file()
    );
    let variable = format!("trap : INT; export XDG_RUNTIME_DIR={};", shared.display());
    let terminal = run_on_terminal(&fleet, &variable, &words);
    terminal.until_shown("sfu-01: begun");
    terminal.press("C-c");
    terminal.until_shown("interrupted: the command that runs is waited for");
    fs::write(fleet.file(), "").unwrap();
    let screen = terminal.until_shown("ended with 130");
    assert!(screen.contains("sfu-01: ended"), "{screen}");
    assert!(!screen.contains("connection lost"), "{screen}");
}

/// Kills the sessions of the host.
fn lose_connections(fleet: &Fleet) {
    for pid in fleet.sshds[0].sessions() {
        if command_line(pid).contains("@notty") {
            signal(pid, Signal::SIGKILL);
        }
    }
}

#[test]
fn ssh_asks_for_nothing_once_a_roll_has_begun() {
    let fleet = Fleet::start(1);
    let words = "roll --keep-open 0 -m X -- true";
    let terminal = run_on_terminal(&fleet, "", words);
    terminal.until_shown("ended with 0");
    let asks = might_ask(&fleet);
    assert!(asks.len() > 3, "{asks:?}");
    assert!(asks[0] && !asks[1..].contains(&true), "{asks:?}");
}

#[test]
fn ssh_asks_for_nothing_when_a_maintenance_renews_its_reservation() {
    let fleet = Fleet::start(1);
    let words = format!(
        "maintain -m X -- sh -c 'echo begun $((40 + 2)); {}'",
        fleet.until_file()
    );
    let terminal = run_on_terminal(&fleet, "", &words);
    terminal.until_shown("begun 42");
    let before = might_ask(&fleet);
    assert!(!before.contains(&false), "{before:?}");
    lose_connections(&fleet);
    let asks = until(|| Some(might_ask(&fleet)).filter(|asks| asks.len() > before.len()));
    assert!(!asks[before.len()..].contains(&true), "{asks:?}");
    fs::write(fleet.file(), "").unwrap();
    terminal.until_shown("ended with 0");
}

#[test]
fn ssh_asks_for_nothing_when_a_lost_daemon_is_looked_for() {
    for (words, shown) in [
        ("drain", "of 1 session left"),
        ("tail --since all", "spam"),
        ("status --watch", "spam"),
    ] {
        let fleet = Fleet::start(1);
        fleet.daemons[0].connect("spam", "c1");
        let terminal = run_on_terminal(&fleet, "", words);
        terminal.until_shown(shown);
        let before = might_ask(&fleet);
        assert!(!before.contains(&false), "{words}: {before:?}");
        lose_connections(&fleet);
        let asks = until(|| Some(might_ask(&fleet)).filter(|asks| asks.len() > before.len()));
        assert!(!asks[before.len()..].contains(&true), "{words}: {asks:?}");
    }
}
