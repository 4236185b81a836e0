//! "No session" and "nobody told me of any" are two things.

use serde_json::json;
use soramode_testkit::control_client::{complete_report, partial_report};
use soramode_testkit::daemon::Daemon;

#[test]
fn nothing_counts_as_drained_before_a_complete_report() {
    let daemon = Daemon::with(|config| config.assume_complete = false);
    let (mut client, mut watcher) = (daemon.client(), daemon.client());
    watcher.get(
        "Subscribe",
        &json!({"types": ["session.vanished", "mode.*"]}),
    );
    client.get("ChangeMode", &json!({"mode": "block_new_session"}));
    watcher.recv_event("mode.changed");
    let status = client.status();
    assert_eq!(
        (
            &status["sessions_complete"],
            &status["sources"][0]["complete"]
        ),
        (&false.into(), &false.into())
    );
    assert!(status["sources"][0]["incomplete_reason"].is_string());
    assert_eq!(
        client.error_type_of("Wait", &json!({"for": "drained"})),
        "SessionsIncomplete"
    );
    let ended = client.get("Wait", &json!({"for": "drained", "assume_complete": true}));
    assert_eq!(ended["outcome"], "reached");

    // The last known session leaves: no receiver is sent that the node is empty.
    client.get("Report", &partial_report(["1"]));
    client.disconnect("1");
    assert_eq!(
        client.error_type_of("Wait", &json!({"for": "drained"})),
        "SessionsIncomplete"
    );
    let asked = watcher.send_request("GetMode", &json!({}));
    assert_eq!(watcher.recv()["id"], asked);

    client.get("Report", &complete_report(Vec::<String>::new()));
    assert_eq!(watcher.recv()["params"]["type"], "session.vanished");
    assert_eq!(client.status()["sessions_complete"], true);
    assert_eq!(
        client.get("Wait", &json!({"for": "drained"}))["outcome"],
        "reached"
    );
}

#[test]
fn a_wait_follows_the_last_session_out() {
    let daemon = Daemon::start();
    let (mut client, mut waiter) = (daemon.client(), daemon.client());
    client.connect("a", "1");
    client.get("ChangeMode", &json!({"mode": "block_new_session"}));
    let wait = waiter.send_request("Wait", &json!({"for": "drained", "progress_seconds": 3600}));
    let progress = waiter.recv();
    assert_eq!(
        (&progress["method"], &progress["params"]["id"]),
        (&"Progress".into(), &wait.into())
    );
    assert_eq!(
        (
            &progress["params"]["sessions"],
            &progress["params"]["oldest_session"]["channel_id"]
        ),
        (&1.into(), &"a".into())
    );
    client.disconnect("1");
    assert_eq!(waiter.recv()["result"]["outcome"], "reached");
}

#[test]
fn a_wait_that_times_out_names_remaining_sessions_and_is_superseded_by_opening() {
    let daemon = Daemon::start();
    let (mut client, mut waiter) = (daemon.client(), daemon.client());
    for number in 0..12 {
        client.connect(&format!("channel {number}"), &number.to_string());
    }
    client.get("ChangeMode", &json!({"mode": "block_new_session"}));
    let ended = waiter.get("Wait", &json!({"for": "drained", "timeout_seconds": 0.05}));
    assert_eq!(
        (
            &ended["outcome"],
            ended["oldest_sessions"].as_array().unwrap().len()
        ),
        (&"timeout".into(), 10)
    );
    assert_eq!(ended["oldest_sessions"][0]["channel_id"], "channel 0");
    let wait = waiter.send_request("Wait", &json!({"for": "drained"}));
    assert_eq!(
        waiter.get("GetMode", &json!({}))["mode"],
        "block_new_session"
    );
    client.get("ChangeMode", &json!({"mode": "block_new_connection"}));
    client.get("ChangeMode", &json!({"mode": "normal"}));
    let ended = waiter.recv();
    assert_eq!(
        (&ended["id"], &ended["result"]["outcome"]),
        (&wait.into(), &"superseded".into())
    );
}
