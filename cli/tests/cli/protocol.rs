//! The page on the protocol: it has all of the code's methods, fields, errors, events and limits, and its clients run.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use soramode_protocol::codec::REQUEST_BYTES_MAX;
use soramode_protocol::decision::RejectReason;
use soramode_protocol::error::ErrorType;
use soramode_protocol::event::EventType;
use soramode_protocol::mode::{MODE_CHANGES_KEPT, REASON_BYTES_MAX};
use soramode_protocol::request::{Method, REQUEST_ID_BYTES_MAX};
use soramode_protocol::session::{LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX};
use soramode_protocol::subscribe::EVENT_PATTERNS_MAX;
use soramode_protocol::version::PROTOCOL;
use soramode_protocol::wait::WAITS_MAX;
use soramoded::config::Config;
use soramoded::control::{
    CLIENTS_MAX, IN_FLIGHT_MAX, LINE_TIME, OPERATOR_SLOTS, PAGE_BYTES_MAX, UNREAD_BYTES_FAIR,
    UNREAD_BYTES_MAX, VIEW_IN_FLIGHT_MAX, VIEW_UNREAD_BYTES_MAX, VIEW_WAITS_MAX,
    VIEWER_SLOTS_OF_USER_MAX,
};

use crate::doc_commands::{Machine, blocks, document};
use crate::support::{Daemon, Ended, Run};

const PAGE: &str = "man/protocol.md";

/// Limit of the lines of a client in the page: a longer one is no example.
const CLIENT_LINES_MAX: usize = 30;

/// A method's part of the page.
fn part(page: &str, method: Method) -> String {
    let heading = format!("\n### {} ({}", method.name(), method.access());
    let (_, part) = page
        .split_once(&heading)
        .unwrap_or_else(|| panic!("the page lacks {heading:?}"));
    part.split_once("\n#")
        .map_or(part, |(part, _)| part)
        .to_owned()
}

/// The names of the members that the golden lines of a method have in its params and results, at any depth. What a page describes once for
/// several methods is left to its own: a session, a connection, a status inside a wait, a plan outside of `GetPlan`, a mode's verdict, counts by
/// reason. The members of an announcement's data are the application's.
fn members(method: Method) -> BTreeSet<String> {
    let lines = document(&format!("shared/tests/wire/v1/{}.jsonl", method.name()));
    let mut members = BTreeSet::new();
    for message in lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
    {
        collect_members(&message["params"], &mut members);
        collect_members(&message["result"], &mut members);
        if method == Method::GetPlan {
            collect_members(&message["result"]["plan"], &mut members);
        }
    }
    members
}

const DESCRIBED_ELSEWHERE: [&str; 8] = [
    "status",
    "oldest_session",
    "oldest_sessions",
    "session",
    "modes",
    "rejected",
    "plan",
    "data",
];

