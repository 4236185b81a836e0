//! Sora's API: its transcripts byte for byte, its error table, its lists.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::wire::{API_PORT, Node, Said, Wire, exchange, request};

const GET_MODE: &str = "Sora_20211215.GetMode";
const CHANGE_MODE: &str = "Sora_20211215.ChangeMode";
const GET_STATUS: &str = "Soramode_20261201.GetStatus";

/// The origin in the transcripts.
pub(crate) const ORIGIN: &str = "http://127.0.0.1:5000";

fn transcript(name: &str) -> String {
    fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/transcripts")
            .join(name),
    )
    .unwrap()
}

/// The request as it was sent: the head as it stands, and the body as `HTTPie` sends it, which it shows prettier than it is.
fn sent(transcript: &str) -> String {
    let (head, body) = transcript
        .split_once("\n\n")
        .unwrap_or((transcript.trim_end(), ""));
    let body = body.trim();
    let body = if body.is_empty() {
        String::new()
    } else {
        serde_json::from_str::<Value>(body)
            .unwrap()
            .to_string()
            .replace(':', ": ")
    };
    format!("{}\r\n\r\n{body}", head.trim_end().replace('\n', "\r\n"))
}

/// Parses status, headers and body of a transcript, without the fields for time and server.
fn parse_response(transcript: &str) -> Said {
    let (head, body) = transcript.split_once("\n\n").unwrap();
    let mut lines = head.lines();
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let headers = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let body = serde_json::from_str::<Value>(body)
        .unwrap()
        .to_string()
        .into_bytes();
    without_date_and_server(Said {
        status,
        headers,
        body,
    })
}

fn without_date_and_server(mut said: Said) -> Said {
    said.headers
        .retain(|(name, _)| name != "date" && name != "server");
    said.headers.sort();
    said
}

#[test]
fn the_transcripts_of_soras_documentation_are_answered_byte_for_byte() {
    let node = Node::with(|config| config.http.api.cors_origins = vec![ORIGIN.parse().unwrap()]);
    for name in [
        "get-mode",
        "change-mode-block-new-session",
        "change-mode-block-new-connection",
    ] {
        let request = sent(&transcript(&format!("{name}.request.txt")));
        let said = exchange(node.at(API_PORT), &request);
        assert_eq!(said.header("server"), Some("soramode"));
        assert!(
            said.header("date")
                .is_some_and(|date| date.ends_with(" GMT")),
            "{said:?}"
        );
        let wanted = parse_response(&transcript(&format!("{name}.response.txt")));
        let length = wanted.header("content-length").unwrap();
        assert_eq!(
            length,
            said.body.len().to_string(),
            "{name}: the transcript's own length"
        );
        assert_eq!(without_date_and_server(said), wanted, "{name}: {request}");
    }
}

/// One row of the table: what is sent beside the usual, and what comes back.
struct Row {
    method: &'static str,
    targets: &'static [&'static str],
    body: &'static str,
    status: u16,
    answer: &'static str,
}

const fn row(targets: &'static [&'static str], body: &'static str, answer: &'static str) -> Row {
    Row {
        method: "POST",
        targets,
        body,
        status: 400,
        answer,
    }
}

const NO_BODY_FOR_CHANGE_MODE: &str = r#"{"error_type":"MissingTargetFunction","error_reason":{"service":"Sora","version":"20211215","operation":"ChangeMode"}}"#;
const NO_BODY_FOR_CHANNEL: &str = r#"{"error_type":"MissingTargetFunction","error_reason":{"service":"Sora","version":"20201013","operation":"ListChannelConnections"}}"#;
const NOT_JSON: &str = r#"{"error_type":"InvalidJSON","error_reason":[{"invalid":"parse"}]}"#;
const NO_SCHEMA: &str = r#"{"error_type":"SchemaNotFound","error_reason":{"service":"Sora","version":"20211215","operation":"Nothing"}}"#;

