//! Plans through subscribers and webhooks.

use std::time::Instant;

use soramode_testkit::receiver::{Receiver, ReceiverBehaviour};

use super::*;

#[test]
fn subscribers_announce_and_end() {
    let process = Process::start(&[]);
    let (mut client, mut signalling) = (process.client(), process.client());
    signalling.get(
        "Subscribe",
        &json!({"types": ["plan.*"], "ends": true, "announcements": true}),
    );
    let spam = client.connect("spam", "1");
    let announced = client.get(
        "Announce",
        &json!({"text": "The node is restarted tonight", "data": {"level": 1}}),
    );
    assert_eq!(
        (&announced["channels"], &announced["by"]),
        (&json!(1), &json!({"subscribers": 1, "webhooks": 0})),
        "{announced}"
    );
    let end = signalling.recv();
    assert_eq!(
        (&end["method"], &end["params"]),
        (
            &json!("Announce"),
            &json!({
                "channel_id": "spam", "session_id": spam["session_id"], "kind": "maintenance", "id": announced["id"],
                "text": "The node is restarted tonight", "data": {"level": 1},
            })
        )
    );
    client.get(
        "End",
        &json!({"channel_id": "spam", "reason": "it is stuck"}),
    );
    let end = signalling.recv();
    assert_eq!(
        (&end["method"], &end["params"]),
        (
            &json!("End"),
            &json!({"channel_id": "spam", "session_id": spam["session_id"], "reason": "it is stuck"})
        )
    );
}

#[test]
fn announcements_and_ends_without_a_recipient_are_refused() {
    let process = Process::start(&[]);
    let mut client = process.client();
    client.connect("spam", "1");
    assert_eq!(
        client.error_type_of("Announce", &json!({"text": "soon"})),
        "CannotAnnounce"
    );
    assert_eq!(
        client.error_type_of("End", &json!({"all": true})),
        "CannotEndSessions"
    );
    client.disconnect("1");
    assert_eq!(
        client.error_type_of("End", &json!({"all": true})),
        "CannotEndSessions",
        "also where there is no session"
    );
    assert_eq!(
        client.error_type_of("Announce", &json!({})),
        "CannotAnnounce",
        "also where there is no session, and no text"
    );
    for (step, refusal) in [
        (json!({"do": "announce", "at_seconds": 0}), "CannotAnnounce"),
        (json!({"do": "end", "at_seconds": 60}), "CannotEndSessions"),
    ] {
        let close = json!({"do": "mode", "at_seconds": 0, "mode": "block_new_session"});
        let plan = json!({"steps": [close, step], "accept_risk": "cuts-clients"});
        assert_eq!(client.error_type_of("StartPlan", &plan), refusal);
    }
    client.get("ChangeMode", &json!({"mode": "block_new_session"}));
    let events = events_until(&mut watcher(&process), "mode.changed");
    assert_eq!(
        events.len(),
        1,
        "what was refused makes no event: {events:#?}"
    );
}

#[test]
fn a_plan_that_lost_its_means_says_so_until_a_client_subscribes_again() {
    let home = Home::new();
    let process = home.start(&[]);
    let subscribe = json!({"types": ["plan.*"], "ends": true});
    let (mut client, mut signalling) = (process.client(), process.client());
    signalling.get("Subscribe", &subscribe);
    client.connect("spam", "1");
    let steps = json!([
        {"do": "mode", "at_seconds": 0, "mode": "block_new_session"},
        {"do": "end", "at_seconds": 3600},
    ]);
    let plan = start_plan(&mut client, &steps);
    assert_eq!(client.status()["no_means_to"], json!(["announce"]));
    let says_so = |status: &Value| {
        let warning = status["warnings"][0].as_str().unwrap_or_default();
        let id = plan["plan"]["id"].as_str().unwrap();
        let means = status["no_means_to"] == json!(["announce", "end"]);
        means && warning.starts_with(&format!("plan {id} cannot end sessions: "))
    };
    drop(signalling);
    let began = Instant::now();
    while !says_so(&client.status()) {
        assert!(began.elapsed() < PATIENCE, "{}", client.status());
    }
    drop((client, process));
    let process = home.start(&[]);
    let (mut client, mut signalling) = (process.client(), process.client());
    let status = client.status();
    assert!(says_so(&status), "{status}");
    signalling.get("Subscribe", &subscribe);
    let status = client.status();
    assert_eq!(
        (&status["no_means_to"], &status["warnings"]),
        (&json!(["announce"]), &Value::Null),
        "{status}"
    );
    signalling.get("Unsubscribe", &json!({}));
    assert!(says_so(&client.status()));
}

#[test]
fn many_notifications_reach_a_subscriber_that_reads() {
    let process = Process::start(&[]);
    let (mut client, mut signalling) = (process.client(), process.client());
    signalling.get(
        "Subscribe",
        &json!({"types": ["plan.*"], "announcements": true}),
    );
    let sessions = 3_000;
    for number in 0..sessions {
        client.connect(&channel(number), &number.to_string());
    }
    let announced = client.get("Announce", &json!({"text": "soon"}));
    assert_eq!(announced["channels"], sessions, "{announced}");
    for number in 0..sessions {
        // The oldest session is end first.
        assert_eq!(
            signalling.recv()["params"]["channel_id"],
            channel(number),
            "{number}"
        );
    }
}

#[test]
fn webhooks_report_a_plan() {
    let receiver = Receiver::start(|_| ReceiverBehaviour::ok());
    let url = receiver.url();
    let process = Process::start(&[
        "--webhook",
        &url,
        "--webhook-events",
        "plan.*",
        "--webhook-events",
        "maintenance.announced",
        "--webhook-events",
        "end.requested",
    ]);
    let (mut client, mut signalling) = (process.client(), process.client());
    signalling.get(
        "Subscribe",
        &json!({"types": ["mode.changed"], "ends": true, "announcements": true}),
    );
    client.connect("spam", "1");
    let plan = start_plan(
        &mut client,
        &json!([
            {"do": "mode", "at_seconds": 0, "mode": "block_new_session"},
            {"do": "announce", "at_seconds": 0, "text": "soon"},
            {"do": "end", "at_seconds": 1, "per_minute": "max"},
        ]),
    );
    while signalling.recv()["method"] != "End" {}
    client.disconnect("1");
    let heard: Vec<Value> = (0..7).map(|_| receiver.recv().body).collect();
    let mut types: Vec<&str> = heard
        .iter()
        .map(|it| it["type"].as_str().unwrap())
        .collect();
    types.sort_unstable();
    assert_eq!(
        types,
        [
            "end.requested",
            "maintenance.announced",
            "plan.created",
            "plan.over",
            "plan.step",
            "plan.step",
            "plan.step"
        ]
    );
    let announced = heard
        .iter()
        .find(|it| it["type"] == "maintenance.announced")
        .unwrap();
    assert_eq!(
        (
            &announced["plan_id"],
            &announced["text"],
            &announced["reason"]
        ),
        (&plan["plan"]["id"], &json!("soon"), &json!("kernel")),
        "{announced}"
    );
}
