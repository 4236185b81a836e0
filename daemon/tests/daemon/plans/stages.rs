//! A plan through its stages, undisturbed and with a kill in each of them.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;

use super::*;

const CHANNELS: usize = 100;

#[test]
fn a_plan_takes_200_clients_through_its_stages() {
    let mut beside = Beside::new(Returns::Never);
    let process = beside.start(&[]);
    beside.fill(CHANNELS, 2);
    let (mut client, mut watcher) = (process.client(), watcher(&process));
    let started = start_plan(&mut client, &short_steps(6_000));
    assert_eq!(started["created"], true, "{started}");
    let again = start_plan(&mut client, &short_steps(6_000));
    assert_eq!(
        (&again["created"], &again["plan"]["id"]),
        (&json!(false), &started["plan"]["id"])
    );
    // Lead: unready for new sessions, and nothing is refused.
    assert_eq!(client.status()["plan"]["state"], "lead");
    let (status, body) = beside.observe("/ready/new-session");
    assert_eq!((status, beside.observe("/ready").0), (503, 200), "{body}");
    assert!(
        body.contains(r#""mode":"normal","unready_for":"block_new_session""#),
        "{body}"
    );
    assert!(
        beside
            .observe("/metrics")
            .1
            .contains("\nsoramode_plan_state{plan_state=\"lead\"} 1\n")
    );
    let events = events_until(&mut watcher, "plan.over");
    let plan_id = &started["plan"]["id"];
    let over = events.last().unwrap();
    assert_eq!(
        (&over["outcome"], &over["plan_id"]),
        (&json!("done"), plan_id),
        "{over}"
    );
    let steps: Vec<u64> = events
        .iter()
        .filter_map(|event| event["step"].as_u64())
        .collect();
    assert_eq!(steps, [1, 2, 3, 4, 5]);
    let modes: Vec<(&str, &Value)> = events
        .iter()
        .filter(|event| event["type"] == "mode.changed")
        .map(|event| (event["mode"].as_str().unwrap(), &event["plan_id"]))
        .collect();
    assert_eq!(
        modes,
        [
            ("block_new_session", plan_id),
            // No client joins after the last announcement.
            ("block_new_connection", plan_id)
        ]
    );
    assert_eq!(events[events.len() - 2]["type"], "session.vanished");
    let log = beside.sora.client_log();
    assert_eq!(cuts(&log).len(), 2 * CHANNELS);
    check_cuts(&log, plan_id);
    for number in 0..CHANNELS {
        let told = notices(&log, &channel(number));
        let ids: BTreeSet<&str> = told.iter().map(|it| it["id"].as_str().unwrap()).collect();
        assert_eq!((told.len(), ids.len()), (4, 2), "{told:?}");
        assert_eq!(told[0]["kind"], "maintenance");
        assert!(told.iter().all(|it| it.get("reason").is_none()), "{told:?}");
    }
    // No earlier than the rate of 100 a second allows, from the announced end on.
    let ends_at: Time = notices(&log, &channel(0)).last().unwrap()["sessions_end_at"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    for (number, cut) in cuts(&log).iter().step_by(2).enumerate() {
        let earliest = ends_at + Duration::from_millis(10) * u32::try_from(number).unwrap();
        assert!(
            cut.wall >= earliest,
            "{number}: {cut:?}, not before {earliest}"
        );
    }
    let last = client.get("GetPlan", &json!({}));
    assert_eq!(
        (&last["plan"]["asked"], &last["plan"]["ended"]),
        (&json!(CHANNELS), &json!(CHANNELS)),
        "{last}"
    );
    assert!(beside.observe("/metrics").1.contains(&format!(
        "\nsoramode_session_ends_total{{outcome=\"ended\"}} {CHANNELS}\n"
    )));
}

/// Moment at which soramoded is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Scheduled,
    Lead,
    Announcing,
    Closed,
    Ending,
}

fn survives_a_kill_while(stage: Stage) {
    let mut beside = Beside::new(Returns::Never);
    let process = beside.start(&[]);
    beside.fill(20, 2);
    let (mut client, mut watching) = (process.client(), watcher(&process));
    let mut request =
        json!({"steps": short_steps(600), "reason": "kernel", "accept_risk": "cuts-clients"});
    if stage == Stage::Scheduled {
        let at = soramoded::clock::now().wall + Duration::from_secs(3);
        request["at"] = at.to_string().into();
    }
    let plan = client.get("StartPlan", &request)["plan"].clone();
    match stage {
        Stage::Scheduled => assert_eq!(plan["state"], "scheduled"),
        Stage::Lead => recv_step(&mut watching, 1),
        Stage::Announcing => drop(watching.recv_event("maintenance.announced")),
        Stage::Closed => recv_step(&mut watching, 4),
        Stage::Ending => drop(beside.sora.wait_for_client_log(|log| cuts(log).len() >= 6)),
    }
    process.kill(Signal::KILL);
    process.end();
    let process = beside.start(&[]);
    let events = events_until(&mut watcher(&process), "plan.over");
    let over = events.last().unwrap();
    assert_eq!(
        (&over["outcome"], &over["plan_id"]),
        (&json!("done"), &plan["id"]),
        "{stage:?}: {over}"
    );
    let count = |event_type: &str| {
        events
            .iter()
            .filter(|event| event["type"] == event_type)
            .count()
    };
    assert_eq!(
        ["plan.created", "plan.step", "end.requested", "plan.over"].map(count),
        [1, 5, 1, 1],
        "{stage:?}: no step runs twice"
    );
    let log = beside.sora.client_log();
    assert_eq!(cuts(&log).len(), 40, "{stage:?}");
    check_cuts(&log, &plan["id"]);
    for number in 0..20 {
        let ids: BTreeSet<&str> = notices(&log, &channel(number))
            .iter()
            .map(|it| it["id"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), 2, "{stage:?}: repeated with the same id");
    }
    assert!(
        !log.iter()
            .any(|line| matches!(line.event, ClientEvent::Rejected(_)))
    );
}

#[test]
fn a_scheduled_plan_survives_a_kill() {
    survives_a_kill_while(Stage::Scheduled);
}

#[test]
fn a_plan_survives_a_kill_in_its_lead() {
    survives_a_kill_while(Stage::Lead);
}

#[test]
fn a_plan_survives_a_kill_while_it_announces() {
    survives_a_kill_while(Stage::Announcing);
}

#[test]
fn a_plan_survives_a_kill_on_the_closed_node() {
    survives_a_kill_while(Stage::Closed);
}

#[test]
fn a_plan_survives_a_kill_while_it_ends_sessions() {
    survives_a_kill_while(Stage::Ending);
}

#[test]
fn a_step_that_was_missed_by_too_much_does_not_run() {
    let mut beside = Beside::new(Returns::Never);
    let process = beside.start(&[]);
    beside.fill(3, 1);
    let mut client = process.client();
    client.get(
        "StartPlan",
        &json!({"steps": short_steps(600), "accept_risk": "cuts-clients", "max_delay_seconds": 1}),
    );
    // A plan waits for an announcement, so that is over first.
    while client.status()["plan"]["announced"]["told"] != 3 {}
    process.kill(Signal::KILL);
    process.end();
    // Until all of its times have passed.
    let timer = soramoded::clock::now().boot + Duration::from_secs(4);
    while soramoded::clock::now().boot < timer {
        std::thread::yield_now();
    }
    let process = beside.start(&[]);
    let events = events_until(&mut watcher(&process), "plan.over");
    let over = events.last().unwrap();
    assert_eq!(over["outcome"], "missed", "{events:#?}");
    let status = process.client().status();
    assert_eq!(
        (&status["mode"], &status["sessions"]),
        (&json!("block_new_session"), &json!(3)),
        "{status}"
    );
    assert_eq!(cuts(&beside.sora.client_log()).len(), 0);
}
