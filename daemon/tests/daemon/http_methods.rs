//! Connections over HTTP and the stored state: a kill, and a state that cannot be written.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};
use soramode_testkit::PATIENCE;

use crate::process::Process;
use crate::state::Home;

/// Starts a daemon, with its API on a socket in its folder.
fn start(home: &Home) -> Process {
    let api = format!("unix:{}", home.folder().join("api.sock").display());
    home.start(&["--api-listen", &api])
}

fn post(folder: &Path, method: &str, params: &Value) -> (u16, Value) {
    let mut stream = UnixStream::connect(folder.join("api.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let body = params.to_string();
    let length = body.len();
    write!(
        stream,
        "POST /v1/{method} HTTP/1.1\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

#[test]
fn a_connection_over_http_outlasts_a_kill() {
    let home = Home::new();
    let process = start(&home);
    let connection = json!({"channel_id": "spam", "connection_id": "1"});
    let (_, offer) = post(home.folder(), "connect", &connection);
    assert_eq!(offer["created"], true);
    process.kill(Signal::KILL);
    process.end();
    let process = start(&home);
    let (_, again) = post(home.folder(), "connect", &connection);
    assert_eq!(
        (&again["created"], &again["session_id"]),
        (&json!(false), &offer["session_id"])
    );
    let report = json!({"connections": [], "complete": true});
    let (status, reported) = post(home.folder(), "report", &report);
    assert_eq!((status, reported), (200, json!({"added": 0, "removed": 1})));
    assert_eq!(process.client().status()["connections"], 0);
}

#[test]
fn a_connection_that_cannot_be_stored_is_refused_with_503_and_one_that_left_has_left() {
    let home = Home::new();
    let process = start(&home);
    let connection = |id: &str| json!({"channel_id": "spam", "connection_id": id});
    assert_eq!(post(home.folder(), "connect", &connection("1")).0, 200);
    let pid = process.pid().as_raw_nonzero().to_string();
    let limited = Command::new("prlimit")
        .args(["--pid", &pid, "--fsize=0:"])
        .status();
    assert!(limited.unwrap().success());
    let (status, refused) = post(home.folder(), "connect", &connection("2"));
    assert_eq!(
        (status, &refused["data"]["error_type"]),
        (503, &json!("StorageUnavailable")),
        "{refused}"
    );
    let gone = json!({"connection_id": "1"});
    let (status, gone) = post(home.folder(), "disconnect", &gone);
    assert_eq!(
        (status, &gone["found"], &gone["durable"]),
        (200, &json!(true), &json!(false))
    );
}
