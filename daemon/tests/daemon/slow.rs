//! Clients that do not read, or never stop talking: they cost a bounded amount of memory, and others do not notice.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use soramode_testkit::control_client::TestClient;
use soramode_testkit::daemon::Daemon;

use crate::process::Process;

/// Maximum growth of a daemon by clients that do not read, in KiB: two megabytes each, and the
/// allocator's reserve.
const GROWTH_KIB_MAX: u64 = 24 * 1024;

/// Each makes four events; they are asked for in pieces.
fn come_and_go(client: &mut TestClient, times: usize) {
    for first in (0..times).step_by(100) {
        let mut lines = String::new();
        for number in first..first + 100 {
            let connection_id = number.to_string();
            lines += &client
                .request(
                    "Connect",
                    &json!({"channel_id": connection_id, "connection_id": connection_id}),
                )
                .1;
            lines += &client
                .request("Disconnect", &json!({"connection_id": connection_id}))
                .1;
        }
        client.send(lines);
        for _ in 0..200 {
            assert!(client.recv()["result"].is_object());
        }
    }
}

/// Reads on to this event; gives how many were missed, as gaps say. Nothing may be missed without a word, nor come twice.
fn read_on(reader: &mut TestClient, mut next: u64, last: u64) -> u64 {
    let mut missed = 0;
    while next <= last {
        let message = reader.recv();
        let params = &message["params"];
        if message["method"] == "Gap" {
            assert_eq!(params["from"], next, "{message}");
            missed += params["to"].as_u64().unwrap() + 1 - next;
            next = params["to"].as_u64().unwrap() + 1;
        } else {
            assert_eq!(params["seq"], next, "{message}");
            next += 1;
        }
    }
    missed
}

#[test]
fn a_client_that_does_not_read_costs_bounded_memory_and_gets_a_gap() {
    let daemon = Process::start(&["--keep-events", "1000"]);
    let mut other = daemon.client();
    come_and_go(&mut other, 2_000);
    let mut readers: Vec<TestClient> = (0..3).map(|_| daemon.client()).collect();
    let mut next_seq = Vec::new();
    for reader in &mut readers {
        next_seq.push(
            reader.get("Subscribe", &json!({}))["next_seq"]
                .as_u64()
                .unwrap(),
        );
    }
    let before = daemon.resident_kib();
    let mut talkers: Vec<TestClient> = (0..3).map(|_| daemon.client()).collect();
    let requests = [
        "{\"id\":1,\"method\":\"GetStatus\"}\n",
        "{\"id\":1,\"method\":\"GetInfo\"}\n",
        "{\"id\":1,\"method\":\"ListModeChanges\"}\n",
    ];
    for (talker, request) in talkers.iter_mut().zip(requests) {
        talker.send_until_full(request.as_bytes());
    }
    come_and_go(&mut other, 10_000);
    for talker in &mut talkers {
        talker.send_until_full(b"{\"id\":1,\"method\":\"GetStatus\"}\n");
    }
    let after = daemon.resident_kib();
    assert!(
        after <= before + GROWTH_KIB_MAX,
        "from {before} KiB to {after} KiB"
    );
    let last = other.get("Subscribe", &json!({"types": ["mode.*"]}))["next_seq"]
        .as_u64()
        .unwrap()
        - 1;
    for (reader, next) in readers.iter_mut().zip(next_seq) {
        assert!(
            read_on(reader, next, last) > 0,
            "far more happened than is kept"
        );
    }
    for talker in &mut talkers {
        assert_eq!(talker.recv()["id"], 1);
    }
}

#[test]
fn a_full_client_gets_the_rest_without_a_new_event() {
    let daemon = Daemon::with(|config| config.keep_events = 100_000);
    let (mut reader, mut other) = (daemon.client(), daemon.client());
    reader.get("Subscribe", &json!({}));
    come_and_go(&mut other, 2_500);
    assert_eq!(read_on(&mut reader, 1, 10_000), 0);
    // From the stored log as well, and again after it was full.
    assert_eq!(
        reader.get("Subscribe", &json!({"from": 1}))["next_seq"],
        10_001
    );
    other.get("GetMode", &json!({}));
    assert_eq!(read_on(&mut reader, 1, 10_000), 0);
}

/// Says the same for ever, from a thread of its own, and reads what comes on another.
fn flood<T>(daemon: &Daemon, line: &str, meanwhile: impl FnOnce() -> T) -> T {
    let client = daemon.client();
    let is_over = Arc::new(AtomicBool::new(false));
    // A client without requests receives nothing until the end.
    client.try_clone().set_read_timeout(None).unwrap();
    let (mut hears, over) = (client.try_clone(), Arc::clone(&is_over));
    let text = line.repeat(64 * 1024 / line.len());
    let speaker = std::thread::spawn(move || {
        let mut client = client;
        while !over.load(Ordering::Relaxed) {
            client.send(&text);
        }
        client.half_close();
    });
    let hearer =
        std::thread::spawn(move || std::io::copy(&mut hears, &mut std::io::sink()).unwrap());
    let done = meanwhile();
    is_over.store(true, Ordering::Relaxed);
    speaker.join().unwrap();
    hearer.join().unwrap();
    done
}

#[test]
fn short_lines_with_long_answers_are_answered_to_the_last() {
    const LINES: usize = 8_000;

    let daemon = Daemon::start();
    let mut client = daemon.client();
    for _ in 0..10 {
        // One read's worth of lines has more answers than may be unread: what is left of it goes on as they are read.
        let sender = client.send_meanwhile(format!("\n{}", "1\n".repeat(LINES)));
        for _ in 0..LINES {
            client.line().unwrap();
        }
        sender.join().unwrap();
    }
}

#[test]
fn a_client_that_never_stops_sending_delays_no_other() {
    let daemon = Daemon::start();
    for line in [
        "\n",
        "{\"id\":1,\"method\":\"GetInfo\"}\n",
        "{nonsense}\n",
        "{\"method\":\"GetMode\"}\n",
        "{\"id\":1,\"method\":\"GetStatus\"}\n",
    ] {
        flood(&daemon, line, || {
            let mut other = daemon.client();
            for number in 0..3 {
                let offer: Value = other.connect("a", &number.to_string());
                assert_eq!(offer["type"], "offer");
                other.disconnect(&number.to_string());
            }
        });
    }
}

#[test]
fn a_shutdown_does_not_wait_for_clients_that_never_stop_sending() {
    let daemon = Daemon::start();
    let mut deaf = daemon.client();
    deaf.get("Subscribe", &json!({"from": 1}));
    deaf.send_until_full(b"{\"id\":1,\"method\":\"GetStatus\"}\n");
    let mut half = daemon.client();
    half.send("{\"id\":1,");
    let mut waiter = daemon.client();
    waiter.send_request("Wait", &json!({"for": "mode", "mode": "block_new_session"}));
    waiter.get("GetMode", &json!({}));
    let mut talker = daemon.client().try_clone();
    let talking =
        std::thread::spawn(move || while talker.write_all(&[b'\n'; 16 * 1024]).is_ok() {});
    daemon.request_stop();
    half.recv_end();
    waiter.recv_end();
    drop(daemon);
    talking.join().unwrap();
}
