//! `End`: Sora's `DisconnectChannel`, or a signalling server that ends sessions itself.

use serde_json::{Value, json};
use soramode_testkit::control_client::TestClient;
use soramode_testkit::daemon::Daemon;

use crate::fake::{Fake, Reply};
use crate::wire::{Node, own_address};

/// Ends sessions; returns the result without the request's id.
fn end(client: &mut TestClient, params: &Value) -> Value {
    let mut ended = client.get("End", params);
    let id = ended.as_object_mut().unwrap().remove("id");
    assert!(id.is_some_and(|id| id.is_string()));
    ended
}

#[test]
fn without_means_nothing_is_ended() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    client.connect("spam", "1");
    for end in [json!({"channel_id": "spam"}), json!({"all": true})] {
        let refused = client.call("End", &end);
        assert_eq!(
            (
                &refused["error"]["data"]["error_type"],
                &refused["error"]["code"]
            ),
            (&json!("CannotEndSessions"), &json!(-32020)),
            "{refused}"
        );
    }
    let refused = client.call("End", &json!({"channel_id": "ham"}));
    assert_eq!(refused["error"]["data"]["error_type"], "NotFound");
    for neither in [
        json!({}),
        json!({"all": false}),
        json!({"all": true, "channel_id": "spam"}),
    ] {
        assert_eq!(
            client.call("End", &neither)["error"]["data"]["error_type"],
            "InvalidParams"
        );
    }
    assert_eq!(client.status()["connections"], 1);
}

#[test]
fn a_signaling_server_that_ends_sessions_gets_their_ids() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let mut others = [daemon.client(), daemon.client()];
    for other in &mut others {
        other.get(
            "Subscribe",
            &json!({"types": ["mode.changed"], "ends": true}),
        );
    }
    // One that only reads events is none.
    let mut reader = daemon.client();
    reader.get("Subscribe", &json!({"types": ["mode.changed"]}));
    let spam = client.connect("spam", "1");
    let ham = client.connect("ham", "2");
    assert_eq!(
        end(&mut client, &json!({"channel_id": "spam"})),
        json!({"sessions": 1, "via": "subscribers"})
    );
    assert_eq!(
        end(&mut client, &json!({"all": true})),
        json!({"sessions": 2, "via": "subscribers"})
    );
    let named =
        |it: &Value| json!({"channel_id": it["channel_id"], "session_id": it["session_id"]});
    for other in &mut others {
        // A session that was just asked to end is not asked again at once.
        for wanted in [&spam, &ham] {
            let told = other.recv();
            assert_eq!(
                (&told["method"], &told["params"]),
                (&json!("End"), &named(wanted))
            );
        }
    }
    client.get("ChangeMode", &json!({"mode": "block_new_session"}));
    assert_eq!(
        reader.recv_event("mode.changed")["mode"],
        "block_new_session",
        "it was called with nothing before"
    );
    for other in &mut others {
        other.get("Unsubscribe", &json!({}));
    }
    assert_eq!(
        client.call("End", &json!({"all": true}))["error"]["data"]["error_type"],
        "CannotEndSessions",
        "nobody is left who would"
    );
}

#[test]
fn more_sessions_than_a_client_reads_at_once_are_all_sent() {
    let daemon = Daemon::start();
    let (mut client, mut other) = (daemon.client(), daemon.client());
    other.get(
        "Subscribe",
        &json!({"types": ["mode.changed"], "ends": true}),
    );
    let sessions = 5_000;
    for number in 0..sessions {
        client.connect(
            &format!("channel-{number:04}-{}", "x".repeat(200)),
            &number.to_string(),
        );
    }
    assert_eq!(
        client.get("End", &json!({"all": true}))["sessions"],
        sessions
    );
    for number in 0..sessions {
        let channel = other.recv()["params"]["channel_id"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(
            channel.starts_with(&format!("channel-{number:04}-")),
            "{number}: {channel}"
        );
    }
}

fn node_before(sora: &Fake) -> Node {
    Node::with(|config| config.http.sora.api = Some(sora.url("/").parse().unwrap()))
}

fn fill(node: &Node, sessions: usize) {
    for number in 0..sessions {
        let channel = format!("channel-{number}");
        let body = json!({"type": "connection.created", "channel_id": channel, "session_id": channel, "connection_id": channel});
        assert_eq!(node.post_webhook("event", &body).status, 200);
    }
}

fn disconnected(sora: &Fake) -> Vec<Value> {
    let got = sora
        .got()
        .into_iter()
        .filter(|got| got.header("x-sora-target") == Some("Sora_20151104.DisconnectChannel"));
    let mut bodies: Vec<Value> = got
        .map(|got| serde_json::from_slice(&got.body).unwrap())
        .collect();
    bodies.sort_by_key(ToString::to_string);
    bodies
}

#[test]
fn sora_is_asked_to_disconnect_each_channel() {
    let sora = Fake::that(Reply::json(200, "{}"));
    let node = node_before(&sora);
    fill(&node, 50);
    let mut client = node.daemon.client();
    assert_eq!(
        end(&mut client, &json!({"channel_id": "channel-7"})),
        json!({"sessions": 1, "via": "sora_api"})
    );
    assert_eq!(
        disconnected(&sora),
        [json!({"channel_id": "channel-7", "reason": {"kind": "maintenance"}})]
    );
    sora.reply_from_now(Reply::json(400, r#"{"error_type":"CHANNEL-NOT-FOUND"}"#));
    assert_eq!(
        end(&mut client, &json!({"all": true})),
        json!({"sessions": 50, "via": "sora_api"}),
        "one that is gone has ended"
    );
    assert_eq!(
        disconnected(&sora).len(),
        50,
        "a channel that was just asked is not asked again at once"
    );
    assert_eq!(
        client.status()["sessions"],
        50,
        "they are over when Sora says so"
    );
}

#[test]
fn failed_ends_are_counted() {
    let sora = Fake::that(Reply::json(200, "{}"));
    let node = node_before(&sora);
    fill(&node, 50);
    sora.reply_from_now(Reply::json(500, r#"{"error_type":"HandlerException"}"#));
    let mut client = node.daemon.client();
    let ended = client.get("End", &json!({"all": true}));
    assert_eq!(
        (&ended["sessions"], &ended["failed"]),
        (&json!(0), &json!(50))
    );
    assert_eq!(
        ended["problem"],
        format!(
            "Sora's API at {} (DisconnectChannel) answered 500 HandlerException",
            sora.url("/")
        )
    );
    assert_eq!(disconnected(&sora).len(), 50, "each is tried");
    let nobody = own_address();
    let node = Node::with(|config| {
        config.http.sora.api = Some(format!("http://{nobody}:1/").parse().unwrap());
    });
    fill(&node, 1);
    let ended = end(&mut node.daemon.client(), &json!({"all": true}));
    assert_eq!(
        ended,
        json!({"sessions": 0, "via": "sora_api", "failed": 1, "problem": format!("Sora's API at http://{nobody}:1/ (DisconnectChannel): Connection refused")})
    );
}
