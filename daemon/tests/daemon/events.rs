//! Subscriptions: from where, of what, without a gap or a repeat.

use serde_json::{Value, json};
use soramode_testkit::control_client::TestClient;
use soramode_testkit::daemon::Daemon;

/// Each makes four events.
fn come_and_go(client: &mut TestClient, times: usize) {
    for number in 0..times {
        client.connect("a", &number.to_string());
        client.disconnect(&number.to_string());
    }
}

fn next_seq(client: &mut TestClient) -> u64 {
    client.get("Subscribe", &json!({}))["next_seq"]
        .as_u64()
        .unwrap()
}

/// Hears events until this one, which must come without a gap or a repeat.
fn recv_until(client: &mut TestClient, first: u64, last: u64) {
    for seq in first..=last {
        assert_eq!(client.recv()["params"]["seq"], seq);
    }
}

#[test]
fn from_now_on_and_from_any_event_that_is_kept() {
    let daemon = Daemon::start();
    let mut other = daemon.client();
    come_and_go(&mut other, 3);
    for from in [
        json!(1),
        json!(7),
        json!(12),
        json!(13),
        json!("now"),
        Value::Null,
    ] {
        let mut client = daemon.client();
        let params = if from.is_null() {
            json!({})
        } else {
            json!({"from": from})
        };
        let subscribed = client.get("Subscribe", &params);
        let next_seq = next_seq(&mut other);
        assert_eq!(
            (&subscribed["next_seq"], &subscribed["oldest_seq"]),
            (&next_seq.into(), &1.into())
        );
        assert_eq!(
            subscribed["log_id"],
            other.get("GetInfo", &json!({}))["log_id"]
        );
        other.get("Unsubscribe", &json!({}));
        come_and_go(&mut other, 1);
        recv_until(&mut client, from.as_u64().unwrap_or(next_seq), next_seq + 3);
    }
    let next_seq = next_seq(&mut other);
    assert_eq!(
        other.error_type_of("Subscribe", &json!({"from": next_seq + 1})),
        "InvalidParams"
    );
    for from in [json!(0), json!(-1), json!("then"), json!(1.5)] {
        assert_eq!(
            other.error_type_of("Subscribe", &json!({"from": from})),
            "InvalidParams"
        );
    }
}

#[test]
fn a_gap_names_the_events_that_are_no_longer_retained() {
    let daemon = Daemon::with(|config| config.keep_events = 10);
    let mut client = daemon.client();
    come_and_go(&mut client, 10);
    let subscribed = client.get(
        "Subscribe",
        &json!({"from": 5, "types": ["session.destroyed"]}),
    );
    assert_eq!(
        (&subscribed["oldest_seq"], &subscribed["next_seq"]),
        (&31.into(), &41.into())
    );
    let gap = client.recv();
    assert_eq!(
        (&gap["method"], &gap["params"]),
        (&"Gap".into(), &json!({"from": 5, "to": 30}))
    );
    for seq in [32, 36, 40] {
        assert_eq!(client.recv()["params"]["seq"], seq);
    }
}

#[test]
fn only_the_types_asked_for() {
    let daemon = Daemon::start();
    let mut other = daemon.client();
    other.get("ChangeMode", &json!({"mode": "block_new_session"}));
    other.get("ChangeMode", &json!({"mode": "normal"}));
    come_and_go(&mut other, 1);
    let cases = [
        (json!(["*"]), vec![1, 2, 3, 4, 5, 6]),
        (json!(["mode.changed"]), vec![1, 2]),
        (json!(["session.*"]), vec![3, 6]),
        (json!(["connection.c*", "mode.*"]), vec![1, 2, 4]),
        (json!(["session.destroyed", "session.*"]), vec![3, 6]),
    ];
    for (types, seqs) in cases {
        let mut client = daemon.client();
        client.get("Subscribe", &json!({"from": 1, "types": types}));
        for seq in seqs {
            assert_eq!(client.recv()["params"]["seq"], seq, "{types}");
        }
        let asked = client.send_request("GetMode", &json!({}));
        assert_eq!(client.recv()["id"], asked, "nothing else of {types}");
    }
    for types in [
        json!([]),
        json!(["session"]),
        json!(["*.created"]),
        json!([1]),
        json!(vec!["*"; 33]),
    ] {
        assert_eq!(
            other.error_type_of("Subscribe", &json!({"types": types})),
            "InvalidParams"
        );
    }
}

#[test]
fn a_client_has_one_subscription_and_may_change_or_end_it() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    assert_eq!(client.get("Unsubscribe", &json!({}))["found"], false);
    client.get("Subscribe", &json!({"types": ["mode.*"]}));
    assert_eq!(
        client.error_type_of("Subscribe", &json!({"from": 99})),
        "InvalidParams"
    );
    // The one before goes on.
    client.get("ChangeMode", &json!({"mode": "block_new_session"}));
    assert_eq!(client.recv_event("mode.changed")["seq"], 1);
    client.get("Subscribe", &json!({"types": ["session.vanished"]}));
    client.get("ChangeMode", &json!({"mode": "normal"}));
    assert_eq!(client.get("Unsubscribe", &json!({}))["found"], true);
    client.get("ChangeMode", &json!({"mode": "block_new_session"}));
    let asked = client.send_request("GetMode", &json!({}));
    assert_eq!(client.recv()["id"], asked);
}

#[test]
fn no_event_of_a_storm_is_lost() {
    let daemon = Daemon::with(|config| config.keep_events = 100_000);
    let mut readers: Vec<TestClient> = (0..5).map(|_| daemon.client()).collect();
    for reader in &mut readers {
        reader.get("Subscribe", &json!({}));
    }
    let mut other = daemon.client();
    come_and_go(&mut other, 1_000);
    // A change's event stands in the log before its answer is given.
    assert_eq!(next_seq(&mut other), 4_001);
    for reader in &mut readers {
        recv_until(reader, 1, 4_000);
    }
}
