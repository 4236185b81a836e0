//! A real Sora's webhooks, and the application's own behind them.

use std::time::Duration;

use serde_json::{Value, json};
use soramode_testkit::PATIENCE;
use soramoded::args::http::HttpUrl;
use soramoded::config::{Tokens, Upstreams};
use soramoded::sfu::sora::webhooks::UPSTREAM_BYTES_MAX;

use crate::fake::{Fake, Reply};
use crate::wire::{Node, SORA_PORT, Wire, exchange, request};

/// Timeout of an upstream.
const TIMEOUT: Duration = Duration::from_secs(2);

fn auth(connection_id: &str) -> Value {
    json!({"type": "auth", "role": "sendrecv", "channel_id": "spam", "connection_id": connection_id, "client_id": "alice", "new": {"er": [null]}})
}

fn created(connection_id: &str) -> Value {
    json!({"type": "connection.created", "channel_id": "spam", "session_id": "A", "connection_id": connection_id, "client_id": "alice"})
}

/// Starts a node that waits long for the application.
fn node_before(application: &Fake) -> Node {
    node_that_waits(application, PATIENCE)
}

/// Starts a node that gives up on the application soon.
fn impatient_node_before(application: &Fake) -> Node {
    node_that_waits(application, TIMEOUT)
}

fn node_that_waits(application: &Fake, upstream_timeout: Duration) -> Node {
    let url = |path: &str| -> Option<HttpUrl> { Some(application.url(path).parse().unwrap()) };
    Node::with(|config| {
        config.http.sora.upstreams = Upstreams {
            auth: url("/auth?x=1"),
            session: url("/session"),
            event: url("/event"),
        };
        config.http.sora.upstream_timeout = upstream_timeout;
    })
}

fn pending(node: &Node) -> Value {
    node.daemon.client().status()["pending"].clone()
}

const FAILED: &str = r#"{"allowed":false,"reason":"AUTH-UPSTREAM-FAILED"}"#;

#[test]
fn the_applications_answer_arrives_byte_for_byte() {
    let answer =
        "{ \"allowed\":true , \"event_metadata\" : {\"a\":[1, 2]},\"allowed_x\":\"あ\" }\n";
    let length = answer.len();
    let whole = format!(
        "HTTP/1.1 200 Fine\r\ncontent-type: application/json; charset=utf-8\r\nx-app: 1\r\ncontent-length: {length}\r\n\r\n{answer}"
    );
    let application = Fake::that(Reply::Say(whole.into_bytes()));
    let node = node_before(&application);
    let body = format!(" {}\n", auth("1"));
    let headers = [
        ("content-type", "application/json"),
        ("sora-auth-webhook-type", "x"),
        ("user-agent", "Sora"),
    ];
    let said = exchange(node.at(SORA_PORT), &request("/sora/auth", &headers, &body));
    assert_eq!((said.status, said.text()), (200, answer));
    assert_eq!(
        (said.header("content-type"), said.header("x-app")),
        (Some("application/json; charset=utf-8"), Some("1"))
    );
    let got = &application.got()[0];
    assert_eq!(
        (got.first.as_str(), got.body.as_slice()),
        ("POST /auth?x=1 HTTP/1.1", body.as_bytes())
    );
    assert_eq!(
        (
            got.header("sora-auth-webhook-type"),
            got.header("user-agent")
        ),
        (Some("x"), Some("Sora"))
    );
    assert_eq!(pending(&node), 1, "whom both let in is waited for");
    assert_eq!(node.post_webhook("event", &created("1")).status, 200);
    assert_eq!(
        (
            pending(&node),
            &node.daemon.client().status()["connections"]
        ),
        (json!(0), &json!(1))
    );
}

