//! Opening the node stops its plan, in each stage.

use std::time::Duration;

use soramode_testkit::fake_sora::CallFault;

use super::*;

/// Opens the node, and checks that no more clients are cut than the answer says.
fn opens(beside: &mut Beside, client: &mut TestClient) -> Value {
    let opened = client.get("ChangeMode", &json!({"mode": "normal"}));
    let before = cuts(&beside.sora.client_log()).len();
    let in_flight = opened["ends_stopped"]["in_flight"].as_u64().unwrap_or(0);
    assert!(in_flight <= 8, "{opened}");
    // A session of an operator's own order comes after everything that was in the queue.
    beside.sora.connect("later").unwrap();
    client.get(
        "End",
        &json!({"channel_id": "later", "reason": "it is stuck"}),
    );
    let log = beside
        .sora
        .wait_for_client_log(|log| cuts(log).iter().any(|cut| cut.channel_id == "later"));
    let after = cuts(&log).len() - 1 - before;
    assert!(
        after <= usize::try_from(in_flight).unwrap(),
        "{after} were cut after the node was opened: {opened}"
    );
    opened
}

#[test]
fn a_scheduled_plan_stays_and_can_be_cancelled() {
    let mut beside = Beside::new(Returns::Never);
    let process = beside.start(&[]);
    beside.fill(2, 1);
    let (mut client, mut watching) = (process.client(), watcher(&process));
    let tomorrow = soramoded::clock::now().wall + Duration::from_hours(24);
    let plan = client.get(
        "StartPlan",
        &json!({"at": tomorrow.to_string(), "steps": short_steps(600), "accept_risk": "cuts-clients"}),
    );
    let opened = opens(&mut beside, &mut client);
    assert_eq!(opened["plan_id"], plan["plan"]["id"], "{opened}");
    assert_eq!(client.status()["plan"]["state"], "scheduled");
    let cancelled = client.get("CancelPlan", &json!({"reason": "CHG-1 was moved"}));
    assert_eq!(cancelled["found"], true, "{cancelled}");
    let over = watching.recv_event("plan.over");
    assert_eq!(
        (&over["outcome"], &over["reason"]),
        (&json!("cancelled"), &json!("CHG-1 was moved"))
    );
}

#[test]
fn a_plan_in_its_lead_is_cancelled_and_the_node_is_ready_again() {
    let mut beside = Beside::new(Returns::Never);
    let process = beside.start(&[]);
    beside.fill(2, 1);
    let (mut client, mut watching) = (process.client(), watcher(&process));
    let plan = start_plan(
        &mut client,
        &json!([
            {"do": "unready", "at_seconds": -3600},
            {"do": "mode", "at_seconds": 0, "mode": "block_new_session"},
        ]),
    );
    assert_eq!(beside.observe("/ready/new-session").0, 503);
    let opened = opens(&mut beside, &mut client);
    assert_eq!(opened["plan_cancelled"], plan["plan"]["id"], "{opened}");
    assert_eq!(watching.recv_event("plan.over")["outcome"], "cancelled");
    assert_eq!(beside.observe("/ready/new-session").0, 200);
}

#[test]
fn a_plan_on_a_closed_node_is_cancelled_and_its_clients_are_notified() {
    let mut beside = Beside::new(Returns::Never);
    let process = beside.start(&[]);
    beside.fill(2, 1);
    let (mut client, mut watching) = (process.client(), watcher(&process));
    start_plan(
        &mut client,
        &json!([
            {"do": "mode", "at_seconds": 0, "mode": "block_new_session"},
            {"do": "announce", "at_seconds": 0},
            {"do": "announce", "at_seconds": 1800},
            {"do": "end", "at_seconds": 3600},
        ]),
    );
    watching.recv_event("maintenance.announced");
    let is_told = |log: &[ClientLine], cancelled: bool| {
        (0..2).all(|number| {
            notices(log, &channel(number))
                .iter()
                .any(|it| (it["cancelled"] == true) == cancelled)
        })
    };
    beside.sora.wait_for_client_log(|log| is_told(log, false));
    opens(&mut beside, &mut client);
    assert_eq!(watching.recv_event("plan.over")["outcome"], "cancelled");
    beside.sora.wait_for_client_log(|log| is_told(log, true));
}

#[test]
fn a_plan_that_ends_sessions_is_cancelled_and_only_the_calls_in_flight_land() {
    let mut beside = Beside::new(Returns::Never);
    let process = beside.start(&[]);
    beside.fill(30, 1);
    let (mut client, mut watching) = (process.client(), watcher(&process));
    start_plan(&mut client, &short_steps(600));
    beside.sora.wait_for_client_log(|log| cuts(log).len() >= 5);
    let opened = opens(&mut beside, &mut client);
    assert!(opened["ends_stopped"]["sessions"].as_u64().unwrap() > 0);
    assert_eq!(watching.recv_event("plan.over")["outcome"], "cancelled");
    assert_eq!(client.status()["mode"], "normal");
}

#[test]
fn eight_calls_are_in_flight_at_most_and_these_alone_land() {
    let mut beside = Beside::new(Returns::Never);
    let process = beside.start(&[]);
    beside.fill(30, 1);
    beside.sora.fail_disconnects(CallFault::Held);
    let mut client = process.client();
    start_plan(
        &mut client,
        &json!([
            {"do": "mode", "at_seconds": 0, "mode": "block_new_session"},
            {"do": "end", "at_seconds": 0, "per_minute": "max"},
        ]),
    );
    beside.sora.wait_for_held_calls(8);
    let opened = client.get("ChangeMode", &json!({"mode": "normal"}));
    assert_eq!(
        opened["ends_stopped"],
        json!({"sessions": 22, "in_flight": 8}),
        "{opened}"
    );
    beside.sora.fail_disconnects(CallFault::None);
    beside.sora.release_calls(8);
    beside.sora.wait_for_client_log(|log| cuts(log).len() == 8);
    assert_eq!(opens(&mut beside, &mut client)["ends_stopped"], Value::Null);
}
