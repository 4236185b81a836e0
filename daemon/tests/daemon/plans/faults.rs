//! Failures and lies of an SFU, and clients that come back.

use soramode_testkit::fake_sora::CallFault;

use super::*;

fn end_at_once() -> Value {
    json!([
        {"do": "mode", "at_seconds": 0, "mode": "block_new_session"},
        {"do": "announce", "at_seconds": 0},
        {"do": "end", "at_seconds": 0, "per_minute": "max"},
    ])
}

#[test]
fn an_sfu_that_fails_is_asked_again() {
    let mut beside = Beside::new(Returns::Never);
    let process = beside.start(&["--stall-after", "2s"]);
    beside.fill(3, 1);
    beside.sora.fail_disconnects(CallFault::Breaks);
    let (mut client, mut watching) = (process.client(), watcher(&process));
    start_plan(&mut client, &end_at_once());
    let stalled = watching.recv_event("plan.stalled");
    assert_eq!(stalled["cause"], "end_failing", "{stalled}");
    let status = client.status();
    assert_eq!(
        (
            &status["plan"]["state"],
            &status["plan"]["problem"],
            &status["stalled"]["cause"]
        ),
        (
            &json!("ending"),
            &json!(format!(
                "Sora's API at {} (DisconnectChannel) answered 500 HandlerException",
                beside.api()
            )),
            &json!("end_failing")
        ),
        "{status}"
    );
    assert!(
        beside
            .observe("/metrics")
            .1
            .contains("\nsoramode_stalled{cause=\"end_failing\"} 1\n")
    );
    beside.sora.fail_disconnects(CallFault::None);
    assert_eq!(watching.recv_event("plan.over")["outcome"], "done");
    assert_eq!(cuts(&beside.sora.client_log()).len(), 3);
}

#[test]
fn an_sfu_that_lies_stalls_the_plan_which_an_operator_stops() {
    let mut beside = Beside::new(Returns::Never);
    let process = beside.start(&["--stall-after", "2s"]);
    beside.fill(3, 1);
    beside.sora.fail_disconnects(CallFault::Lies);
    let (mut client, mut watching) = (process.client(), watcher(&process));
    start_plan(&mut client, &end_at_once());
    watching.recv_event("plan.stalled");
    let status = client.status();
    assert_eq!(
        (&status["plan"]["state"], &status["sessions"]),
        (&json!("ending"), &json!(3)),
        "asked is not ended: {status}"
    );
    client.get("ChangeMode", &json!({"mode": "normal"}));
    assert_eq!(watching.recv_event("plan.over")["outcome"], "cancelled");
}

#[test]
fn a_channel_that_cannot_be_reached_is_named_and_ended_all_the_same() {
    let mut beside = Beside::new(Returns::Never);
    let process = beside.start(&[]);
    beside.fill(1, 1);
    beside.sora.fail_pushes(CallFault::Breaks);
    let mut client = process.client();
    let announced = client.get("Announce", &json!({"text": "soon"}));
    let problem = format!(
        "Sora's API at {} (PushChannel) answered 500 HandlerException",
        beside.api()
    );
    assert_eq!(
        (&announced["by"]["sora_api"], &announced["problems"]),
        (
            &json!({"told": 0, "failed": 1}),
            &json!([{"channel_id": channel(0), "problem": problem}])
        ),
        "{announced}"
    );
    client.get("End", &json!({"all": true}));
    beside.sora.wait_for_client_log(|log| cuts(log).len() == 1);
}

#[test]
fn clients_that_come_back_at_once_find_a_closed_node() {
    let mut beside = Beside::new(Returns::AtOnce);
    // A grace does not apply to a session that was ended.
    let process = beside.start(&["--reconnect-grace", "1h"]);
    beside.fill(10, 2);
    let (mut client, mut watching) = (process.client(), watcher(&process));
    start_plan(&mut client, &end_at_once());
    assert_eq!(watching.recv_event("plan.over")["outcome"], "done");
    let rejected = |log: &[ClientLine]| {
        let is_rejected = |line: &&ClientLine| matches!(line.event, ClientEvent::Rejected(_));
        log.iter().filter(is_rejected).count()
    };
    beside
        .sora
        .wait_for_client_log(|log| cuts(log).len() == 20 && rejected(log) == 20);
}

#[test]
fn clients_of_an_open_node_come_back() {
    let mut beside = Beside::new(Returns::AtOnce);
    let process = beside.start(&[]);
    beside.fill(10, 1);
    let ended = process.client().get("End", &json!({"all": true}));
    assert_eq!(
        (&ended["sessions"], &ended["via"]),
        (&json!(10), &json!("sora_api")),
        "{ended}"
    );
    let connected = |log: &[ClientLine]| {
        log.iter()
            .filter(|line| line.event == ClientEvent::Connected)
            .count()
    };
    beside
        .sora
        .wait_for_client_log(|log| cuts(log).len() == 10 && connected(log) == 20);
}

fn comes_back_to_a_closed_node(grace: &str) -> bool {
    let mut beside = Beside::new(Returns::Never);
    let process = beside.start(&["--reconnect-grace", grace]);
    let first = beside.sora.connect("spam").unwrap();
    let mut client = process.client();
    client.get("ChangeMode", &json!({"mode": "block_new_session"}));
    beside.sora.disconnect(&first);
    let is_kept = client.status()["sessions"] == 1;
    let is_admitted = beside.sora.connect("spam").is_ok();
    assert_eq!(is_kept, is_admitted);
    is_admitted
}

#[test]
fn a_client_that_reconnects_within_the_grace_is_admitted_on_a_closed_node() {
    assert!(comes_back_to_a_closed_node("1h"));
}

#[test]
fn without_a_grace_it_is_rejected() {
    assert!(!comes_back_to_a_closed_node("0s"));
}
