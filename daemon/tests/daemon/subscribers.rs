//! Subscriptions that are begun again and again: what they read from the disk costs a bounded number of threads and a bounded memory.

use std::fs;

use rustix::process::Signal;
use serde_json::json;
use soramoded::control::READINGS_MAX;

use crate::process::Process;
use crate::state::Home;

/// Subscriptions that the client begins. Each takes the place of the one before it.
const SUBSCRIPTIONS: usize = 20_000;

/// Memory that the answers to all of them may take, and what reading takes, in KiB.
const MEMORY_KIB_MAX: u64 = 32 * 1024;

fn threads(process: &Process) -> usize {
    fs::read_dir(format!("/proc/{}/task", process.pid().as_raw_nonzero()))
        .unwrap()
        .count()
}

#[test]
fn subscriptions_begun_in_a_loop_read_one_at_a_time() {
    let home = Home::new();
    let process = home.start(&[]);
    process.client().connect("a", "1");
    process.kill(Signal::KILL);
    drop(process);
    // The events are on the disk alone now.
    let process = home.start(&[]);
    let (idle_threads, idle_kib) = (threads(&process), process.resident_kib());
    let mut client = process.client();
    let request =
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"Subscribe\",\"params\":{\"from\":1}}\n";
    let speaker = client.send_meanwhile(request.repeat(SUBSCRIPTIONS));
    let mut most_threads = 0;
    for answer in 0..SUBSCRIPTIONS {
        while client.recv()["id"] != 1 {}
        if answer % 500 == 0 {
            most_threads = most_threads.max(threads(&process));
        }
    }
    speaker.join().unwrap();
    assert!(
        most_threads <= idle_threads + READINGS_MAX,
        "{idle_threads} threads, then {most_threads}"
    );
    assert!(
        process.resident_kib() <= idle_kib + MEMORY_KIB_MAX,
        "{idle_kib} KiB, then {}",
        process.resident_kib()
    );
    assert_eq!(
        process.client().get("GetMode", &json!({}))["mode"],
        "normal"
    );
}
