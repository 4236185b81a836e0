//! Each request is answered once, in the order asked, a Wait aside.

use serde_json::{Value, json};
use soramode_testkit::daemon::Daemon;

/// One of everything, with the type of its error or the name of a field of its result.
fn mix(round: usize) -> Vec<(&'static str, Value, &'static str)> {
    let connection_id = format!("connection {round}");
    vec![
        ("GetMode", json!({}), "mode"),
        (
            "Connect",
            json!({"channel_id": "a", "connection_id": connection_id}),
            "type",
        ),
        ("NoSuch", json!({}), "MethodNotFound"),
        ("ListConnections", json!({"limit": 200}), "connections"),
        ("GetInfo", json!({}), "log_id"),
        ("Connect", json!({}), "InvalidParams"),
        ("Subscribe", json!({"types": ["mode.*"]}), "next_seq"),
        ("ListModeChanges", json!({}), "changes"),
        (
            "GetSession",
            json!({"channel_id": "a", "limit": 65}),
            "session",
        ),
        ("GetSession", json!({"channel_id": "none"}), "NotFound"),
        ("Explain", json!({"channel_id": "a"}), "modes"),
        ("Unsubscribe", json!({}), "found"),
        (
            "ListSessions",
            json!({"cursor": "nonsense"}),
            "InvalidParams",
        ),
        ("GetStatus", json!({}), "uptime_seconds"),
        ("Report", json!({"connections": []}), "added"),
        ("Disconnect", json!({"connection_id": "nobody"}), "found"),
    ]
}

fn check(message: &Value, id: i64, expected: &str) {
    assert_eq!(message["id"], id, "{message}");
    let is_error = message["error"]["data"]["error_type"] == expected;
    assert!(
        is_error || message["result"].get(expected).is_some(),
        "wants {expected}: {message}"
    );
}

#[test]
fn answers_are_in_the_order_of_the_requests() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let (mut lines, mut expected) = (String::new(), Vec::new());
    for round in 0..100 {
        for (method, params, answer) in mix(round) {
            let (id, line) = client.request(method, &params);
            lines.push_str(&line);
            expected.push((id, answer));
        }
    }
    let sender = client.send_meanwhile(lines);
    for (id, answer) in expected {
        check(&client.recv(), id, answer);
    }
    sender.join().unwrap();
    assert_eq!(client.status()["connections"], 100);
}

#[test]
fn waits_answer_when_they_end_and_delay_nothing() {
    let daemon = Daemon::start();
    let (mut client, mut other) = (daemon.client(), daemon.client());
    let first = client.send_request(
        "Wait",
        &json!({"for": "mode", "mode": "block_new_connection"}),
    );
    let second = client.send_request("Wait", &json!({"for": "mode", "mode": "block_new_session"}));
    for (method, params, answer) in mix(0) {
        let id = client.send_request(method, &params);
        check(&client.recv(), id, answer);
    }
    other.get("ChangeMode", &json!({"mode": "block_new_session"}));
    check(&client.recv(), second, "outcome");
    other.get("ChangeMode", &json!({"mode": "block_new_connection"}));
    check(&client.recv(), first, "outcome");
    let asked = client.send_request("GetMode", &json!({}));
    check(&client.recv(), asked, "mode");
}
