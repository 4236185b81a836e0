//! Lists in each format, however long they are.

use serde_json::Value;
use soramode_protocol::client::Client;
use soramode_protocol::decision::{Report, ReportedConnection};
use soramode_protocol::id::{ChannelId, ConnectionId};

use crate::support::Daemon;

/// More than two pages.
const MANY: usize = 2_500;

fn fill(daemon: &Daemon, connections: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let report = |range: std::ops::Range<usize>| Report {
        connections: range
            .map(|number| ReportedConnection {
                channel_id: ChannelId::new(&format!("channel-{number}")).unwrap(),
                connection_id: ConnectionId::new(&format!("connection-{number}")).unwrap(),
                client_id: None,
                session_id: None,
            })
            .collect(),
        complete: false,
    };
    runtime.block_on(async {
        let mut client = Client::connect(&daemon.socket()).await.unwrap();
        for start in (0..connections).step_by(500) {
            client
                .call(&report(start..connections.min(start + 500)))
                .await
                .unwrap();
        }
    });
}

#[test]
fn long_lists_come_whole_in_every_format() {
    let daemon = Daemon::start();
    fill(&daemon, MANY);
    for (list, name) in [
        ("sessions", "sessions"),
        ("list", "sessions"),
        ("connections", "connections"),
    ] {
        assert_eq!(
            daemon.ok(&[list]).lines().count(),
            MANY + 1,
            "a header and the rows"
        );
        let plain = daemon.ok(&[list, "-o", "plain"]);
        assert_eq!(plain.lines().count(), MANY);
        assert!(plain.lines().all(|line| line.split('\t').count() == 6));
        let jsonl = daemon.ok(&[list, "-o", "jsonl"]);
        assert_eq!(jsonl.lines().count(), MANY);
        assert!(
            jsonl
                .lines()
                .all(|line| serde_json::from_str::<Value>(line).unwrap()["schema"] == 1)
        );
        let (code, json) = daemon.json(&[list]);
        assert_eq!((code, json[name].as_array().unwrap().len()), (0, MANY));
    }
}

#[test]
fn a_session_comes_with_all_its_connections() {
    let daemon = Daemon::start();
    for connection in ["c1", "c2", "c3"] {
        daemon.connect("spam", connection);
    }
    daemon.connect("egg", "c4");
    let (_, session) = daemon.json(&["session", "spam"]);
    assert_eq!(session["session"]["channel_id"], "spam");
    assert_eq!(session["connections"].as_array().unwrap().len(), 3);
    let table = daemon.ok(&["session", "spam"]);
    assert!(
        table.contains("connections  3") && table.contains("c2"),
        "{table}"
    );
}

#[test]
fn sessions_are_chosen_and_sorted() {
    let daemon = Daemon::start();
    daemon.connect("small", "c1");
    daemon.connect("large", "c2");
    daemon.connect("large", "c3");
    let channels = |args: &[&str]| -> Vec<String> {
        let plain = daemon.ok(&[&["sessions", "-o", "plain"][..], args].concat());
        plain
            .lines()
            .map(|line| line.split('\t').next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(channels(&[]), ["small", "large"]);
    assert_eq!(channels(&["--sort", "size"]), ["large", "small"]);
    assert_eq!(channels(&["--channel", "small"]), ["small"]);
    assert_eq!(channels(&["--older", "1h"]), [""; 0]);
    assert_eq!(
        daemon
            .ok(&["connections", "--channel", "large"])
            .lines()
            .count(),
        3
    );
}

#[test]
fn an_empty_list_is_noted_on_stderr() {
    let daemon = Daemon::start();
    let ended = daemon.run(&["sessions"]);
    assert_eq!(
        (ended.stdout.as_str(), ended.stderr.as_str()),
        ("", "no sessions\n")
    );
    assert_eq!(daemon.ok(&["sessions", "-o", "plain"]), "");
    assert_eq!(
        daemon.ok(&["sessions", "--json"]),
        "{\"schema\":1,\"sessions\":[]}\n"
    );
}

#[test]
fn connections_are_listed_by_age_and_the_last_events_by_number() {
    let daemon = Daemon::start();
    for number in [3, 1, 2] {
        daemon.connect(&format!("channel-{number}"), &format!("c{number}"));
    }
    daemon.disconnect("c3");
    daemon.connect("channel-4", "c4");
    let table = daemon.ok(&["connections", "--no-headers"]);
    let ids: Vec<&str> = table
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(
        ids,
        ["c1", "c2", "c4"],
        "the oldest first, whatever place of the table it has"
    );
    let plain = daemon.ok(&["connections", "-o", "plain"]);
    assert_eq!(
        plain
            .lines()
            .filter_map(|line| line.split('\t').next())
            .collect::<Vec<_>>(),
        ids,
        "in every format"
    );
    let most: Vec<String> = daemon
        .ok(&["sessions", "-o", "plain"])
        .lines()
        .map(|line| line.split('\t').skip(3).collect())
        .collect();
    assert_eq!(
        most,
        ["111", "111", "111"],
        "a connection that is on its way counts"
    );
    let mut tail = daemon.spawn(&["tail", "-n", "2", "-o", "plain"]);
    let first = tail.until_answered("\t");
    assert!(first.contains("channel-4"), "{first}");
    drop(tail.stopped());
}
