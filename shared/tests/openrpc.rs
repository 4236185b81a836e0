//! The OpenRPC document: it is valid, and every golden line is valid against it.

#![cfg(feature = "schema")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::PathBuf;

use boon::{Compiler, Draft, Schemas};
use serde_json::{Value, json};
use soramode_protocol::error::ErrorType;
use soramode_protocol::openrpc::{Validator, document};
use soramode_protocol::request::Method;

fn read(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn golden(file: &str) -> Vec<Value> {
    let lines = read(&format!("wire/v1/{file}.jsonl"));
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

fn validator() -> Validator {
    Validator::new(document())
}

#[test]
fn the_document_is_valid_against_the_meta_schema_of_openrpc() {
    const OPENRPC: &str = "https://meta.open-rpc.org/";
    const JSON_SCHEMA: &str = "https://meta.json-schema.tools/";
    let mut compiler = Compiler::new();
    compiler.set_default_draft(Draft::V7);
    for (url, file) in [
        (OPENRPC, "openrpc/openrpc-meta-schema.json"),
        (JSON_SCHEMA, "openrpc/json-schema-meta-schema.json"),
    ] {
        let mut schema: Value = serde_json::from_str(&read(file)).unwrap();
        // A dialect of draft 7 with titles.
        schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
        compiler.add_resource(url, schema).unwrap();
    }
    let mut schemas = Schemas::new();
    let index = compiler.compile(OPENRPC, &mut schemas).unwrap();
    let mut document = document();
    schemas
        .validate(&document, index)
        .unwrap_or_else(|error| panic!("{error:#}"));

    document["methods"][0]["paramStructure"] = "by-nam".into();
    assert!(schemas.validate(&document, index).is_err());
}

#[test]
fn every_golden_request_and_result_is_valid() {
    let validator = validator();
    for method in Method::ALL {
        let name = method.name();
        for line in golden(name) {
            match line.get("result") {
                Some(result) => validator.result(name, result),
                None => validator.params(name, &line["params"]),
            }
            .unwrap();
        }
    }
}

#[test]
fn every_golden_error_event_notification_and_webhook_is_valid() {
    let validator = validator();
    for line in golden("errors") {
        validator.error(&line["error"]).unwrap();
    }
    for line in golden("notifications") {
        let method = line["method"].as_str().unwrap();
        validator.notification(method, &line["params"]).unwrap();
    }
    for event in golden("events") {
        validator.notification("Event", &event).unwrap();
    }
}

#[cfg(feature = "webhook")]
#[test]
fn the_webhook_of_every_golden_event_is_valid() {
    use soramode_protocol::event::Event;
    use soramode_protocol::webhook::body;

    let validator = validator();
    for line in golden("events") {
        let event: Event = serde_json::from_value(line).unwrap();
        let body = body(&event, "rack 7", 4).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let is_delivered = event.kind.event_type().unwrap().is_deliverable();
        assert_eq!(
            validator.webhook(&body).is_ok(),
            is_delivered,
            "{body}\n{:?}",
            validator.webhook(&body)
        );
        if is_delivered {
            refuse_mutations(&body, &[], |body| validator.webhook(body));
        }
    }
}

/// Checks that a message is refused when one of its members has another type. A param that there is not is refused as well, an unknown member
/// of an answer is not.
#[test]
fn changed_golden_lines_are_not_valid() {
    let validator = validator();
    for method in Method::ALL {
        let name = method.name();
        for line in golden(name) {
            if let Some(result) = line.get("result") {
                if *method == Method::Discover {
                    // The document itself is validated against its meta-schema.
                    continue;
                }
                let mut more = result.clone();
                more["of_a_later_version"] = json!([1]);
                validator.result(name, &more).unwrap();
                refuse_mutations(result, &[], |result| validator.result(name, result));
            } else {
                let mut more = line["params"].clone();
                more["no_such_param"] = json!(1);
                validator.params(name, &more).unwrap_err();
                refuse_mutations(&line["params"], &[], |params| {
                    validator.params(name, params)
                });
            }
        }
    }
    for line in golden("errors") {
        refuse_mutations(&line["error"], &[], |error| validator.error(error));
    }
    for event in golden("events") {
        refuse_mutations(&event, &[], |event| validator.notification("Event", event));
    }
}

/// Members that the application fills, at any depth.
const OF_THE_APPLICATION: [&str; 1] = ["data"];

/// Replaces each member of the value, at any depth, by one of another type.
fn refuse_mutations(
    value: &Value,
    path: &[&str],
    validate: impl Fn(&Value) -> Result<(), String> + Copy,
) {
    let pointer = path
        .iter()
        .fold(String::new(), |pointer, part| pointer + "/" + part);
    let part = value.pointer(&pointer).unwrap();
    let members: Vec<String> = match part {
        Value::Object(members) => members.keys().cloned().collect(),
        Value::Array(items) => (0..items.len()).map(|place| place.to_string()).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return,
    };
    for member in members {
        let is_free = path.is_empty() && OF_THE_APPLICATION.contains(&member.as_str());
        if is_free || (path.len() > 1 && member == "data") {
            continue;
        }
        let mut inner = path.to_vec();
        inner.push(&member);
        let pointer = format!("{pointer}/{member}");
        let mut changed = value.clone();
        // No member takes this one.
        *changed.pointer_mut(&pointer).unwrap() = json!([[null]]);
        assert!(validate(&changed).is_err(), "{changed}");
        refuse_mutations(value, &inner, validate);
    }
}

#[test]
fn limits_of_params_are_those_of_the_code() {
    let validator = validator();
    for (method, params) in [
        ("Connect", json!({"channel_id": ""})),
        ("Connect", json!({"channel_id": "x".repeat(256)})),
        ("Connect", json!({"channel_id": "nul\0"})),
        ("Connect", json!({"channel_id": "a", "hops": 256})),
        ("ChangeMode", json!({"mode": "initial"})),
        (
            "ChangeMode",
            json!({"mode": "normal", "reason": "x".repeat(1025)}),
        ),
        (
            "ChangeMode",
            json!({"mode": "block_new_session", "expires_in_seconds": 31_622_401}),
        ),
        ("End", json!({"all": true, "per_minute": 0})),
        ("End", json!({"all": true, "per_minute": "all"})),
        ("ListSessions", json!({"limit": 0})),
        ("ListSessions", json!({"limit": 1001})),
        (
            "PurgeClusterNode",
            json!({"node_name": "n", "accept_risk": "none"}),
        ),
        ("Reserve", json!({"roll": "r".repeat(65), "step": "ready"})),
        (
            "Reserve",
            json!({"roll": "r", "by": "b", "round": 1, "seconds": 29}),
        ),
        ("StartPlan", json!({"steps": []})),
        (
            "StartPlan",
            json!({"steps": [{"do": "mode", "at_seconds": 0, "mode": "block_new_session", "per_minute": 1}]}),
        ),
        (
            "StartPlan",
            json!({"steps": [{"do": "dance", "at_seconds": 0}]}),
        ),
        ("Subscribe", json!({"from": 0})),
        ("Subscribe", json!({"types": []})),
        ("Subscribe", json!({"types": ["session"]})),
        ("Wait", json!({"for": "drained", "progress_seconds": 0.4})),
        ("GetMode", json!({"mode": "normal"})),
    ] {
        assert!(
            validator.params(method, &params).is_err(),
            "{method} {params}"
        );
        let method = Method::from_name(method).unwrap();
        let text = params.to_string();
        let read = soramode_protocol::request::Request::read(method, text.as_str());
        let error = read.unwrap_err();
        assert_eq!(error.data.error_type, ErrorType::InvalidParams, "{text}");
    }
}

#[test]
fn people_can_read_the_descriptions() {
    let text = document().to_string();
    for mark in ["[`", "`]", "MAX`", "::", "Self", "Option<", " gate "] {
        assert!(!text.contains(mark), "{mark:?} is of the code");
    }
    let document = document();
    for method in document["methods"].as_array().unwrap() {
        let params = method["params"].as_array().unwrap().iter();
        let bare = params.filter(|param| param["description"].as_str().is_none_or(str::is_empty));
        assert_eq!(bare.count(), 0, "{method}");
    }
}
