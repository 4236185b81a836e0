//! Slow, large and many: what a client may do to the API, and what it may not.

use std::net::TcpStream;
use std::time::Instant;

use serde_json::json;
use soramode_testkit::PATIENCE;
use soramoded::http::{BODY_BYTES_MAX, BODY_TIME, HEAD_BYTES_MAX, HEAD_TIME, HTTP_CLIENTS_MAX};

use crate::fake::{Fake, Reply};
use crate::wire::{API_PORT, Node, SORA_PORT, Wire, exchange, request};

const CHANGE_MODE: (&str, &str) = ("x-sora-target", "Sora_20211215.ChangeMode");

#[test]
fn a_request_in_single_bytes_is_a_request() {
    let node = Node::start();
    let mut wire = Wire::to(node.at(API_PORT));
    for byte in request("/", &[CHANGE_MODE], r#"{"mode":"block_new_session"}"#).bytes() {
        wire.send([byte]);
    }
    assert_eq!(
        wire.recv().unwrap().json(),
        json!({"mode": "block_new_session"})
    );
}

#[test]
fn a_body_in_chunks_is_a_body() {
    let node = Node::start();
    let head = "POST / HTTP/1.1\r\nhost: localhost:3000\r\nx-sora-target: Sora_20211215.ChangeMode\r\ntransfer-encoding: chunked\r\n\r\n";
    let said = exchange(
        node.at(API_PORT),
        &format!("{head}9\r\n{{\"mode\":\"\r\n8\r\nnormal\"}}\r\n0\r\n\r\n"),
    );
    assert_eq!(said.json(), json!({"mode": "normal"}));
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let node = Node::start();
    let began = Instant::now();
    let mut wire = Wire::to(node.at(API_PORT));
    wire.send(request("/", &[CHANGE_MODE], r#"{"mode":"normal"}"#).trim_end_matches('}'));
    let said = wire.recv().unwrap();
    assert_eq!(
        (said.status, said.text()),
        (408, r#"{"error_type":"RequestTimeout"}"#)
    );
    assert!(began.elapsed() >= BODY_TIME, "it was given its time");
    assert!(
        wire.recv().is_none(),
        "what comes later of the body is no request"
    );
}

#[test]
fn a_head_that_does_not_end_is_not_waited_for() {
    let node = Node::start();
    let began = Instant::now();
    let mut wire = Wire::to(node.at(API_PORT));
    wire.send("POST / HTTP/1.1\r\nhost: localhost:3000\r\nx-sora-");
    let said = wire.recv().unwrap();
    assert_eq!(
        (said.status, said.text()),
        (408, r#"{"error_type":"RequestTimeout"}"#)
    );
    assert!(began.elapsed() >= HEAD_TIME && began.elapsed() < PATIENCE);
    assert!(wire.recv().is_none());
}

#[test]
fn a_body_has_a_limit_and_one_byte_more_is_too_much() {
    let node = Node::start();
    let body = |bytes: usize| {
        let start = r#"{"mode":"normal","pad":""#;
        format!("{start}{}\"}}", "x".repeat(bytes - start.len() - 2))
    };
    let fits = body(BODY_BYTES_MAX);
    assert_eq!(
        (
            fits.len(),
            exchange(node.at(API_PORT), &request("/", &[CHANGE_MODE], &fits)).status
        ),
        (BODY_BYTES_MAX, 200)
    );
    let too_large = exchange(
        node.at(API_PORT),
        &request("/", &[CHANGE_MODE], &body(BODY_BYTES_MAX + 1)),
    );
    assert_eq!(
        (too_large.status, too_large.text()),
        (413, r#"{"error_type":"PayloadTooLarge"}"#)
    );
    // Without a length said before, it is counted.
    let head = "POST / HTTP/1.1\r\nhost: localhost:3000\r\nx-sora-target: Sora_20211215.ChangeMode\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunked = format!(
        "{head}{:x}\r\n{}\r\n0\r\n\r\n",
        BODY_BYTES_MAX + 1,
        body(BODY_BYTES_MAX + 1)
    );
    assert_eq!(exchange(node.at(API_PORT), &chunked).status, 413);
    assert_eq!(node.daemon.client().status()["generation"], 1);
}

#[test]
fn a_head_has_a_limit() {
    let node = Node::start();
    let pad = "x".repeat(2 * HEAD_BYTES_MAX);
    let said = exchange(
        node.at(API_PORT),
        &request("/", &[CHANGE_MODE, ("x-pad", &pad)], r#"{"mode":"normal"}"#),
    );
    assert_eq!(said.status, 431);
    let many: Vec<(String, String)> = (0..200)
        .map(|number| (format!("x-{number}"), String::new()))
        .collect();
    let many: Vec<(&str, &str)> = many
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        exchange(node.at(API_PORT), &request("/", &many, "")).status,
        431
    );
}

#[test]
fn input_other_than_http_is_refused() {
    let node = Node::start();
    for noise in [
        "\0\0\0\0\r\n\r\n",
        "GET\r\n\r\n",
        "{\"id\":1,\"method\":\"GetMode\"}\n\n",
        "POST / HTTP/9.9\r\n\r\n",
    ] {
        let mut wire = Wire::to(node.at(API_PORT));
        wire.send(noise);
        let said = wire.recv();
        assert!(said.is_none_or(|said| said.status == 400), "{noise:?}");
    }
    // A request within a request: two lengths, or a length and chunks.
    for smuggled in [
        "content-length: 0\r\ncontent-length: 30\r\n",
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
    ] {
        let mut wire = Wire::to(node.at(API_PORT));
        wire.send(format!("POST / HTTP/1.1\r\nhost: localhost:3000\r\nx-sora-target: Sora_20211215.GetMode\r\n{smuggled}\r\n0\r\n\r\n"));
        let said = wire.recv();
        // One that could be read in two ways is the last on its connection, where it is answered at all.
        let is_last = said
            .as_ref()
            .is_none_or(|said| said.status == 400 || said.header("connection") == Some("close"));
        assert!(is_last && wire.recv().is_none(), "{smuggled:?}: {said:?}");
    }
}

/// Ten times as many as there are places, none of which asks anything.
const IDLE: usize = 10_000;

#[test]
fn ten_thousand_idle_connections_block_no_client() {
    // Both ends are in this process.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if limit
        .current
        .is_some_and(|current| current < 2 * IDLE as u64 + 2_000)
    {
        let more = rustix::process::Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, more).unwrap();
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if limit.is_some_and(|limit| limit < 2 * IDLE as u64 + 2_000) {
        eprintln!("skipped: at most {limit:?} descriptors here");
        return;
    }
    let node = Node::start();
    let mut idle = Vec::with_capacity(IDLE);
    for number in 0..IDLE {
        idle.push(TcpStream::connect(node.at(API_PORT)).unwrap());
        if number % 1_000 == 999 {
            let said = node.ask("Sora_20211215.GetMode", "");
            assert_eq!(
                said.text(),
                r#"{"mode":"normal"}"#,
                "with {number} idle ones"
            );
        }
    }
    // The control socket has places of its own.
    assert_eq!(node.daemon.client().status()["mode"], "normal");
    let mut kept = 0;
    for stream in &idle {
        stream.set_nonblocking(true).unwrap();
        let mut byte = [0];
        kept += usize::from(
            matches!(stream.peek(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
        );
    }
    assert!(kept <= HTTP_CLIENTS_MAX, "{kept} are kept");
}

#[test]
fn a_client_that_is_being_answered_is_not_evicted_and_a_surplus_one_is_rejected() {
    let slow = Fake::that(Reply::Hang);
    let node = Node::with(|config| {
        config.http.sora.upstreams.event = Some(slow.url("/").parse().unwrap());
        config.http.sora.upstream_timeout = PATIENCE;
    });
    let event = request("/sora/event", &[], r#"{"type":"x"}"#);
    let mut busy = Vec::with_capacity(HTTP_CLIENTS_MAX);
    for _ in 0..HTTP_CLIENTS_MAX {
        let mut wire = Wire::to(node.at(SORA_PORT));
        wire.send(&event);
        busy.push(wire);
    }
    slow.wait_for(HTTP_CLIENTS_MAX);
    let said = Wire::to(node.at(SORA_PORT)).recv().unwrap();
    assert_eq!(
        (said.status, said.text()),
        (503, r#"{"error_type":"TooManyClients"}"#)
    );
    // A client that has gone makes room, and the other listeners have places of their own.
    drop(busy.pop());
    assert_eq!(node.ask("Sora_20211215.GetMode", "").status, 200);
}

#[test]
fn half_a_request_makes_room_for_a_whole_one() {
    let node = Node::start();
    let event = request("/sora/event", &[], r#"{"type":"x"}"#);
    let mut halves = Vec::with_capacity(HTTP_CLIENTS_MAX + 100);
    for number in 0..HTTP_CLIENTS_MAX + 100 {
        let mut wire = Wire::to(node.at(SORA_PORT));
        wire.send(event.trim_end_matches('}'));
        halves.push(wire);
        if number % 100 == 0 {
            assert_eq!(
                exchange(node.at(SORA_PORT), &event).status,
                200,
                "with {number} halves"
            );
        }
    }
    assert!(
        halves.first_mut().unwrap().recv().is_none(),
        "the oldest lost its place"
    );
    let last = halves.last_mut().unwrap();
    last.send("}");
    assert_eq!(
        last.recv().unwrap().status,
        200,
        "the latest keeps its place"
    );
}

#[test]
fn a_shutdown_answers_requests_and_waits_for_no_idle_client() {
    let node = Node::start();
    let idle = Wire::to(node.at(API_PORT));
    let mut asked = Wire::to(node.at(API_PORT));
    let begun = request("/", &[CHANGE_MODE], r#"{"mode":"block_new_session"}"#);
    asked.send(begun.trim_end_matches('}'));
    // Answered, so the daemon has them all.
    assert_eq!(node.ask("Sora_20211215.GetMode", "").status, 200);
    node.daemon.request_stop();
    let mut idle = idle;
    assert!(idle.recv().is_none());
    asked.send("}");
    assert_eq!(asked.recv().map(|said| said.status), Some(200));
}
