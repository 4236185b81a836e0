//! 1,000 sessions are ended at a rate, and no other client notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;

const SESSIONS: usize = 1_000;

/// Longest time of 99 of 100 answers to another client, in a debug build beside other tests.
const P99_MAX: Duration = Duration::from_millis(250);

#[test]
fn a_thousand_sessions_end_at_a_rate_and_no_other_client_notices() {
    let mut beside = Beside::new(Returns::Never);
    let process = beside.start(&[]);
    beside.fill(SESSIONS, 1);
    let (mut client, mut watching, mut other) =
        (process.client(), watcher(&process), process.client());
    let is_over = Arc::new(AtomicBool::new(false));
    let asking = thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            let mut times = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                let began = Instant::now();
                other.get("Explain", &json!({"channel_id": "another"}));
                times.push(began.elapsed());
            }
            times
        }
    });
    let plan = start_plan(
        &mut client,
        &json!([
            {"do": "mode", "at_seconds": 0, "mode": "block_new_session"},
            {"do": "announce", "at_seconds": 0},
            {"do": "end", "at_seconds": 1, "per_minute": 12_000},
        ]),
    );
    let over = watching.recv_event("plan.over");
    is_over.store(true, Ordering::Relaxed);
    let mut times = asking.join().unwrap();
    times.sort();
    let p99 = times[times.len() * 99 / 100];
    eprintln!(
        "{} answers to another client, 99 % within {p99:?}",
        times.len()
    );
    assert_eq!(over["outcome"], "done", "{over}");
    assert!(p99 <= P99_MAX, "{p99:?}");
    let log = beside.sora.client_log();
    check_cuts(&log, &plan["plan"]["id"]);
    let cuts = cuts(&log);
    assert_eq!(cuts.len(), SESSIONS);
    // Each second has no more than the rate, and the calls that were in flight at its begin.
    for (number, first) in cuts.iter().enumerate() {
        let within = cuts[number..]
            .iter()
            .take_while(|cut| cut.boot < first.boot + Duration::from_secs(1))
            .count();
        assert!(within <= 200 + 8, "{within} cuts in one second");
    }
}
