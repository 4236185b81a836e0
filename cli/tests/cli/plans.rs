//! Maintenance plans: starting one, `plan`, `plan cancel`, and `end --wait`.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use soramode_protocol::time::Time;

use crate::doc_commands::signalling_server;
use crate::support::{Daemon, Fake, Reply, Run, program};

pub(crate) const RISK: &str = "--accept-risk=cuts-clients";

/// A time three days ahead, in whole minutes: `2026-12-01 02:00`, in UTC.
pub(crate) fn ahead() -> String {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let then = Time::default() + now + Duration::from_hours(72);
    then.to_string()
        .chars()
        .take("2026-12-01 02:00".len())
        .collect::<String>()
        .replace('T', " ")
}

/// A plan that ends the sessions in 40 minutes.
pub(crate) const ENDS: [&str; 8] = [
    "drain",
    "--end-after",
    "40m",
    "--announce",
    "10m,1m",
    RISK,
    "-m",
    "CHG-1",
];

pub(crate) fn plan_of(daemon: &Daemon) -> Value {
    let (code, shown) = daemon.json(&["plan"]);
    assert_eq!(code, 0);
    shown["plan"].clone()
}

pub(crate) fn id_of(daemon: &Daemon) -> String {
    plan_of(daemon)["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_plan_closes_the_node_and_returns() {
    let daemon = Daemon::with_subscriber();
    daemon.connect("spam", "c1");
    let args = [&ENDS[..], &["--no-wait"]].concat();
    let ended = daemon.run(&args);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    let id = id_of(&daemon);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert!(
        lines[0].starts_with(&format!(
            "plan {id} has closed node-01; next: announces the end in "
        )),
        "{ended:?}"
    );
    let names: Vec<&str> = lines[1..4]
        .iter()
        .filter_map(|line| line.split("  ").last())
        .collect();
    let steps = [
        "announce",
        "announce, blocks new connections",
        "end: 60/min",
    ];
    assert_eq!(names, steps, "{ended:?}");
    assert_eq!(lines[4], format!("Cancel it: soramode plan cancel {id}"));
    assert_eq!(daemon.ok(&["get"]), "block_new_session\n");
    assert_eq!(daemon.json(&["get"]).1["reason"], "CHG-1");

    let again = daemon.run(&args);
    assert_eq!(again.code, 0, "{again:?}");
    assert!(
        again
            .stdout
            .contains("It was there already: nothing was changed."),
        "{again:?}"
    );
    let (_, again) = daemon.json(&args);
    assert_eq!(
        (&again["created"], &again["plan"]["id"]),
        (&false.into(), &id.as_str().into())
    );
    let (_, history) = daemon.json(&["history"]);
    assert_eq!(
        history["changes"].as_array().unwrap().len(),
        1,
        "the same command again changes nothing"
    );
    assert_eq!(history["changes"][0]["plan_id"], id.as_str());
}

#[test]
fn another_plan_is_refused_unless_it_replaces() {
    let daemon = Daemon::with_subscriber();
    daemon.connect("spam", "c1");
    daemon.ok(&[&ENDS[..], &["--no-wait"]].concat());
    let id = id_of(&daemon);
    let other = ["drain", "--tighten-after", "5m", "--no-wait"];
    let refused = daemon.run(&other);
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(
        refused.stderr.contains(&format!("plan {id} already runs"))
            && refused
                .stderr
                .ends_with("Replace it with --replace, or cancel it: soramode plan cancel\n"),
        "{refused:?}"
    );
    let maintain = daemon.run(&["maintain", "--tighten-after", "5m", "--", "true"]);
    assert_eq!(maintain.code, 5, "{maintain:?}");
    assert!(
        maintain
            .stderr
            .ends_with("hint: Cancel it first: soramode plan cancel\n"),
        "{maintain:?}"
    );
    let replaced = daemon.run(&[&other[..], &["--replace"]].concat());
    assert_eq!(replaced.code, 0, "{replaced:?}");
    assert_ne!(id_of(&daemon), id);
}

#[test]
fn a_node_in_its_lead_is_explained() {
    let daemon = Daemon::start();
    let started = daemon.json(&["drain", "--lead", "1h", "--no-wait"]).1;
    assert_eq!(started["plan"]["state"], "lead", "{started}");
    let explained = daemon.json(&["explain", "spam"]).1;
    assert_eq!(
        (&explained["now"]["type"], &explained["unready_for"]),
        (&"offer".into(), &"block_new_session".into()),
        "{explained}"
    );
    assert!(daemon.ok(&["explain", "spam"]).contains(
        ": offer, because a new session can start, although a plan is about to close the node\n"
    ));
}

#[test]
fn a_plan_at_a_time_is_scheduled_and_does_not_wait() {
    let daemon = Daemon::with_subscriber();
    let at = ahead();
    let args = [&ENDS[..], &["--lead", "30s", "--at", &at]].concat();
    let ended = program(&daemon.socket())
        .env("TZ", "UTC")
        .args(&args)
        .ended();
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    let id = id_of(&daemon);
    assert!(
        ended.stdout.starts_with(&format!(
            "plan {id} is scheduled; next: node-01 becomes unready in "
        )) && ended
            .stdout
            .contains(&format!(". It closes node-01 at {at}:00 UTC.\n")),
        "{ended:?}"
    );
    assert!(
        ended
            .stdout
            .contains(&format!("  {at}:00 +00:00  close: block_new_session\n")),
        "{ended:?}"
    );
    assert_eq!(plan_of(&daemon)["state"], "scheduled");
    assert_eq!(daemon.ok(&["get"]), "normal\n");

    let explained = daemon.ok(&["explain", "spam"]);
    assert!(
        explained.contains(&format!("\nplan {id}, scheduled: it closes node-01 at ")),
        "{explained}"
    );
    // A drain and an opening by hand name it.
    let drained = daemon.run(&["drain", "--no-wait"]);
    assert!(
        drained.stderr.contains(&format!("plan {id} of uid:"))
            && drained.stderr.contains("goes on: it closes node-01 at ")
            && drained
                .stderr
                .contains(&format!("Cancel it: soramode plan cancel {id}")),
        "{drained:?}"
    );
    let opened = daemon.run(&["open"]);
    assert!(
        opened.stderr.contains(&format!(
            "warning: plan {id} is scheduled and closes the node at "
        )),
        "{opened:?}"
    );
    assert_eq!(
        daemon.ok(&["plan", "cancel", &id]),
        format!("plan {id} is cancelled. node-01 is normal\n")
    );
    let again = daemon.ok(&["plan", "cancel", &id]);
    assert!(
        again.starts_with(&format!("plan {id} was cancelled by uid:"))
            && again.ends_with("; nothing was changed. node-01 is normal\n"),
        "{again}"
    );
}

#[test]
fn a_time_that_is_past_or_does_not_exist_is_refused_with_the_choices() {
    for (at, zone, message, hint) in [
        (
            "2020-01-01 02:00",
            "Asia/Tokyo",
            "--at: 2020-01-01 02:00:00 +09:00 is past (",
            "For the next one, use --at '",
        ),
        (
            "2027-03-28 02:30",
            "Europe/Berlin",
            "--at: 2027-03-28 02:30 does not exist in Europe/Berlin, because the clock is changed",
            "Use --at '2027-03-28 01:30 +01:00' or --at '2027-03-28 03:30 +02:00'",
        ),
        (
            "soon",
            "UTC",
            "--at: \"soon\" is not a time. Nothing was changed",
            "Takes a time such as '2026-12-01 02:00'",
        ),
    ] {
        let daemon = Daemon::start();
        let ended = program(&daemon.socket())
            .env("TZ", zone)
            .args(["drain", "--at", at])
            .ended();
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(
            ended.stderr.contains(message) && ended.stderr.contains(hint),
            "{ended:?}"
        );
        assert_eq!(daemon.ok(&["get"]), "normal\n");
        assert_eq!(daemon.json(&["plan"]).1.get("plan"), None);
    }
}

/// Wrong plan options, and words of the refusal.
const WRONG: &[(&[&str], &str)] = &[
    (
        &["drain", "--announce", "10m"],
        "--announce needs --end-after",
    ),
    (
        &["drain", "--end-rate", "max"],
        "--end-rate works only with --end-after",
    ),
    (
        &["drain", "--end-after", "40m"],
        "To go on, add --accept-risk=cuts-clients",
    ),
    (
        &["drain", "--tighten-after", "5m", "--connections"],
        "--tighten-after has no effect with --connections",
    ),
    (
        &["drain", "--tighten-after", "2h", "--end-after", "1h", RISK],
        "--tighten-after 2h is after the end",
    ),
    (
        &["drain", "--end-after", "1h", RISK, "--max-sessions", "1"],
        "--max-sessions does not work with --end-after",
    ),
    (
        &["drain", "--end-after", "1h", RISK, "--settle", "1m"],
        "--settle does not work with --end-after",
    ),
    (
        &["drain", "--end-after", "1h", RISK, "--assume-complete"],
        "--assume-complete does not work with --end-after",
    ),
    (
        &["drain", "--end-after", "1h", RISK, "--timeout", "59m"],
        "--timeout 59m is shorter than the time until sessions are ended (1h)",
    ),
    (
        &[
            "drain",
            "--lead",
            "30s",
            "--end-after",
            "1h",
            RISK,
            "-t",
            "1h",
        ],
        "--timeout 1h is shorter than the time until sessions are ended (1h 30s)",
    ),
    (
        &["drain", "--lead", "30s", "--on-timeout", "undo"],
        "--on-timeout undo does not work with a plan",
    ),
    (
        &["drain", "--no-wait", "--settle", "1m"],
        "--settle works only while soramode waits",
    ),
    (
        &["drain", "--lead", "30s", "--node", "sfu-02"],
        "a plan is not available over HTTP",
    ),
    (
        &["drain", "--end-after", "1h", RISK, "--end-rate", "60"],
        "has no unit; takes 60/min",
    ),
    (
        &["drain", "--wait", "--no-wait"],
        "'--wait' cannot be used with '--no-wait'",
    ),
    (
        &["maintain", "--announce", "10m", "--", "true"],
        "--announce needs --end-after",
    ),
];

fn is_refused(daemon: &Daemon, args: &[&str], words: &str) {
    let ended = daemon.run(args);
    assert_eq!(ended.code, 2, "{args:?}: {ended:?}");
    assert!(ended.stderr.contains(words), "{args:?}: {ended:?}");
    assert_eq!(daemon.ok(&["get"]), "normal\n", "{args:?}");
}

#[test]
fn wrong_plan_options_end_with_2_and_their_remedy() {
    let daemon = Daemon::start();
    for (args, words) in WRONG {
        is_refused(&daemon, args, words);
    }
    let at = ahead();
    for (args, words) in [
        (
            &["drain", "--at", &at, "--timeout", "1h"][..],
            "--timeout works only while soramode waits",
        ),
        (
            &["drain", "--at", &at, "--require-published"],
            "--require-published works only if the node closes at once",
        ),
        (
            &["maintain", "--at", &at, "--", "true"],
            "unexpected argument '--at'",
        ),
    ] {
        is_refused(&daemon, args, words);
    }
    let api = Command::new("/usr/bin/env")
        .args([
            crate::support::PROGRAM,
            "--api-url",
            "http://127.0.0.1:9/",
            "drain",
            "--lead",
            "30s",
        ])
        .ended();
    assert_eq!(api.code, 2, "{api:?}");
    assert!(api.stderr.contains("a plan is not available over HTTP"));
}

#[test]
fn an_opening_says_what_it_stopped() {
    let daemon = Daemon::with_subscriber();
    daemon.connect("spam", "c1");
    daemon.ok(&[&ENDS[..], &["--no-wait"]].concat());
    let id = id_of(&daemon);
    let opened = daemon.run(&["open"]);
    assert_eq!(opened.code, 0, "{opened:?}");
    assert!(
        opened.stderr.contains(&format!("plan {id} is cancelled\n")),
        "{opened:?}"
    );
    daemon.ok(&[&ENDS[..], &["--no-wait"]].concat());
    let (_, opened) = daemon.json(&["open"]);
    assert!(opened["plan_cancelled"].is_string(), "{opened}");
}

#[test]
fn a_daemon_without_plans_closes_nothing() {
    let was_asked = Arc::new(AtomicBool::new(false));
    let real = Daemon::start();
    let status = real.json(&["status"]).1;
    let asked = Arc::clone(&was_asked);
    let old = Fake::start(move |method| match method {
        "GetStatus" => Reply::Result(status.clone()),
        "ListModeChanges" => Reply::Result(json!({"changes": []})),
        "GetInfo" => {
            Reply::Result(json!({"version": "0.0.9", "protocol": 1, "methods": ["GetStatus"]}))
        }
        "ChangeMode" => {
            asked.store(true, Ordering::Relaxed);
            Reply::Nothing
        }
        _ => Reply::Error(-32_601, "MethodNotFound"),
    });
    for args in [
        &["drain", "--lead", "30s"][..],
        &["drain", "--at", &ahead()],
        &["drain", "--at", "2020-01-01 02:00"],
        &["maintain", "--lead", "30s", "--", "true"],
    ] {
        let ended = old.run(args);
        assert_eq!(ended.code, 7, "{ended:?}");
        assert!(
            ended.stderr.contains("soramoded 0.0.9 cannot do this yet")
                && ended
                    .stderr
                    .contains("No plan was made, and the node was not closed"),
            "{ended:?}"
        );
    }
    for args in [&["plan"][..], &["plan", "cancel"], &["announce", "x"]] {
        assert_eq!(old.run(args).code, 7, "{args:?}");
    }
    assert!(!was_asked.load(Ordering::Relaxed));
}

#[test]
fn a_cancelled_plan_is_named_and_an_unknown_one_is_not_found() {
    let daemon = Daemon::with_subscriber();
    assert_eq!(
        daemon.ok(&["plan", "cancel"]),
        "no plan runs, and no session waits to be ended. node-01 is normal\n"
    );
    let unknown = daemon.run(&["plan", "cancel", "AAAA0000"]);
    assert_eq!(unknown.code, 9, "{unknown:?}");
    let none = daemon.run(&["plan"]);
    assert_eq!(
        (none.code, none.stdout.as_str(), none.stderr.as_str()),
        (0, "", "node-01 has no plan\n")
    );
    daemon.connect("spam", "c1");
    daemon.ok(&[&ENDS[..], &["--no-wait"]].concat());
    let id = id_of(&daemon);
    assert_eq!(
        daemon.ok(&["plan", "cancel", "-o", "plain", "-m", "INC-8"]),
        format!("cancelled\t{id}\t0\t0\n")
    );
    let shown = daemon.ok(&["plan", "-o", "plain"]);
    assert!(
        shown.contains("state\tover: cancelled\n")
            && shown.contains("ended by\tuid:")
            && shown.contains("(\"INC-8\")\n")
            && shown.contains("end\tnot run: 60/min\n"),
        "{shown}"
    );
}

#[test]
fn an_end_is_waited_for_and_says_that_the_node_is_open() {
    let daemon = Daemon::start();
    signalling_server(
        &daemon.socket(),
        &[("spam", "c-1"), ("ham", "h-1"), ("会議室", "k-1")],
    );
    let ended = daemon.run(&["end", "会議室", "-m", "INC-7", RISK]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("node-01 is open: clients may come back. Close it: soramode close"),
        "{ended:?}"
    );
    daemon.ok(&["close"]);
    let ended = daemon.run(&["end", "--all", "--rate", "6000/min", "--wait", RISK]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(
        ended.stdout,
        "2 sessions ended (0 sessions, 0 connections left on node-01)\n"
    );
    let (_, history) = daemon.json(&["history"]);
    let ends = history["events"].as_array().unwrap();
    assert_eq!(
        (ends.len(), &ends[1]["reason"], &ends[1]["channel_id"]),
        (2, &"INC-7".into(), &"会議室".into()),
        "newest first: {history}"
    );
    let table = daemon.ok(&["history"]);
    assert!(
        table.contains("end.requested") && table.contains("1 session; 会議室; INC-7"),
        "{table}"
    );
    assert_eq!(daemon.ok(&["history", "-o", "plain"]).lines().count(), 1);
}
