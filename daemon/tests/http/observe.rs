//! `/live`, `/ready`, `/metrics`, and the dashboard that is made of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::wire::{Node, OBSERVE_PORT, exchange};

#[test]
fn readiness_follows_the_mode() {
    let node = Node::start();
    let mut client = node.daemon.client();
    for (mode, ready, for_sessions) in [
        ("normal", 200, 200),
        ("block_new_session", 200, 503),
        ("block_new_connection", 503, 503),
    ] {
        client.get("ChangeMode", &json!({"mode": mode}));
        for (path, wanted) in [
            ("/live", 200),
            ("/ready", ready),
            ("/ready/new-session", for_sessions),
        ] {
            let said = node.get_observe(path);
            assert_eq!(
                (said.status, said.json()),
                (wanted, json!({"mode": mode, "membership": "standalone"})),
                "{mode} {path}"
            );
            assert_eq!(said.header("cache-control"), Some("no-store"));
        }
    }
    assert_eq!(node.get_observe("/other").status, 404);
    let post = exchange(
        node.at(OBSERVE_PORT),
        "POST /live HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
    );
    assert_eq!(
        (post.status, post.header("allow")),
        (405, Some("GET, HEAD"))
    );
}

#[test]
fn head_says_what_get_would_without_its_body() {
    let node = Node::start();
    for path in ["/live", "/ready", "/metrics"] {
        let mut wire = crate::wire::Wire::to(node.at(OBSERVE_PORT));
        wire.send(format!(
            "HEAD {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        ));
        let all = String::from_utf8(wire.recv_all().unwrap()).unwrap();
        assert!(
            all.starts_with("HTTP/1.1 200 OK\r\n") && all.ends_with("\r\n\r\n"),
            "{all}"
        );
        assert!(
            all.contains("content-length: ") && all.matches("\r\n\r\n").count() == 1,
            "{all}"
        );
    }
}

#[test]
fn a_node_whose_state_cannot_be_used_says_why_it_is_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("soramode.db"), "no database").unwrap();
    let node = Node::with(|config| config.state_dir = Some(folder.path().to_owned()));
    let ready = node.get_observe("/ready");
    assert_eq!(ready.status, 503);
    assert_eq!(
        ready.text(),
        r#"{"mode":"block_new_connection","membership":"standalone","storage":"failed"}"#
    );
    assert_eq!(node.get_observe("/live").status, 200);
    assert!(
        node.get_observe("/metrics")
            .text()
            .contains("\nsoramode_storage{storage=\"failed\"} 1\n")
    );
}

#[test]
fn a_slow_disk_delays_answers_but_not_live() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::with(|config| config.state_dir = Some(folder.path().to_owned()));
    let mut client = node.daemon.client();
    client.get("GetMode", &json!({}));
    // A disk as slow as can be: another program holds the write lock.
    let other = rusqlite::Connection::open(folder.path().join("soramode.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let asked = client.send_request(
        "Connect",
        &json!({"channel_id": "spam", "connection_id": "one"}),
    );
    let live = node.get_observe("/live");
    assert_eq!((live.status, live.text()), (200, "{}"));
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(client.recv()["id"], asked);
    assert_eq!(node.get_observe("/ready").status, 200);
}

/// A node that has done everything there is to count.
fn busy_node() -> Node {
    let node = Node::start();
    let mut client = node.daemon.client();
    client.connect("spam", "1");
    client.connect("spam", "2");
    client.disconnect("2");
    node.post_webhook(
        "auth",
        &json!({"type": "auth", "channel_id": "ham", "connection_id": "3"}),
    );
    node.post_webhook("event", &json!({"type": 1}));
    client.get("ChangeMode", &json!({"mode": "block_new_session"}));
    node.post_webhook(
        "auth",
        &json!({"type": "auth", "channel_id": "egg", "connection_id": "4"}),
    );
    client.get("Connect", &json!({"channel_id": "egg"}));
    node.ask("Sora_20211215.GetMode", "");
    node.ask("Sora_20211215.ChangeMode", "{");
    node
}

