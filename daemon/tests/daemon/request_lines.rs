//! One message a line: what passes for a line, and what is said to what does not.

use serde_json::{Value, json};
use soramode_testkit::daemon::Daemon;

const GET_MODE: &str = r#"{"jsonrpc":"2.0","id":7,"method":"GetMode"}"#;

#[test]
fn jsonrpc_carriage_return_and_white_space_are_free() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let lines = [
        "{\"method\":\"GetMode\",\"id\":7}\n",
        "{\"id\":7,\"method\":\"GetMode\"}\r\n",
        "\n\r\n  \t\n{\"id\":7,\"method\":\"GetMode\",\"params\":{}}\n",
        "  {\"id\":7,\"method\":\"GetMode\"}  \n",
    ];
    for line in lines {
        client.send(line);
        let answer = client.recv();
        assert_eq!(
            (&answer["id"], &answer["result"]["mode"]),
            (&7.into(), &"normal".into()),
            "{line:?}"
        );
    }
}

#[test]
fn a_line_may_come_byte_by_byte_and_many_in_one_piece() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    for byte in GET_MODE.bytes().chain([b'\n']) {
        client.send([byte]);
    }
    assert_eq!(client.recv()["id"], 7);
    client.send(format!("{GET_MODE}\n").repeat(1_000));
    for _ in 0..1_000 {
        assert_eq!(client.recv()["result"]["generation"], 1);
    }
}

#[test]
fn an_id_comes_back_as_it_was() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    for id in [
        json!(0),
        json!(-1),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(""),
        json!("7"),
        json!("七 \"\u{1}"),
        json!("x".repeat(255)),
    ] {
        client.send(format!("{}\n", json!({"id": id, "method": "GetMode"})));
        assert_eq!(client.recv()["id"], id);
    }
    for id in [
        json!(1.5),
        json!("x".repeat(256)),
        json!([1]),
        json!({}),
        json!(true),
    ] {
        client.send(format!("{}\n", json!({"id": id, "method": "GetMode"})));
        client.recv_error(Value::Null, "InvalidRequest");
    }
    client.send("{\"id\":null,\"method\":\"GetMode\"}\n");
    client.recv_error(Value::Null, "ParseError");
}

#[test]
fn notifications_are_executed_and_not_answered() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    client.send(
        "{\"method\":\"Connect\",\"params\":{\"channel_id\":\"a\",\"connection_id\":\"1\"}}\n",
    );
    client
        .send("{\"method\":\"NoSuch\"}\n{\"method\":\"Connect\",\"params\":{}}\n{\"method\":\"ListSessions\"}\n{\"method\":\"GetInfo\"}\n");
    client.send("{\"method\":\"Wait\",\"params\":{\"for\":\"mode\",\"mode\":\"normal\"}}\n{\"method\":\"Unsubscribe\"}\n");
    assert_eq!(client.status()["connections"], 1);
    client.send("{\"method\":\"Subscribe\",\"params\":{\"from\":1,\"types\":[\"session.*\"]}}\n");
    let event = client.recv();
    assert_eq!(
        (&event["method"], &event["params"]["seq"]),
        (&"Event".into(), &1.into())
    );
}

#[test]
fn invalid_requests_are_refused_and_the_next_one_is_answered() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let deep = "[".repeat(10_000);
    let nested = format!(
        "{{\"id\":1,\"method\":\"GetMode\",\"params\":{}}}",
        "{\"a\":".repeat(1_000)
    );
    let refused = [
        ("{", "ParseError"),
        ("{\"id\":1,\"method\":\"GetMode\"} x", "ParseError"),
        ("hello", "ParseError"),
        ("{\"id\":1,\"method\":\"Get\u{0}Mode\"}", "ParseError"),
        (deep.as_str(), "InvalidRequest"),
        (nested.as_str(), "ParseError"),
        ("[{\"id\":1,\"method\":\"GetMode\"}]", "InvalidRequest"),
        ("[]", "InvalidRequest"),
        ("1", "InvalidRequest"),
        ("null", "InvalidRequest"),
        ("{}", "InvalidRequest"),
    ];
    for (line, error_type) in refused {
        client.send(format!(
            "{{\"id\":1,\"method\":\"GetMode\"}}\n{line}\n{GET_MODE}\n"
        ));
        assert_eq!(client.recv()["id"], 1);
        client.recv_error(Value::Null, error_type);
        assert_eq!(client.recv()["id"], 7, "after {line:.60}");
    }
    client.send(b"{\"id\":1,\"method\":\"GetMode\",\"params\":{\"\xff\":1}}\n");
    assert!(client.recv()["error"].is_object());
    client.send("[{\"id\":1,\"method\":\"GetMode\"}]\n");
    let error = client.recv_error(Value::Null, "InvalidRequest");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("one request per line"),
        "{error}"
    );
}

#[test]
fn errors_describe_the_problem() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let error =
        client.call("ChangeMode", &json!({"mode": "normal", "if_genration": 1}))["error"].clone();
    assert_eq!(
        (&error["code"], &error["data"]["field"]),
        (&(-32602).into(), &"if_genration".into()),
        "{error}"
    );
    let error = client.call("ChangeMode", &json!({"mode": "initial"}))["error"].clone();
    assert_eq!(
        (&error["code"], &error["data"]["field"]),
        (&(-32602).into(), &"mode".into()),
        "{error}"
    );
    let error = client.call("NoSuch", &json!({}))["error"].clone();
    assert_eq!(error["code"], -32601);
    let info = client.get("GetInfo", &json!({}));
    assert_eq!(error["data"]["methods"], info["methods"]);
    assert_eq!(
        (&info["access"], &info["protocol"]),
        (&"operate".into(), &1.into())
    );
    assert_eq!(
        client.error_type_of("GetMode", &json!([1])),
        "InvalidParams"
    );
    assert_eq!(
        client.error_type_of("GetSession", &json!({"channel_id": "none"})),
        "NotFound"
    );
    client.connect("a", "1");
    assert_eq!(
        client.error_type_of("Connect", &json!({"channel_id": "b", "connection_id": "1"})),
        "ConnectionIdInUse"
    );
    assert_eq!(
        client.error_type_of("Wait", &json!({"for": "drained"})),
        "ConditionImpossible"
    );
    assert_eq!(
        client.error_type_of("ChangeMode", &json!({"mode": "normal", "if_generation": 9})),
        "Superseded"
    );
}
