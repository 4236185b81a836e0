//! `POST /v1/connect`, `/v1/disconnect` and `/v1/report`: the control socket's methods over HTTP.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use soramode_testkit::PATIENCE;
use soramode_testkit::control_client::complete_report;
use soramoded::config::Tokens;
use soramoded::http::{BODY_BYTES_MAX, BODY_TIME, LARGE_BODY_BYTES_MAX};

use crate::wire::{API_PORT, Node, OBSERVE_PORT, SORA_PORT, Said, Wire, exchange, request};

fn post(node: &Node, method: &str, params: &Value) -> Said {
    post_text(node, method, &params.to_string())
}

fn post_text(node: &Node, method: &str, body: &str) -> Said {
    exchange(
        node.at(API_PORT),
        &request(&format!("/v1/{method}"), &[], body),
    )
}

fn result(said: &Said) -> Value {
    assert_eq!(said.status, 200, "{}", said.text());
    said.json()
}

/// The connections that the node has, in the order of their ids.
fn connection_ids(node: &Node) -> Vec<String> {
    let (mut client, mut ids, mut cursor) = (node.daemon.client(), Vec::new(), Value::Null);
    loop {
        let mut params = json!({"limit": 1000});
        if cursor.is_string() {
            params["cursor"] = cursor;
        }
        let mut page = client.get("ListConnections", &params);
        let rows = page["connections"].as_array().unwrap();
        ids.extend(rows.iter().map(|row| row["connection_id"].to_string()));
        cursor = page["cursor"].take();
        if cursor.is_null() {
            ids.sort();
            return ids;
        }
    }
}

/// A report of this number of connections, with ids that begin with this prefix.
fn many(prefix: &str, count: usize) -> Value {
    complete_report((0..count).map(|number| format!("{prefix}-{number:05}")))
}

/// The requests of the golden lines of a method, in their order.
fn golden_params(method: &str) -> Vec<Value> {
    let path = format!("../shared/tests/wire/v1/{method}.jsonl");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let params = lines.map(|mut line: Value| line["params"].take());
    params.filter(Value::is_object).collect()
}

/// An answer without the ids that are random.
fn steady(mut answer: Value, params: &Value) -> Value {
    for random in ["session_id", "connection_id"] {
        if params.get(random).is_none() && answer.get(random).is_some() {
            answer[random] = json!("random");
        }
    }
    answer
}

#[test]
fn results_and_errors_are_the_sockets() {
    let (node, twin) = (Node::start(), Node::start());
    let mut client = twin.daemon.client();
    let taken = json!({"channel_id": "taken", "connection_id": "MDSEN816VN1NF01ARM7Q0BXGD4"});
    let mut calls = vec![("Connect", taken.clone()), ("Connect", taken)];
    for method in ["Connect", "Report", "Disconnect"] {
        calls.extend(golden_params(method).into_iter().map(|it| (method, it)));
    }
    for wrong in [
        json!({}),
        json!({"channel_id": ""}),
        json!({"channel_id": "a\0"}),
        json!({"channel_id": "a", "more": 1}),
        json!({"connection_id": 1}),
        json!({"connections": [["a", "b"]]}),
        json!([]),
        json!([1]),
        json!(null),
    ] {
        calls.extend(["Connect", "Disconnect", "Report"].map(|method| (method, wrong.clone())));
    }
    for (method, mut params) in calls {
        if params["lifetime"] == "socket" {
            params["lifetime"] = json!("explicit");
        }
        let said = post(&node, &method.to_lowercase(), &params);
        let answer = client.call(method, &params);
        let expected = match answer.get("error") {
            Some(error) => (
                match error["data"]["error_type"].as_str().unwrap() {
                    "ConnectionIdInUse" => 409,
                    _ => 400,
                },
                error.clone(),
            ),
            None => (200, steady(answer["result"].clone(), &params)),
        };
        assert_eq!(
            (said.status, steady(said.json(), &params)),
            expected,
            "{method} {params}"
        );
        assert_eq!(said.header("content-type"), Some("application/json"));
    }
}

#[test]
fn a_body_without_params_and_one_that_is_no_json_are_refused() {
    let node = Node::start();
    for (method, body, error_type, field) in [
        ("connect", "", "InvalidParams", json!("channel_id")),
        ("disconnect", "", "InvalidParams", json!("connection_id")),
        ("report", "", "InvalidParams", json!("connections")),
        ("connect", "{", "ParseError", json!(null)),
        ("report", "{\"connections\":[]", "ParseError", json!(null)),
        ("connect", "\u{0}", "ParseError", json!(null)),
        (
            "connect",
            r#"{"channel_id":"a","lifetime":"socket"}"#,
            "InvalidParams",
            json!("lifetime"),
        ),
    ] {
        let said = post_text(&node, method, body);
        let data = &said.json()["data"];
        assert_eq!(
            (said.status, &data["error_type"], &data["field"]),
            (400, &json!(error_type), &field),
            "{method} {body:?}: {}",
            said.text()
        );
    }
    assert_eq!(node.daemon.client().status()["connections"], 0);
}

