//! `status --watch` in a real terminal, tmux's: what is seen, its keys, another size, a lost daemon, and what it leaves behind.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::{Daemon, PROGRAM};
use crate::terminal::Terminal;

/// The view in a terminal, which then prints how it ended.
fn open(socket: &Path) -> Terminal {
    let script = format!(
        "echo before; stty -a >modes; {PROGRAM} --socket {} status --watch; echo ended with $?; stty -a >modes-after; exec sleep 600",
        socket.display()
    );
    Terminal::open(&script, (80, 24))
}

/// Checks that the terminal shows its old content and behaves as before.
fn is_as_it_was(terminal: &Terminal, code: i32) {
    let screen = terminal.until_shown(&format!("ended with {code}"));
    assert!(
        screen.starts_with("before\n") && !screen.contains("OLDEST SESSIONS"),
        "{screen}"
    );
    terminal.until("both modes written", |_| {
        fs::read(terminal.folder().join("modes-after")).is_ok_and(|modes| !modes.is_empty())
    });
    let modes = |name| fs::read_to_string(terminal.folder().join(name)).unwrap();
    assert_eq!(modes("modes"), modes("modes-after"));
    assert_eq!(
        terminal
            .tmux(&["display-message", "-p", "#{cursor_flag} #{alternate_on}"])
            .trim(),
        "1 0"
    );
}

#[test]
fn the_view_fits_in_80_columns_and_its_keys_change_nothing_on_the_node() {
    let daemon = Daemon::start();
    daemon.connect("spam", "c1");
    daemon.connect("$(reboot)\u{1b}[31m", "c2");
    daemon.ok(&[
        "set",
        "block_new_session",
        "-m",
        "kernel CHG-123",
        "--for",
        "45m",
    ]);
    let terminal = open(&daemon.socket());
    let screen = terminal.until_shown("spam");
    for words in [
        "node-01",
        " block_new_session ",
        "standalone",
        "\"kernel CHG-123\", reopens at",
        "2 sessions",
        "2 connections",
        "in memory",
    ] {
        assert!(screen.contains(words), "{words}:\n{screen}");
    }
    assert!(screen.contains("$(reboot)\\u{1b}[31m"), "{screen}");
    assert!(
        screen.lines().all(|line| line.chars().count() <= 80),
        "{screen}"
    );
    daemon.disconnect("c1");
    terminal.until_shown("session.destroyed");
    terminal.press("p");
    terminal.until_shown("PAUSED");
    daemon.connect("$(reboot)\u{1b}[31m", "c3");
    terminal.press("f");
    terminal.until("the next filter", |screen| {
        screen.trim_end().ends_with("events: all")
    });
    assert!(!terminal.screen().contains("connection.created"));
    terminal.press("p");
    terminal.until("going on", |screen| {
        !screen.contains("PAUSED") && screen.contains("2 connections")
    });
    // Other keys leave the mode unchanged.
    for key in ["n", "b", "Enter", "1", "Space", "Space"] {
        terminal.press(key);
    }
    assert_eq!(daemon.ok(&["get"]), "block_new_session\n");
    terminal.press("q");
    is_as_it_was(&terminal, 0);
}

#[test]
fn the_view_survives_a_resize_and_a_restart_of_the_daemon() {
    let mut daemon = Daemon::start();
    let terminal = open(&daemon.socket());
    terminal.until_shown("EVENTS");
    terminal.tmux(&["resize-window", "-x", "30", "-y", "8"]);
    terminal.until("the message", |screen| {
        screen.replace('\n', " ").contains("too small")
    });
    terminal.tmux(&["resize-window", "-x", "120", "-y", "40"]);
    terminal.until("as wide as the window", |screen| {
        screen.contains("TOTAL") && screen.lines().count() >= 40
    });
    daemon.stop();
    terminal.until_shown("NO DAEMON for ");
    terminal.until_shown("Start soramoded, or name its socket");
    daemon.start_again(|_| {});
    terminal.until("back", |screen| {
        !screen.contains("NO DAEMON") && screen.contains("0 sessions")
    });
    terminal.press("C-c");
    // tmux itself lays out anew what it kept of a terminal that had another size.
    terminal.until_shown("ended with 130");
}