fn collect_members(value: &Value, members: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                members.insert(name.clone());
                if !DESCRIBED_ELSEWHERE.contains(&name.as_str()) {
                    collect_members(value, members);
                }
            }
        }
        Value::Array(list) => list
            .iter()
            .for_each(|value| collect_members(value, members)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_method_is_there_with_its_access_and_its_fields() {
    let page = document(PAGE);
    for method in Method::ALL {
        let part = part(&page, *method);
        let missing: Vec<String> = members(*method)
            .into_iter()
            .filter(|name| !says(&part, name))
            .collect();
        assert!(missing.is_empty(), "{}: {missing:?}", method.name());
    }
    let named = page
        .lines()
        .filter_map(|line| line.strip_prefix("### ")?.split_once(" ("))
        .map(|(name, _)| name);
    for name in named {
        assert!(Method::from_name(name).is_some(), "there is no {name}");
    }
}

/// Returns whether a text has this name as code: alone, or with its value.
fn says(text: &str, name: &str) -> bool {
    text.contains(&format!("`{name}`")) || text.contains(&format!("`{name}: "))
}

#[test]
fn every_error_event_and_reason_is_there() {
    let page = document(PAGE);
    for error_type in ErrorType::ALL {
        let row = format!("| {} | `{error_type:?}` |", error_type.code());
        assert!(page.contains(&row), "the page lacks {row}");
    }
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| -32"))
        .count();
    assert_eq!(rows, ErrorType::ALL.len(), "none that is not there");
    let names = EventType::ALL
        .map(EventType::name)
        .into_iter()
        .chain(RejectReason::ALL.map(RejectReason::name));
    for name in names {
        assert!(says(&page, name), "the page lacks {name}");
    }
    let notifications = document("shared/tests/wire/v1/notifications.jsonl");
    for line in notifications.lines() {
        let message: Value = serde_json::from_str(line).unwrap();
        assert!(
            says(&page, message["method"].as_str().unwrap()),
            "the page lacks {line}"
        );
    }
}

#[test]
fn every_limit_is_the_codes() {
    let page = document(PAGE);
    let (reasons, changes) = (REASON_BYTES_MAX, MODE_CHANGES_KEPT);
    for said in [
        format!("It is protocol {PROTOCOL}:"),
        format!("a string of at most {REQUEST_ID_BYTES_MAX} bytes, returned with"),
        format!("(at most {reasons} bytes)"),
        format!("at most {changes} are kept"),
        format!("A client may have {WAITS_MAX} waits under way"),
        format!("({LIST_LIMIT_DEFAULT}, at most {LIST_LIMIT_MAX})"),
        format!("(at most {EVENT_PATTERNS_MAX}; `*`"),
        format!("| a request's line | {REQUEST_BYTES_MAX} bytes |"),
        format!(
            "| a line that was begun | {} s until its end |",
            LINE_TIME.as_secs()
        ),
        format!("| clients | {CLIENTS_MAX}, of which {OPERATOR_SLOTS} places"),
        format!(
            "| unanswered requests of one client | {IN_FLIGHT_MAX}, or {VIEW_IN_FLIGHT_MAX} if it may only view;"
        ),
        format!(
            "| unread answers of all clients that may only view | {VIEW_UNREAD_BYTES_MAX} bytes; above that, a client with more than {UNREAD_BYTES_FAIR} bytes"
        ),
        format!("| waits of all clients that may only view | {VIEW_WAITS_MAX} |"),
        format!("| text of a page | about {PAGE_BYTES_MAX} bytes"),
        format!("| clients of one user that may only view | {VIEWER_SLOTS_OF_USER_MAX} |"),
        format!("| unread answers of one client | {UNREAD_BYTES_MAX} bytes;"),
    ] {
        assert!(page.contains(&said), "the page lacks {said:?}");
    }
}

#[test]
fn the_protocol_can_be_tried_by_hand() {
    let daemon = Daemon::start();
    let [by_hand] = blocks(&document(PAGE), None, "sh").try_into().unwrap();
    let said = Machine::new(&daemon.socket()).all(&by_hand, &[0]);
    assert!(
        said[0]
            .stdout
            .starts_with(r#"{"jsonrpc":"2.0","id":1,"result":{"mode":"normal""#),
        "{said:?}"
    );
}

/// Code of the page, short enough for an example.
fn code(language: &str) -> String {
    let [code] = blocks(&document(PAGE), None, language).try_into().unwrap();
    let lines = code.lines().count();
    assert!(lines <= CLIENT_LINES_MAX, "{language}: {lines} lines");
    code
}

/// Folder of a client library.
fn library(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join("shared/clients").join(name)
}

#[test]
fn the_python_client_follows_decisions() {
    let mut daemon = Daemon::start();
    let ask = |daemon: &Daemon, channel: &str| -> Ended {
        Command::new("python3")
            .args(["-c", &code("python"), channel])
            .env("PYTHONPATH", library("python"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("SORAMODE_SOCKET", daemon.socket())
            .stdin(Stdio::null())
            .ended()
    };
    let offered = ask(&daemon, "spam");
    assert_eq!(
        (offered.code, offered.stdout.as_str()),
        (0, "Offer \n"),
        "{offered:?}"
    );
    assert_eq!(
        daemon.ok(&["sessions", "-o", "plain"]),
        "",
        "it has left again"
    );
    daemon.ok(&["set", "block_new_session"]);
    assert_eq!(ask(&daemon, "spam").stdout, "Reject BLOCK-NEW-SESSION\n");
    let too_long = ask(&daemon, &"x".repeat(256));
    assert!(
        too_long.code == 1 && too_long.stderr.starts_with("InvalidParams: channel_id"),
        "{too_long:?}"
    );
    daemon.stop();
    assert_eq!(ask(&daemon, "spam").stdout, "Reject Unreachable\n");
}

/// A client that is gone when the test is.
struct Follower {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Follower {
    fn next(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn the_node_client_follows_over_restarts_without_a_gap() {
    let state = tempfile::tempdir().unwrap();
    let on_disk = |config: &mut Config| config.state_dir = Some(state.path().to_owned());
    let mut daemon = Daemon::start_with(on_disk);
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("node_modules")).unwrap();
    symlink(library("node"), folder.path().join("node_modules/soramode")).unwrap();
    let mut node = Command::new("node")
        .args(["--input-type=module", "-e", &code("js")])
        .current_dir(&folder)
        .env("SORAMODE_SOCKET", daemon.socket())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(node.stdout.take().unwrap()).lines();
    let mut follower = Follower { child: node, lines };
    daemon.connect("spam", "c-1");
    assert_eq!(follower.next(), "session.created spam");
    daemon.stop();
    daemon.start_again(on_disk);
    daemon.connect("ham", "h-1");
    daemon.disconnect("c-1");
    assert_eq!(
        follower.next(),
        "session.created ham",
        "what happened while it was away, too"
    );
    assert_eq!(follower.next(), "session.destroyed spam");

    daemon.stop();
    daemon.start_again(|_| {});
    daemon.connect("eggs", "e-1");
    assert_eq!(
        follower.next(),
        "session.created eggs",
        "another log is read from its beginning"
    );
}