#[test]
fn a_connection_lasts_until_its_end_is_said() {
    let node = Node::with(|config| config.socket_grace = Duration::from_millis(1));
    let mut wire = Wire::to(node.at(API_PORT));
    for id in ["1", "2", "3"] {
        let params = json!({"channel_id": "spam", "connection_id": id}).to_string();
        wire.send(request("/v1/connect", &[], &params));
        assert_eq!(wire.recv().unwrap().json()["type"], "offer");
    }
    let mut client = node.daemon.client();
    let bound = json!({"channel_id": "spam", "connection_id": "4", "lifetime": "socket"});
    client.get("Connect", &bound);
    let reported = complete_report(["1", "2", "3"]);
    let mut of_spam = reported.clone();
    for row in of_spam["connections"].as_array_mut().unwrap() {
        row["channel_id"] = json!("spam");
    }
    of_spam["connections"]
        .as_array_mut()
        .unwrap()
        .push(json!({"channel_id": "spam", "connection_id": "4"}));
    assert_eq!(
        result(&post(&node, "report", &of_spam)),
        json!({"added": 0, "removed": 0})
    );
    // Neither the HTTP client's end nor the socket's: the report has taken the socket's connection over.
    drop((wire, client));
    let mut client = node.daemon.client();
    client.get("Subscribe", &json!({"types": ["connection.destroyed"]}));
    let gone = result(&post(&node, "disconnect", &json!({"connection_id": "1"})));
    assert_eq!(
        (&gone["found"], &gone["channel_id"]),
        (&json!(true), &json!("spam"))
    );
    assert_eq!(
        client.recv_event("connection.destroyed")["connection_id"],
        "1"
    );
    of_spam["connections"].as_array_mut().unwrap().drain(..2);
    assert_eq!(
        result(&post(&node, "report", &of_spam)),
        json!({"added": 0, "removed": 1})
    );
    let ended = client.recv_event("connection.destroyed");
    assert_eq!(
        (&ended["connection_id"], &ended["reason"]),
        (&json!("2"), &json!("reconciled"))
    );
    assert_eq!(connection_ids(&node), ["\"3\"", "\"4\""]);
}

#[test]
fn one_request_is_a_whole_report_however_long() {
    let node = Node::start();
    let report = many("c", 5_000);
    assert!(report.to_string().len() > 2 * BODY_BYTES_MAX);
    assert_eq!(
        result(&post(&node, "report", &report)),
        json!({"added": 5000, "removed": 0})
    );
    // One that is not complete only adds, and nothing of it counts for the next one.
    let mut more = many("d", 1);
    more["complete"] = json!(false);
    assert_eq!(
        result(&post(&node, "report", &more)),
        json!({"added": 1, "removed": 0})
    );
    assert_eq!(
        result(&post(&node, "report", &many("c", 4_999))),
        json!({"added": 0, "removed": 2})
    );
    assert_eq!(node.daemon.client().status()["sessions_complete"], true);
}

#[test]
fn reports_at_the_same_time_do_not_mix() {
    let node = Node::start();
    let of = |prefix: &str| many(prefix, 2_000);
    thread::scope(|scope| {
        for prefix in ["a", "b", "c", "d"] {
            let node = &node;
            scope.spawn(move || result(&post(node, "report", &of(prefix))));
        }
    });
    let ids = connection_ids(&node);
    let first = ids[0].get(..3).unwrap().to_owned();
    assert!(ids.len() == 2_000 && ids.iter().all(|id| id.starts_with(&first)));
}

#[test]
fn a_client_that_hangs_up_has_reported_all_or_nothing() {
    let node = Node::start();
    let call = request("/v1/report", &[], &many("c", 5_000).to_string());
    let mut half = Wire::to(node.at(API_PORT));
    half.send(&call.as_bytes()[..call.len() - 1]);
    drop(half);
    let mut client = node.daemon.client();
    client.get("Subscribe", &json!({"types": ["session.created"]}));
    let mut whole = Wire::to(node.at(API_PORT));
    whole.send(&call);
    // It has begun, so the next report waits for its end.
    client.recv_event("session.created");
    drop(whole);
    assert_eq!(
        result(&post(&node, "report", &many("c", 5_000))),
        json!({"added": 0, "removed": 0})
    );
}