#[test]
fn a_kill_leaves_the_terminal_as_it_was() {
    let daemon = Daemon::start();
    let terminal = open(&daemon.socket());
    terminal.until_shown("EVENTS");
    let found = Command::new("pgrep")
        .args([
            "-f",
            &format!("socket {} status --watch$", daemon.socket().display()),
        ])
        .output()
        .unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    for pid in found.lines() {
        // The shell's own words have these, too; it has none of its own to end.
        let is_view = fs::read_link(format!("/proc/{pid}/exe"))
            .is_ok_and(|program| program == Path::new(PROGRAM));
        if is_view {
            assert!(Command::new("kill").arg(pid).status().unwrap().success());
        }
    }
    is_as_it_was(&terminal, 143);
}

#[test]
fn without_a_terminal_it_is_refused_and_without_a_daemon_too() {
    let daemon = Daemon::start();
    let ended = daemon.run(&["status", "--watch"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended:?}");
    assert!(
        ended.stderr.contains("--watch needs a terminal"),
        "{ended:?}"
    );
    let terminal = open(Path::new("/nonexistent/gate.sock"));
    is_as_it_was(&terminal, 3);
}

/// The view survives a flood of events. The cost of a read with ten thousand connections is
/// measured by hand.
#[test]
fn more_events_than_can_be_read_are_left_out_and_said_so() {
    let daemon = Daemon::start();
    let terminal = open(&daemon.socket());
    terminal.until_shown("EVENTS");
    let mut client = std::os::unix::net::UnixStream::connect(daemon.socket()).unwrap();
    client
        .set_write_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let lines: String = (0..1_000)
        .flat_map(|number| ["Connect", "Disconnect"].map(|method| (method, number)))
        .map(|(method, number)| match method {
            "Connect" => {
                format!("{{\"method\":\"Connect\",\"params\":{{\"channel_id\":\"x{number}\",\"connection_id\":\"c{number}\"}}}}\n")
            }
            _ => format!("{{\"method\":\"Disconnect\",\"params\":{{\"connection_id\":\"c{number}\"}}}}\n"),
        })
        .collect();
    std::io::Write::write_all(&mut client, lines.as_bytes()).unwrap();
    terminal.until_shown("some are left out");
    terminal.press("q");
    is_as_it_was(&terminal, 0);
}

#[test]
fn events_of_before_are_shown_and_another_filter_keeps_them() {
    let daemon = Daemon::start();
    daemon.connect("spam", "c1");
    daemon.ok(&["set", "block_new_session", "-m", "before"]);
    daemon.disconnect("c1");
    let terminal = open(&daemon.socket());
    terminal.until("what was before", |screen| {
        screen.contains("session.destroyed") && screen.contains("mode.changed")
    });
    terminal.press("f");
    terminal.until("all of it", |screen| {
        screen.contains("events: all")
            && screen.contains("connection.created")
            && screen.contains("mode.changed")
    });
    terminal.press("f");
    terminal.until("sessions alone", |screen| {
        screen.contains("session.created") && !screen.contains("mode.changed")
    });
    terminal.press("p");
    terminal.until_shown("PAUSED");
    daemon.ok(&["set", "normal"]);
    daemon.connect("egg", "c2");
    terminal.press("p");
    terminal.until("what happened meanwhile", |screen| {
        screen.contains("channel_id=egg")
    });
    terminal.press("q");
    is_as_it_was(&terminal, 0);
}

#[test]
fn ctrl_z_gives_the_terminal_to_the_shell_and_fg_brings_the_view_back() {
    let daemon = Daemon::start();
    let terminal = Terminal::open(
        &format!(
            "SORAMODE_SOCKET={} exec bash --norc -i",
            daemon.socket().display()
        ),
        (80, 24),
    );
    let enter = |line: &str| {
        terminal.tmux(&["send-keys", "-l", line]);
        terminal.press("Enter");
    };
    enter("PS1='ready> '; soramode status --watch");
    terminal.until_shown("OLDEST SESSIONS");
    terminal.press("C-z");
    terminal.until("stopped", |screen| {
        screen.contains("Stopped") && !screen.contains("OLDEST SESSIONS")
    });
    enter("echo shell $((40 + 2))");
    terminal.until_shown("shell 42");
    enter("fg");
    terminal.until_shown("OLDEST SESSIONS");
    terminal.press("q");
    terminal.until("the shell again", |screen| {
        screen.trim_end().ends_with("ready>")
    });
}
