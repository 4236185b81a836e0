//! Connections that hang on a socket, and reports of what is live already.

use std::time::Duration;

use serde_json::json;
use soramode_testkit::control_client::{TestClient, complete_report, partial_report};
use soramode_testkit::daemon::Daemon;

fn connect_for_socket(client: &mut TestClient, connection_id: &str) {
    let offer = client.get(
        "Connect",
        &json!({"channel_id": "a", "connection_id": connection_id, "lifetime": "socket"}),
    );
    assert_eq!(offer["type"], "offer");
}

fn ids(client: &mut TestClient) -> Vec<String> {
    let list = client.get("ListConnections", &json!({"limit": 1000}));
    list["connections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["connection_id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn connections_end_after_their_socket_is_closed_for_the_grace() {
    let grace = Duration::from_millis(200);
    let daemon = Daemon::with(|config| config.socket_grace = grace);
    let (mut first, mut other) = (daemon.client(), daemon.client());
    other.get(
        "Subscribe",
        &json!({"types": ["connection.destroyed", "session.destroyed"]}),
    );
    for id in ["1", "2"] {
        connect_for_socket(&mut first, id);
    }
    other.connect("a", "explicit");
    let broke = std::time::Instant::now();
    drop(first);
    for id in ["1", "2"] {
        let event = other.recv_event("connection.destroyed");
        assert_eq!(
            (&event["connection_id"], &event["reason"]),
            (&id.into(), &"socket_closed".into())
        );
    }
    assert!(broke.elapsed() >= grace);
    assert_eq!(ids(&mut other), ["explicit"]);
}

#[test]
fn connections_that_another_client_reports_in_time_stay() {
    let daemon = Daemon::with(|config| config.socket_grace = Duration::from_secs(2));
    let (mut first, mut second) = (daemon.client(), daemon.client());
    second.get("Subscribe", &json!({"types": ["connection.destroyed"]}));
    for id in ["left", "before", "connected", "explicit", "reported"] {
        connect_for_socket(&mut first, id);
    }
    connect_for_socket(&mut second, "before");
    drop(first);
    connect_for_socket(&mut second, "connected");
    assert_eq!(second.connect("a", "explicit")["created"], false);
    assert_eq!(
        second.get("Report", &partial_report(["reported"])),
        json!({"added": 0, "removed": 0})
    );
    let event = second.recv_event("connection.destroyed");
    assert_eq!(event["connection_id"], "left");
    let mut left = ids(&mut second);
    left.sort();
    assert_eq!(left, ["before", "connected", "explicit", "reported"]);
    // They hang on the second socket now, but for the one that was said to be explicit.
    let mut third = daemon.client();
    third.get("Subscribe", &json!({"types": ["connection.destroyed"]}));
    drop(second);
    for _ in 0..3 {
        assert_eq!(
            third.recv_event("connection.destroyed")["reason"],
            "socket_closed"
        );
    }
    assert_eq!(ids(&mut third), ["explicit"]);
}

#[test]
fn a_report_in_parts_takes_effect_with_its_last_part() {
    let daemon = Daemon::start();
    let (mut client, mut other) = (daemon.client(), daemon.client());
    for number in 0..20 {
        client.connect("a", &format!("old {number}"));
    }
    client.get("ChangeMode", &json!({"mode": "block_new_connection"}));
    let part = |from: usize| (from..from + 300).map(|number| format!("live {number}"));
    assert_eq!(
        client.get("Report", &partial_report(part(0))),
        json!({"added": 300, "removed": 0})
    );
    // The report of another client is separate, but connections it names while this one is in
    // progress count as reported.
    assert_eq!(
        other.get("Report", &partial_report(["old 0"])),
        json!({"added": 0, "removed": 0})
    );
    assert_eq!(
        client.get("Report", &partial_report(part(300))),
        json!({"added": 300, "removed": 0})
    );
    let last = part(600).chain(["old 7".to_owned()]);
    assert_eq!(
        client.get("Report", &complete_report(last)),
        json!({"added": 300, "removed": 18})
    );
    let status = client.status();
    assert_eq!(
        (&status["connections"], &status["sessions"], &status["mode"]),
        (&902.into(), &1.into(), &"block_new_connection".into())
    );
    // With the report the parts are over: the next one stands for itself.
    assert_eq!(
        client.get("Report", &complete_report(["live 5"])),
        json!({"added": 0, "removed": 901})
    );
    assert_eq!(
        client.error_type_of("Report", &json!({"connections": [["a", "b"]]})),
        "InvalidParams"
    );
}
