//! The `soramode` program at nodes beside a real Janus, which holds the mode by locks of its rooms: a change of the mode is answered when they are in
//! place.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper that fails fails the test that called it"
)]

use std::process::{Command, Stdio};

use serde_json::json;
use soramode_testkit::daemon::Daemon;
use soramode_testkit::janus::{Janus, REFUSED, Setup};

/// Exit code of a change that is set, but not in force.
const NOT_IN_FORCE: i32 = 10;

/// Runs the program, and returns its exit code and what it printed.
fn run(daemon: &Daemon, args: &str) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_soramode"))
        .env_clear()
        .env("SORAMODE_SOCKET", &daemon.socket)
        .env("PATH", std::env::var_os("PATH").unwrap())
        .args(args.split(' '))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8(printed).unwrap(),
    )
}

/// Returns the error codes of joins to rooms, 0 where the client joined. It leaves again.
fn join(janus: &Janus, rooms: &[u64]) -> Vec<u64> {
    let mut user = janus.client();
    let codes = rooms.iter().map(|room| {
        let (_, answer) = user.join(&json!({"room": room}));
        answer["error_code"].as_u64().unwrap_or(0)
    });
    let codes = codes.collect();
    user.destroy();
    codes
}

#[test]
fn each_verb_that_changes_the_mode_succeeds_once_the_rooms_are_locked_or_open() {
    let janus = Janus::start(&Setup::default());
    let daemon = janus.locking();
    for (closing, opening) in [
        ("close", "open"),
        ("set block_new_connection", "set normal"),
        ("drain --timeout 60s", "open"),
        ("close --wait --timeout 60s", "open"),
    ] {
        let (exit, printed) = run(&daemon, closing);
        assert_eq!(exit, 0, "{closing}: {printed}");
        let joined = join(&janus, &[1, 2]);
        assert_eq!(joined, [REFUSED; 2], "after {closing}: {printed}");
        let (exit, printed) = run(&daemon, opening);
        assert_eq!(exit, 0, "{opening}: {printed}");
    }
    let (exit, printed) = run(&daemon, "maintain -m test -- true");
    assert_eq!(exit, 0, "{printed}");
    assert_eq!(join(&janus, &[1, 2]), [0; 2]);
}

#[test]
fn with_a_room_that_cannot_be_locked_a_change_is_set_and_not_in_force() {
    let janus = Janus::start(&Setup {
        rooms: vec![("room-1", ""), ("room-2", "secret = \"of-room-2\"")],
        ..Setup::default()
    });
    let daemon = janus.locking();
    for (args, codes) in [
        ("close", [REFUSED, 0]),
        ("set block_new_connection", [REFUSED, 0]),
    ] {
        let (exit, printed) = run(&daemon, args);
        assert_eq!(exit, NOT_IN_FORCE, "{args}: {printed}");
        assert_eq!(join(&janus, &[1, 2]), codes, "after {args}: {printed}");
    }
    let (exit, printed) = run(&daemon, "open");
    assert_eq!(exit, 0, "what was never locked is open: {printed}");
}

#[test]
fn requests_behind_a_change_of_the_mode_see_its_outcome() {
    let janus = Janus::start(&Setup::default());
    let daemon = janus.locking();
    let mut client = daemon.client();
    for mode in ["block_new_connection", "normal", "block_new_session"] {
        let change = client.send_request("ChangeMode", &json!({"mode": mode}));
        let status = client.send_request("GetStatus", &json!({}));
        let list = client.send_request("ListModeChanges", &json!({}));
        let changed = client.recv();
        assert_eq!(changed["id"], change);
        assert_eq!(changed["result"]["in_force"], "yes", "{changed}");
        let seen = client.recv();
        assert_eq!(seen["id"], status);
        assert_eq!(seen["result"]["in_force"], "yes", "{seen}");
        assert_eq!(client.recv()["id"], list);
    }
}
