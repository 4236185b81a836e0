//! Rolls that are killed, and daemons that start anew: a checker outside of both judges how long their reservations keep others out.
//!
//! `SORAMODE_ROLL_LAPSE=1` waits for the minute, and lets another roll begin then.

use std::fs;

use serde_json::json;
use soramode_testkit::control_client::TestClient;

use crate::fleet::Fleet;
use crate::roll_checker::{Checker, Promise};
use crate::support::until;

const NODES: usize = 3;

#[test]
fn a_dead_roll_and_a_daemon_that_starts_anew_block_for_a_minute_at_most() {
    let waits = std::env::var("SORAMODE_ROLL_LAPSE").is_ok();
    let mut fleet = Fleet::start(NODES);
    let sockets = fleet.daemons.iter().map(crate::support::Daemon::socket);
    let mut checker = Checker::new(sockets.collect());
    let command = fleet.until_file();
    let mut roll = fleet.start_roll(&["--", "sh", "-c", &command]);
    roll.until_said("sfu-01: running the command");
    let killed = roll.stopped();
    let id = killed.stderr.split("roll ").nth(1).unwrap();
    let id = id.split(':').next().unwrap();
    let promise = Promise {
        nodes: (0..NODES).collect(),
        keep_open: NODES - 1,
    };
    checker.promises.insert(id.to_owned(), promise);
    fleet.until_no_dials();
    checker.note_end(id);
    assert_eq!(checker.check_reservations(), NODES, "{killed:?}");
    fleet.restart(1);
    assert_eq!(checker.check_reservations(), NODES);
    let other = ["--only", "sfu-02", "--skip-closed", "--", "true"];
    let refused = fleet.roll(&other);
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(
        refused
            .stderr
            .contains(&format!("is reserved for roll {id}")),
        "{refused:?}"
    );
    if waits {
        until(|| (checker.check_reservations() == 0).then_some(()));
    }
    checker.read();
    let verdict = checker.judge();
    assert_eq!(verdict.violations, Vec::<String>::new());
    assert!(verdict.closes > 0);
    if waits {
        let words = ["-H", "sfu-02,sfu-03", "roll", "--keep-open", "1", "-m", "Y"];
        let taken = fleet.run(&[&words[..], &["--", "true"]].concat());
        assert_eq!(taken.code, 0, "{taken:?}");
    }
    fs::write(fleet.file(), "").unwrap();
}

#[test]
fn a_resumed_roll_that_stops_while_it_reserves_names_the_nodes_that_stay_reserved() {
    let fleet = Fleet::start(NODES);
    let client = |number: usize| TestClient::to(&fleet.daemons[number].socket());
    // Nodes are reserved in the order of their event logs. Another roll takes the last one.
    let log_id = |number: &usize| client(*number).get("GetInfo", &json!({}))["log_id"].to_string();
    let last = (0..NODES).max_by_key(log_id).unwrap();
    let host = |number: usize| format!("sfu-0{}", number + 1);
    let first = host((last + 1) % NODES);
    let stopped = fleet.roll(&["--json", "--only", &first, "--", "false"]);
    assert_eq!(stopped.code, 70, "{stopped:?}");
    assert!(!stopped.stderr.contains("may stay reserved"), "{stopped:?}");
    let id = stopped.json()["roll"].as_str().unwrap().to_owned();
    let other = json!({"roll": "OTHER", "by": "bob@laptop", "seconds": 600, "round": 1});
    client(last).get("Reserve", &other);
    let resume = ["--json", "--only", &first, "--resume", &id, "--again"];
    let refused = fleet.roll(&[&resume[..], &["--", "true"]].concat());
    assert_eq!(refused.code, 5, "{refused:?}");
    let others: Vec<String> = (0..NODES).filter(|it| *it != last).map(host).collect();
    let reserved = format!(
        "{} may stay reserved for roll {id} until 20",
        others.join(", ")
    );
    assert!(refused.stderr.contains(&reserved), "{refused:?}");
    let resume = format!(" --resume {id} ");
    assert!(refused.stderr.contains(&resume), "{refused:?}");
    assert!(!refused.stderr.contains("Nothing was"), "{refused:?}");
    let json = refused.json();
    let times = json["nodes"].as_array().unwrap().iter();
    let is_reserved: Vec<bool> = times.map(|it| it["reserved_until"].is_string()).collect();
    let expected: Vec<bool> = (0..NODES).map(|it| it != last).collect();
    assert_eq!(is_reserved, expected, "{json}");
    let words = ["roll", "--keep-open", "1", "-m", "Y", "--", "true"];
    let taken = fleet.run(&[&["-H", &others.join(",")], &words[..]].concat());
    assert_eq!(taken.code, 5, "{taken:?}");
}