#[test]
fn a_body_has_a_limit_and_a_time() {
    let node = Node::start();
    let padded = |path: &str, bytes: usize| {
        let (start, end) = (r#"{"channel_id":"a","pad":""#, "\"}");
        let pad = "x".repeat(bytes - start.len() - end.len());
        request(path, &[], &format!("{start}{pad}{end}"))
    };
    for (path, bytes_max) in [
        ("/v1/connect", BODY_BYTES_MAX),
        ("/v1/disconnect", BODY_BYTES_MAX),
        ("/v1/report", LARGE_BODY_BYTES_MAX),
    ] {
        let fits = exchange(node.at(API_PORT), &padded(path, bytes_max));
        assert_eq!(
            (fits.status, &fits.json()["data"]["error_type"]),
            (400, &json!("InvalidParams")),
            "{path}"
        );
        let mut wire = Wire::to(node.at(API_PORT));
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
            bytes_max + 1
        );
        wire.send(head);
        let said = wire.recv().unwrap();
        assert_eq!(
            (said.status, said.text()),
            (413, r#"{"error_type":"PayloadTooLarge"}"#),
            "{path}"
        );
        assert!(wire.recv().is_none(), "its body is no request");
    }
    let began = Instant::now();
    let mut slow: Vec<Wire> = ["/v1/connect", "/v1/disconnect", "/v1/report"]
        .into_iter()
        .map(|path| {
            let mut wire = Wire::to(node.at(API_PORT));
            wire.send(request(path, &[], "{}").trim_end_matches('}'));
            wire
        })
        .collect();
    for wire in &mut slow {
        let said = wire.recv().unwrap();
        assert_eq!(
            (said.status, said.text()),
            (408, r#"{"error_type":"RequestTimeout"}"#)
        );
    }
    assert!(began.elapsed() >= BODY_TIME && began.elapsed() < PATIENCE);
}

#[test]
fn the_methods_take_a_token_and_are_on_the_api_listener_alone() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let token = "a".repeat(32);
    std::io::Write::write_all(&mut file, format!("sfu {token}\n").as_bytes()).unwrap();
    let tokens = Tokens::read("http-token-file", file.path()).unwrap();
    let node = Node::with(|config| config.http.api.tokens = Some(tokens));
    let body = r#"{"channel_id":"a","connection_id":"1"}"#;
    let bearer = format!("Bearer {token}");
    let asked = |path: &str, headers: &[(&str, &str)]| {
        exchange(node.at(API_PORT), &request(path, headers, body))
    };
    for path in ["/v1/connect", "/v1/disconnect", "/v1/report"] {
        let refused = asked(path, &[]);
        assert_eq!(
            (refused.status, &refused.json()["error_type"]),
            (401, &json!("Unauthorized")),
            "{path}"
        );
        assert_eq!(asked(path, &[("authorization", "Bearer b")]).status, 401);
        for (port, kind) in [(SORA_PORT, "webhooks"), (OBSERVE_PORT, "monitoring")] {
            let said = exchange(
                node.at(port),
                &request(path, &[("authorization", &bearer)], body),
            );
            assert_eq!(said.status, 404, "{path} on the listener for {kind}");
        }
        let page = asked(
            path,
            &[
                ("authorization", &bearer),
                ("origin", "http://page.example"),
            ],
        );
        assert_eq!(page.status, 403, "{path}");
    }
    assert_eq!(node.daemon.client().status()["connections"], 0);
    assert_eq!(
        asked("/v1/connect", &[("authorization", &bearer)]).json()["type"],
        "offer"
    );
    let get =
        format!("GET /v1/connect HTTP/1.1\r\nhost: localhost\r\nauthorization: {bearer}\r\n\r\n");
    let said = exchange(node.at(API_PORT), &get);
    assert_eq!(
        (said.status, said.header("allow"), said.text()),
        (405, Some("POST"), r#"{"error_type":"UnexpectedMethod"}"#)
    );
    for path in ["/v1", "/v1/", "/v1/Connect", "/v1/connect/", "/v1/getmode"] {
        assert_eq!(
            asked(path, &[("authorization", &bearer)]).status,
            404,
            "{path}"
        );
    }
    let metrics = node.get_observe("/metrics");
    for line in [
        "soramode_api_calls_total{operation=\"Connect\",status=\"200\"} 1",
        "soramode_decisions_total{answer=\"offer\",reason=\"\"} 1",
    ] {
        assert!(
            metrics.text().lines().any(|it| it == line),
            "no {line} in\n{}",
            metrics.text()
        );
    }
}

#[test]
fn a_closed_node_rejects_and_a_full_one_too() {
    let node = Node::with(|config| config.max_connections = 1);
    let connect = |id: &str| {
        result(&post(
            &node,
            "connect",
            &json!({"channel_id": "spam", "connection_id": id}),
        ))
    };
    assert_eq!(connect("1")["created"], true);
    assert_eq!(connect("1")["created"], false);
    assert_eq!(connect("2")["reason"], "AT-CAPACITY");
    let close = json!({"mode": "block_new_connection"});
    node.daemon.client().get("ChangeMode", &close);
    assert_eq!(connect("2")["reason"], "BLOCK-NEW-CONNECTION");
    assert_eq!(connect("1")["type"], "offer", "the same one again");
}

#[test]
fn the_example_of_the_page_is_answered() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../man/protocol.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (_, example) = page.split_once("```http\n").unwrap();
    let (example, _) = example.split_once("\n```").unwrap();
    let said = exchange(Node::start().at(API_PORT), &example.replace('\n', "\r\n"));
    assert_eq!(
        (said.status, &said.json()["connection_id"]),
        (200, &json!("c-1"))
    );
}
