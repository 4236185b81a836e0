//! Output fits the terminal, for all channel names.

use std::path::Path;

use crate::support::{Daemon, PROGRAM};
use crate::terminal::Terminal;

/// Two cells a character, emoji, a sequence of emoji with joiners, a combining mark, and one that is longer than any line.
const CHANNELS: [&str; 5] = [
    "会議室-東京",
    "🎥配信👨\u{200d}👩\u{200d}👧",
    "cafe\u{301}",
    "第一会議室・営業本部・週次定例ミーティング・その一",
    "x",
];

const WIDTHS: [u16; 3] = [40, 80, 120];

fn daemon() -> Daemon {
    let daemon = Daemon::start();
    for (number, channel) in CHANNELS.iter().enumerate() {
        let id = format!("0123456789ABCDEFGHIJKLMNOP{number}");
        daemon.ok(&[
            "connect",
            channel,
            "--connection-id",
            &id,
            "--client-id",
            "a-client-of-a-tenant-that-has-a-long-name",
        ]);
    }
    daemon.ok(&[
        "set",
        "block_new_session",
        "-m",
        "カーネル更新のため、今夜のメンテナンス CHG-123 and the disk is exchanged too",
        "--for",
        "45m",
    ]);
    daemon.ok(&["set", "normal"]);
    daemon
}

fn shown(socket: &Path, verb: &str, width: u16) -> String {
    let script = format!(
        "{PROGRAM} --socket {} {verb}; echo ended; exec sleep 600",
        socket.display()
    );
    let terminal = Terminal::open(&script, (width, 60));
    let screen = terminal.until_shown("ended");
    assert!(
        !terminal.has_wrapped(),
        "{verb} in {width} columns:\n{screen}"
    );
    screen
}

#[test]
fn no_table_is_wider_than_the_terminal() {
    let daemon = daemon();
    for verb in [
        "sessions",
        "connections",
        "history",
        "nodes",
        "explain 会議室-東京",
        "session 会議室-東京",
        "status",
        "info",
        "doctor",
    ] {
        for width in WIDTHS {
            shown(&daemon.socket(), verb, width);
        }
    }
    let history = shown(&daemon.socket(), "history", 40);
    assert!(
        history.contains("  BY") && !history.contains("REASON"),
        "{history}"
    );
    let sessions = shown(&daemon.socket(), "sessions", 80);
    assert!(
        sessions.starts_with("CHANNEL")
            && sessions.contains("会議室-東京")
            && !sessions.contains("SESSION "),
        "{sessions}"
    );
    let column = |line: &str| line.find(" ago").map(|_| line.split_whitespace().count());
    assert!(
        sessions
            .lines()
            .skip(1)
            .take(5)
            .all(|line| column(line).is_some()),
        "{sessions}"
    );
    assert!(
        shown(&daemon.socket(), "sessions", 40).contains("第一会"),
        "cut by its middle"
    );
}

#[test]
fn wide_has_every_column_whole_and_headers_can_be_left_out() {
    let daemon = daemon();
    let script = format!(
        "{PROGRAM} --socket {} sessions -o wide && echo ended; exec sleep 600",
        daemon.socket().display()
    );
    let terminal = Terminal::open(&script, (80, 60));
    terminal.until_shown("ended");
    let joined = terminal.tmux(&["capture-pane", "-p", "-J"]);
    for words in ["SESSION", "TOTAL", CHANNELS[3]] {
        assert!(joined.contains(words), "{words}: {joined}");
    }
    assert!(!daemon.ok(&["sessions", "--no-headers"]).contains("CHANNEL"));
    assert_eq!(
        daemon.ok(&["sessions", "-o", "wide"]),
        daemon.ok(&["sessions"]),
        "nothing is left out where there is no terminal"
    );
}