/// In the order in which they are checked: each row has what the rows above it complain of in order.
const TABLE: &[Row] = &[
    Row {
        method: "GET",
        targets: &[],
        body: "",
        status: 400,
        answer: r#"{"type":"UnexpectedMethod"}"#,
    },
    Row {
        method: "PUT",
        targets: &[GET_MODE],
        body: "",
        status: 400,
        answer: r#"{"type":"UnexpectedMethod"}"#,
    },
    // A preflight is one only where there is CORS.
    Row {
        method: "OPTIONS",
        targets: &[GET_MODE],
        body: "",
        status: 400,
        answer: r#"{"type":"UnexpectedMethod"}"#,
    },
    row(&[], "no JSON", r#"{"type":"MissingHeaderName"}"#),
    row(
        &["GetMode"],
        "no JSON",
        r#"{"error_type":"MissingService"}"#,
    ),
    row(
        &["Sora_2021121.GetMode"],
        "",
        r#"{"error_type":"MissingService"}"#,
    ),
    row(
        &["Sora_202112150.GetMode"],
        "",
        r#"{"error_type":"MissingService"}"#,
    ),
    row(
        &["Sora_2021121x.GetMode"],
        "",
        r#"{"error_type":"MissingService"}"#,
    ),
    row(&["Sora_20211215"], "", r#"{"error_type":"MissingService"}"#),
    row(
        &["Sora_20211215."],
        "",
        r#"{"error_type":"MissingService"}"#,
    ),
    row(
        &["_20211215.GetMode"],
        "",
        r#"{"error_type":"MissingService"}"#,
    ),
    row(&[" "], "", r#"{"error_type":"MissingService"}"#),
    row(
        &["Sky_20211215.GetMode"],
        "no JSON",
        r#"{"error_type":"InvalidTarget"}"#,
    ),
    row(
        &["sora_20211215.GetMode"],
        "",
        r#"{"error_type":"InvalidTarget"}"#,
    ),
    row(
        &[GET_MODE, GET_MODE],
        "",
        r#"{"error_type":"InvalidTarget"}"#,
    ),
    row(
        &[GET_MODE, CHANGE_MODE],
        "{}",
        r#"{"error_type":"InvalidTarget"}"#,
    ),
    row(
        &["Sora_20211215.Nothing"],
        "",
        r#"{"error_type":"MissingTarget"}"#,
    ),
    row(
        &["Sora_20211216.GetMode"],
        "",
        r#"{"error_type":"MissingTarget"}"#,
    ),
    row(&[CHANGE_MODE], "", NO_BODY_FOR_CHANGE_MODE),
    row(
        &["Sora_20201013.ListChannelConnections"],
        "",
        NO_BODY_FOR_CHANNEL,
    ),
    row(&["Sora_20211215.Nothing"], "{", NOT_JSON),
    row(&[CHANGE_MODE], "{", NOT_JSON),
    row(&[CHANGE_MODE], "{\"mode\":\"normal\"} x", NOT_JSON),
    row(&[GET_MODE], "mode", NOT_JSON),
    row(&["Sora_20211215.Nothing"], "{}", NO_SCHEMA),
    row(&["Sora_20211215.Nothing"], "[]", NO_SCHEMA),
];

fn ask(node: &Node, row: &Row) -> Said {
    let Row {
        method,
        targets,
        body,
        ..
    } = row;
    let mut head = format!("{method} / HTTP/1.1\r\nhost: localhost:{API_PORT}\r\n");
    for target in *targets {
        write!(head, "x-sora-target: {target}\r\n").unwrap();
    }
    exchange(
        node.at(API_PORT),
        &format!("{head}content-length: {}\r\n\r\n{body}", body.len()),
    )
}

#[test]
fn the_whole_error_table() {
    let node = Node::start();
    for row in TABLE {
        let said = ask(&node, row);
        let shown = format!("{} {:?} {:?}", row.method, row.targets, row.body);
        assert_eq!(
            (said.status, said.text()),
            (row.status, row.answer),
            "{shown}"
        );
        assert_eq!(
            said.header("content-type"),
            Some("application/json"),
            "{shown}"
        );
        assert!(
            said.headers
                .iter()
                .all(|(name, _)| !name.starts_with("access-control-")),
            "{shown}"
        );
    }
    assert_eq!(
        node.ask(GET_MODE, "").text(),
        r#"{"mode":"normal"}"#,
        "none of it changed anything"
    );
}

#[test]
fn an_invalid_mode_is_answered_with_the_problem() {
    let node = Node::start();
    let mismatch = |body: &str| {
        let said = node.ask(CHANGE_MODE, body);
        let answer = said.json();
        assert_eq!(
            (said.status, &answer["error_type"]),
            (400, &json!("InvalidJSON")),
            "{body}"
        );
        let reason = answer["error_reason"][0].clone();
        assert_eq!(reason["invalid"], "data");
        (
            reason["error"].clone(),
            reason["data"].clone(),
            reason["path"].clone(),
        )
    };
    let missing = json!("missing_required_property");
    assert_eq!(mismatch("{}"), (missing.clone(), json!({}), json!([])));
    assert_eq!(
        mismatch(r#"{"Mode":"normal"}"#),
        (missing, json!({"Mode": "normal"}), json!([]))
    );
    for wrong in [
        json!(null),
        json!(1),
        json!(["normal"]),
        json!({"normal": true}),
    ] {
        assert_eq!(
            mismatch(&json!({"mode": wrong}).to_string()),
            (json!("wrong_type"), wrong, json!(["mode"]))
        );
    }
    for other in ["initial", "Normal", "block-new-session", "", "normal "] {
        assert_eq!(
            mismatch(&json!({"mode": other}).to_string()),
            (json!("not_in_enum"), json!(other), json!(["mode"]))
        );
    }
    assert_eq!(
        mismatch("[1]"),
        (json!("wrong_type"), json!([1]), json!([]))
    );
    let exact = node.ask(CHANGE_MODE, r#"{"mode":"initial"}"#);
    assert_eq!(
        exact.text(),
        concat!(
            r#"{"error_type":"InvalidJSON","error_reason":[{"invalid":"data","schema":{"enum":["normal","block_new_session","#,
            r#""block_new_connection"],"type":"string"},"error":"not_in_enum","data":"initial","path":["mode"]}]}"#
        )
    );
    assert_eq!(node.daemon.client().status()["generation"], 1);
}

#[test]
fn refusals_of_the_gate_have_the_sockets_error_type() {
    // Errors of a cluster need a cluster; without one these are answered.
    let node = Node::start();
    for mode in [
        "block_new_session",
        "block_new_connection",
        "normal",
        "normal",
    ] {
        let said = node.ask(
            CHANGE_MODE,
            &json!({"mode": mode, "unknown": 1}).to_string(),
        );
        assert_eq!((said.status, said.json()), (200, json!({"mode": mode})));
    }
    let changes = node.daemon.client().get("ListModeChanges", &json!({}));
    assert_eq!(
        (
            &changes["changes"][0]["actor"],
            changes["changes"].as_array().unwrap().len()
        ),
        (&json!("http"), 3)
    );
}

#[test]
fn the_lists_show_all_connections() {
    let node = Node::start();
    let mut client = node.daemon.client();
    for list in [
        "Sora_20201013.ListConnections",
        "Sora_20231220.ListSessions",
        "Sora_20171101.GetStatsAllConnections",
    ] {
        assert_eq!(node.ask(list, "").text(), "[]");
    }
    client.get(
        "Connect",
        &json!({"channel_id": "spam", "connection_id": "1", "client_id": "alice"}),
    );
    client.connect("spam", "2");
    client.connect("ham", "3");
    let connections = node
        .ask("Sora_20201013.ListConnections", r#"{"local":true}"#)
        .json();
    assert_eq!(connections.as_array().unwrap().len(), 3);
    let first = &connections[0];
    assert_eq!(
        (
            &first["channel_id"],
            &first["client_id"],
            &first["connection_id"]
        ),
        (&json!("spam"), &json!("alice"), &json!("1"))
    );
    let micros = first["created_time"].as_i64().unwrap();
    let stamp: soramode_protocol::time::Time =
        serde_json::from_value(first["created_timestamp"].clone()).unwrap();
    assert_eq!(
        stamp.as_micros(),
        micros,
        "both say the same, in microseconds and as RFC 3339"
    );
    let of_ham = node
        .ask(
            "Sora_20201013.ListChannelConnections",
            r#"{"channel_id":"ham"}"#,
        )
        .json();
    assert_eq!(
        (
            of_ham.as_array().unwrap().len(),
            &of_ham[0]["connection_id"]
        ),
        (1, &json!("3"))
    );
    assert_eq!(
        node.ask(
            "Sora_20201013.ListChannelConnections",
            r#"{"channel_id":"nobody"}"#
        )
        .text(),
        "[]"
    );
    let too_long = json!({"channel_id": "x".repeat(256)}).to_string();
    assert_eq!(
        node.ask("Sora_20201013.ListChannelConnections", &too_long)
            .json()["error_type"],
        "InvalidJSON"
    );
    let sessions = node.ask("Sora_20231220.ListSessions", "").json();
    assert_eq!(
        (&sessions[0]["channel_id"], &sessions[0]["connections"]),
        (&json!("spam"), &json!(2))
    );
    let stats = node
        .ask("Sora_20171101.GetStatsAllConnections", r#"{"local":false}"#)
        .json();
    for row in stats.as_array().unwrap() {
        for name in [
            "connection_id",
            "timestamp",
            "channel_id",
            "session_id",
            "duration_seconds",
        ] {
            assert!(
                row[name].is_string() || row[name].is_number(),
                "{name}: {row}"
            );
        }
        // Viewers of Sora's statistics break on these.
        assert!(
            row.as_object()
                .unwrap()
                .values()
                .all(|value| !value.is_null() && !value.is_array()),
            "{row}"
        );
    }
}

#[test]
fn a_list_of_many_pages_is_whole() {
    let node = Node::start();
    let mut client = node.daemon.client();
    for number in 0..1_000 {
        client.connect(
            &format!("channel-{}", number % 7),
            &format!("connection-{number:04}"),
        );
    }
    let said = node.ask("Sora_20201013.ListConnections", "");
    let mut ids: Vec<String> = said
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["connection_id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    assert_eq!(
        ids,
        (0..1_000)
            .map(|number| format!("connection-{number:04}"))
            .collect::<Vec<_>>()
    );
    assert_eq!(
        said.header("transfer-encoding"),
        Some("chunked"),
        "what is long is sent as it is made"
    );
}

#[test]
fn the_node_is_its_own_cluster_where_there_is_none() {
    let node = Node::with(|config| config.node_name = "sfu-7".parse().unwrap());
    let nodes = node.ask("Sora_20211215.ListClusterNodes", "").json();
    let [only] = nodes.as_array().unwrap().as_slice() else {
        panic!("{nodes}")
    };
    assert_eq!(
        (&only["node_name"], &only["mode"], &only["connected"]),
        (&json!("sfu-7"), &json!("normal"), &json!(true))
    );
    assert_eq!(only["temporary_node"], false);
}

#[test]
fn one_connection_is_asked_again_and_again() {
    let node = Node::start();
    let mut wire = Wire::to(node.at(API_PORT));
    for mode in ["block_new_session", "normal", "block_new_connection"] {
        wire.send(request(
            "/",
            &[("x-sora-target", CHANGE_MODE)],
            &json!({"mode": mode}).to_string(),
        ));
        assert_eq!(wire.recv().unwrap().json(), json!({"mode": mode}));
        // A mistake does not end it.
        wire.send(request("/", &[("x-sora-target", CHANGE_MODE)], "{"));
        assert_eq!(wire.recv().unwrap().status, 400);
    }
    let other = exchange(
        node.at(API_PORT),
        &request("/other", &[("x-sora-target", GET_MODE)], ""),
    );
    assert_eq!(
        (other.status, other.text()),
        (404, r#"{"error_type":"NotFound"}"#)
    );
}

#[test]
fn the_gate_is_asked_for_a_connection_as_no_sora_can_be() {
    let node = Node::start();
    let connect = |body: &str| node.ask("Soramode_20261125.Connect", body);
    let said = connect(r#"{"channel_id":"spam","connection_id":"1","client_id":"bob","hops":1}"#);
    let offer = said.json();
    assert_eq!(
        (
            said.status,
            &offer["type"],
            &offer["connection_id"],
            &offer["created"]
        ),
        (200, &json!("offer"), &json!("1"), &json!(true))
    );
    let again = connect(r#"{"channel_id":"egg","connection_id":"1"}"#);
    assert_eq!(
        (again.status, again.text()),
        (400, r#"{"error_type":"ConnectionIdInUse"}"#)
    );
    node.ask(CHANGE_MODE, r#"{"mode":"block_new_session"}"#);
    let rejected = connect(r#"{"channel_id":"egg"}"#).json();
    assert_eq!(
        (&rejected["type"], &rejected["reason"]),
        (&json!("reject"), &json!("BLOCK-NEW-SESSION"))
    );
    // Parameters that belong to the socket alone.
    for wrong in [
        "[]",
        "{}",
        r#"{"channel_id":"spam","more":1}"#,
        r#"{"channel_id":"spam","lifetime":"socket"}"#,
    ] {
        let said = connect(wrong);
        assert_eq!(
            (said.status, said.text()),
            (400, r#"{"error_type":"InvalidParams"}"#),
            "{wrong}"
        );
    }
    let other = node.ask("Soramode_20261125.Nothing", "{}");
    assert_eq!(
        (other.status, &other.json()["error_type"]),
        (400, &json!("SchemaNotFound"))
    );
    assert_eq!(
        node.ask("Other_20261125.Connect", "{}").text(),
        r#"{"error_type":"InvalidTarget"}"#
    );
    assert_eq!(connect("").json()["error_reason"]["operation"], "Connect");
}

#[test]
fn the_status_is_the_sockets() {
    let steady = |status: &Value| {
        let mut status = status.clone();
        for changing in ["uptime_seconds", "upstreams"] {
            status.as_object_mut().unwrap().remove(changing);
        }
        status
    };
    let node = Node::start();
    let mut client = node.daemon.client();
    client.connect("spam", "1");
    for body in ["", "{}", r#"{"local":true}"#] {
        let said = node.ask(GET_STATUS, body);
        assert_eq!(
            (said.status, steady(&said.json())),
            (200, steady(&client.status())),
            "{body}"
        );
    }
    assert_eq!(node.ask(GET_STATUS, "").json()["sessions"], 1);
}

#[test]
fn a_report_of_statistics_has_what_soramode_counts_and_nothing_else() {
    let node = Node::start();
    for id in ["1", "2", "3"] {
        let auth = json!({"channel_id": "spam", "connection_id": id});
        assert_eq!(node.post_webhook("auth", &auth).json()["allowed"], true);
    }
    let event = |kind: &str, id: &str| json!({"type": kind, "channel_id": "spam", "session_id": "A", "connection_id": id});
    for (kind, id) in [
        ("connection.created", "1"),
        ("connection.created", "2"),
        ("connection.destroyed", "1"),
    ] {
        assert_eq!(node.post_webhook("event", &event(kind, id)).status, 200);
    }
    node.ask(
        "Sora_20211215.ChangeMode",
        r#"{"mode":"block_new_connection"}"#,
    );
    assert_eq!(
        node.post_webhook("auth", &json!({"channel_id": "egg", "connection_id": "4"}))
            .json()["allowed"],
        false
    );
    let wanted = json!({
        "total_connection_created": 2,
        "total_connection_destroyed": 1, "total_successful_connections": 2,
        "total_ongoing_connections": 1,
        "total_session_created": 1,
        "total_session_destroyed": 0,
        "total_auth_webhook_allowed": 3,
        "total_auth_webhook_denied": 1,
    });
    assert_eq!(node.ask("Sora_20171010.GetStatsReport", "").json(), wanted);
    let alone = Node::with(|config| config.http.sora.listen = None);
    assert!(
        alone
            .ask("Sora_20171010.GetStatsReport", "{}")
            .json()
            .get("total_auth_webhook_allowed")
            .is_none()
    );
}
