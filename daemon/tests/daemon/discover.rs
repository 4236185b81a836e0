//! The description of the protocol that the daemon answers: what it answers and sends is as described.

use serde_json::{Value, json};
use soramode_protocol::access::Access;
use soramode_protocol::openrpc::Validator;
use soramode_protocol::request::Method;
use soramode_testkit::control_client::TestClient;
use soramode_testkit::daemon::Daemon;

use crate::access::params;

/// Validates an answer, and returns it.
fn validated(
    validator: &Validator,
    client: &mut TestClient,
    method: &str,
    params: &Value,
) -> Value {
    let id = client.send_request(method, params);
    let answer = loop {
        let message = client.recv();
        match message["method"].as_str() {
            Some(notification) => validator
                .notification(notification, &message["params"])
                .unwrap(),
            None => break message,
        }
    };
    assert_eq!(answer["id"], id);
    match answer.get("result") {
        Some(result) => validator.result(method, result),
        None => validator.error_of(method, &answer["error"]),
    }
    .unwrap();
    answer
}

#[test]
fn answers_of_every_method_are_as_described() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let validator = Validator::new(client.get("rpc.discover", &json!({})));
    let mut ask = |method: &str, params: Value| {
        validator.params(method, &params).unwrap();
        validated(&validator, &mut client, method, &params)
    };
    ask(
        "Subscribe",
        json!({"ends": true, "announcements": true, "from": 1}),
    );
    ask(
        "Connect",
        json!({"channel_id": "kept", "connection_id": "k", "client_id": "c"}),
    );
    for method in Method::ALL {
        ask(method.name(), params(*method));
    }
    // With a plan, a reservation and sessions to end.
    ask("ChangeMode", json!({"mode": "normal"}));
    ask(
        "Connect",
        json!({"channel_id": "kept", "connection_id": "k2", "lifetime": "socket"}),
    );
    ask(
        "Reserve",
        json!({"roll": "R2", "by": "ops", "seconds": 30, "round": 1, "step": "draining"}),
    );
    let closing = json!({"do": "mode", "at_seconds": 0, "mode": "block_new_session"});
    let ending = json!({"do": "end", "at_seconds": 600, "per_minute": "max"});
    ask(
        "StartPlan",
        json!({"steps": [closing, ending], "accept_risk": "cuts-clients", "roll": "R2", "round": 1}),
    );
    ask(
        "StartPlan",
        json!({"steps": [{"do": "mode", "at_seconds": 0, "mode": "block_new_connection"}]}),
    );
    ask("Announce", json!({"text": "soon", "data": {"level": 1}}));
    ask("Connect", json!({"channel_id": "new"}));
    ask("End", json!({"channel_id": "kept"}));
    for method in Method::ALL.iter().filter(|it| it.access() == Access::View) {
        ask(method.name(), params(*method));
    }
    ask(
        "Wait",
        json!({"for": "ended", "timeout_seconds": 0, "progress_seconds": 1}),
    );
    ask("CancelPlan", json!({}));
    ask(
        "ChangeMode",
        json!({"mode": "block_new_session", "if_generation": 99}),
    );
}