#[test]
fn progress_stays_on_its_line() {
    let daemon = daemon();
    for width in WIDTHS {
        let script = format!(
            "{PROGRAM} --socket {} drain --timeout 3s; echo ended; exec sleep 600",
            daemon.socket().display()
        );
        let terminal = Terminal::open(&script, (width, 40));
        terminal.until("a second frame", |screen| {
            screen.contains("5 of 5 sessions left")
        });
        let screen = terminal.screen();
        assert!(
            screen.matches("5 of 5 sessions left").count() <= 1,
            "{screen}"
        );
        let ended = terminal.until_shown("ended");
        assert!(
            !ended.contains("5 of 5 sessions left"),
            "the line is taken away:\n{ended}"
        );
        daemon.ok(&["set", "normal"]);
    }
}

#[test]
fn a_terminal_without_cursor_movement_gets_lines() {
    let daemon = daemon();
    for term in ["TERM=dumb", "TERM="] {
        let script = format!(
            "{term} {PROGRAM} --socket {} drain --timeout 1s; echo ended; exec sleep 600",
            daemon.socket().display()
        );
        let screen = Terminal::open(&script, (120, 40)).until_shown("ended");
        assert!(
            screen.contains("5 of 5 sessions left; 5 connections; "),
            "{screen}"
        );
        let watch = format!(
            "{term} {PROGRAM} --socket {} status --watch; echo ended with $?; exec sleep 600",
            daemon.socket().display()
        );
        let screen = Terminal::open(&watch, (120, 40)).until_shown("ended with 2");
        assert!(screen.contains("TERM"), "{screen}");
        daemon.ok(&["set", "normal"]);
    }
}

#[test]
fn the_live_view_fits_too() {
    let daemon = daemon();
    let script = format!(
        "{PROGRAM} --socket {} status --watch; exec sleep 600",
        daemon.socket().display()
    );
    for (width, words) in [(40, &["NOW"][..]), (80, &["NOW", "MAX", "TOTAL"])] {
        let terminal = Terminal::open(&script, (width, 30));
        let screen = terminal.until("the whole view", |screen| {
            screen.contains("第一会") && screen.contains("q quit")
        });
        let names = screen
            .lines()
            .find(|line| line.starts_with("OLDEST SESSIONS"))
            .unwrap();
        assert!(words.iter().all(|word| names.contains(word)), "{screen}");
        // The counts of each row stand at the right edge, below their names.
        let rows: Vec<&str> = screen
            .lines()
            .skip_while(|line| !line.starts_with("OLDEST"))
            .skip(1)
            .take(CHANNELS.len())
            .collect();
        assert!(rows.iter().all(|row| row.ends_with('1')), "{screen}");
    }
}

#[test]
fn events_and_messages_fit_and_commands_stay_whole() {
    let daemon = daemon();
    let script = format!(
        "{PROGRAM} --socket {} tail --since all; exec sleep 600",
        daemon.socket().display()
    );
    let terminal = Terminal::open(&script, (40, 200));
    terminal.until("the last event", |screen| {
        screen.matches("mode.changed").count() == 2
    });
    assert!(!terminal.has_wrapped(), "{}", terminal.screen());
    let undo = format!(
        "Undo: soramode --socket {} set normal",
        daemon.socket().display()
    );
    let script = format!(
        "{PROGRAM} --socket {} set block_new_session; echo ended; exec sleep 600",
        daemon.socket().display()
    );
    let terminal = Terminal::open(&script, (40, 40));
    terminal.until_shown("ended");
    let joined = terminal.tmux(&["capture-pane", "-p", "-J"]);
    let is_undo = |line: &&str| {
        line.trim()
            .strip_prefix(&undo)
            .is_some_and(|rest| rest.starts_with(" --if-generation "))
    };
    assert!(joined.lines().any(|line| is_undo(&line)), "{joined}");
    assert!(
        joined
            .lines()
            .filter(|line| !is_undo(line))
            .all(|line| line.trim_end().chars().count() <= 40),
        "{joined}"
    );
}