#[test]
fn clients_that_the_gate_rejects_are_not_forwarded() {
    let application = Fake::that(Reply::json(200, r#"{"allowed":true}"#));
    let node = node_before(&application);
    node.daemon
        .client()
        .get("ChangeMode", &json!({"mode": "block_new_session"}));
    let said = node.post_webhook("auth", &auth("1"));
    assert_eq!(
        (said.status, said.text()),
        (200, r#"{"allowed":false,"reason":"BLOCK-NEW-SESSION"}"#)
    );
    node.daemon
        .client()
        .get("ChangeMode", &json!({"mode": "block_new_connection"}));
    assert_eq!(
        node.post_webhook("auth", &auth("1")).text(),
        r#"{"allowed":false,"reason":"BLOCK-NEW-CONNECTION"}"#
    );
    assert!(application.got().is_empty());
    assert_eq!(pending(&node), 0);
}

#[test]
fn clients_that_the_application_denies_are_not_expected() {
    let denial = r#"{"allowed": false, "reason": "no such user"}"#;
    let application = Fake::that(Reply::json(200, denial));
    let node = node_before(&application);
    assert_eq!(node.post_webhook("auth", &auth("1")).text(), denial);
    assert_eq!(
        (pending(&node), &node.daemon.client().status()["sessions"]),
        (json!(0), &json!(0))
    );
}

#[test]
fn an_upstream_that_is_slow_dead_or_invalid_admits_no_client() {
    let application = Fake::that(Reply::Hang);
    let node = impatient_node_before(&application);
    let lies = [
        Reply::Hang,
        Reply::SayAndClose(Vec::new()),
        Reply::SayAndClose(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{\"allowed\":true".to_vec()),
        Reply::SayAndClose(b"what\r\n\r\n".to_vec()),
        Reply::json(500, r#"{"allowed":true}"#),
        Reply::json(204, ""),
        Reply::json(200, ""),
        Reply::json(200, "allowed"),
        Reply::json(200, "[true]"),
        Reply::json(200, "{}"),
        Reply::json(200, r#"{"allowed":"true"}"#),
        Reply::json(200, r#"{"allowed":1}"#),
        Reply::json(200, r#"{"allowed":null}"#),
        Reply::json(200, r#"{"allowed":false,"allowed":true}"#),
        Reply::json(200, r#"{"allowed":true}{"allowed":true}"#),
        Reply::Say(b"HTTP/1.1 302 X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 16\r\n\r\n{\"allowed\":true}".to_vec()),
        Reply::json(200, &format!("{{\"allowed\":true,\"pad\":\"{}\"}}", "x".repeat(UPSTREAM_BYTES_MAX))),
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        application.reply_from_now(lie.clone());
        let said = node.post_webhook("auth", &auth(&number.to_string()));
        let shown = format!("{lie:?}").chars().take(200).collect::<String>();
        assert_eq!((said.status, said.text()), (200, FAILED), "{shown}");
        assert_eq!(pending(&node), 0, "{shown}");
    }
    let status = node.daemon.client().status();
    let upstream = status["upstreams"]
        .as_array()
        .unwrap()
        .iter()
        .find(|upstream| upstream["name"] == "auth")
        .unwrap()
        .clone();
    assert!(
        upstream["problem"].is_string() && upstream["last_failure"].is_string(),
        "{upstream}"
    );
    application.reply_from_now(Reply::json(200, r#"{"allowed":true}"#));
    assert_eq!(
        node.post_webhook("auth", &auth("last")).text(),
        r#"{"allowed":true}"#
    );
    assert_eq!(pending(&node), 1, "and it is well again");
}

#[test]
fn a_sora_that_hangs_up_before_the_applications_answer_leaves_no_connection() {
    let application = Fake::that(Reply::Hang);
    let node = impatient_node_before(&application);
    let mut client = node.daemon.client();
    client.get(
        "ChangeMode",
        &json!({"mode": "block_new_session", "expires_in_seconds": 60}),
    );
    client.get("ChangeMode", &json!({"mode": "normal"}));
    let mut wire = Wire::to(node.at(SORA_PORT));
    wire.send(request("/sora/auth", &[], &auth("1").to_string()));
    while application.got().is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(client.status()["pending"], 1);
    drop(wire);
    client.get("ChangeMode", &json!({"mode": "block_new_session"}));
    // Nobody is waited for any more: else this would take until the pending timeout.
    let params = json!({"for": "drained", "assume_complete": true, "timeout_seconds": 20});
    assert_eq!(client.get("Wait", &params)["outcome"], "reached");
}

#[test]
fn without_an_application_the_gate_alone_decides() {
    let node = Node::start();
    assert_eq!(
        node.post_webhook("auth", &auth("1")).text(),
        r#"{"allowed":true}"#
    );
    assert_eq!(pending(&node), 1);
    for (kind, body) in [
        ("event", created("1")),
        (
            "session",
            json!({"type": "session.created", "channel_id": "spam", "session_id": "A"}),
        ),
    ] {
        let said = node.post_webhook(kind, &body);
        assert_eq!(
            (said.status, said.body.len()),
            (200, said.body.len()),
            "{kind}"
        );
    }
}

#[test]
fn forwarded_events_are_recorded_even_if_the_upstream_fails() {
    let application = Fake::that(Reply::json(200, r#"{"session_metadata": 1}"#));
    let node = impatient_node_before(&application);
    let session = json!({"type": "session.created", "channel_id": "spam", "session_id": "A", "created_time": 1_748_747_045_899_000_i64});
    assert_eq!(
        node.post_webhook("session", &session).text(),
        r#"{"session_metadata": 1}"#,
        "settings in the answer are Sora's"
    );
    application.reply_from_now(Reply::SayAndClose(Vec::new()));
    assert_eq!(node.post_webhook("event", &created("1")).status, 502);
    application.reply_from_now(Reply::Hang);
    assert_eq!(node.post_webhook("event", &created("2")).status, 502);
    application.reply_from_now(Reply::json(503, "later"));
    let said = node.post_webhook("event", &created("3"));
    assert_eq!(
        (said.status, said.text()),
        (503, "later"),
        "an answer that was given goes back"
    );
    assert_eq!(
        node.daemon.client().status()["connections"],
        3,
        "the gate has them all"
    );
    let detail = node
        .daemon
        .client()
        .get("GetSession", &json!({"channel_id": "spam"}));
    assert_eq!(detail["session"]["session_id"], "A");
    application.reply_from_now(Reply::json(200, "{}"));
    let recording = json!({"type": "recording.started", "channel_id": "spam", "any": {"thing": 1}});
    assert_eq!(node.post_webhook("event", &recording).status, 200);
    assert_eq!(
        application.got().last().unwrap().body,
        recording.to_string().into_bytes()
    );
}

#[test]
fn unreadable_webhooks_are_refused_and_change_nothing() {
    let application = Fake::that(Reply::json(200, r#"{"allowed":true}"#));
    let node = Node::with(|config| {
        config.http.sora.upstreams.auth = Some(application.url("/auth").parse().unwrap());
    });
    let wrong = [
        ("auth", "no JSON"),
        ("auth", "[]"),
        ("auth", "{}"),
        ("auth", r#"{"type":"auth","channel_id":"spam"}"#),
        (
            "auth",
            r#"{"type":"auth","channel_id":"","connection_id":"1"}"#,
        ),
        ("event", r#"{"channel_id":"spam"}"#),
        ("event", r#"{"type":1}"#),
        (
            "event",
            r#"{"type":"connection.created","channel_id":"spam"}"#,
        ),
        (
            "event",
            r#"{"type":"connection.destroyed","channel_id":"spam"}"#,
        ),
        (
            "session",
            r#"{"type":"session.destroyed","channel_id":"spam"}"#,
        ),
    ];
    for (kind, body) in wrong {
        let said = exchange(
            node.at(SORA_PORT),
            &request(&format!("/sora/{kind}"), &[], body),
        );
        assert_eq!(said.status, 400, "{kind} {body}: {said:?}");
    }
    assert_eq!(node.daemon.client().status()["connections"], 0);
    assert!(application.got().is_empty());
    let other = exchange(node.at(SORA_PORT), &request("/sora/other", &[], "{}"));
    assert_eq!(other.status, 404);
    let get = exchange(
        node.at(SORA_PORT),
        "GET /sora/auth HTTP/1.1\r\nhost: x\r\n\r\n",
    );
    assert_eq!(get.status, 405);
}

#[test]
fn in_shadow_mode_all_clients_are_admitted_and_counted() {
    let node =
        Node::with(|config| config.http.sora.admission = soramoded::config::Admission::Shadow);
    node.daemon
        .client()
        .get("ChangeMode", &json!({"mode": "block_new_connection"}));
    assert_eq!(
        node.post_webhook("auth", &auth("1")).text(),
        r#"{"allowed":true}"#
    );
    let status = node.daemon.client().status();
    assert_eq!(
        (
            &status["shadow"],
            &status["rejected"]["BLOCK-NEW-CONNECTION"],
            &status["pending"]
        ),
        (&json!(true), &json!(1), &json!(1))
    );
    node.post_webhook("event", &created("1"));
    assert_eq!(node.daemon.client().status()["connections"], 1);
}

#[test]
fn a_shutdown_answers_every_question() {
    let application = Fake::that(Reply::Hang);
    let node = impatient_node_before(&application);
    let mut wire = Wire::to(node.at(SORA_PORT));
    wire.send(request("/sora/auth", &[], &auth("1").to_string()));
    while application.got().is_empty() {
        std::thread::yield_now();
    }
    node.daemon.request_stop();
    assert_eq!(
        wire.recv().map(|said| said.text().to_owned()).as_deref(),
        Some(FAILED)
    );
}

#[test]
fn configured_tokens_are_required_in_the_url() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let token = "0123456789abcdef/+=";
    std::io::Write::write_all(&mut file, token.as_bytes()).unwrap();
    let node = Node::with(|config| {
        config.http.sora.tokens = Some(Tokens::read("sora-token-file", file.path()).unwrap());
    });
    let body = json!({"type": "connection.created", "channel_id": "spam", "session_id": "A", "connection_id": "1"});
    for wrong in [
        "event",
        "event/",
        "event/0123456789abcdef",
        "event?token=0123456789abcdef/+=",
        "auth",
        "session",
    ] {
        assert_eq!(node.post_webhook(wrong, &body).status, 401, "{wrong}");
    }
    assert_eq!(node.daemon.client().status()["connections"], 0);
    assert_eq!(
        node.post_webhook(&format!("event/{token}"), &body).status,
        200
    );
    assert_eq!(node.daemon.client().status()["connections"], 1);
    assert_eq!(
        Node::start()
            .post_webhook(&format!("event/{token}"), &body)
            .status,
        404,
        "without tokens there is no such path"
    );
}

#[test]
fn a_sora_without_sessions_is_counted_by_its_connections() {
    let application = Fake::that(Reply::json(200, "{}"));
    let node = node_before(&application);
    let event = |kind: &str, id: &str| {
        json!({"type": kind, "id": "E", "role": "upstream", "channel_id": "spam", "client_id": "alice", "connection_id": id,
            "data": {"created_time": 1_590_980_645}})
    };
    for id in ["1", "2"] {
        assert_eq!(
            node.post_webhook("event", &event("connection.created", id))
                .status,
            200
        );
    }
    let status = node.daemon.client().status();
    assert_eq!(
        (
            &status["sessions"],
            &status["connections"],
            &status["pending"]
        ),
        (&json!(1), &json!(2), &json!(0))
    );
    for id in ["1", "2"] {
        assert_eq!(
            node.post_webhook("event", &event("connection.destroyed", id))
                .status,
            200
        );
    }
    assert_eq!(node.daemon.client().status()["sessions"], 0);
    assert_eq!(application.got().len(), 4, "the application heard of each");
}

#[test]
fn webhooks_that_soramode_cannot_read_are_forwarded() {
    let application = Fake::that(Reply::json(202, r#"{"its":"own"}"#));
    let node = node_before(&application);
    // A Sora without connection ids: its connections cannot be tracked.
    let old = r#"{"type":"connection.created","channel_id":"spam","client_id":"alice","role":"upstream","id":"E"}"#;
    for (kind, body) in [
        ("event", old),
        ("event", r#"{"type":"a","type":"b"}"#),
        ("session", "[1]"),
        ("session", "no JSON"),
    ] {
        let said = exchange(
            node.at(SORA_PORT),
            &request(&format!("/sora/{kind}"), &[], body),
        );
        assert_eq!(
            (said.status, said.text()),
            (202, r#"{"its":"own"}"#),
            "{body}"
        );
        let got = application.got().pop().unwrap();
        assert_eq!(
            (got.first.as_str(), got.body.as_slice()),
            (format!("POST /{kind} HTTP/1.1").as_str(), body.as_bytes())
        );
    }
    assert_eq!(node.daemon.client().status()["connections"], 0);
    let metrics = node.get_observe("/metrics").text().to_owned();
    assert!(
        metrics.contains("\nsoramode_webhooks_total{kind=\"event\",outcome=\"unreadable\"} 2\n"),
        "{metrics}"
    );
    // Nobody is let in by what cannot be read.
    assert_eq!(
        exchange(node.at(SORA_PORT), &request("/sora/auth", &[], "[1]")).status,
        400
    );
    let alone = Node::start();
    let said = exchange(alone.at(SORA_PORT), &request("/sora/event", &[], old));
    assert_eq!(
        (said.status, &said.json()["error_reason"]),
        (
            400,
            &json!("connection_id is missing, or is not what it must be")
        )
    );
}
