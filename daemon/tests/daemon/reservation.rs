//! A reservation of a node over kills of its daemon, in its log, and on a disk that is full.

use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};
use soramode_testkit::control_client::TestClient;

use crate::process::soramoded;
use crate::state::Home;

fn reserve(client: &mut TestClient, roll: &str, round: u64) -> Value {
    let by = format!("{roll} of alice");
    let params = json!({"roll": roll, "by": by, "seconds": 600, "round": round});
    client.call("Reserve", &params)
}

fn close(roll: &str, round: u64) -> Value {
    json!({"mode": "block_new_session", "if_mode": "normal", "roll": roll, "round": round})
}

#[test]
fn a_reservation_survives_a_kill_and_is_renewed_before_its_roll_closes_the_node() {
    let home = Home::new();
    let mut process = home.start(&[]);
    let mut client = process.client();
    let reserved = reserve(&mut client, "R1", 1);
    assert_eq!(reserved["result"]["expires_in_seconds"], 600, "{reserved}");
    let line = process.read_log_until("the node is reserved for a roll");
    assert!(
        line.contains("roll=R1") && line.contains("by=\"R1 of alice\""),
        "{line}"
    );
    process.kill(Signal::KILL);
    process.end();

    let process = home.start(&[]);
    let mut client = process.client();
    let other = reserve(&mut client, "R2", 1);
    assert_eq!(other["error"]["data"]["error_type"], "Reserved", "{other}");
    assert_eq!(other["error"]["data"]["reservation"]["roll"], "R1");
    assert_eq!(
        client.error_type_of("ChangeMode", &close("R1", 1)),
        "Reserved"
    );
    reserve(&mut client, "R1", 2);
    assert_eq!(
        client.error_type_of("ChangeMode", &close("R1", 1)),
        "Reserved"
    );
    let closed = client.get("ChangeMode", &close("R1", 2));
    assert_eq!(closed["changed"], true, "{closed}");
    process.kill(Signal::KILL);
    process.end();

    let mut process = home.start(&[]);
    let mut client = process.client();
    let status = client.status();
    assert_eq!(
        (&status["mode"], &status["roll"]),
        (&json!("block_new_session"), &json!("R1"))
    );
    let open = json!({"mode": "normal", "if_roll": "R1"});
    assert_eq!(client.get("ChangeMode", &open)["changed"], true);
    let released = client.get("Release", &json!({"roll": "R1"}));
    assert_eq!(released["found"], true);
    process.read_log_until("the reservation has been released");
    let taken = reserve(&mut client, "R2", 1);
    assert_eq!(taken["result"]["previous"]["roll"], "R1", "{taken}");
}

#[test]
fn a_reservation_that_expires_while_the_daemon_is_not_running_is_logged_at_its_start() {
    let home = Home::new();
    let process = home.start(&[]);
    let mut client = process.client();
    reserve(&mut client, "R1", 1);
    process.kill(Signal::KILL);
    process.end();
    // The boot clock of the next start is later than the end of the reservation.
    let mut command = Command::new("unshare");
    command
        .args([
            "--time",
            "--boottime",
            "601",
            soramoded().get_program().to_str().unwrap(),
        ])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut process = home.start_with(command, &[]);
    let status = process.client().status();
    assert_eq!(status["reservation"]["roll"], "R1", "{status}");
    assert_eq!(status["reservation"]["expires_in_seconds"], Value::Null);
    let words = "the reservation has expired: the roll has not renewed it";
    if !process.log_of_start.contains(words) {
        process.read_log_until(words);
    }
    let taken = reserve(&mut process.client(), "R2", 1);
    assert_eq!(taken["result"]["previous"]["roll"], "R1", "{taken}");
    process.kill(Signal::KILL);
    process.end();

    // One that a start has renewed is not noted as a new one.
    let process = home.start(&[]);
    let other = reserve(&mut process.client(), "R3", 1);
    assert_eq!(
        other["error"]["data"]["reservation"]["roll"], "R2",
        "{other}"
    );
    process.kill(Signal::KILL);
    let log_of_start = process.log_of_start.clone();
    let (_, rest, _) = process.end();
    assert!(
        !format!("{log_of_start}{rest}").contains("reserved for a roll"),
        "{rest}"
    );
}

#[test]
fn the_end_of_a_command_is_recorded_while_its_roll_is_away() {
    let home = Home::new();
    let process = home.start(&[]);
    let mut client = process.client();
    reserve(&mut client, "R1", 1);
    let step = |step: &str| json!({"roll": "R1", "step": step});
    client.get("Reserve", &step("command"));
    drop(client);
    let mut ended = step("command_ended");
    ended["command_exit"] = json!(3);
    process.client().get("Reserve", &ended);
    process.kill(Signal::KILL);
    process.end();
    let process = home.start(&[]);
    let reservation = process.client().status()["reservation"].clone();
    assert_eq!(
        (&reservation["step"], &reservation["command_exit"]),
        (&json!("command_ended"), &json!(3)),
        "{reservation}"
    );
}
