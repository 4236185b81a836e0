//! Half-closed clients get all their answers, and are followed until they have closed.

use serde_json::json;
use soramode_testkit::control_client::TestClient;
use soramode_testkit::daemon::Daemon;

const WAIT: &str = "{\"id\":\"w\",\"method\":\"Wait\",\"params\":{\"for\":\"mode\",\"mode\":\"block_new_session\"}}";

#[test]
fn a_last_line_needs_no_line_feed() {
    let daemon = Daemon::start();
    for line in [
        "{\"id\":1,\"method\":\"GetMode\"}",
        "{\"id\":1,\"method\":\"GetMode\"}\n",
        "{\"id\":1,\"method\":\"GetMode\"}\n \r",
    ] {
        let mut client = daemon.client();
        client.send(line);
        client.half_close();
        assert_eq!(client.recv()["id"], 1, "{line:?}");
        client.recv_end();
    }
    let mut silent = daemon.client();
    silent.half_close();
    silent.recv_end();
}

#[test]
fn everything_is_answered_before_the_end() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    for number in 0..150 {
        client.connect("a", &number.to_string());
    }
    // More than the socket holds, of every kind, before the first answer is read.
    for _ in 0..40 {
        client.send_request("ListConnections", &json!({"limit": 150}));
        client.send_request("GetStatus", &json!({}));
        client.send_request("NoSuch", &json!({}));
        client.send_request("GetInfo", &json!({}));
    }
    client.half_close();
    for id in 151..=310 {
        assert_eq!(client.recv()["id"], id);
    }
    client.recv_end();
}

#[test]
fn a_wait_goes_on_until_it_ends() {
    let daemon = Daemon::start();
    let (mut waiter, mut other) = (daemon.client(), daemon.client());
    waiter.send(WAIT);
    waiter.half_close();
    other.get("GetMode", &json!({}));
    other.get("ChangeMode", &json!({"mode": "block_new_session"}));
    let ended = waiter.recv();
    assert_eq!(
        (&ended["id"], &ended["result"]["outcome"]),
        (&"w".into(), &"reached".into())
    );
    waiter.recv_end();
}

#[test]
fn a_subscription_goes_on() {
    let daemon = Daemon::start();
    let (mut reader, mut other) = (daemon.client(), daemon.client());
    reader.send("{\"id\":1,\"method\":\"Subscribe\",\"params\":{\"types\":[\"session.created\"]}}");
    reader.half_close();
    assert_eq!(reader.recv()["id"], 1);
    for number in 0..3 {
        other.connect(&format!("channel {number}"), &number.to_string());
        assert_eq!(
            reader.recv_event("session.created")["channel_id"],
            format!("channel {number}")
        );
    }
}

/// A connection that hangs on the socket shows when the daemon has let go of the client: with no grace it ends then.
fn leave_behind(client: &mut TestClient) {
    client.get(
        "Connect",
        &json!({"channel_id": "a", "connection_id": "1", "lifetime": "socket"}),
    );
}

#[test]
fn closed_clients_are_dropped_with_their_waits_and_subscriptions() {
    let daemon = Daemon::with(|config| config.socket_grace = std::time::Duration::ZERO);
    let mut watcher = daemon.client();
    watcher.get("Subscribe", &json!({}));
    let follow = [
        WAIT,
        "{\"id\":1,\"method\":\"Subscribe\"}",
        "{\"id\":1,\"method\":\"GetMode\"}",
    ];
    for (line, closes_first) in follow
        .into_iter()
        .flat_map(|line| [(line, true), (line, false)])
    {
        let mut client = daemon.client();
        leave_behind(&mut client);
        client.send(format!("{line}\n"));
        if closes_first {
            client.half_close();
            if line == WAIT {
                // It is still there.
                assert_eq!(watcher.status()["connections"], 1);
            }
        }
        drop(client);
        assert_eq!(
            watcher.recv_event("connection.destroyed")["reason"],
            "socket_closed",
            "{line} {closes_first}"
        );
    }
}
