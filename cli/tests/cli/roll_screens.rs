//! A roll on a terminal: its rows go on, a Ctrl-C leaves one table, and a terminal that is stopped stops nothing.

use std::fs;

use soramode_testkit::janus::{Janus, Setup};
use soramoded::args::janus::JanusWay;
use soramoded::config::JanusConfig;

use crate::fleet::Fleet;
use crate::support::{Daemon, PROGRAM, until};
use crate::terminal::Terminal;

const HOSTS: [&str; 3] = ["sfu-01", "sfu-02", "sfu-03"];

/// A roll on a terminal of this width. The command runs until the test's file is there.
fn roll(fleet: &Fleet, columns: u16) -> Terminal {
    let script = format!(
        "trap : INT; HOME={} SORAMODE_SSH='ssh -F {}' {PROGRAM} -H {} roll --keep-open 1 -m CHG-1 -- sh -c 'echo begun; {}'; echo ended with $?; exec sleep 600",
        fleet.home.path().display(),
        fleet.config.display(),
        HOSTS.join(","),
        fleet.until_file()
    );
    Terminal::open(&script, (columns, 24))
}

/// The rows of a host: what it printed begins with the name and a colon.
fn rows<'a>(screen: &'a str, host: &str) -> Vec<&'a str> {
    let begin = format!("{host}  ");
    let is_row = |line: &&str| *line == host || line.starts_with(&begin);
    screen.lines().filter(is_row).collect()
}

fn is_reserved(fleet: &Fleet, node: usize) -> bool {
    let (_, status) = fleet.daemons[node].json(&["status"]);
    status["reservation"]["expires_in_seconds"].is_number()
}

#[test]
fn the_rows_of_a_roll_go_on_and_a_stop_releases_each_node() {
    for columns in [80, 40] {
        let fleet = Fleet::start(3);
        let terminal = roll(&fleet, columns);
        let first = terminal.until("begun", |screen| {
            screen.contains("sfu-01: begun") && screen.contains("running the command (")
        });
        let before = rows(&first, "sfu-01");
        terminal.until("another second", |screen| rows(screen, "sfu-01") != before);
        assert!((0..3).all(|node| is_reserved(&fleet, node)));
        terminal.press("C-c");
        terminal.until_shown("interrupted: ");
        fs::write(fleet.file(), "").unwrap();
        let screen = terminal.until_shown("ended with 130");
        for host in HOSTS {
            assert_eq!(rows(&screen, host).len(), 1, "{screen}");
        }
        assert!(!screen.contains("^C"), "{screen}");
        assert!(!(0..3).any(|node| is_reserved(&fleet, node)));
        let words: Vec<&str> = screen.split_whitespace().collect();
        let words = words.join(" ");
        assert!(words.contains("sfu-01 is still closed: uid:"), "{screen}");
        let open = "Or open the node: soramode -H sfu-01 set normal";
        assert!(words.contains(open), "{screen}");
        let status = fleet.run(&["-H", &HOSTS.join(","), "status"]);
        let stopped = "its command has ended (exit code 0); holds no reservation";
        assert!(status.stdout.contains(stopped), "{status:?}");
    }
}

#[test]
fn a_terminal_that_is_stopped_does_not_stop_the_roll() {
    let fleet = Fleet::start(3);
    let terminal = roll(&fleet, 80);
    terminal.until_shown("sfu-01: begun");
    terminal.press("C-s");
    fs::write(fleet.file(), "").unwrap();
    for daemon in &fleet.daemons {
        until(|| {
            let (_, status) = daemon.json(&["status"]);
            (status["reservation"]["step"] == "done").then_some(())
        });
    }
    assert!(!terminal.screen().contains("sfu-03: begun"));
    terminal.press("C-q");
    let screen = terminal.until_shown("ended with 0");
    assert!(screen.contains("sfu-03: begun"), "{screen}");
}

#[test]
fn a_wait_says_that_it_looks_for_a_lost_daemon() {
    for is_remote in [false, true] {
        let mut fleet = Fleet::start(1);
        let (flags, place) = if is_remote {
            ("-H sfu-01".to_owned(), " on sfu-01")
        } else {
            let socket = fleet.daemons[0].socket();
            (format!("--socket {}", socket.display()), "")
        };
        let script = format!(
            "SORAMODE_SSH='ssh -F {}' {PROGRAM} {flags} wait mode=block_new_session; echo ended with $?; exec sleep 600",
            fleet.config.display()
        );
        let terminal = Terminal::open(&script, (80, 24));
        terminal.until_shown("not in this mode yet");
        fleet.daemons[0].stop();
        terminal.until_shown(&format!("looking for soramoded{place} for "));
        terminal.until_shown("s; before: not in this mode yet");
        fleet.restart(0);
        terminal.until_shown("soramoded is back");
        fleet.daemons[0].ok(&["close"]);
        let screen = terminal.until_shown("ended with 0");
        assert!(!screen.contains("looking for soramoded"), "{screen}");
    }
}

#[test]
fn each_interrupt_says_what_the_next_one_does() {
    let fleet = Fleet::start(3);
    let terminal = roll(&fleet, 160);
    terminal.until_shown("sfu-01: begun");
    terminal.press("C-c");
    terminal.until_shown("Ctrl-C again does not wait for it");
    terminal.press("C-c");
    let screen = terminal.until_shown("ended with 130");
    for words in ["the command that runs is waited for", "interrupted again: "] {
        assert_eq!(screen.matches(words).count(), 1, "{screen}");
    }
    let words: Vec<&str> = screen.split_whitespace().collect();
    let words = words.join(" ");
    for said in [
        "has stopped: sfu-01: interrupted; the command goes on there. sfu-01 stays closed",
        "Its exit code is recorded: soramode -H sfu-01 status",
    ] {
        assert!(words.contains(said), "{said}: {screen}");
    }
    assert!(!words.contains("open the node"), "{screen}");
    fs::write(fleet.file(), "").unwrap();
}

#[test]
fn a_room_that_cannot_be_locked_is_named_in_the_row_and_in_the_timeout() {
    let janus = Janus::start(&Setup {
        rooms: vec![("room-1", ""), ("room-2", "secret = \"of-room-2\"")],
        ..Setup::default()
    });
    let daemon = Daemon::start_with(|config| {
        config.http.janus = Some(JanusConfig {
            way: JanusWay::Lock,
            ..janus.settings()
        });
        config.assume_complete = false;
    });
    let fleet = Fleet::of(vec![daemon]);
    let script = format!(
        "HOME={} SORAMODE_SSH='ssh -F {}' {PROGRAM} -H sfu-01 roll --keep-open 0 -m X --timeout 4s -- true; echo ended with $?; exec sleep 600",
        fleet.home.path().display(),
        fleet.config.display(),
    );
    let terminal = Terminal::open(&script, (160, 24));
    let row = "draining, 0 sessions left; not in force: some rooms cannot be locked or unlocked";
    terminal.until_shown(row);
    let screen = terminal.until_shown("ended with 124");
    let words = "its mode is not in force: 1 of 2 rooms cannot be locked or unlocked";
    assert!(screen.contains(words), "{screen}");
}