#[test]
fn the_metrics_say_what_happened() {
    let node = busy_node();
    let said = node.get_observe("/metrics");
    assert_eq!(
        said.header("content-type"),
        Some("text/plain; version=0.0.4")
    );
    let text = said.text();
    for line in [
        "soramode_mode{mode=\"block_new_session\"} 1",
        "soramode_mode{mode=\"normal\"} 0",
        "soramode_membership{membership=\"standalone\"} 1",
        "soramode_mode_generation 2",
        "soramode_sessions 2",
        "soramode_connections 2",
        "soramode_pending_connections 1",
        "soramode_connections_without_auth 0",
        "soramode_sessions_complete 1",
        "soramode_mode_in_force 1",
        "soramode_rooms{lock=\"outstanding\"} 0",
        "soramode_decisions_total{answer=\"offer\",reason=\"\"} 3",
        "soramode_decisions_total{answer=\"reject\",reason=\"BLOCK-NEW-SESSION\"} 2",
        "soramode_decision_duration_seconds_count 5",
        "soramode_events_total{type=\"connection.created\"} 2",
        "soramode_events_total{type=\"mode.changed\"} 1",
        "soramode_webhooks_total{kind=\"auth\",outcome=\"taken\"} 1",
        "soramode_webhooks_total{kind=\"auth\",outcome=\"rejected\"} 1",
        "soramode_webhooks_total{kind=\"event\",outcome=\"unreadable\"} 1",
        "soramode_api_calls_total{operation=\"GetMode\",status=\"200\"} 1",
        "soramode_api_calls_total{operation=\"ChangeMode\",status=\"400\"} 1",
    ] {
        assert!(
            text.lines().any(|other| other == line),
            "no {line} in\n{text}"
        );
    }
}

/// Returns the labels of each metric.
fn metrics(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap().to_owned();
        let labels = line
            .split_once('{')
            .map_or("", |(_, rest)| rest.rsplit_once('}').unwrap().0);
        let names = labels
            .split(',')
            .filter_map(|label| label.split_once('='))
            .map(|(name, _)| name.to_owned());
        all.entry(name).or_default().extend(names);
    }
    all
}

/// Each query in a dashboard, wherever it stands.
fn queries(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("expr", Value::String(query)) => found.push(query.clone()),
                    ("query", Value::String(query)) if query.contains("soramode_") => {
                        found.push(query.clone());
                    }
                    _ => queries(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| queries(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The names of ours in a query.
fn names(query: &str) -> Vec<&str> {
    let words = query.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    words.filter(|word| word.starts_with("soramode_")).collect()
}

/// Returns the labels that a query groups by or shows, without those that Prometheus adds.
fn labels(query: &str) -> Vec<&str> {
    let groups = query
        .split(" by (")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'));
    groups
        .flat_map(|(labels, _)| labels.split(", "))
        .filter(|label| *label != "instance")
        .collect()
}

#[test]
fn the_dashboard_queries_only_existing_metrics() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/grafana/soramode.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut queried = Vec::new();
    queries(&dashboard, &mut queried);
    assert!(queried.len() > 10, "{queried:?}");
    let node = busy_node();
    let there = metrics(node.get_observe("/metrics").text());
    let mut shown = BTreeSet::new();
    for query in &queried {
        let names = names(query);
        assert!(!names.is_empty(), "nothing of ours: {query}");
        for name in &names {
            let known = there
                .get(*name)
                .unwrap_or_else(|| panic!("no {name} in /metrics: {query}"));
            for label in labels(query) {
                assert!(
                    known.contains(label),
                    "{name} has no label {label}: {query}"
                );
            }
            shown.insert(name.trim_end_matches("_bucket").to_owned());
        }
    }
    let family = |name: &str| {
        ["_bucket", "_sum", "_count"]
            .iter()
            .fold(name, |name, end| name.trim_end_matches(end))
            .to_owned()
    };
    let unshown: Vec<String> = there
        .keys()
        .map(|name| family(name))
        .filter(|name| !shown.contains(name))
        .collect();
    assert!(unshown.is_empty(), "the dashboard leaves out {unshown:?}");
}

/// Returns the series that a rule selects by `name{label="value"}` or `name{label=~"one|other"}`.
fn selected(rules: &str) -> Vec<String> {
    let mut series = Vec::new();
    for (at, _) in rules.match_indices("soramode_") {
        let Some((name, rest)) = rules.get(at..).and_then(|from| from.split_once('{')) else {
            break;
        };
        let Some((label, values)) = rest.split_once('=') else {
            break;
        };
        if name
            .chars()
            .any(|char| !char.is_ascii_lowercase() && char != '_')
        {
            continue;
        }
        let values = values.trim_start_matches('~').split('"').nth(1).unwrap();
        let all = values
            .split('|')
            .map(|value| format!("{name}{{{label}=\"{value}\"}} "));
        series.extend(all);
    }
    series
}

#[test]
fn the_alert_rules_select_only_existing_series() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/prometheus/soramode.rules.yml");
    let rules = fs::read_to_string(path).unwrap();
    let node = busy_node();
    let text = node.get_observe("/metrics").text().to_owned();
    let there = metrics(&text);
    let expressions = rules.lines().filter(|line| !line.contains(": \""));
    for name in expressions.flat_map(names) {
        assert!(there.contains_key(name), "no {name} in /metrics");
    }
    let selected = selected(&rules);
    assert!(selected.len() > 10, "{selected:?}");
    for series in selected {
        assert!(text.contains(&series), "no {series}in /metrics");
    }
}
