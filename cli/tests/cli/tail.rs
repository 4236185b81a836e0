//! `tail`: live, from a seq, over a restart, and with what is no longer kept.

use serde_json::Value;

use crate::support::Daemon;

#[test]
fn events_come_as_they_happen_and_from_any_seq() {
    let daemon = Daemon::start();
    daemon.connect("spam", "c1");
    let mut tail = daemon.spawn(&["tail", "--since", "2", "-o", "jsonl"]);
    let second = tail.until_answered("connection.created");
    assert!(second.starts_with("{\"schema\":1,\"seq\":2,"), "{second}");
    daemon.disconnect("c1");
    tail.until_answered("session.destroyed");
    let ended = tail.stopped();
    let seqs: Vec<u64> = ended
        .stdout
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["seq"]
                .as_u64()
                .unwrap()
        })
        .collect();
    assert_eq!(seqs, [2, 3, 4]);
}

#[test]
fn events_are_selected_by_type_and_time() {
    let daemon = Daemon::start();
    daemon.connect("spam", "c1");
    let mut tail = daemon.spawn(&[
        "tail",
        "--since",
        "10m",
        "--type",
        "connection.*",
        "--type",
        "mode.changed",
        "-o",
        "plain",
    ]);
    let first = tail.until_answered("connection.created");
    assert_eq!(first.split('\t').next(), Some("2"), "{first}");
    daemon.ok(&["set", "block_new_session", "-m", "why"]);
    let change = tail.until_answered("mode.changed");
    assert!(change.contains("\treason=why"), "{change}");
    assert_eq!(tail.stopped().stdout.lines().count(), 2);
}

#[test]
fn a_gap_is_reported() {
    let daemon = Daemon::start_with(|config| config.keep_events = 2);
    for connection in ["c1", "c2", "c3"] {
        daemon.connect("spam", connection);
    }
    let mut tail = daemon.spawn(&["tail", "--since", "all", "-o", "jsonl"]);
    let gap = tail.until_answered("gap");
    assert!(
        gap.starts_with("{\"schema\":1,\"type\":\"gap\",\"from\":1,\"to\":"),
        "{gap}"
    );
    tail.until_answered("\"c3\"");
    tail.stopped();
}

#[test]
fn a_new_log_after_a_restart_is_noted() {
    let mut daemon = Daemon::start();
    daemon.connect("spam", "c1");
    let mut tail = daemon.spawn(&["tail", "--since", "all"]);
    tail.until_answered("connection.created");
    daemon.stop();
    tail.until_said("connection to soramoded lost: trying to reconnect for 10 s");
    daemon.start_again(|_| {});
    tail.until_said("soramoded is back with a new event log: continuing from its beginning");
    daemon.connect("egg", "c2");
    let event = tail.until_answered("session.created");
    assert!(event.contains("     1  session.created"), "{event}");
    tail.stopped();
}

#[test]
fn a_closed_stdout_ends_it_without_an_event() {
    let daemon = Daemon::start();
    daemon.connect("spam", "c1");
    let mut tail = daemon.spawn(&["tail", "--since", "all"]);
    tail.until_answered("connection.created");
    assert_eq!(tail.close_stdout(), 0);
}
